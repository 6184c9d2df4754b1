//! `explain`: a failing run as a picture: who said what to whom, who was what when, and what was violated.
//!
//! The artifact is run again with a [`Scene`] that keeps what the digest only hashes. Nothing of that is in the run's
//! events: the digest stays what it was.

pub mod command;
mod evidence;
pub mod label;
mod page;
pub mod scene;

pub use page::page;
pub use scene::{Scene, Stage};

use eraft_checker::{Format, Interval, read_history};

use crate::artifact::{Artifact, RunRequest};
use crate::outcome::Outcome;
use crate::places;
use crate::runner::{self, Internal, RunOptions, Simulate};

/// Steps that the order of one key's operations may cost; without it the operations are shown all the same.
const ORDER_STEPS_MAX: u64 = 5_000_000;

/// A run, drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct Drawing {
    /// The page, one file of HTML.
    pub page: String,
    /// Messages in it.
    pub messages: usize,
    /// Operations in it.
    pub operations: usize,
    /// Is it the run of the artifact, by its digest?
    pub is_same: bool,
}

/// Runs `request` of `artifact` again and draws it. What is shown is the run that was made now; `label` names the
/// artifact.
pub fn draw(
    simulate: Simulate,
    artifact: &Artifact,
    request: &RunRequest,
    label: &str,
) -> Result<Drawing, Internal> {
    let (nodes, clients) = places::names(&request.plan.configuration);
    let stage = Stage::new(Scene::new(nodes.into_iter().chain(clients)));
    let options = RunOptions { stage: Some(stage.clone()), ..RunOptions::default() };
    let outcome = runner::run(simulate, request, &options)?;
    let shown = Artifact { shrunk_from: artifact.shrunk_from, ..Artifact::new(request, &outcome) };
    let operations = operations(&outcome);
    let mut scene = stage.lock();
    scene.trim();
    Ok(Drawing {
        page: page(&shown, label, &scene, &operations),
        messages: scene.flights.len(),
        operations: operations.len(),
        is_same: outcome.digest == artifact.digest,
    })
}

/// The clients' operations with what the checker knows of them.
pub fn operations(outcome: &Outcome) -> Vec<Interval> {
    let options = eraft_checker::Options { steps_max: ORDER_STEPS_MAX, confirm: false, ..Default::default() };
    match read_history(outcome.history.as_slice(), Format::Jsonl, None) {
        Ok(history) => history.intervals(&history.check(&options), &options),
        // A run that was over before its clients did anything has no history to speak of.
        Err(_) => Vec::new(),
    }
}
