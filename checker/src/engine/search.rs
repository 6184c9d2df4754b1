//! The search of a partition: the frontier, and if that becomes wide, depth first and the frontier by turns.
//!
//! Which of the two is faster nobody knows beforehand: the frontier sees everything once, and depth first may be lucky. So
//! each goes on for a number of steps that doubles from turn to turn, the frontier for more of them, and the first answer
//! counts. The turns are counted in steps, so the same partition always has the same answer from the same search.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::check::Engine;
use crate::engine::OperationOf;
use crate::engine::breadth::{Returned, Stop};
use crate::engine::budget::{Budget, Exhausted};
use crate::engine::depth::{Deep, Script, deep};
use crate::engine::part::Part;
use crate::engine::states::{Hints, States, WrongHint};
use crate::engine::width::Frontier;
use crate::engine::window::NEVER;
use crate::model::Model;

/// The frontier is alone for so many steps, and for so many more with each return: what stays narrow needs no other.
const ALONE_STEPS_MIN: u64 = 1 << 8;
const ALONE_STEPS_PER_RETURN: u64 = 16;

/// The first turn after that.
const TURN_STEPS_MIN: u64 = 1 << 10;

/// A turn of the depth-first search is so many times shorter: where there is no order, it is of no use.
const DEPTH_SHARE: u64 = 4;

/// What the search found.
pub(crate) enum Found {
    /// An order of operations, by place, that explains everything. Free operations are not in it.
    Order(Vec<u32>),
    /// No order explains the return at `event` of the operation at `place`.
    DeadEnd {
        place: u32,
        event: usize,
        /// The orders, of different final states, after which it was tried last.
        orders: Vec<Vec<u32>>,
        /// Whether there were more.
        more: bool,
    },
}

/// Why there is no answer.
pub(crate) enum Failure {
    /// `returned` operations of the partition had been explained by then.
    Exhausted {
        exhausted: Exhausted,
        returned: usize,
    },
    WrongHint,
}

impl From<WrongHint> for Failure {
    fn from(_: WrongHint) -> Failure {
        Failure::WrongHint
    }
}

/// The frontier over the events of a partition.
struct Walk<'p, 'a, M: Model> {
    part: Part<'p, 'a, M>,
    /// `None` while it is moved.
    frontier: Option<Frontier<M, &'a OperationOf<M>>>,
    /// The place of the next invocation.
    next: usize,
    /// The returns of what is open: event, place, slot.
    returns: BinaryHeap<Reverse<(usize, u32, u16)>>,
    /// The return that is being handled.
    paused: Option<(usize, u32)>,
    /// How many operations have returned.
    returned: usize,
    /// No other search has had a turn.
    alone: bool,
}

impl<'p, 'a, M: Model> Walk<'p, 'a, M> {
    fn new(part: Part<'p, 'a, M>, states: States<M, &'a OperationOf<M>>) -> Self {
        Walk {
            part,
            frontier: Some(Frontier::new(states, true)),
            next: 0,
            returns: BinaryHeap::new(),
            paused: None,
            returned: 0,
            alone: true,
        }
    }

    /// Goes on. `None`: it is another search's turn.
    fn run(&mut self, budget: &mut Budget) -> Result<Option<Found>, Stop> {
        loop {
            let frontier = self.frontier.as_mut().ok_or(Stop::Full)?;
            let first_return = self.returns.peek().map(|Reverse((event, ..))| *event);
            let next = (self.next < self.part.len()).then(|| self.part.get(self.next));
            let (handled, (event, place)) = match (self.paused.take(), next, first_return) {
                (Some(paused), ..) => (frontier.resume(budget)?, paused),
                (None, Some(operation), returned)
                    if returned.is_none_or(|returned| operation.invoked.event < returned) =>
                {
                    self.invoke(operation, budget)?;
                    continue;
                }
                (None, _, Some(_)) => {
                    let Some(Reverse((event, place, slot))) = self.returns.pop() else { continue };
                    (frontier.finish(slot, budget)?, (event, place))
                }
                (None, _, None) => {
                    return Ok(self.frontier.take().map(|frontier| Found::Order(frontier.into_order())));
                }
            };
            match handled {
                Returned::Explained => {
                    self.returned += 1;
                    if self.alone {
                        budget.pause_at = budget.pause_at.saturating_add(ALONE_STEPS_PER_RETURN);
                    }
                }
                Returned::Paused => {
                    self.paused = Some((event, place));
                    return Ok(None);
                }
                Returned::DeadEnd => {
                    let (ends, more) = frontier.dead_ends();
                    let orders = ends.iter().map(|(_, last)| frontier.trail().order(*last)).collect();
                    return Ok(Some(Found::DeadEnd { place, event, orders, more }));
                }
            }
            if budget.is_others_turn() {
                return Ok(None);
            }
        }
    }

