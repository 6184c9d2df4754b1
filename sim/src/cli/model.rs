//! `model`: the model checker over the pure core and the key-value machine.

use std::io::Write;
use std::time::Duration;

use clap::Args;
use eraft::mutants::{MutantId, Mutants};

use super::output::{self, Output};
use super::{Failure, check_mutant, code_of};
use crate::model::bounds::Bounds;
use crate::model::{ModelReport, Options, run, specs};
use crate::scenario::suggestion;

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo sim model\n  cargo sim model --only election --mutant election.vote_not_durable"
)]
pub(super) struct Arguments {
    /// Switch a planted bug on.
    #[arg(long, value_name = "ID", env = "ERAFT_MUTANT")]
    mutant: Option<String>,
    /// Only these models; all if not said.
    #[arg(long, value_name = "MODEL", value_delimiter = ',', env = "ERAFT_ONLY")]
    only: Vec<String>,
    /// Another bound for the models of a group: term_max, crashes, proposals, heartbeats, reads, depth.
    #[arg(long, value_name = "NAME=N", value_delimiter = ',', value_parser = bound, env = "ERAFT_BOUND")]
    bound: Vec<(String, u8)>,
    /// Leave a model unfinished after so many seconds; the verdict is then `undecided`.
    #[arg(long, value_name = "S", env = "ERAFT_SECONDS")]
    seconds: Option<u64>,
    /// Fail if fewer distinct states are visited.
    #[arg(long, value_name = "N", default_value_t = 0, env = "ERAFT_DISTINCT_MIN")]
    distinct_min: u64,
    /// Models at a time; as many as there are processors if not said.
    #[arg(long, value_name = "J", value_parser = clap::value_parser!(u16).range(1..=1024), env = "ERAFT_JOBS")]
    jobs: Option<u16>,
    /// How to print the result.
    #[arg(short, long, value_enum, env = "ERAFT_OUTPUT")]
    output: Option<Output>,
}

pub(super) fn execute(arguments: &Arguments, out: &mut impl Write) -> Result<u8, Failure> {
    check_mutant(arguments.mutant.as_deref())?;
    let names: Vec<&str> = specs::all().iter().map(|check| check.name).collect();
    if let Some(unknown) = arguments.only.iter().find(|only| !names.contains(&only.as_str())) {
        let hint = suggestion(unknown, names.iter().copied());
        let all = names.join(", ");
        return Err(Failure::usage(format!("--only: there is no model `{unknown}`{hint}; there are {all}")));
    }
    let mutants = match &arguments.mutant {
        None => Mutants::default(),
        Some(id) => Mutants::with(id.parse::<MutantId>().map_err(|error| Failure::usage(error.to_string()))?),
    };
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let report = run(&Options {
        only: arguments.only.clone(),
        jobs: arguments.jobs.map_or(processors, usize::from),
        time_max: arguments.seconds.map(Duration::from_secs),
        bounds: arguments.bound.clone(),
        mutants,
    });
    match Output::or_default(arguments.output) {
        Output::Json => output::json(out, &report)?,
        output @ (Output::Table | Output::Plain) => {
            let rows: Vec<_> = report.models.iter().map(row).collect();
            output::rows(
                out,
                output,
                &["model", "verdict", "distinct", "steps", "depth", "seconds", "bounds"],
                &rows,
            )?;
            for model in &report.models {
                let missing = model.reached.iter().filter(|(_, reached)| !*reached);
                for (name, _) in missing.filter(|_| model.is_complete) {
                    writeln!(out, "{}: never reached: {name}", model.model)?;
                }
                if let Some(found) = &model.violation {
                    writeln!(out, "{}: {}: {}", model.model, found.oracle, found.message)?;
                    for (number, step) in (1..).zip(&found.steps) {
                        writeln!(out, "  {number:>3}  {step}")?;
                    }
                }
            }
            let verdict = report.verdict.word();
            writeln!(out, "{} distinct states in {:.1} s: {verdict}", report.distinct, report.seconds)?;
        }
    }
    if report.violation().is_none() && report.distinct < arguments.distinct_min {
        let message =
            format!("{} distinct states are fewer than {}", report.distinct, arguments.distinct_min);
        return Err(Failure { code: 1, message });
    }
    Ok(code_of(report.verdict))
}

/// `crashes=2`.
fn bound(text: &str) -> Result<(String, u8), String> {
    let names = Bounds::NAMES;
    let (name, bound) = text.split_once('=').ok_or("a bound is NAME=N")?;
    if !names.contains(&name) {
        return Err(format!("there is no bound `{name}`{}", suggestion(name, names)));
    }
    let bound = bound.parse().map_err(|_| format!("{name}: `{bound}` is not a number up to {}", u8::MAX))?;
    Ok((name.to_owned(), bound))
}

fn row(model: &ModelReport) -> Vec<String> {
    vec![
        model.model.clone(),
        model.verdict.word().to_owned(),
        model.distinct.to_string(),
        model.steps.to_string(),
        model.depth.to_string(),
        format!("{:.1}", model.seconds),
        output::counts(&model.bounds),
    ]
}
