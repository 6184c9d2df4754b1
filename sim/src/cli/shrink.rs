//! `shrink`: the smallest schedule with the same violation.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::Failure;
use super::output::{self, Output};
use crate::artifact::Artifact;
use crate::runner::Simulate;
use crate::shrink::{Effort, RUNS_MAX, ShrinkError, Size, shrink};
use crate::words;

#[derive(Debug, Args)]
#[command(
    after_help = "Exits 0 with the smaller artifact, 1 if the artifact's run does not fail any more as it did.\n\n\
                  Examples:\n  cargo sim shrink artifacts/kv-17-raft-election-safety.json\n  \
                  cargo sim shrink FILE -o small.json && cargo sim replay small.json"
)]
pub(super) struct Arguments {
    /// The artifact's file.
    artifact: PathBuf,
    /// Where the smaller artifact goes; beside the first one if not said.
    #[arg(short, long, value_name = "FILE", env = "ERAFT_SHRUNK")]
    out: Option<PathBuf>,
    /// Runs at once; as many as there are processors if not said.
    #[arg(long, value_name = "J", value_parser = clap::value_parser!(u16).range(1..=1024), env = "ERAFT_JOBS")]
    jobs: Option<u16>,
    /// Try at most so many smaller plans. The result depends on this and not on time.
    #[arg(long, value_name = "N", default_value_t = RUNS_MAX, env = "ERAFT_RUNS_MAX")]
    runs_max: u64,
    /// How to print the result.
    #[arg(long = "format", value_enum, env = "ERAFT_OUTPUT")]
    output: Option<Output>,
}

/// What shrinking did.
#[derive(Debug, Serialize)]
struct Report {
    artifact: PathBuf,
    oracle: String,
    fingerprint: String,
    seed: u64,
    before: Size,
    after: Size,
    runs: u64,
    out_of_runs: bool,
    wall_seconds: f64,
    schedule: Vec<String>,
}

/// `x.json` becomes `x.min.json`.
fn beside(path: &Path) -> PathBuf {
    path.with_extension("min.json")
}

pub(super) fn execute(
    arguments: &Arguments,
    simulate: Simulate,
    out: &mut impl Write,
) -> Result<u8, Failure> {
    let artifact = Artifact::read(&arguments.artifact)?;
    let request = artifact.request()?;
    super::check_mutant(request.mutant.as_deref())?;
    let file = arguments.artifact.display();
    let Some(violation) = &artifact.violation else {
        return Err(Failure::usage(format!("{file}: its run passed: nothing to shrink")));
    };
    let begun = Instant::now();
    let effort = Effort { jobs: super::jobs(arguments.jobs), runs_max: arguments.runs_max };
    let bar = progress();
    let result = shrink(simulate, &request, &violation.fingerprint, effort, &|runs, plan| {
        let operations: usize = plan.operations.iter().map(Vec::len).sum();
        bar.set_message(format!("{runs} runs, {} faults, {operations} operations", plan.faults.len()));
        bar.tick();
    });
    bar.finish_and_clear();
    let shrunk = match result {
        Ok(shrunk) => shrunk,
        Err(ShrinkError::Internal(error)) => return Err(error.into()),
        Err(error) => return Err(Failure { code: 1, message: format!("{file}: {error}") }),
    };
    let path = arguments.out.clone().unwrap_or_else(|| beside(&arguments.artifact));
    let mut smaller = Artifact::new(&shrunk.request, &shrunk.outcome);
    // Shrunk again, it still says what it was at first.
    smaller.shrunk_from = Some(artifact.shrunk_from.unwrap_or(shrunk.before));
    smaller.write(&path)?;
    let found = shrunk.outcome.violation.as_ref().map(|violation| (violation, shrunk.outcome.sim_seconds));
    let report = Report {
        artifact: path,
        oracle: violation.oracle.clone(),
        fingerprint: violation.fingerprint.clone(),
        seed: shrunk.request.seed,
        before: shrunk.before,
        after: shrunk.after,
        runs: shrunk.runs,
        out_of_runs: shrunk.is_out_of_runs,
        wall_seconds: begun.elapsed().as_secs_f64(),
        schedule: words::of_plan(&shrunk.request.plan, &shrunk.outcome.hits, found),
    };
    match Output::or_default(arguments.output) {
        Output::Json => output::json(out, &report)?,
        Output::Table | Output::Plain => print(out, &report)?,
    }
    Ok(0)
}

fn progress() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {elapsed} {msg}");
    ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
}

fn print(out: &mut impl Write, report: &Report) -> Result<(), Failure> {
    let Report { before, after, .. } = report;
    let change = |before: u64, after: u64| format!("{before} -> {after}");
    let budget = if report.out_of_runs { "; --runs-max ended the search" } else { "" };
    output::facts(
        out,
        &[
            ("violation", report.fingerprint.clone()),
            ("faults", change(before.faults as u64, after.faults as u64)),
            ("operations", change(before.operations as u64, after.operations as u64)),
            ("nodes", change(before.nodes, after.nodes)),
            ("clients", change(before.clients, after.clients)),
            ("simulated", format!("{:.3} s -> {:.3} s", before.sim_seconds, after.sim_seconds)),
            ("tried", format!("{} plans in {:.1} s{budget}", report.runs, report.wall_seconds)),
            ("artifact", report.artifact.display().to_string()),
            ("again", format!("cargo sim replay {}", report.artifact.display())),
        ],
    )?;
    writeln!(out)?;
    for sentence in &report.schedule {
        writeln!(out, "{sentence}")?;
    }
    Ok(())
}
