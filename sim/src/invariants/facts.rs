//! What the invariants know together: each node's log in memory and on its disk, and what is committed.
//!
//! Everything is derived from the events: a node's log in memory is the sum of the writes it asked for (effects
//! carry their data), its disk the sum of those that completed. One step costs its own effects and nothing more.

use std::collections::{BTreeMap, VecDeque};

use eraft::raft::{Effect, Entry, HardState, Input, Membership, Position, Raft, WriteId};
use eraft::types::{Index, NodeId, Term};

use super::Kind;
use super::chain::{Chain, Link, Table};

/// How often old rows are forgotten, in commits.
const FORGET_EVERY: u64 = 1024;

/// A committed entry.
#[derive(Clone, Copy, Debug)]
pub struct Committed {
    /// The entry.
    pub link: Link,
    /// The term in which it was first known to be committed.
    pub in_term: Term,
}

/// What a node shows of itself after a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Face {
    /// Its term.
    pub term: Term,
    /// Its commit index.
    pub commit: Index,
    /// The last entry handed to the state machine.
    pub applying: Index,
    /// It leads.
    pub leads: bool,
}

impl Face {
    fn of(raft: &Raft) -> Self {
        Self {
            term: raft.hard().term,
            commit: raft.commit(),
            applying: raft.applying(),
            leads: raft.is_leader(),
        }
    }
}

/// A write on its way to a disk.
#[derive(Clone, Debug)]
pub struct Pending {
    /// Its name.
    pub id: WriteId,
    /// The hard state in it.
    pub hard: HardState,
    base: Option<Position>,
    truncate: Option<Index>,
    links: Vec<Link>,
}

/// What a restart brought back.
#[derive(Clone, Copy, Debug)]
pub struct Reopened {
    /// The hard state is one that was on disk or on its way there.
    pub hard_kept: bool,
    /// So is the log, or it was rightly replaced by the state's position.
    pub log_kept: bool,
    /// The hard state that was certainly on disk.
    pub hard_durable: HardState,
    /// The last entry that was certainly on disk.
    pub last_durable: Position,
}

/// One node.
#[derive(Clone, Debug, Default)]
pub struct NodeFacts {
    /// How often it was opened.
    pub incarnation: u64,
    /// The log as it is in memory.
    pub memory: Chain,
    /// The log as it certainly is on disk.
    pub durable: Chain,
    /// The hard state that is certainly on disk.
    pub durable_hard: HardState,
    /// Writes that are under way.
    pub pending: VecDeque<Pending>,
    /// The last entry that the durable state machine certainly covers.
    pub state: Index,
    /// The last entry of the snapshot that the core told the shell to install. A crash may come first.
    pub installing: Index,
    /// The node before the step, and
    pub before: Face,
    /// after it.
    pub now: Face,
    /// Its state was damaged from outside, and may be wiped.
    pub state_is_bad: bool,
    /// Set in the step that opened it again.
    pub reopened: Option<Reopened>,
}

impl NodeFacts {
    /// Whether its disk holds the log with this prefix at `index`: as entries or inside the durable state.
    pub fn holds(&self, index: Index, prefix: u64) -> bool {
        index <= self.state || self.durable.prefix_at(index) == Some(prefix)
    }

    /// The write `id`, if it is under way.
    pub fn write(&self, id: WriteId) -> Option<&Pending> {
        self.pending.iter().find(|write| write.id == id)
    }

    /// The last index on disk once write `after` is durable (`None`: now).
    pub fn last_durable_after(&self, after: Option<WriteId>) -> Index {
        let mut last = self.durable.last().index;
        let Some(after) = after else { return last.max(self.state) };
        for write in self.pending.iter().take_while(|write| write.id <= after) {
            last = write.base.map_or(last, |base| last.max(base.index));
            last = write.truncate.map_or(last, |from| last.min(from.previous()));
            last = Index(last.0 + write.links.len() as u64);
        }
        last.max(self.state)
    }

