//! Makes faults happen, ends them, and counts those that something met.
//!
//! A fault counts as delivered if it had an effect: a process that ran was ended, a message was lost, a write met the
//! full disk. What lasts is kept in one table, and links and disks are set from the whole table each time it changes,
//! so that faults of several names overlap without undoing each other.

use std::sync::Arc;
use std::time::Duration;

use eraft::random::Draw;
use eraft::replica::link::Party;
use eraft::replica::timers::drift::TRUE_RATE_PPM;
use eraft::types::NodeId;

use super::nodes::End;
use super::{World, lock};
use crate::disk::Failure;
use crate::net::LinkConfig;
use crate::outcome::Hit;
use crate::places::{self, Place};
use crate::scenario::{Action, Direction, FaultKind, RotStore, Stores};
use crate::schedule::FaultEvent;
use crate::timing::Spread;

/// The share of messages that a delayed link delays.
const DELAYED_SHARE: f64 = 0.5;

/// A fault that lasts.
pub(super) struct Active {
    action: Action,
    hit: Vec<Party>,
    direction: Direction,
    /// What it meets on disks: a store, or all of them.
    stores: Vec<(NodeId, Option<String>)>,
    /// Names of its partitions.
    cuts: Vec<String>,
    /// What had met this kind of fault when it began.
    met_before: u64,
}

fn nodes(hit: &[Party]) -> impl Iterator<Item = NodeId> + '_ {
    hit.iter().filter_map(|party| match party {
        Party::Node(id) => Some(*id),
        Party::Client(_) => None,
    })
}

impl World {
    /// One fault of the plan, from its time to its end.
    pub(crate) async fn fault(self: Arc<Self>, fault: FaultEvent) {
        let at = Duration::from_millis(fault.at_ms);
        madsim::time::sleep(at.saturating_sub(self.time.elapsed())).await;
        let mut there = None;
        if let Some(trigger) = fault.after {
            let Ok(node) = self.watcher.next(trigger).await else { return };
            there = Some(node);
            if fault.delay_after_ms > 0 {
                madsim::time::sleep(Duration::from_millis(fault.delay_after_ms)).await;
            }
        }
        if fault.kind().is_operation() {
            return self.operate_as_planned(&fault).await;
        }
        let hit = self.begin(&fault, there);
        if fault.action == Action::OpsTransfer {
            self.hand_over(&hit).await;
        }
        if let Some(duration_ms) = fault.duration_ms {
            madsim::time::sleep(Duration::from_millis(duration_ms)).await;
            self.end(&fault.id);
            self.start_owned(&fault.id);
            if !lasts(fault.kind()) {
                self.watcher.note("world", "fault.end", &fault.id);
            }
        }
    }

    /// The first of `hit` is to lead, says an operator to the leader, past the network.
    async fn hand_over(&self, hit: &[Party]) {
        let Some(to) = nodes(hit).next() else { return };
        let Some(leader) = self.leader_of(&self.nodes_of(Place::of(to))).filter(|leader| *leader != to)
        else {
            return;
        };
        let transferred = self.transfer(leader, to).await;
        self.count(FaultKind::OpsTransfer, transferred == Some(Ok(to)));
    }

