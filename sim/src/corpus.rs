//! The corpus: artifacts that are run again for ever.
//!
//! Of healthy code an artifact is a bug that was fixed: its plan has to pass now. Of a planted bug it is a schedule that
//! is worth keeping: it has to fail as it did. Either way the plan is applied as it is, whatever a seed means today.

use std::path::{Path, PathBuf};

use crate::artifact::{Artifact, ArtifactError};
use crate::outcome::{Outcome, Verdict};
use crate::runner::{self, Internal, RunOptions, Simulate};

/// One artifact of the corpus.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Where it is.
    pub path: PathBuf,
    /// What it is.
    pub artifact: Artifact,
}

impl Entry {
    /// What makes two entries the same finding: planted bug and fingerprint. Two findings of healthy code are two bugs
    /// as long as nobody says otherwise, so these also count their seed.
    pub fn finding(&self) -> (Option<String>, String, Option<u64>) {
        let Artifact { mutant, violation, seed, .. } = &self.artifact;
        let fingerprint =
            violation.as_ref().map(|violation| violation.fingerprint.clone()).unwrap_or_default();
        (mutant.clone(), fingerprint, mutant.is_none().then_some(*seed))
    }

    /// How much its run does.
    pub fn weight(&self) -> usize {
        let plan = &self.artifact.plan;
        plan.faults.len() + plan.operations.iter().map(Vec::len).sum::<usize>()
    }

    /// Runs it again: what is wrong with the outcome, if anything is.
    pub fn run(&self, simulate: Simulate) -> Result<Result<Outcome, String>, Internal> {
        let request = self.artifact.request().map_err(|error| Internal(error.to_string()))?;
        let outcome = runner::run(simulate, &request, &RunOptions::default())?;
        let found = outcome.violation.as_ref();
        let words =
            |violation: &crate::outcome::Violation| format!("{}: {}", violation.oracle, violation.message);
        let wrong = match &self.artifact.mutant {
            None => (outcome.verdict != Verdict::Pass).then(|| found.map_or_else(String::new, words)),
            Some(mutant) => {
                let wanted = self.artifact.violation.as_ref().map(|violation| violation.fingerprint.as_str());
                let is_same = found.map(|violation| violation.fingerprint.as_str()) == wanted;
                let found = found.map_or_else(|| outcome.verdict.word().to_owned(), words);
                (!is_same).then(|| {
                    format!("{mutant} is no longer found as {}: {found}", wanted.unwrap_or("nothing"))
                })
            }
        };
        Ok(wrong.map_or(Ok(outcome), Err))
    }
}

/// All entries below `directory`, by name.
pub fn entries(directory: &Path) -> Result<Vec<Entry>, ArtifactError> {
    let named = |error: std::io::Error| ArtifactError::Io(format!("{}: {error}", directory.display()));
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(named)? {
        let path = entry.map_err(named)?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            paths.push(path);
        }
    }
    paths.sort();
    let read = |path: PathBuf| Artifact::read(&path).map(|artifact| Entry { path, artifact });
    paths.into_iter().map(read).collect()
}

/// Puts `artifact` into the corpus, without what a run makes anew.
pub fn add(directory: &Path, artifact: &Artifact) -> Result<PathBuf, ArtifactError> {
    let mut small = artifact.clone();
    small.trace_tail.clear();
    small.history_tail.clear();
    small.checkpoints.clear();
    small.write_into(directory)
}

/// Entries whose finding another one shows with less.
pub fn redundant(entries: &[Entry]) -> Vec<&Entry> {
    let is_better = |other: &Entry, entry: &Entry| {
        other.finding() == entry.finding() && (other.weight(), &other.path) < (entry.weight(), &entry.path)
    };
    entries.iter().filter(|entry| entries.iter().any(|other| is_better(other, entry))).collect()
}

#[cfg(all(test, madsim))]
mod tests {
    use super::*;
    use crate::fuzz::Source;

    fn found(mutant: Option<&str>, seed: u64) -> Artifact {
        let scenario = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/short.toml");
        let request = Source::read(&scenario).unwrap().request(seed, mutant);
        let outcome = runner::run(crate::world::run, &request, &RunOptions::default()).unwrap();
        Artifact::new(&request, &outcome)
    }

    #[test]
    fn a_fixed_bug_has_to_pass_and_a_planted_one_to_fail_as_it_did() {
        let directory = tempfile::tempdir().unwrap();
        let mutant = "replication.quorum_off_by_one";
        let planted = found(Some(mutant), 0);
        assert_eq!(planted.verdict, Verdict::Fail);
        // A bug of the past: what failed then passes now.
        let mut fixed = found(None, 1);
        fixed.violation.clone_from(&planted.violation);
        add(directory.path(), &planted).unwrap();
        add(directory.path(), &fixed).unwrap();
        let entries = entries(directory.path()).unwrap();
        assert_eq!(entries.len(), 2);
        for entry in &entries {
            assert!(entry.artifact.trace_tail.is_empty());
            entry.run(crate::world::run).unwrap().unwrap_or_else(|wrong| panic!("{wrong}"));
        }
        let cured = Entry { artifact: Artifact { mutant: None, ..planted.clone() }, path: PathBuf::new() };
        assert!(cured.run(crate::world::run).unwrap().is_ok());
        let other =
            Entry { artifact: Artifact { mutant: Some(mutant.to_owned()), ..fixed }, path: PathBuf::new() };
        assert!(other.run(crate::world::run).unwrap().is_ok(), "another seed shows the same bug");
        let mut wrong = planted;
        wrong.violation = Some(crate::outcome::Violation::new("raft.monotonic", "something else"));
        let wrong = Entry { artifact: wrong, path: PathBuf::new() };
        assert!(wrong.run(crate::world::run).unwrap().is_err());
    }

    #[test]
    fn of_two_that_show_the_same_the_smaller_one_is_kept() {
        let entry = |name: &str, mutant: Option<&str>, seed, faults: usize| {
            let mut artifact = found(None, seed);
            artifact.mutant = mutant.map(str::to_owned);
            artifact.plan.operations.clear();
            artifact.plan.faults.truncate(faults);
            Entry { path: PathBuf::from(name), artifact }
        };
        let entries = [
            entry("a", Some("kv.no_dedup"), 1, 2),
            entry("b", Some("kv.no_dedup"), 2, 1),
            entry("c", Some("election.vote_twice"), 3, 2),
            entry("d", None, 4, 2),
            entry("e", None, 5, 1),
        ];
        let names: Vec<_> =
            redundant(&entries).iter().map(|entry| entry.path.display().to_string()).collect();
        assert_eq!(names, ["a"]);
    }
}
