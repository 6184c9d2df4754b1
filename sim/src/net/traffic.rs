//! How a message passes: into its stream, through the link, and out.
//!
//! The delay lies behind the sender: what a node has handed over arrives even if the node dies the next moment, as on
//! a real wire. Each message's fate is drawn by (link, number of the message on that link), always from the same
//! values in the same order, so that no setting moves another message's draws.

use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use eraft::random::Draw;
use eraft::replica::link::{Channel, Party, Route};

use super::config::LinkConfig;
use super::event::{Outcome, name};
use super::state::{Death, State, drop_all};
use super::wire::{Break, BreakKind, Flying, Wire};

/// What the sender's side of a stream has to do.
pub(super) enum Turn {
    /// Take the next message from the stream.
    Poll,
    /// Wait; the waker is kept.
    Wait,
    /// The stream has broken.
    Fail(String),
    /// The stream has ended.
    End,
}

/// What the receiver's side of a stream gets.
pub(super) enum Taken {
    Frame(Bytes),
    /// Wait; the waker is kept.
    Wait,
    Fail(String),
    End,
}

/// What an attempt to connect will meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    Open,
    Refused,
    Silent,
}

/// One message's draws.
struct Fate {
    flight: Duration,
    lost: bool,
    twice: bool,
    late: bool,
    overtaken: bool,
    extra: Duration,
    copy_extra: Duration,
}

impl Fate {
    fn draw(config: &LinkConfig, mut draw: Draw) -> Self {
        Self {
            flight: config.latency.sample(&mut draw),
            lost: draw.chance(config.loss),
            twice: draw.chance(config.duplicate),
            late: draw.chance(config.delay),
            overtaken: draw.chance(config.reorder),
            extra: config.extra.sample(&mut draw),
            copy_extra: config.extra.sample(&mut draw),
        }
    }
}

impl State {
    /// What may the sender of stream `id` do now?
    pub(super) fn sender_turn(&mut self, id: u64, waker: &Waker) -> Turn {
        let now = self.time.elapsed();
        let Some(route) = self.wires.get(&id).map(|wire| wire.route) else { return Turn::End };
        let paused = self.meets_pause(route.from);
        let back_cut = self.is_cut(route.to, route.from);
        let Some(wire) = self.wires.get_mut(&id) else { return Turn::End };
        wire.sender.wait(waker);
        if paused {
            return Turn::Wait;
        }
        if let Some(broken) = &wire.broken {
            if broken.at <= now && !(broken.kind == BreakKind::Told && back_cut) {
                return if std::mem::replace(&mut wire.sender.told, true) {
                    Turn::End
                } else {
                    Turn::Fail(broken.reason.clone())
                };
            }
            if now < broken.at {
                wire.sender.wake_at(&self.time, broken.at);
            }
        }
        let buffer_bytes = self.links[wire.link].config.buffer_bytes;
        if wire.is_full(buffer_bytes) || (wire.route.channel == Channel::Snapshot && wire.is_broken()) {
            wire.blocked = true;
            return Turn::Wait;
        }
        Turn::Poll
    }

