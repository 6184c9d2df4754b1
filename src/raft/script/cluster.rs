//! A cluster in the hands of a script: cores, disks, and messages that wait until they are told to arrive.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::error::Error;
use std::fmt::Write as _;

use bytes::Bytes;

use super::packet::{Load, Packet, Pick};
use super::text;
use crate::mutants::Mutants;
use crate::raft::{
    Base, Config, Effect, Entry, HardState, Input, Log, Membership, Payload, Persist, Position, Raft,
    RequestId, Role, Timer, WriteId,
};
use crate::types::{Index, NodeId, Term};

/// `settle` gives up after this many rounds: then the group never comes to rest.
const SETTLE_ROUNDS_MAX: usize = 1000;

type Done = Result<(), Box<dyn Error>>;

/// What a cluster is like.
#[derive(Clone, Copy, Default)]
pub struct Shape {
    pub nodes: u64,
    pub entries_max: Option<usize>,
    pub appends_max: Option<usize>,
    pub window_bytes_max: Option<usize>,
    pub uncommitted_bytes_max: Option<usize>,
    pub uncommitted_entries_max: Option<u64>,
    pub reads_max: Option<usize>,
    pub mutants: Mutants,
}

/// The members that a script asks for; all nodes but the learners vote if it does not say who.
pub fn membership(
    nodes: u64,
    learners: u64,
    voters: &str,
    outgoing: &str,
) -> Result<Membership, Box<dyn Error>> {
    let set = |numbers: &str| -> Result<BTreeSet<NodeId>, Box<dyn Error>> {
        Ok(numbers.split_whitespace().map(|number| number.parse().map(NodeId)).collect::<Result<_, _>>()?)
    };
    let voting = nodes - learners;
    let all = || (1..=voting).map(NodeId).collect();
    Ok(Membership {
        voters: if voters.is_empty() { all() } else { set(voters)? },
        outgoing: set(outgoing)?,
        learners: (voting + 1..=nodes).map(NodeId).collect(),
    })
}

#[derive(Default)]
struct Node {
    raft: Option<Raft>,
    hard: HardState,
    base: Option<Base>,
    entries: Vec<Entry>,
    /// The durable state.
    state: Position,
    /// It began anew in place of a damaged one.
    is_wiped: bool,
    applied: Position,
    writes: VecDeque<Persist>,
    held: VecDeque<(WriteId, Packet)>,
}

impl Node {
    fn write(&mut self, write: Persist) {
        self.hard = write.hard;
        if let Some(base) = write.base {
            self.entries.retain(|entry| entry.index > base.position.index);
            self.base = Some(base);
        }
        if let Some(from) = write.truncate {
            self.entries.retain(|entry| entry.index < from);
        }
        self.entries.extend(write.append);
    }
}

/// The cluster, and the story since it was last asked for.
#[derive(Default)]
pub struct Cluster {
    shape: Shape,
    membership: Membership,
    nodes: BTreeMap<NodeId, Node>,
    packets: VecDeque<Packet>,
    apart: BTreeSet<NodeId>,
    requests: u64,
    story: String,
}

impl Cluster {
    pub fn new(shape: Shape, membership: Membership) -> Self {
        let nodes = (1..=shape.nodes).map(|node| (NodeId(node), Node::default())).collect();
        let mut cluster = Self { shape, membership, nodes, ..Self::default() };
        for node in 1..=shape.nodes {
            cluster.open(NodeId(node));
        }
        cluster
    }

