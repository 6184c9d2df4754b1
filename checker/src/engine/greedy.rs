//! The first guess: each operation takes effect when it returns, except what must have come before.
//!
//! Most partitions of most histories have few operations at the same time, and then this is an order that explains them, found
//! and replayed in one go. It walks over the events with a single state. A read has its instant as soon as it is possible.
//! Anything else has it at its return; if it is impossible there, one other open operation may come right before it. If none
//! makes it possible, the guess was wrong, and nothing follows from that, unless there was no choice: as long as one operation
//! is open at a time, and each returns, there is one order, and an answer that is impossible in it is a violation.
//!
//! If nothing else but a search would help, it is worth to guess again, with care: see [`ahead`].
//!
//! Invariant: every operation is placed while it is open, in the order in which the model makes its steps; so what comes out
//! is a linearization, and needs no second replay.

mod ahead;

use std::cell::Cell;

use crate::engine::greedy::ahead::{Cover, Saved};
use crate::engine::part::Part;
use crate::engine::window::NEVER;
use crate::engine::{OperationOf, apply};
use crate::model::{Class, Model};

/// So many operations are tried right before others, for each operation of the partition.
const TRIES_PER_OPERATION: usize = 4;

/// An operation that will return and has not been placed.
#[derive(Clone, Copy)]
struct Waiting {
    /// The event of its return.
    returned: usize,
    place: u32,
    class: Class,
}

/// What guesses leave behind for the next one: room.
#[derive(Default)]
pub(crate) struct Scratch {
    waiting: Vec<Waiting>,
    /// What never returns and may take effect.
    unknown: Vec<u32>,
    /// The order that was guessed, by place in the partition.
    pub(crate) order: Vec<u32>,
}

/// How a guess is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Care {
    /// What returns is placed, whatever comes next.
    Quick,
    /// What comes next decides.
    Ahead,
}

/// What came of a guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guessed {
    /// [`Scratch::order`] explains every answer.
    Right,
    /// Nothing is known.
    Wrong,
    /// No order explains the answers: up to an answer that is impossible there was only one.
    Impossible,
}

struct Guess<'s, 'p, 'a, M: Model> {
    model: &'s M,
    part: Part<'p, 'a, M>,
    care: Care,
    state: M::State,
    scratch: &'s mut Scratch,
    /// The place of the next invocation.
    next: u32,
    /// How many of those that wait are reads.
    reads: usize,
    tries: Cell<usize>,
    /// Whether so far there was never a choice: one operation was open at a time, and each has returned.
    forced: bool,
    /// The last return of what has been invoked.
    last_return: usize,
    /// What operations can hide under; only with care.
    cover: Option<Cover<M::State>>,
    saved: Saved<M::State>,
}

/// Guesses an order of the partition's operations.
pub(crate) fn guess<M: Model>(
    model: &M,
    part: Part<'_, '_, M>,
    care: Care,
    scratch: &mut Scratch,
) -> Guessed {
    scratch.waiting.clear();
    scratch.unknown.clear();
    scratch.order.clear();
    scratch.order.reserve(part.len());
    let mut guess = Guess {
        model,
        part,
        care,
        state: model.init(),
        scratch,
        next: 0,
        reads: 0,
        tries: Cell::new(TRIES_PER_OPERATION * part.len()),
        forced: true,
        last_return: 0,
        cover: None,
        saved: Saved::new(part.len()),
    };
    loop {
        match guess.go_on() {
            Some(()) => return Guessed::Right,
            None if guess.forced => return Guessed::Impossible,
            None if care == Care::Ahead && guess.go_back() => {}
            None => return Guessed::Wrong,
        }
    }
}

