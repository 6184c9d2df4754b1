//! A member is told to take over only if it holds everything that its leader holds, and the leader takes no proposals
//! meanwhile (dissertation, section 3.10). Otherwise the member loses its election, and the group is without a leader.

use std::collections::BTreeSet;

use eraft::raft::{Body, Effect, Input, Role};
use eraft::types::NodeId;

use super::{Invariant, Kind, Step, Violation};

const ID: &str = "raft.transfer";

/// Remembers who is transferring leadership.
#[derive(Default)]
pub struct Transfer {
    transferring: BTreeSet<NodeId>,
    judged: u64,
}

impl Invariant for Transfer {
    fn id(&self) -> &'static str {
        ID
    }

    fn step(&mut self, step: &Step<'_>) -> Result<(), Violation> {
        let (input, effects, raft) = match step.kind {
            Kind::Stepped { input, effects, raft } => (input, effects, raft),
            Kind::Opened { .. } => {
                self.transferring.remove(&step.node);
                return Ok(());
            }
            _ => return Ok(()),
        };
        match input {
            Input::Propose(_) => {
                self.judged += 1;
                let taken = effects.iter().any(|effect| matches!(effect, Effect::Proposed { .. }));
                if taken && self.transferring.contains(&step.node) {
                    let message = "takes a proposal while leadership is on its way to another".to_owned();
                    return Err(step.violation(ID, "a proposal was taken during a transfer", message));
                }
            }
            Input::Transfer { .. } if matches!(raft.role(), Role::Leader(leader) if leader.transfer.is_some()) =>
            {
                self.transferring.insert(step.node);
            }
            _ => {}
        }
        for effect in effects {
            match effect {
                Effect::TransferEnded { .. } => {
                    self.transferring.remove(&step.node);
                }
                Effect::Send { to, message, .. } if message.body == Body::TimeoutNow => {
                    self.judged += 1;
                    let Role::Leader(leader) = raft.role() else { continue };
                    let matched = leader.progress.get(to).map(|progress| progress.matched);
                    let last = raft.log().last().index;
                    if matched != Some(last) || !raft.membership().is_voter(*to) {
                        let message = format!("tells {to} to lead, which holds {matched:?} of {last}");
                        return Err(step.violation(
                            ID,
                            "a member was told to lead that lacks entries",
                            message,
                        ));
                    }
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
