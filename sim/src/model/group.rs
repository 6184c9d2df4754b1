//! A model of one Raft group: the shipped core, its disks, and a network that forgets nothing.
//!
//! From each state everything is tried that may come next: a message arrives (one that never does is lost; it may
//! arrive after any other, and again), a timer fires, a client asks, a node loses power with any first part of its
//! writes on disk and starts again. A node that is down and one that nothing happens to are the same thing to the
//! others, so a crash and the start after it are one step.
//!
//! **Grain.** A *fine* model tries every order of everything, pre-votes and the completions of writes included; it does
//! not get far. In a *coarse* one a step ends when its writes are complete, or with a crash before some of them are; and
//! a pre-vote, which changes nothing at the voter, is asked and answered within the timeout of who asks. What is lost is
//! that a node gets an input while it waits for its disk, and that an answer to a pre-vote comes late.
//!
//! **Symmetry.** Where a model begins with nodes that differ in nothing but their names, what node 3 may do first is
//! what node 2 may do first with the names exchanged; so nodes act for the first time in the order of their names.
//! That is exact as long as no message has told them apart, and none has: what they were sent they have not received.

use eraft::mutants::Mutants;
use eraft::raft::{Body, Config, Effect, Input, Membership, Message, Raft, RequestId, Role, Timer};
use eraft::types::NodeId;
use stateright::{Model, Property};

use super::Brake;
use super::bounds::Bounds;
use super::judge::{Ghost, ORACLES};
use super::shared::Shared;
use crate::core::node::{Disk, Node};
use crate::core::quiet;

/// A model: where it begins and how far it goes.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its name.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// Where each node begins: its term, its vote, the terms of the entries in its log.
    pub disks: Vec<(u64, Option<u64>, Vec<u64>)>,
    /// The nodes that begin differ in their names alone.
    pub symmetric: bool,
    /// How much may happen.
    pub bounds: Bounds,
    /// What counts as one step.
    pub grain: Grain,
    /// Leaders' appends and heartbeats never arrive: the model is about elections alone.
    pub mute: bool,
    /// Entries in one append.
    pub append_entries_max: usize,
    /// What has to be reached, so that it is not empty.
    pub reaches: &'static [Reached],
    /// The planted bug, if any.
    pub mutants: Mutants,
    /// Ends it early.
    pub brake: Brake,
}

/// More writes than one step makes.
const WRITES_MAX: usize = 4;

/// What counts as one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grain {
    /// Every input of a node.
    Fine,
    /// An input with its writes; a pre-vote with its answer.
    Coarse,
}

/// How a step ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The node goes on.
    Lives,
    /// Power is lost with so many of its writes on disk; then it starts again.
    Dies(usize),
}

/// A message under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Packet {
    from: NodeId,
    to: NodeId,
    message: Message,
}

/// A state of the group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    nodes: Vec<Shared<Node>>,
    /// Without repetition, in the order of their ranks.
    network: Vec<Shared<Packet>>,
    spent: Bounds,
    /// How many nodes have acted.
    acted: usize,
    ghost: Shared<Ghost>,
}

/// What may happen next, to which node, and how it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    node: NodeId,
    event: Event,
    fate: Fate,
}

/// What happens to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Event {
    /// A message arrives.
    Deliver(Shared<Packet>),
    /// Its next write completes.
    Persist,
    /// Its election timer fires; in a coarse model it asks this peer for its pre-vote.
    Election(Option<NodeId>),
    /// Its heartbeat timer fires.
    Heartbeat,
    /// A client proposes.
    Propose,
    /// A client reads.
    Read,
    /// An operator wants this node to lead.
    Transfer(NodeId),
    /// Nothing.
    Nothing,
}

/// Something that has to happen somewhere in a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// A node leads.
    Leader,
    /// Two nodes lead, in different terms.
    TwoLeaders,
    /// A node leads after a crash.
    LeaderAfterCrash,
    /// A proposal is committed.
    ProposalCommitted,
    /// Everybody knows that an entry is committed.
    EverybodyCommitted,
    /// Two logs hold different entries at one index.
    LogsDiffer,
    /// An entry of an earlier term is committed.
    OldEntryCommitted,
    /// A read was answered.
    ReadAnswered,
    /// A node leads because its leader wanted it.
    Transferred,
}

