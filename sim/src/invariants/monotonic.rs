//! Term, commit index and applied index never go back within an incarnation; the term and the durable state not
//! even over a restart (Raft, figure 2).

use std::collections::BTreeMap;

use eraft::types::{Index, NodeId, Term};

use super::{Invariant, Kind, Step, Violation};

const ID: &str = "raft.monotonic";

/// Remembers what is durable at each node.
#[derive(Default)]
pub struct Monotonic {
    durable: BTreeMap<NodeId, (Term, Index)>,
    judged: u64,
}

impl Invariant for Monotonic {
    fn id(&self) -> &'static str {
        ID
    }

    fn step(&mut self, step: &Step<'_>) -> Result<(), Violation> {
        let (before, now) = (step.me.before, step.me.now);
        match step.kind {
            Kind::Stepped { .. } => {
                self.judged += 1;
                for (what, from, to) in [
                    ("the term", before.term.0, now.term.0),
                    ("the commit index", before.commit.0, now.commit.0),
                    ("the applied index", before.applying.0, now.applying.0),
                ] {
                    if to < from {
                        let message = format!("{what} goes back from {from} to {to}");
                        return Err(step.violation(ID, &format!("{what} went back"), message));
                    }
                }
                if now.applying > now.commit {
                    let message = format!("applies up to {}, committed is {}", now.applying, now.commit);
                    return Err(step.violation(ID, "applied beyond the commit index", message));
                }
                let term = step.me.durable_hard.term;
                let durable = self.durable.entry(step.node).or_default();
                *durable = (durable.0.max(term), durable.1.max(step.me.state));
            }
            Kind::Flushed { .. } | Kind::SnapshotInstalled { .. } => {
                let durable = self.durable.entry(step.node).or_default();
                durable.1 = durable.1.max(step.me.state);
            }
            Kind::Opened { applied, .. } => {
                let durable = *self.durable.entry(step.node).or_default();
                let last = step.me.memory.last();
                if last.term > now.term {
                    let message = format!("came back in term {} with a log up to {last:?}", now.term);
                    return Err(step.violation(ID, "the log is of a later term than its node", message));
                }
                self.judged += u64::from(step.incarnation > 1);
                if now.term < durable.0 {
                    let message = format!("came back in term {}, {} was durable", now.term, durable.0);
                    return Err(step.violation(ID, "the term went back over a restart", message));
                }
                if applied.index < durable.1 && !step.me.state_is_bad {
                    let message =
                        format!("came back with the state at {}, {} was durable", applied.index, durable.1);
                    return Err(step.violation(ID, "the state went back over a restart", message));
                }
            }
            Kind::Applied { .. } => {}
        }
        Ok(())
    }

    fn judged(&self) -> u64 {
        self.judged
    }
}
