//! How much of the protocol's state space runs have been in: what the nodes of a group were in relation to each other.
//!
//! A node's state is its role, its term and log against the furthest ones of the group, and how far its commit index
//! lags. A *pair* is two such states that followed each other on one node.

use std::collections::{BTreeMap, BTreeSet};

use eraft::raft::{Position, Raft, Role};
use eraft::types::{Index, NodeId, Term};
use serde::{Deserialize, Serialize};

const ROLES: [&str; 4] = ["follower", "pre-candidate", "candidate", "leader"];
const TERMS: [&str; 3] = ["latest term", "one term behind", "terms behind"];
const LOGS: [&str; 3] = ["whole log", "shorter log", "log of an older term"];
const LAGS: [&str; 3] = ["commit complete", "commit a little behind", "commit far behind"];
/// More entries than this behind are far.
const LITTLE: u64 = 10;

/// How many states there are.
pub const STATES: usize = ROLES.len() * TERMS.len() * LOGS.len() * LAGS.len();

/// The states and pairs that were reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// Numbers of states.
    pub states: BTreeSet<u8>,
    /// Numbers of states that followed each other.
    pub pairs: BTreeSet<(u8, u8)>,
}

impl Coverage {
    /// Takes in what another run reached.
    pub fn add(&mut self, other: &Coverage) {
        self.states.extend(&other.states);
        self.pairs.extend(&other.pairs);
    }

    /// The states that were never reached, in words.
    pub fn never(&self) -> Vec<String> {
        (0..STATES)
            .filter_map(|state| u8::try_from(state).ok())
            .filter(|state| !self.states.contains(state))
            .map(words)
            .collect()
    }
}

/// A state in words.
pub fn words(state: u8) -> String {
    let mut rest = usize::from(state);
    let mut part = |words: &[&'static str]| {
        let word = words[rest % words.len()];
        rest /= words.len();
        word
    };
    let (lag, log, term) = (part(&LAGS), part(&LOGS), part(&TERMS));
    let role = part(&ROLES);
    format!("{role}, {term}, {log}, {lag}")
}

/// What is known of one node.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    term: Term,
    last: Position,
    commit: Index,
    state: Option<u8>,
}

/// Watches the nodes of one group.
#[derive(Debug, Default)]
pub struct Map {
    nodes: BTreeMap<NodeId, Known>,
    reached: Coverage,
}

impl Map {
    /// `node` is in this state now.
    pub fn see(&mut self, node: NodeId, raft: &Raft) {
        let role = match raft.role() {
            Role::Follower => 0,
            Role::PreCandidate { .. } => 1,
            Role::Candidate { .. } => 2,
            Role::Leader(_) => 3,
        };
        self.saw(node, role, raft.hard().term, raft.log().last(), raft.commit());
    }

    fn saw(&mut self, node: NodeId, role: usize, term: Term, last: Position, commit: Index) {
        let known = self.nodes.entry(node).or_default();
        (known.term, known.last, known.commit) = (term, last, commit);
        let before = known.state;
        let nodes = self.nodes.values();
        let (mut latest, mut furthest, mut committed) = (Term(0), (Term(0), Index(0)), Index(0));
        for other in nodes {
            latest = latest.max(other.term);
            furthest = furthest.max((other.last.term, other.last.index));
            committed = committed.max(other.commit);
        }
        let terms = (latest.0 - term.0).min(2) as usize;
        let log = match (last.term == furthest.0, last.index == furthest.1) {
            (true, true) => 0,
            (true, false) => 1,
            (false, _) => 2,
        };
        let lag = match committed.0 - commit.0 {
            0 => 0,
            1..=LITTLE => 1,
            _ => 2,
        };
        let number = ((role * TERMS.len() + terms) * LOGS.len() + log) * LAGS.len() + lag;
        let state = u8::try_from(number).expect("there are few states");
        if before == Some(state) {
            return;
        }
        self.reached.states.insert(state);
        if let Some(before) = before {
            self.reached.pairs.insert((before, state));
        }
        if let Some(known) = self.nodes.get_mut(&node) {
            known.state = Some(state);
        }
    }

    /// What was reached so far.
    pub fn reached(&self) -> &Coverage {
        &self.reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_relative_to_the_group_and_every_number_has_words() {
        let mut map = Map::default();
        let at = |index, term| Position { index: Index(index), term: Term(term) };
        map.saw(NodeId(1), 3, Term(2), at(30, 2), Index(30));
        map.saw(NodeId(2), 0, Term(1), at(9, 1), Index(9));
        map.saw(NodeId(2), 0, Term(2), at(29, 2), Index(25));
        map.saw(NodeId(2), 0, Term(2), at(29, 2), Index(26));
        let reached = map.reached();
        let all: Vec<String> = reached.states.iter().map(|state| words(*state)).collect();
        assert_eq!(
            all,
            [
                "follower, latest term, shorter log, commit a little behind",
                "follower, one term behind, log of an older term, commit far behind",
                "leader, latest term, whole log, commit complete",
            ]
        );
        assert_eq!(reached.pairs.len(), 1);
        assert_eq!(reached.never().len(), STATES - 3);
        let different: BTreeSet<String> = (0..STATES).map(|state| words(state as u8)).collect();
        assert_eq!(different.len(), STATES);
    }
}
