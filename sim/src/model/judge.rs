//! What holds in every state of a group: the properties of figure 3 of the paper, judged by their consequences.
//!
//! The invariants of the scheduler watch *how* the protocol works; here the disks and logs are looked at as they are
//! after each step, and what cannot be seen in one state is remembered: who led which term, what was committed in
//! which, what a read must not miss.

use std::collections::BTreeMap;

use eraft::raft::{Entry, Raft, RequestId, quorum};
use eraft::types::{Index, NodeId, Term};

use super::group::{Group, State};
use super::shared::Shared;
use crate::core::node::Node;
use crate::invariants::chain::hash_entry;

/// Says whether a state is free of one kind of violation.
type Holds = fn(&Group, &State) -> bool;

macro_rules! oracles {
    ($($id:literal)*) => {
        /// What is judged in every state.
        pub const ORACLES: &[(&str, Holds)] =
            &[$(($id, |_, state| state.broken().is_none_or(|(oracle, _)| oracle != $id))),*];
    };
}

oracles! {
    "raft.election_safety"
    "raft.log_matching"
    "raft.leader_completeness"
    "raft.state_machine_safety"
    "raft.commit_current_term"
    "raft.ack_durable"
    "raft.read_index"
    "sim.panic"
}

/// An entry that some node took for committed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Committed {
    entry: Entry,
    hash: u64,
    in_term: Term,
}

/// What is remembered besides the state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ghost {
    leaders: BTreeMap<Term, NodeId>,
    committed: Vec<Committed>,
    /// Reads under way, and what was committed when they came.
    reads: BTreeMap<RequestId, Index>,
    reads_answered: u8,
    broken: Option<(&'static str, String)>,
}

impl Ghost {
    /// What is wrong, if anything is.
    pub fn broken(&self) -> Option<(&'static str, &str)> {
        self.broken.as_ref().map(|(oracle, message)| (*oracle, message.as_str()))
    }

    /// Some committed entry is a client's.
    pub fn holds_a_command(&self) -> bool {
        let is_command = |entry: &Entry| matches!(entry.payload, eraft::raft::Payload::Command(_));
        self.committed.iter().any(|committed| is_command(&committed.entry))
    }

    /// Some committed entry is of an earlier term than that in which it was committed.
    pub fn holds_an_inherited_entry(&self) -> bool {
        self.committed.iter().any(|committed| committed.entry.term < committed.in_term)
    }

    /// Reads that were answered.
    pub fn reads_answered(&self) -> u8 {
        self.reads_answered
    }

    /// The core panicked.
    pub fn panicked(&mut self, message: String) {
        self.break_with("sim.panic", message);
    }

    /// A read came in.
    pub fn read_asked(&mut self, request: RequestId) {
        self.reads.insert(request, Index(self.committed.len() as u64));
    }

    /// A read may be served from `index` on.
    pub fn read_answered(&mut self, request: RequestId, index: Index) {
        self.reads_answered += 1;
        if let Some(committed) = self.reads.remove(&request)
            && index < committed
        {
            let message = format!("a read is answered at {index}; {committed} was committed when it came");
            self.break_with("raft.read_index", message);
        }
    }

    fn break_with(&mut self, oracle: &'static str, message: String) {
        self.broken.get_or_insert((oracle, message));
    }

    /// Judges the state after node `at` did something; `before` is what it knew to be committed before that.
    pub fn judge(&mut self, nodes: &[Shared<Node>], at: usize, before: Index) {
        let Some(raft) = &nodes[at].raft else { return };
        self.elections(raft);
        self.commits(nodes, raft, before);
        self.disks(nodes, raft);
        self.logs(nodes, at);
    }

    fn elections(&mut self, raft: &Raft) {
        let (id, term) = (raft.id(), raft.hard().term);
        if !raft.is_leader() {
            return;
        }
        let leader = *self.leaders.entry(term).or_insert(id);
        if leader != id {
            return self
                .break_with("raft.election_safety", format!("{id} leads term {term}, which {leader} led"));
        }
        self.completeness(raft);
    }

