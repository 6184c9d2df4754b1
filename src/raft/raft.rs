//! The node: its state, and `step`, which hands each input to its topic.

use std::collections::BTreeMap;

use super::effect::{Base, Effect, HardState, Input, Persist, Timer, WriteId};
use super::log::Log;
use super::membership::Membership;
use super::message::{Body, Entry, Message, Payload, Position};
use super::progress::{Progress, Window};
use super::read::Reads;
use super::transfer::Transfer;
use super::writes::Writes;
use crate::mutants::{MutantId, Mutants};
use crate::types::{Index, NodeId, Term};

/// What a node is told about itself. The bounds hold per node; each has a unit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    /// Who it is.
    pub id: NodeId,
    /// At most this many entries in one append.
    pub append_entries_max: usize,
    /// At most this many bytes of entries in one append (one entry may exceed it).
    pub append_bytes_max: usize,
    /// Unanswered appends per member.
    pub window: Window,
    /// Proposals are refused while this many bytes of entries wait to be committed and durable here: a group that has
    /// no majority, or a leader whose disk stands still, keeps no more.
    pub uncommitted_bytes_max: usize,
    /// The same in entries, for small ones.
    pub uncommitted_entries_max: u64,
    /// Reads are refused while this many wait.
    pub reads_max: usize,
    /// Planted bugs; of size zero without the feature `mutants`.
    pub mutants: Mutants,
}

impl Config {
    /// The defaults for node `id`.
    pub fn new(id: NodeId) -> Self {
        Self {
            id,
            append_entries_max: 1024,
            append_bytes_max: 1 << 20,
            window: Window { appends_max: 64, bytes_max: 8 << 20 },
            uncommitted_bytes_max: 64 << 20,
            uncommitted_entries_max: 128 << 10,
            reads_max: 16 << 10,
            mutants: Mutants::default(),
        }
    }
}

/// What a node is doing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Following, or waiting for someone to follow.
    Follower,
    /// Asking whether an election would be won, in the current term.
    PreCandidate {
        /// Who answered what.
        votes: BTreeMap<NodeId, bool>,
    },
    /// Asking for votes.
    Candidate {
        /// Who answered what; its own vote is here once it is durable.
        votes: BTreeMap<NodeId, bool>,
        /// The write of its own vote.
        own_vote: WriteId,
    },
    /// Leading.
    Leader(Leader),
}

impl Role {
    /// Its name, as operators see it.
    pub fn name(&self) -> &'static str {
        match self {
            Role::Follower => "follower",
            Role::PreCandidate { .. } => "pre-candidate",
            Role::Candidate { .. } => "candidate",
            Role::Leader(_) => "leader",
        }
    }
}

/// What only a leader knows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Leader {
    /// The other members.
    pub progress: BTreeMap<NodeId, Progress>,
    /// The no-op that opened the term: once it is committed, everything before it is.
    pub opened_at: Index,
    /// Linearizable reads that wait.
    pub reads: Reads,
    /// What this leader appended and has not handed to [`Effect::Apply`], in bytes.
    pub uncommitted_bytes: usize,
    /// Leadership is on its way to another member.
    pub transfer: Option<Transfer>,
}

/// One node of a group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Raft {
    pub(super) config: Config,
    pub(super) hard: HardState,
    pub(super) log: Log,
    pub(super) commit: Index,
    /// The last entry handed to [`Effect::Apply`].
    pub(super) applying: Index,
    pub(super) role: Role,
    /// The leader of this term, while its heartbeats come. Doubles as the lease of pre-vote and check-quorum: who
    /// has a leader votes for nobody else.
    pub(super) leader: Option<NodeId>,
    pub(super) writes: Writes,
}

impl Raft {
    /// A node as its disk remembers it: its vote, its log, and the index up to which its state is durable.
    /// Its first effect is to arm the election timer; a fresh follower, it waits for one timeout before it asks.
    ///
    /// `applied` below the log's base says that the state is lost: see [`Raft::lacks_state`].
    pub fn new(config: Config, hard: HardState, log: Log, applied: Index, out: &mut Vec<Effect>) -> Self {
        assert!(
            applied <= log.last().index,
            "the state's applied index lies beyond the log; the open-time rule was not applied"
        );
        out.push(Effect::Arm(Timer::Election));
        // A snapshot's state becomes durable on its own, so a crash may keep it and lose the write that raised the
        // term before it. That term was never answered in: no vote of it can be forgotten here.
        let seen = log.last().term;
        let hard = if seen > hard.term { HardState { term: seen, vote: None } } else { hard };
        Self {
            config,
            hard,
            writes: Writes::new(log.last().index),
            commit: applied.max(log.base().index),
            log,
            applying: applied,
            role: Role::Follower,
            leader: None,
        }
    }

