//! The depth-first search: it follows one configuration through the events, and goes back when nothing explains a return.
//!
//! It places operations at the same instants and with the same reductions as the frontier search; only the order in which
//! configurations are looked at differs. Where an order exists and is found by luck, it never sees most of the frontier;
//! where none exists, it sees all of it. What was tried is remembered by the return at which it was tried and the window
//! of operations that are open there, so a memory is as large as that window, however long the history is.
//!
//! Invariants:
//! - the window is that of the event of the last frame, right before it is handled;
//! - a configuration that is dominated by one that was tried at the same return is not tried.

use rustc_hash::FxHashMap as HashMap;

use crate::engine::OperationOf;
use crate::engine::breadth::{COMPARISONS_PER_STEP, DEAD_ENDS_MAX, Stop};
use crate::engine::budget::{Budget, Exhausted};
use crate::engine::config::Config;
use crate::engine::part::Part;
use crate::engine::search::Found;
use crate::engine::slots::Slots;
use crate::engine::states::{Kind, StateId, States};
use crate::engine::trail::{Path, StepId};
use crate::engine::width::OPEN_MAX;
use crate::engine::window::{NEVER, Open, Window};
use crate::model::Model;

/// An event of the partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// The operation with this number in [`Script::opens`] is invoked.
    Invoke(u32),
    /// It returns.
    Return(u32),
}

/// The events of a partition, with everything that does not depend on what is tried.
pub(crate) struct Script {
    events: Vec<Event>,
    opens: Vec<Open>,
    /// The largest number of operations that are open at the same time.
    open_max: usize,
}

impl Script {
    /// Goes over the partition once.
    pub(crate) fn new<'a, M: Model>(
        part: Part<'_, 'a, M>,
        states: &mut States<M, &'a OperationOf<M>>,
    ) -> Result<Script, Stop> {
        let mut events: Vec<(usize, Event)> = Vec::new();
        let mut opens = Vec::new();
        for (place, operation) in (0..).zip(part.iter()) {
            if !states.constrains(operation) {
                continue;
            }
            let kind = states.kind_of(&operation)?;
            let &Kind { class, twin, .. } = states.kind(kind);
            let returned = operation.returned().map_or(NEVER, |returned| returned.event);
            let number = opens.len() as u32;
            events.push((operation.invoked.event, Event::Invoke(number)));
            if returned != NEVER {
                events.push((returned, Event::Return(number)));
            }
            opens.push(Open { place, kind, twin, class, slot: 0, returned });
        }
        events.sort_unstable_by_key(|(at, _)| *at);
        let events: Vec<Event> = events.into_iter().map(|(_, event)| event).collect();
        let (mut vacant, mut open_max) = (Vec::new(), 0);
        for event in &events {
            match *event {
                Event::Invoke(number) => {
                    if vacant.is_empty() {
                        vacant.push(u16::try_from(open_max).map_err(|_| Self::too_many())?);
                        open_max += 1;
                    }
                    opens[number as usize].slot = vacant.pop().unwrap_or_default();
                }
                Event::Return(number) => vacant.push(opens[number as usize].slot),
            }
        }
        if open_max > OPEN_MAX { Err(Self::too_many()) } else { Ok(Script { events, opens, open_max }) }
    }

    fn too_many() -> Stop {
        Stop::Exhausted(Exhausted::Open { open_max: OPEN_MAX })
    }

    fn bytes(&self) -> usize {
        self.events.len() * size_of::<Event>() + self.opens.len() * size_of::<Open>()
    }
}

/// A return that must be explained, from one configuration.
struct Frame<const WORDS: usize> {
    config: Config<WORDS>,
    /// The number of the event.
    event: usize,
    /// Whether the configuration has been tried as it is.
    passed: bool,
    /// What is left to be placed, the next last.
    candidates: Vec<Open>,
    /// Whether the configuration ends with a blind write that no read saw.
    unseen: bool,
}

/// A depth-first search that can be paused.
pub(crate) trait Deep {
    /// Goes on. `None`: it is another search's turn.
    fn run(&mut self, budget: &mut Budget) -> Result<Option<Found>, Stop>;
    /// About how much memory it takes.
    fn bytes(&self) -> usize;
}

