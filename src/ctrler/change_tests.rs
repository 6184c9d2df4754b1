//! Changes by example, what is refused, and random histories of changes.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::change::config_after;
use super::rebalance::Seat;
use super::rebalance_tests::by_brute_force;
use super::{Change, Config, Refusal, SHARDS_MAX};
use crate::addresses::Addresses;
use crate::types::{ConfigNum, GroupId, ShardId};

fn at(group: u64, version: u64) -> Addresses {
    format!("10.{version}.0.{group}:1,10.{version}.0.{group}:2").parse().unwrap()
}

fn groups(ids: &[u64]) -> BTreeMap<GroupId, Addresses> {
    ids.iter().map(|id| (GroupId(*id), at(*id, 0))).collect()
}

fn join(ids: &[u64]) -> Change {
    Change::Join(groups(ids))
}

fn leave(ids: &[u64]) -> Change {
    Change::Leave(ids.iter().copied().map(GroupId).collect())
}

fn move_to(shard: u64, group: u64) -> Change {
    Change::Move { shard: ShardId(shard), group: GroupId(group) }
}

fn unpin(shard: u64) -> Change {
    Change::Unpin { shard: ShardId(shard) }
}

/// The owners, as `1 1 2! -`.
fn owners(config: &Config) -> String {
    let owner = |placement: &super::Placement| {
        let owner = placement.owner.map_or("-".to_owned(), |group| group.to_string());
        owner + if placement.pinned { "!" } else { "" }
    };
    config.shards.iter().map(owner).collect::<Vec<_>>().join(" ")
}

#[test]
fn groups_come_and_go() {
    let mut config = Config::empty(6);
    for (change, after) in [
        (join(&[1]), "1 1 1 1 1 1"),
        (join(&[2, 3]), "1 1 2 2 3 3"),
        (leave(&[2]), "1 1 1 3 3 3"),
        (leave(&[1, 3]), "- - - - - -"),
        (join(&[1, 3]), "1 1 1 3 3 3"),
    ] {
        config = change.apply(&config).unwrap();
        assert_eq!(owners(&config), after, "{change:?}");
        config.check().unwrap();
    }
    assert_eq!(config.num, ConfigNum(5));
    assert_eq!(config.groups, groups(&[1, 3]));
    assert_eq!(config.left, BTreeMap::new(), "nobody's data is at group 2 any more");
    let left = config_after(&[join(&[1, 2, 3]), leave(&[2])], 6);
    assert_eq!(left.left, groups(&[2]), "but while its shards are on their way it can be asked");
}

#[test]
fn eraft_b31_what_nobody_owns_comes_from_who_had_it_last() {
    let gone = config_after(&[join(&[1]), leave(&[1])], 2);
    let placement = gone.placement(ShardId(0)).unwrap();
    assert_eq!((placement.owner, placement.epoch), (None, ConfigNum(2)));
    let config = join(&[2]).apply(&gone).unwrap();
    let source = config.placement(ShardId(0)).unwrap().source.unwrap();
    assert_eq!((source.group, source.epoch), (GroupId(1), ConfigNum(1)));
    assert_eq!(config.addresses(GroupId(1)), Some(&at(1, 0)), "and it can be asked");
    assert_eq!(config.moves_since(&gone), 2);
    let back = join(&[1]).apply(&gone).unwrap();
    assert_eq!(back.moves_since(&gone), 0, "the data is there already");
}

#[test]
fn eraft_b34_a_moved_shard_stays_until_it_is_unpinned() {
    let mut config = config_after(&[join(&[1, 2]), move_to(0, 2)], 6);
    assert_eq!(owners(&config), "2! 1 1 1 2 2", "and another one goes back, for balance");
    for change in [join(&[3]), join(&[4]), leave(&[1]), leave(&[3])] {
        config = change.apply(&config).unwrap();
        assert!(owners(&config).starts_with("2! "), "{change:?}: {}", owners(&config));
    }
    let unpinned = unpin(0).apply(&config).unwrap();
    assert!(owners(&unpinned).starts_with("2 "), "unpinning by itself moves nothing that is level");
    let left = leave(&[2]).apply(&config).unwrap();
    assert_eq!(owners(&left), "4 4 4 4 4 4", "a pin ends with its group");
}

#[test]
fn a_shard_may_be_pinned_where_it_is_and_pinned_anew() {
    let config = config_after(&[join(&[1, 2]), move_to(0, 1)], 4);
    assert_eq!(owners(&config), "1! 1 2 2");
    let config = move_to(0, 2).apply(&config).unwrap();
    assert_eq!(owners(&config), "2! 1 1 2");
}

#[test]
fn eraft_b18_a_joined_group_gets_new_addresses_by_an_update_that_moves_nothing() {
    let before = config_after(&[join(&[1, 2])], 4);
    let update = Change::Update([(GroupId(1), at(1, 1))].into());
    let after = update.apply(&before).unwrap();
    assert_eq!((after.num, &after.shards), (ConfigNum(2), &before.shards));
    assert_eq!(after.addresses(GroupId(1)), Some(&at(1, 1)));
    assert_eq!(update.apply(&after), Err(Refusal::NothingChanges));
}

