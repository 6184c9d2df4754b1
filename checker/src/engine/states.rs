//! The states that the search has met, by number, and the steps between them.
//!
//! Invariants:
//! - equal states have equal numbers, so the search compares numbers;
//! - every step is asked of the model once, and the class hint of its operation is tested on it.

use std::collections::hash_map::Entry;

use rustc_hash::FxHashMap as HashMap;

use crate::engine::plan::Plan;
use crate::model::{Class, Model};

/// About what one state and one step cost besides the state itself: two table entries with their slack.
const STATE_OVERHEAD_BYTES: usize = 64;
const STEP_BYTES: usize = 48;

/// The number of a state.
pub(crate) type StateId = u32;

/// The model gave a hint that one of its own steps contradicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WrongHint;

pub(crate) struct States<M: Model> {
    model: M,
    states: Vec<M::State>,
    numbers: HashMap<M::State, StateId>,
    steps: HashMap<(StateId, usize), Option<StateId>>,
    /// The state after each kind of blind write, once one was seen.
    blind: HashMap<usize, StateId>,
    bytes: usize,
}

impl<M: Model> States<M> {
    /// The initial state has the number 0.
    pub(crate) fn new(plan: &Plan<'_, M>) -> Self {
        let model = plan.focused.clone();
        let initial = model.init();
        let mut states = States {
            model,
            states: Vec::new(),
            numbers: HashMap::default(),
            steps: HashMap::default(),
            blind: HashMap::default(),
            bytes: 0,
        };
        states.number(initial);
        states
    }

    fn number(&mut self, state: M::State) -> StateId {
        match self.numbers.entry(state) {
            Entry::Occupied(entry) => *entry.get(),
            Entry::Vacant(entry) => {
                let number = StateId::try_from(self.states.len()).expect("memory ends before the numbers do");
                self.bytes += self.model.state_bytes(entry.key()) + STATE_OVERHEAD_BYTES;
                self.states.push(entry.key().clone());
                *entry.insert(number)
            }
        }
    }

    /// The state after an operation, `None` if it is impossible in `state`.
    pub(crate) fn step(
        &mut self,
        plan: &Plan<'_, M>,
        state: StateId,
        operation: usize,
    ) -> Result<Option<StateId>, WrongHint> {
        let kind = plan.kind[operation] as usize;
        if let Some(next) = self.steps.get(&(state, kind)) {
            return Ok(*next);
        }
        let asked = plan.operations[operation];
        let next = self.model.step(&self.states[state as usize], &asked.op, asked.ret());
        let next = next.map(|next| self.number(next));
        let hint_holds = match plan.class[kind] {
            Class::General => true,
            Class::ReadOnly => next.is_none_or(|next| next == state),
            Class::BlindWrite => next.is_some_and(|next| *self.blind.entry(kind).or_insert(next) == next),
        };
        self.bytes += STEP_BYTES;
        self.steps.insert((state, kind), next);
        if hint_holds { Ok(next) } else { Err(WrongHint) }
    }

    /// About how much memory the states and steps take.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}
