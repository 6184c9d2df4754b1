//! The frontier search: it walks over the events and keeps every configuration that may be true.
//!
//! An operation is placed only when it must be, at its return (*just in time*): all orders of open operations that place
//! the returning one last are tried from every configuration. When no configuration is left, the events so far have no
//! linearization. The documentation of the crate says why nothing is lost by the reductions.
//!
//! The search is fed event by event, so it serves a history as well as a system that is still running, and what it keeps
//! depends on what is open, not on how much has happened.
//!
//! **What never returns need not be kept for ever.** After a return, an operation of unknown outcome that is placed in *every*
//! configuration of the frontier is forgotten, and its slot is vacant again ([`Breadth::finish`]). Nothing changes for what
//! comes later. All later configurations descend from these, so it would be placed in all of them; and whoever looks at a
//! placed operation that never returns does nothing: it is no candidate, and of its twins the first *unplaced* one is, so
//! that leaving it out of their list leaves the same one first; it is not freed by a blind write, which frees what is not
//! placed; dominance compares where two configurations place it, which is the same; whether all that can look at the state
//! is placed ([`Window::goes_on`]) it cannot make false; and no return asks for it. Its slot may be given to another
//! operation because no configuration has the bit any more, and none that had it is met again: what was visited is
//! forgotten at the next return, and a mark to go back to has its own list of what is open.
//!
//! Invariants:
//! - between events no member of `frontier` dominates another;
//! - what is known of states and kinds is only forgotten between events, and never while there is a mark to go back to.

use crate::engine::budget::{Budget, Exhausted};
use crate::engine::config::{Antichain, Config};
use crate::engine::slots::Slots;
use crate::engine::states::{Handle, Kind, StateId, States, WrongHint};
use crate::engine::trail::{StepId, Trail};
use crate::engine::window::{Open, Window};
use crate::model::{Class, Model};

/// So many comparisons of configurations cost as much as placing an operation.
pub(crate) const COMPARISONS_PER_STEP: usize = 8;

/// The states before an impossible return that are told; there may be more.
pub(crate) const DEAD_ENDS_MAX: usize = 4;

/// Why a search stopped before the end.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stop {
    Exhausted(Exhausted),
    WrongHint,
    /// There are more open operations than slots.
    Full,
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

/// What became of a return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Returned {
    /// Something explains it.
    Explained,
    /// Nothing does.
    DeadEnd,
    /// It is another search's turn; see [`Breadth::resume`].
    Paused,
}

/// A return that is being handled.
#[derive(Clone)]
struct Placing<const WORDS: usize> {
    open: Open,
    waves: Waves<WORDS>,
    /// All of the wave before this place are done.
    at: usize,
}

/// The configurations that are met while a return is handled. Between returns they are empty, and keep their room.
#[derive(Clone, Default)]
struct Waves<const WORDS: usize> {
    survivors: Vec<Config<WORDS>>,
    /// The configurations to extend next, and whether they end with something that no read saw; see [`Window::advance`].
    wave: Vec<(Config<WORDS>, bool)>,
    next_wave: Vec<(Config<WORDS>, bool)>,
}

impl<const WORDS: usize> Waves<WORDS> {
    fn clear(&mut self) {
        self.survivors.clear();
        self.wave.clear();
        self.next_wave.clear();
    }
}

/// What a frontier is at some event, to go back to.
#[derive(Clone, Default)]
struct Mark<const WORDS: usize> {
    frontier: Vec<Config<WORDS>>,
    window: Window<WORDS>,
    open_at: Vec<Option<Open>>,
    vacant: Vec<u16>,
}

