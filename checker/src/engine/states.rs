//! The states that the search has met and the kinds of operations, by number, and the steps between them.
//!
//! Operations with the same request and answer are of one *kind*.
//!
//! Invariants:
//! - equal states have equal numbers, so the search compares numbers; state 0 is the initial one;
//! - every step is asked of the model once, unless it was forgotten, and the class hint of its operation is tested on it.

use std::hash::{BuildHasher, Hash};
use std::ops::Deref;

use hashbrown::HashTable;
use rustc_hash::{FxBuildHasher, FxHashMap as HashMap};

use crate::engine::OperationOf;
use crate::model::{Class, Model};

/// About what one state, one kind and one step cost besides what they hold: table entries with their slack.
const STATE_OVERHEAD_BYTES: usize = 32;
const KIND_BYTES: usize = 64;
const STEP_BYTES: usize = 32;

/// Forgetting takes time in what is known, so it is done when twice as much is known as after the last time. What is less
/// than this stays in the processor's caches.
const FORGET_MIN: usize = 1 << 11;

/// The steps from the first states by operations of the first kinds are found by number, all others in a table.
const NEAR_KINDS_MAX: usize = 64;
const NEAR_STATES_MAX: usize = 512;

/// A step from one state by one kind.
const UNASKED: StateId = StateId::MAX;
const IMPOSSIBLE: StateId = StateId::MAX - 1;

/// The number of a state.
pub(crate) type StateId = u32;

/// The number of a kind of operations.
pub(crate) type KindId = u32;

/// The model gave a hint that one of its own steps contradicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WrongHint;

/// Whether the search may believe the model's hints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hints {
    /// Use them, test them on the way.
    Trusted,
    /// One of them was wrong: every operation is general and the model is not focused.
    Ignored,
}

/// An operation that the search may keep: a reference, or something that shares it.
pub(crate) trait Handle<M: Model>: Clone + Deref<Target = OperationOf<M>> {}

impl<M: Model, H: Clone + Deref<Target = OperationOf<M>>> Handle<M> for H {}

#[derive(Clone, Copy)]
pub(crate) struct Kind<H> {
    /// An operation of this kind.
    example: H,
    pub(crate) class: Class,
    /// The first of the kinds that have the same effect.
    pub(crate) twin: KindId,
    /// The state after a blind write.
    effect: Option<StateId>,
}

#[derive(Clone)]
pub(crate) struct States<M: Model, H> {
    /// The model that the search uses.
    model: M,
    hints: Hints,
    states: Vec<M::State>,
    numbers: HashTable<StateId>,
    kinds: Vec<Kind<H>>,
    kind_numbers: HashTable<KindId>,
    /// The first kind of blind writes that leads to a state.
    effects: HashMap<StateId, KindId>,
    /// The state after each of the first kinds, from each of the first states.
    near_steps: Vec<StateId>,
    steps: HashMap<(StateId, KindId), Option<StateId>>,
    /// How many steps are known.
    step_count: usize,
    bytes: usize,
    forget_at: usize,
}

fn hash_of(value: impl Hash) -> u64 {
    FxBuildHasher.hash_one(value)
}

impl<M: Model, H: Handle<M>> States<M, H> {
    pub(crate) fn new(model: M, hints: Hints) -> Self {
        let initial = model.init();
        let mut states = States {
            model,
            hints,
            states: Vec::new(),
            numbers: HashTable::new(),
            kinds: Vec::new(),
            kind_numbers: HashTable::new(),
            effects: HashMap::default(),
            near_steps: Vec::new(),
            steps: HashMap::default(),
            step_count: 0,
            bytes: 0,
            forget_at: FORGET_MIN,
        };
        states.number(initial);
        states
    }

    fn number(&mut self, state: M::State) -> StateId {
        let hash = hash_of(&state);
        let known = self.numbers.find(hash, |number| self.states[*number as usize] == state);
        if let Some(number) = known {
            return *number;
        }
        let number = StateId::try_from(self.states.len()).ok().filter(|number| *number < IMPOSSIBLE);
        let number = number.expect("memory ends before the numbers do");
        self.bytes += self.model.state_bytes(&state) + STATE_OVERHEAD_BYTES;
        self.states.push(state);
        if self.states.len() <= NEAR_STATES_MAX {
            self.near_steps.resize(self.states.len() * NEAR_KINDS_MAX, UNASKED);
        }
        let states = &self.states;
        self.numbers.insert_unique(hash, number, |number| hash_of(&states[*number as usize]));
        number
    }

    pub(crate) fn state(&self, number: StateId) -> &M::State {
        &self.states[number as usize]
    }

