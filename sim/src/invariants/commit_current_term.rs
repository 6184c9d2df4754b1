//! A leader commits by counting only entries of its own term (Raft, section 5.4.2 and figure 8).

use super::{Invariant, Kind, Step, Violation};

const ID: &str = "raft.commit_current_term";

/// Judged whenever a leader's commit index moves, in the step that elected it too.
#[derive(Default)]
pub struct CommitCurrentTerm {
    judged: u64,
}

impl Invariant for CommitCurrentTerm {
    fn id(&self) -> &'static str {
        ID
    }

    fn step(&mut self, step: &Step<'_>) -> Result<(), Violation> {
        let me = step.me;
        let moved = me.now.commit > me.before.commit;
        if !matches!(step.kind, Kind::Stepped { .. }) || !moved || !me.now.leads {
            return Ok(());
        }
        self.judged += 1;
        let term = me.memory.term_at(me.now.commit);
        if term != Some(me.now.term) {
            let of = term.map_or("unknown term".into(), |term| format!("term {term}"));
            let message = format!("leads term {} and commits entry {} of {of}", me.now.term, me.now.commit);
            return Err(step.violation(ID, "an entry of an earlier term was committed by counting", message));
        }
        Ok(())
    }

    fn judged(&self) -> u64 {
        self.judged
    }
}
