//! The commands of `eraft-sim`. Exit codes: 0 passes or done, 1 a violation, 2 usage or malformed input,
//! 5 undecided, 70 an internal error.

mod ci;
mod core;
mod corpus;
mod diff;
mod explain;
mod fuzz;
mod list;
mod merge;
mod model;
mod mutants;
mod output;
mod records;
mod replay;
mod run;
mod shrink;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::artifact::ArtifactError;
use crate::fuzz::Source;
use crate::outcome::Verdict;
use crate::runner::{Internal, Simulate};
use crate::scenario::suggestion;

/// The deterministic simulator of eraft.
#[derive(Debug, Parser)]
#[command(
    name = "eraft-sim",
    version,
    about = "Runs whole eraft clusters in one thread, with seeded faults, and judges them",
    after_help = "Exit codes: 0 passes · 1 a violation · 2 usage or malformed input · 5 undecided · 70 internal error",
    disable_help_subcommand = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a scenario once.
    Run(run::Arguments),
    /// Run many seeds in parallel.
    Fuzz(fuzz::Arguments),
    /// Run an artifact again and compare.
    Replay(replay::Arguments),
    /// Make an artifact's schedule as small as it can be with the same violation.
    Shrink(shrink::Arguments),
    /// Examine the testbed: how soon each planted bug is found, and by what.
    Mutants(mutants::Arguments),
    /// Draw an artifact's run as one HTML file.
    Explain(explain::Arguments),
    /// Keep artifacts, and run those that are kept again.
    Corpus(corpus::Arguments),
    /// Put the shards of a campaign together.
    Merge(merge::Arguments),
    /// Show the first event that differs between two traces.
    Diff(diff::Arguments),
    /// List scenarios, faults, invariants and mutants.
    List(list::Arguments),
    /// Run the random scheduler over the pure core.
    Core(core::Arguments),
    /// Visit every state of bounded models of the core and of sessions.
    Model(model::Arguments),
}

/// Why a command did not do what it was asked for.
#[derive(Debug)]
struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// The caller's input is wrong.
    fn usage(message: impl Into<String>) -> Self {
        Self { code: 2, message: message.into() }
    }

    /// The tool is wrong.
    fn internal(message: impl Into<String>) -> Self {
        Self { code: 70, message: message.into() }
    }
}

impl From<Internal> for Failure {
    fn from(error: Internal) -> Self {
        Self::internal(error.to_string())
    }
}

impl From<ArtifactError> for Failure {
    fn from(error: ArtifactError) -> Self {
        Self::usage(error.to_string())
    }
}

/// Standard output. Whoever reads us may stop reading: that is no error of ours.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Self { code: 0, message: String::new() },
            _ => Self::internal(format!("standard output: {error}")),
        }
    }
}

/// Runs the command line; `simulate` runs one run.
pub fn main(simulate: Simulate) -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { 2 } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let result = crate::runner::catch(|| execute(cli.command, simulate)).unwrap_or_else(|panic| {
        Err(Failure::internal(format!("internal error: {} at {}", panic.message, panic.location)))
    });
    match result {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            if !failure.message.is_empty() {
                let _ = writeln!(std::io::stderr(), "eraft-sim: {}", failure.message);
            }
            ExitCode::from(failure.code)
        }
    }
}

fn execute(command: Command, simulate: Simulate) -> Result<u8, Failure> {
    let mut out = std::io::stdout().lock();
    let code = match command {
        Command::Run(arguments) => run::execute(&arguments, simulate, &mut out)?,
        Command::Fuzz(arguments) => fuzz::execute(&arguments, simulate, &mut out)?,
        Command::Replay(arguments) => replay::execute(&arguments, simulate, &mut out)?,
        Command::Shrink(arguments) => shrink::execute(&arguments, simulate, &mut out)?,
        Command::Mutants(arguments) => mutants::execute(&arguments, simulate, &mut out)?,
        Command::Explain(arguments) => explain::execute(&arguments, simulate, &mut out)?,
        Command::Corpus(arguments) => corpus::execute(&arguments, simulate, &mut out)?,
        Command::Merge(arguments) => merge::execute(&arguments, &mut out)?,
        Command::Diff(arguments) => diff::execute(&arguments, &mut out)?,
        Command::List(arguments) => list::execute(&arguments, &mut out)?,
        Command::Core(arguments) => core::execute(&arguments, &mut out)?,
        Command::Model(arguments) => model::execute(&arguments, &mut out)?,
    };
    out.flush()?;
    Ok(code)
}

/// The exit code of a verdict.
fn code_of(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Pass => 0,
        Verdict::Fail | Verdict::Vacuous => 1,
        Verdict::Undecided => 5,
    }
}

/// So many threads as asked for, or as there are processors.
fn jobs(asked: Option<u16>) -> usize {
    asked.map_or_else(crate::parallel::processors, usize::from)
}

/// Reads a scenario file.
fn read_scenario(path: &Path) -> Result<Source, Failure> {
    Source::read(path).map_err(Failure::usage)
}

/// Refuses a mutant that there is not.
fn check_mutant(mutant: Option<&str>) -> Result<(), Failure> {
    let ids = || eraft::mutants::CATALOGUE.iter().map(|mutant| mutant.id);
    match mutant {
        Some(asked) if !ids().any(|id| id == asked) => {
            let hint = suggestion(asked, ids());
            Err(Failure::usage(format!("--mutant: there is no `{asked}`{hint}; `eraft-sim list` shows all")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
