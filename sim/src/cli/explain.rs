//! `explain`: an artifact as a picture.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::Failure;
use crate::artifact::Artifact;
use crate::explain;
use crate::runner::Simulate;

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
    let drawing = explain::draw(simulate, &artifact, &request, &arguments.artifact.display().to_string())?;
    let html = arguments.html.display();
    std::fs::write(&arguments.html, &drawing.page)
        .map_err(|error| Failure::usage(format!("{html}: {error}")))?;
    writeln!(
        out,
        "{html}: {} messages, {} operations, {} bytes",
        drawing.messages,
        drawing.operations,
        drawing.page.len()
    )?;
    if !drawing.is_same {
        writeln!(
            out,
            "The run is another one than in the artifact: the code or the build has changed since."
        )?;
    }
    Ok(0)
}