    /// It leads now and led the same term before the step.
    pub fn led_throughout(&self) -> bool {
        self.before.leads && self.now.leads && self.before.term == self.now.term
    }
}

/// Two nodes that committed different logs.
#[derive(Clone, Copy, Debug)]
pub struct Conflict {
    /// Where they were compared.
    pub index: Index,
    /// The term that this node has there.
    pub ours: Term,
    /// The term that is committed there.
    pub committed: Term,
}

/// What is committed.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// What any node knows to be committed.
    pub committed: Table<Committed>,
    /// How far the terms up to each one committed, in ascending order of both.
    reach: Vec<(Term, Index)>,
    /// The commit index before this step.
    pub before: Index,
    /// What this step committed is not what was committed before.
    pub conflict: Option<Conflict>,
}

/// All nodes, and what is committed.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The nodes, dead ones too.
    pub nodes: BTreeMap<NodeId, NodeFacts>,
    /// What is committed.
    pub ledger: Ledger,
}

impl Facts {
    /// The state of `node` has been damaged from outside.
    pub fn state_is_bad(&mut self, node: NodeId) {
        self.nodes.entry(node).or_default().state_is_bad = true;
    }

    /// Takes in what happened on `node`.
    pub fn update(&mut self, node: NodeId, kind: &Kind<'_>) {
        let me = self.nodes.entry(node).or_default();
        self.ledger.conflict = None;
        self.ledger.before = self.ledger.commit_max();
        match *kind {
            Kind::Opened { raft, applied, .. } => me.open(raft, applied, &mut self.ledger),
            Kind::Stepped { input, effects, raft } => me.step(input, effects, raft, &mut self.ledger),
            Kind::Flushed { applied } | Kind::SnapshotInstalled { applied, .. } => {
                me.state = me.state.max(applied.index);
            }
            Kind::Applied { .. } => {}
        }
        if self.ledger.commit_max().0 / FORGET_EVERY != self.ledger.before.0 / FORGET_EVERY {
            let lowest = self.nodes.values().map(|node| node.durable.base().index).min();
            self.ledger.forget_below(lowest.unwrap_or_default());
        }
    }
}

impl Ledger {
    /// The highest index that is known to be committed.
    pub fn commit_max(&self) -> Index {
        self.committed.last()
    }

    /// How far the terms before `term` committed.
    pub fn committed_before_term(&self, term: Term) -> Index {
        self.reach.iter().rev().find(|(reign, _)| *reign < term).map_or(Index(0), |(_, index)| *index)
    }

    /// The hash of the committed log up to `position`.
    fn prefix_of(&self, position: Position) -> u64 {
        self.committed.get(position.index).map_or(position.index.0, |committed| committed.link.prefix)
    }

    /// Takes in the commit index of `node`.
    fn commit(&mut self, node: &NodeFacts) {
        let (commit, last) = (node.now.commit, self.commit_max());
        let shared = commit.min(last);
        let ours = node.memory.prefix_at(shared);
        let theirs = self.committed.get(shared).map(|committed| committed.link);
        if let (Some(ours), Some(theirs)) = (ours, theirs)
            && ours != theirs.prefix
        {
            let term = node.memory.term_at(shared).unwrap_or_default();
            self.conflict = Some(Conflict { index: shared, ours: term, committed: theirs.term });
            return;
        }
        if commit <= last {
            return;
        }
        if node.memory.base().index > last {
            self.committed.restart_at(node.memory.base().index.next());
        }
        while self.commit_max() < commit {
            let Some(link) = node.memory.link(self.commit_max().next()) else { break };
            self.committed.push(Committed { link: *link, in_term: node.now.term });
        }
        match self.reach.last_mut() {
            Some((term, index)) if *term >= node.now.term => *index = commit,
            _ => self.reach.push((node.now.term, commit)),
        }
    }

    /// Forgets what every log has compacted.
    fn forget_below(&mut self, index: Index) {
        self.committed.forget_below(index);
        let terms = self.reach.len().saturating_sub(FORGET_EVERY as usize);
        self.reach.drain(..terms);
    }
}

