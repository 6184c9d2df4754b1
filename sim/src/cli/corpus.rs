//! `corpus`: the artifacts that are kept and run again.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Failure;
use crate::artifact::Artifact;
use crate::corpus;
use crate::parallel;
use crate::runner::Simulate;

/// Where the corpus is.
const DIRECTORY: &str = "scenarios/regressions";

#[derive(Debug, Args)]
#[command(
    after_help = "An artifact of healthy code is a bug that was fixed: it has to pass. One of a planted bug has to fail as it did.\n\n\
                  Examples:\n  cargo sim corpus run\n  cargo sim corpus add artifacts/kv-17-sim-liveness.min.json\n  \
                  cargo sim corpus prune --dry-run"
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Where the corpus is.
    #[arg(long, global = true, value_name = "DIR", default_value = DIRECTORY, env = "ERAFT_CORPUS")]
    dir: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run everything again.
    Run {
        /// Runs at once; as many as there are processors if not said.
        #[arg(long, value_name = "J", value_parser = clap::value_parser!(u16).range(1..=1024), env = "ERAFT_JOBS")]
        jobs: Option<u16>,
    },
    /// Take artifacts in. Shrink them first.
    Add {
        /// Their files.
        #[arg(required = true)]
        artifacts: Vec<PathBuf>,
    },
    /// Remove artifacts of planted bugs whose finding another one shows with less.
    Prune {
        /// Only say which.
        #[arg(long, env = "ERAFT_DRY_RUN")]
        dry_run: bool,
    },
}

pub(super) fn execute(
    arguments: &Arguments,
    simulate: Simulate,
    out: &mut impl Write,
) -> Result<u8, Failure> {
    match &arguments.command {
        Command::Run { jobs } => run(arguments, super::jobs(*jobs), simulate, out),
        Command::Add { artifacts } => {
            for path in artifacts {
                let added = corpus::add(&arguments.dir, &Artifact::read(path)?)?;
                writeln!(
                    out,
                    "{}: give it a line in {}",
                    added.display(),
                    arguments.dir.join("LEDGER.md").display()
                )?;
            }
            Ok(0)
        }
        Command::Prune { dry_run } => {
            let entries = corpus::entries(&arguments.dir)?;
            for entry in corpus::redundant(&entries) {
                if !dry_run {
                    let named = |error| Failure::usage(format!("{}: {error}", entry.path.display()));
                    std::fs::remove_file(&entry.path).map_err(named)?;
                }
                writeln!(out, "{}{}", entry.path.display(), if *dry_run { "" } else { " removed" })?;
            }
            Ok(0)
        }
    }
}

fn run(arguments: &Arguments, jobs: usize, simulate: Simulate, out: &mut impl Write) -> Result<u8, Failure> {
    let entries = corpus::entries(&arguments.dir)?;
    for entry in &entries {
        super::check_mutant(entry.artifact.mutant.as_deref())?;
    }
    let results = parallel::map(entries.len(), jobs, |place| entries[place].run(simulate));
    let mut wrong = 0;
    for (entry, result) in entries.iter().zip(results) {
        let path = entry.path.display();
        match result? {
            Ok(_) => writeln!(out, "ok     {path}")?,
            Err(why) => {
                wrong += 1;
                writeln!(out, "WRONG  {path}: {why}")?;
            }
        }
    }
    writeln!(out, "{} artifacts, {wrong} wrong", entries.len())?;
    Ok(u8::from(wrong > 0))
}
