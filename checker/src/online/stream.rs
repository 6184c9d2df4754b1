//! One partition of a history that goes on: what waits, what is settled, and the probe.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::engine::OperationOf;
use crate::engine::breadth::{Returned, Stop};
use crate::engine::budget::Budget;
use crate::engine::states::{Hints, States};
use crate::engine::width::Frontier;
use crate::engine::window::NEVER;
use crate::evidence::{CONCURRENT_MAX, evidence, impossible};
use crate::history::{Operation, Outcome};
use crate::model::Model;
use crate::report::{Report, Role, Verdict};

/// An operation of a stream.
#[derive(Clone)]
enum Entry<M: Model> {
    Open(Arc<OperationOf<M>>),
    Ended(Arc<OperationOf<M>>),
    Failed,
}

#[derive(Clone, Copy)]
enum Event {
    Invoke(u32),
    Return(u32),
}

/// One partition.
#[derive(Clone)]
pub(super) struct Stream<M: Model> {
    pub(super) name: String,
    /// `None`: it was given up.
    pub(super) frontier: Option<Frontier<M, Arc<OperationOf<M>>>>,
    /// The operations from the place `first` on.
    entries: VecDeque<Entry<M>>,
    first: u32,
    /// The events that are not settled, with their numbers.
    waiting: VecDeque<(usize, Event)>,
    /// What is open in the frontier and will return, with its slots.
    slots: BTreeMap<u32, u16>,
    /// What is open in the frontier and will not.
    left_open: Vec<(u32, Arc<OperationOf<M>>)>,
    /// Operations that ended since the last probe, and how many of them returned.
    pub(super) ended: usize,
    pub(super) unprobed: usize,
    /// Whether it is in the list of those in which something ended.
    pub(super) queued: bool,
    /// Returns before the last probe.
    probed: usize,
}

/// How far events were handled.
enum Ran {
    /// So many of those that wait.
    To(usize),
    /// Until a return that nothing explains.
    DeadEnd,
}

/// The first return that makes a stream impossible.
pub(super) struct Impossible<M: Model> {
    operation: Arc<OperationOf<M>>,
    /// What else is open, or had just returned.
    others: Vec<Arc<OperationOf<M>>>,
    states: Vec<M::State>,
    prefix: usize,
}

impl<M: Model> Stream<M> {
    pub(super) fn new(model: &M, name: String) -> Self {
        Stream {
            name,
            frontier: Some(Frontier::new(States::new(model.clone(), Hints::Trusted), false)),
            entries: VecDeque::new(),
            first: 0,
            waiting: VecDeque::new(),
            slots: BTreeMap::new(),
            left_open: Vec::new(),
            ended: 0,
            unprobed: 0,
            queued: false,
            probed: 0,
        }
    }

    pub(super) fn invoke(&mut self, operation: OperationOf<M>) -> u32 {
        let place = self.first + self.entries.len() as u32;
        if self.frontier.is_some() {
            self.waiting.push_back((operation.invoked.event, Event::Invoke(place)));
        }
        self.entries.push_back(Entry::Open(Arc::new(operation)));
        place
    }

    /// So many events wait.
    pub(super) fn waits(&self) -> usize {
        self.waiting.len()
    }

    fn entry(&self, place: u32) -> &Entry<M> {
        &self.entries[(place - self.first) as usize]
    }

    pub(super) fn open_op(&self, place: u32) -> Option<&M::Op> {
        match self.entry(place) {
            Entry::Open(operation) => Some(&operation.op),
            Entry::Ended(_) | Entry::Failed => None,
        }
    }

    /// `outcome`: `None` if it failed.
    pub(super) fn end(&mut self, place: u32, outcome: Option<Outcome<M::Ret>>, event: usize) {
        let entry = &mut self.entries[(place - self.first) as usize];
        let Entry::Open(mut operation) = std::mem::replace(entry, Entry::Failed) else { return };
        self.ended += 1;
        let Some(outcome) = outcome else { return };
        let returned = outcome != Outcome::Unknown;
        // A copy if a probe still knows it as one of unknown outcome.
        Arc::make_mut(&mut operation).outcome = outcome;
        *entry = Entry::Ended(operation);
        if returned && self.frontier.is_some() {
            self.waiting.push_back((event, Event::Return(place)));
            self.unprobed += 1;
        }
        if self.frontier.is_none() {
            self.forget_ended(u32::MAX);
        }
    }