    /// A leader holds what was committed in earlier terms.
    fn completeness(&mut self, raft: &Raft) {
        let lacks = |committed: &&Committed| {
            committed.in_term < raft.hard().term
                && raft.log().entry(committed.entry.index) != Some(&committed.entry)
        };
        if let Some(lost) = self.committed.iter().find(lacks) {
            let position = lost.entry.position();
            let message = format!(
                "{} leads term {} without {position:?}, which was committed in term {}",
                raft.id(),
                raft.hard().term,
                lost.in_term
            );
            self.break_with("raft.leader_completeness", message);
        }
    }

    fn commits(&mut self, nodes: &[Shared<Node>], raft: &Raft, before: Index) {
        let commit = raft.commit();
        if commit <= before {
            return;
        }
        if raft.is_leader() && raft.log().term_at(commit) != Some(raft.hard().term) {
            let message = format!("{} commits entry {commit} of another leader by counting", raft.id());
            self.break_with("raft.commit_current_term", message);
        }
        for entry in raft.log().range(before.next(), commit) {
            let known = self.committed.get(entry.index.0 as usize - 1);
            match known.map(|known| known.entry == *entry) {
                Some(true) => {}
                Some(false) => {
                    let message = format!("{} takes {entry:?} for committed; another one is", raft.id());
                    return self.break_with("raft.state_machine_safety", message);
                }
                None => {
                    let committed = Committed {
                        entry: entry.clone(),
                        hash: hash_entry(entry),
                        in_term: raft.hard().term,
                    };
                    self.committed.push(committed);
                }
            }
        }
        for leader in nodes.iter().filter_map(|node| node.raft.as_ref()).filter(|raft| raft.is_leader()) {
            self.completeness(leader);
        }
    }

    /// What is committed is on the disks of a quorum, for ever, and nobody's state is ahead of his log.
    fn disks(&mut self, nodes: &[Shared<Node>], raft: &Raft) {
        let holds = |node: NodeId, committed: &Committed| {
            let disk = &nodes[node.0 as usize - 1].disk;
            disk.entry(committed.entry.index).is_some_and(|entry| hash_entry(entry) == committed.hash)
        };
        let lost = self
            .committed
            .iter()
            .find(|committed| !quorum::is_quorum(raft.membership(), |node| holds(node, committed)));
        if let Some(lost) = lost {
            let message =
                format!("{:?} is committed, and not on the disks of a quorum", lost.entry.position());
            return self.break_with("raft.ack_durable", message);
        }
        let (applied, last) = (raft.applying(), nodes[raft.id().0 as usize - 1].disk.last().index);
        if applied > last {
            let message = format!("{} applies {applied}, and its disk ends at {last}", raft.id());
            self.break_with("raft.ack_durable", message);
        }
    }

    /// Two logs that share a position share everything before it.
    fn logs(&mut self, nodes: &[Shared<Node>], at: usize) {
        let Some(ours) = nodes[at].raft.as_ref().map(Raft::log) else { return };
        for other in nodes.iter().filter_map(|node| node.raft.as_ref()) {
            let theirs = other.log();
            let shared = ours
                .range(ours.first_index(), ours.last().index)
                .filter(|entry| theirs.term_at(entry.index) == Some(entry.term))
                .last();
            let Some(shared) = shared else { continue };
            let same = |index| ours.entry(index) == theirs.entry(index);
            if let Some(index) = (1..=shared.index.0).map(Index).find(|index| !same(*index)) {
                let message = format!(
                    "{} and {} share {:?} and differ at {index}",
                    NodeId(at as u64 + 1),
                    other.id(),
                    shared.position()
                );
                return self.break_with("raft.log_matching", message);
            }
        }
    }
}
