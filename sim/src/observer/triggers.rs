//! Moments that faults may wait for: tells whoever waits that one has come, and on which node.

use eraft::raft::{Body, Effect, Input};
use eraft::types::NodeId;

use super::State;
use crate::invariants::shards::Turn;
use crate::scenario::Trigger;

impl State {
    pub(super) fn step_triggers(
        &mut self,
        node: NodeId,
        input: Option<&Input>,
        effects: &[Effect],
        is_new_leader: bool,
    ) {
        if self.waiting.is_empty() {
            return;
        }
        if is_new_leader {
            self.fire(Trigger::Election, node);
        }
        if matches!(input, Some(Input::Persisted(_))) {
            self.fire(Trigger::Sync, node);
        }
        for effect in effects {
            match effect {
                Effect::Send { message, .. } if message.body == (Body::VoteReply { granted: true }) => {
                    self.fire(Trigger::Vote, node);
                }
                // Sent, or about to be installed: it is installed some writes later.
                Effect::SendSnapshot { .. } | Effect::InstallSnapshot { .. } => {
                    self.fire(Trigger::Snapshot, node);
                }
                _ => {}
            }
        }
    }

    pub(super) fn fire(&mut self, trigger: Trigger, node: NodeId) {
        for waiter in self.waiting.remove(&trigger).unwrap_or_default() {
            // Whoever waited may be gone: the phase is over.
            let _ = waiter.send(node);
        }
    }
}

/// The trigger for what happened to a shard.
pub(super) fn of(turn: Turn) -> Trigger {
    match turn {
        Turn::Config => Trigger::Config,
        Turn::Arrival => Trigger::Arrival,
        Turn::Release => Trigger::Release,
        Turn::Deletion => Trigger::Deletion,
    }
}
