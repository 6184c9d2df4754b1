//! The network under its lock: parties, links, partitions, and what the scenario does to them.
//!
//! Streams pass messages in [`super::traffic`]; here is what changes the world round them. Every change visits the
//! open streams in the order of their numbers, drops what must not arrive any more, and wakes whoever must look again.

use std::collections::BTreeMap;
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use eraft::random::Draws;
use eraft::replica::link::{Channel, Party, Route};
use madsim::time::TimeHandle;
use xxhash_rust::xxh3::xxh3_64;

use super::config::{LinkConfig, NetConfig};
use super::event::{MessageEvent, NetCounters, Outcome, Sink, name};
use super::partition::Partition;
use super::wire::{Break, BreakKind, Wire};
use crate::timing::Spread;

/// Streams that no receiver ever took up are forgotten after this time.
const UNBOUND_KEPT: Duration = Duration::from_secs(60);

/// How often streams are looked through for such: once per so many new ones.
const SWEEP_EVERY: u64 = 64;

/// How a party ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Death {
    /// Its operating system answers for it.
    Process,
    /// Nobody answers.
    Power,
}

/// What a party is up to.
#[derive(Debug, Default)]
struct Condition {
    dead: Option<Death>,
    paused: bool,
    /// This pause has kept something waiting.
    pause_met: bool,
    gates: Vec<Waker>,
}

/// One route's settings and counts; its draws follow from them alone.
pub(super) struct Link {
    route: Route,
    pub(super) number: u64,
    pub(super) config: LinkConfig,
    pub(super) messages: u64,
    pub(super) connects: u64,
    streams: u64,
}

impl Link {
    /// The name of this link's draws about messages.
    pub(super) fn site(&self) -> &'static str {
        match self.route.channel {
            Channel::Peer => "peer message",
            Channel::Snapshot => "snapshot message",
            Channel::Client => "client message",
        }
    }

    /// How long the end of stream `number` goes unnoticed.
    pub(super) fn notice(&self, draws: &Draws, number: u64, spread: Spread) -> Duration {
        let site = match self.route.channel {
            Channel::Peer => "peer notice",
            Channel::Snapshot => "snapshot notice",
            Channel::Client => "client notice",
        };
        spread.sample(&mut draws.draw(site, self.number, number))
    }

    /// The name of this link's draws about connecting.
    pub(super) fn connect_site(&self) -> &'static str {
        match self.route.channel {
            Channel::Peer => "peer connect",
            Channel::Snapshot => "snapshot connect",
            Channel::Client => "client connect",
        }
    }
}

/// Counts and the record of messages.
#[derive(Default)]
pub(super) struct Ledger {
    pub(super) counters: NetCounters,
    pub(super) sink: Option<Sink>,
}

impl Ledger {
    pub(super) fn record(
        &mut self,
        at: Duration,
        route: Route,
        (sent_at, ordinal): (Duration, u64),
        frame: &Bytes,
        outcome: Outcome,
    ) {
        let counter = match outcome {
            Outcome::Delivered => &mut self.counters.delivered,
            Outcome::Duplicated => &mut self.counters.duplicated,
            Outcome::Lost => &mut self.counters.lost,
            Outcome::Cut => &mut self.counters.cut,
            Outcome::Broken => &mut self.counters.broken,
        };
        *counter += 1;
        if let Some(sink) = &mut self.sink {
            let (hash, bytes) = (xxh3_64(frame), frame.len());
            sink(&MessageEvent { at, sent_at, route, ordinal, hash, bytes, outcome }, frame);
        }
    }
}

/// The network.
pub(super) struct State {
    pub(super) time: TimeHandle,
    pub(super) draws: Draws,
    pub(super) config: NetConfig,
    pub(super) ledger: Ledger,
    pub(super) links: Vec<Link>,
    pub(super) wires: BTreeMap<u64, Wire>,
    /// When a slow link has room again.
    pub(super) busy_until: BTreeMap<(Party, Party), Duration>,
    link_places: BTreeMap<Route, usize>,
    link_configs: BTreeMap<(Party, Party), LinkConfig>,
    partitions: BTreeMap<String, Partition>,
    conditions: BTreeMap<Party, Condition>,
    wires_opened: u64,
}

impl State {
    pub(super) fn new(seed: u64, config: NetConfig, time: TimeHandle) -> Self {
        Self {
            time,
            draws: Draws::new(seed, "net"),
            config,
            ledger: Ledger::default(),
            links: Vec::new(),
            wires: BTreeMap::new(),
            busy_until: BTreeMap::new(),
            link_places: BTreeMap::new(),
            link_configs: BTreeMap::new(),
            partitions: BTreeMap::new(),
            conditions: BTreeMap::new(),
            wires_opened: 0,
        }
    }