#[test]
fn a_rollback_is_a_new_config_with_the_old_placement_and_the_present_addresses() {
    let old = config_after(&[join(&[1, 2]), move_to(0, 2)], 6);
    let update = Change::Update([(GroupId(1), at(1, 1))].into());
    let mut config = old.clone();
    for change in [join(&[3]), leave(&[2]), update, Change::Rollback(old.clone())] {
        config = change.apply(&config).unwrap();
        config.check().unwrap();
    }
    assert_eq!((config.num, owners(&config)), (ConfigNum(6), owners(&old)));
    assert_eq!(config.groups, BTreeMap::from([(GroupId(1), at(1, 1)), (GroupId(2), at(2, 0))]));
    let came_from =
        config.shards_of(GroupId(2)).map(|shard| config.placement(shard).unwrap().source.unwrap().group);
    assert!(came_from.into_iter().all(|group| group != GroupId(2)), "data made since is not undone");
    assert_eq!(Change::Rollback(old).apply(&config), Err(Refusal::NothingChanges));
}

#[test]
fn eraft_b08_eraft_b09_eraft_b10_a_bad_change_makes_no_config() {
    let config = config_after(&[join(&[1, 2]), move_to(3, 2)], 10);
    let taken =
        |group: u64, addresses: &str| Change::Join([(GroupId(group), addresses.parse().unwrap())].into());
    for (change, sentence) in [
        (join(&[]), "no group is named"),
        (leave(&[]), "no group is named"),
        (Change::Update(BTreeMap::new()), "no group is named"),
        (join(&[0]), "group 0 is nobody; group ids start at 1"),
        (join(&[3, 0]), "group 0 is nobody; group ids start at 1"),
        (leave(&[0]), "group 0 is nobody; group ids start at 1"),
        (move_to(0, 0), "group 0 is nobody; group ids start at 1"),
        (join(&[3, 1]), "group 1 is joined already; update its addresses instead"),
        (leave(&[1, 999]), "group 999 is not joined"),
        (move_to(9, 999), "group 999 is not joined"),
        (Change::Update(groups(&[3])), "group 3 is not joined"),
        (move_to(10, 1), "shard 10 does not exist; there are 10, 0 to 9"),
        (move_to(u64::MAX, 1), "shard 18446744073709551615 does not exist; there are 10, 0 to 9"),
        (unpin(10), "shard 10 does not exist; there are 10, 0 to 9"),
        (unpin(4), "shard 4 is not pinned"),
        (move_to(3, 2), "shard 3 is pinned to group 2 already"),
        (taken(3, "h:1,10.0.0.2:1"), "group 3: 10.0.0.2:1 is an address of group 2 already"),
        (Change::Rollback(config.clone()), "it would change nothing"),
    ] {
        assert_eq!(change.apply(&config).unwrap_err().to_string(), sentence, "{change:?}");
    }
    let both = Change::Join([(GroupId(3), at(3, 0)), (GroupId(4), at(3, 0))].into());
    assert!(matches!(both.apply(&config), Err(Refusal::AddressTaken { .. })));
    let swap = Change::Update([(GroupId(1), at(2, 0)), (GroupId(2), at(1, 0))].into());
    assert!(swap.apply(&config).is_ok(), "what counts is how it is afterwards");
}

/// A change of any kind, good or bad. Rollbacks go to one of the configs so far.
#[derive(Clone, Debug)]
enum Wish {
    Do(Change),
    RollBack(prop::sample::Index),
}