    pub fn story(&mut self) -> String {
        std::mem::take(&mut self.story)
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.story, "{}", line.trim_end()).expect("a string takes every line");
    }

    fn node(&mut self, node: u64) -> Result<&mut Node, Box<dyn Error>> {
        self.nodes.get_mut(&NodeId(node)).ok_or_else(|| format!("there is no node {node}").into())
    }

    /// Starts `id` from its disk, by the open-time rule.
    fn open(&mut self, id: NodeId) {
        let config = Config {
            append_entries_max: self.shape.entries_max.unwrap_or(1024),
            window: crate::raft::Window {
                appends_max: self.shape.appends_max.unwrap_or(64),
                bytes_max: self.shape.window_bytes_max.unwrap_or(usize::MAX),
            },
            uncommitted_bytes_max: self.shape.uncommitted_bytes_max.unwrap_or(usize::MAX),
            uncommitted_entries_max: self.shape.uncommitted_entries_max.unwrap_or(u64::MAX),
            reads_max: self.shape.reads_max.unwrap_or(usize::MAX),
            mutants: self.shape.mutants,
            ..Config::new(id)
        };
        let membership = self.membership.clone();
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let state = Base { position: node.state, membership };
        let log = node.base.get_or_insert_with(|| Base { position: Position::default(), ..state.clone() });
        let log = Log::restore(log.clone(), node.entries.clone()).expect("a script's log has no holes");
        let fits = log.term_at(node.state.index) == Some(node.state.term);
        let reset = node.state.index > log.last().index || (!fits && !node.is_wiped);
        let log = if reset { Log::new(state.clone()) } else { log };
        if reset {
            node.base = Some(state);
            node.entries.clear();
        }
        node.applied = node.state;
        node.raft = Some(Raft::new(config, node.hard, log, node.state.index, &mut Vec::new()));
        if reset {
            let line =
                format!("{id} starts its log after the state, at {}", text::position(self.nodes[&id].state));
            self.tell(&line);
        }
    }

    pub fn disk(&mut self, node: u64, term: u64, vote: Option<u64>, log: &str) -> Done {
        let terms = log.split_whitespace().map(str::parse).collect::<Result<Vec<u64>, _>>()?;
        let entries = (1..).zip(terms).map(|(index, term)| Entry {
            index: Index(index),
            term: Term(term),
            payload: Payload::Command(Bytes::from(format!("{index}.{term}"))),
        });
        let entries = entries.collect();
        let hard = HardState { term: Term(term), vote: vote.map(NodeId) };
        *self.node(node)? = Node { hard, entries, ..Node::default() };
        self.open(NodeId(node));
        Ok(())
    }

    pub fn election_timeout(&mut self, node: u64) -> Done {
        self.step(NodeId(node), Input::Timeout(Timer::Election))
    }

    pub fn heartbeat_timeout(&mut self, node: u64) -> Done {
        self.step(NodeId(node), Input::Timeout(Timer::Heartbeat))
    }

    pub fn propose(&mut self, node: u64, commands: &[String]) -> Done {
        let first = self.requests + 1;
        self.requests += commands.len() as u64;
        let commands = (first..).map(RequestId).zip(commands.iter().map(|text| Bytes::from(text.clone())));
        self.step(NodeId(node), Input::Propose(commands.collect()))
    }

    pub fn read(&mut self, node: u64, id: u64) -> Done {
        self.step(NodeId(node), Input::Read(RequestId(id)))
    }

    pub fn transfer(&mut self, node: u64, to: u64) -> Done {
        self.requests += 1;
        self.step(NodeId(node), Input::Transfer { id: RequestId(self.requests), to: NodeId(to) })
    }

    pub fn persist(&mut self, node: Option<u64>, count: Option<usize>) -> Done {
        let nodes: Vec<u64> = node.map_or_else(|| (1..=self.shape.nodes).collect(), |node| vec![node]);
        for number in nodes {
            let node = self.node(number)?;
            let count = count.unwrap_or(usize::MAX).min(node.writes.len());
            let mut last = None;
            for write in node.writes.drain(..count).collect::<Vec<_>>() {
                last = Some(write.id);
                node.write(write);
            }
            let Some(last) = last else { continue };
            let mut free = Vec::new();
            while node.held.front().is_some_and(|(after, _)| *after <= last) {
                free.extend(node.held.pop_front().map(|(_, packet)| packet));
            }
            self.tell(&format!("n{number} has write {}", last.0));
            for packet in free {
                self.tell(&format!("  {}", packet.text("→")));
                self.packets.push_back(packet);
            }
            self.step(NodeId(number), Input::Persisted(last))?;
        }
        Ok(())
    }

    fn take(&mut self, pick: Pick, keep: bool) -> Vec<Packet> {
        let (mut taken, mut left, mut seen) = (Vec::new(), VecDeque::new(), 0);
        for packet in std::mem::take(&mut self.packets) {
            let matches = pick.has(&packet);
            seen += usize::from(matches);
            if matches && seen > pick.skip && pick.count.is_none_or(|count| taken.len() < count) {
                taken.push(packet.clone());
                if keep {
                    left.push_back(packet);
                }
            } else {
                left.push_back(packet);
            }
        }
        self.packets = left;
        taken
    }

    pub fn deliver(&mut self, pick: Pick, keep: bool) -> Done {
        self.take(pick, keep).into_iter().try_for_each(|packet| self.arrive(packet))
    }

    pub fn lose(&mut self, pick: Pick) {
        for packet in self.take(pick, false) {
            self.lost(&packet);
        }
    }

    /// A broken stream is noticed by the sender of the snapshot.
    fn lost(&mut self, packet: &Packet) {
        self.tell(&packet.text("✗"));
        if matches!(packet.load, Load::Offer { .. } | Load::Snapshot { .. }) {
            let ended = Packet { from: packet.to, to: packet.from, load: Load::Ended(None) };
            self.packets.push_back(ended);
        }
    }

    fn arrive(&mut self, packet: Packet) -> Done {
        let apart = self.apart.contains(&packet.from) != self.apart.contains(&packet.to);
        if apart || self.nodes.get(&packet.to).is_none_or(|node| node.raft.is_none()) {
            self.lost(&packet);
            return Ok(());
        }
        self.tell(&packet.text("⇒"));
        let Packet { from, to, load } = packet;
        let membership = self.membership.clone();
        let input = match load {
            Load::Message(message) => Input::Message { from, message },
            Load::Offer { term, state } => Input::SnapshotOffered { from, term, position: state },
            Load::Snapshot { term, state } => {
                Input::SnapshotReceived { from, term, base: Base { position: state, membership } }
            }
            Load::Ended(installed) => Input::SnapshotSent { to: from, installed },
        };
        self.step(to, input)
    }

    pub fn settle(&mut self) -> Done {
        for _ in 0..SETTLE_ROUNDS_MAX {
            let writes = self.nodes.values().any(|node| !node.writes.is_empty());
            if self.packets.is_empty() && !writes {
                return Ok(());
            }
            self.deliver(Pick::default(), false)?;
            self.persist(None, None)?;
        }
        Err("the group never comes to rest".into())
    }

    pub fn network(&mut self) {
        for packet in self.packets.clone() {
            self.tell(&packet.text("→"));
        }
    }

    pub fn partition(&mut self, nodes: &[u64]) {
        self.apart = nodes.iter().copied().map(NodeId).collect();
    }

    pub fn heal(&mut self) {
        self.apart.clear();
    }

    pub fn crash(&mut self, number: u64, keep: usize) -> Done {
        let node = self.node(number)?;
        let writes = std::mem::take(&mut node.writes);
        let lost: Vec<u64> = writes.iter().skip(keep).map(|write| write.id.0).collect();
        writes.into_iter().take(keep).for_each(|write| node.write(write));
        node.held.clear();
        node.raft = None;
        let lost = if lost.is_empty() { String::new() } else { format!(", and loses its writes {lost:?}") };
        self.tell(&format!("n{number} crashes{lost}"));
        Ok(())
    }

    pub fn restart(&mut self, node: u64) -> Done {
        self.node(node)?;
        self.open(NodeId(node));
        self.tell_status(NodeId(node));
        Ok(())
    }

    pub fn wipe(&mut self, number: u64) -> Done {
        let node = self.node(number)?;
        if node.raft.is_some() {
            return Err(format!("n{number} runs").into());
        }
        (node.state, node.is_wiped) = (Position::default(), true);
        self.tell(&format!("n{number}'s state is wiped"));
        Ok(())
    }

    pub fn flush(&mut self, number: u64) -> Done {
        let node = self.node(number)?;
        node.state = node.applied;
        let line = format!("n{number}'s state at {} is durable", text::position(node.state));
        self.tell(&line);
        Ok(())
    }

    pub fn compact(&mut self, node: u64, through: u64) -> Done {
        if self.node(node)?.state.index.0 < through {
            return Err(format!("the state of n{node} is not durable up to {through}").into());
        }
        self.step(NodeId(node), Input::Compact { through: Index(through) })
    }

    pub fn status(&mut self) {
        for node in 1..=self.shape.nodes {
            self.tell_status(NodeId(node));
        }
    }

    fn tell_status(&mut self, id: NodeId) {
        let Some(raft) = self.nodes.get(&id).and_then(|node| node.raft.as_ref()) else {
            return self.tell(&format!("{id} is down"));
        };
        let hard = raft.hard();
        let vote = hard.vote.map_or(String::new(), |vote| format!(", vote {vote}"));
        let leader = raft.leader().map_or(String::new(), |leader| format!(", led by {leader}"));
        let line = format!(
            "{id} {} in term {}{vote}{leader}; log {}..{}, durable {}, commit {}, applied {}",
            raft.role().name(),
            hard.term,
            text::position(raft.log().base()),
            text::position(raft.log().last()),
            raft.durable(),
            raft.commit(),
            raft.applying()
        );
        self.tell(&line);
    }

    pub fn log(&mut self, node: u64) -> Done {
        let Some(raft) = &self.node(node)?.raft else { return Err(format!("n{node} is down").into()) };
        let log = raft.log();
        let held: Vec<Entry> = log.range(log.first_index(), log.last().index).cloned().collect();
        let line = format!("n{node} after {}: {}", text::position(log.base()), text::entries(&held));
        self.tell(&line);
        Ok(())
    }

    fn step(&mut self, id: NodeId, input: Input) -> Done {
        let number = id.0;
        let Some(raft) = &mut self.node(number)?.raft else {
            return Err(format!("n{number} is down").into());
        };
        let sender = match &input {
            Input::SnapshotOffered { from, .. } | Input::SnapshotReceived { from, .. } => Some(*from),
            _ => None,
        };
        let term = match &input {
            Input::SnapshotOffered { term, .. } => *term,
            _ => Term(0),
        };
        let (role, old_term, commit) = (raft.role().name(), raft.hard().term, raft.commit());
        let mut effects = Vec::new();
        raft.step(input, &mut effects);
        let (now, new_term, committed) = (raft.role().name(), raft.hard().term, raft.commit());
        if now != role || new_term != old_term {
            let lost = matches!(raft.role(), Role::Follower) && role == "leader";
            let sign = if lost { "⇩" } else { "⇨" };
            self.tell(&format!("  {id} {sign} {now} in term {new_term}"));
        }
        if committed != commit {
            self.tell(&format!("  {id} commits {committed}"));
        }
        for effect in effects {
            self.execute(id, effect, sender, term);
        }
        Ok(())
    }

    fn execute(&mut self, id: NodeId, effect: Effect, sender: Option<NodeId>, offered_in: Term) {
        let node = self.nodes.get_mut(&id).expect("the node was just stepped");
        let mut sent = None;
        let line = match effect {
            Effect::Persist(write) => {
                let line = format!("{id} begins {}", text::write(&write));
                node.writes.push_back(write);
                line
            }
            Effect::Send { to, message, after: Some(after) } => {
                let packet = Packet { from: id, to, load: Load::Message(message) };
                let line = format!("{} (after write {})", packet.text("…"), after.0);
                node.held.push_back((after, packet));
                line
            }
            Effect::Send { to, message, after: None } => {
                let packet = Packet { from: id, to, load: Load::Message(message) };
                let line = packet.text("→");
                sent = Some(packet);
                line
            }
            Effect::Apply(entries) => {
                node.applied = entries.last().map_or(node.applied, Entry::position);
                format!("{id} applies {}", text::entries(&entries))
            }
            Effect::Proposed { position, .. } => format!("{id} proposes at {}", text::position(position)),
            Effect::ReadReady { id: read, index } => format!("{id} read {} is ready at {index}", read.0),
            Effect::Refused { id: request, reason } => {
                format!("{id} refuses request {}: {}", request.0, text::refusal(reason))
            }
            Effect::TransferEnded { given_up: true, .. } => {
                format!("{id} gives the transfer up and leads on")
            }
            Effect::TransferEnded { .. } => format!("{id}'s transfer is over"),
            Effect::Arm(_) | Effect::Disarm(_) => return,
            Effect::SendSnapshot { to, term } => {
                sent = Some(Packet { from: id, to, load: Load::Offer { term, state: node.state } });
                format!("{id} → {to} offers a snapshot at {}", text::position(node.state))
            }
            Effect::AcceptSnapshot { from, position } => {
                let load = Load::Snapshot { term: offered_in, state: position };
                sent = Some(Packet { from, to: id, load });
                format!("{id} receives the snapshot at {}", text::position(position))
            }
            Effect::RefuseSnapshot { position, .. } => {
                sent = sender.map(|to| Packet { from: id, to, load: Load::Ended(None) });
                format!("{id} refuses the snapshot at {}", text::position(position))
            }
            Effect::InstallSnapshot { base } => {
                let ended = Load::Ended(Some(base.position.index));
                (node.state, node.applied) = (base.position, base.position);
                sent = sender.map(|to| Packet { from: id, to, load: ended });
                format!("{id} installs the snapshot at {}", text::position(base.position))
            }
        };
        self.tell(&format!("  {line}"));
        self.packets.extend(sent);
    }
}
