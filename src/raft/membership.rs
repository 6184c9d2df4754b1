//! Who belongs to a group: voters, learners, and during a change two sets of voters (joint consensus,
//! dissertation section 4.3).

use std::collections::BTreeSet;

use crate::types::NodeId;

/// The members of a group. While `outgoing` is not empty, decisions need a majority of `voters` *and* one of
/// `outgoing`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Membership {
    /// Who decides from now on.
    pub voters: BTreeSet<NodeId>,
    /// Who decided before; empty unless a change is under way.
    pub outgoing: BTreeSet<NodeId>,
    /// Who gets the log and decides nothing.
    pub learners: BTreeSet<NodeId>,
}

impl Membership {
    /// A group of voters.
    pub fn of(voters: impl IntoIterator<Item = NodeId>) -> Self {
        Self { voters: voters.into_iter().collect(), ..Self::default() }
    }

    /// Whether `node` has a vote.
    pub fn is_voter(&self, node: NodeId) -> bool {
        self.voters.contains(&node) || self.outgoing.contains(&node)
    }

    /// Everyone who gets the log, each once, in order.
    pub fn members(&self) -> BTreeSet<NodeId> {
        self.voters.iter().chain(&self.outgoing).chain(&self.learners).copied().collect()
    }

    /// The number of places in the three sets.
    pub fn len(&self) -> usize {
        self.voters.len() + self.outgoing.len() + self.learners.len()
    }

    /// True if nobody belongs to the group.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
