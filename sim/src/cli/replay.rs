//! `replay`: an artifact again.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::Failure;
use super::output::{self, Output};
use super::records::Records;
use crate::artifact::{Artifact, Difference, Versions};
use crate::fuzz::Line;
use crate::runner::{self, RunOptions, Simulate};

#[derive(Debug, Args)]
#[command(
    after_help = "Exits 0 if digest and violation are those of the artifact, 1 if not.\n\nExamples:\n  \
                        cargo sim replay artifacts/kv-17-raft-election-safety.json\n  \
                        cargo sim replay FILE --until 12.5s --trace run.trace"
)]
pub(super) struct Arguments {
    /// The artifact's file.
    artifact: PathBuf,
    /// Stop at this simulated time: 12.5s, 1500ms.
    #[arg(long, value_name = "TIME", value_parser = parse_time, env = "ERAFT_UNTIL")]
    until: Option<u64>,
    #[command(flatten)]
    records: Records,
    /// How to print the result.
    #[arg(short, long, value_enum, env = "ERAFT_OUTPUT")]
    output: Option<Output>,
}

/// What a replay found.
#[derive(Debug, Serialize)]
struct Report {
    digest_same: bool,
    violation_same: bool,
    same_until_event: Option<u64>,
    first_difference: Option<[Option<String>; 2]>,
    /// What differs between the build that wrote the artifact and this one.
    built_otherwise: Vec<String>,
    /// Parts of the plan that this build does not know, and faults that did not fire again or hit others.
    unmatched: Vec<String>,
    run: Line,
}

/// Milliseconds.
fn parse_time(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no time; one reads 12.5s or 1500ms");
    let (number, factor) = match text.strip_suffix("ms") {
        Some(number) => (number, 1.0),
        None => (text.strip_suffix('s').unwrap_or(text), 1000.0),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    if !number.is_finite() || number < 0.0 { Err(wrong()) } else { Ok((number * factor) as u64) }
}

pub(super) fn execute(
    arguments: &Arguments,
    simulate: Simulate,
    out: &mut impl Write,
) -> Result<u8, Failure> {
    let artifact = Artifact::read(&arguments.artifact)?;
    let request = artifact.request()?;
    super::check_mutant(request.mutant.as_deref())?;
    let trace = arguments.records.trace.clone();
    let options = RunOptions { trace, until_ms: arguments.until, ..RunOptions::default() };
    let outcome = runner::run(simulate, &request, &options)?;
    arguments.records.write_history(&outcome)?;
    let line = Line::new(&request, &outcome, None);
    let output = Output::or_default(arguments.output);
    if arguments.until.is_some() {
        // Cut off on purpose: there is nothing to compare.
        match output {
            Output::Json => output::json(out, &line)?,
            Output::Table | Output::Plain => super::run::print(out, &line)?,
        }
        return Ok(0);
    }
    let difference = artifact.difference(&outcome);
    let fingerprint =
        |violation: &Option<crate::outcome::Violation>| violation.as_ref().map(|v| v.fingerprint.clone());
    let report = Report {
        digest_same: difference.is_none(),
        violation_same: fingerprint(&artifact.violation) == fingerprint(&outcome.violation)
            && artifact.verdict == outcome.verdict,
        same_until_event: difference.as_ref().map(|difference| difference.same_until),
        first_difference: difference.and_then(first_difference),
        built_otherwise: artifact.versions.differences(&Versions::current()),
        unmatched: artifact.unmatched(&outcome),
        run: line,
    };
    match output {
        Output::Json => output::json(out, &report)?,
        Output::Table | Output::Plain => print(out, &report)?,
    }
    Ok(u8::from(!(report.digest_same && report.violation_same)))
}

fn first_difference(difference: Difference) -> Option<[Option<String>; 2]> {
    let (then, now) = difference.first?;
    Some([then, now].map(|record| record.map(|record| record.to_string())))
}

fn print(out: &mut impl Write, report: &Report) -> Result<(), Failure> {
    super::run::print(out, &report.run)?;
    let word = |same: bool| if same { "the same as in the artifact" } else { "NOT that of the artifact" };
    let mut facts = vec![
        ("digest is", word(report.digest_same).to_owned()),
        ("violation is", word(report.violation_same).to_owned()),
    ];
    if let Some(events) = report.same_until_event {
        facts.push(("same until", format!("event {events}")));
    }
    if let Some(differing) = &report.first_difference {
        for (name, record) in ["then", "now"].into_iter().zip(differing) {
            facts.push((name, record.clone().unwrap_or_else(|| "(the run was over)".to_owned())));
        }
    }
    facts.extend(report.unmatched.iter().map(|what| ("no longer matches", what.clone())));
    if !report.digest_same && !report.built_otherwise.is_empty() {
        facts.extend(report.built_otherwise.iter().map(|difference| ("built with", difference.clone())));
        facts.push((
            "note",
            "another build wrote the artifact: check its commit out for the same digest; here its schedule was \
             applied again"
                .to_owned(),
        ));
    }
    output::facts(out, &facts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_or_refused() {
        assert_eq!(
            (parse_time("12.5s"), parse_time("1500ms"), parse_time("3")),
            (Ok(12_500), Ok(1_500), Ok(3_000))
        );
        assert!(parse_time("soon").is_err() && parse_time("-1s").is_err() && parse_time("NaN").is_err());
    }
}
