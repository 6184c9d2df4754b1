//! `core`: the random schedulers over pure code, Raft's core or the machines of the sharded store.

use std::io::Write;
use std::time::Duration;

use clap::{Args, ValueEnum};
use eraft::mutants::{MutantId, Mutants};

use super::output::{self, Output};
use super::{Failure, check_mutant};
use crate::core::{CoreViolation, Options, Verdict};
use crate::{core, shards};

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo sim core --seconds 10\n  cargo sim core --mutant election.vote_twice -o json\n  \
                  cargo sim core --machine shard --mutant shardkv.skip_config"
)]
pub(super) struct Arguments {
    /// What is scheduled: Raft's core, or groups and controllers of the sharded store.
    #[arg(long, value_enum, default_value = "raft", env = "ERAFT_MACHINE")]
    machine: Machine,
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

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Machine {
    Raft,
    Shard,
}

pub(super) fn execute(arguments: &Arguments, out: &mut impl Write) -> Result<u8, Failure> {
    check_mutant(arguments.mutant.as_deref())?;
    let mutants = match &arguments.mutant {
        None => Mutants::default(),
        Some(id) => Mutants::with(id.parse::<MutantId>().map_err(|error| Failure::usage(error.to_string()))?),
    };
    let options = Options {
        seed: arguments.seed,
        seeds_max: arguments.seeds_max.unwrap_or(u64::MAX),
        time_max: Some(Duration::from_secs(arguments.seconds)),
        jobs: super::jobs(arguments.jobs),
        mutants,
        ..Options::default()
    };
    let is_json = Output::or_default(arguments.output) == Output::Json;
    let rate = |steps, steps_per_second| format!("{steps} ({steps_per_second} a second)");
    let (mut facts, violation, verdict) = match arguments.machine {
        Machine::Raft => {
            let report = core::run(&options);
            if is_json {
                output::json(out, &report)?;
            }
            let facts = vec![
                ("seeds", report.seeds.to_string()),
                ("steps", rate(report.steps, report.steps_per_second)),
                ("elections", report.elections.to_string()),
                ("commits", report.commits.to_string()),
                ("snapshots", report.snapshots.to_string()),
                ("reads", report.reads.to_string()),
                ("transfers", report.transfers.to_string()),
            ];
            (facts, report.violation, report.verdict)
        }
        Machine::Shard => {
            let report = shards::run(&options);
            if is_json {
                output::json(out, &report)?;
            }
            let mut facts = vec![
                ("seeds", report.seeds.to_string()),
                ("steps", rate(report.steps, report.steps_per_second)),
            ];
            facts.extend(report.counts.iter().map(|(name, count)| (*name, count.to_string())));
            (facts, report.violation, report.verdict)
        }
    };
    if !is_json {
        facts.push(("verdict", verdict.word().to_owned()));
        facts.extend(violation.iter().flat_map(told));
        output::facts(out, &facts)?;
    }
    Ok(u8::from(verdict != Verdict::Pass))
}

/// What was found, and how to see it again.
fn told(found: &CoreViolation) -> [(&'static str, String); 3] {
    [
        ("seed", found.seed.to_string()),
        ("oracle", found.violation.oracle.clone()),
        ("violation", found.violation.message.clone()),
    ]
}
