//! Sessions: how a command takes effect at most once although its request is sent many times. One piece for every
//! machine; `table.rs` says how.
//!
//! Invariants:
//! - a command that does not decode, or lacks a part, writes nothing and is refused with a fixed text;
//! - a mutation, the reply that its session keeps and the table are written by one batch or not at all;
//! - nothing is executed for a session that is not in the table.
//!
//! A machine that uses this keeps the records of the sessions under `s/` and the table under `t`.

mod table;

use prost::Message as _;

use crate::mutants::{MutantId, Mutants};
use crate::proto::kv::mutation_result::Result as Did;
use crate::proto::kv::{
    ClientId, Command, Limits, MutationResult, RefusedReason, Session, command, mutation,
};
use crate::raft::Position;
use crate::view::{Batch, View, ViewError};

pub use table::{CLOSED_KEPT_ENTRIES, CLOSED_KEPT_MS, SWEEP_SESSIONS};
use table::{Number, Opening, Sessions, acknowledge, look_up, remember};
pub(crate) use table::{SESSION_PREFIX, load_table};

/// The largest window that may be configured: a session's record is rewritten at each of its mutations.
pub const WINDOW_CEILING: u64 = 1024;

/// When a session is refused and when it is forgotten. Part of the replicated function: see [`crate::kv`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionLimits {
    /// How many sequence numbers at or above the lowest unacknowledged one a session may use at the same time.
    pub session_window: u64,
    /// An `OpenSession` beyond this many sessions is refused, unless the sweep made room.
    pub sessions_max: u64,
    /// A session is evicted only if it was idle for this long, by the time stamps of the log …
    pub session_idle_ms: u64,
    /// … *and* for this many log entries.
    pub session_idle_entries: u64,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            session_window: 64,
            sessions_max: 100_000,
            session_idle_ms: 60 * 60 * 1000,
            session_idle_entries: 10_000,
        }
    }
}

/// What a proposer is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// The session is there, now or since an earlier request.
    SessionOpened,
    /// The session is closed, or was not open.
    SessionClosed,
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

impl Reply {
    /// A refusal in the log: its text is part of the replicated state.
    pub(crate) fn refused(reason: RefusedReason, detail: impl Into<String>) -> Self {
        Self::Refused { reason, detail: detail.into() }
    }

    /// Of a command whose bytes or parts are no command.
    pub(crate) fn malformed(detail: &str) -> Self {
        Self::refused(RefusedReason::RefusedMalformed, detail)
    }
}

/// Applies a command that opens or closes a session or executes a mutation in one. `execute` runs the mutation, at most once
/// per session and number; what it writes goes to the batch.
pub(crate) fn apply(
    view: &dyn View,
    limits: &SessionLimits,
    mutants: Mutants,
    at: Position,
    whole: &Whole,
    execute: impl FnOnce(&mutation::Operation, &mut Batch) -> Result<Did, ViewError>,
) -> Result<(Batch, Reply), ViewError> {
    let mut batch = Batch::new();
    let mut sessions = Sessions::load(view, limits, at, whole.time_ms)?;
    let reply = match &whole.wanted {
        Wanted::Open(client) => match sessions.open(client, &mut batch)? {
            Opening::Open => Reply::SessionOpened,
            Opening::Full => {
                let detail = format!("{} sessions are open, and none is idle", limits.sessions_max);
                Reply::refused(RefusedReason::RefusedSessionsFull, detail)
            }
            Opening::Closed => Reply::refused(RefusedReason::RefusedSessionExpired, "the session was closed"),
        },
        Wanted::Close(client) => {
            sessions.close(client, &mut batch)?;
            Reply::SessionClosed
        }
        Wanted::Execute(request) => once(limits, mutants, &sessions, request, &mut batch, execute)?,
    };
    sessions.finish(&mut batch);
    Ok((batch, reply))
}

