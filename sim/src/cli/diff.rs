//! `diff`: the first event that differs between two traces.

use std::fs::File;
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use super::Failure;
use crate::trace::{Reader, TraceError, diff};

/// Events shown before and after the first difference.
const CONTEXT_RECORDS: usize = 5;

#[derive(Debug, Args)]
#[command(
    after_help = "Exits 0 if the traces are the same, 1 if not.\n\nExample:\n  cargo sim diff one.trace other.trace"
)]
pub(super) struct Arguments {
    /// A trace written by `--trace`.
    left: PathBuf,
    /// Another one.
    right: PathBuf,
}

fn open(path: &Path) -> Result<Reader<BufReader<File>>, Failure> {
    let file = File::open(path).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
    Reader::new(BufReader::new(file)).map_err(|error| named(path, &error))
}

fn named(path: &Path, error: &TraceError) -> Failure {
    Failure::usage(format!("{}: {error}", path.display()))
}

pub(super) fn execute(arguments: &Arguments, out: &mut impl Write) -> Result<u8, Failure> {
    let paths = [&arguments.left, &arguments.right];
    let (mut left, mut right) = (open(paths[0])?, open(paths[1])?);
    let result =
        diff(&mut left, &mut right, CONTEXT_RECORDS).map_err(|(side, error)| named(paths[side], &error))?;
    let found = match result {
        Err(records) => {
            writeln!(out, "the same, {records} events")?;
            return Ok(0);
        }
        Ok(found) => found,
    };
    writeln!(out, "event {} differs", found.record)?;
    for record in &found.before {
        writeln!(out, "  {record}")?;
    }
    for (mark, path, records) in [('-', paths[0], &found.left), ('+', paths[1], &found.right)] {
        writeln!(out, "{mark} {}", path.display())?;
        if records.is_empty() {
            writeln!(out, "{mark} (it ends here)")?;
        }
        for record in records {
            writeln!(out, "{mark} {record}")?;
        }
    }
    Ok(1)
}
