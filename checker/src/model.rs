//! What a sequential object is: the trait that a checked system's specification implements.
//!
//! Invariants an implementation must keep, because the search is built on them:
//! - `step` is a function: the same arguments give the same answer, whatever was asked before;
//! - operations with different keys do not touch each other's state (that is what makes partitions sound);
//! - `focus` changes nothing that an operation of its partition can see.
//!
//! [`Model::class`] is a hint only: the search tests it on every step that it takes, and starts again without any hint
//! when it catches a wrong one. Debug builds also search every violation again without hints, within reason.

use std::fmt::Debug;
use std::hash::Hash;

/// What the search may assume of an operation with a given result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Wherever it is legal it leaves the state as it is: a read, a comparison that failed.
    ReadOnly,
    /// Legal in every state, and the state after it does not depend on the state before it: a put.
    BlindWrite,
    /// Anything else. Always a correct answer.
    General,
}

/// A sequential specification.
pub trait Model: Clone {
    /// The state of one partition.
    type State: Clone + Eq + Hash + Debug;
    /// What was asked.
    type Op: Clone + Eq + Hash + Debug;
    /// What was answered.
    type Ret: Clone + Eq + Hash + Debug;
    /// The name of a partition.
    type Key: Clone + Ord + Debug;

    /// The state before the first operation.
    fn init(&self) -> Self::State;

    /// The state after `op` answered `ret` in `state`, or `None` if it cannot have answered that. `ret` is `None` when
    /// nobody knows the answer: then this is the state after `op` took effect, whatever it would have answered.
    fn step(&self, state: &Self::State, op: &Self::Op, ret: Option<&Self::Ret>) -> Option<Self::State>;

    /// The part of the object that `op` touches. Parts are checked one by one. `None` stands for the whole object; one
    /// such operation puts the whole history into one partition.
    fn key(&self, _op: &Self::Op) -> Option<Self::Key> {
        None
    }

    /// A hint: what kind of operation this is.
    fn class(&self, _op: &Self::Op, _ret: Option<&Self::Ret>) -> Class {
        Class::General
    }

    /// A model of one partition that may represent states which none of the partition's operations can tell apart, now or
    /// after any further steps, by one state. A model may always return itself.
    fn focus(&self, _operations: &[(&Self::Op, Option<&Self::Ret>)]) -> Self {
        self.clone()
    }

    /// An operation and its answer, for people.
    fn describe(&self, op: &Self::Op, ret: Option<&Self::Ret>) -> String {
        match ret {
            Some(ret) => format!("{op:?} -> {ret:?}"),
            None => format!("{op:?} -> unknown"),
        }
    }

    /// A state, for people.
    fn describe_state(&self, state: &Self::State) -> String {
        format!("{state:?}")
    }

    /// A key, for people.
    fn describe_key(&self, key: &Self::Key) -> String {
        format!("{key:?}")
    }

    /// About how much memory `state` takes, for the memory budget.
    fn state_bytes(&self, _state: &Self::State) -> usize {
        size_of::<Self::State>()
    }
}
