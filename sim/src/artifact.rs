//! An artifact: one JSON file from which a failed run can be run again, here or elsewhere.
//!
//! It holds the plan itself, not only the seed: what a seed means may change from commit to commit.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use eraft::buggify::Point;
use serde::{Deserialize, Serialize};

use crate::digest::{Checkpoint, hex};
use crate::oracles;
use crate::outcome::{Hit, Outcome, Verdict, Violation};
use crate::schedule::Plan;
use crate::shrink::Size;
use crate::trace::{Record, TRACE_VERSION};

/// The version of this file's form.
pub const ARTIFACT_FORMAT: u32 = 1;
/// Lines of the history that an artifact holds.
const HISTORY_LINES_MAX: usize = 400;

/// What built the simulator that ran the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// eraft's version.
    pub eraft: String,
    /// The commit, and whether there were changes beside it, if the build knew it.
    pub commit: String,
    /// The hash of Cargo.lock as git has it, if the build knew it.
    #[serde(default)]
    pub lockfile: String,
    /// The compiler, if the build knew it.
    pub rustc: String,
    /// The form of the records under the digest.
    pub trace: u32,
}

impl Versions {
    /// Of this build.
    pub fn current() -> Self {
        Self {
            eraft: env!("CARGO_PKG_VERSION").to_owned(),
            commit: env!("ERAFT_BUILD_COMMIT").to_owned(),
            lockfile: env!("ERAFT_BUILD_LOCKFILE").to_owned(),
            rustc: env!("ERAFT_BUILD_RUSTC").to_owned(),
            trace: TRACE_VERSION,
        }
    }

    /// What differs, each with the two values.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let fields = [
            ("eraft", &self.eraft, &other.eraft),
            ("commit", &self.commit, &other.commit),
            ("Cargo.lock", &self.lockfile, &other.lockfile),
            ("compiler", &self.rustc, &other.rustc),
            ("trace format", &self.trace.to_string(), &other.trace.to_string()),
        ];
        let differing = fields.into_iter().filter(|(_, ours, theirs)| ours != theirs);
        differing.map(|(what, ours, theirs)| format!("{what}: {ours}, now {theirs}")).collect()
    }
}

/// A run that did not pass, with everything that it takes to run it again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Artifact {
    /// [`ARTIFACT_FORMAT`].
    pub format: u32,
    /// What built the simulator.
    pub versions: Versions,
    /// The scenario's file, as it was named.
    pub scenario_file: String,
    /// The scenario's name.
    pub scenario: String,
    /// The scenario's text.
    pub scenario_text: String,
    /// The seed.
    pub seed: u64,
    /// The planted bug, if there was one.
    pub mutant: Option<String>,
    /// What the run did.
    pub plan: Plan,
    /// What it came to.
    pub verdict: Verdict,
    /// Why.
    pub violation: Option<Violation>,
    /// The digest of all its events.
    #[serde(with = "hex")]
    pub digest: u64,
    /// How many events.
    pub records: u64,
    /// Digests on the way.
    pub checkpoints: Vec<Checkpoint>,
    /// Simulated time, in seconds.
    pub sim_seconds: f64,
    /// Faults delivered.
    pub faults: BTreeMap<String, u64>,
    /// When the faults fired, and whom they hit.
    #[serde(default)]
    pub hits: Vec<Hit>,
    /// What it was before it was shrunk, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shrunk_from: Option<Size>,
    /// The last lines of the clients' history.
    pub history_tail: Vec<String>,
    /// The last events.
    pub trace_tail: Vec<Record>,
}

/// What it takes to run a run.
#[derive(Clone, Debug, PartialEq)]
pub struct RunRequest {
    /// The scenario's file, as it was named.
    pub scenario_file: String,
    /// The scenario's name.
    pub scenario: String,
    /// The scenario's text.
    pub scenario_text: String,
    /// Without random faults: every fault has to be delivered.
    pub is_scripted: bool,
    /// The seed.
    pub seed: u64,
    /// The planted bug, if there is one.
    pub mutant: Option<String>,
    /// What to do.
    pub plan: Plan,
}

/// Why an artifact cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArtifactError {
    /// The file system refused.
    #[error("{0}")]
    Io(String),
    /// It is no artifact, or a damaged one.
    #[error("{0}")]
    Malformed(String),
}

impl Artifact {
    /// What of the plan means nothing to this build, or did not come about again in `outcome`, each in words: a run
    /// without it may pass for another reason than a fix.
    pub fn unmatched(&self, outcome: &Outcome) -> Vec<String> {
        let is_known = |point: &&String| Point::ALL.iter().any(|known| known.id() == point.as_str());
        let points = self.plan.configuration.buggify.keys().filter(|point| !is_known(point));
        let mut unmatched: Vec<String> =
            points.map(|point| format!("this build has no buggify point {point}")).collect();
        let checks = self.plan.configuration.checks.iter();
        let unknown = checks.filter(|check| !oracles::ids().any(|known| known == check.as_str()));
        unmatched.extend(unknown.map(|check| format!("this build has no oracle {check}")));
        for then in &self.hits {
            let words = |hit: &Hit| format!("{} at {} ms", hit.parties.join("+"), hit.at_ms);
            match outcome.hits.iter().find(|now| now.fault == then.fault) {
                None => unmatched.push(format!("{} fired then ({}), and not now", then.fault, words(then))),
                Some(now) if now.parties != then.parties => {
                    unmatched.push(format!("{} hit {}, now {}", then.fault, words(then), words(now)));
                }
                Some(_) => {}
            }
        }
        unmatched
    }

