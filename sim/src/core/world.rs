//! One run: nodes, a network that does what it likes, and a scheduler that draws what happens next.

use std::collections::VecDeque;

use bytes::Bytes;
use eraft::mutants::Mutants;
use eraft::raft::{Base, Effect, Input, Message, Position, Raft, RequestId, Timer};
use eraft::types::{Index, NodeId, Term};

use super::Stats;
use super::dice::Dice;
use super::node::{Node, State};
use super::swarm::{Action, Swarm};
use crate::invariants::{Kind, Suite, Violation};

/// Packets under way; one more pushes out another.
const PACKETS_MAX: usize = 128;
/// Entries in one log beyond which nobody proposes: a run without compaction ends up here.
const LOG_ENTRIES_MAX: u64 = 64;

/// The bytes of which commands are cut.
static COMMANDS: [u8; 256] = commands();

const fn commands() -> [u8; 256] {
    let mut bytes = [0; 256];
    let mut at = 0;
    while at < bytes.len() {
        bytes[at] = (at as u8).wrapping_mul(167).wrapping_add(13);
        at += 1;
    }
    bytes
}

/// What is under way between nodes.
#[derive(Clone, Debug)]
pub(super) enum Packet {
    Message {
        from: NodeId,
        to: NodeId,
        message: Message,
    },
    /// The first part of a snapshot.
    Offer {
        from: Stream,
        to: NodeId,
        state: Box<State>,
    },
    /// The rest of it.
    Transfer {
        from: Stream,
        to: NodeId,
        to_incarnation: u64,
        state: Box<State>,
    },
    /// The sender of a snapshot learns how it ended.
    Ended {
        to: Stream,
        peer: NodeId,
        installed: Option<Index>,
    },
}

/// The sender of a snapshot, with its term when it offered it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stream {
    node: NodeId,
    incarnation: u64,
    term: Term,
}

/// One run.
pub(super) struct World {
    pub(super) nodes: Vec<Node>,
    pub(super) packets: VecDeque<Packet>,
    pub(super) suite: Suite,
    pub(super) stats: Stats,
    pub(super) swarm: Swarm,
    pub(super) dice: Dice,
    /// Nodes of different sides hear nothing of each other.
    side: Vec<bool>,
    mutants: Mutants,
    effects: Vec<Effect>,
    requests: u64,
}

impl World {
    pub(super) fn new(seed: u64, mutants: Mutants, suite: Suite) -> Self {
        let mut dice = Dice::new(seed);
        let swarm = Swarm::draw(&mut dice);
        Self {
            nodes: (0..swarm.nodes).map(|_| Node::new(&swarm.membership)).collect(),
            packets: VecDeque::with_capacity(PACKETS_MAX + 16),
            suite,
            stats: Stats::default(),
            side: vec![false; swarm.nodes],
            swarm,
            dice,
            mutants,
            effects: Vec::new(),
            requests: 0,
        }
    }

    /// The random phase.
    pub(super) fn run(&mut self) -> Result<(), Violation> {
        for node in 0..self.nodes.len() {
            self.start(node)?;
        }
        for _ in 0..self.swarm.actions {
            let action = self.swarm.action(&mut self.dice);
            self.act(action)?;
        }
        Ok(())
    }