fn wish() -> impl Strategy<Value = Wish> {
    let ids = || prop::collection::btree_set(0..9u64, 0..4);
    let named = |ids: BTreeSet<u64>| ids.into_iter().collect::<Vec<_>>();
    prop_oneof![
        4 => ids().prop_map(move |ids| Wish::Do(join(&named(ids)))),
        3 => ids().prop_map(move |ids| Wish::Do(leave(&named(ids)))),
        4 => (0..14u64, 0..9u64).prop_map(|(shard, group)| Wish::Do(move_to(shard, group))),
        2 => (0..14u64).prop_map(|shard| Wish::Do(unpin(shard))),
        1 => (0..9u64, 0..3u64).prop_map(|(group, version)|
            Wish::Do(Change::Update([(GroupId(group), at(group, version))].into()))),
        1 => any::<prop::sample::Index>().prop_map(Wish::RollBack),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn whatever_the_history_every_config_is_whole_and_level(
        shards in prop_oneof![60 => 1..13usize, 1 => Just(SHARDS_MAX)], wishes in prop::collection::vec(wish(), 1..24),
    ) {
        let mut configs = vec![Config::empty(shards)];
        for wish in wishes {
            let before = configs.last().unwrap().clone();
            let change = match wish {
                Wish::Do(change) => change,
                Wish::RollBack(to) => Change::Rollback(to.get(&configs).clone()),
            };
            let result = change.apply(&before);
            prop_assert_eq!(&result, &change.apply(&before.clone()));
            let Ok(after) = result else { continue };
            prop_assert_eq!(after.check(), Ok(()));
            prop_assert_eq!(after.num, before.num.next());
            prop_assert_eq!(after.shards.len(), shards);
            for (placement, was) in after.shards.iter().zip(&before.shards) {
                if placement.owner == was.owner {
                    prop_assert_eq!((placement.epoch, placement.source), (was.epoch, was.source));
                } else {
                    prop_assert_eq!(placement.epoch, after.num);
                    prop_assert_eq!(placement.source.map(|source| source.group), was.home());
                }
            }
            let mut totals: BTreeMap<GroupId, (usize, usize)> =
                after.groups.keys().map(|group| (*group, (0, 0))).collect();
            for placement in &after.shards {
                let Some(owner) = placement.owner else { continue };
                let total = totals.get_mut(&owner).unwrap();
                *total = (total.0 + 1, total.1 + usize::from(placement.pinned));
            }
            let least = totals.values().map(|(total, _)| *total).min().unwrap_or(0);
            for (total, pinned) in totals.values() {
                prop_assert!(total == pinned || *total <= least + 1, "{:?}: {:?}", change, totals);
            }
            if matches!(change, Change::Join(_)) && !before.groups.is_empty() {
                let new = |owner: Option<GroupId>| owner.is_some_and(|g| !before.groups.contains_key(&g));
                let moved = after.shards.iter().zip(&before.shards).filter(|(now, then)| now.owner != then.owner);
                prop_assert!(moved.into_iter().all(|(now, _)| new(now.owner)), "who joins takes, the others stay");
            }
            configs.push(after);
        }
    }
}

/// The pins that `change` leaves.
fn pins_after(before: &Config, change: &Change) -> BTreeMap<ShardId, GroupId> {
    let pinned = before.placements().filter(|(_, placement)| placement.pinned);
    let mut pins: BTreeMap<_, _> =
        pinned.map(|(shard, placement)| (shard, placement.owner.unwrap())).collect();
    match change {
        Change::Leave(groups) => pins.retain(|_, group| !groups.contains(group)),
        Change::Move { shard, group } => drop(pins.insert(*shard, *group)),
        Change::Unpin { shard } => drop(pins.remove(shard)),
        Change::Join(_) | Change::Update(_) | Change::Rollback(_) => {}
    }
    pins
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn in_small_cases_every_change_makes_the_best_of_all_configs(
        shards in 1..6usize,
        wishes in prop::collection::vec((wish(), 1..4u64, 0..5u64), 1..12),
    ) {
        let mut configs = vec![Config::empty(shards)];
        for (wish, group, shard) in wishes {
            let before = configs.last().unwrap().clone();
            let group = GroupId(group);
            let change = match wish {
                // Of few groups, so that all assignments can be looked at.
                Wish::Do(Change::Join(_)) => join(&[group.0]),
                Wish::Do(Change::Leave(_)) => leave(&[group.0]),
                Wish::Do(Change::Update(_)) => Change::Update([(group, at(group.0, shard))].into()),
                Wish::Do(Change::Unpin { .. }) => unpin(shard),
                Wish::Do(_) => move_to(shard, group.0),
                Wish::RollBack(to) => Change::Rollback(to.get(&configs).clone()),
            };
            let Ok(after) = change.apply(&before) else { continue };
            let owners = |config: &Config| config.shards.iter().map(|placement| placement.owner).collect::<Vec<_>>();
            let joined = |config: &Config| config.groups.keys().copied().collect::<BTreeSet<_>>();
            let mut groups = joined(&before);
            match &change {
                Change::Join(new) => groups.extend(new.keys()),
                Change::Leave(gone) => groups.retain(|group| !gone.contains(group)),
                _ => {}
            }
            if let Change::Rollback(to) = &change {
                prop_assert_eq!(owners(&after), owners(to));
                prop_assert_eq!(joined(&after), joined(to));
                prop_assert_eq!(pins_after(&after, &join(&[])), pins_after(to, &join(&[])));
                configs.push(after);
                continue;
            }
            prop_assert_eq!(&joined(&after), &groups);
            let pins = pins_after(&before, &change);
            prop_assert_eq!(&pins_after(&after, &join(&[])), &pins, "a pin stays until it is unpinned");
            let seat = |(shard, placement): (ShardId, &super::Placement)| match pins.get(&shard) {
                Some(group) => Seat::Pinned(*group),
                None => Seat::Free(placement.home()),
            };
            let seats: Vec<Seat> = before.placements().map(seat).collect();
            let best = if groups.is_empty() { vec![None; shards] } else { by_brute_force(&seats, &groups) };
            if matches!(change, Change::Update(_)) {
                prop_assert_eq!(&after.shards, &before.shards, "an update moves nothing");
            } else {
                prop_assert_eq!(owners(&after), best, "{:?} after {}", change, self::owners(&before));
            }
            configs.push(after);
        }
    }
}