#[derive(Clone)]
pub(crate) struct Breadth<M: Model, H, const WORDS: usize> {
    states: States<M, H>,
    trail: Trail,
    frontier: Vec<Config<WORDS>>,
    window: Window<WORDS>,
    /// The open operation in each slot that was ever taken: as few as were open at a time, because marks copy them.
    open_at: Vec<Option<Open>>,
    /// The slots among these that are free again.
    vacant: Vec<u16>,
    /// The configurations met while one return is handled.
    visited: Antichain<WORDS>,
    placing: Option<Placing<WORDS>>,
    waves: Waves<WORDS>,
    candidates: Vec<Open>,
    /// The first `marked` are in use, and the last of these is gone back to; the others keep their room.
    marks: Vec<Mark<WORDS>>,
    marked: usize,
}

impl<const WORDS: usize> Mark<WORDS> {
    fn widen<const MORE: usize>(self) -> Mark<MORE> {
        let frontier = self.frontier.iter().map(Config::widen).collect();
        Mark { frontier, window: self.window.widen(), open_at: self.open_at, vacant: self.vacant }
    }
}

impl<M: Model, H: Handle<M>, const WORDS: usize> Breadth<M, H, WORDS> {
    /// A search before all events. `keep_order`: whether somebody will ask for the order that explains everything.
    pub(crate) fn new(states: States<M, H>, keep_order: bool) -> Self {
        let root = Config { state: 0, used: Slots::EMPTY, free: Slots::EMPTY, trail: StepId::ROOT };
        Breadth {
            states,
            trail: Trail::new(keep_order),
            frontier: vec![root],
            window: Window::default(),
            open_at: Vec::new(),
            vacant: Vec::new(),
            visited: Antichain::default(),
            placing: None,
            waves: Waves::default(),
            candidates: Vec::new(),
            marks: Vec::new(),
            marked: 0,
        }
    }

    /// The same search with room for more open operations.
    pub(crate) fn widen<const MORE: usize>(self) -> Breadth<M, H, MORE> {
        debug_assert!(self.placing.is_none(), "only between events");
        let now =
            Mark { frontier: self.frontier, window: self.window, open_at: self.open_at, vacant: self.vacant };
        let Mark { frontier, window, open_at, vacant } = now.widen();
        Breadth {
            states: self.states,
            trail: self.trail,
            frontier,
            window,
            open_at,
            vacant,
            visited: Antichain::default(),
            placing: None,
            waves: Waves::default(),
            candidates: self.candidates,
            marks: self.marks.into_iter().map(Mark::widen).collect(),
            marked: self.marked,
        }
    }

    /// The operation at `place` of the partition is invoked; it will return at event `returned`. Says its slot, or `None`
    /// if it constrains nothing.
    pub(crate) fn invoke(
        &mut self,
        place: u32,
        operation: &H,
        returned: usize,
        budget: &mut Budget,
    ) -> Result<Option<u16>, Stop> {
        if !self.states.constrains(operation) {
            return Ok(None);
        }
        if self.vacant.is_empty() && self.open_at.len() == Slots::<WORDS>::CAPACITY {
            return Err(Stop::Full);
        }
        self.tidy()?;
        let kind = self.states.kind_of(operation)?;
        let slot = self.vacant.pop().unwrap_or_else(|| {
            self.open_at.push(None);
            self.open_at.len() as u16 - 1
        });
        let &Kind { class, twin, .. } = self.states.kind(kind);
        let open = Open { place, kind, twin, class, slot, returned };
        self.window.open(open);
        self.open_at[usize::from(slot)] = Some(open);
        for config in &mut self.frontier {
            self.window.enter(&mut self.states, &mut self.trail, config, &open)?;
        }
        let bytes = self.bytes(0);
        budget.spend(self.frontier.len() as u64, bytes)?;
        Ok(Some(slot))
    }

    /// The operation in `slot` returns.
    pub(crate) fn finish(&mut self, slot: u16, budget: &mut Budget) -> Result<Returned, Stop> {
        let open = self.open_at[usize::from(slot)].take().expect("what returns was invoked");
        self.visited.clear();
        let mut waves = std::mem::take(&mut self.waves);
        for config in self.frontier.drain(..) {
            if open.has_place(&config) {
                waves.survivors.push(config);
            }
            if !open.is_used(&config) {
                waves.wave.push((config, false));
            }
        }
        self.placing = Some(Placing { open, waves, at: 0 });
        self.resume(budget)
    }

