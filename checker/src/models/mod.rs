//! The models that come with the checker.

pub mod bank;
pub mod controller;
pub mod counter;
pub mod kv;
pub mod list;
pub mod nondeterministic;
pub mod register;
pub mod set;
#[cfg(feature = "stateright")]
pub mod stateright;
pub mod whole;
mod wire;

use clap::ValueEnum;
use serde::Deserialize;

/// A model by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModelKind {
    /// A key-value store: get, put, append, delete, cas.
    Kv,
    /// Registers: read, write.
    Register,
    /// Registers: read, write, cas.
    CasRegister,
    /// A counter: add, read.
    Counter,
    /// Lists: append, read.
    ListAppend,
    /// A shard controller: join, leave, move, query.
    Ctrler,
}

impl ModelKind {
    /// The name in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            ModelKind::Kv => "kv",
            ModelKind::Register => "register",
            ModelKind::CasRegister => "cas-register",
            ModelKind::Counter => "counter",
            ModelKind::ListAppend => "list-append",
            ModelKind::Ctrler => "ctrler",
        }
    }
}