fn once(
    limits: &SessionLimits,
    mutants: Mutants,
    sessions: &Sessions<'_>,
    request: &Request,
    batch: &mut Batch,
    execute: impl FnOnce(&mutation::Operation, &mut Batch) -> Result<Did, ViewError>,
) -> Result<Reply, ViewError> {
    // The planted bug `kv.dedup_without_session`: all clients share what is remembered.
    let client = match mutants.is(MutantId::KvDedupWithoutSession) {
        true => ClientId::default(),
        false => request.client,
    };
    let found = match sessions.find(&client)? {
        None if client != request.client || mutants.is(MutantId::KvEvictedExecuted) => {
            Some(Session::default())
        }
        found => found,
    };
    let Some(mut session) = found else {
        let expired = RefusedReason::RefusedSessionExpired;
        return Ok(Reply::refused(expired, "the session is not open"));
    };
    acknowledge(&mut session, request.acknowledged_below);
    let window = limits.session_window;
    let mut number = look_up(&session, request.sequence, window);
    if mutants.is(MutantId::KvNoDedup) && matches!(number, Number::Known(_)) {
        number = Number::New;
    }
    let reply = match number {
        Number::Stale => Reply::refused(
            RefusedReason::RefusedStaleSequence,
            format!(
                "number {} is below {}, the lowest one that is not acknowledged",
                request.sequence, session.acknowledged_below
            ),
        ),
        Number::AboveWindow => Reply::refused(
            RefusedReason::RefusedAboveWindow,
            format!(
                "number {} is {window} or more above {}, the lowest one that is not acknowledged",
                request.sequence, session.acknowledged_below
            ),
        ),
        Number::Known(result) => Reply::Mutation(result),
        Number::New => {
            let did = execute(&request.operation, batch)?;
            let result = MutationResult { result: Some(did), index: sessions.index().0 };
            let forgets = mutants.is(MutantId::KvDedupNotReplicated) && mutants.process() != 1;
            if !forgets {
                remember(&mut session, request.sequence, result.clone());
            }
            Reply::Mutation(result)
        }
    };
    sessions.save(&client, session, batch);
    Ok(reply)
}

/// A command that has all its parts.
pub(crate) struct Whole {
    time_ms: u64,
    limits: Option<Limits>,
    wanted: Wanted,
}

enum Wanted {
    Open(ClientId),
    Close(ClientId),
    Execute(Request),
}

struct Request {
    client: ClientId,
    sequence: u64,
    acknowledged_below: u64,
    operation: mutation::Operation,
}

/// The bytes of an entry as a command. The texts are fixed: what a decoder says about bad bytes may differ between
/// builds, replies must not.
pub(crate) fn decode(command: &[u8]) -> Result<Command, &'static str> {
    Command::decode(command).map_err(|_| "the command does not decode")
}

impl Whole {
    /// From the bytes of an entry.
    pub(crate) fn parse(command: &[u8]) -> Result<Self, &'static str> {
        Self::of(decode(command)?)
    }

    /// From a command that may lack parts.
    pub(crate) fn of(command: Command) -> Result<Self, &'static str> {
        const NO_CLIENT: &str = "the command names no client";
        let wanted = match command.operation.ok_or("the command holds no operation")? {
            command::Operation::OpenSession(open) => Wanted::Open(open.client.ok_or(NO_CLIENT)?),
            command::Operation::CloseSession(close) => Wanted::Close(close.client.ok_or(NO_CLIENT)?),
            command::Operation::Execute(execute) => Wanted::Execute(Request {
                client: execute.client.ok_or(NO_CLIENT)?,
                sequence: execute.sequence,
                acknowledged_below: execute.acknowledged_below,
                operation: execute
                    .mutation
                    .and_then(|mutation| mutation.operation)
                    .ok_or("the command holds no mutation")?,
            }),
            command::Operation::Report(_) => return Err("the command is of another service"),
        };
        Ok(Self { time_ms: command.time_ms, limits: command.limits, wanted })
    }

    /// The proposer's limits, not checked; `None`: the machine's own count.
    pub(crate) fn limits(&self) -> Option<Limits> {
        self.limits
    }

    /// The mutation; `None` if it opens or closes a session.
    pub(crate) fn operation(&self) -> Option<&mutation::Operation> {
        match &self.wanted {
            Wanted::Open(_) | Wanted::Close(_) => None,
            Wanted::Execute(request) => Some(&request.operation),
        }
    }
}
