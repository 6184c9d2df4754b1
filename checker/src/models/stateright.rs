//! Any sequential specification of stateright as a model. It has one partition and no hints, so the search does all the
//! work; a [`Model`] of its own for the same object will be faster.
//!
//! Which answers are right is asked of [`SequentialSpec::is_valid_step`], as stateright's own tester does. Where an object
//! permits several answers, an operation of unknown outcome has the effect that [`SequentialSpec::invoke`] gives it.

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
        match ret {
            // Not by a comparison with what it answers: the object may permit several answers.
            Some(ret) => next.is_valid_step(op, ret).then_some(next),
            None => {
                next.invoke(op);
                Some(next)
            }
        }
    }
}
