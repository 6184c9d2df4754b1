//! What a sequential object is: the trait that a checked system's specification implements.
//!
//! Invariants an implementation must keep, because the search is built on them:
//! - `step` is a function: the same arguments give the same answer, whatever was asked before; `apply` does the same;
//! - `with_key` looks at what `key` gives;
//! - operations with different keys do not touch each other's state (that is what makes partitions sound);
//! - `focus` changes nothing that an operation of its partition can see.
//!
//! [`Model::class`], [`Model::reveal`] and [`Model::initial`] are hints only: the search tests the classes on every step
//! that it takes, and starts again without any hint when it catches a wrong one. An order that was found with the help of
//! what is revealed is replayed against `step`. Only a violation can rest on a wrong hint: with
//! [`Options::confirm`](crate::Options::confirm), which debug builds have unless told otherwise, it is searched again without
//! hints, and is undecided if that takes too long. Debug builds also compare every `apply` with the `step`.

use std::fmt::Debug;
use std::hash::Hash;

use crate::value::Value;

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

/// The whole content of a partition, as an operation shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Content<'a> {
    /// There is nothing: a missing key, `nil`.
    Absent,
    /// A number.
    Number(u64),
    /// Bytes, to which bytes can be appended.
    Bytes(&'a [u8]),
    /// A list, to which elements can be appended.
    List(&'a [Value]),
}

/// What an operation and its answer say about the content of the partition. The fast paths live on it: a partition whose
/// operations all write, append to, or read the whole content need not be searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reveal<'a> {
    /// Nothing that helps. Always a correct answer.
    Nothing,
    /// It is legal everywhere and leaves this content.
    Writes(Content<'a>),
    /// It is legal everywhere and appends this to the content: bytes to bytes, an element to a list. An absent content
    /// becomes these bytes.
    Appends(&'a [u8]),
    /// It is legal where the content is this, only there, and changes nothing.
    Reads(Content<'a>),
    /// It leaves `new` where the content is `expected`, and changes nothing elsewhere. Its answer may say which.
    Swaps {
        /// What it compares with.
        expected: Content<'a>,
        /// What it writes.
        new: Content<'a>,
    },
}

/// A sequential specification.
pub trait Model: Clone + Send + Sync {
    /// The state of one partition.
    type State: Clone + Eq + Hash + Debug + Send + Sync;
    /// What was asked.
    type Op: Clone + Eq + Hash + Debug + Send + Sync;
    /// What was answered.
    type Ret: Clone + Eq + Hash + Debug + Send + Sync;
    /// The name of a partition.
    type Key: Clone + Ord + Hash + Debug + Send + Sync;

    /// The state before the first operation.
    fn init(&self) -> Self::State;

    /// The state after `op` answered `ret` in `state`, or `None` if it cannot have answered that. `ret` is `None` when
    /// nobody knows the answer: then this is the state after `op` took effect, whatever it would have answered.
    fn step(&self, state: &Self::State, op: &Self::Op, ret: Option<&Self::Ret>) -> Option<Self::State>;

    /// The same step, in place: changes `state`, or says `false` and leaves it as it is if `op` cannot have answered `ret` in
    /// it. For states that are costly to copy.
    fn apply(&self, state: &mut Self::State, op: &Self::Op, ret: Option<&Self::Ret>) -> bool {
        let next = self.step(state, op, ret);
        let possible = next.is_some();
        if let Some(next) = next {
            *state = next;
        }
        possible
    }

    /// The part of the object that `op` touches. Parts are checked one by one. `None` stands for the whole object; one
    /// such operation puts the whole history into one partition.
    fn key(&self, _op: &Self::Op) -> Option<Self::Key> {
        None
    }

    /// What `look` makes of the same key, without a copy of it. For keys that are costly to copy: every operation is asked.
    fn with_key<L>(&self, op: &Self::Op, look: impl FnOnce(Option<&Self::Key>) -> L) -> L {
        look(self.key(op).as_ref())
    }

    /// A hint: what kind of operation this is.
    fn class(&self, _op: &Self::Op, _ret: Option<&Self::Ret>) -> Class {
        Class::General
    }

    /// A hint: what this operation shows of the content of its partition.
    fn reveal<'a>(&self, _op: &'a Self::Op, _ret: Option<&'a Self::Ret>) -> Reveal<'a> {
        Reveal::Nothing
    }

    /// A hint: the content of every partition at first. `None`: unknown, so nothing that is revealed is of use.
    fn initial(&self) -> Option<Content<'_>> {
        None
    }

    /// A model of one partition that may represent states which none of the partition's operations can tell apart, now or
    /// after any further steps, by one state. A model may always return itself.
    fn focus<'a>(&self, _operations: impl Iterator<Item = (&'a Self::Op, Option<&'a Self::Ret>)>) -> Self
    where
        Self: 'a,
    {
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
