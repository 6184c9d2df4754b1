//! A key-value store: get, put, append, delete, compare-and-set on arbitrary bytes. A missing key is not an empty value.
//!
//! A get sees the whole value, and an append can only make a value longer. So a value that is not a prefix of anything
//! that some operation of the partition reads or compares with can never again be told from another such value: no get
//! can return it, no comparison can match it, and appending keeps it so. [`Kv::focus`] folds all of them into
//! [`KvState::Unobserved`]. Without that, `n` appends of unknown outcome would stand for about `n!` different states.
//! And an append whose bytes are in none of these values leads to that one state from everywhere: to the search it is a
//! blind write.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use memchr::memmem;

use crate::model::{Class, Content, Model, Reveal};
use crate::value::Value;

/// For each append of unknown outcome, so many bytes of observed values are searched for what it appends.
const SEARCHED_BYTES_MAX: usize = 1 << 20;

/// A request to the store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum KvOp {
    /// Reads a key.
    Get {
        /// The key.
        key: Value,
    },
    /// Sets a key.
    Put {
        /// The key.
        key: Value,
        /// The new value.
        value: Value,
    },
    /// Appends to a key, which it creates if it is missing.
    Append {
        /// The key.
        key: Value,
        /// What is appended.
        value: Value,
    },
    /// Removes a key.
    Delete {
        /// The key.
        key: Value,
    },
    /// Sets a key if it has the expected value.
    Cas {
        /// The key.
        key: Value,
        /// The value that it must have; `None`: it must be missing.
        expected: Option<Value>,
        /// The new value.
        new: Value,
    },
}

/// An answer of the store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum KvRet {
    /// To a get: the value, `None` if the key is missing.
    Value(Option<Value>),
    /// To a put, an append, or a delete that does not say whether the key was there.
    Done,
    /// To a delete: whether the key was there.
    Deleted(bool),
    /// To a compare-and-set: whether the value was as expected, and so was set.
    Swapped(bool),
}

/// The state of one key.
#[derive(Clone, Debug)]
pub enum KvState {
    /// There is no such key.
    Missing,
    /// The key has this value.
    Value(Value),
    /// The key has a value with these bytes, to which more can be appended.
    Grown(Vec<u8>),
    /// The key has one of the values that no operation of the partition can tell apart.
    Unobserved,
}

impl KvState {
    /// The value, if it is known.
    fn bytes(&self) -> Option<&[u8]> {
        match self {
            KvState::Value(value) => Some(value.as_bytes()),
            KvState::Grown(bytes) => Some(bytes),
            KvState::Missing | KvState::Unobserved => None,
        }
    }

    /// Appends in place.
    fn grow(&mut self, tail: &Value) {
        match self {
            KvState::Missing => *self = KvState::Value(tail.clone()),
            KvState::Value(value) => {
                // Room for a few more.
                let mut bytes = Vec::with_capacity(2 * (value.as_bytes().len() + tail.as_bytes().len()));
                bytes.extend_from_slice(value.as_bytes());
                bytes.extend_from_slice(tail.as_bytes());
                *self = KvState::Grown(bytes);
            }
            KvState::Grown(bytes) => bytes.extend_from_slice(tail.as_bytes()),
            KvState::Unobserved => {}
        }
    }
}

/// However a value came about.
impl PartialEq for KvState {
    fn eq(&self, other: &KvState) -> bool {
        match (self.bytes(), other.bytes()) {
            (None, None) => matches!(self, KvState::Missing) == matches!(other, KvState::Missing),
            (held, other) => held == other,
        }
    }
}

impl Eq for KvState {}

impl Hash for KvState {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.bytes(), matches!(self, KvState::Missing)).hash(state);
    }
}

impl KvOp {
    /// The key that is touched.
    pub fn key(&self) -> &Value {
        match self {
            KvOp::Get { key } | KvOp::Put { key, .. } | KvOp::Append { key, .. } => key,
            KvOp::Delete { key } | KvOp::Cas { key, .. } => key,
        }
    }
}

/// The model of the store.
#[derive(Clone, Debug, Default)]
pub struct Kv {
    /// The value of every key at first; `None`: missing.
    initial: Option<Value>,
    /// What the partition's operations read or compare with, sorted; `None` before [`Model::focus`].
    observed: Option<Arc<[Value]>>,
}

impl Kv {
    /// A store in which every key is missing at first.
    pub fn new() -> Kv {
        Kv::default()
    }