impl Reached {
    /// The name of the property.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Leader => "a leader",
            Self::TwoLeaders => "two leaders in different terms",
            Self::LeaderAfterCrash => "a leader after a crash",
            Self::ProposalCommitted => "a proposal is committed",
            Self::EverybodyCommitted => "everybody knows of a commit",
            Self::LogsDiffer => "two logs differ",
            Self::OldEntryCommitted => "an entry of an earlier term is committed",
            Self::ReadAnswered => "a read is answered",
            Self::Transferred => "a node leads because its leader wanted it",
        }
    }

    fn condition(self) -> fn(&Group, &State) -> bool {
        match self {
            Self::Leader => |_, state| state.leaders().count() > 0,
            Self::TwoLeaders => |_, state| state.leaders().count() > 1,
            Self::LeaderAfterCrash => |_, state| state.spent.crashes > 0 && state.leaders().count() > 0,
            Self::ProposalCommitted => |_, state| state.ghost.holds_a_command(),
            Self::EverybodyCommitted => |_, state| state.cores().all(|raft| raft.commit().0 > 0),
            Self::LogsDiffer => |_, state| {
                let differ = |one: &Raft, other: &Raft| {
                    let (one, other) = (one.log(), other.log());
                    let mut entries = one.range(one.first_index(), one.last().index);
                    entries.any(|entry| other.entry(entry.index).is_some_and(|theirs| theirs != entry))
                };
                state.cores().any(|one| state.cores().any(|other| differ(one, other)))
            },
            Self::OldEntryCommitted => |_, state| state.ghost.holds_an_inherited_entry(),
            Self::ReadAnswered => |_, state| state.ghost.reads_answered() > 0,
            Self::Transferred => |_, state| {
                state.leaders().any(|leader| {
                    state.network.iter().any(|packet| {
                        packet.from == leader.id()
                            && packet.message.term == leader.hard().term
                            && matches!(packet.message.body, Body::Vote { transfer: true, .. })
                    })
                })
            },
        }
    }
}

impl State {
    fn cores(&self) -> impl Iterator<Item = &Raft> {
        self.nodes.iter().filter_map(|node| node.raft.as_ref())
    }

    fn leaders(&self) -> impl Iterator<Item = &Raft> {
        self.cores().filter(|raft| raft.is_leader())
    }

    /// What is wrong, if anything is.
    pub fn broken(&self) -> Option<(&'static str, &str)> {
        self.ghost.broken()
    }

    fn send(&mut self, packet: Packet) {
        let packet = Shared::new(packet);
        if let Err(at) = self.network.binary_search_by_key(&packet.rank(), Shared::rank) {
            self.network.insert(at, packet);
        }
    }
}

impl Group {
    fn membership(&self) -> Membership {
        Membership::of((1..=self.disks.len() as u64).map(NodeId))
    }

    fn config(&self, id: NodeId) -> Config {
        Config { append_entries_max: self.append_entries_max, mutants: self.mutants, ..Config::new(id) }
    }

    /// Gives `input` to a node, executes the effects and judges what came of it.
    fn step(&self, state: &mut State, id: NodeId, input: Input) {
        let at = id.0 as usize - 1;
        state.acted = state.acted.max(at + 1);
        let mut node = Node::clone(&state.nodes[at]);
        let mut ghost = Ghost::clone(&state.ghost);
        let Some(raft) = &mut node.raft else { return };
        let before = raft.commit();
        let mut effects = Vec::new();
        if let Err(message) = quiet::catch(|| raft.step(input, &mut effects)) {
            ghost.panicked(message);
            state.ghost = Shared::new(ghost);
            return;
        }
        let mut sent = Vec::new();
        for effect in effects {
            match node.perform(effect, |to, message| sent.push(Packet { from: id, to, message })) {
                Some(Effect::Apply(entries)) => entries.iter().for_each(|entry| node.state.apply(entry)),
                Some(Effect::ReadReady { id, index }) => ghost.read_answered(id, index),
                _ => {}
            }
        }
        node.heard = false; // of no consequence here, and would tell states apart
        state.nodes[at] = Shared::new(node);
        sent.into_iter().for_each(|packet| state.send(packet));
        ghost.judge(&state.nodes, at, before);
        state.ghost = Shared::new(ghost);
    }

