//! A set: add, remove, contains. Elements do not touch each other, so each is a partition of its own.
//!
//! A read of the whole set would touch all elements; for that, see [`WholeSet`], which has one partition.

use std::collections::BTreeSet;

use crate::model::{Class, Content, Model, Reveal};
use crate::value::{Value, shown_list};

/// A request to the set.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SetOp {
    /// Puts an element in.
    Add(Value),
    /// Takes an element out.
    Remove(Value),
    /// Asks whether an element is in.
    Contains(Value),
}

/// The model of a set, empty at first. `contains` answers whether the element is in, the others `None`, or whether they
/// changed anything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Set;

/// The element is in: any content that is not [`Content::Absent`].
const PRESENT: Content<'static> = Content::Number(1);

impl Model for Set {
    type State = bool;
    type Op = SetOp;
    type Ret = Option<bool>;
    type Key = Value;

    fn init(&self) -> bool {
        false
    }

    fn step(&self, state: &bool, op: &SetOp, ret: Option<&Option<bool>>) -> Option<bool> {
        let (next, answer) = match op {
            SetOp::Add(_) => (true, !*state),
            SetOp::Remove(_) => (false, *state),
            SetOp::Contains(_) => (*state, *state),
        };
        match ret {
            Some(Some(told)) => (*told == answer).then_some(next),
            Some(None) if matches!(op, SetOp::Contains(_)) => None,
            None | Some(None) => Some(next),
        }
    }

    fn key(&self, op: &SetOp) -> Option<Value> {
        let (SetOp::Add(element) | SetOp::Remove(element) | SetOp::Contains(element)) = op;
        Some(element.clone())
    }

    fn class(&self, op: &SetOp, ret: Option<&Option<bool>>) -> Class {
        match (op, ret) {
            (SetOp::Contains(_), _) | (_, Some(Some(false))) => Class::ReadOnly,
            (_, None | Some(None)) => Class::BlindWrite,
            _ => Class::General,
        }
    }

    fn reveal<'a>(&self, op: &'a SetOp, ret: Option<&'a Option<bool>>) -> Reveal<'a> {
        match (op, ret) {
            (SetOp::Contains(_) | SetOp::Remove(_), Some(Some(false))) => Reveal::Reads(Content::Absent),
            (SetOp::Contains(_), Some(Some(true))) | (SetOp::Add(_), Some(Some(false))) => {
                Reveal::Reads(PRESENT)
            }
            (SetOp::Add(_), None | Some(None)) => Reveal::Writes(PRESENT),
            (SetOp::Remove(_), None | Some(None)) => Reveal::Writes(Content::Absent),
            _ => Reveal::Nothing,
        }
    }

    fn initial(&self) -> Option<Content<'_>> {
        Some(Content::Absent)
    }

    fn describe(&self, op: &SetOp, ret: Option<&Option<bool>>) -> String {
        let request = match op {
            SetOp::Add(element) => format!("add {element}"),
            SetOp::Remove(element) => format!("remove {element}"),
            SetOp::Contains(element) => format!("contains {element}"),
        };
        match ret {
            None => format!("{request} -> unknown"),
            Some(None) => format!("{request} -> ok"),
            Some(Some(told)) => format!("{request} -> {told}"),
        }
    }

    fn describe_state(&self, state: &bool) -> String {
        if *state { "in the set" } else { "not in the set" }.to_owned()
    }

    fn describe_key(&self, key: &Value) -> String {
        key.to_string()
    }
}

/// A request to a set that can be read as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum WholeSetOp {
    /// Puts an element in.
    Add(Value),
    /// Reads all elements.
    Read,
}

/// The model of a set that is read as a whole, empty at first. A read answers with the elements, an addition with `None`.
#[derive(Clone, Copy, Debug, Default)]
pub struct WholeSet;

impl Model for WholeSet {
    type State = BTreeSet<Value>;
    type Op = WholeSetOp;
    type Ret = Option<BTreeSet<Value>>;
    type Key = ();

    fn init(&self) -> BTreeSet<Value> {
        BTreeSet::new()
    }

    fn apply(
        &self,
        state: &mut BTreeSet<Value>,
        op: &WholeSetOp,
        ret: Option<&Option<BTreeSet<Value>>>,
    ) -> bool {
        match (op, ret) {
            (WholeSetOp::Add(element), None | Some(None)) => {
                state.insert(element.clone());
                true
            }
            (WholeSetOp::Read, None) => true,
            (WholeSetOp::Read, Some(Some(read))) => read == state,
            _ => false,
        }
    }

    fn step(
        &self,
        state: &BTreeSet<Value>,
        op: &WholeSetOp,
        ret: Option<&Option<BTreeSet<Value>>>,
    ) -> Option<BTreeSet<Value>> {
        match (op, ret) {
            (WholeSetOp::Add(element), None | Some(None)) => {
                let mut next = state.clone();
                next.insert(element.clone());
                Some(next)
            }
            (WholeSetOp::Read, None) => Some(state.clone()),
            (WholeSetOp::Read, Some(Some(read))) => (read == state).then(|| state.clone()),
            _ => None,
        }
    }

    fn class(&self, op: &WholeSetOp, _ret: Option<&Option<BTreeSet<Value>>>) -> Class {
        match op {
            WholeSetOp::Read => Class::ReadOnly,
            WholeSetOp::Add(_) => Class::General,
        }
    }

    fn describe(&self, op: &WholeSetOp, ret: Option<&Option<BTreeSet<Value>>>) -> String {
        let request = match op {
            WholeSetOp::Add(element) => format!("add {element}"),
            WholeSetOp::Read => "read".to_owned(),
        };
        match ret {
            None => format!("{request} -> unknown"),
            Some(None) => format!("{request} -> ok"),
            Some(Some(read)) => format!("{request} -> {}", self.describe_state(read)),
        }
    }

    fn describe_state(&self, state: &BTreeSet<Value>) -> String {
        shown_list(state.iter())
    }

    fn state_bytes(&self, state: &BTreeSet<Value>) -> usize {
        state.iter().map(|element| size_of::<Value>() + element.as_bytes().len()).sum()
    }
}
