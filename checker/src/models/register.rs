//! Registers: read, write, and for a `cas-register` also compare-and-set. A register is `nil` until it is written.
//!
//! One model serves both names: a plain register is one whose history has no compare-and-set, which the readers of the
//! formats enforce.

use crate::model::{Class, Content, Model, Reveal};
use crate::value::Value;

/// A request to a register. Registers may have names; a history of one register need not name it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RegisterOp {
    /// Reads the register.
    Read {
        /// Its name.
        key: Option<Value>,
    },
    /// Writes the register.
    Write {
        /// Its name.
        key: Option<Value>,
        /// The new value.
        value: Value,
    },
    /// Writes the register if it has the expected value.
    Cas {
        /// Its name.
        key: Option<Value>,
        /// The value that it must have; `None`: `nil`.
        expected: Option<Value>,
        /// The new value.
        new: Value,
    },
}

/// An answer of a register.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RegisterRet {
    /// To a read; `None`: `nil`.
    Value(Option<Value>),
    /// To a write.
    Done,
    /// To a compare-and-set: whether the value was as expected, and so was set.
    Swapped(bool),
}

impl RegisterOp {
    /// The name of the register.
    pub fn key(&self) -> Option<&Value> {
        match self {
            RegisterOp::Read { key } | RegisterOp::Write { key, .. } | RegisterOp::Cas { key, .. } => {
                key.as_ref()
            }
        }
    }
}

#[inline(always)]
fn content(value: Option<&Value>) -> Content<'_> {
    value.map_or(Content::Absent, |value| Content::Bytes(value.as_bytes()))
}

/// The model of a register; its state is the value, `None` for `nil`.
#[derive(Clone, Copy, Debug)]
pub struct Register {
    cas: bool,
}

impl Register {
    /// A register with read and write.
    pub fn plain() -> Register {
        Register { cas: false }
    }

    /// A register that also has compare-and-set.
    pub fn with_cas() -> Register {
        Register { cas: true }
    }

    /// Whether its histories may have compare-and-set.
    pub fn has_cas(&self) -> bool {
        self.cas
    }
}

impl Model for Register {
    type State = Option<Value>;
    type Op = RegisterOp;
    type Ret = RegisterRet;
    type Key = Option<Value>;

    fn init(&self) -> Option<Value> {
        None
    }

    fn step(
        &self,
        state: &Option<Value>,
        op: &RegisterOp,
        ret: Option<&RegisterRet>,
    ) -> Option<Option<Value>> {
        match (op, ret) {
            (RegisterOp::Read { .. }, None) => Some(state.clone()),
            (RegisterOp::Read { .. }, Some(RegisterRet::Value(value))) => {
                (state == value).then(|| state.clone())
            }
            (RegisterOp::Write { value, .. }, None | Some(RegisterRet::Done)) => Some(Some(value.clone())),
            (RegisterOp::Cas { expected, new, .. }, None | Some(RegisterRet::Swapped(_))) => {
                let matches = state == expected;
                if matches!(ret, Some(RegisterRet::Swapped(swapped)) if *swapped != matches) {
                    return None;
                }
                Some(if matches { Some(new.clone()) } else { state.clone() })
            }
            // An answer that does not belong to the request: no state explains it.
            _ => None,
        }
    }

    fn apply(&self, state: &mut Option<Value>, op: &RegisterOp, ret: Option<&RegisterRet>) -> bool {
        match (op, ret) {
            (RegisterOp::Read { .. }, None) => true,
            (RegisterOp::Read { .. }, Some(RegisterRet::Value(value))) => state == value,
            (RegisterOp::Write { value, .. }, None | Some(RegisterRet::Done)) => {
                *state = Some(value.clone());
                true
            }
            _ => self.step(state, op, ret).map(|next| *state = next).is_some(),
        }
    }

    fn key(&self, op: &RegisterOp) -> Option<Option<Value>> {
        Some(op.key().cloned())
    }

    fn with_key<L>(&self, op: &RegisterOp, look: impl FnOnce(Option<&Option<Value>>) -> L) -> L {
        let (RegisterOp::Read { key } | RegisterOp::Write { key, .. } | RegisterOp::Cas { key, .. }) = op;
        look(Some(key))
    }

    fn class(&self, op: &RegisterOp, ret: Option<&RegisterRet>) -> Class {
        match (op, ret) {
            (RegisterOp::Read { .. }, _) | (_, Some(RegisterRet::Swapped(false))) => Class::ReadOnly,
            (RegisterOp::Write { .. }, None | Some(RegisterRet::Done)) => Class::BlindWrite,
            _ => Class::General,
        }
    }

    #[inline(always)]
    fn reveal<'a>(&self, op: &'a RegisterOp, ret: Option<&'a RegisterRet>) -> Reveal<'a> {
        match (op, ret) {
            (RegisterOp::Read { .. }, Some(RegisterRet::Value(value))) => {
                Reveal::Reads(content(value.as_ref()))
            }
            (RegisterOp::Write { value, .. }, None | Some(RegisterRet::Done)) => {
                Reveal::Writes(content(Some(value)))
            }
            (RegisterOp::Cas { expected, new, .. }, None | Some(RegisterRet::Swapped(_))) => {
                Reveal::Swaps { expected: content(expected.as_ref()), new: content(Some(new)) }
            }
            _ => Reveal::Nothing,
        }
    }

    fn initial(&self) -> Option<Content<'_>> {
        Some(Content::Absent)
    }

    fn describe(&self, op: &RegisterOp, ret: Option<&RegisterRet>) -> String {
        let name = op.key().map(|key| format!(" {key}")).unwrap_or_default();
        let request = match op {
            RegisterOp::Read { .. } => format!("read{name}"),
            RegisterOp::Write { value, .. } => format!("write{name} {value}"),
            RegisterOp::Cas { expected, new, .. } => {
                format!("cas{name} {} {new}", self.describe_state(expected))
            }
        };
        let answer = match ret {
            None => "unknown".to_owned(),
            Some(RegisterRet::Done) => "ok".to_owned(),
            Some(RegisterRet::Value(value)) => self.describe_state(value),
            Some(RegisterRet::Swapped(swapped)) => format!("swapped: {swapped}"),
        };
        format!("{request} -> {answer}")
    }

    fn describe_state(&self, state: &Option<Value>) -> String {
        state.as_ref().map_or_else(|| "nil".to_owned(), Value::to_string)
    }

    fn describe_key(&self, key: &Option<Value>) -> String {
        key.as_ref().map_or_else(|| "the register".to_owned(), Value::to_string)
    }

    fn state_bytes(&self, state: &Option<Value>) -> usize {
        size_of::<Option<Value>>() + state.as_ref().map_or(0, |value| value.as_bytes().len())
    }
}