    /// A message enters stream `id`.
    pub(super) fn send(&mut self, id: u64, frame: Bytes) {
        let now = self.time.elapsed();
        let Some(route) = self.wires.get(&id).map(|wire| wire.route) else { return };
        let unreachable = self.death(route.to).is_some();
        let receiver_paused = self.is_paused(route.to);
        let Some(wire) = self.wires.get_mut(&id) else { return };
        let link = &mut self.links[wire.link];
        link.messages += 1;
        let ordinal = link.messages;
        self.ledger.counters.sent += 1;
        if route.channel != Channel::Client {
            self.ledger.counters.peer_bytes += frame.len() as u64;
        }
        let first = !std::mem::replace(&mut wire.begun, true);
        let sequence = route.channel == Channel::Snapshot;
        if unreachable || wire.is_broken() || wire.receiver.gone {
            self.ledger.record(now, route, (now, ordinal), &frame, Outcome::Broken);
            return;
        }
        if wire.cut && !sequence {
            self.ledger.record(now, route, (now, ordinal), &frame, Outcome::Cut);
            if first {
                self.break_handshake(id, now);
            }
            return;
        }
        let fate = Fate::draw(&link.config, self.draws.draw(link.site(), link.number, ordinal));
        // A stream without its first message is a failed connection, and that is judged when it is opened.
        let exempt = first || sequence;
        wire.spared = fate.lost && first && route.channel == Channel::Client;
        if fate.lost && !exempt {
            self.ledger.record(now, route, (now, ordinal), &frame, Outcome::Lost);
            return;
        }
        let counters = &mut self.ledger.counters;
        let mut departs = now;
        if let Some(bytes_per_second) = link.config.bytes_per_second {
            let busy_until = self.busy_until.entry((route.from, route.to)).or_default();
            let nanos = (frame.len() as u64).saturating_mul(1_000_000_000) / bytes_per_second.max(1);
            departs = now.max(*busy_until) + Duration::from_nanos(nanos);
            *busy_until = departs;
            counters.slowed += 1;
        }
        let mut due = wire.order_due.max(departs + fate.flight);
        if fate.late {
            due += fate.extra;
            counters.delayed += 1;
        }
        if fate.overtaken && !exempt {
            due += fate.extra;
        } else {
            wire.order_due = due;
        }
        // A request that came twice would be answered twice, and the first answer may be a refusal while the second
        // copy is executed. No connection of a client does that.
        if fate.twice && !exempt && route.channel != Channel::Client {
            self.ledger.record(now, route, (now, ordinal), &frame, Outcome::Duplicated);
            let (bytes, due) = (frame.clone(), due + fate.copy_extra);
            wire.launch(Flying { due, sent_at: now, ordinal, copy: true, first, bytes });
        }
        wire.launch(Flying { due, sent_at: now, ordinal, copy: false, first, bytes: frame });
        if !receiver_paused && let Some(head) = wire.flying.front() {
            let due = head.due;
            wire.receiver.wake_at(&self.time, due);
        }
    }

    /// The next message of stream `id`, or why there is none.
    pub(super) fn take(&mut self, id: u64, waker: &Waker) -> Taken {
        let now = self.time.elapsed();
        let Some(route) = self.wires.get(&id).map(|wire| wire.route) else { return Taken::End };
        let paused = self.meets_pause(route.to);
        let Some(wire) = self.wires.get_mut(&id) else { return Taken::End };
        if paused {
            wire.receiver.wait(waker);
            return Taken::Wait;
        }
        let held = wire.cut && route.channel == Channel::Snapshot;
        if !held && let Some(message) = wire.land(now) {
            let overtaken = !message.copy && message.ordinal < wire.arrived;
            self.ledger.counters.reordered += u64::from(overtaken);
            wire.arrived = wire.arrived.max(message.ordinal);
            if std::mem::take(&mut wire.blocked) {
                wire.sender.wake();
            }
            self.ledger.record(now, route, message.name(), &message.bytes, Outcome::Delivered);
            return Taken::Frame(message.bytes);
        }
        wire.receiver.wait(waker);
        let mut next = if held { None } else { wire.flying.front().map(|message| message.due) };
        if let Some(broken) =
            wire.broken.as_ref().filter(|broken| !(broken.kind == BreakKind::Told && wire.cut))
        {
            if broken.at <= now {
                return if std::mem::replace(&mut wire.receiver.told, true) {
                    Taken::End
                } else {
                    Taken::Fail(broken.reason.clone())
                };
            }
            next = next.into_iter().chain([broken.at]).min();
        }
        if let Some(ended) = wire.ended.filter(|_| !wire.cut) {
            if ended <= now && wire.flying.is_empty() {
                return Taken::End;
            }
            next = next.into_iter().chain([ended].into_iter().filter(|ended| *ended > now)).min();
        }
        if let Some(due) = next {
            wire.receiver.wake_at(&self.time, due);
        }
        Taken::Wait
    }

    /// The receiver has taken up stream `id`. False: there is no such stream any more.
    pub(super) fn bind(&mut self, id: u64) -> bool {
        match self.wires.get_mut(&id) {
            Some(wire) => {
                wire.bound = true;
                true
            }
            None => false,
        }
    }

    /// The sender has nothing more to send on stream `id`, or failed with a reason.
    pub(super) fn finish(&mut self, id: u64, failed: Option<String>) {
        let now = self.time.elapsed();
        let Some(wire) = self.wires.get_mut(&id) else { return };
        if wire.ended.is_some() || wire.broken.is_some() {
            return;
        }
        if failed.is_none() && wire.spared {
            self.lose_call(id, now);
            return;
        }
        let travels = self.links[wire.link].config.latency.min;
        let at = wire.last_due().max(wire.order_due).max(now + travels);
        match failed {
            None => wire.ended = Some(at),
            Some(reason) => wire.broken = Some(Break { at, reason, kind: BreakKind::Told }),
        }
        wire.receiver.wake_at(&self.time, at);
    }

