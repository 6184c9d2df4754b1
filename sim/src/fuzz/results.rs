//! The results of a campaign as a file: a head, then a line for each run in the order of the seeds.
//!
//! From it a campaign goes on where it was ended, and the shards of one become a whole.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Campaign, Line};
use crate::coverage::Coverage;

/// The version of the file's form.
const FORMAT: u32 = 1;

/// What was asked for: results of different campaigns are never mixed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Version of the form.
    pub results_format: u32,
    /// The scenarios' files, and a hash of each one's text.
    pub scenarios: Vec<(String, u64)>,
    /// The first seed.
    pub first_seed: u64,
    /// The end of the seeds, if there is one.
    pub end_seed: Option<u64>,
    /// The planted bug.
    pub mutant: Option<String>,
    /// This part (counted from 0) of so many.
    pub shard: (u64, u64),
}

impl Head {
    /// Of `campaign`.
    pub fn of(campaign: &Campaign) -> Self {
        let hash = |text: &str| xxhash_rust::xxh3::xxh3_64(text.as_bytes());
        Self {
            results_format: FORMAT,
            scenarios: campaign
                .sources
                .iter()
                .map(|source| (source.file.clone(), hash(&source.text)))
                .collect(),
            first_seed: campaign.first_seed,
            end_seed: campaign.end_seed,
            mutant: campaign.mutant.clone(),
            shard: campaign.shard,
        }
    }

    fn whole(&self) -> Self {
        Self { shard: (0, 1), ..self.clone() }
    }
}

/// One run, with what a campaign counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// What `fuzz -o json` shows of it.
    #[serde(flatten)]
    pub line: Line,
    /// Kinds of faults that existed in it.
    pub kinds: Vec<String>,
    /// Points of the product's code that were on.
    #[serde(default)]
    pub points: Vec<String>,
    /// Oracles that judged it.
    pub checks: Vec<String>,
    /// How often each judged something.
    pub judged: BTreeMap<String, u64>,
    /// Run twice: were the digests the same?
    pub same_twice: Option<bool>,
    /// States of the protocol that it reached.
    pub coverage: Coverage,
}

impl Run {
    /// What a report needs of it: a campaign may have a hundred thousand.
    pub fn line_alone(&self) -> Self {
        let line = &self.line;
        Self {
            line: Line { faults: BTreeMap::new(), buggify: BTreeMap::new(), ..line.clone() },
            kinds: Vec::new(),
            points: Vec::new(),
            checks: Vec::new(),
            judged: BTreeMap::new(),
            same_twice: self.same_twice,
            coverage: Coverage::default(),
        }
    }
}

/// Why results cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ResultsError(pub String);

/// The file's name in the output directory.
pub fn file_name((part, parts): (u64, u64)) -> String {
    if parts == 1 { "results.jsonl".to_owned() } else { format!("results-{}-of-{parts}.jsonl", part + 1) }
}

/// Reads a file. A last line that a sudden end cut off is left out.
pub fn read(path: &Path) -> Result<(Head, Vec<Run>), ResultsError> {
    let wrong = |line: usize, why: String| ResultsError(format!("{}:{line}: {why}", path.display()));
    let file = File::open(path).map_err(|error| ResultsError(format!("{}: {error}", path.display())))?;
    let mut lines = Vec::new();
    for (number, line) in (1..).zip(BufReader::new(file).lines()) {
        lines.push(line.map_err(|error| wrong(number, error.to_string()))?);
    }
    let first = lines.first().ok_or_else(|| wrong(1, "empty".to_owned()))?;
    let head: Head = serde_json::from_str(first)
        .map_err(|error| wrong(1, format!("no results of a campaign: {error}")))?;
    let mut runs = Vec::new();
    for (number, line) in (2..).zip(&lines[1..]) {
        match serde_json::from_str(line) {
            Ok(run) => runs.push(run),
            Err(_) if number == lines.len() => break,
            Err(error) => return Err(wrong(number, error.to_string())),
        }
    }
    Ok((head, runs))
}

/// The shards of one campaign as a whole, and the numbers of those that are missing.
pub fn merge(directories: &[PathBuf]) -> Result<(Head, Vec<Run>, Vec<u64>), ResultsError> {
    let mut all: Option<Head> = None;
    let mut parts = BTreeMap::new();
    for directory in directories {
        for path in files(directory)? {
            let (head, runs) = read(&path)?;
            let whole = all.get_or_insert_with(|| head.whole());
            if *whole != head.whole() {
                return Err(ResultsError(format!(
                    "{}: of another campaign than the files before it",
                    path.display()
                )));
            }
            parts.insert(head.shard, runs);
        }
    }
    let Some(head) = all else {
        let names: Vec<String> = directories.iter().map(|path| path.display().to_string()).collect();
        return Err(ResultsError(format!("{}: there are no results*.jsonl", names.join(", "))));
    };
    let shards: Vec<u64> = parts.keys().map(|(_, parts)| *parts).collect();
    let of = shards[0];
    if shards.iter().any(|parts| *parts != of) {
        return Err(ResultsError(format!("shards of {of} and of another number of parts: they overlap")));
    }
    let missing = (0..of).filter(|part| !parts.contains_key(&(*part, of))).map(|part| part + 1).collect();
    let mut runs: Vec<Run> = parts.into_values().flatten().collect();
    runs.sort_by(|left, right| {
        (left.line.seed, &left.line.scenario).cmp(&(right.line.seed, &right.line.scenario))
    });
    Ok((head, runs, missing))
}

fn files(directory: &Path) -> Result<Vec<PathBuf>, ResultsError> {
    let named = |error: std::io::Error| ResultsError(format!("{}: {error}", directory.display()));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(named)? {
        let path = entry.map_err(named)?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name.starts_with("results") && name.ends_with(".jsonl") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Writes a file as the campaign goes on.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    file: File,
}

impl Writer {
    /// A new file with `runs` in it.
    pub fn create(directory: &Path, head: &Head, runs: &[Run]) -> Result<Self, ResultsError> {
        let path = directory.join(file_name(head.shard));
        let named = |error: std::io::Error| ResultsError(format!("{}: {error}", path.display()));
        std::fs::create_dir_all(directory).map_err(named)?;
        let file = File::create(&path).map_err(named)?;
        let mut writer = Self { path: path.clone(), file };
        writer.line(head)?;
        runs.iter().try_for_each(|run| writer.line(run))?;
        Ok(writer)
    }

    /// Takes a line, at once: the process may end at any time.
    pub fn line(&mut self, value: &impl Serialize) -> Result<(), ResultsError> {
        let named = |error: String| ResultsError(format!("{}: {error}", self.path.display()));
        let text = serde_json::to_string(value).map_err(|error| named(error.to_string()))?;
        self.file.write_all((text + "\n").as_bytes()).map_err(|error| named(error.to_string()))
    }
}
