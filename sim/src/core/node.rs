//! One node of a run or of a model: the core, its disk, the writes on their way there, and a state machine that is a hash.

use std::collections::VecDeque;

use eraft::raft::{
    Base, Config, Effect, Entry, HardState, Log, Membership, Message, Payload, Persist, Position, Raft,
    Timer, WriteId,
};
use eraft::types::{Index, NodeId, Term};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::invariants::chain::hash_entry;

/// A state of the state machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// The last entry in it.
    pub applied: Position,
    /// The hash over all entries in it, in order.
    pub hash: u64,
}

impl State {
    /// Applies `entry`.
    pub fn apply(&mut self, entry: &Entry) {
        self.hash = xxh3_64_with_seed(&hash_entry(entry).to_le_bytes(), self.hash);
        self.applied = entry.position();
    }
}

/// What survives a crash.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Disk {
    hard: HardState,
    base: Base,
    entries: VecDeque<Entry>,
    /// The durable state.
    pub state: State,
}

impl Disk {
    fn new(membership: &Membership) -> Self {
        Self {
            hard: HardState::default(),
            base: Base { position: Position::default(), membership: membership.clone() },
            entries: VecDeque::new(),
            state: State { applied: Position::default(), hash: 0 },
        }
    }

    /// A disk that holds the hard state, and a log with entries of these terms.
    pub fn holding(membership: &Membership, term: u64, vote: Option<NodeId>, log: &[u64]) -> Self {
        let entries = log.iter().zip(1..).map(|(term, index)| Entry {
            index: Index(index),
            term: Term(*term),
            payload: Payload::Noop,
        });
        Self {
            hard: HardState { term: Term(term), vote },
            entries: entries.collect(),
            ..Self::new(membership)
        }
    }

    /// The last position of the log.
    pub fn last(&self) -> Position {
        self.entries.back().map_or(self.base.position, Entry::position)
    }

    /// The entry at `index`, if the log holds it.
    pub fn entry(&self, index: Index) -> Option<&Entry> {
        let at = index.0.checked_sub(self.base.position.index.0 + 1)?;
        self.entries.get(usize::try_from(at).ok()?)
    }

    fn write(&mut self, write: Persist) {
        self.hard = write.hard;
        if let Some(base) = write.base {
            while self.entries.front().is_some_and(|entry| entry.index <= base.position.index) {
                self.entries.pop_front();
            }
            self.base = base;
        }
        if let Some(from) = write.truncate {
            while self.entries.back().is_some_and(|entry| entry.index >= from) {
                self.entries.pop_back();
            }
        }
        self.entries.extend(write.append);
    }

    /// The open-time rule: a state that came by snapshot may be ahead of the log, or beside it.
    fn reset_log_to_state(&mut self, membership: &Membership) {
        let applied = self.state.applied;
        let base = self.base.position;
        let at = applied.index.0.checked_sub(base.index.0).expect("the state never falls behind the base");
        let term = match at {
            0 => Some(base.term),
            at => self.entries.get(at as usize - 1).map(|entry| entry.term),
        };
        if applied.index > self.last().index || term != Some(applied.term) {
            self.base = Base { position: applied, membership: membership.clone() };
            self.entries.clear();
        }
    }
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    /// The core; `None` while the node is down.
    pub raft: Option<Raft>,
    /// How often it was started.
    pub incarnation: u64,
    /// What survives a crash.
    pub disk: Disk,
    /// The state in memory.
    pub state: State,
    /// Which timers run.
    pub armed: [bool; 2],
    /// The election timer was armed since the last round; only the liveness phase looks at it.
    pub heard: bool,
    writes: VecDeque<Persist>,
    held: VecDeque<(WriteId, NodeId, Message)>,
}

impl Node {
    /// A node with an empty disk, not yet started.
    pub fn new(membership: &Membership) -> Self {
        let disk = Disk::new(membership);
        Self {
            raft: None,
            incarnation: 0,
            state: disk.state.clone(),
            disk,
            armed: [false; 2],
            heard: false,
            writes: VecDeque::new(),
            held: VecDeque::new(),
        }
    }

    /// Starts it from its disk.
    pub fn start(&mut self, config: Config, membership: &Membership, effects: &mut Vec<Effect>) {
        self.disk.reset_log_to_state(membership);
        self.state = self.disk.state.clone();
        self.incarnation += 1;
        let entries = self.disk.entries.iter().cloned();
        let log = Log::restore(self.disk.base.clone(), entries).expect("a disk holds a log without holes");
        self.raft = Some(Raft::new(config, self.disk.hard, log, self.state.applied.index, effects));
    }

    /// Power is lost: of the writes under way the first `kept` are on disk.
    pub fn crash(&mut self, kept: usize) {
        for write in self.writes.drain(..).take(kept) {
            self.disk.write(write);
        }
        self.held.clear();
        self.raft = None;
        self.armed = [false; 2];
    }

    /// Does what `effect` asks of this node's disk, timers and messages; gives back what concerns others.
    pub fn perform(&mut self, effect: Effect, mut send: impl FnMut(NodeId, Message)) -> Option<Effect> {
        match effect {
            Effect::Persist(write) => self.writes.push_back(write),
            Effect::Send { to, message, after: None } => send(to, message),
            // It waits until the write is durable.
            Effect::Send { to, message, after: Some(after) } => self.held.push_back((after, to, message)),
            Effect::Arm(timer) => {
                *self.armed(timer) = true;
                self.heard |= timer == Timer::Election;
            }
            Effect::Disarm(timer) => *self.armed(timer) = false,
            other => return Some(other),
        }
        None
    }

    /// How many writes are under way.
    pub fn writes(&self) -> usize {
        self.writes.len()
    }

    /// Completes the first `count` writes; returns the last of them.
    pub fn complete(&mut self, count: usize) -> Option<WriteId> {
        let mut last = None;
        for write in self.writes.drain(..count) {
            last = Some(write.id);
            self.disk.write(write);
        }
        last
    }

    /// The next message that waits for no write after `durable`.
    pub fn release(&mut self, durable: WriteId) -> Option<(NodeId, Message)> {
        if self.held.front().is_some_and(|(after, _, _)| *after <= durable) {
            self.held.pop_front().map(|(_, to, message)| (to, message))
        } else {
            None
        }
    }

    /// Whether `timer` runs.
    pub fn armed(&mut self, timer: Timer) -> &mut bool {
        match timer {
            Timer::Election => &mut self.armed[0],
            Timer::Heartbeat => &mut self.armed[1],
        }
    }
}