    /// The artifact of a run.
    pub fn new(request: &RunRequest, outcome: &Outcome) -> Self {
        let history = String::from_utf8_lossy(&outcome.history);
        let lines: Vec<&str> = history.lines().collect();
        let tail = &lines[lines.len().saturating_sub(HISTORY_LINES_MAX)..];
        Self {
            format: ARTIFACT_FORMAT,
            versions: Versions::current(),
            scenario_file: request.scenario_file.clone(),
            scenario: request.scenario.clone(),
            scenario_text: request.scenario_text.clone(),
            seed: request.seed,
            mutant: request.mutant.clone(),
            plan: request.plan.clone(),
            verdict: outcome.verdict,
            violation: outcome.violation.clone(),
            digest: outcome.digest,
            records: outcome.records,
            checkpoints: outcome.checkpoints.clone(),
            sim_seconds: outcome.sim_seconds,
            faults: outcome.faults.clone(),
            hits: outcome.hits.clone(),
            shrunk_from: None,
            history_tail: tail.iter().map(|line| (*line).to_owned()).collect(),
            trace_tail: outcome.trace_tail.clone(),
        }
    }

    /// The run that this artifact is about.
    pub fn request(&self) -> Result<RunRequest, ArtifactError> {
        let scenario = crate::scenario::Scenario::parse(&self.scenario_file, &self.scenario_text)
            .map_err(|error| ArtifactError::Malformed(format!("its scenario: {error}")))?;
        Ok(RunRequest {
            scenario_file: self.scenario_file.clone(),
            scenario: self.scenario.clone(),
            scenario_text: self.scenario_text.clone(),
            is_scripted: scenario.is_scripted(),
            seed: self.seed,
            mutant: self.mutant.clone(),
            plan: self.plan.clone(),
        })
    }

    /// Writes it into `directory` under a name that says what it is.
    pub fn write_into(&self, directory: &Path) -> Result<PathBuf, ArtifactError> {
        let oracle = self.violation.as_ref().map_or(self.verdict.word(), |violation| &violation.oracle);
        let plain = |text: &str| {
            text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect::<String>()
        };
        let name = format!("{}-{}-{}.json", plain(&self.scenario), self.seed, plain(oracle));
        let path = directory.join(name);
        std::fs::create_dir_all(directory)
            .map_err(|error| ArtifactError::Io(format!("{}: {error}", directory.display())))?;
        self.write(&path)?;
        Ok(path)
    }

    /// Writes it to `path`.
    pub fn write(&self, path: &Path) -> Result<(), ArtifactError> {
        let named = |error: String| ArtifactError::Io(format!("{}: {error}", path.display()));
        let text = serde_json::to_string_pretty(self).map_err(|error| named(error.to_string()))?;
        std::fs::write(path, text + "\n").map_err(|error| named(error.to_string()))
    }

    /// Reads an artifact.
    pub fn read(path: &Path) -> Result<Self, ArtifactError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ArtifactError::Io(format!("{}: {error}", path.display())))?;
        Self::parse(&text).map_err(|reason| ArtifactError::Malformed(format!("{}{reason}", path.display())))
    }

    fn parse(text: &str) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        let at = |error: serde_json::Error| {
            format!(":{}:{}: not an artifact: {error}", error.line(), error.column())
        };
        let head: Head = serde_json::from_str(text).map_err(at)?;
        if head.format != ARTIFACT_FORMAT {
            let found = head.format;
            return Err(format!(
                ": format {found}, this eraft-sim reads {ARTIFACT_FORMAT}: use the one that wrote it"
            ));
        }
        serde_json::from_str(text).map_err(at)
    }

    /// Compares a run again with the first time; `None`: the same.
    pub fn difference(&self, again: &Outcome) -> Option<Difference> {
        if (self.digest, self.records) == (again.digest, again.records) {
            return None;
        }
        // Both checkpoint at the same places unless one ran on for much longer; compare those that both have.
        let ours = |records: u64| self.checkpoints.iter().find(|checkpoint| checkpoint.records == records);
        let mut same_until = 0;
        for theirs in &again.checkpoints {
            match ours(theirs.records) {
                Some(checkpoint) if checkpoint.digest == theirs.digest => same_until = theirs.records,
                _ => {}
            }
        }
        let first_of = |records: u64, tail: &[Record]| records - tail.len() as u64;
        let (start, again_start) =
            (first_of(self.records, &self.trace_tail), first_of(again.records, &again.trace_tail));
        let overlap = start.max(again_start);
        let skip = |tail: &[Record], start: u64| {
            tail.iter()
                .skip(usize::try_from(overlap - start).unwrap_or(usize::MAX))
                .cloned()
                .collect::<Vec<_>>()
        };
        let (left, right) = (skip(&self.trace_tail, start), skip(&again.trace_tail, again_start));
        // An overlap that differs at its first event says nothing: the first difference may be before it.
        let equal = left.iter().zip(&right).take_while(|(left, right)| left.same(right)).count();
        let known = overlap == 0 || equal > 0;
        Some(Difference {
            same_until: if known { overlap + equal as u64 } else { same_until },
            first: known.then(|| (left.get(equal).cloned(), right.get(equal).cloned())),
        })
    }
}

/// Where a run went another way than the first time.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// So many events are the same for certain.
    pub same_until: u64,
    /// The first event that differs, then and now (`None`: the run was over), if the artifact's tail reaches it.
    pub first: Option<(Option<Record>, Option<Record>)>,
}
