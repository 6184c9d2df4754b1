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

use crate::outcome::Outcome;

/// Steps that the order of one key's operations may cost; without it the operations are shown all the same.
const ORDER_STEPS_MAX: u64 = 5_000_000;

/// The clients' operations with what the checker knows of them.
pub fn operations(outcome: &Outcome) -> Vec<Interval> {
    let options = eraft_checker::Options { steps_max: ORDER_STEPS_MAX, confirm: false, ..Default::default() };
    match read_history(outcome.history.as_slice(), Format::Jsonl, None) {
        Ok(history) => history.intervals(&history.check(&options), &options),
        // A run that was over before its clients did anything has no history to speak of.
        Err(_) => Vec::new(),
    }
}
