//! The machine: one command in, one batch and one reply out.
//!
//! Invariants:
//! - a command that does not decode, or lacks a part, writes nothing and is refused with a fixed text;
//! - a mutation, the reply that its session keeps and the table are written by one batch or not at all;
//! - nothing is executed for a session that is not in the table.

use bytes::Bytes;
use prost::Message as _;

use super::operation::{execute, key_of, user_key};
use super::session::{Number, Sessions, acknowledge, load_table, look_up, remember};
use super::{KvLimits, LimitError};
use crate::machine::StateMachine;
use crate::mutants::{MutantId, Mutants};
use crate::proto::kv::{ClientId, Command, MutationResult, RefusedReason, command, mutation};
use crate::raft::Position;
use crate::view::{Batch, KeyRange, PageLimit, Pair, View, ViewError};

/// The key-value state machine; see [`super`] for its keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct KvMachine {
    limits: KvLimits,
    mutants: Mutants,
}

/// What a proposer is told.
#[derive(Clone, Debug, PartialEq)]
pub enum KvReply {
    /// The session is there, now or since an earlier request.
    SessionOpened,
    /// The mutation's result, now or remembered. A result that says `refused` was refused in the log.
    Mutation(MutationResult),
    /// Nothing was executed by this entry.
    Refused {
        /// Why.
        reason: RefusedReason,
        /// Why, in words.
        detail: String,
    },
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
    /// To [`KvQuery::Scan`]: keys and values. A page without a pair: there is nothing further.
    Pairs(Vec<Pair>),
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

    /// As `apply`, for a command that is parsed.
    pub(crate) fn apply_whole(
        &self,
        view: &dyn View,
        at: Position,
        whole: &Whole,
    ) -> Result<(Batch, KvReply), ViewError> {
        let mut batch = Batch::new();
        let mut sessions = Sessions::load(view, &self.limits, at, whole.time_ms)?;
        let reply = match &whole.wanted {
            Wanted::Open(client) => {
                if sessions.open(client, &mut batch)? {
                    KvReply::SessionOpened
                } else {
                    let detail = format!("{} sessions are open, and none is idle", self.limits.sessions_max);
                    refused(RefusedReason::RefusedSessionsFull, detail)
                }
            }
            Wanted::Execute(request) => self.execute(view, &sessions, request, &mut batch)?,
        };
        sessions.finish(&mut batch);
        Ok((batch, reply))
    }

    fn execute(
        &self,
        view: &dyn View,
        sessions: &Sessions<'_>,
        request: &Request,
        batch: &mut Batch,
    ) -> Result<KvReply, ViewError> {
        let Some(mut session) = sessions.find(&request.client)? else {
            return Ok(refused(RefusedReason::RefusedSessionExpired, "the session is not open"));
        };
        acknowledge(&mut session, request.acknowledged_below);
        let window = self.limits.session_window;
        let mut number = look_up(&session, request.sequence, window);
        if self.mutants.is(MutantId::KvNoDedup) && matches!(number, Number::Known(_)) {
            number = Number::New;
        }
        let reply = match number {
            Number::Stale => refused(
                RefusedReason::RefusedStaleSequence,
                format!(
                    "number {} is below {}, the lowest one that is not acknowledged",
                    request.sequence, session.acknowledged_below
                ),
            ),
            Number::AboveWindow => refused(
                RefusedReason::RefusedAboveWindow,
                format!(
                    "number {} is {window} or more above {}, the lowest one that is not acknowledged",
                    request.sequence, session.acknowledged_below
                ),
            ),
            Number::Known(result) => KvReply::Mutation(result),
            Number::New => {
                let did = execute(view, &self.limits, &request.operation, batch)?;
                let result = MutationResult { result: Some(did) };
                remember(&mut session, request.sequence, result.clone());
                KvReply::Mutation(result)
            }
        };
        sessions.save(&request.client, session, batch);
        Ok(reply)
    }
}

impl StateMachine for KvMachine {
    type Reply = KvReply;
    type Query = KvQuery;
    type Answer = KvAnswer;

    fn apply(&self, view: &dyn View, at: Position, command: &[u8]) -> Result<(Batch, KvReply), ViewError> {
        match Whole::parse(command) {
            Ok(whole) => self.apply_whole(view, at, &whole),
            Err(detail) => Ok((Batch::new(), refused(RefusedReason::RefusedMalformed, detail))),
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
                let mut pairs = view.page(&range, *limit)?;
                for (key, _) in &mut pairs {
                    key.drain(..user_key(b"").len());
                }
                Ok(KvAnswer::Pairs(pairs))
            }
            KvQuery::Status => {
                let table = load_table(view)?;
                Ok(KvAnswer::Status(KvStatus { sessions: table.sessions, time_ms: table.time_ms }))
            }
        }
    }
}

/// A command that has all its parts.
pub(crate) struct Whole {
    time_ms: u64,
    wanted: Wanted,
}

enum Wanted {
    Open(ClientId),
    Execute(Request),
}

struct Request {
    client: ClientId,
    sequence: u64,
    acknowledged_below: u64,
    operation: mutation::Operation,
}

impl Whole {
    /// The texts are fixed: what a decoder says about bad bytes may differ between builds, replies must not.
    pub(crate) fn parse(command: &[u8]) -> Result<Self, &'static str> {
        const NO_CLIENT: &str = "the command names no client";
        let command = Command::decode(command).map_err(|_| "the command does not decode")?;
        let wanted = match command.operation.ok_or("the command holds no operation")? {
            command::Operation::OpenSession(open) => Wanted::Open(open.client.ok_or(NO_CLIENT)?),
            command::Operation::Execute(execute) => Wanted::Execute(Request {
                client: execute.client.ok_or(NO_CLIENT)?,
                sequence: execute.sequence,
                acknowledged_below: execute.acknowledged_below,
                operation: execute
                    .mutation
                    .and_then(|m| m.operation)
                    .ok_or("the command holds no mutation")?,
            }),
        };
        Ok(Whole { time_ms: command.time_ms, wanted })
    }

    /// The key that it changes; `None` if it opens a session.
    pub(crate) fn key(&self) -> Option<&[u8]> {
        match &self.wanted {
            Wanted::Open(_) => None,
            Wanted::Execute(request) => Some(key_of(&request.operation)),
        }
    }
}

fn refused(reason: RefusedReason, detail: impl Into<String>) -> KvReply {
    KvReply::Refused { reason, detail: detail.into() }
}