    /// A store in which every key has this value at first; `None`: is missing.
    pub fn starting_with(initial: Option<Value>) -> Kv {
        Kv { initial, observed: None }
    }

    /// What every key has at first.
    pub fn initial_value(&self) -> Option<&Value> {
        self.initial.as_ref()
    }

    fn state_of(&self, value: &Value) -> KvState {
        self.folded(KvState::Value(value.clone()))
    }

    /// The state that stands for `state`.
    fn folded(&self, state: KvState) -> KvState {
        let (Some(observed), Some(bytes)) = (&self.observed, state.bytes()) else { return state };
        // The values that have this one as a prefix follow it at once in the sorted list.
        let next = observed.partition_point(|other| other.as_bytes() < bytes);
        let seen = observed.get(next).is_some_and(|other| other.as_bytes().starts_with(bytes));
        if seen { state } else { KvState::Unobserved }
    }

    /// Whether `token` is in none of the values that are observed: then appending it makes any value one that nobody can
    /// tell from another, whatever it was before.
    fn is_unseen(&self, token: &Value) -> bool {
        let Some(observed) = &self.observed else { return false };
        let finder = memmem::Finder::new(token.as_bytes());
        // What begins another observed value need not be searched itself.
        let longest = observed.iter().enumerate().filter(|(at, value)| {
            observed.get(at + 1).is_none_or(|next| !next.as_bytes().starts_with(value.as_bytes()))
        });
        let mut searched = 0;
        !token.as_bytes().is_empty()
            && longest.map(|(_, value)| value.as_bytes()).all(|value| {
                searched += value.len();
                searched <= SEARCHED_BYTES_MAX && finder.find(value).is_none()
            })
    }

    fn append(&self, state: &KvState, tail: &Value) -> KvState {
        match state.bytes() {
            Some(held) => self.folded(KvState::Value(Value::new(&[held, tail.as_bytes()].concat()))),
            None if matches!(state, KvState::Missing) => self.state_of(tail),
            None => KvState::Unobserved,
        }
    }
}

#[inline(always)]
fn content(value: Option<&Value>) -> Content<'_> {
    value.map_or(Content::Absent, |value| Content::Bytes(value.as_bytes()))
}

fn holds(state: &KvState, value: Option<&Value>) -> bool {
    match value {
        Some(value) => state.bytes() == Some(value.as_bytes()),
        None => matches!(state, KvState::Missing),
    }
}

impl Model for Kv {
    type State = KvState;
    type Op = KvOp;
    type Ret = KvRet;
    type Key = Value;

    fn init(&self) -> KvState {
        match &self.initial {
            Some(value) => self.state_of(value),
            None => KvState::Missing,
        }
    }

    fn step(&self, state: &KvState, op: &KvOp, ret: Option<&KvRet>) -> Option<KvState> {
        match (op, ret) {
            (KvOp::Get { .. }, None) => Some(state.clone()),
            (KvOp::Get { .. }, Some(KvRet::Value(value))) => {
                holds(state, value.as_ref()).then(|| state.clone())
            }
            (KvOp::Put { value, .. }, None | Some(KvRet::Done)) => Some(self.state_of(value)),
            (KvOp::Append { value, .. }, None | Some(KvRet::Done)) => Some(self.append(state, value)),
            (KvOp::Delete { .. }, None | Some(KvRet::Done)) => Some(KvState::Missing),
            (KvOp::Delete { .. }, Some(KvRet::Deleted(deleted))) => {
                (*deleted != (*state == KvState::Missing)).then_some(KvState::Missing)
            }
            (KvOp::Cas { expected, new, .. }, None | Some(KvRet::Swapped(_))) => {
                let matches = holds(state, expected.as_ref());
                if matches!(ret, Some(KvRet::Swapped(swapped)) if *swapped != matches) {
                    return None;
                }
                Some(if matches { self.state_of(new) } else { state.clone() })
            }
            // An answer that does not belong to the request: no state explains it.
            _ => None,
        }
    }

    fn apply(&self, state: &mut KvState, op: &KvOp, ret: Option<&KvRet>) -> bool {
        match (op, ret) {
            (KvOp::Get { .. }, None) => true,
            (KvOp::Get { .. }, Some(KvRet::Value(value))) => holds(state, value.as_ref()),
            (KvOp::Put { value, .. }, None | Some(KvRet::Done)) => {
                *state = self.state_of(value);
                true
            }
            (KvOp::Append { value, .. }, None | Some(KvRet::Done)) if self.observed.is_none() => {
                state.grow(value);
                true
            }
            _ => self.step(state, op, ret).map(|next| *state = next).is_some(),
        }
    }

