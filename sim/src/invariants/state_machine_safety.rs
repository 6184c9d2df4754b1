//! No two nodes commit or apply different entries at one index (Raft, figure 3), and the same entries lead to the
//! same state.

use std::collections::BTreeMap;

use eraft::types::{Index, NodeId};

use super::chain::{Table, hash_entry};
use super::{Invariant, Kind, Step, Violation};

const ID: &str = "raft.state_machine_safety";

/// States remembered at most; a node that lags further behind is compared by its entries alone.
const STATES_MAX: u64 = 1 << 16;

/// Compares what nodes commit and apply with what the others did.
#[derive(Default)]
pub struct StateMachineSafety {
    applied: BTreeMap<NodeId, Index>,
    states: Table<u64>,
    judged: u64,
}

impl StateMachineSafety {
    fn state(&mut self, step: &Step<'_>, index: Index, hash: u64) -> Result<(), Violation> {
        if let Some(known) = self.states.get(index) {
            self.judged += 1;
            if *known != hash {
                let message =
                    format!("its state at {index} has hash {hash:016x}, elsewhere it is {known:016x}");
                return Err(step.violation(ID, "two states at one index differ", message));
            }
        } else if index == self.states.last().next() {
            self.states.push(hash);
            self.states.forget_below(Index(index.0.saturating_sub(STATES_MAX)));
        } else if index > self.states.last() {
            self.states.restart_at(index);
            self.states.push(hash);
        }
        Ok(())
    }
}

impl Invariant for StateMachineSafety {
    fn id(&self) -> &'static str {
        ID
    }

    fn step(&mut self, step: &Step<'_>) -> Result<(), Violation> {
        match step.kind {
            Kind::Opened { applied, .. } => {
                self.applied.insert(step.node, applied.index);
            }
            Kind::Stepped { .. } => {
                self.judged += u64::from(step.me.now.commit > step.me.before.commit);
            }
            Kind::Applied { entry, replica_hash } => {
                let last = self.applied.entry(step.node).or_default();
                if entry.index != last.next() {
                    let message = format!("applies entry {} after {last}", entry.index);
                    return Err(step.violation(ID, "entries applied out of order", message));
                }
                *last = entry.index;
                match step.facts.ledger.committed.get(entry.index) {
                    Some(committed) if committed.link.entry == hash_entry(entry) => self.judged += 1,
                    Some(committed) => {
                        let message = format!(
                            "applies entry {} of term {}; the one committed there has term {}",
                            entry.index, entry.term, committed.link.term
                        );
                        return Err(step.violation(ID, "two nodes applied different entries", message));
                    }
                    None if step.facts.ledger.committed.is_below(entry.index) => {}
                    None => {
                        let message = format!("applies entry {}, which nobody has committed", entry.index);
                        return Err(step.violation(ID, "an uncommitted entry was applied", message));
                    }
                }
                self.state(step, entry.index, replica_hash)?;
            }
            Kind::SnapshotInstalled { applied, replica_hash } => {
                self.applied.insert(step.node, applied.index);
                self.state(step, applied.index, replica_hash)?;
            }
            Kind::Flushed { .. } => {}
        }
        if let Some(conflict) = step.facts.ledger.conflict {
            let message = format!(
                "commits entry {} of term {}; the one committed there has term {}",
                conflict.index, conflict.ours, conflict.committed
            );
            return Err(step.violation(ID, "two nodes committed different entries", message));
        }
        Ok(())
    }

    fn judged(&self) -> u64 {
        self.judged
    }
}