    fn invoke(&mut self, operation: &'a OperationOf<M>, budget: &mut Budget) -> Result<(), Stop> {
        let place = self.next as u32;
        self.next += 1;
        let returned = operation.returned().map_or(NEVER, |returned| returned.event);
        let frontier = self.frontier.take().ok_or(Stop::Full)?;
        let (frontier, slot) = frontier.invoke(place, &operation, returned, budget)?;
        self.frontier = Some(frontier);
        if let Some(slot) = slot.filter(|_| returned != NEVER) {
            self.returns.push(Reverse((returned, place, slot)));
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.frontier.as_ref().map_or(0, Frontier::bytes)
    }
}

/// Searches a partition.
pub(crate) fn search<'a, M: Model + 'a>(
    part: Part<'_, 'a, M>,
    focused: &M,
    hints: Hints,
    budget: &mut Budget,
) -> Result<Found, Failure> {
    let walk = || Walk::new(part, States::new(focused.clone(), hints));
    let mut walk = (budget.engine != Engine::Depth).then(walk);
    let mut deep_search: Option<Box<dyn Deep + 'a>> = None;
    let mut deep_is_over = budget.engine == Engine::Breadth;
    let mut returned = 0;
    let mut turn = ALONE_STEPS_MIN;
    let answer = loop {
        let turn_of = |budget: &mut Budget, steps: u64, waiting_bytes: usize| {
            budget.pause_at = budget.steps.saturating_add(steps);
            budget.waiting_bytes = waiting_bytes;
        };
        if let Some(frontier) = &mut walk {
            turn_of(budget, turn, deep_search.as_ref().map_or(0, |deep| deep.bytes()));
            let result = frontier.run(budget);
            (returned, frontier.alone) = (frontier.returned, false);
            match result {
                Ok(Some(found)) => break Ok(found),
                Ok(None) => {}
                // Who runs out of memory leaves it to the other.
                Err(Stop::Exhausted(Exhausted::Memory(_))) if !deep_is_over => walk = None,
                Err(stop) => break Err(stop),
            }
        }
        turn = turn.max(TURN_STEPS_MIN);
        if deep_search.is_none() && !deep_is_over {
            let mut states = States::new(focused.clone(), hints);
            match Script::new(part, &mut states) {
                Ok(script) => deep_search = Some(deep(script, states)),
                Err(stop) => break Err(stop),
            }
        }
        if let Some(deep) = &mut deep_search {
            turn_of(budget, turn / DEPTH_SHARE, walk.as_ref().map_or(0, Walk::bytes));
            match deep.run(budget) {
                Ok(Some(found)) => break Ok(found),
                Ok(None) => {}
                Err(Stop::Exhausted(Exhausted::Memory(_))) if walk.is_some() => {
                    (deep_search, deep_is_over) = (None, true);
                }
                Err(stop) => break Err(stop),
            }
        }
        turn = turn.saturating_mul(2);
    };
    (budget.pause_at, budget.waiting_bytes) = (u64::MAX, 0);
    answer.map_err(|stop| match stop {
        Stop::Exhausted(exhausted) => Failure::Exhausted { exhausted, returned },
        Stop::WrongHint => Failure::WrongHint,
        Stop::Full => unreachable!("sets grow when they are full"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::{Rng, Shape, generate};
    use crate::history::Outcome;
    use crate::models::register::{Register, RegisterRet};
    use crate::read::AnyHistory;

    const HISTORIES: u64 = 600;

    /// Registers with few values, so that the fast paths would have nothing to say; some of them not linearizable.
    fn sample(seed: u64) -> Vec<OperationOf<Register>> {
        let mut rng = Rng(seed);
        let shape = Shape {
            operations: 5 + rng.below(60) as usize,
            clients: 1 + rng.below(6),
            keys: 0,
            values: 1 + rng.below(4),
            cas: [0, 25][rng.below(2) as usize],
            unknown_permille: [0, 150][rng.below(2) as usize],
            ..Shape::default()
        };
        let AnyHistory::Register(_, history) = generate(&shape, seed) else { unreachable!("keys: 0") };
        let mut operations = history.operations;
        for _ in 0..rng.below(12) {
            let (one, other) = (rng.below(shape.operations as u64), rng.below(shape.operations as u64));
            let read = operations[other as usize].ret().cloned();
            if let (
                Some(read @ RegisterRet::Value(_)),
                Outcome::Ok { ret: ret @ RegisterRet::Value(_), .. },
            ) = (read, &mut operations[one as usize].outcome)
            {
                *ret = read;
            }
        }
        operations
    }

    /// What is found, in a form that can be compared: the order is any.
    fn told(found: &Found) -> Option<(u32, usize)> {
        match found {
            Found::Order(_) => None,
            Found::DeadEnd { place, event, .. } => Some((*place, *event)),
        }
    }

    fn endless() -> Budget {
        Budget::new(u64::MAX, usize::MAX, None)
    }

    #[test]
    fn both_searches_find_the_same() {
        let (mut illegal, mut states_told) = (0, 0);
        for seed in 0..HISTORIES {
            let operations = sample(seed);
            let model = Register::with_cas();
            let part = Part::<Register>::whole(&operations);
            let mut states = States::new(model, Hints::Trusted);
            let script = Script::new(part, &mut states).ok().unwrap();
            let found = deep(script, states).run(&mut endless()).ok().flatten().unwrap();
            let wide = Walk::new(part, States::new(model, Hints::Trusted)).run(&mut endless());
            let wide = wide.ok().flatten().unwrap();
            assert_eq!(told(&found), told(&wide), "seed {seed}: {operations:#?}");
            match (found, wide) {
                (Found::Order(order), _) => {
                    let blind = |operation: &OperationOf<Register>| {
                        model.class(&operation.op, operation.ret()) == crate::model::Class::BlindWrite
                    };
                    let order = crate::engine::witness::complete(part, order, blind).unwrap();
                    assert!(crate::engine::witness::replay(&model, part, &order).is_ok(), "seed {seed}");
                }
                (Found::DeadEnd { orders, .. }, Found::DeadEnd { orders: wide, .. }) => {
                    illegal += 1;
                    states_told += usize::from(orders.len() == wide.len());
                }
                _ => unreachable!("they are equal"),
            }
        }
        assert!(illegal > 60 && illegal < HISTORIES - 60, "{illegal}");
        assert!(states_told * 10 > illegal as usize * 9, "{states_told} of {illegal}");
    }

    /// With turns of one step each, the answer is the same as without turns.
    #[test]
    fn a_search_can_be_interrupted_anywhere() {
        for seed in 0..HISTORIES / 4 {
            let operations = sample(seed);
            let part = Part::<Register>::whole(&operations);
            let model = Register::with_cas();
            let mut walk = Walk::new(part, States::new(model, Hints::Trusted));
            walk.alone = false;
            let mut states = States::new(model, Hints::Trusted);
            let mut depth = deep(Script::new(part, &mut states).ok().unwrap(), states);
            let (mut one, mut other) = (endless(), endless());
            let (mut wide, mut deep, mut turns) = (None, None, 0);
            while wide.is_none() || deep.is_none() {
                (one.pause_at, other.pause_at) = (one.steps + 1, other.steps + 1);
                wide = wide.or_else(|| walk.run(&mut one).ok().unwrap());
                deep = deep.or_else(|| depth.run(&mut other).ok().unwrap());
                turns += 1;
            }
            assert!(turns > 3, "seed {seed}");
            let whole = Walk::new(part, States::new(model, Hints::Trusted)).run(&mut endless());
            let whole = whole.ok().flatten().unwrap();
            for found in [wide.unwrap(), deep.unwrap()] {
                assert_eq!(told(&found), told(&whole), "seed {seed}");
            }
        }
    }
}
