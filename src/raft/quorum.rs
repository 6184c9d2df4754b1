//! Majorities: pure arithmetic over a [`Membership`].
//!
//! Invariant: in every rule below a learner counts for nothing, and while a membership is joint both its sets of
//! voters have to agree. An empty set of voters decides nothing (it never votes and never commits), except that an
//! empty `outgoing` means that no change is under way.

use std::collections::BTreeSet;

use super::membership::Membership;
use crate::types::{Index, NodeId};

/// How many of `voters` are a majority: more than half. (eRaft took half of an even number: B15.)
pub fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

/// The state of a vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A quorum said yes.
    Won,
    /// A quorum can no longer say yes.
    Lost,
    /// Not decided.
    Pending,
}

/// Tallies a vote; `answer` is what a voter said, if anything.
pub fn tally(membership: &Membership, answer: impl Fn(NodeId) -> Option<bool>) -> Outcome {
    let one = |voters: &BTreeSet<NodeId>| {
        let yes = voters.iter().filter(|voter| answer(**voter) == Some(true)).count();
        let no = voters.iter().filter(|voter| answer(**voter) == Some(false)).count();
        let needed = majority(voters.len());
        if yes >= needed {
            Outcome::Won
        } else if voters.len() - no < needed {
            Outcome::Lost
        } else {
            Outcome::Pending
        }
    };
    let voters = one(&membership.voters);
    if membership.outgoing.is_empty() {
        return voters;
    }
    match (voters, one(&membership.outgoing)) {
        (Outcome::Won, Outcome::Won) => Outcome::Won,
        (Outcome::Lost, _) | (_, Outcome::Lost) => Outcome::Lost,
        _ => Outcome::Pending,
    }
}

/// Whether the voters for which `holds` is true are a quorum.
pub fn is_quorum(membership: &Membership, holds: impl Fn(NodeId) -> bool) -> bool {
    tally(membership, |voter| Some(holds(voter))) == Outcome::Won
}

/// The highest index that a quorum has, given what each voter has.
pub fn committed(membership: &Membership, matched: impl Fn(NodeId) -> Index) -> Index {
    kth_highest(membership, matched, majority)
}

/// [`committed`] with the size of a quorum as a parameter, so that a planted bug can get it wrong.
pub(super) fn kth_highest(
    membership: &Membership,
    matched: impl Fn(NodeId) -> Index,
    quorum: impl Fn(usize) -> usize,
) -> Index {
    let one = |voters: &BTreeSet<NodeId>| {
        let mut indexes: Vec<Index> = voters.iter().map(|voter| matched(*voter)).collect();
        indexes.sort_unstable();
        let needed = quorum(voters.len()).max(1);
        indexes.len().checked_sub(needed).map_or(Index(0), |at| indexes[at])
    };
    let voters = one(&membership.voters);
    if membership.outgoing.is_empty() { voters } else { voters.min(one(&membership.outgoing)) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn node_set() -> impl Strategy<Value = BTreeSet<NodeId>> {
        proptest::collection::btree_set((1..8u64).prop_map(NodeId), 0..6)
    }

    fn memberships() -> impl Strategy<Value = Membership> {
        (node_set(), node_set(), node_set()).prop_map(|(voters, outgoing, learners)| Membership {
            voters,
            outgoing,
            learners,
        })
    }

    /// The definition, by trying every index.
    fn committed_by_definition(membership: &Membership, matched: &BTreeMap<NodeId, Index>) -> Index {
        let has = |voter: &NodeId, index| matched.get(voter).copied().unwrap_or_default() >= index;
        let set_has = |set: &BTreeSet<NodeId>, index| {
            2 * set.iter().filter(|voter| has(voter, index)).count() > set.len()
        };
        (0..20)
            .map(Index)
            .filter(|index| {
                set_has(&membership.voters, *index)
                    && (membership.outgoing.is_empty() || set_has(&membership.outgoing, *index))
            })
            .max()
            .unwrap_or_default()
    }

    proptest! {
        #[test]
        fn the_committed_index_is_the_highest_that_a_quorum_has(
            membership in memberships(),
            matched in proptest::collection::btree_map((1..8u64).prop_map(NodeId), (0..20u64).prop_map(Index), 0..8),
        ) {
            let found = committed(&membership, |node| matched.get(&node).copied().unwrap_or_default());
            prop_assert_eq!(found, committed_by_definition(&membership, &matched));
        }

        #[test]
        fn any_two_winning_sets_share_a_voter(membership in memberships(), a in node_set(), b in node_set()) {
            let wins = |set: &BTreeSet<NodeId>| is_quorum(&membership, |node| set.contains(&node));
            if wins(&a) && wins(&b) {
                prop_assert!(a.intersection(&b).any(|node| membership.is_voter(*node)));
            }
        }

        #[test]
        fn a_vote_is_decided_exactly_when_the_silent_cannot_change_it(
            membership in memberships(),
            answers in proptest::collection::btree_map((1..8u64).prop_map(NodeId), any::<bool>(), 0..8),
        ) {
            let if_silent_say = |say: bool| {
                is_quorum(&membership, |node| answers.get(&node).copied().unwrap_or(say))
            };
            let expected = match (if_silent_say(false), if_silent_say(true)) {
                (true, _) => Outcome::Won,
                (false, false) => Outcome::Lost,
                (false, true) => Outcome::Pending,
            };
            prop_assert_eq!(tally(&membership, |node| answers.get(&node).copied()), expected);
        }

        #[test]
        fn learners_count_for_nothing(membership in memberships(), learners in node_set(), yes in node_set()) {
            let with = Membership { learners, ..membership.clone() };
            prop_assert_eq!(
                is_quorum(&membership, |node| yes.contains(&node)),
                is_quorum(&with, |node| yes.contains(&node))
            );
        }
    }

    #[test]
    fn eraft_b15_half_is_not_a_majority() {
        assert_eq!([1, 2, 3, 4, 5].map(majority), [1, 2, 2, 3, 3]);
    }
}