    /// Handles events that wait, from the one with the number `from` on, up to event `limit`. `settled`: stops at an
    /// operation that has not ended; otherwise that is taken for one of unknown outcome.
    fn run(&mut self, from: usize, limit: usize, settled: bool, budget: &mut Budget) -> Result<Ran, Stop> {
        for number in from..self.waiting.len() {
            let (event, what) = self.waiting[number];
            if event > limit {
                return Ok(Ran::To(number));
            }
            let Some(mut frontier) = self.frontier.take() else { return Ok(Ran::To(self.waiting.len())) };
            match what {
                Event::Return(place) => {
                    let returned = match self.slots.remove(&place) {
                        Some(slot) => frontier.finish(slot, budget),
                        None => Ok(Returned::Explained),
                    };
                    self.frontier = Some(frontier);
                    if returned? == Returned::DeadEnd {
                        return Ok(Ran::DeadEnd);
                    }
                }
                Event::Invoke(place) => {
                    let operation = match self.entry(place) {
                        Entry::Failed => {
                            self.frontier = Some(frontier);
                            continue;
                        }
                        Entry::Open(_) if settled => {
                            self.frontier = Some(frontier);
                            return Ok(Ran::To(number));
                        }
                        Entry::Ended(operation) if has_answer_after(operation, limit) => {
                            let unknown =
                                Operation { outcome: Outcome::Unknown, ..operation.as_ref().clone() };
                            Arc::new(unknown)
                        }
                        Entry::Open(operation) | Entry::Ended(operation) => Arc::clone(operation),
                    };
                    let returned = operation.returned().map_or(NEVER, |returned| returned.event);
                    let (frontier, slot) = frontier.invoke(place, &operation, returned, budget)?;
                    self.frontier = Some(frontier);
                    match slot {
                        Some(slot) if returned != NEVER => {
                            self.slots.insert(place, slot);
                        }
                        Some(_) => self.left_open.push((place, operation)),
                        None => {}
                    }
                }
            }
        }
        Ok(Ran::To(self.waiting.len()))
    }

    fn push_mark(&mut self) -> (BTreeMap<u32, u16>, usize) {
        if let Some(frontier) = &mut self.frontier {
            frontier.push_mark();
        }
        (self.slots.clone(), self.left_open.len())
    }

    fn go_back(&mut self, (slots, left_open): (BTreeMap<u32, u16>, usize)) {
        if let Some(frontier) = &mut self.frontier {
            frontier.pop_mark(true);
        }
        self.slots = slots;
        self.left_open.truncate(left_open);
    }

    /// Says what is impossible, or settles what can be settled.
    pub(super) fn probe(&mut self, budget: &mut Budget) -> Result<Option<Impossible<M>>, Stop> {
        self.ended = 0;
        // If nothing can be settled, what is known now is known afterwards.
        let base = self.settles().then(|| self.push_mark());
        let mut dead = true;
        if let Ran::To(settled) = self.run(0, usize::MAX, true, budget)? {
            let middle = self.push_mark();
            dead = matches!(self.run(settled, usize::MAX, false, budget)?, Ran::DeadEnd);
            self.go_back(middle);
            if !dead {
                if let Some(frontier) = &mut self.frontier {
                    if base.is_some() {
                        frontier.pop_mark(false);
                    }
                    frontier.tidy()?;
                }
                self.settle(settled);
            }
        }
        if !dead {
            return Ok(None);
        }
        if let Some(base) = base {
            self.go_back(base);
        }
        self.first_impossible(budget).map(Some)
    }

    /// Whether the first event that waits can be settled.
    fn settles(&self) -> bool {
        let open = |place: u32| matches!(self.entry(place), Entry::Open(_));
        match self.waiting.front() {
            None => false,
            Some((_, Event::Invoke(place))) => !open(*place),
            Some((_, Event::Return(_))) => true,
        }
    }