    /// Goes on with a return: finds all configurations in which the operation has a place, or needs none, without placing
    /// more than that takes.
    pub(crate) fn resume(&mut self, budget: &mut Budget) -> Result<Returned, Stop> {
        let Some(mut placing) = self.placing.take() else { return Ok(Returned::Explained) };
        loop {
            if placing.at == placing.waves.wave.len() {
                placing.waves.wave.clear();
                placing.at = 0;
                if placing.waves.next_wave.is_empty() {
                    break;
                }
                std::mem::swap(&mut placing.waves.wave, &mut placing.waves.next_wave);
            }
            if budget.is_others_turn() {
                self.placing = Some(placing);
                return Ok(Returned::Paused);
            }
            self.extend(&mut placing, budget)?;
        }
        self.waves = placing.waves;
        if self.waves.survivors.is_empty() {
            return Ok(Returned::DeadEnd);
        }
        self.retire(&placing.open, budget)?;
        self.tidy()?;
        Ok(Returned::Explained)
    }

    /// Between events: forgets what nothing stands on, if that is worth it and nobody may go back.
    pub(crate) fn tidy(&mut self) -> Result<(), WrongHint> {
        if self.marked > 0 {
            return Ok(());
        }
        if self.trail.wants_pruning() {
            let mut lasts: Vec<&mut StepId> =
                self.frontier.iter_mut().map(|config| &mut config.trail).collect();
            self.trail.prune(&mut lasts);
            self.visited.clear();
        }
        if self.states.wants_forgetting() { self.forget() } else { Ok(()) }
    }

    /// Extends the next configuration of the wave by every operation that is worth it.
    fn extend(&mut self, placing: &mut Placing<WORDS>, budget: &mut Budget) -> Result<(), Stop> {
        let Waves { survivors, wave, next_wave } = &mut placing.waves;
        let (config, unseen) = wave[placing.at];
        placing.at += 1;
        let (new, compared) = self.visited.insert(config, &self.window.read_slots);
        let waiting = survivors.len() + wave.len() + next_wave.len();
        budget.spend((1 + compared / COMPARISONS_PER_STEP) as u64, self.bytes(waiting))?;
        if !new {
            return Ok(());
        }
        let mut candidates = std::mem::take(&mut self.candidates);
        candidates.clear();
        self.window.find_candidates(&config, unseen, &mut candidates);
        for open in &candidates {
            let advanced = self.window.advance(&mut self.states, &mut self.trail, &config, open)?;
            let Some((next, unseen)) = advanced else { continue };
            if placing.open.has_place(&next) {
                survivors.push(next);
            }
            if !placing.open.is_used(&next) && self.window.goes_on(&next, unseen) {
                next_wave.push((next, unseen));
            }
        }
        self.candidates = candidates;
        Ok(())
    }

    /// `open` has returned: forgets it, and keeps what is not dominated.
    fn retire(&mut self, open: &Open, budget: &mut Budget) -> Result<(), Stop> {
        let slot = usize::from(open.slot);
        self.window.close(open);
        self.vacant.push(open.slot);
        let mut survivors = std::mem::take(&mut self.waves.survivors);
        for config in &mut survivors {
            config.used.remove(slot);
            config.free.remove(slot);
        }
        if survivors.len() > 1 {
            self.visited.clear();
            for config in &survivors {
                let (_, compared) = self.visited.insert(*config, &self.window.read_slots);
                let bytes = self.bytes(0);
                budget.spend((compared / COMPARISONS_PER_STEP) as u64, bytes)?;
            }
            survivors.retain(|config| self.visited.contains(config));
        }
        self.waves.survivors = std::mem::replace(&mut self.frontier, survivors);
        self.settle_unknown();
        Ok(())
    }

