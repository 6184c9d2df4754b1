//! Any sequential specification of stateright as a model. It has one partition and no hints, so the search does all the
//! work; a [`Model`] of its own for the same object will be faster.

use std::fmt::Debug;
use std::hash::Hash;

use stateright::semantics::SequentialSpec;

use crate::model::Model;

/// The model of an object that is `S` at first.
#[derive(Clone, Debug)]
pub struct FromStateright<S>(pub S);

impl<S> Model for FromStateright<S>
where
    S: SequentialSpec + Clone + Eq + Hash + Debug + Send + Sync,
    S::Op: Clone + Eq + Hash + Debug + Send + Sync,
    S::Ret: Clone + Eq + Hash + Debug + Send + Sync,
{
    type State = S;
    type Op = S::Op;
    type Ret = S::Ret;
    type Key = ();

    fn init(&self) -> S {
        self.0.clone()
    }

    fn step(&self, state: &S, op: &S::Op, ret: Option<&S::Ret>) -> Option<S> {
        let mut next = state.clone();
        let answer = next.invoke(op);
        ret.is_none_or(|ret| *ret == answer).then_some(next)
    }
}
