//! Only committed positions are installed, and there is never a gap between the state and the log (dissertation,
//! chapter 5).

use eraft::raft::{Effect, Position};

use super::{Invariant, Kind, Step, Violation};

const ID: &str = "raft.snapshot";

/// Compares bases and installed snapshots with what is committed.
#[derive(Default)]
pub struct Snapshot {
    judged: u64,
}

impl Snapshot {
    fn committed(&mut self, step: &Step<'_>, position: Position, what: &str) -> Result<(), Violation> {
        let ledger = &step.facts.ledger;
        if position.index.0 == 0
            || (position.index <= ledger.before && ledger.committed.is_below(position.index))
        {
            return Ok(());
        }
        self.judged += 1;
        // What the node itself takes for committed in this step proves nothing.
        let known = ledger.committed.get(position.index).filter(|_| position.index <= ledger.before);
        let committed = known.map(|committed| committed.link.term);
        if committed == Some(position.term) {
            return Ok(());
        }
        let message = match committed {
            Some(term) => format!("{what} {position:?}, where an entry of term {term} is committed"),
            None => format!("{what} {position:?}, which is not committed"),
        };
        Err(step.violation(ID, "a position that is not committed", message))
    }
}

impl Invariant for Snapshot {
    fn id(&self) -> &'static str {
        ID
    }

    fn step(&mut self, step: &Step<'_>) -> Result<(), Violation> {
        let (raft, state) = match step.kind {
            Kind::Stepped { effects, raft, .. } => {
                for effect in effects {
                    match effect {
                        Effect::InstallSnapshot { base } => {
                            self.committed(step, base.position, "installs a snapshot at")?;
                        }
                        Effect::Persist(persist) => {
                            if let Some(base) = &persist.base {
                                self.committed(step, base.position, "starts its log after")?;
                            }
                        }
                        _ => {}
                    }
                }
                (raft, raft.applying())
            }
            Kind::Opened { raft, applied, .. } => (raft, applied.index),
            _ => return Ok(()),
        };
        let base = raft.log().base().index;
        if base > state && !(step.me.state_is_bad && raft.lacks_state()) {
            let message = format!("its log starts after {base}, its state ends at {state}");
            return Err(step.violation(ID, "a gap between state and log", message));
        }
        Ok(())
    }

    fn judged(&self) -> u64 {
        self.judged
    }
}
