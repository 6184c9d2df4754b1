//! What a run came to.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::coverage::Coverage;
use crate::digest::{Checkpoint, hex};
use crate::trace::Record;

/// The judgement of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Every oracle holds.
    Pass,
    /// One does not.
    Fail,
    /// An oracle could not decide within its budget. Not a pass.
    Undecided,
    /// A scripted fault was not delivered, or an oracle judged nothing.
    Vacuous,
}

impl Verdict {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Fail => "fail",
            Verdict::Undecided => "undecided",
            Verdict::Vacuous => "vacuous",
        }
    }
}

/// A property that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// Which oracle said so.
    pub oracle: String,
    /// What makes two violations the same finding: the oracle and its message without numbers.
    pub fingerprint: String,
    /// What was seen.
    pub message: String,
}

impl Violation {
    /// A violation of `oracle`.
    pub fn new(oracle: &str, message: impl Into<String>) -> Self {
        let message = message.into();
        // Indexes, terms, values and addresses differ from seed to seed, and they all have digits.
        let has_digit = |word: &&str| word.chars().any(|character| character.is_ascii_digit());
        let words: Vec<&str> = message.split_whitespace().filter(|word| !has_digit(word)).collect();
        let fingerprint = format!("{oracle}:{}", hex::text(xxh3_64(words.join(" ").as_bytes())));
        Self { oracle: oracle.to_owned(), fingerprint, message }
    }
}

/// When a fault fired, and whom it hit: roles and chance are decided on the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hit {
    /// The fault's name in the plan.
    pub fault: String,
    /// Milliseconds after the start.
    pub at_ms: u64,
    /// `n1`, `c2`.
    pub parties: Vec<String>,
}

/// Everything that one run leaves.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The judgement.
    pub verdict: Verdict,
    /// Why it is not a pass.
    pub violation: Option<Violation>,
    /// The digest of all events.
    pub digest: u64,
    /// How many events.
    pub records: u64,
    /// Digests on the way.
    pub checkpoints: Vec<Checkpoint>,
    /// The last events.
    pub trace_tail: Vec<Record>,
    /// The clients' history, as JSON Lines.
    pub history: Vec<u8>,
    /// Simulated time, in seconds.
    pub sim_seconds: f64,
    /// Real time, in seconds.
    pub wall_seconds: f64,
    /// What it took of a processor, in seconds: other work on the machine does not count.
    pub core_seconds: f64,
    /// Client operations that were begun.
    pub operations: u64,
    /// Faults delivered, by id of their kind.
    pub faults: BTreeMap<String, u64>,
    /// Points of the product's code that were forced, and how often.
    pub buggify: BTreeMap<String, u64>,
    /// How often each oracle judged something.
    pub judged: BTreeMap<String, u64>,
    /// From the end of the faults to a leader that the healthy majority follows, in milliseconds.
    pub leader_after_ms: Option<u64>,
    /// States of the protocol that it reached.
    pub coverage: Coverage,
    /// It went through all its phases: what it violates was judged at the end.
    pub is_complete: bool,
    /// Shards that arrived at another group.
    pub migrations: u64,
    /// The faults that fired, in order.
    pub hits: Vec<Hit>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn violations_that_differ_in_numbers_only_are_one_finding() {
        let one = Violation::new("raft.election_safety", "n1 and n2 both lead term 3");
        let other = Violation::new("raft.election_safety", "n3 and n1 both lead term 17");
        assert_eq!(one.fingerprint, other.fingerprint);
        let different = Violation::new("raft.election_safety", "n1 and n2 both follow term 3");
        assert_ne!(one.fingerprint, different.fingerprint);
        assert_ne!(
            one.fingerprint,
            Violation::new("raft.vote_once", "n1 and n2 both lead term 3").fingerprint
        );
    }
}
