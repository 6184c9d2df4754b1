//! The invariants of Raft, checked after every step of every node; those of the controllers are in [`configs`], those
//! of groups that serve shards in [`shards`].
//!
//! | id | invariant | source |
//! |---|---|---|
//! | raft.election_safety | at most one leader per term | Raft, figure 3 |
//! | raft.leader_append_only | a leader never changes or removes an entry of its log | figure 3 |
//! | raft.log_matching | same index and term: same entry and same prefix | figure 3 |
//! | raft.leader_completeness | a committed entry is in the log of every later leader | figure 3 |
//! | raft.state_machine_safety | no two nodes commit or apply different entries at one index | figure 3 |
//! | raft.commit_current_term | commit by counting only for entries of the leader's term | 5.4.2, figure 8 |
//! | raft.vote_once | one vote per term, durable before it is answered | 5.2 |
//! | raft.pre_vote | a node raises its term only after a quorum said that it would vote | dissertation 9.6 |
//! | raft.check_quorum | a leader that hears no quorum for an election timeout stops leading | dissertation 6.2 |
//! | raft.transfer | leadership goes to a member that holds everything, and no proposal is taken meanwhile | dissertation 3.10 |
//! | raft.monotonic | term, commit and applied never go back | figure 2 |
//! | raft.ack_durable | what is acknowledged or committed by counting is durable | 5.3; dissertation 10.2.1 |
//! | raft.read_index | a read returns nothing older than what was committed when it came | dissertation 6.4 |
//! | raft.snapshot | a snapshot is the committed state at its index; no gap between state and log | dissertation 5 |
//!
//! The same suite sees the core alone (the random scheduler) and whole nodes (the simulation): both hand over the
//! events of [`eraft::observe`]. Facts that several invariants need are kept once, in [`facts::Facts`]; logs are
//! hash chains, so one step costs a bounded number of comparisons however long the logs are.

mod ack_durable;
pub mod chain;
mod check_quorum;
mod commit_current_term;
pub mod configs;
mod ctrler_balanced;
mod ctrler_deterministic;
mod ctrler_linearizable;
mod ctrler_minimal;
mod ctrler_refused;
mod election_safety;
pub mod facts;
mod leader_append_only;
mod leader_completeness;
mod log_matching;
mod monotonic;
mod pre_vote;
mod read_index;
mod shard_config_order;
mod shard_no_loss;
mod shard_single_owner;
pub mod shards;
mod snapshot;
mod state_machine_safety;
mod transfer;
mod vote_once;

use eraft::observe::Event;
use eraft::raft::{Effect, Entry, Input, Position, Raft};
use eraft::types::NodeId;
use facts::{Facts, NodeFacts};

/// What happened: the part of [`Event`] that invariants judge.
#[derive(Clone, Copy, Debug)]
pub enum Kind<'a> {
    /// The node was opened, for the first time or again.
    Opened {
        /// The core as recovered.
        raft: &'a Raft,
        /// The durable state's applied position.
        applied: Position,
        /// The hash of that state.
        replica_hash: u64,
    },
    /// The core took one input.
    Stepped {
        /// What came in.
        input: &'a Input,
        /// What came out.
        effects: &'a [Effect],
        /// The core afterwards.
        raft: &'a Raft,
    },
    /// The state machine applied an entry.
    Applied {
        /// The entry.
        entry: &'a Entry,
        /// The hash of the state afterwards.
        replica_hash: u64,
    },
    /// The state up to here is durable.
    Flushed {
        /// The last entry it covers.
        applied: Position,
    },
    /// A received snapshot became the state.
    SnapshotInstalled {
        /// What it covers.
        applied: Position,
        /// The hash of the state.
        replica_hash: u64,
    },
}

impl<'a> Kind<'a> {
    /// The part of `event` that invariants judge, if any.
    pub fn of(event: &Event<'a>) -> Option<Self> {
        Some(match *event {
            Event::Opened { raft, applied, replica_hash } => Self::Opened { raft, applied, replica_hash },
            Event::Stepped { input, effects, raft } => Self::Stepped { input: input?, effects, raft },
            Event::Applied { entry, replica_hash, .. } => Self::Applied { entry, replica_hash },
            Event::Flushed { applied } => Self::Flushed { applied },
            Event::SnapshotInstalled { applied, replica_hash } => {
                Self::SnapshotInstalled { applied, replica_hash }
            }
            _ => return None,
        })
    }
}

