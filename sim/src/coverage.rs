//! How much of the protocol's state space runs have been in: what the nodes of a group were in relation to each other.
//!
//! A node's state is its role, its term and log against the furthest ones of its group, and how far its commit index
//! lags. A *pair* is two such states that followed each other on one node. In a sharded store a node has a *placement*
//! beside it: how far its group is with the configs, and what its shards are doing; counted are both together.

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

const CONFIGS: [&str; 3] = ["latest config", "one config behind", "configs behind"];
const SHARDS: [&str; 4] =
    ["shards at rest", "a shard arriving", "a shard leaving", "shards arriving and leaving"];

/// How many states there are.
pub const STATES: usize = ROLES.len() * TERMS.len() * LOGS.len() * LAGS.len();
/// How many placements there are.
pub const PLACEMENTS: usize = CONFIGS.len() * SHARDS.len();

/// The states and pairs that were reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// Numbers of states.
    pub states: BTreeSet<u8>,
    /// Numbers of states that followed each other.
    pub pairs: BTreeSet<(u8, u8)>,
    /// States with their placements, of the nodes of groups that serve shards.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub placed: BTreeSet<(u8, u8)>,
}

/// What a campaign reached and what not, for people and for the JSON of a summary.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// States reached.
    pub states: usize,
    /// of so many.
    pub states_all: usize,
    /// Pairs reached.
    pub pairs: usize,
    /// States together with placements.
    pub placed: usize,
    /// of so many; 0 if there was no sharded store.
    pub placed_all: usize,
    /// States that no node was in.
    pub states_never: Vec<String>,
    /// Placements that no node's group was in.
    pub placements_never: Vec<String>,
    /// States and placements that were reached, but never together.
    pub placed_never: Vec<String>,
}

impl Coverage {
    /// Takes in what another run reached.
    pub fn add(&mut self, other: &Coverage) {
        self.states.extend(&other.states);
        self.pairs.extend(&other.pairs);
        self.placed.extend(&other.placed);
    }

    /// What was reached and what not.
    pub fn report(&self) -> Report {
        let placements: BTreeSet<u8> = self.placed.iter().map(|(_, placement)| *placement).collect();
        let is_sharded = !self.placed.is_empty();
        let all = (0..if is_sharded { PLACEMENTS as u8 } else { 0 }).collect::<Vec<u8>>();
        let of_groups: BTreeSet<u8> = self.placed.iter().map(|(state, _)| *state).collect();
        let together = of_groups.iter().flat_map(|state| placements.iter().map(|other| (*state, *other)));
        Report {
            states: self.states.len(),
            states_all: STATES,
            pairs: self.pairs.len(),
            placed: self.placed.len(),
            placed_all: if is_sharded { STATES * PLACEMENTS } else { 0 },
            states_never: self.never(),
            placements_never: all
                .into_iter()
                .filter(|placement| !placements.contains(placement))
                .map(placement_words)
                .collect(),
            placed_never: together
                .filter(|both| !self.placed.contains(both))
                .map(|(state, placement)| format!("{}; {}", words(state), placement_words(placement)))
                .collect(),
        }
    }

    /// What was reached, in a few words.
    pub fn counts(&self) -> String {
        let placed = match self.placed.len() {
            0 => String::new(),
            count => format!(", {count} of {} with placements", STATES * PLACEMENTS),
        };
        format!("{} of {STATES} states, {} pairs{placed}", self.states.len(), self.pairs.len())
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

/// A placement in words.
pub fn placement_words(placement: u8) -> String {
    let placement = usize::from(placement);
    format!("{}, {}", CONFIGS[placement / SHARDS.len() % CONFIGS.len()], SHARDS[placement % SHARDS.len()])
}

/// How far a group that serves shards is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// Configs that were made and that it has not adopted.
    pub configs_behind: u64,
    /// It fetches a shard.
    pub is_arriving: bool,
    /// It keeps a shard that is another group's by now.
    pub is_leaving: bool,
}

impl Placement {
    fn number(self) -> u8 {
        let configs = self.configs_behind.min(2) as u8;
        configs * SHARDS.len() as u8 + u8::from(self.is_arriving) + 2 * u8::from(self.is_leaving)
    }
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
    pub fn see(&mut self, node: NodeId, raft: &Raft, placement: Option<Placement>) {
        let role = match raft.role() {
            Role::Follower => 0,
            Role::PreCandidate { .. } => 1,
            Role::Candidate { .. } => 2,
            Role::Leader(_) => 3,
        };
        let state = self.saw(node, role, raft.hard().term, raft.log().last(), raft.commit());
        if let Some(placement) = placement {
            self.reached.placed.insert((state, placement.number()));
        }
    }

    fn saw(&mut self, node: NodeId, role: usize, term: Term, last: Position, commit: Index) -> u8 {
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
            return state;
        }
        self.reached.states.insert(state);
        if let Some(before) = before {
            self.reached.pairs.insert((before, state));
        }
        if let Some(known) = self.nodes.get_mut(&node) {
            known.state = Some(state);
        }
        state
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

    #[test]
    fn what_was_never_reached_is_said_in_words() {
        let mut map = Map::default();
        let at = |index| Position { index: Index(index), term: Term(1) };
        let leader = map.saw(NodeId(1), 3, Term(1), at(2), Index(2));
        let follower = map.saw(NodeId(2), 0, Term(1), at(1), Index(2));
        let mut reached = map.reached().clone();
        assert_eq!((reached.report().placed_all, reached.report().placements_never.len()), (0, 0));
        let rest = Placement::default();
        let busy = Placement { configs_behind: 7, is_arriving: true, is_leaving: true };
        reached.placed = [(leader, rest.number()), (leader, busy.number()), (follower, rest.number())].into();
        let report = reached.report();
        assert_eq!((report.states, report.placed, report.placed_all), (2, 3, 108 * 12));
        assert_eq!(report.states_never.len(), STATES - 2);
        assert_eq!(report.placements_never.len(), PLACEMENTS - 2);
        assert!(report.placements_never.contains(&"one config behind, a shard arriving".to_owned()));
        assert_eq!(
            report.placed_never,
            [
                "follower, latest term, shorter log, commit complete; configs behind, shards arriving and leaving"
            ]
        );
        assert_eq!(reached.counts(), "2 of 108 states, 0 pairs, 3 of 1296 with placements");
    }
}
