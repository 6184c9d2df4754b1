//! A client's session: its id, its numbers, and which of them are in use.
//!
//! Invariants: a number is used for one operation only, over all its retries; the lowest number in use is told to
//! the servers with each request, which then forget the replies below; no number is used that is a window or more
//! above it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;

use super::group::{Ask, Context, Way};
use super::{CLOSE_MS, Outcome, Refused};
use crate::proto::kv::{self as pb, mutation, request};
use crate::replica::timers::Moment;
use crate::types::ShardId;

pub(super) struct Session {
    context: Arc<Context>,
    /// Of a sharded store: the shard that it is of. It goes where the shard goes.
    shard: Option<ShardId>,
    state: Mutex<State>,
    /// One opens, the others wait.
    opening: tokio::sync::Mutex<()>,
    released: Notify,
}

#[derive(Default)]
struct State {
    /// The open session.
    client: Option<pb::ClientId>,
    next: u64,
    in_use: BTreeSet<u64>,
    /// Told apart, so that a late release does not touch a later session.
    generation: u64,
}

/// A number in use; it is released when dropped.
struct Number<'a> {
    session: &'a Session,
    client: pb::ClientId,
    sequence: u64,
    acknowledged_below: u64,
    generation: u64,
}

impl Drop for Number<'_> {
    fn drop(&mut self) {
        let mut state = self.session.lock();
        if state.generation == self.generation {
            state.in_use.remove(&self.sequence);
        }
        drop(state);
        self.session.released.notify_waiters();
    }
}

impl Session {
    pub(super) fn new(context: Arc<Context>, shard: Option<ShardId>) -> Self {
        Self {
            context,
            shard,
            state: Mutex::default(),
            opening: tokio::sync::Mutex::new(()),
            released: Notify::new(),
        }
    }

    /// Executes `mutation` at most once, over all attempts.
    pub(super) async fn execute(
        &self,
        way: &impl Way,
        mutation: mutation::Operation,
        deadline: Moment,
    ) -> Outcome<pb::Done> {
        let number = match self.number(way, deadline).await {
            Ok(number) => number,
            Err(refused) => return Outcome::Refused(refused),
        };
        let execute = pb::Execute {
            client: Some(number.client),
            sequence: number.sequence,
            acknowledged_below: number.acknowledged_below,
            mutation: Some(pb::Mutation { operation: Some(mutation) }),
        };
        let operation = request::Operation::Execute(execute);
        way.attempts(&Ask { operation, shard: self.shard, session: Some(self) }, deadline).await
    }

    /// Gives the session back, if it is open and nothing uses it. Waits for [`CLOSE_MS`] at most.
    pub(super) async fn close(&self, way: &impl Way) {
        let Some(client) = self.leave() else { return };
        let wait_ms = self.context.options.deadline_ms.min(CLOSE_MS);
        let deadline = self.context.clock().now().after(Duration::from_millis(wait_ms));
        let operation = request::Operation::CloseSession(pb::CloseSession { client: Some(client) });
        way.attempts(&Ask { operation, shard: self.shard, session: None }, deadline).await;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the session")
    }

    /// The servers have forgotten the session; the next operation opens another.
    pub(super) fn forget(&self) {
        self.lock().client = None;
    }

    /// The open session, which is then no longer this client's; `None` if there is none or it is in use.
    fn leave(&self) -> Option<pb::ClientId> {
        let mut state = self.lock();
        if state.in_use.is_empty() { state.client.take() } else { None }
    }

    /// A number for one operation; opens a session if there is none.
    async fn number(&self, way: &impl Way, deadline: Moment) -> Result<Number<'_>, Refused> {
        let clock = self.context.clock();
        loop {
            let mut released = std::pin::pin!(self.released.notified());
            released.as_mut().enable();
            match self.take() {
                Taken::Number(number) => return Ok(number),
                Taken::NotOpen => self.open(way, deadline).await?,
                Taken::WindowFull => {
                    let left = deadline.since(clock.now());
                    if clock.timeout(left, released).await.is_none() {
                        let detail = "all numbers of the session's window are in use".to_owned();
                        return Err(Refused { unavailable: true, detail });
                    }
                }
            }
        }
    }

    fn take(&self) -> Taken<'_> {
        let mut state = self.lock();
        let Some(client) = state.client else { return Taken::NotOpen };
        let sequence = state.next;
        let acknowledged_below = state.in_use.first().copied().unwrap_or(sequence);
        if sequence >= acknowledged_below + self.context.options.session_window {
            return Taken::WindowFull;
        }
        state.next += 1;
        state.in_use.insert(sequence);
        let generation = state.generation;
        Taken::Number(Number { session: self, client, sequence, acknowledged_below, generation })
    }

    async fn open(&self, way: &impl Way, deadline: Moment) -> Result<(), Refused> {
        let _one = self.opening.lock().await;
        if self.lock().client.is_some() {
            return Ok(());
        }
        let mut draw = self.context.draw_id();
        let client = pb::ClientId { high: draw.bits(), low: draw.bits() };
        let operation = request::Operation::OpenSession(pb::OpenSession { client: Some(client) });
        match way.attempts(&Ask { operation, shard: self.shard, session: None }, deadline).await {
            Outcome::Ok(_) => {
                let mut state = self.lock();
                state.client = Some(client);
                (state.next, state.in_use, state.generation) = (1, BTreeSet::new(), state.generation + 1);
                Ok(())
            }
            Outcome::Refused(refused) => Err(refused),
            Outcome::Unknown(detail) => Err(Refused { unavailable: true, detail }),
        }
    }
}

enum Taken<'a> {
    Number(Number<'a>),
    NotOpen,
    WindowFull,
}