    /// What never returns but took effect for certain is not open any more: it is placed in every configuration.
    fn settle_unknown(&mut self) {
        let everywhere = self.frontier.iter().map(|config| config.used);
        let settled = everywhere.fold(self.window.unknown_slots, |all, used| all.intersection(&used));
        for slot in settled.iter() {
            if let Some(open) = self.open_at[slot].take() {
                self.window.close(&open);
                self.vacant.push(open.slot);
                self.frontier.iter_mut().for_each(|config| config.used.remove(slot));
            }
        }
    }

    /// Forgets the states and kinds that nothing stands on.
    fn forget(&mut self) -> Result<(), WrongHint> {
        let mut states: Vec<_> = self.frontier.iter_mut().map(|config| &mut config.state).collect();
        let open = self.open_at.iter_mut().flatten();
        let mut kinds: Vec<_> = open.map(|open| &mut open.kind).collect();
        self.states.forget(&mut states, &mut kinds)?;
        for open in self.open_at.iter_mut().flatten() {
            open.twin = self.states.kind(open.kind).twin;
        }
        let open_at = &self.open_at;
        self.window.renumber(|open| {
            if let Some(renumbered) = &open_at[usize::from(open.slot)] {
                *open = *renumbered;
            }
        });
        self.visited = Antichain::default();
        Ok(())
    }

    /// Right after a dead end: what was tried last, each with a different state, and whether there was more.
    pub(crate) fn dead_ends(&self) -> (Vec<(StateId, StepId)>, bool) {
        let mut ends = self.visited.members();
        ends.sort_unstable_by_key(|config| config.trail);
        let mut states = Vec::new();
        ends.retain(|config| {
            let new = !states.contains(&config.state);
            states.push(config.state);
            new
        });
        let more = ends.len() > DEAD_ENDS_MAX;
        ends.truncate(DEAD_ENDS_MAX);
        (ends.into_iter().map(|config| (config.state, config.trail)).collect(), more)
    }

    /// The order that explains everything so far. Free operations are not in it.
    pub(crate) fn into_order(self) -> Vec<u32> {
        // Every one of them does, so the first will do.
        let last = self.frontier[0].trail;
        self.trail.into_order(last)
    }

    pub(crate) fn trail(&self) -> &Trail {
        &self.trail
    }

    pub(crate) fn states(&self) -> &States<M, H> {
        &self.states
    }

    /// The operations that are open and may change the state.
    pub(crate) fn open_changes(&self) -> impl Iterator<Item = &Open> {
        let changes = |open: &&Open| open.class != Class::ReadOnly;
        self.open_at.iter().flatten().filter(changes)
    }

    /// Remembers what is known now.
    pub(crate) fn push_mark(&mut self) {
        if self.marked == self.marks.len() {
            self.marks.push(Mark::default());
        }
        let mark = &mut self.marks[self.marked];
        self.marked += 1;
        mark.frontier.clone_from(&self.frontier);
        mark.window.copy(&self.window);
        mark.open_at.clone_from(&self.open_at);
        mark.vacant.clone_from(&self.vacant);
    }

    /// Forgets what was remembered last; what is known may be that again.
    pub(crate) fn pop_mark(&mut self, go_back: bool) {
        self.marked -= 1;
        if go_back {
            let mark = &mut self.marks[self.marked];
            std::mem::swap(&mut self.frontier, &mut mark.frontier);
            std::mem::swap(&mut self.window, &mut mark.window);
            std::mem::swap(&mut self.open_at, &mut mark.open_at);
            std::mem::swap(&mut self.vacant, &mut mark.vacant);
            self.placing = None;
            self.waves.clear();
        }
    }

    fn bytes(&self, waiting: usize) -> usize {
        let configs = self.frontier.len() + self.visited.len() + waiting;
        self.states.bytes() + self.trail.bytes() + configs * size_of::<Config<WORDS>>()
    }

    /// About how much memory it takes.
    pub(crate) fn bytes_in_use(&self) -> usize {
        let placing = self.placing.as_ref();
        self.bytes(placing.map_or(0, |placing| placing.waves.wave.len() + placing.waves.next_wave.len()))
    }
}
