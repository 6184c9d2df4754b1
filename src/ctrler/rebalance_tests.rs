//! The rule of `rebalance.rs`, against all assignments that there are (small cases) and by its properties (large).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::rebalance::{Seat, assign};
use crate::types::GroupId;

fn groups(ids: &[u64]) -> BTreeSet<GroupId> {
    ids.iter().copied().map(GroupId).collect()
}

/// Seats written like `1 2! - 3`: at home at group 1; pinned to 2; nowhere; at home at 3.
fn seats(text: &str) -> Vec<Seat> {
    let seat = |word: &str| match word.strip_suffix('!') {
        Some(group) => Seat::Pinned(GroupId(group.parse().unwrap())),
        None => Seat::Free(word.parse().ok().map(GroupId)),
    };
    text.split_whitespace().map(seat).collect()
}

fn assigned(text: &str, ids: &[u64]) -> String {
    let owners = assign(&seats(text), &groups(ids));
    let owner = |owner: Option<GroupId>| owner.map_or("-".to_owned(), |group| group.to_string());
    owners.into_iter().map(owner).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_rule_by_example() {
    for (before, joined, after, why) in [
        ("- - - - -", &[][..], "- - - - -", "nobody is there"),
        ("- - - - -", &[7, 9], "7 7 7 9 9", "the lowest group has the larger share, and the lowest shards"),
        ("1 1 1 1 1", &[1, 2], "1 1 1 2 2", "the lowest shards stay at the lower group"),
        ("2 2 2 2 2", &[1, 2], "1 1 2 2 2", "the lowest shards go to the lower group; two moves, not three"),
        ("1 1 1 2 2 2", &[1, 2, 3], "1 1 3 2 2 3", "each gives as few as it can"),
        ("1 1 2 2 3 3", &[1, 3], "1 1 1 3 3 3", "only the shards of the one that left move"),
        ("1 1 2 2 2", &[1, 2], "1 1 2 2 2", "who has the larger share keeps it"),
        ("1! 1! 1! 1! - -", &[1, 2, 3], "1 1 1 1 2 3", "more pins than its share: the others share the rest"),
        ("1! 1! 1! 1! 1 2", &[1, 2], "1 1 1 1 2 2", "pins count as share"),
        ("2! 1 1 1 2 2", &[1, 2], "2 1 1 1 2 2", "level already"),
        ("1 1 1 1 4 4 4 4", &[], "- - - - - - - -", "all left"),
    ] {
        assert_eq!(assigned(before, joined), after, "{before} with {joined:?}: {why}");
    }
}

/// The rule as it is written in the module's text, over all assignments that there are.
pub(super) fn by_brute_force(seats: &[Seat], groups: &BTreeSet<GroupId>) -> Vec<Option<GroupId>> {
    let groups: Vec<GroupId> = groups.iter().copied().collect();
    let mut best = None;
    for number in 0..groups.len().pow(seats.len() as u32) {
        let owner = |shard: usize| groups[number / groups.len().pow(shard as u32) % groups.len()];
        let owners: Vec<GroupId> = (0..seats.len()).map(owner).collect();
        let pinned_elsewhere =
            |(seat, owner): (&Seat, &GroupId)| matches!(seat, Seat::Pinned(group) if group != owner);
        if seats.iter().zip(&owners).any(pinned_elsewhere) {
            continue;
        }
        let total = |group: &GroupId| owners.iter().filter(|owner| *owner == group).count();
        let totals: Vec<usize> = groups.iter().map(total).collect();
        let mut level = totals.clone();
        level.sort_by_key(|total| Reverse(*total));
        let moved =
            |(seat, owner): &(&Seat, &GroupId)| matches!(seat, Seat::Free(Some(home)) if home != *owner);
        let moves = seats.iter().zip(&owners).filter(moved).count();
        let larger_first: Vec<_> = totals.into_iter().map(Reverse).collect();
        let rank = (level, moves, larger_first, owners);
        if best.as_ref().is_none_or(|best| rank < *best) {
            best = Some(rank);
        }
    }
    best.expect("there are groups").3.into_iter().map(Some).collect()
}

/// Up to 5 shards, of which some are pinned, at home at groups 1 to 4; the groups joined are some of 1 to 3.
fn small() -> impl Strategy<Value = (Vec<Seat>, BTreeSet<GroupId>)> {
    let joined = prop::collection::btree_set((1..=3u64).prop_map(GroupId), 1..=3);
    let shard = (0..=4u64, prop::bool::weighted(0.3), any::<prop::sample::Index>());
    (joined, prop::collection::vec(shard, 1..=6)).prop_map(|(joined, shards)| {
        let ids: Vec<_> = joined.iter().copied().collect();
        let seat = |(home, pinned, at): (u64, bool, prop::sample::Index)| match pinned {
            true => Seat::Pinned(*at.get(&ids)),
            false => Seat::Free((home != 0).then_some(GroupId(home))),
        };
        (shards.into_iter().map(seat).collect(), joined)
    })
}

fn large() -> impl Strategy<Value = (Vec<Seat>, BTreeSet<GroupId>)> {
    let joined = prop::collection::btree_set((1..=40u64).prop_map(GroupId), 1..=24);
    let shard = (0..=40u64, prop::bool::weighted(0.1), any::<prop::sample::Index>());
    (joined, prop::collection::vec(shard, 1..=300)).prop_map(|(joined, shards)| {
        let ids: Vec<_> = joined.iter().copied().collect();
        let seat = |(home, pinned, at): (u64, bool, prop::sample::Index)| match pinned {
            true => Seat::Pinned(*at.get(&ids[..1 + ids.len() / 3])),
            false => Seat::Free((home != 0).then_some(GroupId(home))),
        };
        (shards.into_iter().map(seat).collect(), joined)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn in_small_cases_it_is_the_best_of_all_assignments((seats, joined) in small()) {
        prop_assert_eq!(assign(&seats, &joined), by_brute_force(&seats, &joined));
    }

    #[test]
    fn shares_are_level_and_a_balanced_assignment_stays((seats, joined) in large()) {
        let owners = assign(&seats, &joined);
        let mut totals: BTreeMap<GroupId, (usize, usize)> = joined.iter().map(|group| (*group, (0, 0))).collect();
        for (seat, owner) in seats.iter().zip(&owners) {
            let total = totals.get_mut(&owner.unwrap()).unwrap();
            total.0 += 1;
            if let Seat::Pinned(group) = seat {
                total.1 += 1;
                prop_assert_eq!(Some(*group), *owner);
            }
        }
        // Whoever could give a shard away has at most one more than anybody.
        let least = totals.values().map(|(total, _)| *total).min().unwrap();
        for (total, pinned) in totals.values() {
            prop_assert!(total == pinned || *total <= least + 1, "{:?}", totals);
        }
        let settled: Vec<Seat> = seats.iter().zip(&owners).map(|(seat, owner)| match seat {
            Seat::Pinned(group) => Seat::Pinned(*group),
            Seat::Free(_) => Seat::Free(*owner),
        }).collect();
        prop_assert_eq!(assign(&settled, &joined), owners);
    }
}

#[test]
fn the_largest_cluster_is_quick() {
    let groups: BTreeSet<GroupId> = (1..=512).map(GroupId).collect();
    let seats: Vec<Seat> = (0..4096).map(|shard| Seat::Free(Some(GroupId(1 + shard % 300)))).collect();
    let owners = assign(&seats, &groups);
    let of = |group: u64| owners.iter().filter(|owner| **owner == Some(GroupId(group))).count();
    assert!((1..=512).all(|group| of(group) == 8));
}
