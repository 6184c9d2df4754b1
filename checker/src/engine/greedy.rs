//! The first guess: each operation takes effect when it returns, except what must have come before.
//!
//! Most partitions of most histories have few operations at the same time, and then this is an order that explains them, found
//! and replayed in one go. It walks over the events with a single state. A read has its instant as soon as it is possible.
//! Anything else has it at its return; if it is impossible there, one other open operation may come right before it. If none
//! makes it possible, the guess was wrong, and nothing follows from that.
//!
//! Invariant: every operation is placed while it is open, in the order in which the model makes its steps; so what comes out
//! is a linearization, and needs no second replay.

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

struct Guess<'p, 'a, M: Model> {
    model: &'p M,
    part: Part<'p, 'a, M>,
    state: M::State,
    waiting: Vec<Waiting>,
    /// How many of those that wait are reads.
    reads: usize,
    /// What never returns and may take effect.
    unknown: Vec<u32>,
    tries: usize,
    order: Vec<u32>,
}

/// An order of the partition's operations that explains every answer, if the guess is right.
pub(crate) fn order<M: Model>(model: &M, part: Part<'_, '_, M>) -> Option<Vec<u32>> {
    let mut guess = Guess {
        model,
        part,
        state: model.init(),
        waiting: Vec::new(),
        reads: 0,
        unknown: Vec::new(),
        tries: TRIES_PER_OPERATION * part.len(),
        order: Vec::with_capacity(part.len()),
    };
    for (place, operation) in (0..).zip(part.iter()) {
        guess.return_before(operation.invoked.event)?;
        let read = model.class(&operation.op, operation.ret()) == Class::ReadOnly;
        match operation.returned() {
            Some(returned) => {
                guess.waiting.push(Waiting { returned: returned.event, place, read });
                guess.reads += usize::from(read);
            }
            None if read => {}
            None => guess.unknown.push(place),
        }
    }
    guess.return_before(NEVER)?;
    Some(guess.order)
}

impl<M: Model> Guess<'_, '_, M> {
    /// Places whatever returns before event `limit`. `None`: something cannot be placed.
    fn return_before(&mut self, limit: usize) -> Option<()> {
        while let Some(first) = (0..self.waiting.len()).min_by_key(|at| self.waiting[*at].returned) {
            if self.waiting[first].returned >= limit {
                break;
            }
            if self.reads == 0 || !self.place_reads() {
                self.place(first)?;
            }
        }
        Some(())
    }

    /// Places every read that is possible now. Says whether there was one.
    fn place_reads(&mut self) -> bool {
        let Guess { model, part, state, waiting, reads, order, .. } = self;
        let before = *reads;
        waiting.retain(|waiting| {
            let operation = part.get(waiting.place as usize);
            let possible = waiting.read && model.apply(state, &operation.op, operation.ret());
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
        let Waiting { place, read, .. } = self.waiting.swap_remove(at);
        self.reads -= usize::from(read);
        let operation = self.part.get(place as usize);
        if !self.model.apply(&mut self.state, &operation.op, operation.ret()) {
            self.place_before(place)?;
        }
        self.order.push(place);
        Some(())
    }

    /// Places the operation that comes right before the one at `place` and makes it possible, and makes both steps.
    fn place_before(&mut self, place: u32) -> Option<()> {
        let operation = self.part.get(place as usize);
        let waiting = self.waiting.iter().enumerate().filter(|(_, waiting)| !waiting.read);
        let waiting = waiting.map(|(at, waiting)| (Some(at), waiting.place));
        let unknown = self.unknown.iter().map(|place| (None, *place));
        for (at, other) in waiting.chain(unknown) {
            self.tries = self.tries.checked_sub(1)?;
            let before = self.part.get(other as usize);
            let Some(mut next) = self.model.step(&self.state, &before.op, before.ret()) else { continue };
            if self.model.apply(&mut next, &operation.op, operation.ret()) {
                match at {
                    Some(at) => {
                        self.waiting.swap_remove(at);
                    }
                    None => self.unknown.retain(|unknown| *unknown != other),
                }
                self.state = next;
                self.order.push(other);
                return Some(());
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::witness::replay;
    use crate::generate::{Shape, generate};
    use crate::read::AnyHistory;

    #[test]
    fn what_comes_out_is_a_linearization() {
        let mut right = [0; 2];
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
                if let Some(order) = order(&model, part) {
                    assert!(replay(&model, part, &order).is_ok(), "seed {seed}: {order:?}");
                    right[kind] += 1;
                }
            }
        }
        assert!(right[0] > 150 && right[1] > 40, "{right:?}");
    }
}
