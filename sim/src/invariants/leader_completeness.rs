//! What was committed in a term is in the log of the leader of every later term (Raft, figure 3).

use eraft::types::{Index, NodeId};

use super::facts::NodeFacts;
use super::{Invariant, Kind, Step, Violation};

const ID: &str = "raft.leader_completeness";

/// Judged when a leader is elected, and when an entry is committed while a later leader is there already.
#[derive(Default)]
pub struct LeaderCompleteness {
    judged: u64,
}

impl LeaderCompleteness {
    fn judge(
        &mut self,
        step: &Step<'_>,
        leader: NodeId,
        log: &NodeFacts,
        index: Index,
    ) -> Result<(), Violation> {
        let Some(committed) = step.facts.ledger.committed.get(index) else { return Ok(()) };
        if index < log.memory.base().index {
            return Ok(());
        }
        self.judged += 1;
        if log.memory.prefix_at(index) == Some(committed.link.prefix) {
            return Ok(());
        }
        let message = format!(
            "{leader} leads term {} without entry {index} of term {}, which was committed in term {}",
            log.now.term, committed.link.term, committed.in_term
        );
        Err(step.violation(ID, "a leader lacks a committed entry", message))
    }
}

impl Invariant for LeaderCompleteness {
    fn id(&self) -> &'static str {
        ID
    }

    fn step(&mut self, step: &Step<'_>) -> Result<(), Violation> {
        let me = step.me;
        if !matches!(step.kind, Kind::Stepped { .. }) {
            return Ok(());
        }
        if me.now.leads && !me.led_throughout() {
            let index = step.facts.ledger.committed_before_term(me.now.term);
            self.judge(step, step.node, me, index)?;
        }
        if step.facts.ledger.commit_max() > step.facts.ledger.before {
            for (node, log) in &step.facts.nodes {
                if log.now.leads && log.now.term > me.now.term {
                    self.judge(step, *node, log, step.facts.ledger.commit_max())?;
                }
            }
        }
        Ok(())
    }

    fn judged(&self) -> u64 {
        self.judged
    }
}
