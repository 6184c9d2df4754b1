//! A client's session: its id, its numbers, and which of them are in use.
//!
//! Invariants: a number is used for one operation only, over all its retries; the lowest number in use is told to
//! the servers with each request, which then forget the replies below; no number is used that is a window or more
//! above it.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Mutex;

use tokio::sync::Notify;

use super::{Outcome, Refused};
use crate::proto::kv as pb;
use crate::random::{Draws, Site};
use crate::replica::timers::{Clock, Moment};

pub(super) struct Session {
    window: u64,
    state: Mutex<State>,
    /// One opens, the others wait.
    opening: tokio::sync::Mutex<()>,
    released: Notify,
}

struct State {
    ids: Site,
    /// The open session.
    client: Option<pb::ClientId>,
    next: u64,
    in_use: BTreeSet<u64>,
    /// Told apart, so that a late release does not touch a later session.
    generation: u64,
}

/// A number in use; it is released when dropped.
pub(super) struct Number<'a> {
    session: &'a Session,
    pub client: pb::ClientId,
    pub sequence: u64,
    pub acknowledged_below: u64,
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
    pub(super) fn new(window: u64, draws: &Draws, number: u64) -> Self {
        let state = State {
            ids: draws.site("client-id", number),
            client: None,
            next: 1,
            in_use: BTreeSet::new(),
            generation: 0,
        };
        Self {
            window,
            state: Mutex::new(state),
            opening: tokio::sync::Mutex::new(()),
            released: Notify::new(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the session")
    }

    /// The servers have forgotten the session; the next operation opens another.
    pub(super) fn forget(&self) {
        self.lock().client = None;
    }

    /// The open session, which is then no longer this client's; `None` if there is none or it is in use.
    pub(super) fn leave(&self) -> Option<pb::ClientId> {
        let mut state = self.lock();
        if state.in_use.is_empty() { state.client.take() } else { None }
    }

    /// A number for one operation; opens a session with `open` if there is none.
    pub(super) async fn number<F, O>(
        &self,
        clock: &Clock,
        deadline: Moment,
        open: F,
    ) -> Result<Number<'_>, Refused>
    where
        F: Fn(pb::ClientId) -> O,
        O: Future<Output = Outcome<pb::Done>>,
    {
        loop {
            let mut released = std::pin::pin!(self.released.notified());
            released.as_mut().enable();
            match self.take() {
                Taken::Number(number) => return Ok(number),
                Taken::NotOpen => self.open(&open).await?,
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
        if sequence >= acknowledged_below + self.window {
            return Taken::WindowFull;
        }
        state.next += 1;
        state.in_use.insert(sequence);
        let generation = state.generation;
        Taken::Number(Number { session: self, client, sequence, acknowledged_below, generation })
    }

    async fn open<F, O>(&self, open: &F) -> Result<(), Refused>
    where
        F: Fn(pb::ClientId) -> O,
        O: Future<Output = Outcome<pb::Done>>,
    {
        let _one = self.opening.lock().await;
        let client = {
            let mut state = self.lock();
            if state.client.is_some() {
                return Ok(());
            }
            let mut draw = state.ids.next();
            pb::ClientId { high: draw.bits(), low: draw.bits() }
        };
        match open(client).await {
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
