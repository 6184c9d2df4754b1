//! Objects that may choose: one request and one answer may lead to several states.
//!
//! A state of [`Nondeterministic`] is the set of all states in which the object may be. A step leads to every state that
//! some member may reach; it is impossible if that is none. A sequence of operations has a run of choices that explains
//! it if and only if the sets along it are never empty, so nothing is lost or gained.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::hash::Hash;

use crate::model::{Class, Model};

/// A sequential specification with choices.
pub trait Choices: Clone + Send + Sync {
    /// One possible state.
    type State: Clone + Ord + Hash + Debug + Send + Sync;
    /// What was asked.
    type Op: Clone + Eq + Hash + Debug + Send + Sync;
    /// What was answered.
    type Ret: Clone + Eq + Hash + Debug + Send + Sync;
    /// The name of a partition.
    type Key: Clone + Ord + Hash + Debug + Send + Sync;

    /// The states in which the object may be before the first operation.
    fn init(&self) -> Vec<Self::State>;

    /// The states in which it may be after `op` answered `ret` in `state`; none if it cannot have answered that. `ret` is
    /// `None` when nobody knows the answer.
    fn step(&self, state: &Self::State, op: &Self::Op, ret: Option<&Self::Ret>) -> Vec<Self::State>;

    /// The part of the object that `op` touches, as in [`Model::key`].
    fn key(&self, _op: &Self::Op) -> Option<Self::Key> {
        None
    }
}

/// A model made of [`Choices`].
#[derive(Clone, Copy, Debug)]
pub struct Nondeterministic<C>(pub C);

impl<C: Choices> Model for Nondeterministic<C> {
    type State = BTreeSet<C::State>;
    type Op = C::Op;
    type Ret = C::Ret;
    type Key = C::Key;

    fn init(&self) -> BTreeSet<C::State> {
        self.0.init().into_iter().collect()
    }

    fn step(
        &self,
        state: &BTreeSet<C::State>,
        op: &C::Op,
        ret: Option<&C::Ret>,
    ) -> Option<BTreeSet<C::State>> {
        let next: BTreeSet<C::State> = state.iter().flat_map(|state| self.0.step(state, op, ret)).collect();
        (!next.is_empty()).then_some(next)
    }

    fn key(&self, op: &C::Op) -> Option<C::Key> {
        self.0.key(op)
    }

    /// A read may rule out states, so it is not a [`Class::ReadOnly`] operation on the set of them.
    fn class(&self, _op: &C::Op, _ret: Option<&C::Ret>) -> Class {
        Class::General
    }

    fn state_bytes(&self, state: &BTreeSet<C::State>) -> usize {
        state.len() * size_of::<C::State>()
    }
}
