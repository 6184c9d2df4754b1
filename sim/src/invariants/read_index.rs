//! A linearizable read returns nothing older than what was committed, anywhere, when it came (dissertation,
//! section 6.4).

use std::collections::BTreeMap;

use eraft::raft::{Effect, Input, RequestId};
use eraft::types::{Index, NodeId};

use super::{Invariant, Kind, Step, Violation};

const ID: &str = "raft.read_index";

/// Remembers for each read what was committed when it came.
#[derive(Default)]
pub struct ReadIndex {
    reads: BTreeMap<(NodeId, RequestId), Index>,
    judged: u64,
}

impl Invariant for ReadIndex {
    fn id(&self) -> &'static str {
        ID
    }

    fn step(&mut self, step: &Step<'_>) -> Result<(), Violation> {
        let node = step.node;
        let (input, effects) = match step.kind {
            Kind::Stepped { input, effects, .. } => (input, effects),
            Kind::Opened { .. } => {
                self.reads.retain(|(reader, _), _| *reader != node);
                return Ok(());
            }
            _ => return Ok(()),
        };
        if let Input::Read(id) = input {
            self.reads.insert((node, *id), step.facts.ledger.before);
        }
        for effect in effects {
            match effect {
                Effect::ReadReady { id, index } => {
                    let Some(committed) = self.reads.remove(&(node, *id)) else {
                        let message = format!("answers read {}, which nobody asked for", id.0);
                        return Err(step.violation(ID, "a read was answered twice", message));
                    };
                    self.judged += 1;
                    if *index < committed {
                        let message =
                            format!("reads at {index}, {committed} was committed when the read came");
                        return Err(step.violation(ID, "a stale read", message));
                    }
                }
                Effect::Refused { id, .. } => {
                    self.reads.remove(&(node, *id));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn judged(&self) -> u64 {
        self.judged
    }
}
