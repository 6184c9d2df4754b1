//! Lists by key: append an element, read the whole list. A read reveals the order of all appends before it, so that a
//! history with unique elements is decided without a search.

use crate::model::{Class, Content, Model, Reveal};
use crate::value::{Value, shown_list};

/// A request to a list.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListOp {
    /// Appends an element.
    Append {
        /// Which list.
        key: Value,
        /// The element.
        element: Value,
    },
    /// Reads the list.
    Read {
        /// Which list.
        key: Value,
    },
}

/// The model of lists, all empty at first. A read answers with the elements, an append with `None`.
#[derive(Clone, Copy, Debug, Default)]
pub struct ListAppend;

impl Model for ListAppend {
    type State = Vec<Value>;
    type Op = ListOp;
    type Ret = Option<Vec<Value>>;
    type Key = Value;

    fn init(&self) -> Vec<Value> {
        Vec::new()
    }

    fn step(&self, state: &Vec<Value>, op: &ListOp, ret: Option<&Option<Vec<Value>>>) -> Option<Vec<Value>> {
        match (op, ret) {
            (ListOp::Append { element, .. }, None | Some(None)) => {
                let mut next = Vec::with_capacity(state.len() + 1);
                next.extend_from_slice(state);
                next.push(element.clone());
                Some(next)
            }
            (ListOp::Read { .. }, None) => Some(state.clone()),
            (ListOp::Read { .. }, Some(Some(read))) => (read == state).then(|| state.clone()),
            _ => None,
        }
    }

    fn apply(&self, state: &mut Vec<Value>, op: &ListOp, ret: Option<&Option<Vec<Value>>>) -> bool {
        match (op, ret) {
            (ListOp::Append { element, .. }, None | Some(None)) => {
                state.push(element.clone());
                true
            }
            (ListOp::Read { .. }, None) => true,
            (ListOp::Read { .. }, Some(Some(read))) => read == state,
            _ => false,
        }
    }

    fn key(&self, op: &ListOp) -> Option<Value> {
        let (ListOp::Append { key, .. } | ListOp::Read { key }) = op;
        Some(key.clone())
    }

    fn class(&self, op: &ListOp, _ret: Option<&Option<Vec<Value>>>) -> Class {
        match op {
            ListOp::Read { .. } => Class::ReadOnly,
            ListOp::Append { .. } => Class::General,
        }
    }

    fn reveal<'a>(&self, op: &'a ListOp, ret: Option<&'a Option<Vec<Value>>>) -> Reveal<'a> {
        match (op, ret) {
            (ListOp::Append { element, .. }, None | Some(None)) => Reveal::Appends(element.as_bytes()),
            (ListOp::Read { .. }, Some(Some(read))) => Reveal::Reads(Content::List(read)),
            _ => Reveal::Nothing,
        }
    }

    fn initial(&self) -> Option<Content<'_>> {
        Some(Content::List(&[]))
    }

    fn describe(&self, op: &ListOp, ret: Option<&Option<Vec<Value>>>) -> String {
        let request = match op {
            ListOp::Append { key, element } => format!("append {key} {element}"),
            ListOp::Read { key } => format!("read {key}"),
        };
        match ret {
            None => format!("{request} -> unknown"),
            Some(None) => format!("{request} -> ok"),
            Some(Some(list)) => format!("{request} -> {}", self.describe_state(list)),
        }
    }

    fn describe_state(&self, state: &Vec<Value>) -> String {
        shown_list(state.iter())
    }

    fn describe_key(&self, key: &Value) -> String {
        key.to_string()
    }

    fn state_bytes(&self, state: &Vec<Value>) -> usize {
        state.len() * size_of::<Value>()
    }
}
