//! The operations that are open at some instant, and what may be placed then: the reductions of the search, which the
//! documentation of the crate proves.
//!
//! Invariants:
//! - `changes` holds the open operations that are not reads, twins together and the earliest return first;
//! - in every configuration, every open read that is legal in its state has been placed.

use crate::engine::config::Config;
use crate::engine::slots::Slots;
use crate::engine::states::{Handle, KindId, States, WrongHint};
use crate::engine::trail::Record;
use crate::model::{Class, Model};

/// The return of an operation whose outcome is unknown: after all events.
pub(crate) const NEVER: usize = usize::MAX;

/// An open operation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Open {
    /// Its place in the partition.
    pub(crate) place: u32,
    pub(crate) kind: KindId,
    /// The kind that stands for all with the same effect.
    pub(crate) twin: KindId,
    pub(crate) class: Class,
    pub(crate) slot: u16,
    /// The event of its return, or [`NEVER`].
    pub(crate) returned: usize,
}

impl Open {
    fn rank(&self) -> (KindId, usize, u32) {
        (self.twin, self.returned, self.place)
    }

    /// Whether it has an instant in `config`, or needs none.
    pub(crate) fn has_place<const WORDS: usize>(&self, config: &Config<WORDS>) -> bool {
        let slot = usize::from(self.slot);
        config.used.contains(slot) || config.free.contains(slot)
    }

    pub(crate) fn is_used<const WORDS: usize>(&self, config: &Config<WORDS>) -> bool {
        config.used.contains(usize::from(self.slot))
    }
}

#[derive(Clone, Default)]
pub(crate) struct Window<const WORDS: usize> {
    pub(crate) changes: Vec<Open>,
    pub(crate) reads: Vec<Open>,
    pub(crate) read_slots: Slots<WORDS>,
    blind_slots: Slots<WORDS>,
    /// What never returns.
    pub(crate) unknown_slots: Slots<WORDS>,
    /// What is neither a read nor a blind write.
    general_slots: Slots<WORDS>,
}

impl<const WORDS: usize> Window<WORDS> {
    /// Becomes a copy of `other`, in the room that there is.
    pub(crate) fn copy(&mut self, other: &Self) {
        self.changes.clone_from(&other.changes);
        self.reads.clone_from(&other.reads);
        (self.read_slots, self.blind_slots) = (other.read_slots, other.blind_slots);
        (self.unknown_slots, self.general_slots) = (other.unknown_slots, other.general_slots);
    }

    pub(crate) fn widen<const MORE: usize>(self) -> Window<MORE> {
        Window {
            changes: self.changes,
            reads: self.reads,
            read_slots: self.read_slots.widen(),
            blind_slots: self.blind_slots.widen(),
            unknown_slots: self.unknown_slots.widen(),
            general_slots: self.general_slots.widen(),
        }
    }

    pub(crate) fn open(&mut self, open: Open) {
        let slot = usize::from(open.slot);
        if open.returned == NEVER {
            self.unknown_slots.insert(slot);
        }
        match open.class {
            Class::ReadOnly => {
                self.read_slots.insert(slot);
                self.reads.push(open);
                return;
            }
            Class::BlindWrite => self.blind_slots.insert(slot),
            Class::General => self.general_slots.insert(slot),
        }
        let at = self.changes.partition_point(|other| other.rank() < open.rank());
        self.changes.insert(at, open);
    }

    pub(crate) fn close(&mut self, open: &Open) {
        let slot = usize::from(open.slot);
        self.unknown_slots.remove(slot);
        match open.class {
            Class::ReadOnly => {
                self.read_slots.remove(slot);
                self.reads.retain(|other| other.slot != open.slot);
            }
            Class::BlindWrite | Class::General => {
                self.blind_slots.remove(slot);
                self.general_slots.remove(slot);
                let at = self.changes.partition_point(|other| other.rank() < open.rank());
                self.changes.remove(at);
            }
        }
    }

    /// Kinds have new numbers.
    pub(crate) fn renumber(&mut self, mut number: impl FnMut(&mut Open)) {
        self.changes.iter_mut().chain(&mut self.reads).for_each(&mut number);
        self.changes.sort_unstable_by_key(Open::rank);
    }

    /// `open` is invoked: a read is placed at once if it can be, what never returned is free.
    pub(crate) fn enter<M: Model, H: Handle<M>>(
        &self,
        states: &mut States<M, H>,
        record: &mut impl Record,
        config: &mut Config<WORDS>,
        open: &Open,
    ) -> Result<(), WrongHint> {
        if open.class == Class::ReadOnly {
            place_read(states, record, config, open)?;
        } else if open.returned == NEVER {
            config.free.insert(usize::from(open.slot));
        }
        Ok(())
    }

    /// The open operations that are worth trying next: of twins, the one that returns first. In an order that has them the
    /// other way round, they may change places. If the first of them needs no place and has none, so may
    /// the second: both have unknown outcomes, or they are blind writes and placing the first frees the second.
    ///
    /// Behind a blind write or a free operation that no read saw (`unseen`), no other blind write is worth trying: without
    /// the first one the state is the same, and the first is free.
    pub(crate) fn find_candidates(&self, config: &Config<WORDS>, unseen: bool, found: &mut Vec<Open>) {
        let mut last = None;
        for open in &self.changes {
            if last != Some(open.twin) && !open.is_used(config) {
                last = Some(open.twin);
                if !(unseen && open.class == Class::BlindWrite) {
                    found.push(*open);
                }
            }
        }
    }

    /// Places `open` next, and then every read that has become legal. Says whether it need not have been placed, as far as
    /// any read saw. `None` if that cannot be, or if nothing would come of it: what is free and changes nothing is better
    /// left out.
    pub(crate) fn advance<M: Model, H: Handle<M>>(
        &self,
        states: &mut States<M, H>,
        record: &mut impl Record,
        config: &Config<WORDS>,
        open: &Open,
    ) -> Result<Option<(Config<WORDS>, bool)>, WrongHint> {
        let Some(state) = states.step(config.state, open.kind)? else { return Ok(None) };
        let slot = usize::from(open.slot);
        let (blind, free) = (open.class == Class::BlindWrite, config.free.contains(slot));
        if free && !blind && state == config.state {
            return Ok(None);
        }
        let mut next = Config { state, trail: record.push(config.trail, open.place), ..*config };
        next.used.insert(slot);
        next.free.remove(slot);
        if blind {
            // Every other open blind write may have come just before this one, which hides it.
            next.free = next.free.union(&self.blind_slots.minus(&next.used));
        }
        let mut seen = false;
        for read in &self.reads {
            seen |= place_read(states, record, &mut next, read)?;
        }
        Ok(Some((next, (blind || free) && !seen)))
    }

    /// Whether anything can come of a configuration behind a blind write or a free operation that no read saw, other than
    /// what is there already: only if some operation can look at the state.
    pub(crate) fn goes_on(&self, config: &Config<WORDS>, unseen: bool) -> bool {
        !unseen || !self.general_slots.is_subset(&config.used)
    }
}

/// Places a read that is legal now: it leaves the state as it is, so any order that has it later also has it here.
fn place_read<M: Model, H: Handle<M>, const WORDS: usize>(
    states: &mut States<M, H>,
    record: &mut impl Record,
    config: &mut Config<WORDS>,
    read: &Open,
) -> Result<bool, WrongHint> {
    let legal = !read.is_used(config) && states.step(config.state, read.kind)?.is_some();
    if legal {
        config.used.insert(usize::from(read.slot));
        config.trail = record.push(config.trail, read.place);
    }
    Ok(legal)
}