    fn act(&mut self, action: Action) -> Result<(), Violation> {
        let node = self.dice.below(self.nodes.len());
        match action {
            Action::Deliver => self.deliver_any(),
            Action::Persist => {
                let most = self.nodes[node].writes();
                let count = 1 + self.dice.below(most);
                if most > 0 { self.persist(node, count) } else { Ok(()) }
            }
            Action::ElectionTimeout => self.timeout(node, Timer::Election),
            Action::HeartbeatTimeout => match self.a_leader() {
                Some(leader) => self.timeout(leader, Timer::Heartbeat),
                None => Ok(()),
            },
            Action::Propose => {
                let node = self.a_leader().unwrap_or(node);
                let count = 1 + self.dice.below(3);
                self.propose(node, count)
            }
            Action::Read => {
                let node = self.a_leader().unwrap_or(node);
                self.read(node)
            }
            Action::Transfer => {
                let leader = self.a_leader().unwrap_or(node);
                self.transfer(leader, NodeId(node as u64 + 1))
            }
            Action::Flush => self.flush(node),
            Action::Compact => {
                let durable = self.nodes[node].disk.state.applied.index.0;
                let kept = if self.dice.percent(50) { 0 } else { self.dice.below(durable as usize + 1) };
                self.compact(node, Index(durable - kept as u64))
            }
            Action::Crash => {
                let kept = self.dice.below(self.nodes[node].writes() + 1);
                self.nodes[node].crash(kept);
                if self.dice.percent(self.swarm.restart_at_once_percent) { self.start(node) } else { Ok(()) }
            }
            Action::Restart => self.start(node),
            Action::Partition => {
                let sides = self.dice.bits();
                self.side.iter_mut().enumerate().for_each(|(node, side)| *side = sides >> node & 1 == 1);
                Ok(())
            }
            Action::Heal => {
                self.heal();
                Ok(())
            }
        }
    }

    /// A node that leads, the one among several by chance.
    pub(super) fn a_leader(&mut self) -> Option<usize> {
        let from = self.dice.below(self.nodes.len());
        let leads = |node: &usize| self.nodes[*node].raft.as_ref().is_some_and(Raft::is_leader);
        (from..self.nodes.len()).chain(0..from).find(leads)
    }

    pub(super) fn heal(&mut self) {
        self.side.fill(false);
    }

    /// Starts `node` if it is down.
    pub(super) fn start(&mut self, node: usize) -> Result<(), Violation> {
        let id = NodeId(node as u64 + 1);
        let Node { raft: None, .. } = &self.nodes[node] else { return Ok(()) };
        let config = self.swarm.config(id, self.mutants);
        let mut effects = std::mem::take(&mut self.effects);
        self.nodes[node].start(config, &self.swarm.membership, &mut effects);
        let Node { raft: Some(raft), state, .. } = &self.nodes[node] else { return Ok(()) };
        let kind = Kind::Opened { raft, applied: state.applied, replica_hash: state.hash };
        self.suite.step(id, self.stats.steps, kind)?;
        self.execute(node, effects, None)
    }

    pub(super) fn timeout(&mut self, node: usize, timer: Timer) -> Result<(), Violation> {
        if !std::mem::take(self.nodes[node].armed(timer)) {
            return Ok(());
        }
        self.step(node, Input::Timeout(timer), None)
    }

    pub(super) fn propose(&mut self, node: usize, count: usize) -> Result<(), Violation> {
        let Some(raft) = &self.nodes[node].raft else { return Ok(()) };
        if raft.log().last().index.0 - raft.log().base().index.0 > LOG_ENTRIES_MAX {
            return Ok(());
        }
        let commands = (0..count)
            .map(|_| {
                self.requests += 1;
                let from = self.dice.below(COMMANDS.len() - 16);
                let bytes = Bytes::from_static(&COMMANDS[from..from + 1 + self.dice.below(16)]);
                (RequestId(self.requests), bytes)
            })
            .collect();
        self.step(node, Input::Propose(commands), None)
    }

    fn read(&mut self, node: usize) -> Result<(), Violation> {
        self.requests += 1;
        self.step(node, Input::Read(RequestId(self.requests)), None)
    }

    fn transfer(&mut self, node: usize, to: NodeId) -> Result<(), Violation> {
        self.requests += 1;
        self.step(node, Input::Transfer { id: RequestId(self.requests), to }, None)
    }

