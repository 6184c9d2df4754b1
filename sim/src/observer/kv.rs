//! The invariants of the key-value group that need the applied entries: replicas that are equal, and requests that
//! take effect once.

use std::collections::BTreeMap;

use eraft::proto::kv::{Command, Mutation, command};
use eraft::raft::{Entry, Payload, Position};
use eraft::types::{Index, NodeId};
use eraft::view::Batch;
use prost::Message as _;

use crate::outcome::Violation;

/// State hashes that are kept for comparison; a replica that comes later than that is compared by its next entries.
const HASHES_MAX: usize = 100_000;

/// The keys of users' values, and of controllers' configs, begin so; what else a machine writes is its own bookkeeping.
const EFFECT_PREFIXES: [&[u8]; 2] = [b"k/", b"c/"];

/// kv.replicas_equal: two replicas that have applied the same index have the same hash.
#[derive(Default)]
pub(super) struct Replicas {
    hashes: BTreeMap<Index, (u64, NodeId)>,
    pub(super) judged: u64,
}

impl Replicas {
    /// `node` has applied up to `at` and has this hash.
    pub(super) fn compare(&mut self, node: NodeId, at: Position, hash: u64) -> Result<(), Violation> {
        if at.index == Index(0) {
            return Ok(());
        }
        match self.hashes.get(&at.index) {
            Some((other_hash, other)) => {
                self.judged += u64::from(*other != node);
                if *other_hash != hash {
                    let message = format!(
                        "{node} and {other} have applied index {} and hold different states ({hash:016x}, \
                         {other_hash:016x})",
                        at.index
                    );
                    return Err(Violation::new("kv.replicas_equal", message));
                }
            }
            None => {
                self.hashes.insert(at.index, (hash, node));
                if self.hashes.len() > HASHES_MAX {
                    self.hashes.pop_first();
                }
            }
        }
        Ok(())
    }
}

/// Is it what a client asked for? Controllers forget old configs on the way.
fn is_effect(key: &[u8], is_put: bool) -> bool {
    key.starts_with(EFFECT_PREFIXES[0]) || (is_put && key.starts_with(EFFECT_PREFIXES[1]))
}

/// kv.exactly_once: of all entries that carry one (session, number), at most one writes a user's key.
#[derive(Default)]
pub(super) struct ExactlyOnce {
    executed: BTreeMap<(u64, u64, u64), Index>,
    /// What took effect, in that order.
    pub(super) effects: Vec<(Index, Mutation)>,
    /// Entries up to here were looked at; all replicas apply the same ones.
    seen: Index,
    pub(super) judged: u64,
}

impl ExactlyOnce {
    /// `entry` was applied and wrote `batch`.
    pub(super) fn applied(&mut self, entry: &Entry, batch: &Batch) -> Result<(), Violation> {
        if entry.index <= self.seen {
            return Ok(());
        }
        self.seen = entry.index;
        let Payload::Command(bytes) = &entry.payload else { return Ok(()) };
        let Ok(Command { operation: Some(command::Operation::Execute(execute)), .. }) =
            Command::decode(bytes.as_ref())
        else {
            return Ok(());
        };
        self.judged += 1;
        if !batch.writes.iter().any(|(key, value)| is_effect(key, value.is_some())) {
            return Ok(());
        }
        let client = execute.client.unwrap_or_default();
        let number = (client.high, client.low, execute.sequence);
        match self.executed.insert(number, entry.index) {
            Some(first) if first != entry.index => {
                let message = format!(
                    "number {} of session {:016x}{:016x} took effect at index {first} and again at index {}",
                    execute.sequence, client.high, client.low, entry.index
                );
                Err(Violation::new("kv.exactly_once", message))
            }
            Some(_) => Ok(()),
            None => {
                self.effects.extend(execute.mutation.map(|mutation| (entry.index, mutation)));
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eraft::proto::kv::{ClientId, Execute};
    use eraft::types::Term;

    fn entry(index: u64, sequence: u64) -> Entry {
        let client = Some(ClientId { high: 1, low: 2 });
        let execute = Execute { client, sequence, acknowledged_below: 0, mutation: None };
        let command =
            Command { time_ms: 0, limits: None, operation: Some(command::Operation::Execute(execute)) };
        Entry {
            index: Index(index),
            term: Term(1),
            payload: Payload::Command(command.encode_to_vec().into()),
        }
    }

    fn writes(key: &str) -> Batch {
        let mut batch = Batch::new();
        batch.put(key.as_bytes().to_vec(), b"v".to_vec());
        batch
    }

    #[test]
    fn a_number_that_writes_twice_is_a_violation_and_one_that_only_answers_is_not() {
        let mut once = ExactlyOnce::default();
        once.applied(&entry(1, 7), &writes("k/a")).unwrap();
        once.applied(&entry(1, 7), &writes("k/a")).unwrap(); // another replica
        once.applied(&entry(2, 7), &writes("s/session")).unwrap();
        once.applied(&entry(3, 8), &writes("k/a")).unwrap();
        let violation = once.applied(&entry(4, 7), &writes("k/a")).unwrap_err();
        assert_eq!(violation.oracle, "kv.exactly_once");
        assert!(violation.message.contains("index 1 and again at index 4"), "{}", violation.message);
    }

    #[test]
    fn replicas_differ_only_at_the_same_index() {
        let mut replicas = Replicas::default();
        let at = |index| Position { index: Index(index), term: Term(1) };
        replicas.compare(NodeId(1), at(1), 10).unwrap();
        replicas.compare(NodeId(2), at(1), 10).unwrap();
        replicas.compare(NodeId(1), at(2), 20).unwrap();
        assert_eq!(replicas.judged, 1);
        assert_eq!(replicas.compare(NodeId(2), at(2), 21).unwrap_err().oracle, "kv.replicas_equal");
    }
}
