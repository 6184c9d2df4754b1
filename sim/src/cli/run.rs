//! `run`: a scenario once.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::output::{self, Output};
use super::records::Records;
use super::{Failure, check_mutant, code_of, read_scenario};
use crate::artifact::Artifact;
use crate::digest::hex;
use crate::fuzz::Line;
use crate::outcome::Verdict;
use crate::runner::{self, RunOptions, Simulate};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  cargo sim run scenarios/standard.toml --seed 7\n  \
                        cargo sim run scenarios/swarm/kv.toml --seed 7 --trace run.trace -o json")]
pub(super) struct Arguments {
    /// The scenario's file.
    scenario: PathBuf,
    /// The seed: the same one gives the same run.
    #[arg(long, default_value_t = 0, env = "ERAFT_SEED")]
    seed: u64,
    /// Switch a planted bug on.
    #[arg(long, value_name = "ID", env = "ERAFT_MUTANT")]
    mutant: Option<String>,
    #[command(flatten)]
    records: Records,
    /// Where the artifact of a failure goes.
    #[arg(long, value_name = "DIR", default_value = "artifacts", env = "ERAFT_OUT")]
    out: PathBuf,
    /// How to print the result.
    #[arg(short, long, value_enum, env = "ERAFT_OUTPUT")]
    output: Option<Output>,
}

pub(super) fn execute(
    arguments: &Arguments,
    simulate: Simulate,
    out: &mut impl Write,
) -> Result<u8, Failure> {
    check_mutant(arguments.mutant.as_deref())?;
    let request = read_scenario(&arguments.scenario)?.request(arguments.seed, arguments.mutant.as_deref());
    let options = RunOptions { trace: arguments.records.trace.clone(), ..RunOptions::default() };
    let outcome = runner::run(simulate, &request, &options)?;
    arguments.records.write_history(&outcome)?;
    let artifact = match outcome.verdict {
        Verdict::Pass => None,
        _ => Some(Artifact::new(&request, &outcome).write_into(&arguments.out)?),
    };
    let line = Line::new(&request, &outcome, artifact);
    match Output::or_default(arguments.output) {
        Output::Json => output::json(out, &line)?,
        Output::Table | Output::Plain => print(out, &line)?,
    }
    Ok(code_of(line.verdict))
}

/// The facts of a run, for people.
pub(super) fn print(out: &mut impl Write, line: &Line) -> Result<(), Failure> {
    let mut facts = vec![
        ("scenario", line.scenario.clone()),
        ("seed", line.seed.to_string()),
        ("digest", hex::text(line.digest)),
        ("simulated", format!("{:.3} s", line.sim_seconds)),
        ("wall", format!("{:.3} s", line.wall_seconds)),
        ("operations", line.operations.to_string()),
        ("faults", output::counts(&line.faults)),
        ("verdict", line.verdict.word().to_owned()),
    ];
    if !line.buggify.is_empty() {
        facts.insert(facts.len() - 1, ("forced", output::counts(&line.buggify)));
    }
    if let Some(violation) = &line.violation {
        facts.push(("oracle", violation.oracle.clone()));
        facts.push(("violation", violation.message.clone()));
        facts.push(("fingerprint", violation.fingerprint.clone()));
    }
    if let Some(artifact) = &line.artifact {
        facts.push(("artifact", artifact.display().to_string()));
        facts.push(("again", format!("cargo sim replay {}", artifact.display())));
    }
    output::facts(out, &facts)
}
