//! Logs as hash chains: two logs with the same prefix hash at an index are the same up to there, so every
//! comparison of logs costs one comparison of numbers.

use std::collections::VecDeque;

use eraft::raft::{Entry, Membership, Payload, Persist, Position};
use eraft::types::{Index, Term};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// One entry of a chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// The entry's term.
    pub term: Term,
    /// The hash of the entry.
    pub entry: u64,
    /// The hash of the log up to and including the entry.
    pub prefix: u64,
}

/// A log above its base.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    base: Position,
    base_prefix: u64,
    links: VecDeque<Link>,
}

impl Chain {
    /// An empty chain above `base`, whose prefix is `prefix`.
    pub fn new(base: Position, prefix: u64) -> Self {
        Self { base, base_prefix: prefix, links: VecDeque::new() }
    }

    /// The position below the first entry held.
    pub fn base(&self) -> Position {
        self.base
    }

    /// The last position.
    pub fn last(&self) -> Position {
        let index = Index(self.base.index.0 + self.links.len() as u64);
        Position { index, term: self.links.back().map_or(self.base.term, |link| link.term) }
    }

    /// The entry at `index`, if it is held.
    pub fn link(&self, index: Index) -> Option<&Link> {
        let at = index.0.checked_sub(self.base.index.0)?.checked_sub(1)?;
        self.links.get(usize::try_from(at).ok()?)
    }

    /// The term at `index`, if it is known.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.base.index { Some(self.base.term) } else { self.link(index).map(|link| link.term) }
    }

    /// The hash of the log up to and including `index`, if it is known.
    pub fn prefix_at(&self, index: Index) -> Option<u64> {
        if index == self.base.index {
            Some(self.base_prefix)
        } else {
            self.link(index).map(|link| link.prefix)
        }
    }

    /// Adds the entry after the last one.
    pub fn push(&mut self, entry: &Entry) -> Link {
        let before = self.links.back().map_or(self.base_prefix, |link| link.prefix);
        let hash = hash_entry(entry);
        let link =
            Link { term: entry.term, entry: hash, prefix: xxh3_64_with_seed(&hash.to_le_bytes(), before) };
        self.links.push_back(link);
        link
    }

    /// Does to this chain what a write of these parts does to the log; `prefix_of` tells the prefix of a base that
    /// this chain does not hold.
    pub fn write(
        &mut self,
        base: Option<Position>,
        truncate: Option<Index>,
        links: &[Link],
        prefix_of: impl Fn(Position) -> u64,
    ) {
        if let Some(base) = base {
            self.rebase(base, prefix_of);
        }
        if let Some(from) = truncate {
            self.truncate(from);
        }
        self.links.extend(links);
    }

    /// As [`Chain::write`], for a write whose entries are not hashed yet; returns their links.
    pub fn persist(&mut self, persist: &Persist, prefix_of: impl Fn(Position) -> u64) -> Vec<Link> {
        self.write(persist.base.as_ref().map(|base| base.position), persist.truncate, &[], prefix_of);
        persist.append.iter().map(|entry| self.push(entry)).collect()
    }

    fn rebase(&mut self, base: Position, prefix_of: impl Fn(Position) -> u64) {
        let prefix = match self.term_at(base.index) {
            Some(term) if term == base.term => self.prefix_at(base.index),
            _ => None,
        };
        let dropped = base.index.0.saturating_sub(self.base.index.0).min(self.links.len() as u64);
        self.links.drain(..dropped as usize);
        self.base = base;
        self.base_prefix = prefix.unwrap_or_else(|| prefix_of(base));
    }

    fn truncate(&mut self, from: Index) {
        let kept = from.0.saturating_sub(self.base.index.0 + 1);
        self.links.truncate(usize::try_from(kept).unwrap_or(usize::MAX));
    }
}

/// The hash of everything that an entry says.
pub fn hash_entry(entry: &Entry) -> u64 {
    const INDEX: u64 = 0x9E37_79B9_7F4A_7C15;
    const TERM: u64 = 0xC2B2_AE3D_27D4_EB4F;
    let place = entry.index.0.wrapping_mul(INDEX) ^ entry.term.0.wrapping_mul(TERM);
    match &entry.payload {
        Payload::Noop => xxh3_64_with_seed(&[0], place),
        Payload::Command(command) => xxh3_64_with_seed(command, place ^ 1),
        Payload::Membership(membership) => xxh3_64_with_seed(&membership_bytes(membership), place ^ 2),
    }
}

fn membership_bytes(membership: &Membership) -> Vec<u8> {
    let mut bytes = Vec::new();
    for set in [&membership.voters, &membership.outgoing, &membership.learners] {
        bytes.extend((set.len() as u64).to_le_bytes());
        bytes.extend(set.iter().flat_map(|node| node.0.to_le_bytes()));
    }
    bytes
}

/// Rows by index, from some index on; the oldest are forgotten once nobody can ask for them.
#[derive(Clone, Debug)]
pub struct Table<T> {
    first: u64,
    rows: VecDeque<T>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { first: 1, rows: VecDeque::new() }
    }
}

impl<T> Table<T> {
    /// The row at `index`.
    pub fn get(&self, index: Index) -> Option<&T> {
        self.rows.get(usize::try_from(index.0.checked_sub(self.first)?).ok()?)
    }

    /// The row at `index`, to change.
    pub fn get_mut(&mut self, index: Index) -> Option<&mut T> {
        self.rows.get_mut(usize::try_from(index.0.checked_sub(self.first)?).ok()?)
    }

    /// The last index with a row; zero if there never was one.
    pub fn last(&self) -> Index {
        Index(self.first + self.rows.len() as u64 - 1)
    }

    /// Adds the row after the last one.
    pub fn push(&mut self, row: T) {
        self.rows.push_back(row);
    }

    /// Forgets everything; the next row is that of `index`.
    pub fn restart_at(&mut self, index: Index) {
        self.rows.clear();
        self.first = index.0;
    }

    /// Whether rows of this index are no longer (or not yet) kept.
    pub fn is_below(&self, index: Index) -> bool {
        index.0 < self.first
    }

    /// Forgets the rows below `index`.
    pub fn forget_below(&mut self, index: Index) {
        let dropped = index.0.saturating_sub(self.first).min(self.rows.len() as u64);
        self.rows.drain(..dropped as usize);
        self.first += dropped;
    }
}
