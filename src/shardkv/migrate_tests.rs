//! The life of a shard at a group, step by step.

use super::testing::*;
use super::*;
use crate::proto::shardkv::{self as pb, command};
use crate::types::{ConfigNum, GroupId, ShardId};

/// Groups 1 and 2, one shard, which is at group 1 with client 1's session open.
fn one_shard() -> (World, String) {
    let mut world = World::new(3, 1);
    world.join(1);
    world.settle(&[1]);
    let key = key_of(0, 1);
    world.group(1).open(ShardId(0), 1);
    (world, key)
}

fn chore(world: &World, group: u64) -> (ShardId, Chore) {
    let chores = world.groups[&GroupId(group)].chores();
    assert_eq!(chores.len(), 1, "{chores:?}");
    chores[0].clone()
}

#[test]
fn a_shard_that_nobody_had_is_served_at_once() {
    let (mut world, key) = one_shard();
    assert_eq!(world.group(1).state(0), [ShardState::Serving]);
    assert!(is_done(&world.group(1).append(1, 1, 1, &key, "a")));
    world.check_settled();
}

#[test]
fn a_shard_goes_through_every_state_and_back() {
    let (mut world, key) = one_shard();
    for (sequence, value) in ["a", "b", "c", "d"].iter().enumerate() {
        world.group(1).append(1, 1, sequence as u64, &key, value);
    }
    world.join(2);
    world.pin(0, 2);
    while world.adopt_next(2) {}
    assert_eq!(world.group(2).state(0), [ShardState::Pulling]);
    let (shard, pull) = chore(&world, 2);
    assert!(world.start(2, shard, &pull).is_none(), "the source has not adopted the config");
    assert!(world.groups[&GroupId(1)].serves(0), "and serves");

    while world.adopt_next(1) {}
    assert_eq!(world.group(1).state(0), [ShardState::BePulling]);
    assert!(!world.groups[&GroupId(1)].serves(0) && !world.groups[&GroupId(2)].serves(0));
    let mut chunks = 0;
    while world.group(2).state(0) == [ShardState::Pulling] {
        let (shard, pull) = chore(&world, 2);
        let mail = world.start(2, shard, &pull).unwrap();
        world.deliver(mail);
        chunks += 1;
    }
    assert_eq!(chunks, 2, "value, session and table, two to a chunk");
    assert_eq!(world.group(2).state(0), [ShardState::GCing]);
    assert_eq!(world.groups[&GroupId(2)].get(1, &key), Some(Some(b"abcd".to_vec())), "it is served");

    let (shard, tell) = chore(&world, 2);
    let confirm = world.start(2, shard, &tell).unwrap();
    let told = world.deliver(confirm.clone()).unwrap();
    assert_eq!(world.group(1).state(0), [ShardState::Deleting]);
    assert_ne!(world.group(1).stored(0).keys, 0);
    world.deliver(told.clone());
    assert_eq!(world.group(2).state(0), [ShardState::Serving]);
    let (shard, delete) = chore(&world, 1);
    world.start(1, shard, &delete);
    assert_eq!(world.group(1).state(0), []);
    world.check_settled();

    // Everything again, late: nothing changes.
    let before = (world.group(1).map.clone(), world.group(2).map.clone());
    for mail in [confirm, told] {
        world.deliver(mail);
    }
    world.start(1, shard, &delete);
    world.adopt(1, 2);
    assert!((world.group(1).map.clone(), world.group(2).map.clone()) == before);
}

#[test]
fn a_shard_is_handed_on_only_after_it_has_arrived_and_a_dead_source_tells_nobody() {
    let (mut world, key) = one_shard();
    world.group(1).append(1, 1, 0, &key, "a");
    world.join(2);
    world.join(3);
    world.pin(0, 2);
    world.pin(0, 3);
    world.settle(&[2, 3]); // group 1 is away
    assert_eq!(world.group(2).state(0), [ShardState::Pulling], "it cannot hand on what it has not");
    assert_eq!(world.group(3).state(0), [ShardState::Pulling]);
    assert_eq!(world.adopted(3), world.config().num, "no config waits for it");
    world.settle_all();
    assert_eq!(world.groups[&GroupId(3)].get(1, &key), Some(Some(b"a".to_vec())));
    world.check_settled();
}

#[test]
fn a_group_between_two_others_tells_its_source_even_after_it_was_confirmed_itself() {
    let (mut world, key) = one_shard();
    world.group(1).append(1, 1, 0, &key, "a");
    world.join(2);
    world.join(3);
    world.pin(0, 2);
    world.pin(0, 3);
    // All but the confirmation of 2 at 1.
    for _ in 0..20 {
        for group in 1..=3 {
            world.adopt_next(group);
            for (shard, chore) in world.groups[&GroupId(group)].chores() {
                if group == 2 && matches!(chore, Chore::Tell { .. }) {
                    continue;
                }
                let mut mail = world.start(group, shard, &chore);
                while let Some(next) = mail {
                    mail = world.deliver(next);
                }
            }
        }
    }
    assert_eq!(world.group(3).state(0), [ShardState::Serving]);
    assert_eq!((world.group(2).stored(0).keys, world.group(2).state(0)), (0, vec![ShardState::Deleting]));
    assert_eq!(world.group(1).state(0), [ShardState::BePulling], "1 was not told");
    world.settle_all();
    world.check_settled();
}

