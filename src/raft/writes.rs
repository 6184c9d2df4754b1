//! Which writes are on their way to the disk, and up to where the log is durable.
//!
//! Invariant: entries up to `durable` are on disk *and* are the ones in the log in memory. A truncation takes
//! `durable` back, and with it what older writes will have made durable when they complete.

use std::collections::VecDeque;

use super::effect::WriteId;
use crate::types::Index;

/// Writes in flight.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Writes {
    last_id: WriteId,
    /// The write and the last of its entries that is still in the log.
    pending: VecDeque<(WriteId, Index)>,
    durable: Index,
}

impl Writes {
    /// Nothing in flight, everything up to `durable` on disk.
    pub fn new(durable: Index) -> Self {
        Self { last_id: WriteId(0), pending: VecDeque::new(), durable }
    }

    /// A new write that drops the entries from `truncate` on and then appends up to `last`.
    pub fn issue(&mut self, truncate: Option<Index>, last: Option<Index>) -> WriteId {
        if let Some(from) = truncate {
            let kept = from.previous();
            self.durable = self.durable.min(kept);
            for (_, last) in &mut self.pending {
                *last = kept.min(*last);
            }
        }
        self.last_id = WriteId(self.last_id.0 + 1);
        self.pending.push_back((self.last_id, last.unwrap_or_default()));
        self.last_id
    }

    /// All writes up to `id` are durable.
    pub fn completed(&mut self, id: WriteId) {
        while let Some((pending, last)) = self.pending.front().copied() {
            if pending > id {
                break;
            }
            self.durable = self.durable.max(last);
            self.pending.pop_front();
        }
    }

    /// The state up to `index` is durable, and with it whatever the log would hold up to there.
    pub fn state_installed(&mut self, index: Index) {
        self.durable = self.durable.max(index);
    }

    /// The latest write in flight.
    pub fn pending(&self) -> Option<WriteId> {
        self.pending.back().map(|(id, _)| *id)
    }

    /// Whether write `id` is still in flight.
    pub fn is_pending(&self, id: WriteId) -> bool {
        self.pending.front().is_some_and(|(first, _)| *first <= id)
    }

    /// The last index up to which the log is durable.
    pub fn durable(&self) -> Index {
        self.durable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_was_truncated_meanwhile_makes_only_the_rest_durable() {
        let mut writes = Writes::new(Index(3));
        let first = writes.issue(None, Some(Index(6)));
        let second = writes.issue(Some(Index(5)), Some(Index(5)));
        writes.completed(first);
        assert_eq!(writes.durable(), Index(4), "entries 5 and 6 of the first write are gone");
        assert!(writes.is_pending(second) && !writes.is_pending(first));
        writes.completed(second);
        assert_eq!((writes.durable(), writes.pending()), (Index(5), None));
    }

    #[test]
    fn truncating_takes_back_what_was_durable() {
        let mut writes = Writes::new(Index(9));
        writes.issue(Some(Index(4)), None);
        assert_eq!(writes.durable(), Index(3));
    }
}
