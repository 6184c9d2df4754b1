//! `list`: what there is.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use eraft::buggify::Point;
use serde::Serialize;

use super::Failure;
use super::output::{self, Output};
use crate::oracles::ORACLES;
use crate::scenario::{FaultKind, Scenario};

/// Directories below the scenarios' one that are looked into.
const DEPTH_MAX: usize = 4;

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  cargo sim list -o json")]
pub(super) struct Arguments {
    /// Where the scenarios are.
    #[arg(long, value_name = "DIR", default_value = "scenarios", env = "ERAFT_SCENARIOS")]
    scenarios: PathBuf,
    /// How to print.
    #[arg(short, long, value_enum, env = "ERAFT_OUTPUT")]
    output: Option<Output>,
}

#[derive(Debug, Serialize)]
struct Everything {
    scenarios: Vec<ScenarioEntry>,
    faults: Vec<FaultEntry>,
    buggify: Vec<Entry>,
    invariants: Vec<OracleEntry>,
    mutants: Vec<MutantEntry>,
}

#[derive(Debug, Serialize)]
struct ScenarioEntry {
    file: String,
    name: String,
    about: String,
}

#[derive(Debug, Serialize)]
struct Entry {
    id: &'static str,
    about: &'static str,
}

#[derive(Debug, Serialize)]
struct FaultEntry {
    id: &'static str,
    about: &'static str,
    /// Keys of a scenario that say something about it, besides `target`.
    parameters: &'static [&'static str],
}

#[derive(Debug, Serialize)]
struct OracleEntry {
    id: &'static str,
    about: &'static str,
    source: &'static str,
}

#[derive(Debug, Serialize)]
struct MutantEntry {
    id: &'static str,
    group: &'static str,
    oracle: &'static str,
    about: &'static str,
}

pub(super) fn execute(arguments: &Arguments, out: &mut impl Write) -> Result<u8, Failure> {
    let everything = Everything {
        scenarios: scenarios(&arguments.scenarios)?,
        faults: FaultKind::ALL
            .iter()
            .map(|kind| FaultEntry { id: kind.id(), about: kind.about(), parameters: kind.parameters() })
            .collect(),
        buggify: Point::ALL.iter().map(|point| Entry { id: point.id(), about: point.about() }).collect(),
        invariants: ORACLES
            .iter()
            .map(|oracle| OracleEntry { id: oracle.id, about: oracle.about, source: oracle.source })
            .collect(),
        mutants: eraft::mutants::CATALOGUE
            .iter()
            .map(|mutant| MutantEntry {
                id: mutant.id,
                group: mutant.group,
                oracle: mutant.oracle,
                about: mutant.description,
            })
            .collect(),
    };
    match Output::or_default(arguments.output) {
        Output::Json => output::json(out, &everything)?,
        output => print(out, output, &everything)?,
    }
    Ok(0)
}

fn print(out: &mut impl Write, output: Output, everything: &Everything) -> Result<(), Failure> {
    let row = |kind: &str, id: &str, about: &str| vec![kind.to_owned(), id.to_owned(), about.to_owned()];
    let mut rows = Vec::new();
    rows.extend(everything.scenarios.iter().map(|entry| row("scenario", &entry.file, &entry.about)));
    rows.extend(everything.faults.iter().map(|entry| {
        let parameters = match entry.parameters {
            [] => String::new(),
            parameters => format!(" ({})", parameters.join(", ")),
        };
        row("fault", entry.id, &format!("{}{parameters}", entry.about))
    }));
    rows.extend(everything.buggify.iter().map(|entry| row("buggify", entry.id, entry.about)));
    rows.extend(
        everything
            .invariants
            .iter()
            .map(|entry| row("invariant", entry.id, &format!("{} [{}]", entry.about, entry.source))),
    );
    rows.extend(everything.mutants.iter().map(|entry| row("mutant", entry.id, entry.about)));
    output::rows(out, output, &["kind", "id", "about"], &rows)
}

fn scenarios(directory: &Path) -> Result<Vec<ScenarioEntry>, Failure> {
    let mut files = Vec::new();
    collect(directory, DEPTH_MAX, &mut files)?;
    files.sort();
    let mut entries = Vec::new();
    for path in files {
        let file = path.display().to_string();
        let text =
            std::fs::read_to_string(&path).map_err(|error| Failure::usage(format!("{file}: {error}")))?;
        let scenario = Scenario::parse(&file, &text).map_err(|error| Failure::usage(error.to_string()))?;
        entries.push(ScenarioEntry { file, name: scenario.name, about: scenario.about });
    }
    Ok(entries)
}

fn collect(directory: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let named = |error: std::io::Error| Failure::usage(format!("{}: {error}", directory.display()));
    for entry in std::fs::read_dir(directory).map_err(named)? {
        let path = entry.map_err(named)?.path();
        if path.is_dir() && depth > 0 {
            collect(&path, depth - 1, files)?;
        } else if path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    Ok(())
}