/// A search with sets that are just large enough.
pub(crate) fn deep<'a, M: Model + 'a>(
    script: Script,
    states: States<M, &'a OperationOf<M>>,
) -> Box<dyn Deep + 'a> {
    match script.open_max {
        0..=64 => Box::new(Depth::<M, 1>::new(script, states)),
        65..=128 => Box::new(Depth::<M, 2>::new(script, states)),
        129..=256 => Box::new(Depth::<M, 4>::new(script, states)),
        257..=1024 => Box::new(Depth::<M, 16>::new(script, states)),
        _ => Box::new(Depth::<M, 128>::new(script, states)),
    }
}

struct Depth<'a, M: Model, const WORDS: usize> {
    script: Script,
    states: States<M, &'a OperationOf<M>>,
    path: Path,
    window: Window<WORDS>,
    stack: Vec<Frame<WORDS>>,
    /// What was tried, by return and state.
    tried: HashMap<(usize, StateId), Vec<Config<WORDS>>>,
    tried_count: usize,
    started: bool,
    /// The number of the last event that was reached.
    farthest: usize,
    /// Second time: what is tried at the farthest event is recorded.
    recording: bool,
    dead_ends: Vec<(StateId, Vec<u32>)>,
}

impl<'a, M: Model, const WORDS: usize> Depth<'a, M, WORDS> {
    fn new(script: Script, states: States<M, &'a OperationOf<M>>) -> Self {
        Depth {
            script,
            states,
            path: Path::default(),
            window: Window::default(),
            stack: Vec::new(),
            tried: HashMap::default(),
            tried_count: 0,
            started: false,
            farthest: 0,
            recording: false,
            dead_ends: Vec::new(),
        }
    }

    /// From `event` on, up to the next return that `config` does not explain by itself. Says whether there is none.
    fn follow(
        &mut self,
        mut config: Config<WORDS>,
        mut event: usize,
        budget: &mut Budget,
    ) -> Result<Option<Config<WORDS>>, Stop> {
        while let Some(next) = self.script.events.get(event).copied() {
            match next {
                Event::Invoke(number) => {
                    let open = self.script.opens[number as usize];
                    self.window.open(open);
                    self.window.enter(&mut self.states, &mut self.path, &mut config, &open)?;
                }
                Event::Return(number) => {
                    let open = self.script.opens[number as usize];
                    if !open.is_used(&config) {
                        self.reach(config, event, false);
                        return Ok(None);
                    }
                    self.window.close(&open);
                    forget_slot(&mut config, &open);
                }
            }
            budget.spend(1, self.kept_bytes())?;
            event += 1;
        }
        Ok(Some(config))
    }

    fn reach(&mut self, config: Config<WORDS>, event: usize, unseen: bool) {
        self.farthest = self.farthest.max(event);
        self.stack.push(Frame { config, event, passed: false, candidates: Vec::new(), unseen });
    }

    /// Undoes the events from the one before `from` down to `to`.
    fn rewind(&mut self, from: usize, to: usize) {
        for event in (to..from).rev() {
            match self.script.events[event] {
                Event::Invoke(number) => self.window.close(&self.script.opens[number as usize]),
                Event::Return(number) => self.window.open(self.script.opens[number as usize]),
            }
        }
    }

    /// Whether nothing that dominates the frame's configuration was tried.
    fn is_new(&mut self, event: usize, config: &Config<WORDS>, budget: &mut Budget) -> Result<bool, Stop> {
        let reads = &self.window.read_slots;
        let tried = self.tried.entry((event, config.state)).or_default();
        let compared = tried.len();
        let new = !tried.iter().any(|other| other.dominates(config, reads));
        if new {
            tried.retain(|other| !config.dominates(other, reads));
            tried.push(*config);
            self.tried_count = self.tried_count + tried.len() - compared;
        }
        let bytes = self.kept_bytes();
        budget.spend((1 + compared / COMPARISONS_PER_STEP) as u64, bytes)?;
        Ok(new)
    }

