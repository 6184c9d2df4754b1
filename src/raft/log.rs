//! The part of the log that is in memory: everything above the base.
//!
//! Invariants: indexes have no holes; terms never go down; nothing at or below the base is held; the memberships
//! listed are exactly the base's and those of the entries held, so that truncating an entry takes back the
//! membership it brought (dissertation, section 4.1).

use std::collections::VecDeque;

use super::effect::Base;
use super::membership::Membership;
use super::message::{Entry, Payload, Position};
use crate::types::{Index, Term};

/// The log above its base.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Log {
    base: Position,
    entries: VecDeque<Entry>,
    bytes: usize,
    memberships: Vec<(Index, Membership)>,
}

/// Why stored entries do not make a log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// An entry is not the one after its predecessor.
    #[error("entry {found} follows entry {previous}")]
    Hole {
        /// The index before.
        previous: Index,
        /// The index found.
        found: Index,
    },
    /// A later entry has an earlier term.
    #[error("entry {index} has term {found} after term {previous}")]
    TermGoesBack {
        /// Where.
        index: Index,
        /// The term before.
        previous: Term,
        /// The term found.
        found: Term,
    },
}

impl Log {
    /// An empty log above `base`.
    pub fn new(base: Base) -> Self {
        Self {
            base: base.position,
            entries: VecDeque::new(),
            bytes: 0,
            memberships: vec![(base.position.index, base.membership)],
        }
    }

    /// The log above `base` that holds `entries`, if they are consecutive.
    pub fn restore(base: Base, entries: impl IntoIterator<Item = Entry>) -> Result<Self, LogError> {
        let mut log = Self::new(base);
        for entry in entries {
            let last = log.last();
            if entry.index != last.index.next() {
                return Err(LogError::Hole { previous: last.index, found: entry.index });
            }
            if entry.term < last.term {
                return Err(LogError::TermGoesBack {
                    index: entry.index,
                    previous: last.term,
                    found: entry.term,
                });
            }
            log.push(entry);
        }
        Ok(log)
    }

    /// The position just below the first entry held.
    pub fn base(&self) -> Position {
        self.base
    }

    /// The base with the members as of it.
    pub fn base_with_membership(&self) -> Base {
        Base { position: self.base, membership: self.memberships[0].1.clone() }
    }

    /// The first index that is (or would be) held.
    pub fn first_index(&self) -> Index {
        self.base.index.next()
    }

    /// The position of the last entry, or the base if none is held.
    pub fn last(&self) -> Position {
        self.entries.back().map_or(self.base, Entry::position)
    }

    /// The sum of [`Entry::bytes`] over the entries held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The term at `index`; `None` if it lies below the base or after the last entry.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.base.index {
            Some(self.base.term)
        } else {
            self.entry(index).map(|entry| entry.term)
        }
    }

    /// Whether the log holds `position`. True too for everything below the base that a leader may name: what is
    /// below the base is committed, and so in every leader's log.
    pub fn matches(&self, position: Position) -> bool {
        position.index < self.base.index || self.term_at(position.index) == Some(position.term)
    }

    /// The entry at `index`, if it is held.
    pub fn entry(&self, index: Index) -> Option<&Entry> {
        let at = index.0.checked_sub(self.base.index.0)?.checked_sub(1)?;
        self.entries.get(usize::try_from(at).ok()?)
    }

    /// The entries from `from` on, at most up to `through`; nothing if `from` is not held.
    pub fn range(&self, from: Index, through: Index) -> impl Iterator<Item = &Entry> {
        let offset = |index: Index| (index.0.saturating_sub(self.base.index.0)) as usize;
        let end = offset(through).min(self.entries.len());
        let start = offset(from).saturating_sub(1).min(end);
        let start = if from <= self.base.index { end } else { start };
        self.entries.range(start..end)
    }

    /// The entries from `from` on that fit into one message; at least one if there is one.
    pub fn batch(&self, from: Index, entries_max: usize, bytes_max: usize) -> Vec<Entry> {
        let mut bytes = 0;
        self.range(from, self.last().index)
            .take(entries_max)
            .enumerate()
            .take_while(|(nth, entry)| {
                bytes += entry.bytes();
                *nth == 0 || bytes <= bytes_max
            })
            .map(|(_, entry)| entry.clone())
            .collect()
    }

    /// The members in force: those of the latest entry that names any, committed or not.
    pub fn membership(&self) -> &Membership {
        &self.memberships.last().expect("the base's membership is always listed").1
    }

    /// The members in force at `index`.
    pub fn membership_at(&self, index: Index) -> &Membership {
        let after = self.memberships.partition_point(|(at, _)| *at <= index);
        &self.memberships[after.max(1) - 1].1
    }

    /// Appends `entry`, which must be the next one.
    pub fn push(&mut self, entry: Entry) {
        let last = self.last();
        assert_eq!(entry.index, last.index.next(), "the log would get a hole");
        assert!(entry.term >= last.term, "the log's terms would go down");
        if let Payload::Membership(membership) = &entry.payload {
            self.memberships.push((entry.index, membership.clone()));
        }
        self.bytes += entry.bytes();
        self.entries.push_back(entry);
    }

    /// Drops the entries from `from` on.
    pub fn truncate(&mut self, from: Index) {
        while self.entries.back().is_some_and(|entry| entry.index >= from) {
            let entry = self.entries.pop_back().expect("there is a last entry");
            self.bytes -= entry.bytes();
        }
        while self.memberships.len() > 1 && self.memberships.last().is_some_and(|(at, _)| *at >= from) {
            self.memberships.pop();
        }
    }

    /// Drops the entries up to and including `through`, which must be held; the base moves there.
    pub fn compact(&mut self, through: Index) {
        let term = self.term_at(through).expect("the log is compacted to an entry that it holds");
        let membership = self.membership_at(through).clone();
        while self.entries.front().is_some_and(|entry| entry.index <= through) {
            let entry = self.entries.pop_front().expect("there is a first entry");
            self.bytes -= entry.bytes();
        }
        self.base = Position { index: through, term };
        self.memberships.retain(|(at, _)| *at > through);
        self.memberships.insert(0, (through, membership));
    }

    /// The entry up to which (included) to compact so that at most `bytes_max` bytes of entries are left.
    pub fn last_to_drop(&self, bytes_max: usize) -> Index {
        let mut bytes = self.bytes;
        let dropped = self.entries.iter().take_while(|entry| {
            let over = bytes > bytes_max;
            bytes -= entry.bytes().min(bytes);
            over
        });
        Index(self.base.index.0 + dropped.count() as u64)
    }

    /// Replaces the whole log by an empty one above `base`.
    pub fn reset(&mut self, base: Base) {
        *self = Self::new(base);
    }

    /// The first index of the run of entries with the term at `index`, as far down as the log goes.
    pub fn first_of_term_at(&self, index: Index) -> Index {
        let Some(term) = self.term_at(index) else { return index };
        let below = self.range(self.first_index(), index).filter(|entry| entry.term < term).count() as u64;
        Index(self.first_index().0 + below)
    }

    /// The last index up to `through` whose term is at most `term`.
    pub fn last_up_to_term(&self, through: Index, term: Term) -> Index {
        let held = self.entries.partition_point(|entry| entry.index <= through && entry.term <= term) as u64;
        Index(self.base.index.0 + held)
    }
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