/// One event with what is known after it.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// Where it happened.
    pub node: NodeId,
    /// How often that node was opened by then.
    pub incarnation: u64,
    /// When: simulated nanoseconds, or the number of the step.
    pub at: u64,
    /// Are these nanoseconds?
    pub is_timed: bool,
    /// What happened.
    pub kind: Kind<'a>,
    /// That node.
    pub me: &'a NodeFacts,
    /// Everything else.
    pub facts: &'a Facts,
}

impl Step<'_> {
    /// A violation of `oracle`. `what` says which kind, in words that do not vary from run to run.
    fn violation(&self, oracle: &'static str, what: &str, message: String) -> Violation {
        let when = if self.is_timed {
            format!("{:.6} s", self.at as f64 / 1e9)
        } else {
            format!("step {}", self.at)
        };
        Violation {
            oracle: oracle.into(),
            fingerprint: format!("{oracle}: {what}"),
            message: format!("{} (incarnation {}) at {when}: {message}", self.node, self.incarnation),
        }
    }
}

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Violation {
    /// Which one.
    pub oracle: String,
    /// The oracle and the kind of violation, without anything that varies between runs of the same bug.
    pub fingerprint: String,
    /// A sentence with the numbers.
    pub message: String,
}

/// A property that holds after every step.
pub trait Invariant {
    /// Its stable name.
    fn id(&self) -> &'static str;

    /// Judges one step.
    fn step(&mut self, step: &Step<'_>) -> Result<(), Violation>;

    /// How often it really compared something.
    fn judged(&self) -> u64;
}

/// All invariants, in order.
pub struct Suite {
    facts: Facts,
    invariants: Vec<Box<dyn Invariant + Send>>,
}

impl Default for Suite {
    fn default() -> Self {
        Self {
            facts: Facts::default(),
            invariants: vec![
                Box::<vote_once::VoteOnce>::default(),
                Box::<election_safety::ElectionSafety>::default(),
                Box::<leader_completeness::LeaderCompleteness>::default(),
                Box::<leader_append_only::LeaderAppendOnly>::default(),
                Box::<log_matching::LogMatching>::default(),
                Box::<commit_current_term::CommitCurrentTerm>::default(),
                Box::<ack_durable::AckDurable>::default(),
                Box::<state_machine_safety::StateMachineSafety>::default(),
                Box::<read_index::ReadIndex>::default(),
                Box::<snapshot::Snapshot>::default(),
                Box::<monotonic::Monotonic>::default(),
                Box::<pre_vote::PreVote>::default(),
                Box::<check_quorum::CheckQuorum>::default(),
                Box::<transfer::Transfer>::default(),
            ],
        }
    }
}

impl Suite {
    /// The invariants whose ids are in `ids`; unknown ids are ignored.
    pub fn only(ids: &[&str]) -> Self {
        let mut suite = Self::default();
        suite.invariants.retain(|invariant| ids.contains(&invariant.id()));
        suite
    }

    /// The state of `node` has been damaged from outside: it may be wiped, and begin anew.
    pub fn state_is_bad(&mut self, node: NodeId) {
        self.facts.state_is_bad(node);
    }

    /// Judges an event of a whole node; `at` is in simulated nanoseconds.
    pub fn observe(&mut self, node: NodeId, at: u64, event: &Event<'_>) -> Result<(), Violation> {
        Kind::of(event).map_or(Ok(()), |kind| self.judge(node, at, kind, true))
    }

    /// Judges one step of a core; `at` is its number.
    pub fn step(&mut self, node: NodeId, at: u64, kind: Kind<'_>) -> Result<(), Violation> {
        self.judge(node, at, kind, false)
    }

    fn judge(&mut self, node: NodeId, at: u64, kind: Kind<'_>, is_timed: bool) -> Result<(), Violation> {
        self.facts.update(node, &kind);
        let me = &self.facts.nodes[&node];
        let step = Step { node, incarnation: me.incarnation, at, is_timed, kind, me, facts: &self.facts };
        self.invariants.iter_mut().try_for_each(|invariant| invariant.step(&step))
    }

    /// How often each invariant compared something.
    pub fn judged(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.invariants.iter().map(|invariant| (invariant.id(), invariant.judged()))
    }

    /// What is known about the nodes.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }
}

#[cfg(test)]
mod tests;
