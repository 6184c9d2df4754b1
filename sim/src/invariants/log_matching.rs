//! Two logs with an entry of the same index and term are the same up to there (Raft, figure 3).

use eraft::types::Term;

use super::chain::Table;
use super::facts::appended;
use super::{Invariant, Kind, Step, Violation};

const ID: &str = "raft.log_matching";

/// Rows kept at least; what is older and committed everywhere is forgotten.
const ROWS_MAX: u64 = 1 << 16;

/// Remembers the prefix of every (index, term) that any node ever held.
#[derive(Default)]
pub struct LogMatching {
    seen: Table<Row>,
    judged: u64,
}

/// The terms seen at one index. Nearly always there is one, seldom two.
#[derive(Default)]
struct Row {
    first: Option<(Term, u64)>,
    more: Vec<(Term, u64)>,
}

impl Row {
    /// The prefix known for `term`; if there is none, `prefix` is.
    fn prefix(&mut self, term: Term, prefix: u64) -> Option<u64> {
        let Some((first, known)) = self.first else {
            self.first = Some((term, prefix));
            return None;
        };
        if first == term {
            return Some(known);
        }
        let known = self.more.iter().find(|(other, _)| *other == term).map(|(_, known)| *known);
        if known.is_none() {
            self.more.push((term, prefix));
        }
        known
    }
}

impl Invariant for LogMatching {
    fn id(&self) -> &'static str {
        ID
    }

    fn step(&mut self, step: &Step<'_>) -> Result<(), Violation> {
        let Kind::Stepped { effects, raft, .. } = step.kind else { return Ok(()) };
        for entry in appended(effects) {
            if self.seen.is_below(entry.index) {
                continue;
            }
            while self.seen.last() < entry.index {
                self.seen.push(Row::default());
            }
            // What a later write of the same step has truncated again is no longer in the log.
            let Some(link) = step.me.memory.link(entry.index).filter(|link| link.term == entry.term) else {
                continue;
            };
            let row = self.seen.get_mut(entry.index).expect("the row was just made");
            let Some(known) = row.prefix(entry.term, link.prefix) else { continue };
            self.judged += 1;
            if known != link.prefix {
                let message = format!(
                    "entry {} of term {} follows another log here than elsewhere",
                    entry.index, entry.term
                );
                return Err(step.violation(ID, "two logs share a position and differ before it", message));
            }
        }
        let (written, held) = (step.me.memory.last(), raft.log().last());
        if written != held {
            let message = format!("holds a log up to {held:?}, but wrote one up to {written:?}");
            return Err(step.violation(ID, "a log changed without a write", message));
        }
        if self.seen.last().0.is_multiple_of(ROWS_MAX) {
            let lowest = step.facts.nodes.values().map(|node| node.durable.base().index).min();
            self.seen.forget_below(lowest.unwrap_or_default());
        }
        Ok(())
    }

    fn judged(&self) -> u64 {
        self.judged
    }
}