    /// The last frame has nothing left to try.
    fn give_up(&mut self) {
        let Some(frame) = self.stack.pop() else { return };
        if self.recording && frame.event == self.farthest && self.dead_ends.len() <= DEAD_ENDS_MAX {
            let Config { state, trail, .. } = frame.config;
            if !self.dead_ends.iter().any(|(other, _)| *other == state) {
                self.dead_ends.push((state, self.path.order(trail)));
            }
        }
        if let Some(below) = self.stack.last() {
            self.rewind(frame.event, below.event);
        }
    }

    fn kept_bytes(&self) -> usize {
        self.script.bytes()
            + self.states.bytes()
            + self.path.bytes()
            + self.tried_count * size_of::<Config<WORDS>>()
            + self.stack.len() * size_of::<Frame<WORDS>>()
    }

    fn dead_end(&mut self) -> Found {
        let Event::Return(number) = self.script.events[self.farthest] else {
            unreachable!("a frame stands at a return")
        };
        let open = self.script.opens[number as usize];
        let more = self.dead_ends.len() > DEAD_ENDS_MAX;
        self.dead_ends.truncate(DEAD_ENDS_MAX);
        let orders = std::mem::take(&mut self.dead_ends).into_iter().map(|(_, order)| order).collect();
        Found::DeadEnd { place: open.place, event: open.returned, orders, more }
    }
}

fn forget_slot<const WORDS: usize>(config: &mut Config<WORDS>, open: &Open) {
    config.used.remove(usize::from(open.slot));
    config.free.remove(usize::from(open.slot));
}

impl<M: Model, const WORDS: usize> Deep for Depth<'_, M, WORDS> {
    fn run(&mut self, budget: &mut Budget) -> Result<Option<Found>, Stop> {
        if !self.started {
            self.started = true;
            let root = Config { state: 0, used: Slots::EMPTY, free: Slots::EMPTY, trail: StepId::ROOT };
            if let Some(config) = self.follow(root, 0, budget)? {
                return Ok(Some(Found::Order(self.path.order(config.trail))));
            }
        }
        loop {
            if budget.is_others_turn() {
                return Ok(None);
            }
            let Some(at) = self.stack.len().checked_sub(1) else {
                if self.recording {
                    return Ok(Some(self.dead_end()));
                }
                // Once more, now that it is known where the end is.
                (self.recording, self.started) = (true, false);
                (self.window, self.tried, self.tried_count) = (Window::default(), HashMap::default(), 0);
                return self.run(budget);
            };
            let Frame { config, event, passed, unseen, .. } = self.stack[at];
            let Event::Return(number) = self.script.events[event] else {
                unreachable!("a frame stands at a return")
            };
            let open = self.script.opens[number as usize];
            if !passed {
                self.stack[at].passed = true;
                if !open.is_used(&config) {
                    if !self.is_new(event, &config, budget)? {
                        self.give_up();
                        continue;
                    }
                    let mut candidates = std::mem::take(&mut self.stack[at].candidates);
                    self.window.find_candidates(&config, unseen, &mut candidates);
                    // The last is tried first: the one that returns, then those that return soon.
                    candidates.sort_unstable_by_key(|other| {
                        (std::cmp::Reverse((other.place != open.place, other.returned)), other.place)
                    });
                    self.stack[at].candidates = candidates;
                }
                if open.has_place(&config) {
                    let mut config = config;
                    self.window.close(&open);
                    forget_slot(&mut config, &open);
                    if let Some(end) = self.follow(config, event + 1, budget)? {
                        return Ok(Some(Found::Order(self.path.order(end.trail))));
                    }
                }
                continue;
            }
            let Some(candidate) = self.stack[at].candidates.pop() else {
                self.give_up();
                continue;
            };
            let advanced = self.window.advance(&mut self.states, &mut self.path, &config, &candidate)?;
            if let Some((next, unseen)) = advanced
                && (open.has_place(&next) || self.window.goes_on(&next, unseen))
            {
                self.reach(next, event, unseen);
            }
        }
    }

    fn bytes(&self) -> usize {
        self.kept_bytes()
    }
}
