//! The search: it walks over the events of a partition and keeps every configuration that may be true.
//!
//! An operation is placed only when it must be, at its return (*just in time*): all orders of open operations that place
//! the returning one last are tried from every configuration. When no configuration is left, the events so far have no
//! linearization. The documentation of the crate says why nothing is lost by the reductions.
//!
//! Invariants:
//! - between events no member of `frontier` dominates another;
//! - in every configuration, every open read that is legal in its state has been placed;
//! - `open` holds the open operations that are not reads, twins together and the earliest return first.

use rustc_hash::FxHashMap as HashMap;

use crate::engine::budget::{Budget, Exhausted};
use crate::engine::config::{Antichain, Config};
use crate::engine::plan::{Event, Plan};
use crate::engine::slots::Slots;
use crate::engine::states::{States, WrongHint};
use crate::engine::trail::{Step, StepId, Trail};
use crate::model::{Class, Model};

/// So many comparisons of configurations cost as much as placing an operation.
const COMPARISONS_PER_STEP: usize = 8;

/// The states before an impossible return that are told; there may be more.
const DEAD_ENDS_MAX: usize = 4;

/// Why the search stopped before the end.
pub(crate) enum Stop {
    Exhausted(Exhausted),
    WrongHint,
}

impl From<Exhausted> for Stop {
    fn from(exhausted: Exhausted) -> Stop {
        Stop::Exhausted(exhausted)
    }
}

impl From<WrongHint> for Stop {
    fn from(_: WrongHint) -> Stop {
        Stop::WrongHint
    }
}

/// What the search found.
pub(crate) enum Found {
    /// An order of operations that explains everything. Free operations are not in it.
    Order(Vec<Step>),
    /// No order explains the return of `operation`.
    DeadEnd {
        operation: usize,
        event: usize,
        /// The orders, of different final states, after which it was tried last.
        orders: Vec<Vec<Step>>,
        /// Whether there were more.
        more: bool,
    },
}

pub(crate) struct Search<'s, 'a, M: Model, const WORDS: usize> {
    plan: &'s Plan<'a, M>,
    budget: &'s mut Budget,
    states: States<M>,
    trail: Trail,
    frontier: Vec<Config<WORDS>>,
    /// For each kind, the first of the kinds that have the same effect.
    twins: Vec<usize>,
    slot: Vec<u16>,
    vacant: Vec<usize>,
    open: Vec<usize>,
    open_reads: Vec<usize>,
    /// What [`Search::find_candidates`] found.
    candidates: Vec<usize>,
    reads: Slots<WORDS>,
    blind_writes: Slots<WORDS>,
    /// The configurations met while one return is handled.
    visited: Antichain<WORDS>,
    /// The number of the event that is handled.
    now: usize,
}

impl<'s, 'a, M: Model, const WORDS: usize> Search<'s, 'a, M, WORDS> {
    pub(crate) fn new(plan: &'s Plan<'a, M>, budget: &'s mut Budget) -> Self {
        let root = Config { state: 0, used: Slots::EMPTY, free: Slots::EMPTY, trail: StepId::ROOT };
        Search {
            plan,
            budget,
            states: States::new(plan),
            trail: Trail::new(),
            frontier: vec![root],
            twins: (0..plan.class.len()).collect(),
            slot: vec![u16::MAX; plan.operations.len()],
            vacant: (0..Slots::<WORDS>::CAPACITY).rev().collect(),
            open: Vec::new(),
            open_reads: Vec::new(),
            candidates: Vec::new(),
            reads: Slots::EMPTY,
            blind_writes: Slots::EMPTY,
            visited: Antichain::default(),
            now: 0,
        }
    }

    /// Handles all events.
    pub(crate) fn run(mut self) -> Result<Found, Stop> {
        self.find_twins()?;
        for (now, event) in self.plan.events.iter().enumerate() {
            self.now = now;
            match *event {
                Event::Invoke(operation) => self.invoke(operation as usize)?,
                Event::Return(operation) => {
                    let operation = operation as usize;
                    let survivors = self.place(operation)?;
                    if survivors.is_empty() {
                        return Ok(self.dead_end(operation));
                    }
                    self.retire(operation, survivors)?;
                    if self.trail.wants_pruning() {
                        let mut lasts: Vec<&mut StepId> =
                            self.frontier.iter_mut().map(|config| &mut config.trail).collect();
                        self.trail.prune(&mut lasts);
                        self.visited.clear();
                    }
                }
            }
        }
        Ok(Found::Order(self.trail.order(self.frontier[0].trail)))
    }

    /// Equal operations are twins, and so are blind writes that lead to the same state.
    fn find_twins(&mut self) -> Result<(), Stop> {
        let mut first = HashMap::default();
        for kind in 0..self.plan.class.len() {
            if self.plan.class[kind] == Class::BlindWrite {
                let state = self.states.step(self.plan, 0, self.plan.example[kind] as usize)?;
                self.twins[kind] = *first.entry(state).or_insert(kind);
            }
        }
        Ok(())
    }

    fn twin_of(&self, operation: usize) -> usize {
        self.twins[self.plan.kind[operation] as usize]
    }

