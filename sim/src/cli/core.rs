//! `core`: the random scheduler over the pure core.

use std::io::Write;
use std::time::Duration;

use clap::Args;
use eraft::mutants::{MutantId, Mutants};

use super::output::{self, Output};
use super::{Failure, check_mutant};
use crate::core::{Options, Verdict, run};

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo sim core --seconds 10\n  cargo sim core --mutant election.vote_twice -o json"
)]
pub(super) struct Arguments {
    /// Begin no run after so many seconds.
    #[arg(long, value_name = "S", default_value_t = 10, env = "ERAFT_SECONDS")]
    seconds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0, env = "ERAFT_SEED")]
    seed: u64,
    /// At most so many seeds.
    #[arg(long, value_name = "N", env = "ERAFT_SEEDS_MAX")]
    seeds_max: Option<u64>,
    /// Threads; as many as there are processors if not said.
    #[arg(long, value_name = "J", value_parser = clap::value_parser!(u16).range(1..=1024), env = "ERAFT_JOBS")]
    jobs: Option<u16>,
    /// Switch a planted bug on.
    #[arg(long, value_name = "ID", env = "ERAFT_MUTANT")]
    mutant: Option<String>,
    /// How to print the result.
    #[arg(short, long, value_enum, env = "ERAFT_OUTPUT")]
    output: Option<Output>,
}

pub(super) fn execute(arguments: &Arguments, out: &mut impl Write) -> Result<u8, Failure> {
    check_mutant(arguments.mutant.as_deref())?;
    let mutants = match &arguments.mutant {
        None => Mutants::default(),
        Some(id) => Mutants::with(id.parse::<MutantId>().map_err(|error| Failure::usage(error.to_string()))?),
    };
    let report = run(&Options {
        seed: arguments.seed,
        seeds_max: arguments.seeds_max.unwrap_or(u64::MAX),
        time_max: Some(Duration::from_secs(arguments.seconds)),
        jobs: super::jobs(arguments.jobs),
        mutants,
        ..Options::default()
    });
    let verdict = serde_json::to_value(report.verdict).ok();
    let verdict = verdict.as_ref().and_then(serde_json::Value::as_str).unwrap_or("unknown");
    match Output::or_default(arguments.output) {
        Output::Json => output::json(out, &report)?,
        Output::Table | Output::Plain => {
            let mut facts = vec![
                ("seeds", report.seeds.to_string()),
                ("steps", format!("{} ({} a second)", report.steps, report.steps_per_second)),
                ("elections", report.elections.to_string()),
                ("commits", report.commits.to_string()),
                ("snapshots", report.snapshots.to_string()),
                ("reads", report.reads.to_string()),
                ("transfers", report.transfers.to_string()),
                ("verdict", verdict.to_owned()),
            ];
            if let Some(found) = &report.violation {
                facts.push(("seed", found.seed.to_string()));
                facts.push(("oracle", found.violation.oracle.clone()));
                facts.push(("violation", found.violation.message.clone()));
            }
            output::facts(out, &facts)?;
        }
    }
    Ok(u8::from(report.verdict != Verdict::Pass))
}