    /// The next write of a node completes.
    fn persist(&self, state: &mut State, id: NodeId) {
        let at = id.0 as usize - 1;
        let mut node = Node::clone(&state.nodes[at]);
        let Some(write) = node.complete(1) else { return };
        while let Some((to, message)) = node.release(write) {
            state.send(Packet { from: id, to, message });
        }
        state.nodes[at] = Shared::new(node);
        self.step(state, id, Input::Persisted(write));
    }

    /// A node loses power with `kept` writes on disk and starts again.
    fn crash(&self, state: &mut State, id: NodeId, kept: usize) {
        let at = id.0 as usize - 1;
        state.acted = state.acted.max(at + 1);
        state.spent.crashes += 1;
        let mut node = Node::clone(&state.nodes[at]);
        node.crash(kept);
        self.start(&mut node, id);
        state.nodes[at] = Shared::new(node);
    }

    fn start(&self, node: &mut Node, id: NodeId) {
        let mut armed = Vec::new();
        node.start(self.config(id), &self.membership(), &mut armed);
        armed.into_iter().for_each(|effect| drop(node.perform(effect, |_, _| {})));
        (node.heard, node.incarnation) = (false, 0);
    }

    /// Asks `peer` for its pre-vote and hears the answer.
    fn ask(&self, state: &mut State, id: NodeId, peer: NodeId) {
        for (from, to) in [(id, peer), (peer, id)] {
            let is_of_pre_vote =
                |body: &Body| matches!(body, Body::PreVote { .. } | Body::PreVoteReply { .. });
            let found = state.network.iter().find(|packet| {
                packet.from == from && packet.to == to && is_of_pre_vote(&packet.message.body)
            });
            let Some(packet) = found.cloned() else { break };
            self.step(state, to, Input::Message { from, message: packet.message.clone() });
        }
    }

    fn peers(&self, id: NodeId) -> impl Iterator<Item = NodeId> + use<> {
        (1..=self.disks.len() as u64).map(NodeId).filter(move |peer| *peer != id)
    }

    /// What `node` may do by itself.
    fn own_actions(&self, state: &State, id: NodeId, node: &Node, mut may: impl FnMut(NodeId, Event)) {
        let (spent, bounds) = (state.spent, self.bounds);
        let Some(raft) = &node.raft else { return };
        if node.writes() > 0 {
            may(id, Event::Persist);
        }
        if raft.is_leader() {
            let asked = [
                (spent.heartbeats < bounds.heartbeats, Event::Heartbeat),
                (spent.proposals < bounds.proposals, Event::Propose),
                (spent.reads < bounds.reads, Event::Read),
            ];
            asked.into_iter().filter(|(may, _)| *may).for_each(|(_, event)| may(id, event));
            if spent.transfers < bounds.transfers {
                self.peers(id).for_each(|peer| may(id, Event::Transfer(peer)));
            }
            // An election timeout that gives a transfer up; without one it changes nothing here.
            if matches!(raft.role(), Role::Leader(leader) if leader.transfer.is_some()) {
                may(id, Event::Election(None));
            }
        } else if raft.hard().term.0 < bounds.term_max {
            may(id, Event::Election(None));
            if self.grain == Grain::Coarse {
                self.peers(id).for_each(|peer| may(id, Event::Election(Some(peer))));
            }
        }
    }
}

