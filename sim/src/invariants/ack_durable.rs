//! What a follower acknowledges is durable before the acknowledgement may leave (Raft, section 5.3), and what a
//! leader commits by counting is durable at a quorum at that moment, the leader itself included (dissertation,
//! section 10.2.1). Nor is anything applied that is not durable where it is applied.

use eraft::raft::{Body, Effect};

use super::facts::quorum_holds;
use super::{Invariant, Kind, Step, Violation};

const ID: &str = "raft.ack_durable";

/// Compares acknowledgements and commits with the disks.
#[derive(Default)]
pub struct AckDurable {
    judged: u64,
}

impl AckDurable {
    fn acknowledgements(&mut self, step: &Step<'_>, effects: &[Effect]) -> Result<(), Violation> {
        for effect in effects {
            let Effect::Send { to, message, after } = effect else { continue };
            let Body::AppendAccepted { matched } = message.body else { continue };
            self.judged += 1;
            let durable = step.me.last_durable_after(*after);
            if matched > durable {
                let text = format!("may acknowledge {matched} to {to} while its disk ends at {durable}");
                return Err(step.violation(ID, "an acknowledgement left before its write", text));
            }
        }
        Ok(())
    }
}

impl Invariant for AckDurable {
    fn id(&self) -> &'static str {
        ID
    }

    fn step(&mut self, step: &Step<'_>) -> Result<(), Violation> {
        let me = step.me;
        match step.kind {
            Kind::Opened { .. } => {
                let Some(reopened) = me.reopened else { return Ok(()) };
                self.judged += 1;
                if !reopened.log_kept {
                    let (found, durable) = (me.durable.last(), reopened.last_durable);
                    let message = format!("came back with a log up to {found:?}; {durable:?} was durable");
                    return Err(step.violation(ID, "a durable entry was lost", message));
                }
            }
            Kind::Stepped { effects, raft, .. } => {
                self.acknowledgements(step, effects)?;
                let durable = me.last_durable_after(None).max(me.installing);
                if me.now.applying > durable {
                    let message = format!("applies {} while its disk ends at {durable}", me.now.applying);
                    return Err(step.violation(ID, "the state ran ahead of the log", message));
                }
                if me.now.commit > me.before.commit && me.now.leads {
                    self.judged += 1;
                    let commit = me.now.commit;
                    let prefix = me.memory.prefix_at(commit).unwrap_or_default();
                    if !quorum_holds(step.facts, raft.membership(), commit, prefix) {
                        let message = format!("commits {commit}, which is not durable at a quorum");
                        return Err(step.violation(ID, "committed without a durable quorum", message));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn judged(&self) -> u64 {
        self.judged
    }
}
