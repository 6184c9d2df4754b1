//! The machine: one command in, one batch and one reply out.

use bytes::Bytes;

use super::operation::{execute, user_key};
use super::{KvLimits, LimitError};
use crate::machine::StateMachine;
use crate::mutants::Mutants;
use crate::raft::Position;
use crate::session::{self, Reply, load_table};
use crate::view::{Batch, View, ViewError};

/// The key-value state machine; see [`super`] for its keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct KvMachine {
    limits: KvLimits,
    mutants: Mutants,
}

/// What can be asked of the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvQuery {
    /// The value of a key.
    Get {
        /// The user's key.
        key: Bytes,
    },
    /// The machine's own numbers.
    Status,
}

/// What comes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvAnswer {
    /// To [`KvQuery::Get`].
    Value {
        /// `None`: there is no such key.
        value: Option<Vec<u8>>,
    },
    /// To [`KvQuery::Status`].
    Status(KvStatus),
}

/// The machine's own numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KvStatus {
    /// Open sessions.
    pub sessions: u64,
    /// The highest time stamp in the log so far.
    pub time_ms: u64,
}

impl KvMachine {
    /// A machine with these limits, which all replicas of the group must share.
    pub fn new(limits: KvLimits, mutants: Mutants) -> Result<Self, LimitError> {
        limits.validate()?;
        Ok(Self { limits, mutants })
    }

    /// The limits.
    pub fn limits(&self) -> &KvLimits {
        &self.limits
    }
}

impl StateMachine for KvMachine {
    type Reply = Reply;
    type Query = KvQuery;
    type Answer = KvAnswer;

    fn apply(&self, view: &dyn View, at: Position, command: &[u8]) -> Result<(Batch, Reply), ViewError> {
        match session::decode(command) {
            Err(refusal) => Ok((Batch::new(), refusal)),
            Ok(command) => {
                session::apply(view, &self.limits.sessions, self.mutants, at, command, |operation, batch| {
                    execute(view, &self.limits, operation, batch)
                })
            }
        }
    }

    fn read(&self, view: &dyn View, query: &KvQuery) -> Result<KvAnswer, ViewError> {
        match query {
            KvQuery::Get { key } => Ok(KvAnswer::Value { value: view.get(&user_key(key))? }),
            KvQuery::Status => {
                let table = load_table(view)?;
                Ok(KvAnswer::Status(KvStatus { sessions: table.sessions, time_ms: table.time_ms }))
            }
        }
    }
}