    /// The place of a route in the table of links.
    pub(super) fn link(&mut self, route: Route) -> usize {
        if let Some(place) = self.link_places.get(&route) {
            return *place;
        }
        let config = self.link_configs.get(&(route.from, route.to)).copied().unwrap_or(self.config.link);
        let mut key = [0; 18];
        for (half, party) in key.chunks_exact_mut(9).zip([route.from, route.to]) {
            let (kind, number) = match party {
                Party::Node(node) => (0, node.0),
                Party::Client(client) => (1, client),
            };
            half[0] = kind;
            half[1..].copy_from_slice(&number.to_le_bytes());
        }
        let number = xxh3_64(&key);
        self.links.push(Link { route, number, config, messages: 0, connects: 0, streams: 0 });
        self.link_places.insert(route, self.links.len() - 1);
        self.links.len() - 1
    }

    /// A new stream.
    pub(super) fn open(&mut self, route: Route) -> u64 {
        let (place, now) = (self.link(route), self.time.elapsed());
        self.wires_opened += 1;
        if self.wires_opened.is_multiple_of(SWEEP_EVERY) {
            self.sweep(now);
        }
        self.links[place].streams += 1;
        let mut wire = Wire::new(route, place, self.links[place].streams, now);
        if self.is_cut(route.from, route.to) {
            let link = &self.links[place];
            let silence = link.notice(&self.draws, wire.number, self.config.notice.silence);
            cut_wire(&mut wire, &mut self.ledger, now, now + silence);
        }
        self.wires.insert(self.wires_opened, wire);
        self.wires_opened
    }

    fn sweep(&mut self, now: Duration) {
        let ledger = &mut self.ledger;
        self.wires.retain(|_, wire| {
            let kept = wire.bound || !wire.sender.gone || now < wire.opened_at + UNBOUND_KEPT;
            if !kept {
                drop_all(wire, ledger, now);
            }
            kept
        });
    }

    pub(super) fn is_cut(&self, from: Party, to: Party) -> bool {
        self.partitions.values().any(|partition| partition.cuts(from, to))
    }

    pub(super) fn death(&self, party: Party) -> Option<Death> {
        self.conditions.get(&party)?.dead
    }

    pub(super) fn is_paused(&self, party: Party) -> bool {
        self.conditions.get(&party).is_some_and(|condition| condition.paused)
    }

    /// As `is_paused`, from something that must wait for it.
    pub(super) fn meets_pause(&mut self, party: Party) -> bool {
        match self.conditions.get_mut(&party) {
            Some(condition) if condition.paused => {
                let met = std::mem::replace(&mut condition.pause_met, true);
                let counters = &mut self.ledger.counters;
                let pauses = match party {
                    Party::Node(_) => &mut counters.pauses,
                    Party::Client(_) => &mut counters.client_pauses,
                };
                *pauses += u64::from(!met);
                true
            }
            _ => false,
        }
    }

    /// Wakes `waker` when `party` goes on.
    pub(super) fn wait_at_gate(&mut self, party: Party, waker: &Waker) {
        let gates = &mut self.conditions.entry(party).or_default().gates;
        if !gates.iter().any(|other| other.will_wake(waker)) {
            gates.push(waker.clone());
        }
    }

    pub(super) fn set_link(&mut self, from: Party, to: Party, config: Option<LinkConfig>) {
        match config {
            Some(config) => self.link_configs.insert((from, to), config),
            None => self.link_configs.remove(&(from, to)),
        };
        self.configure_links();
    }

    pub(super) fn set_links(&mut self, config: LinkConfig) {
        self.config.link = config;
        self.configure_links();
    }

    fn configure_links(&mut self) {
        for link in &mut self.links {
            let key = (link.route.from, link.route.to);
            link.config = self.link_configs.get(&key).copied().unwrap_or(self.config.link);
        }
    }

    /// Makes, replaces or (with `None`) heals the partition of that name.
    pub(super) fn set_partition(&mut self, name: &str, partition: Option<Partition>) {
        match partition {
            Some(partition) => self.partitions.insert(name.to_owned(), partition),
            None => self.partitions.remove(name),
        };
        self.partitions_changed();
    }

    pub(super) fn heal_partitions(&mut self) {
        self.partitions.clear();
        self.partitions_changed();
    }

