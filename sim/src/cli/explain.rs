//! `explain`: an artifact as a picture.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::Failure;
use crate::artifact::Artifact;
use crate::explain::{self, Scene, Stage};
use crate::places;
use crate::runner::{self, RunOptions, Simulate};

#[derive(Debug, Args)]
#[command(
    after_help = "The file needs no network. Small artifacts make the best pictures: shrink first.\n\nExample:\n  \
                  cargo sim shrink FILE -o small.json && cargo sim explain small.json --html small.html"
)]
pub(super) struct Arguments {
    /// The artifact's file.
    artifact: PathBuf,
    /// Where the picture goes.
    #[arg(long, value_name = "FILE", env = "ERAFT_HTML")]
    html: PathBuf,
}

pub(super) fn execute(
    arguments: &Arguments,
    simulate: Simulate,
    out: &mut impl Write,
) -> Result<u8, Failure> {
    let artifact = Artifact::read(&arguments.artifact)?;
    let request = artifact.request()?;
    super::check_mutant(request.mutant.as_deref())?;
    let (nodes, clients) = places::names(&request.plan.configuration);
    let stage = Stage::new(Scene::new(nodes.into_iter().chain(clients)));
    let options = RunOptions { stage: Some(stage.clone()), ..RunOptions::default() };
    let outcome = runner::run(simulate, &request, &options)?;
    let is_same = outcome.digest == artifact.digest;
    // What is shown is the run that was made now.
    let shrunk_from = artifact.shrunk_from;
    let shown = Artifact { shrunk_from, ..Artifact::new(&request, &outcome) };
    let operations = explain::operations(&outcome);
    let mut scene = stage.lock();
    scene.trim();
    let page = explain::page(&shown, &arguments.artifact.display().to_string(), &scene, &operations);
    let html = arguments.html.display();
    std::fs::write(&arguments.html, &page).map_err(|error| Failure::usage(format!("{html}: {error}")))?;
    writeln!(
        out,
        "{html}: {} messages, {} operations, {} bytes",
        scene.flights.len(),
        operations.len(),
        page.len()
    )?;
    if !is_same {
        writeln!(
            out,
            "The run is another one than in the artifact: the code or the build has changed since."
        )?;
    }
    Ok(0)
}