    /// Takes one input; the effects are appended to `out`.
    pub fn step(&mut self, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::Timeout(Timer::Election) => self.election_timeout(out),
            Input::Timeout(Timer::Heartbeat) => self.heartbeat_timeout(out),
            Input::Message { from, message } => self.receive(from, message, out),
            Input::Propose(commands) => self.propose(commands, out),
            Input::Read(id) => self.read(id, out),
            Input::Transfer { id, to } => self.transfer(id, to, out),
            Input::Persisted(id) => self.persisted(id, out),
            Input::Compact { through } => self.compact(through, out),
            Input::SnapshotOffered { from, term, position } => {
                self.snapshot_offered(from, term, position, out);
            }
            Input::SnapshotReceived { from, term, base } => self.snapshot_received(from, term, base, out),
            Input::SnapshotSent { to, installed } => self.snapshot_sent(to, installed, out),
        }
    }

    /// Terms first (Raft, section 5.1), then the message itself.
    fn receive(&mut self, from: NodeId, Message { term, body }: Message, out: &mut Vec<Effect>) {
        match body {
            Body::PreVote { last } => return self.pre_vote(from, term, last, out),
            Body::PreVoteReply { granted: true } => return self.pre_vote_granted(from, term, out),
            // A node that hears its leader takes part in no election (dissertation, section 4.2.3), unless that leader
            // wants it.
            Body::Vote { transfer, .. }
                if self.has_leader_besides(from) && !(transfer && term > self.hard.term) =>
            {
                return;
            }
            _ => {}
        }
        let mutants = self.config.mutants;
        let counted = match body {
            Body::VoteReply { .. } => mutants.is(MutantId::ElectionStaleVoteCounted),
            Body::TimeoutNow => mutants.is(MutantId::ElectionStaleTimeoutNow),
            _ => false,
        };
        if term < self.hard.term && !counted {
            return self.answer_stale(from, &body, out);
        }
        if term > self.hard.term && self.is_leader() && mutants.is(MutantId::ElectionNoStepDown) {
            self.hard = HardState { term, vote: None };
            self.persist(None, None, Vec::new(), out);
        } else if term > self.hard.term {
            self.become_follower(term, None, out);
        }
        match body {
            Body::Vote { last, transfer } => self.vote(from, last, transfer, out),
            Body::VoteReply { granted } => self.vote_answered(from, granted, out),
            Body::PreVoteReply { .. } => self.pre_vote_answered(from, false, out),
            Body::PreVote { .. } => {}
            Body::Append { previous, entries, commit } => self.append(from, previous, entries, commit, out),
            Body::AppendAccepted { matched } => self.append_accepted(from, matched, out),
            Body::AppendRejected { previous, conflict } => {
                self.append_rejected(from, previous, conflict, out);
            }
            Body::Heartbeat { commit, round } => self.heartbeat(from, commit, round, out),
            Body::HeartbeatReply { round, lacks_state } => {
                self.heartbeat_answered(from, round, lacks_state, out);
            }
            Body::TimeoutNow => self.timeout_now(from, out),
        }
    }

    /// Tells the sender of an old term about the current one. Without an answer a leader that was left behind
    /// (or a candidate) would never learn of it: etcd's stuck high-term node.
    fn answer_stale(&mut self, from: NodeId, body: &Body, out: &mut Vec<Effect>) {
        let body = match body {
            Body::Vote { .. } => Body::VoteReply { granted: false },
            Body::Append { previous, .. } => Body::AppendRejected {
                previous: previous.index,
                conflict: Position { index: self.log.last().index.next(), term: Term(0) },
            },
            Body::Heartbeat { round, .. } => {
                Body::HeartbeatReply { round: *round, lacks_state: self.lacks_state() }
            }
            _ => return,
        };
        self.send_durable(from, body, out);
    }

    /// Follows in `term`, which is the current one or a later one. A new term is durable before anything that
    /// depends on it leaves: those sends name the write.
    pub(super) fn become_follower(&mut self, term: Term, leader: Option<NodeId>, out: &mut Vec<Effect>) {
        if let Role::Leader(leader) = &mut self.role {
            leader.reads.refuse_all(None, out);
            if let Some(transfer) = leader.transfer {
                out.push(Effect::TransferEnded { id: transfer.id, given_up: false });
            }
            out.push(Effect::Disarm(Timer::Heartbeat));
        }
        let was_following = matches!(self.role, Role::Follower);
        self.role = Role::Follower;
        self.leader = leader;
        if term > self.hard.term {
            self.hard = HardState { term, vote: None };
            self.persist(None, None, Vec::new(), out);
        }
        if leader.is_some() || !was_following {
            out.push(Effect::Arm(Timer::Election));
        }
    }

    /// Writes hard state and log changes.
    pub(super) fn persist(
        &mut self,
        base: Option<Base>,
        truncate: Option<Index>,
        append: Vec<Entry>,
        out: &mut Vec<Effect>,
    ) -> WriteId {
        let id = self.writes.issue(truncate, append.last().map(|entry| entry.index));
        out.push(Effect::Persist(Persist { id, hard: self.hard, base, truncate, append }));
        id
    }

    fn persisted(&mut self, id: WriteId, out: &mut Vec<Effect>) {
        self.writes.completed(id);
        self.own_vote_persisted(out);
        self.maybe_commit(out);
        self.apply_committed(out);
    }

    /// Sends at once.
    pub(super) fn send(&self, to: NodeId, body: Body, out: &mut Vec<Effect>) {
        out.push(Effect::Send { to, message: Message { term: self.hard.term, body }, after: None });
    }

    /// Sends once everything written so far is durable.
    pub(super) fn send_durable(&self, to: NodeId, body: Body, out: &mut Vec<Effect>) {
        let message = Message { term: self.hard.term, body };
        out.push(Effect::Send { to, message, after: self.writes.pending() });
    }

    /// Hands over what is committed *and* durable here, so that the state never runs ahead of the log.
    pub(super) fn apply_committed(&mut self, out: &mut Vec<Effect>) {
        let early = self.config.mutants.is(MutantId::ReplicationApplyBeforePersisted);
        let through = if early { self.commit } else { self.commit.min(self.writes.durable()) };
        if through > self.applying && !self.lacks_state() {
            let entries: Vec<Entry> = self.log.range(self.applying.next(), through).cloned().collect();
            if let Role::Leader(leader) = &mut self.role {
                // What was inherited was never counted.
                let own = entries.iter().filter(|entry| entry.index >= leader.opened_at);
                leader.uncommitted_bytes -= own.map(Entry::bytes).sum::<usize>();
            }
            out.push(Effect::Apply(entries));
            self.applying = through;
        }
    }

    /// The other members.
    pub(super) fn peers(&self) -> Vec<NodeId> {
        self.membership().members().into_iter().filter(|node| *node != self.config.id).collect()
    }

    pub(super) fn has_leader_besides(&self, node: NodeId) -> bool {
        self.leader.is_some_and(|leader| leader != node)
    }

    /// Appends entries of the current term.
    pub(super) fn append_own(&mut self, payloads: Vec<Payload>, out: &mut Vec<Effect>) {
        let mut entries = Vec::with_capacity(payloads.len());
        for payload in payloads {
            let entry = Entry { index: self.log.last().index.next(), term: self.hard.term, payload };
            self.log.push(entry.clone());
            entries.push(entry);
        }
        if let Role::Leader(leader) = &mut self.role {
            leader.uncommitted_bytes += entries.iter().map(Entry::bytes).sum::<usize>();
        }
        self.persist(None, None, entries, out);
    }

    /// Who it is.
    pub fn id(&self) -> NodeId {
        self.config.id
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Its term and vote, durable or on the way there.
    pub fn hard(&self) -> HardState {
        self.hard
    }

    /// Its log.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The last index that it knows to be committed.
    pub fn commit(&self) -> Index {
        self.commit
    }

    /// The last index handed to [`Effect::Apply`].
    pub fn applying(&self) -> Index {
        self.applying
    }

    /// Its state ends before its log begins, because it was damaged and wiped: nothing can be applied before a
    /// snapshot comes. Log and vote are whole, so it votes and acknowledges; it asks for a snapshot with each
    /// heartbeat's answer, and stands for no election, because a leader has to apply.
    pub fn lacks_state(&self) -> bool {
        self.applying < self.log.base().index
    }

    /// The last index up to which its log is durable.
    pub fn durable(&self) -> Index {
        self.writes.durable()
    }

    /// What it is doing.
    pub fn role(&self) -> &Role {
        &self.role
    }

    /// True if it leads.
    pub fn is_leader(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    /// The leader it follows, or itself.
    pub fn leader(&self) -> Option<NodeId> {
        self.leader
    }

    /// The members in force.
    pub fn membership(&self) -> &Membership {
        self.log.membership()
    }
}