    fn partitions_changed(&mut self) {
        let now = self.time.elapsed();
        for wire in self.wires.values_mut() {
            let cut =
                self.partitions.values().any(|partition| partition.cuts(wire.route.from, wire.route.to));
            if cut && !wire.cut {
                let link = &self.links[wire.link];
                let silence = link.notice(&self.draws, wire.number, self.config.notice.silence);
                cut_wire(wire, &mut self.ledger, now, now + silence);
            } else if !cut && wire.cut && !wire.is_broken() && !wire.sender.told && !wire.receiver.told {
                wire.broken = None;
            }
            wire.cut = cut;
            // All look again: the way back may have changed, too.
            wire.wake_both();
        }
    }

    /// Breaks the open streams between two parties, both ways, at once.
    pub(super) fn reset(&mut self, one: Party, other: Party) {
        let now = self.time.elapsed();
        for wire in self.wires.values_mut() {
            let between = (wire.route.from, wire.route.to);
            if between != (one, other) && between != (other, one) {
                continue;
            }
            drop_all(wire, &mut self.ledger, now);
            self.ledger.counters.resets += u64::from(!wire.is_broken());
            let reason = format!("{} -> {}: connection reset", name(between.0), name(between.1));
            wire.broken = Some(Break { at: now, reason, kind: BreakKind::Silent });
            wire.wake_both();
        }
    }

    pub(super) fn pause(&mut self, party: Party) {
        let condition = self.conditions.entry(party).or_default();
        if !condition.paused {
            (condition.paused, condition.pause_met) = (true, false);
        }
    }

    pub(super) fn resume(&mut self, party: Party) {
        let Some(condition) = self.conditions.get_mut(&party) else { return };
        condition.paused = false;
        std::mem::take(&mut condition.gates).into_iter().for_each(Waker::wake);
        for wire in self.wires.values_mut() {
            if wire.route.from == party || wire.route.to == party {
                wire.wake_both();
            }
        }
    }

    /// `party` ends. What it has sent still arrives; what is on its way to it does not.
    pub(super) fn die(&mut self, party: Party, death: Death) {
        self.resume(party);
        self.conditions.entry(party).or_default().dead = Some(death);
        let now = self.time.elapsed();
        let (notice, kind) = match death {
            Death::Process => (self.config.notice.process_death, BreakKind::Told),
            Death::Power => (self.config.notice.silence, BreakKind::Silent),
        };
        for wire in self.wires.values_mut() {
            let Route { from, to, .. } = wire.route;
            if from != party && to != party {
                continue;
            }
            if to == party {
                drop_all(wire, &mut self.ledger, now);
            }
            if wire.ended.is_none() && !wire.is_broken() {
                let link = &self.links[wire.link];
                let at = wire.last_due().max(now + link.notice(&self.draws, wire.number, notice));
                let reason = format!("{} -> {}: {} is gone", name(from), name(to), name(party));
                wire.broken = Some(Break { at, reason, kind });
                self.ledger.counters.deaths += 1;
            }
            wire.wake_both();
        }
    }

    pub(super) fn revive(&mut self, party: Party) {
        self.conditions.entry(party).or_default().dead = None;
    }
}

/// The way of `wire` is cut: what is in flight is lost, or waits if it must stay in sequence.
pub(super) fn cut_wire(wire: &mut Wire, ledger: &mut Ledger, now: Duration, silence_ends: Duration) {
    wire.cut = true;
    let sequence = wire.route.channel == Channel::Snapshot;
    let mut kind = sequence.then_some(BreakKind::UnlessHealed);
    ledger.counters.held += u64::from(sequence);
    if !sequence {
        for message in wire.drop_after(now) {
            if message.first && !message.copy {
                kind = Some(BreakKind::Silent);
            }
            ledger.record(now, wire.route, message.name(), &message.bytes, Outcome::Cut);
        }
    }
    if let (Some(kind), None) = (kind, &wire.broken) {
        let reason = format!("{} -> {}: no answer", name(wire.route.from), name(wire.route.to));
        wire.broken = Some(Break { at: silence_ends, reason, kind });
    }
}

/// Drops everything in flight on `wire`.
pub(super) fn drop_all(wire: &mut Wire, ledger: &mut Ledger, now: Duration) {
    wire.bytes = 0;
    for message in std::mem::take(&mut wire.flying) {
        ledger.record(now, wire.route, message.name(), &message.bytes, Outcome::Broken);
    }
}