    fn invoke(&mut self, operation: usize) -> Result<(), Stop> {
        let slot = self.vacant.pop().expect("the caller chose enough words");
        self.slot[operation] = slot as u16;
        let class = self.plan.class_of(operation);
        if class == Class::ReadOnly {
            self.reads.insert(slot);
            self.open_reads.push(operation);
        } else {
            let rank = |other: &usize| (self.twin_of(*other), self.plan.returned_at[*other], *other);
            let place = self.open.partition_point(|other| rank(other) < rank(&operation));
            self.open.insert(place, operation);
        }
        if class == Class::BlindWrite {
            self.blind_writes.insert(slot);
        }
        let mut frontier = std::mem::take(&mut self.frontier);
        for config in &mut frontier {
            if class == Class::ReadOnly {
                self.place_read(config, operation)?;
            } else if self.plan.is_unknown(operation) {
                config.free.insert(slot);
            }
        }
        self.frontier = frontier;
        Ok(self.budget.spend(self.frontier.len() as u64, self.bytes(0))?)
    }

    /// Places a read that is legal now: it leaves the state as it is, so any order that has it later also has it here.
    fn place_read(&mut self, config: &mut Config<WORDS>, read: usize) -> Result<(), Stop> {
        let slot = usize::from(self.slot[read]);
        if !config.used.contains(slot) && self.states.step(self.plan, config.state, read)?.is_some() {
            config.used.insert(slot);
            config.trail = self.trail.push(config.trail, read, self.now);
        }
        Ok(())
    }

    /// All configurations in which `operation` has a place, or needs none, without placing more than that takes.
    fn place(&mut self, operation: usize) -> Result<Vec<Config<WORDS>>, Stop> {
        let slot = usize::from(self.slot[operation]);
        let mut survivors = Vec::new();
        self.visited.clear();
        let mut wave = std::mem::take(&mut self.frontier);
        survivors.extend(wave.iter().filter(|config| has_place(config, slot)));
        wave.retain(|config| !config.used.contains(slot));
        while !wave.is_empty() {
            let mut next_wave = Vec::new();
            for config in wave {
                let (new, compared) = self.visited.insert(config, &self.reads);
                let waiting = survivors.len() + next_wave.len();
                self.budget.spend((1 + compared / COMPARISONS_PER_STEP) as u64, self.bytes(waiting))?;
                if !new {
                    continue;
                }
                self.find_candidates(&config);
                for number in 0..self.candidates.len() {
                    let Some(next) = self.advance(&config, self.candidates[number])? else { continue };
                    if has_place(&next, slot) {
                        survivors.push(next);
                    }
                    if !next.used.contains(slot) {
                        next_wave.push(next);
                    }
                }
            }
            wave = next_wave;
        }
        Ok(survivors)
    }

    /// The open operations that are worth trying next: of twins, the one that returns first. In an order that has them the
    /// other way round, they may change places. If the first of them needs no place and has none, so may
    /// the second: both have unknown outcomes, or they are blind writes and placing the first frees the second.
    fn find_candidates(&mut self, config: &Config<WORDS>) {
        let mut candidates = std::mem::take(&mut self.candidates);
        candidates.clear();
        let unplaced = |operation: &&usize| !config.used.contains(usize::from(self.slot[**operation]));
        candidates.extend(self.open.iter().filter(unplaced));
        candidates.dedup_by_key(|operation| self.twin_of(*operation));
        self.candidates = candidates;
    }

    /// Places `operation` next, and then every read that has become legal.
    fn advance(&mut self, config: &Config<WORDS>, operation: usize) -> Result<Option<Config<WORDS>>, Stop> {
        let Some(state) = self.states.step(self.plan, config.state, operation)? else { return Ok(None) };
        let slot = usize::from(self.slot[operation]);
        let mut next = Config { state, trail: self.trail.push(config.trail, operation, self.now), ..*config };
        next.used.insert(slot);
        next.free.remove(slot);
        if self.blind_writes.contains(slot) {
            // Every other open blind write may have come just before this one, which hides it.
            next.free = next.free.union(&self.blind_writes.minus(&next.used));
        }
        for read in 0..self.open_reads.len() {
            self.place_read(&mut next, self.open_reads[read])?;
        }
        Ok(Some(next))
    }

    /// `operation` has returned: forgets it, and keeps what is not dominated.
    fn retire(&mut self, operation: usize, mut survivors: Vec<Config<WORDS>>) -> Result<(), Stop> {
        let slot = usize::from(self.slot[operation]);
        self.open.retain(|other| *other != operation);
        self.open_reads.retain(|other| *other != operation);
        self.reads.remove(slot);
        self.blind_writes.remove(slot);
        self.vacant.push(slot);
        self.visited.clear();
        for config in &mut survivors {
            config.used.remove(slot);
            config.free.remove(slot);
            let (_, compared) = self.visited.insert(*config, &self.reads);
            let bytes = self.bytes(0);
            self.budget.spend((compared / COMPARISONS_PER_STEP) as u64, bytes)?;
        }
        survivors.retain(|config| self.visited.contains(config));
        self.frontier = survivors;
        Ok(())
    }

    fn dead_end(&self, operation: usize) -> Found {
        let mut ends = self.visited.members();
        ends.sort_unstable_by_key(|config| config.trail);
        let mut states = Vec::new();
        ends.retain(|config| {
            let new = !states.contains(&config.state);
            states.push(config.state);
            new
        });
        let more = ends.len() > DEAD_ENDS_MAX;
        let orders = ends.iter().take(DEAD_ENDS_MAX).map(|config| self.trail.order(config.trail)).collect();
        Found::DeadEnd { operation, event: self.now, orders, more }
    }

    fn bytes(&self, waiting: usize) -> usize {
        let configs = self.frontier.len() + self.visited.len() + waiting;
        self.states.bytes() + self.trail.bytes() + configs * size_of::<Config<WORDS>>()
    }
}

fn has_place<const WORDS: usize>(config: &Config<WORDS>, slot: usize) -> bool {
    config.used.contains(slot) || config.free.contains(slot)
}