    /// Begins a fault, and says whom it hits; `there` is where its trigger was.
    pub(crate) fn begin(&self, fault: &FaultEvent, there: Option<NodeId>) -> Vec<Party> {
        let mut draw = self.draws.draw(&fault.id, 0, 0);
        let hit = self.resolve(&fault.target, there, &mut draw);
        let words: Vec<String> = hit.iter().map(|party| name(*party)).collect();
        self.watcher.note("world", fault.kind().id(), &format!("{} hits {}", fault.id, words.join("+")));
        let at_ms = u64::try_from(self.time.elapsed().as_millis()).unwrap_or(u64::MAX);
        lock(&self.hits).push(Hit { fault: fault.id.clone(), at_ms, parties: words });
        let kind = fault.kind();
        let met_before = self.met(kind);
        let (mut cuts, mut stores) = (Vec::new(), Vec::new());
        match fault.action {
            Action::NetPartition { shape, clients } => {
                for (number, cut) in self.cuts(shape, clients, &hit, &mut draw).into_iter().enumerate() {
                    let name = format!("{} {number}", fault.id);
                    self.net.partition(&name, cut);
                    cuts.push(name);
                }
            }
            Action::NetReset => {
                for (from, to) in self.pairs(&hit) {
                    self.net.reset(from, to);
                }
                self.count(kind, self.met(kind) > met_before);
            }
            Action::NodeKill => self.end_nodes(fault, &hit, End::Process),
            Action::NodeCrash | Action::NodeCrashAll => self.end_nodes(fault, &hit, End::Power),
            Action::DiskTorn => {
                let torn_before = self.met(kind);
                for id in nodes(&hit) {
                    self.stop(id, End::Torn, Some(&fault.id));
                }
                self.count(kind, self.met(kind) > torn_before);
            }
            Action::NodeRestart => {
                let mut delivered = false;
                for id in nodes(&hit) {
                    self.stop(id, End::Process, None);
                    delivered |= self.start(id);
                }
                self.count(kind, delivered);
            }
            Action::NodePause => {
                nodes(&hit).filter(|id| self.is_up(*id)).for_each(|id| self.net.pause(Party::Node(id)))
            }
            Action::ClientPause => hit.iter().for_each(|party| self.net.pause(*party)),
            Action::ClientCrash => {
                let ended = hit.iter().filter(|party| self.stop_client(**party, &fault.id)).count();
                self.count(kind, ended > 0);
            }
            Action::ClockJump { jump_ms } => {
                // A node that runs reads its clock all the time.
                let jumped: Vec<NodeId> = nodes(&hit).filter(|id| self.is_up(*id)).collect();
                let nodes = lock(&self.nodes);
                jumped.iter().for_each(|id| nodes[id].clock.jump(Duration::from_millis(jump_ms)));
                drop(nodes);
                self.count(kind, !jumped.is_empty());
            }
            Action::DiskBitrot { store } => self.rot(store, &hit, &mut draw),
            Action::DiskStall => {
                let stalled = Duration::from_millis(fault.duration_ms.unwrap_or(0));
                nodes(&hit).for_each(|id| self.disk.stall(id, stalled));
            }
            Action::DiskIoError { stores: of } | Action::DiskFull { stores: of } => {
                stores = nodes(&hit).map(|id| (id, self.store_of(id, of))).collect();
                if kind == FaultKind::DiskIoError {
                    for (id, store) in &stores {
                        self.disk.fail_writes(*id, store.as_deref(), Failure::Next(1));
                    }
                }
            }
            Action::NetLoss { .. }
            | Action::NetDelay { .. }
            | Action::NetReorder { .. }
            | Action::NetDuplicate { .. }
            | Action::NetSlow { .. }
            | Action::ClockSkew { .. }
            | Action::DiskSlow { .. }
            | Action::OpsTransfer
            | Action::OpsJoin
            | Action::OpsLeave
            | Action::OpsMove
            | Action::OpsUnpin
            | Action::OpsRollback => {}
        }
        if lasts(kind) {
            let (action, direction) = (fault.action.clone(), fault.direction);
            let active = Active { action, hit: hit.clone(), direction, stores, cuts, met_before };
            lock(&self.active).insert(fault.id.clone(), active);
            self.set_all(kind);
        }
        hit
    }

    /// Turns a bit on the disks of `hit`, but never on more than a minority of a group's disks in a run: what has rotted
    /// counts as lost until it is found.
    fn rot(&self, store: RotStore, hit: &[Party], draw: &mut Draw) {
        for id in nodes(hit) {
            let group = self.nodes_of(Place::of(id));
            let minority = (group.len() - 1) / 2;
            let mut rotten = lock(&self.rotten);
            let already = group.iter().filter(|member| rotten.contains(member)).count();
            if !rotten.contains(&id) && already >= minority {
                continue;
            }
            let name = match store {
                RotStore::Log => "log".to_owned(),
                RotStore::State => self.state_store(id),
            };
            if self.disk.rot(id, &name, draw) {
                rotten.insert(id);
                if store == RotStore::State {
                    self.watcher.state_is_bad(id);
                }
            }
        }
    }