    /// The events before the one with the number `settled` are handled for good.
    fn settle(&mut self, settled: usize) {
        self.waiting.drain(..settled);
        self.probed += std::mem::take(&mut self.unprobed);
        if let Some(frontier) = self.frontier.as_ref().filter(|_| !self.left_open.is_empty()) {
            let open = frontier.open_changes();
            if self.left_open.len() > 2 * open.len() {
                let mut places: Vec<u32> = open.iter().map(|open| open.place).collect();
                places.sort_unstable();
                self.left_open.retain(|(place, _)| places.binary_search(place).is_ok());
            }
        }
        // Those before the first that waits for anything are not needed any more.
        let needed = self.waiting.iter().map(|(_, event)| match event {
            Event::Invoke(place) | Event::Return(place) => *place,
        });
        let end = self.first + self.entries.len() as u32;
        let needed = needed.min().unwrap_or(end);
        self.forget_ended(needed);
    }

    fn forget_ended(&mut self, before: u32) {
        while self.first < before && !matches!(self.entries.front(), None | Some(Entry::Open(_))) {
            self.entries.pop_front();
            self.first += 1;
        }
    }

    /// All that waits is impossible together: finds the first return that makes it so.
    fn first_impossible(&mut self, budget: &mut Budget) -> Result<Impossible<M>, Stop> {
        let returns: Vec<(usize, u32)> = self
            .waiting
            .iter()
            .filter_map(|(event, what)| match what {
                Event::Return(place) => Some((*event, *place)),
                Event::Invoke(_) => None,
            })
            .collect();
        let (mut low, mut high) = (0, returns.len() - 1);
        while low < high {
            let middle = low + (high - low) / 2;
            let base = self.push_mark();
            let dead = matches!(self.run(0, returns[middle].0, false, budget)?, Ran::DeadEnd);
            self.go_back(base);
            if dead {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        let (event, place) = returns[high];
        // Once more, and it stays there.
        self.run(0, event, false, budget)?;
        Ok(self.describe(event, place, returns.len() - high))
    }

    fn describe(&self, event: usize, place: u32, returns_left: usize) -> Impossible<M> {
        let of = |place: u32| {
            let left = self.left_open.iter().find(|(other, _)| *other == place);
            let entry = || match self.entry(place) {
                Entry::Open(operation) | Entry::Ended(operation) => Some(Arc::clone(operation)),
                Entry::Failed => None,
            };
            left.map(|(_, operation)| Arc::clone(operation)).or_else(|| (place >= self.first).then(entry)?)
        };
        let mut impossible = Impossible {
            operation: of(place).expect("what has just returned is there"),
            others: Vec::new(),
            states: Vec::new(),
            prefix: self.probed + self.unprobed - returns_left,
        };
        if let Some(frontier) = &self.frontier {
            let (ends, _) = frontier.dead_ends();
            impossible.states =
                ends.iter().map(|(state, _)| frontier.states().state(*state).clone()).collect();
            let open = frontier.open_changes();
            let near = ends.iter().filter_map(|(_, last)| frontier.trail().recent(*last).pop());
            let mut places: Vec<u32> = near.chain(open.iter().map(|open| open.place)).collect();
            places.sort_unstable();
            places.dedup();
            places.retain(|other| *other != place);
            impossible.others = places.into_iter().filter_map(of).collect();
        }
        let ended_by_then = |operation: &OperationOf<M>| !has_answer_after(operation, event);
        impossible.others.sort_by_key(|operation| (!ended_by_then(operation), operation.invoked.event));
        impossible
    }
}

fn has_answer_after<O, R>(operation: &Operation<O, R>, limit: usize) -> bool {
    operation.returned().is_some_and(|returned| returned.event > limit)
}

impl<M: Model> Impossible<M> {
    pub(super) fn tell(&self, report: &mut Report, model: &M, name: String) {
        let unplaceable = evidence(model, Role::Unplaceable, &self.operation);
        report.states = self.states.iter().map(|state| model.describe_state(state)).collect();
        let impossible = impossible(model, &name, self.prefix, &self.operation);
        report.reason = Some(format!("{impossible} {}", report.states.join(", ")));
        let others = self.others.iter().take(CONCURRENT_MAX);
        report.core = std::iter::once(unplaceable)
            .chain(others.map(|operation| evidence(model, Role::Concurrent, operation)))
            .collect();
        report.prefix = Some(self.prefix);
        report.verdict = Verdict::Violation;
        report.partition = Some(name);
    }
}