    pub(super) fn flush(&mut self, node: usize) -> Result<(), Violation> {
        let Node { raft: Some(_), disk, state, .. } = &mut self.nodes[node] else { return Ok(()) };
        if disk.state.applied == state.applied {
            return Ok(());
        }
        disk.state.clone_from(state);
        let kind = Kind::Flushed { applied: disk.state.applied };
        self.suite.step(NodeId(node as u64 + 1), self.stats.steps, kind)
    }

    pub(super) fn compact(&mut self, node: usize, through: Index) -> Result<(), Violation> {
        self.step(node, Input::Compact { through }, None)
    }

    /// Completes the first `count` writes of `node`, lets go what waited for them, and tells the core.
    pub(super) fn persist(&mut self, node: usize, count: usize) -> Result<(), Violation> {
        let Some(id) = self.nodes[node].complete(count) else { return Ok(()) };
        let from = NodeId(node as u64 + 1);
        while let Some((to, message)) = self.nodes[node].release(id) {
            self.post(Packet::Message { from, to, message });
        }
        self.step(node, Input::Persisted(id), None)
    }

    fn post(&mut self, packet: Packet) {
        self.packets.push_back(packet);
    }

    /// The network does what it likes with one of its packets.
    fn deliver_any(&mut self) -> Result<(), Violation> {
        while self.packets.len() > PACKETS_MAX {
            let at = self.dice.below(self.packets.len());
            let packet = self.packets.swap_remove_back(at);
            packet.into_iter().for_each(|packet| self.lose(packet));
        }
        let overtakes = self.swarm.reorder_percent > 0 && self.dice.percent(self.swarm.reorder_percent);
        let at = if overtakes { self.dice.below(self.packets.len()) } else { 0 };
        let packet = if overtakes { self.packets.swap_remove_back(at) } else { self.packets.pop_front() };
        let Some(packet) = packet else { return Ok(()) };
        let roll = self.dice.below(100);
        if roll < self.swarm.drop_percent {
            self.lose(packet);
            return Ok(());
        }
        let twice = 100 - roll <= self.swarm.duplicate_percent;
        if twice && matches!(packet, Packet::Message { .. }) {
            self.post(packet.clone());
        }
        self.deliver(packet)
    }

    /// A message is gone without a trace; a stream breaks, and its sender notices some time.
    fn lose(&mut self, packet: Packet) {
        if let Packet::Offer { from, to, .. } | Packet::Transfer { from, to, .. } = packet {
            self.post(Packet::Ended { to: from, peer: to, installed: None });
        } else if let Packet::Ended { .. } = packet {
            self.post(packet);
        }
    }

    fn reaches(&self, from: NodeId, to: NodeId) -> bool {
        let (from, to) = (from.0 as usize - 1, to.0 as usize - 1);
        self.side[from] == self.side[to] && self.nodes[to].raft.is_some()
    }

    /// One packet arrives, if its receiver is there.
    pub(super) fn deliver(&mut self, packet: Packet) -> Result<(), Violation> {
        match packet {
            Packet::Message { from, to, message } => {
                if self.reaches(from, to) {
                    return self.step(to.0 as usize - 1, Input::Message { from, message }, None);
                }
            }
            Packet::Offer { from, to, ref state } if self.reaches(from.node, to) => {
                let (term, position) = (from.term, state.applied);
                let input = Input::SnapshotOffered { from: from.node, term, position };
                return self.step(to.0 as usize - 1, input, Some((from, state)));
            }
            Packet::Transfer { from, to, to_incarnation, ref state } => {
                let same = self.nodes[to.0 as usize - 1].incarnation == to_incarnation;
                if same && self.reaches(from.node, to) {
                    let base = Base { position: state.applied, membership: self.swarm.membership.clone() };
                    let input = Input::SnapshotReceived { from: from.node, term: from.term, base };
                    return self.step(to.0 as usize - 1, input, Some((from, state)));
                }
                self.lose(packet);
            }
            Packet::Offer { .. } => self.lose(packet),
            Packet::Ended { to, peer, installed } => {
                let node = to.node.0 as usize - 1;
                if self.nodes[node].incarnation == to.incarnation {
                    return self.step(node, Input::SnapshotSent { to: peer, installed }, None);
                }
            }
        }
        Ok(())
    }