    fn key(&self, op: &KvOp) -> Option<Value> {
        Some(op.key().clone())
    }

    fn with_key<L>(&self, op: &KvOp, look: impl FnOnce(Option<&Value>) -> L) -> L {
        look(Some(op.key()))
    }

    fn class(&self, op: &KvOp, ret: Option<&KvRet>) -> Class {
        match (op, ret) {
            (KvOp::Get { .. }, _) => Class::ReadOnly,
            (_, Some(KvRet::Deleted(false) | KvRet::Swapped(false))) => Class::ReadOnly,
            (KvOp::Put { .. } | KvOp::Delete { .. }, None | Some(KvRet::Done)) => Class::BlindWrite,
            (KvOp::Append { value, .. }, None) if self.is_unseen(value) => Class::BlindWrite,
            _ => Class::General,
        }
    }

    #[inline(always)]
    fn reveal<'a>(&self, op: &'a KvOp, ret: Option<&'a KvRet>) -> Reveal<'a> {
        match (op, ret) {
            (KvOp::Get { .. }, Some(KvRet::Value(value))) => Reveal::Reads(content(value.as_ref())),
            (KvOp::Put { value, .. }, None | Some(KvRet::Done)) => {
                Reveal::Writes(Content::Bytes(value.as_bytes()))
            }
            (KvOp::Delete { .. }, None | Some(KvRet::Done)) => Reveal::Writes(Content::Absent),
            (KvOp::Append { value, .. }, None | Some(KvRet::Done)) => Reveal::Appends(value.as_bytes()),
            (KvOp::Delete { .. }, Some(KvRet::Deleted(false))) => Reveal::Reads(Content::Absent),
            (KvOp::Cas { expected, new, .. }, None | Some(KvRet::Swapped(_))) => {
                Reveal::Swaps { expected: content(expected.as_ref()), new: Content::Bytes(new.as_bytes()) }
            }
            _ => Reveal::Nothing,
        }
    }

    fn initial(&self) -> Option<Content<'_>> {
        Some(content(self.initial.as_ref()))
    }

    fn focus<'a>(&self, operations: impl Iterator<Item = (&'a KvOp, Option<&'a KvRet>)>) -> Kv {
        let observed_by = |(op, ret): (&KvOp, Option<&KvRet>)| match (op, ret) {
            (KvOp::Get { .. }, Some(KvRet::Value(value))) => value.clone(),
            (KvOp::Cas { expected, .. }, _) => expected.clone(),
            _ => None,
        };
        let mut observed: Vec<Value> = operations.filter_map(observed_by).collect();
        observed.sort_unstable();
        observed.dedup();
        Kv { initial: self.initial.clone(), observed: Some(observed.into()) }
    }

    fn describe(&self, op: &KvOp, ret: Option<&KvRet>) -> String {
        let request = match op {
            KvOp::Get { key } => format!("get {key}"),
            KvOp::Put { key, value } => format!("put {key} {value}"),
            KvOp::Append { key, value } => format!("append {key} {value}"),
            KvOp::Delete { key } => format!("delete {key}"),
            KvOp::Cas { key, expected: Some(expected), new } => format!("cas {key} {expected} {new}"),
            KvOp::Cas { key, expected: None, new } => format!("cas {key} missing {new}"),
        };
        let answer = match ret {
            None => "unknown".to_owned(),
            Some(KvRet::Done) => "ok".to_owned(),
            Some(KvRet::Value(Some(value))) => value.to_string(),
            Some(KvRet::Value(None)) => "missing".to_owned(),
            Some(KvRet::Deleted(deleted)) => format!("deleted: {deleted}"),
            Some(KvRet::Swapped(swapped)) => format!("swapped: {swapped}"),
        };
        format!("{request} -> {answer}")
    }

    fn describe_state(&self, state: &KvState) -> String {
        match state {
            KvState::Missing => "missing".to_owned(),
            KvState::Value(value) => value.to_string(),
            KvState::Grown(bytes) => Value::new(bytes).to_string(),
            KvState::Unobserved => "a value that nobody reads".to_owned(),
        }
    }

    fn describe_key(&self, key: &Value) -> String {
        key.to_string()
    }

    fn state_bytes(&self, state: &KvState) -> usize {
        size_of::<KvState>() + state.bytes().map_or(0, <[u8]>::len)
    }
}