impl NodeFacts {
    fn step(&mut self, input: &Input, effects: &[Effect], raft: &Raft, ledger: &mut Ledger) {
        self.reopened = None;
        self.before = self.now;
        self.now = Face::of(raft);
        if let Input::Persisted(id) = input {
            while self.pending.front().is_some_and(|write| write.id <= *id) {
                let write = self.pending.pop_front().expect("there is a first write");
                self.durable.write(write.base, write.truncate, &write.links, |base| ledger.prefix_of(base));
                self.durable_hard = write.hard;
            }
        }
        for effect in effects {
            match effect {
                Effect::Persist(persist) => {
                    let links = self.memory.persist(persist, |base| ledger.prefix_of(base));
                    self.pending.push_back(Pending {
                        id: persist.id,
                        hard: persist.hard,
                        base: persist.base.as_ref().map(|base| base.position),
                        truncate: persist.truncate,
                        links,
                    });
                }
                Effect::InstallSnapshot { base } => self.installing = base.position.index,
                _ => {}
            }
        }
        if self.now.commit > self.before.commit {
            ledger.commit(self);
        }
    }

    fn open(&mut self, raft: &Raft, applied: Position, ledger: &mut Ledger) {
        let log = raft.log();
        let base = log.base();
        let known = self.durable.prefix_at(base.index).filter(|_| {
            self.durable.term_at(base.index) == Some(base.term) // and not of another log
        });
        let prefix = known.unwrap_or_else(|| ledger.prefix_of(base));
        let mut opened = Chain::new(base, prefix);
        for entry in log.range(log.first_index(), log.last().index) {
            opened.push(entry);
        }
        self.reopened = (self.incarnation > 0).then(|| self.reopened(raft.hard(), &opened, applied, ledger));
        self.incarnation += 1;
        self.memory = opened.clone();
        self.durable = opened;
        self.durable_hard = raft.hard();
        self.pending.clear();
        self.state = applied.index;
        self.installing = applied.index;
        self.before = Face::default();
        self.now = Face::of(raft);
        if self.now.commit.0 > 0 {
            ledger.commit(self);
        }
    }

    /// A crash keeps the writes that completed and any first part of those under way.
    fn reopened(&self, hard: HardState, opened: &Chain, applied: Position, ledger: &Ledger) -> Reopened {
        let mut disk = self.durable.clone();
        let mut writes = self.pending.iter();
        let mut disk_hard = self.durable_hard;
        let (mut hard_kept, mut log_kept) = (false, false);
        loop {
            // A state that came by snapshot may be of a later term than the hard state.
            let raised = HardState { term: opened.last().term, vote: None };
            hard_kept |= hard == disk_hard || (raised.term > disk_hard.term && hard == raised);
            let reset =
                disk.term_at(applied.index) != Some(applied.term) || disk.last().index < applied.index;
            let empty = opened.base() == applied && opened.last() == applied;
            log_kept |= *opened == disk || (reset && empty);
            let Some(write) = writes.next() else { break };
            disk.write(write.base, write.truncate, &write.links, |base| ledger.prefix_of(base));
            disk_hard = write.hard;
        }
        Reopened { hard_kept, log_kept, hard_durable: self.durable_hard, last_durable: self.durable.last() }
    }
}

/// The entries of a write.
pub fn appended(effects: &[Effect]) -> impl Iterator<Item = &Entry> {
    effects.iter().flat_map(|effect| match effect {
        Effect::Persist(persist) => persist.append.as_slice(),
        _ => &[],
    })
}

/// Whether a quorum of `membership` holds the log with this prefix at `index` on disk.
pub fn quorum_holds(facts: &Facts, membership: &Membership, index: Index, prefix: u64) -> bool {
    eraft::raft::quorum::is_quorum(membership, |node| {
        facts.nodes.get(&node).is_some_and(|facts| facts.holds(index, prefix))
    })
}