    /// One step of one core, judged.
    fn step(
        &mut self,
        node: usize,
        input: Input,
        snapshot: Option<(Stream, &State)>,
    ) -> Result<(), Violation> {
        let mut effects = std::mem::take(&mut self.effects);
        let Node { raft: Some(raft), .. } = &mut self.nodes[node] else { return Ok(()) };
        let (led, commit) = (raft.is_leader(), raft.commit());
        self.stats.steps += 1;
        super::note_step(self.stats.steps);
        raft.step(input.clone(), &mut effects);
        self.stats.elections += u64::from(raft.is_leader() && !led);
        if raft.is_leader() {
            self.stats.commits += raft.commit().0 - commit.0;
        }
        let kind = Kind::Stepped { input: &input, effects: &effects, raft };
        self.suite.step(NodeId(node as u64 + 1), self.stats.steps, kind)?;
        self.execute(node, effects, snapshot)
    }

    /// What the shell does with the effects.
    fn execute(
        &mut self,
        node: usize,
        mut effects: Vec<Effect>,
        snapshot: Option<(Stream, &State)>,
    ) -> Result<(), Violation> {
        let id = NodeId(node as u64 + 1);
        for effect in effects.drain(..) {
            let (me, packets) = (&mut self.nodes[node], &mut self.packets);
            let post = |to, message| packets.push_back(Packet::Message { from: id, to, message });
            let Some(effect) = me.perform(effect, post) else { continue };
            match effect {
                Effect::Apply(entries) => {
                    for entry in &entries {
                        me.state.apply(entry);
                        let kind = Kind::Applied { entry, replica_hash: me.state.hash };
                        self.suite.step(id, self.stats.steps, kind)?;
                    }
                }
                Effect::ReadReady { .. } => self.stats.reads += 1,
                Effect::TransferEnded { given_up, .. } => self.stats.transfers += u64::from(!given_up),
                Effect::Proposed { .. } | Effect::Refused { .. } => {}
                Effect::Persist(_) | Effect::Send { .. } | Effect::Arm(_) | Effect::Disarm(_) => {
                    unreachable!("the node has performed it")
                }
                Effect::SendSnapshot { to, term } => {
                    let from = Stream { node: id, incarnation: me.incarnation, term };
                    let state = Box::new(me.disk.state.clone());
                    self.post(Packet::Offer { from, to, state });
                }
                Effect::AcceptSnapshot { .. } => {
                    let Some((from, state)) = snapshot else { continue };
                    let state = Box::new(state.clone());
                    let to_incarnation = me.incarnation;
                    self.post(Packet::Transfer { from, to: id, to_incarnation, state });
                }
                Effect::RefuseSnapshot { .. } => {
                    let Some((from, _)) = snapshot else { continue };
                    self.post(Packet::Ended { to: from, peer: id, installed: None });
                }
                Effect::InstallSnapshot { base } => self.install(node, base.position, snapshot)?,
            }
        }
        self.effects = effects;
        Ok(())
    }

    fn install(
        &mut self,
        node: usize,
        position: Position,
        snapshot: Option<(Stream, &State)>,
    ) -> Result<(), Violation> {
        let Some((from, state)) = snapshot else { return Ok(()) };
        let id = NodeId(node as u64 + 1);
        self.nodes[node].state.clone_from(state);
        self.nodes[node].disk.state.clone_from(state);
        self.stats.snapshots += 1;
        self.post(Packet::Ended { to: from, peer: id, installed: Some(position.index) });
        let kind = Kind::SnapshotInstalled { applied: state.applied, replica_hash: state.hash };
        self.suite.step(id, self.stats.steps, kind)
    }
}
