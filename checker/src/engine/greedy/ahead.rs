//! Guessing with care.
//!
//! What is open when a blind write is placed may just as well have come right before it, where the write *covers* it: the state
//! behind the write is the same. So an operation that returns need not change the state: if it was invoked before the last
//! blind write was placed, it can hide under it. Which is better shows in what comes next: whether the reads that will be
//! invoked soon see the state now, or the one that the operation leaves. A read that is impossible now may hide too, behind an
//! operation that hides with it.
//!
//! If the guess goes wrong all the same, it goes back a little and decides one of the last choices the other way.
//!
//! Invariant: what hides was open when the cover was placed, and the model made the steps of all that hides, and of the cover
//! behind it, which left the same state as before. So all that was placed behind the cover is as possible as it was.

use crate::engine::apply;
use crate::engine::greedy::{Guess, Scratch, Waiting};
use crate::engine::window::NEVER;
use crate::model::{Class, Model};

/// So many operations are looked at ahead of a choice.
const AHEAD_MAX: u32 = 32;

/// After so many operations it is remembered how far the guess came.
const SAVE_PERIOD: u32 = 32;

/// Two choices that are mended together are not farther apart.
const PAIR_DISTANCE_MAX: u32 = 8;

/// Shorter partitions are guessed once.
const GOING_BACK_MIN: usize = 128;

/// The last blind write that was placed.
#[derive(Clone)]
pub(super) struct Cover<S> {
    pub(super) place: u32,
    /// Where it is in the order.
    pub(super) at: usize,
    /// The state before it.
    pub(super) before: S,
    /// What has a smaller place had been invoked when it was placed.
    pub(super) invoked: u32,
}

/// How far the guess had come at some invocation.
struct Save<S> {
    next: u32,
    state: S,
    waiting: Vec<Waiting>,
    unknown: Vec<u32>,
    reads: usize,
    cover: Option<Cover<S>>,
    /// The order from `from` on; what is before does not change any more.
    from: usize,
    tail: Vec<u32>,
    /// How many choices had been made.
    choices: u32,
}

/// An attempt to mend a mistake: one or two choices are made the other way.
///
/// First each choice by itself, the last one first, then each together with one of the next.
#[derive(Clone, Copy)]
struct Trying {
    /// How many choices had been made when the mistake showed, of these how many behind what was gone back to.
    choices: u32,
    behind: u32,
    /// The number of the attempt.
    attempt: u32,
}

impl Trying {
    /// The choices that are made the other way; `None`: nothing is left to try.
    fn flipped(self) -> Option<[u32; 2]> {
        if self.attempt < self.behind {
            return Some([self.choices - 1 - self.attempt; 2]);
        }
        let pair = self.attempt - self.behind;
        let (one, distance) = (pair / PAIR_DISTANCE_MAX, pair % PAIR_DISTANCE_MAX + 1);
        let first = (self.choices - 1).checked_sub(one).filter(|_| one < self.behind)?;
        Some([first, first + distance])
    }
}

/// What it takes to go back.
pub(super) struct Saved<S> {
    /// The last two, so that the choices behind the older one are enough to mend a mistake.
    older: Option<Save<S>>,
    newer: Option<Save<S>>,
    save_at: u32,
    /// How many choices have been made.
    choices: u32,
    /// The choices behind the older one that are made the other way.
    flipped: Vec<u32>,
    /// What is being tried, if anything.
    trying: Option<Trying>,
    /// So many operations may be gone over again.
    again_max: usize,
}

impl<S> Saved<S> {
    pub(super) fn new(operations: usize) -> Self {
        Saved {
            older: None,
            newer: None,
            save_at: 0,
            choices: 0,
            flipped: Vec::new(),
            trying: None,
            again_max: operations.saturating_sub(GOING_BACK_MIN),
        }
    }
}

