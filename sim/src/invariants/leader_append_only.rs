//! A leader never changes or removes an entry of its log (Raft, figure 3).

use eraft::raft::Effect;

use super::{Invariant, Kind, Step, Violation};

const ID: &str = "raft.leader_append_only";

/// Looks at what a leader writes.
#[derive(Default)]
pub struct LeaderAppendOnly {
    judged: u64,
}

impl Invariant for LeaderAppendOnly {
    fn id(&self) -> &'static str {
        ID
    }

    fn step(&mut self, step: &Step<'_>) -> Result<(), Violation> {
        let Kind::Stepped { effects, raft, .. } = step.kind else { return Ok(()) };
        if !step.me.led_throughout() {
            return Ok(());
        }
        for effect in effects {
            match effect {
                Effect::Persist(persist) => {
                    self.judged += 1;
                    if let Some(from) = persist.truncate {
                        let message = format!("removes the entries from {from} on while it leads");
                        return Err(step.violation(ID, "a leader truncated its log", message));
                    }
                }
                Effect::InstallSnapshot { base } => {
                    let at = base.position.index;
                    let message = format!("replaces its state by a snapshot at {at} while it leads");
                    return Err(step.violation(ID, "a leader installed a snapshot", message));
                }
                _ => {}
            }
        }
        let (written, held) = (step.me.memory.last(), raft.log().last());
        if written != held {
            let message = format!("holds a log up to {held:?}, but wrote one up to {written:?}");
            return Err(step.violation(ID, "a log changed without a write", message));
        }
        Ok(())
    }

    fn judged(&self) -> u64 {
        self.judged
    }
}