    pub(crate) fn class_of(&self, operation: &OperationOf<M>) -> Class {
        match self.hints {
            Hints::Trusted => self.model.class(&operation.op, operation.ret()),
            Hints::Ignored => Class::General,
        }
    }

    /// A read that nobody knows the answer of constrains nothing.
    pub(crate) fn constrains(&self, operation: &OperationOf<M>) -> bool {
        operation.ret().is_some() || self.class_of(operation) != Class::ReadOnly
    }

    pub(crate) fn kind(&self, number: KindId) -> &Kind<H> {
        &self.kinds[number as usize]
    }

    /// The kind of an operation.
    pub(crate) fn kind_of(&mut self, operation: &H) -> Result<KindId, WrongHint> {
        let hash = |operation: &H| hash_of((&operation.op, operation.ret()));
        let own_hash = hash(operation);
        let known = self.kind_numbers.find(own_hash, |kind| {
            let example = &self.kinds[*kind as usize].example;
            example.op == operation.op && example.ret() == operation.ret()
        });
        if let Some(kind) = known {
            return Ok(*kind);
        }
        let kind = KindId::try_from(self.kinds.len()).expect("memory ends before the numbers do");
        let class = self.class_of(operation);
        self.kinds.push(Kind { example: operation.clone(), class, twin: kind, effect: None });
        let kinds = &self.kinds;
        self.kind_numbers.insert_unique(own_hash, kind, |kind| hash(&kinds[*kind as usize].example));
        self.bytes += KIND_BYTES;
        if class == Class::BlindWrite {
            let effect = self.step(0, kind)?.ok_or(WrongHint)?;
            self.kinds[kind as usize].twin = *self.effects.entry(effect).or_insert(kind);
        }
        Ok(kind)
    }

    /// Where in `near_steps` a step is, if it is there.
    fn near(&self, state: StateId, kind: KindId) -> Option<usize> {
        let place = state as usize * NEAR_KINDS_MAX + kind as usize;
        ((kind as usize) < NEAR_KINDS_MAX && place < self.near_steps.len()).then_some(place)
    }

    /// The state after an operation of this kind, `None` if it is impossible in `state`.
    pub(crate) fn step(&mut self, state: StateId, kind: KindId) -> Result<Option<StateId>, WrongHint> {
        match self.near(state, kind).map(|place| self.near_steps[place]) {
            Some(UNASKED) => {}
            Some(IMPOSSIBLE) => return Ok(None),
            Some(next) => return Ok(Some(next)),
            None => {
                if let Some(next) = self.steps.get(&(state, kind)) {
                    return Ok(*next);
                }
            }
        }
        self.ask(state, kind)
    }

    /// Asks the model for a step that is not known yet.
    #[cold]
    fn ask(&mut self, state: StateId, kind: KindId) -> Result<Option<StateId>, WrongHint> {
        let asked = &self.kinds[kind as usize].example;
        let next = self.model.step(&self.states[state as usize], &asked.op, asked.ret());
        let next = next.map(|next| self.number(next));
        let Kind { class, effect, .. } = &mut self.kinds[kind as usize];
        let hint_holds = match class {
            Class::General => true,
            Class::ReadOnly => next.is_none_or(|next| next == state),
            Class::BlindWrite => next.is_some_and(|next| *effect.get_or_insert(next) == next),
        };
        self.bytes += STEP_BYTES;
        self.step_count += 1;
        match self.near(state, kind) {
            Some(place) => self.near_steps[place] = next.unwrap_or(IMPOSSIBLE),
            None => {
                self.steps.insert((state, kind), next);
            }
        }
        if hint_holds { Ok(next) } else { Err(WrongHint) }
    }

    pub(crate) fn wants_forgetting(&self) -> bool {
        self.states.len() + self.kinds.len() + self.step_count >= self.forget_at
    }

    /// Forgets all but these states and kinds, and gives them their new numbers.
    pub(crate) fn forget(
        &mut self,
        states: &mut [&mut StateId],
        kinds: &mut [&mut KindId],
    ) -> Result<(), WrongHint> {
        let fresh = States::new(self.model.clone(), self.hints);
        let old = std::mem::replace(self, fresh);
        for state in states {
            **state = self.number(old.states[**state as usize].clone());
        }
        for kind in kinds {
            **kind = self.kind_of(&old.kinds[**kind as usize].example)?;
        }
        let known = self.states.len() + self.kinds.len() + self.step_count;
        self.forget_at = (2 * known).max(FORGET_MIN);
        Ok(())
    }

    /// About how much memory the states and steps take.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}
