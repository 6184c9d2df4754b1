//! A counter: add, read. Additions of any outcome commute, which the search uses as twins when they are equal.

use crate::model::{Class, Model};

/// A request to the counter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CounterOp {
    /// Adds, or takes away.
    Add(i64),
    /// Reads; the answer is the sum.
    Read,
}

/// The model of a counter, which is 0 at first. An addition answers `None`, a read the sum.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counter;

impl Model for Counter {
    type State = i64;
    type Op = CounterOp;
    type Ret = Option<i64>;
    type Key = ();

    fn init(&self) -> i64 {
        0
    }

    fn step(&self, state: &i64, op: &CounterOp, ret: Option<&Option<i64>>) -> Option<i64> {
        match (op, ret) {
            (CounterOp::Add(amount), None | Some(None)) => Some(state.wrapping_add(*amount)),
            (CounterOp::Read, None) => Some(*state),
            (CounterOp::Read, Some(Some(sum))) => (sum == state).then_some(*state),
            _ => None,
        }
    }

    fn key(&self, _op: &CounterOp) -> Option<()> {
        Some(())
    }

    fn class(&self, op: &CounterOp, _ret: Option<&Option<i64>>) -> Class {
        match op {
            CounterOp::Read => Class::ReadOnly,
            CounterOp::Add(_) => Class::General,
        }
    }

    fn describe(&self, op: &CounterOp, ret: Option<&Option<i64>>) -> String {
        let request = match op {
            CounterOp::Add(amount) => format!("add {amount}"),
            CounterOp::Read => "read".to_owned(),
        };
        match ret {
            None => format!("{request} -> unknown"),
            Some(None) => format!("{request} -> ok"),
            Some(Some(sum)) => format!("{request} -> {sum}"),
        }
    }

    fn describe_key(&self, _key: &()) -> String {
        "the counter".to_owned()
    }
}
