//! The two ends of a stream, wrapped round the caller's own.
//!
//! The messages themselves do not travel inside madsim's connection, which would cost a sleep and a timer each and
//! would lose them with their sender. The sender's end puts them on the [wire](super::wire) and hands madsim a single
//! *token*, the number of the wire; the receiver's end reads the token and takes the messages from there. The real
//! connection is thus opened, accepted and closed as ever, and everything in between is ours.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use eraft::replica::link::{Frames, Route};
use futures_util::Stream;

use super::Shared;
use super::traffic::{Taken, Turn};
use crate::timing::Alarm;

/// How long after a token it is sent again for the first time, if nobody has taken the stream up; then twice as long.
const REMINDER_GAP_MIN: Duration = Duration::from_millis(50);

/// What a token begins with.
const TOKEN_MAGIC: &[u8; 8] = b"sim-wire";

fn token(id: u64) -> Bytes {
    let mut token = TOKEN_MAGIC.to_vec();
    token.extend_from_slice(&id.to_le_bytes());
    token.into()
}

fn parse_token(frame: &[u8]) -> Option<u64> {
    let id = frame.strip_prefix(TOKEN_MAGIC.as_slice())?;
    Some(u64::from_le_bytes(id.try_into().ok()?))
}

/// The sender's end: yields the token (again while nobody reads it), then nothing until the stream ends or breaks.
pub(super) struct Outbound {
    shared: Arc<Shared>,
    id: u64,
    input: Option<Frames>,
    token_sent: bool,
    /// The receiver has read the token.
    taken_up: bool,
    /// When the token is sent again if nobody has taken the stream up, and after how long then.
    reminder_due: Duration,
    reminder_gap: Duration,
    reminder: Alarm,
    /// What came first, when the token had to come before it.
    after_token: Option<Option<Result<Bytes, String>>>,
}

impl Outbound {
    pub(super) fn new(shared: Arc<Shared>, route: Route, input: Frames) -> Self {
        let id = shared.lock().open(route);
        Self {
            shared,
            id,
            input: Some(input),
            token_sent: false,
            taken_up: false,
            reminder_due: Duration::ZERO,
            reminder_gap: REMINDER_GAP_MIN,
            reminder: Alarm::default(),
            after_token: None,
        }
    }

    /// Is it time to send the token again? Only sending shows a madsim connection that it was closed, and a server
    /// may refuse a call without ever looking at its stream. Not across a cut and not to the dead: madsim would tell.
    fn reminds(&mut self, context: &Context<'_>) -> bool {
        if self.taken_up {
            return false;
        }
        let state = self.shared.lock();
        let Some(wire) = state.wires.get(&self.id) else { return false };
        self.taken_up = wire.bound;
        if wire.bound || wire.cut || wire.broken.is_some() {
            return false;
        }
        let now = state.time.elapsed();
        let due = now >= self.reminder_due;
        if due {
            self.reminder_due = now + self.reminder_gap;
            self.reminder_gap *= 2;
        } else {
            self.reminder.arm(&state.time, self.reminder_due, context.waker());
        }
        due
    }

    /// Moves messages from the caller's stream to the wire while there are some and there is room.
    fn pump(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, String>>> {
        loop {
            let turn = self.shared.lock().sender_turn(self.id, context.waker());
            let Some(input) = &mut self.input else { return Poll::Ready(None) };
            // The caller's stream is polled outside of the lock: it may use the network itself.
            let item = match turn {
                Turn::Poll => input.as_mut().poll_next(context),
                Turn::Wait => return Poll::Pending,
                Turn::Fail(reason) => Poll::Ready(Some(Err(reason))),
                Turn::End => Poll::Ready(None),
            };
            match item {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(frame))) => self.shared.lock().send(self.id, frame),
                Poll::Ready(Some(Err(reason))) => {
                    self.input = None;
                    self.shared.lock().finish(self.id, Some(reason.clone()));
                    return Poll::Ready(Some(Err(reason)));
                }
                Poll::Ready(None) => {
                    self.input = None;
                    self.shared.lock().finish(self.id, None);
                    return Poll::Ready(None);
                }
            }
        }
    }
}

impl Stream for Outbound {
    type Item = Result<Bytes, String>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(item) = self.after_token.take() {
            return Poll::Ready(item);
        }
        // Before the token, because a caller of a unary call takes one item and no more.
        let pumped = self.pump(context);
        let first = !std::mem::replace(&mut self.token_sent, true);
        let reminds = (first || pumped.is_pending()) && self.reminds(context);
        if !first && !reminds {
            return pumped;
        }
        if let Poll::Ready(item) = pumped {
            self.after_token = Some(item);
        }
        Poll::Ready(Some(Ok(token(self.id))))
    }
}

impl Drop for Outbound {
    fn drop(&mut self) {
        self.shared.lock().leave_sender(self.id);
    }
}

/// The receiver's end.
pub(super) struct Inbound {
    shared: Arc<Shared>,
    /// Kept after the token, so that the connection stays open; not polled any more.
    input: Frames,
    id: Option<u64>,
    done: bool,
}

impl Inbound {
    pub(super) fn new(shared: Arc<Shared>, input: Frames) -> Self {
        Self { shared, input, id: None, done: false }
    }

    fn finish(&mut self, item: Option<Result<Bytes, String>>) -> Poll<Option<Result<Bytes, String>>> {
        self.done = true;
        Poll::Ready(item)
    }
}

impl Stream for Inbound {
    type Item = Result<Bytes, String>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.done {
            return Poll::Ready(None);
        }
        let id = match self.id {
            Some(id) => id,
            None => match std::task::ready!(self.input.as_mut().poll_next(context)) {
                Some(Ok(frame)) => {
                    let id = parse_token(&frame).filter(|id| self.shared.lock().bind(*id));
                    let Some(id) = id else {
                        let reason = "a stream that was not opened through the link, or long ago";
                        return self.finish(Some(Err(reason.into())));
                    };
                    self.id = Some(id);
                    id
                }
                other => return self.finish(other),
            },
        };
        let taken = self.shared.lock().take(id, context.waker());
        match taken {
            Taken::Frame(frame) => Poll::Ready(Some(Ok(frame))),
            Taken::Wait => Poll::Pending,
            Taken::Fail(reason) => self.finish(Some(Err(reason))),
            Taken::End => self.finish(None),
        }
    }
}

impl Drop for Inbound {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.shared.lock().leave_receiver(id);
        }
    }
}