    /// The sender's side of stream `id` is dropped.
    pub(super) fn leave_sender(&mut self, id: u64) {
        let Some(wire) = self.wires.get_mut(&id) else { return };
        let reason = format!("{} -> {}: closed by the sender", name(wire.route.from), name(wire.route.to));
        wire.sender.gone = true;
        wire.sender.waker = None;
        if wire.receiver.gone {
            self.wires.remove(&id);
        } else {
            self.finish(id, Some(reason));
        }
    }

    /// The receiver's side of stream `id` is dropped.
    pub(super) fn leave_receiver(&mut self, id: u64) {
        let now = self.time.elapsed();
        let Some(wire) = self.wires.get_mut(&id) else { return };
        wire.receiver.gone = true;
        wire.receiver.waker = None;
        drop_all(wire, &mut self.ledger, now);
        if wire.sender.gone {
            self.wires.remove(&id);
            return;
        }
        if wire.ended.is_none() && !wire.is_broken() {
            let at = now + self.links[wire.link].config.latency.min;
            let reason =
                format!("{} -> {}: closed by the receiver", name(wire.route.from), name(wire.route.to));
            wire.broken = Some(Break { at, reason, kind: BreakKind::Told });
            wire.sender.wake_at(&self.time, at);
        }
    }

    /// What connecting along `route` meets now.
    pub(super) fn reach(&self, route: Route) -> Reach {
        let Route { from, to, .. } = route;
        match self.death(to) {
            _ if self.is_cut(from, to) || self.is_cut(to, from) => Reach::Silent,
            None => Reach::Open,
            Some(Death::Process) => Reach::Refused,
            Some(Death::Power) => Reach::Silent,
        }
    }

    /// Draws how long an attempt to connect takes, there and back, and when it is given up.
    pub(super) fn connect_times(&mut self, route: Route) -> (Duration, Duration) {
        let place = self.link(route);
        let link = &mut self.links[place];
        link.connects += 1;
        let mut draw = self.draws.draw(link.connect_site(), link.number, link.connects);
        let latency = link.config.latency;
        let round_trip = latency.sample(&mut draw) + latency.sample(&mut draw);
        (round_trip, self.config.notice.connect_timeout.sample(&mut draw))
    }

    /// Counts an attempt to connect that failed.
    pub(super) fn connect_failed(&mut self, route: Route) {
        let cut = self.is_cut(route.from, route.to) || self.is_cut(route.to, route.from);
        let counters = &mut self.ledger.counters;
        *(if cut { &mut counters.connects_cut } else { &mut counters.connects_dead }) += 1;
    }

    fn break_handshake(&mut self, id: u64, now: Duration) {
        let Some(wire) = self.wires.get_mut(&id) else { return };
        let link = &self.links[wire.link];
        let silence = link.notice(&self.draws, wire.number, self.config.notice.silence);
        let reason = format!("{} -> {}: no answer", name(wire.route.from), name(wire.route.to));
        wire.broken = Some(Break { at: now + silence, reason, kind: BreakKind::Silent });
        arm_both(&self.time, wire, now + silence);
    }

    /// Stream `id` carries a single message, a request or a reply, and that is lost: silence.
    fn lose_call(&mut self, id: u64, now: Duration) {
        if let Some(wire) = self.wires.get_mut(&id) {
            for message in wire.drop_after(now) {
                self.ledger.record(now, wire.route, message.name(), &message.bytes, Outcome::Lost);
            }
            self.break_handshake(id, now);
        }
    }

    /// Messages in flight, for bounds.
    pub(super) fn in_flight(&self) -> usize {
        self.wires.values().map(|wire| wire.flying.len()).sum()
    }

    /// Open streams from or to `party`.
    pub(super) fn streams_of(&self, party: Party) -> usize {
        let touches = |wire: &&Wire| wire.route.from == party || wire.route.to == party;
        self.wires.values().filter(touches).count()
    }
}

fn arm_both(time: &madsim::time::TimeHandle, wire: &mut Wire, due: Duration) {
    wire.sender.wake_at(time, due);
    wire.receiver.wake_at(time, due);
}
