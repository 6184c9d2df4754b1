//! The first guess: each operation takes effect when it returns, except what must have come before.
//!
//! Most partitions of most histories have few operations at the same time, and then this is an order that explains them, found
//! and replayed in one go. It walks over the events with a single state. A read has its instant as soon as it is possible.
//! Anything else has it at its return; if it is impossible there, one other open operation may come right before it. If none
//! makes it possible, the guess was wrong, and nothing follows from that, unless there was no choice: as long as one operation
//! is open at a time, and each returns, there is one order, and an answer that is impossible in it is a violation.
//!
//! Invariant: every operation is placed while it is open, in the order in which the model makes its steps; so what comes out
//! is a linearization, and needs no second replay.

use crate::engine::apply;
use crate::engine::part::Part;
use crate::engine::window::NEVER;
use crate::model::{Class, Model};

/// So many operations are tried right before others, for each operation of the partition.
const TRIES_PER_OPERATION: usize = 4;

/// An operation that will return and has not been placed.
struct Waiting {
    /// The event of its return.
    returned: usize,
    place: u32,
    read: bool,
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
    state: M::State,
    scratch: &'s mut Scratch,
    /// How many of those that wait are reads.
    reads: usize,
    tries: usize,
    /// Whether so far there was never a choice: one operation was open at a time, and each has returned.
    forced: bool,
}

/// Guesses an order of the partition's operations.
pub(crate) fn guess<M: Model>(model: &M, part: Part<'_, '_, M>, scratch: &mut Scratch) -> Guessed {
    scratch.waiting.clear();
    scratch.unknown.clear();
    scratch.order.clear();
    scratch.order.reserve(part.len());
    let state = model.init();
    let tries = TRIES_PER_OPERATION * part.len();
    let mut guess = Guess { model, part, state, scratch, reads: 0, tries, forced: true };
    match guess.make() {
        Some(()) => Guessed::Right,
        None if guess.forced => Guessed::Impossible,
        None => Guessed::Wrong,
    }
}

impl<M: Model> Guess<'_, '_, '_, M> {
    /// Goes over the events. `None`: something cannot be placed.
    fn make(&mut self) -> Option<()> {
        for (place, operation) in (0..).zip(self.part.iter()) {
            self.return_before(operation.invoked.event)?;
            let read = self.model.class(&operation.op, operation.ret()) == Class::ReadOnly;
            match operation.returned() {
                Some(returned) => {
                    self.forced &= self.scratch.waiting.is_empty();
                    self.scratch.waiting.push(Waiting { returned: returned.event, place, read });
                    self.reads += usize::from(read);
                }
                None => {
                    // Even a read: that it is one is a hint, which nothing has tested.
                    self.forced = false;
                    if !read {
                        self.scratch.unknown.push(place);
                    }
                }
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
            if self.reads == 0 || !self.place_reads() {
                self.place(first)?;
            }
        }
    }

    /// Places every read that is possible now. Says whether there was one.
    fn place_reads(&mut self) -> bool {
        let Guess { model, part, state, scratch, reads, .. } = self;
        let Scratch { waiting, order, .. } = scratch;
        let before = *reads;
        waiting.retain(|waiting| {
            let operation = part.get(waiting.place as usize);
            let possible = waiting.read && apply(*model, state, operation);
            if possible {
                order.push(waiting.place);
                *reads -= 1;
            }
            !possible
        });
        *reads < before
    }

    /// Places what waits at `at`.
    fn place(&mut self, at: usize) -> Option<()> {
        let Waiting { place, read, .. } = self.scratch.waiting.swap_remove(at);
        self.reads -= usize::from(read);
        let operation = self.part.get(place as usize);
        if !apply(self.model, &mut self.state, operation) {
            self.place_before(place)?;
        }
        self.scratch.order.push(place);
        Some(())
    }

    /// Places the operation that comes right before the one at `place` and makes it possible, and makes both steps.
    fn place_before(&mut self, place: u32) -> Option<()> {
        let operation = self.part.get(place as usize);
        let Scratch { waiting, unknown, order } = &mut *self.scratch;
        let candidates = waiting.iter().enumerate().filter(|(_, waiting)| !waiting.read);
        let candidates = candidates.map(|(at, waiting)| (Some(at), waiting.place));
        let candidates = candidates.chain(unknown.iter().map(|place| (None, *place)));
        let (at, other, next) = {
            let mut fitting = candidates.map_while(|(at, other)| {
                self.tries = self.tries.checked_sub(1)?;
                let before = self.part.get(other as usize);
                let next = self
                    .model
                    .step(&self.state, &before.op, before.ret())
                    .and_then(|mut next| apply(self.model, &mut next, operation).then_some(next));
                Some(next.map(|next| (at, other, next)))
            });
            fitting.find_map(|fits| fits)?
        };
        match at {
            Some(at) => {
                waiting.swap_remove(at);
            }
            None => unknown.retain(|unknown| *unknown != other),
        }
        self.state = next;
        order.push(other);
        Some(())
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
        let (mut right, mut impossible) = ([0; 2], [0; 2]);
        for seed in 0..400 {
            for (kind, clients) in [1, 4].into_iter().enumerate() {
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
                match guess(&model, part, &mut scratch) {
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
        assert!(right[0] > 150 && right[1] > 40, "{right:?}");
        assert!(impossible[0] > 20, "{impossible:?}");
    }
}