    /// The store of a node's state, as its pointer file names it.
    pub(super) fn state_store(&self, id: NodeId) -> String {
        let pointer = self.disk.file(id, "state").unwrap_or_else(|| b"state.0".to_vec());
        let text = String::from_utf8_lossy(&pointer).into_owned();
        text.split(' ').next().unwrap_or_default().to_owned()
    }

    fn end_nodes(&self, fault: &FaultEvent, hit: &[Party], end: End) {
        let ended = nodes(hit).filter(|id| self.stop(*id, end, Some(&fault.id))).count();
        self.count(fault.kind(), ended > 0);
    }

    /// Ends a fault that lasts, and counts it if something met it.
    pub(crate) fn end(&self, id: &str) {
        let Some(active) = lock(&self.active).remove(id) else { return };
        let kind = active.action.kind();
        self.watcher.note("world", "fault.end", id);
        self.count(kind, self.met(kind) > active.met_before);
        active.cuts.iter().for_each(|cut| self.net.heal(cut));
        match active.action {
            Action::NodePause | Action::ClientPause => {
                for party in active.hit.iter().filter(|party| !self.is_hit(**party, kind)) {
                    self.net.resume(*party);
                }
            }
            Action::DiskIoError { .. } => {
                for (id, store) in active.stores.iter().filter(|place| !self.is_met(place, kind)) {
                    self.disk.fail_writes(*id, store.as_deref(), Failure::Never);
                }
            }
            Action::DiskFull { .. } => {
                for (id, store) in &active.stores {
                    self.disk.fill(*id, store.as_deref(), false);
                }
            }
            _ => {}
        }
        self.set_all(kind);
    }

    /// Ends every fault, and what is forced: the safety phase is over.
    pub(crate) fn end_all(&self) {
        let ids: Vec<String> = lock(&self.active).keys().cloned().collect();
        ids.iter().for_each(|id| self.end(id));
        self.points.end();
        self.net.heal_all();
        for party in self.everybody() {
            self.net.resume(party);
        }
        self.start_all_clients();
        for id in self.node_ids() {
            self.disk.heal(id);
        }
    }

    pub(super) fn count(&self, kind: FaultKind, is_delivered: bool) {
        *lock(&self.delivered).entry(kind).or_default() += u64::from(is_delivered);
    }

    fn is_hit(&self, party: Party, kind: FaultKind) -> bool {
        lock(&self.active).values().any(|active| active.action.kind() == kind && active.hit.contains(&party))
    }

    fn is_met(&self, place: &(NodeId, Option<String>), kind: FaultKind) -> bool {
        lock(&self.active)
            .values()
            .any(|active| active.action.kind() == kind && active.stores.contains(place))
    }

    /// The store of `id` that is meant; `None`: all that it has.
    fn store_of(&self, id: NodeId, stores: Stores) -> Option<String> {
        match stores {
            Stores::Both => None,
            Stores::Log => Some("log".to_owned()),
            Stores::State => Some(self.state_store(id)),
        }
    }

    /// How often something met a kind of fault so far.
    fn met(&self, kind: FaultKind) -> u64 {
        let (net, disk) = (self.net.counters(), self.disk.counters_total());
        match kind {
            FaultKind::NetLoss => net.lost,
            FaultKind::NetDelay => net.delayed,
            FaultKind::NetReorder => net.reordered,
            FaultKind::NetDuplicate => net.duplicated,
            FaultKind::NetPartition => net.cut + net.connects_cut + net.held,
            FaultKind::NetSlow => net.slowed,
            FaultKind::NetReset => net.resets,
            FaultKind::NodePause => net.pauses,
            FaultKind::ClientPause => net.client_pauses,
            FaultKind::ClockSkew => lock(&self.nodes).values().map(|node| node.clock.misread()).sum(),
            FaultKind::DiskTorn => disk.torn,
            FaultKind::DiskSlow => disk.slow,
            FaultKind::DiskStall => disk.stalled,
            FaultKind::DiskFull => disk.full,
            FaultKind::DiskIoError => disk.write_errors,
            FaultKind::DiskBitrot => disk.rotten,
            // These are counted as they happen.
            _ => 0,
        }
    }