impl Model for Group {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let membership = self.membership();
        let nodes = self.disks.iter().zip(1..).map(|((term, vote, log), id)| {
            let mut node = Node::new(&membership);
            node.disk = Disk::holding(&membership, *term, vote.map(NodeId), log);
            self.start(&mut node, NodeId(id));
            Shared::new(node)
        });
        let nodes: Vec<_> = nodes.collect();
        vec![State {
            acted: if self.symmetric { 0 } else { nodes.len() },
            nodes,
            network: Vec::new(),
            spent: Bounds::default(),
            ghost: Shared::new(Ghost::default()),
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.broken().is_some() || self.brake.is_on() {
            return;
        }
        let may_crash = state.spent.crashes < self.bounds.crashes;
        let mut may = |node: NodeId, event: Event| {
            if may_crash && self.grain == Grain::Coarse {
                // How many writes there will be is not known yet; more than there are is no step.
                let deaths = (0..WRITES_MAX).map(Fate::Dies);
                actions.extend(deaths.map(|fate| Action { node, event: event.clone(), fate }));
            }
            actions.push(Action { node, event, fate: Fate::Lives });
        };
        for (id, node) in (1..).map(NodeId).zip(&state.nodes).take(state.acted + 1) {
            self.own_actions(state, id, node, &mut may);
        }
        for packet in &state.network {
            let of_a_leader = matches!(packet.message.body, Body::Append { .. } | Body::Heartbeat { .. });
            if packet.to.0 as usize <= state.acted + 1 && !(self.mute && of_a_leader) {
                may(packet.to, Event::Deliver(packet.clone()));
            }
        }
        if may_crash {
            for (node, it) in (1..).map(NodeId).zip(&state.nodes).take(state.acted + 1) {
                let deaths = (0..=it.writes()).map(Fate::Dies);
                actions.extend(deaths.map(|fate| Action { node, event: Event::Nothing, fate }));
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        let Action { node: id, event, fate } = action;
        let happens = event != Event::Nothing;
        match event {
            Event::Deliver(packet) => {
                let input = Input::Message { from: packet.from, message: packet.message.clone() };
                self.step(&mut state, id, input);
            }
            Event::Persist => self.persist(&mut state, id),
            Event::Election(peer) => {
                self.step(&mut state, id, Input::Timeout(Timer::Election));
                if let Some(peer) = peer {
                    self.ask(&mut state, id, peer);
                }
            }
            Event::Heartbeat => {
                state.spent.heartbeats += 1;
                self.step(&mut state, id, Input::Timeout(Timer::Heartbeat));
            }
            Event::Propose => {
                state.spent.proposals += 1;
                let number = state.spent.proposals;
                let command = bytes::Bytes::copy_from_slice(&[number]);
                self.step(&mut state, id, Input::Propose(vec![(RequestId(number.into()), command)]));
            }
            Event::Read => {
                state.spent.reads += 1;
                let request = RequestId(state.spent.reads.into());
                let mut ghost = Ghost::clone(&state.ghost);
                ghost.read_asked(request);
                state.ghost = Shared::new(ghost);
                self.step(&mut state, id, Input::Read(request));
            }
            Event::Transfer(to) => {
                state.spent.transfers += 1;
                let request = RequestId(u64::from(state.spent.transfers) << 8);
                self.step(&mut state, id, Input::Transfer { id: request, to });
            }
            Event::Nothing => {}
        }
        let writes = |state: &State| state.nodes[id.0 as usize - 1].writes();
        match fate {
            // A death without a write is one of its own, after nothing.
            Fate::Dies(kept) if kept > writes(&state) || (happens && writes(&state) == 0) => return None,
            Fate::Dies(kept) => self.crash(&mut state, id, kept),
            Fate::Lives if self.grain == Grain::Coarse => {
                while writes(&state) > 0 && state.broken().is_none() {
                    self.persist(&mut state, id);
                }
            }
            Fate::Lives => {}
        }
        if self.grain == Grain::Coarse {
            let is_of_pre_vote =
                |body: &Body| matches!(body, Body::PreVote { .. } | Body::PreVoteReply { .. });
            state.network.retain(|packet| !is_of_pre_vote(&packet.message.body));
        }
        (state != *last).then_some(state)
    }

    fn format_action(&self, action: &Action) -> String {
        let Action { node, event, fate } = action;
        let event = match event {
            Event::Deliver(packet) => {
                let Packet { from, message, .. } = &**packet;
                format!("{node} gets from {from}: term {}, {:?}", message.term, message.body)
            }
            Event::Persist => format!("{node}'s next write completes"),
            Event::Election(None) => format!("{node}'s election timer fires"),
            Event::Election(Some(peer)) => format!("{node}'s election timer fires, and it asks {peer}"),
            Event::Heartbeat => format!("{node}'s heartbeat timer fires"),
            Event::Propose => format!("{node} is given a proposal"),
            Event::Read => format!("{node} is asked to read"),
            Event::Transfer(to) => format!("{node} is asked to let {to} lead"),
            Event::Nothing => format!("{node}"),
        };
        match fate {
            Fate::Lives => event,
            Fate::Dies(kept) => format!("{event}; loses power with {kept} writes kept, and starts"),
        }
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let oracle = |at: usize| ORACLES[at].0;
        let always = (0..ORACLES.len()).map(|at| Property::always(oracle(at), ORACLES[at].1));
        let sometimes =
            self.reaches.iter().map(|reached| Property::sometimes(reached.name(), reached.condition()));
        always.chain(sometimes).collect()
    }
}
