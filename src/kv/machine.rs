//! The machine: one command in, one batch and one reply out.

use bytes::Bytes;

use super::operation::{execute, user_key};
use super::{KvLimits, LimitError};
use crate::machine::StateMachine;
use crate::mutants::Mutants;
use crate::raft::Position;
use crate::session::{self, Reply, Whole, load_table};
use crate::view::{Batch, KeyRange, PageLimit, Pair, View, ViewError, collect};

/// The key-value state machine; see [`super`] for its keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct KvMachine {
    limits: KvLimits,
    mutants: Mutants,
}

/// What can be asked of the state.
#[derive(Clone, Debug)]
pub enum KvQuery {
    /// The value of a key.
    Get {
        /// The user's key.
        key: Bytes,
    },
    /// A page of the keys that start with `prefix`, in order.
    Scan {
        /// What the keys start with; empty: all keys.
        prefix: Bytes,
        /// Only keys behind this one; `None`: from the first.
        after: Option<Bytes>,
        /// How much the page may hold.
        limit: PageLimit,
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
    /// To [`KvQuery::Scan`].
    Pairs {
        /// Keys and values.
        pairs: Vec<Pair>,
        /// True if there is nothing further.
        all: bool,
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
    /// A machine with these limits for commands that carry none.
    pub fn new(limits: KvLimits, mutants: Mutants) -> Result<Self, LimitError> {
        limits.validate()?;
        Ok(Self { limits, mutants })
    }

    /// The limits.
    pub fn limits(&self) -> &KvLimits {
        &self.limits
    }

    /// As `apply`, for a command that is parsed.
    pub(crate) fn apply_whole(
        &self,
        view: &dyn View,
        at: Position,
        whole: &Whole,
    ) -> Result<(Batch, Reply), ViewError> {
        let limits = match whole.limits().map(KvLimits::try_from).transpose() {
            Ok(travelled) => travelled.unwrap_or(self.limits),
            Err(_) => return Ok((Batch::new(), Reply::malformed("the command's limits make no sense"))),
        };
        session::apply(view, &limits.sessions, self.mutants, at, whole, |operation, batch| {
            execute(view, &limits, operation, batch)
        })
    }
}

impl StateMachine for KvMachine {
    type Reply = Reply;
    type Query = KvQuery;
    type Answer = KvAnswer;

    fn apply(&self, view: &dyn View, at: Position, command: &[u8]) -> Result<(Batch, Reply), ViewError> {
        match Whole::parse(command) {
            Ok(whole) => self.apply_whole(view, at, &whole),
            Err(detail) => Ok((Batch::new(), Reply::malformed(detail))),
        }
    }

    fn read(&self, view: &dyn View, query: &KvQuery) -> Result<KvAnswer, ViewError> {
        match query {
            KvQuery::Get { key } => Ok(KvAnswer::Value { value: view.get(&user_key(key))? }),
            KvQuery::Scan { prefix, after, limit } => {
                let mut range = KeyRange::prefix(&user_key(prefix));
                if let Some(after) = after {
                    range = range.after(&user_key(after));
                }
                let (mut pairs, all) = collect(view, range, *limit)?;
                for (key, _) in &mut pairs {
                    key.drain(..user_key(b"").len());
                }
                Ok(KvAnswer::Pairs { pairs, all })
            }
            KvQuery::Status => {
                let table = load_table(view)?;
                Ok(KvAnswer::Status(KvStatus { sessions: table.sessions, time_ms: table.time_ms }))
            }
        }
    }
}