    /// Sets links or disks from the table.
    fn set_all(&self, changed: FaultKind) {
        if changed.id().starts_with("net.") && changed != FaultKind::NetPartition {
            self.set_links();
        } else if matches!(changed, FaultKind::DiskSlow | FaultKind::DiskFull) {
            self.set_disks();
        } else if changed == FaultKind::ClockSkew {
            self.set_clocks();
        }
    }

    fn set_links(&self) {
        let quiet = self.quiet_link();
        let active = lock(&self.active);
        for (from, to) in self.pairs(&self.everybody()) {
            let touches = |active: &&Active| {
                active.direction.bends(active.hit.contains(&from), active.hit.contains(&to))
            };
            let worse =
                active.values().filter(touches).fold(quiet, |link, active| worsen(link, &active.action));
            self.net.set_link(from, to, (worse != quiet).then_some(worse));
        }
    }

    fn set_disks(&self) {
        let active = lock(&self.active);
        for id in self.node_ids() {
            let of_node = || active.values().filter(|active| active.hit.contains(&Party::Node(id)));
            let factor = of_node().filter_map(|active| match active.action {
                Action::DiskSlow { factor } => u32::try_from(factor).ok(),
                _ => None,
            });
            self.disk.slow(id, factor.max().unwrap_or(1));
        }
        // Where it ended there is room again already.
        let full = |active: &&Active| active.action.kind() == FaultKind::DiskFull;
        for (id, store) in active.values().filter(full).flat_map(|active| &active.stores) {
            self.disk.fill(*id, store.as_deref(), true);
        }
    }

    fn set_clocks(&self) {
        let active = lock(&self.active);
        for (id, node) in lock(&self.nodes).iter() {
            let speeds = active.values().filter(|active| active.hit.contains(&Party::Node(*id)));
            let speeds = speeds.filter_map(|active| match active.action {
                Action::ClockSkew { speed } => Some(speed),
                _ => None,
            });
            node.clock.set_rate((speeds.product::<f64>() * TRUE_RATE_PPM as f64) as u64);
        }
    }

    fn everybody(&self) -> Vec<Party> {
        [self.node_parties(), self.client_parties()].concat()
    }

    /// Every way from or to one of `hit`; there are none between clients.
    pub(crate) fn pairs(&self, hit: &[Party]) -> Vec<(Party, Party)> {
        let everybody = self.everybody();
        let mut pairs = Vec::new();
        for from in &everybody {
            for to in &everybody {
                let is_link = from != to && (matches!(from, Party::Node(_)) || matches!(to, Party::Node(_)));
                if is_link && (hit.contains(from) || hit.contains(to)) {
                    pairs.push((*from, *to));
                }
            }
        }
        pairs
    }
}

/// True if the fault has an end that has to be made.
fn lasts(kind: FaultKind) -> bool {
    !kind.is_operation()
        && !matches!(
            kind,
            FaultKind::NetReset
                | FaultKind::NodeKill
                | FaultKind::NodeRestart
                | FaultKind::NodeCrash
                | FaultKind::NodeCrashAll
                | FaultKind::DiskTorn
                | FaultKind::ClockJump
                | FaultKind::ClientCrash
                | FaultKind::OpsTransfer
        )
}

/// `link` with a fault on top.
fn worsen(mut link: LinkConfig, action: &Action) -> LinkConfig {
    let extra = |delay_ms: u64| Spread::millis(delay_ms / 2, delay_ms, delay_ms * 3);
    match *action {
        Action::NetLoss { rate } => link.loss = link.loss.max(rate),
        Action::NetDuplicate { rate } => link.duplicate = link.duplicate.max(rate),
        Action::NetReorder { rate, delay_ms } => {
            (link.reorder, link.extra) = (link.reorder.max(rate), extra(delay_ms));
        }
        Action::NetDelay { delay_ms } => (link.delay, link.extra) = (DELAYED_SHARE, extra(delay_ms)),
        Action::NetSlow { bytes_per_second } => {
            let least = link.bytes_per_second.unwrap_or(u64::MAX).min(bytes_per_second);
            link.bytes_per_second = Some(least);
        }
        _ => {}
    }
    link
}

/// A party's name in the trace.
pub(super) fn name(party: Party) -> String {
    match party {
        Party::Node(id) => places::name(id),
        Party::Client(number) => places::client_name(number),
    }
}