#[test]
fn a_shard_that_comes_back_is_not_touched_by_deleting_what_it_was() {
    let (mut world, key) = one_shard();
    world.group(1).append(1, 1, 0, &key, "a");
    world.join(2);
    world.pin(0, 2);
    world.pin(0, 1);
    // Everything but deleting.
    for _ in 0..20 {
        for group in 1..=2 {
            world.adopt_next(group);
            for (shard, chore) in world.groups[&GroupId(group)].chores() {
                if matches!(chore, Chore::Delete { .. }) {
                    continue;
                }
                let mut mail = world.start(group, shard, &chore);
                while let Some(next) = mail {
                    mail = world.deliver(next);
                }
            }
        }
    }
    assert_eq!(world.group(1).state(0), [ShardState::Deleting, ShardState::Serving]);
    assert!(is_done(&world.group(1).append(1, 1, 1, &key, "b")));
    world.settle_all();
    assert_eq!(world.groups[&GroupId(1)].get(1, &key), Some(Some(b"ab".to_vec())));
    world.check_settled();
}

#[test]
fn eraft_b31_a_shard_that_nobody_owns_keeps_its_data_for_whoever_comes() {
    for next in [1, 2] {
        let (mut world, key) = one_shard();
        world.group(1).append(1, 1, 0, &key, "a");
        world.leave(1);
        world.settle_all();
        assert_eq!(world.group(1).state(0), [ShardState::BePulling]);
        assert!(!world.groups[&GroupId(1)].serves(0));
        world.join(next);
        world.settle_all();
        assert_eq!(world.groups[&GroupId(next)].get(1, &key), Some(Some(b"a".to_vec())), "group {next}");
        world.check_settled();
        // And on from there: its later owner asks for it by its later name.
        world.join(3);
        world.pin(0, 3);
        world.settle_all();
        assert_eq!(world.groups[&GroupId(3)].get(1, &key), Some(Some(b"a".to_vec())));
        world.check_settled();
    }
}

#[test]
fn eraft_b32_b33_a_dead_source_delays_its_own_shards_only_in_whatever_order_they_are() {
    let mut world = World::new(3, 6);
    world.join(1);
    world.join(2);
    world.settle_all();
    let of_2: Vec<u64> = world.config().shards_of(GroupId(2)).map(|shard| shard.0).collect();
    world.join(3);
    world.settle(&[1, 3]); // group 2 is dead
    world.leave(1);
    world.settle(&[1, 3]);
    assert_eq!(world.adopted(3), world.config().num);
    let owned: Vec<u64> = world.config().shards_of(GroupId(3)).map(|shard| shard.0).collect();
    let waiting: Vec<u64> =
        owned.iter().copied().filter(|shard| !world.groups[&GroupId(3)].serves(*shard)).collect();
    assert!(
        waiting.iter().all(|shard| of_2.contains(shard)),
        "{waiting:?} wait, {of_2:?} were at the dead group"
    );
    assert!(owned.len() > waiting.len() && !waiting.is_empty(), "{owned:?} {waiting:?}");
    world.settle_all();
    world.check_settled();
}

#[test]
fn the_source_gives_data_to_its_successor_only() {
    let (mut world, _) = one_shard();
    world.join(2);
    world.pin(0, 2);
    world.settle(&[1]);
    let pull = |group, epoch| ShardQuery::Pull {
        shard: ShardId(0),
        epoch: ConfigNum(1),
        by: Reign { group: GroupId(group), epoch: ConfigNum(epoch) },
        after: Vec::new(),
        limit: CHUNK_LIMIT,
    };
    for (group, epoch, given) in [(2, 3, true), (3, 3, false), (2, 2, false), (2, 4, false)] {
        let answer = world.groups[&GroupId(1)].read(pull(group, epoch));
        assert_eq!(matches!(answer, ShardAnswer::Pulled(Pulled::Chunk(_))), given, "{answer:?}");
    }
    let by = |group, epoch| Some(pb::Reign { group, epoch });
    for (by, done) in [(by(3, 3), false), (by(2, 4), false), (None, false), (by(2, 3), true)] {
        let reply = world.group(1).apply(command::Operation::Confirm(pb::Confirm { shard: 0, epoch: 1, by }));
        assert_eq!(reply == ShardReply::Done, done, "{by:?}: {reply:?}");
    }
}

#[test]
fn positions_go_on_from_owner_to_owner() {
    let (mut world, key) = one_shard();
    let position = |reply: ShardReply| match reply {
        ShardReply::Kv(_, position) => position,
        other => panic!("{other:?}"),
    };
    let mut last = 0;
    for (sequence, group) in [1, 2, 1, 3, 2].into_iter().enumerate() {
        world.join(group);
        world.pin(0, group);
        world.settle_all();
        let next = position(world.group(group).append(1, 1, sequence as u64 % 4, &key, "x"));
        assert!(next > last, "{next} after {last} at group {group}");
        last = next;
    }
}
