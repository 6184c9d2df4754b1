//! The digest of a run: xxh3-64 over its records, streamed.
//!
//! Two runs with one digest did the same. Only canonical bytes go in (never log text, task ids, addresses or
//! formatted floats), each with its length before it, so that no two sequences of records have one image.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use crate::trace::TRACE_VERSION;

/// A checkpoint is kept at least every this many records.
const CHECKPOINT_RECORDS_MIN: u64 = 256;
/// Checkpoints kept at most; when there are more, every second one goes and their distance doubles.
const CHECKPOINTS_MAX: usize = 256;

/// The digest after so many records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// How many records.
    pub records: u64,
    /// The digest after them.
    #[serde(with = "hex")]
    pub digest: u64,
}

/// Streams a digest; its size does not depend on the length of the run.
#[derive(Clone)]
pub struct Digest {
    hash: Xxh3,
    records: u64,
    distance: u64,
    checkpoints: Vec<Checkpoint>,
}

impl Default for Digest {
    fn default() -> Self {
        let mut hash = Xxh3::new();
        hash.update(&TRACE_VERSION.to_le_bytes());
        Self { hash, records: 0, distance: CHECKPOINT_RECORDS_MIN, checkpoints: Vec::new() }
    }
}

impl Digest {
    /// Takes in one record.
    pub fn update(&mut self, at_ns: u64, node: &str, kind: &str, payload: &[u8]) {
        self.hash.update(&at_ns.to_le_bytes());
        for part in [node.as_bytes(), kind.as_bytes(), payload] {
            self.hash.update(&(part.len() as u64).to_le_bytes());
            self.hash.update(part);
        }
        self.records += 1;
        if self.records.is_multiple_of(self.distance) {
            self.checkpoint();
        }
    }

    fn checkpoint(&mut self) {
        self.checkpoints.push(Checkpoint { records: self.records, digest: self.value() });
        if self.checkpoints.len() > CHECKPOINTS_MAX {
            self.distance *= 2;
            self.checkpoints.retain(|checkpoint| checkpoint.records.is_multiple_of(self.distance));
        }
    }

    /// The digest of what was taken in so far.
    pub fn value(&self) -> u64 {
        self.hash.digest()
    }

    /// How many records were taken in.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Where two runs can be compared without their traces.
    pub fn checkpoints(&self) -> &[Checkpoint] {
        &self.checkpoints
    }
}

/// A digest as people and JSON see it: 16 hex digits.
pub mod hex {
    use serde::{Deserialize, Deserializer, Serializer};

    /// 16 hex digits.
    pub fn text(digest: u64) -> String {
        format!("{digest:016x}")
    }

    /// For serde.
    pub fn serialize<S: Serializer>(digest: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&text(*digest))
    }

    /// For serde.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = String::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(records: &[(u64, &str, &str, &[u8])]) -> u64 {
        let mut digest = Digest::default();
        for (at, node, kind, payload) in records {
            digest.update(*at, node, kind, payload);
        }
        digest.value()
    }

    #[test]
    fn every_part_of_a_record_counts_and_where_it_ends_counts_too() {
        let one = digest(&[(1, "n1", "step", b"ab")]);
        assert_eq!(one, digest(&[(1, "n1", "step", b"ab")]));
        for other in [
            digest(&[(2, "n1", "step", b"ab")]),
            digest(&[(1, "n2", "step", b"ab")]),
            digest(&[(1, "n1", "apply", b"ab")]),
            digest(&[(1, "n1", "step", b"ac")]),
            digest(&[(1, "n1", "stepa", b"b")]),
            digest(&[(1, "n1", "step", b"ab"), (1, "n1", "step", b"ab")]),
        ] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn checkpoints_are_bounded_and_agree_with_the_digest_at_their_place() {
        let mut long = Digest::default();
        let mut at = std::collections::BTreeMap::new();
        for record in 0..200_000u64 {
            long.update(record, "n1", "step", b"");
            at.insert(record + 1, long.value());
        }
        assert!(
            long.checkpoints().len() <= CHECKPOINTS_MAX && long.checkpoints().len() > CHECKPOINTS_MAX / 4
        );
        assert!(long.checkpoints().iter().all(|checkpoint| at[&checkpoint.records] == checkpoint.digest));
    }
}
