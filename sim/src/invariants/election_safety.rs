//! At most one leader per term (Raft, figure 3).

use std::collections::BTreeMap;

use eraft::types::{NodeId, Term};

use super::{Invariant, Kind, Step, Violation};

const ID: &str = "raft.election_safety";

/// Remembers who led each term.
#[derive(Default)]
pub struct ElectionSafety {
    leaders: BTreeMap<Term, NodeId>,
    judged: u64,
}

impl Invariant for ElectionSafety {
    fn id(&self) -> &'static str {
        ID
    }

    fn step(&mut self, step: &Step<'_>) -> Result<(), Violation> {
        let me = step.me;
        if !matches!(step.kind, Kind::Stepped { .. }) || !me.now.leads || me.led_throughout() {
            return Ok(());
        }
        self.judged += 1;
        let term = me.now.term;
        let leader = *self.leaders.entry(term).or_insert(step.node);
        if leader != step.node {
            let message = format!("leads term {term}, which {leader} led");
            return Err(step.violation(ID, "two leaders in one term", message));
        }
        Ok(())
    }

    fn judged(&self) -> u64 {
        self.judged
    }
}