impl<M: Model> Guess<'_, '_, '_, M> {
    /// Goes over the events. `None`: something cannot be placed.
    fn go_on(&mut self) -> Option<()> {
        while (self.next as usize) < self.part.len() {
            if self.care == Care::Ahead {
                self.save();
            }
            let place = self.next;
            let operation = self.part.get(place as usize);
            self.return_before(operation.invoked.event)?;
            self.next += 1;
            self.forced &= self.last_return <= operation.invoked.event;
            let class = self.model.class(&operation.op, operation.ret());
            let returned = operation.returned().map_or(NEVER, |returned| returned.event);
            self.last_return = self.last_return.max(returned);
            if returned == NEVER {
                // Even a read: that it is one is a hint, which nothing has tested.
                self.forced = false;
                if class != Class::ReadOnly {
                    self.scratch.unknown.push(place);
                }
            } else if class == Class::ReadOnly && apply(self.model, &mut self.state, operation) {
                self.scratch.order.push(place);
            } else {
                self.scratch.waiting.push(Waiting { returned, place, class });
                self.reads += usize::from(class == Class::ReadOnly);
            }
        }
        self.return_before(NEVER)
    }

    /// Places whatever returns before event `limit`. `None`: something cannot be placed.
    fn return_before(&mut self, limit: usize) -> Option<()> {
        loop {
            let waiting = &self.scratch.waiting;
            let first = (0..waiting.len()).min_by_key(|at| waiting[*at].returned);
            let Some(first) = first.filter(|first| waiting[*first].returned < limit) else { return Some(()) };
            self.place(first)?;
            if self.reads > 0 {
                self.place_reads();
            }
        }
    }

    fn step(&self, state: &M::State, operation: &OperationOf<M>) -> Option<M::State> {
        self.model.step(state, &operation.op, operation.ret())
    }

    /// Places every read that is possible now.
    fn place_reads(&mut self) {
        let Guess { model, part, state, scratch, reads, .. } = self;
        let Scratch { waiting, order, .. } = &mut **scratch;
        waiting.retain(|waiting| {
            let operation = part.get(waiting.place as usize);
            let possible = waiting.class == Class::ReadOnly && apply(*model, state, operation);
            if possible {
                order.push(waiting.place);
                *reads -= 1;
            }
            !possible
        });
    }

    /// Places what waits at `at` and returns now.
    fn place(&mut self, at: usize) -> Option<()> {
        let Waiting { place, class, .. } = self.scratch.waiting[at];
        let operation = self.part.get(place as usize);
        let in_place = match self.care {
            Care::Quick => true,
            Care::Ahead => class != Class::BlindWrite && !self.is_covered(place),
        };
        if in_place && apply(self.model, &mut self.state, operation) {
            self.scratch.waiting.swap_remove(at);
            self.reads -= usize::from(class == Class::ReadOnly);
            self.scratch.order.push(place);
            return Some(());
        }
        if let Some(next) = self.step(&self.state, operation) {
            if !(self.prefers_hiding(place, place, &next) && self.hide(&[place])) {
                self.forget(&[place]);
                self.put(place, class, next);
            }
            return Some(());
        }
        self.place_behind_another(place, class)
    }

    /// Places the operation at `place`, which is impossible now, and before it another that makes it possible.
    fn place_behind_another(&mut self, place: u32, class: Class) -> Option<()> {
        let operation = self.part.get(place as usize);
        let found = self.find_before(&self.state, operation, self.next);
        let hides = match &found {
            Some((other, _, next)) => self.prefers_hiding(place, *other, next),
            None => self.is_covered(place),
        };
        if hides && self.hide_behind_another(place) {
            return Some(());
        }
        let (other, between, next) = found?;
        let before = self.part.get(other as usize);
        self.forget(&[other, place]);
        self.put(other, self.model.class(&before.op, before.ret()), between);
        self.put(place, class, next);
        Some(())
    }

    /// The operation that comes right before `operation` and makes it possible in `state`, and the states after each: one
    /// that was invoked before place `invoked`; with care, of these the one that returns first.
    fn find_before(
        &self,
        state: &M::State,
        operation: &OperationOf<M>,
        invoked: u32,
    ) -> Option<(u32, M::State, M::State)> {
        let fits = |other: u32| {
            self.tries.set(self.tries.get().checked_sub(1)?);
            let between = self.step(state, self.part.get(other as usize))?;
            let next = self.step(&between, operation)?;
            Some((other, between, next))
        };
        let is_other = |waiting: &&Waiting| waiting.class != Class::ReadOnly && waiting.place < invoked;
        let mut found = None;
        let mut first = NEVER;
        for waiting in self.scratch.waiting.iter().filter(is_other) {
            if waiting.returned < first
                && let Some(fitting) = fits(waiting.place)
            {
                (first, found) = (waiting.returned, Some(fitting));
                if self.care == Care::Quick {
                    break;
                }
            }
        }
        let unknown = self.scratch.unknown.iter().filter(|other| **other < invoked);
        found.or_else(|| unknown.copied().find_map(fits))
    }

    /// The operation at `place` comes next and leaves `next`.
    fn put(&mut self, place: u32, class: Class, next: M::State) {
        let before = std::mem::replace(&mut self.state, next);
        if self.care == Care::Ahead && class == Class::BlindWrite {
            let at = self.scratch.order.len();
            self.cover = Some(Cover { place, at, before, invoked: self.next });
        }
        self.scratch.order.push(place);
    }

    /// These do not wait any more.
    fn forget(&mut self, places: &[u32]) {
        let Guess { scratch, reads, .. } = self;
        let Scratch { waiting, unknown, .. } = &mut **scratch;
        let known = waiting.len();
        waiting.retain(|waiting| {
            let gone = places.contains(&waiting.place);
            *reads -= usize::from(gone && waiting.class == Class::ReadOnly);
            !gone
        });
        if known - waiting.len() < places.len() {
            unknown.retain(|unknown| !places.contains(unknown));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Engine, Options, check_by};
    use crate::engine::witness::replay;
    use crate::generate::{Shape, generate};
    use crate::read::AnyHistory;
    use crate::report::Verdict;

    #[test]
    fn what_comes_out_is_a_linearization() {
        let (mut right, mut impossible) = ([0; 3], [0; 3]);
        let kinds = [(1, Care::Quick), (4, Care::Quick), (4, Care::Ahead)];
        for seed in 0..400 {
            for (kind, (clients, care)) in kinds.into_iter().enumerate() {
                let shape = Shape {
                    operations: 20,
                    keys: 1,
                    clients,
                    values: 3,
                    appends: 10,
                    cas: 10,
                    ..Shape::default()
                };
                let shape = Shape { unknown_permille: 100, stale: seed % 2 == 0, ..shape };
                let AnyHistory::Kv(model, history) = generate(&shape, seed) else {
                    panic!("keys make it a store")
                };
                let part = Part::whole(&history.operations);
                let mut scratch = Scratch::default();
                match guess(&model, part, care, &mut scratch) {
                    Guessed::Right => {
                        let order = &scratch.order;
                        assert!(replay(&model, part, order).is_ok(), "seed {seed}: {order:?}");
                        right[kind] += 1;
                    }
                    Guessed::Wrong => {}
                    Guessed::Impossible => {
                        let options = Options { confirm: false, ..Options::default() };
                        let searched = check_by(Engine::Breadth, &model, &history, &options).verdict;
                        assert_eq!(searched, Verdict::Violation, "seed {seed}: {history:#?}");
                        impossible[kind] += 1;
                    }
                }
            }
        }
        assert!(right[0] > 150 && right[1] > 40 && right[2] > right[1] + 20, "{right:?}");
        assert!(impossible[0] > 20, "{impossible:?}");
    }

    /// With care most histories of a register are guessed, however long, and what is guessed is right; what is not
    /// linearizable is never guessed.
    #[test]
    fn care_is_worth_it() {
        let (mut right, mut stale_right) = (0, 0);
        for seed in 0..60 {
            let clients = [3, 5, 10, 20][seed as usize % 4];
            let shape = Shape { operations: 1_000, keys: 0, clients, values: 5, ..Shape::default() };
            for stale in [false, true] {
                let AnyHistory::Register(model, history) = generate(&Shape { stale, ..shape }, seed) else {
                    panic!("keys: 0")
                };
                let part = Part::whole(&history.operations);
                let mut scratch = Scratch::default();
                if guess(&model, part, Care::Ahead, &mut scratch) == Guessed::Right {
                    assert!(replay(&model, part, &scratch.order).is_ok(), "seed {seed}");
                    *if stale { &mut stale_right } else { &mut right } += 1;
                }
            }
        }
        assert!(right >= 55 && stale_right == 0, "{right}, {stale_right}");
    }
}