impl<M: Model> Guess<'_, '_, '_, M> {
    /// Whether the operation was open when the cover was placed.
    pub(super) fn is_covered(&self, place: u32) -> bool {
        self.cover.as_ref().is_some_and(|cover| place < cover.invoked)
    }

    /// Whether the operation at `place` can hide and should, instead of being placed now, when the one at `by` leaves `next`.
    pub(super) fn prefers_hiding(&mut self, place: u32, by: u32, next: &M::State) -> bool {
        if !self.is_covered(place) {
            return false;
        }
        let Saved { choices, flipped, trying, .. } = &mut self.saved;
        let tried = trying.and_then(Trying::flipped).is_some_and(|tried| tried.contains(choices));
        let flips = tried != flipped.contains(choices);
        *choices += 1;
        self.is_wanted(by, next) == flips
    }

    /// Whether what comes next rather sees `next`, which the operation at `by` leaves, than the state now.
    fn is_wanted(&self, by: u32, next: &M::State) -> bool {
        let now = &self.state;
        let waiting = &self.scratch.waiting;
        // A read that can hide, hides together with what it sees.
        let mut open = waiting.iter().filter(|other| other.class == Class::ReadOnly);
        let sees_next = |other: &Waiting| {
            !self.is_covered(other.place) && self.step(next, self.part.get(other.place as usize)).is_some()
        };
        let mut next_seen = if open.any(sees_next) { 0 } else { u32::MAX };
        let mut now_seen = u32::MAX;
        // Whether it is written again before.
        let (mut now_again, mut next_again) = (false, false);
        // Where a write must be placed that has not been invoked, neither state is left.
        let mut horizon = NEVER;
        for ahead in self.next..self.next.saturating_add(AHEAD_MAX).min(self.part.len() as u32) {
            let operation = self.part.get(ahead as usize);
            if operation.invoked.event > horizon || now_seen.max(next_seen) < u32::MAX {
                break;
            }
            let class = self.model.class(&operation.op, operation.ret());
            if class != Class::ReadOnly {
                horizon = horizon.min(operation.returned().map_or(NEVER, |returned| returned.event));
            }
            let (from_now, from_next) = (self.step(now, operation), self.step(next, operation));
            if class == Class::BlindWrite {
                now_again |= from_now.as_ref() == Some(now);
                next_again |= from_next.as_ref() == Some(next);
            } else if from_now.is_some() != from_next.is_some() {
                if from_now.is_some() && !now_again {
                    now_seen = now_seen.min(ahead);
                }
                if from_next.is_some() && !next_again {
                    next_seen = next_seen.min(ahead);
                }
            }
        }
        if now_seen == u32::MAX || next_seen == u32::MAX {
            return next_seen < now_seen;
        }
        // Both are seen: what something else that is open can leave again gives way.
        let again = |state: &M::State| {
            let mut writes = waiting.iter().filter(|other| other.class == Class::BlindWrite);
            let leaves = |other: &Waiting| {
                other.place != by
                    && self.step(state, self.part.get(other.place as usize)).as_ref() == Some(state)
            };
            writes.any(leaves)
        };
        match (again(now), again(next)) {
            (true, false) => true,
            (false, true) => false,
            _ => next_seen < now_seen,
        }
    }

    /// Hides the operation at `place`, by itself or behind another. Says whether that was possible.
    pub(super) fn hide_behind_another(&mut self, place: u32) -> bool {
        if self.hide(&[place]) {
            return true;
        }
        let Some(cover) = &self.cover else { return false };
        let operation = self.part.get(place as usize);
        let found = self.find_before(&cover.before, operation, cover.invoked);
        found.is_some_and(|(other, ..)| self.hide(&[other, place]))
    }

    /// Puts these, which were open when the cover was placed, right before it, and behind them all reads that are possible
    /// there then. Says `false`, and does nothing, if that cannot be.
    pub(super) fn hide(&mut self, changes: &[u32]) -> bool {
        let Guess { model, part, scratch, cover, .. } = self;
        let Some(cover) = cover else { return false };
        let mut before = cover.before.clone();
        let mut possible = |place: u32| apply(*model, &mut before, part.get(place as usize));
        if !changes.iter().all(|place| possible(*place)) {
            return false;
        }
        let mut hidden = changes.to_vec();
        for other in &scratch.waiting {
            let covered = other.class == Class::ReadOnly && other.place < cover.invoked;
            if covered && !changes.contains(&other.place) && possible(other.place) {
                hidden.push(other.place);
            }
        }
        let operation = part.get(cover.place as usize);
        let after = |state: &M::State| model.step(state, &operation.op, operation.ret());
        if after(&before) != after(&cover.before) {
            return false;
        }
        cover.before = before;
        scratch.order.splice(cover.at..cover.at, hidden.iter().copied());
        cover.at += hidden.len();
        self.forget(&hidden);
        true
    }

    /// Remembers from time to time how far the guess has come.
    pub(super) fn save(&mut self) {
        if self.saved.again_max == 0 || self.next < self.saved.save_at {
            return;
        }
        let Scratch { waiting, unknown, order } = &*self.scratch;
        let from = self.cover.as_ref().map_or(order.len(), |cover| cover.at);
        let save = Save {
            next: self.next,
            state: self.state.clone(),
            waiting: waiting.clone(),
            unknown: unknown.clone(),
            reads: self.reads,
            cover: self.cover.clone(),
            from,
            tail: order[from..].to_vec(),
            choices: self.saved.choices,
        };
        // What takes long to copy is copied less often, so that all copies together take linear time.
        let copied = waiting.len() + unknown.len() + save.tail.len();
        let Saved { older, newer, save_at, flipped, trying, .. } = &mut self.saved;
        // What was tried has turned out well.
        if let Some([one, other]) = trying.take().and_then(Trying::flipped) {
            for tried in [Some(one), Some(other).filter(|other| *other != one)].into_iter().flatten() {
                match flipped.iter().position(|choice| *choice == tried) {
                    Some(at) => drop(flipped.swap_remove(at)),
                    None => flipped.push(tried),
                }
            }
        }
        if let Some(before) = newer.replace(save) {
            flipped.retain(|choice| *choice >= before.choices);
            *older = Some(before);
        }
        *save_at = self.next.saturating_add(SAVE_PERIOD.max(copied as u32));
    }

    /// Goes back, to make another choice the other way than the last time. Says `false` if there is none.
    pub(super) fn go_back(&mut self) -> bool {
        let Saved { older, newer, save_at, choices, trying, again_max, .. } = &mut self.saved;
        *older = older.take().or(newer.take());
        *newer = None;
        let Some(save) = older else { return false };
        let first = Trying { choices: *choices, behind: *choices - save.choices, attempt: 0 };
        let next = trying.map_or(first, |tried| Trying { attempt: tried.attempt + 1, ..tried });
        let again = (self.next - save.next) as usize + 1;
        if next.behind == 0 || next.flipped().is_none() || *again_max < again {
            return false;
        }
        *again_max -= again;
        *trying = Some(next);
        *choices = save.choices;
        *save_at = (*save_at).max(self.next + SAVE_PERIOD / 2);
        self.next = save.next;
        self.state = save.state.clone();
        self.reads = save.reads;
        self.cover = save.cover.clone();
        self.scratch.waiting.clone_from(&save.waiting);
        self.scratch.unknown.clone_from(&save.unknown);
        self.scratch.order.truncate(save.from);
        self.scratch.order.extend_from_slice(&save.tail);
        true
    }
}
