//! One stream's way from its sender to its receiver: the messages in flight, and how the stream ends.
//!
//! Invariants: messages lie in the order of arrival; `bytes` is their sum; a message is in flight or has exactly one
//! final outcome; each end learns of a break at most once.

use std::collections::VecDeque;
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use eraft::replica::link::Route;
use madsim::time::TimeHandle;

use crate::timing::Alarm;

/// At most this many messages of a stream are in flight; then the sender's stream is not polled: the socket is full.
pub const IN_FLIGHT_FRAMES_MAX: usize = 64;

/// A message under way.
#[derive(Debug)]
pub(super) struct Flying {
    pub(super) due: Duration,
    pub(super) sent_at: Duration,
    pub(super) ordinal: u64,
    pub(super) copy: bool,
    /// The first of its stream: without it the stream is worth nothing.
    pub(super) first: bool,
    pub(super) bytes: Bytes,
}

impl Flying {
    /// When it was sent and its number on its way: which message it is.
    pub(super) fn name(&self) -> (Duration, u64) {
        (self.sent_at, self.ordinal)
    }
}

/// How a stream breaks, and when each end learns of it.
#[derive(Clone, Debug)]
pub(super) struct Break {
    pub(super) at: Duration,
    pub(super) reason: String,
    pub(super) kind: BreakKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BreakKind {
    /// The notice travels over the link, which may be cut.
    Told,
    /// Each end finds out by itself.
    Silent,
    /// Each end finds out by itself, unless the cut heals before.
    UnlessHealed,
}

/// One end: who waits there, and whether it still exists.
#[derive(Debug, Default)]
pub(super) struct End {
    pub(super) waker: Option<Waker>,
    alarm: Alarm,
    pub(super) gone: bool,
    /// It was told of the break.
    pub(super) told: bool,
}

impl End {
    pub(super) fn wait(&mut self, waker: &Waker) {
        match &self.waker {
            Some(old) if old.will_wake(waker) => {}
            _ => self.waker = Some(waker.clone()),
        }
    }

    pub(super) fn wake_at(&mut self, time: &TimeHandle, due: Duration) {
        if let Some(waker) = &self.waker {
            self.alarm.arm(time, due, waker);
        }
    }

    pub(super) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// A stream.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) route: Route,
    /// Its place in the table of links.
    pub(super) link: usize,
    /// Its number on its link.
    pub(super) number: u64,
    pub(super) opened_at: Duration,
    pub(super) flying: VecDeque<Flying>,
    pub(super) bytes: usize,
    /// No message in order arrives before this.
    pub(super) order_due: Duration,
    /// The greatest number that arrived.
    pub(super) arrived: u64,
    pub(super) begun: bool,
    /// Its first message was spared a loss that was drawn for it; if it stays the only one, it is lost after all.
    pub(super) spared: bool,
    /// Its way is cut now.
    pub(super) cut: bool,
    /// The sender waits for room.
    pub(super) blocked: bool,
    /// The sender is done; the receiver learns of it then, after the last message.
    pub(super) ended: Option<Duration>,
    pub(super) broken: Option<Break>,
    pub(super) sender: End,
    pub(super) receiver: End,
    /// The receiver has the stream in its hands.
    pub(super) bound: bool,
}

impl Wire {
    pub(super) fn new(route: Route, link: usize, number: u64, opened_at: Duration) -> Self {
        Self {
            route,
            link,
            number,
            opened_at,
            flying: VecDeque::new(),
            bytes: 0,
            order_due: Duration::ZERO,
            arrived: 0,
            begun: false,
            spared: false,
            cut: false,
            blocked: false,
            ended: None,
            broken: None,
            sender: End::default(),
            receiver: End::default(),
            bound: false,
        }
    }

    /// No room in a socket buffer of `buffer_bytes`; a message larger than that passes alone.
    pub(super) fn is_full(&self, buffer_bytes: usize) -> bool {
        self.flying.len() >= IN_FLIGHT_FRAMES_MAX || self.bytes >= buffer_bytes
    }

    /// Puts a message among those in flight, behind those due at the same time.
    pub(super) fn launch(&mut self, message: Flying) {
        self.bytes += message.bytes.len();
        let place = self.flying.partition_point(|other| other.due <= message.due);
        self.flying.insert(place, message);
    }

    /// Takes out the next message that has arrived.
    pub(super) fn land(&mut self, now: Duration) -> Option<Flying> {
        if self.flying.front()?.due > now {
            return None;
        }
        let message = self.flying.pop_front()?;
        self.bytes -= message.bytes.len();
        Some(message)
    }

    /// Takes out every message that has not arrived yet.
    pub(super) fn drop_after(&mut self, now: Duration) -> VecDeque<Flying> {
        let arrived = self.flying.partition_point(|message| message.due <= now);
        let dropped = self.flying.split_off(arrived);
        self.bytes -= dropped.iter().map(|message| message.bytes.len()).sum::<usize>();
        dropped
    }

    /// The arrival of the last message in flight.
    pub(super) fn last_due(&self) -> Duration {
        self.flying.back().map_or(Duration::ZERO, |message| message.due)
    }

    /// True if nothing more can pass.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.as_ref().is_some_and(|broken| broken.kind != BreakKind::UnlessHealed)
    }

    pub(super) fn wake_both(&mut self) {
        self.sender.wake();
        self.receiver.wake();
    }
}
