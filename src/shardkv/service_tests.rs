//! What clients and other groups ask, and how it is answered, without a network.

use super::testing::{Map, World, key_of};
use super::*;
use crate::kv::{KvAnswer, KvLimits, KvQuery};
use crate::machine::StateMachine as _;
use crate::mutants::Mutants;
use crate::proto::kv::{self as kvpb, RefusedReason, command as kvcommand, done, mutation, request};
use crate::proto::shardkv as pb;
use crate::service::{Refusal, Served as _, Wanted};
use crate::types::{ConfigNum, GroupId, Index, ShardId};

fn machine() -> ShardMachine {
    ShardMachine::new(GroupId(1), KvLimits::default(), Mutants::default()).unwrap()
}

fn refused<Q: std::fmt::Debug>(wanted: Wanted<Q>) -> Refusal {
    match wanted {
        Wanted::Refused(refusal) => refusal,
        other => panic!("{other:?} is not refused"),
    }
}

fn get() -> request::Operation {
    request::Operation::Get(kvpb::Get { key: "a".into(), stale: false })
}

fn put(value_bytes: usize) -> request::Operation {
    let put = kvpb::Put { key: "a".into(), value: vec![0; value_bytes].into() };
    let mutation = Some(kvpb::Mutation { operation: Some(mutation::Operation::Put(put)) });
    request::Operation::Execute(kvpb::Execute { mutation, ..kvpb::Execute::default() })
}

fn reign(group: u64, epoch: u64) -> Option<pb::Reign> {
    Some(pb::Reign { group, epoch })
}

#[test]
fn a_clients_request_names_its_shard() {
    let machine = machine();
    let wanted = machine.take(get(), Some(ShardId(3)));
    assert!(matches!(wanted, Wanted::Query { query: ShardQuery::Kv { shard: ShardId(3), .. }, .. }));
    let execute = machine.take(put(1), Some(ShardId(3)));
    assert!(matches!(execute, Wanted::Command(kvcommand::Operation::Execute(_))));
    for operation in [get(), put(1)] {
        assert_eq!(refused(machine.take(operation, None)).detail, "the request names no shard");
    }
    let too_large = refused(machine.take(put(2 << 20), Some(ShardId(3))));
    assert_eq!(too_large.reason, RefusedReason::RefusedTooLarge, "it need not go through the log");
    let report = request::Operation::Report(crate::proto::ctrler::Report::default());
    assert_eq!(refused(machine.take(report, None)).reason, RefusedReason::RefusedNotServed);
}

#[test]
fn another_group_is_answered_if_it_means_this_one() {
    let machine = machine();
    let pull = |source, by| {
        request::Operation::Pull(pb::Pull { shard: 3, source, by, after: "k".into(), pairs_max: 0 })
    };
    match machine.take(pull(reign(1, 4), reign(2, 5)), None) {
        Wanted::Query { query: ShardQuery::Pull { shard, epoch, by, after, .. }, stale: true, .. } => {
            let expected = (ShardId(3), ConfigNum(4), Reign { group: GroupId(2), epoch: ConfigNum(5) });
            assert_eq!((shard, epoch, by, &after[..]), (expected.0, expected.1, expected.2, &b"k"[..]));
        }
        other => panic!("{other:?}"),
    }
    let arrived = |source, by| request::Operation::Arrived(pb::Arrived { shard: 3, source, by });
    assert!(matches!(machine.take(arrived(reign(1, 4), reign(2, 5)), None), Wanted::Entry(_)));
    for (source, by, detail) in [
        (reign(7, 4), reign(2, 5), "this is group 1, not group 7"),
        (None, reign(2, 5), "a move from nobody or to nobody"),
        (reign(1, 4), None, "a move from nobody or to nobody"),
    ] {
        assert_eq!(refused(machine.take(pull(source, by), None)).detail, detail);
        assert_eq!(refused(machine.take(arrived(source, by), None)).detail, detail);
    }
    for by in [reign(0, 5), reign(2, 4)] {
        let refusal = refused(machine.take(pull(reign(1, 4), by), None));
        assert_eq!(refusal.reason, RefusedReason::RefusedMalformed, "{by:?}");
    }
}

#[test]
fn who_fetches_a_shard_says_how_much_a_part_may_hold_and_the_source_bounds_it() {
    let machine = machine();
    for (pairs_max, expected) in
        [(0, CHUNK_LIMIT.pairs_max), (1, 1), (7, 7), (u64::MAX, CHUNK_LIMIT.pairs_max)]
    {
        let (source, by) = (reign(1, 4), reign(2, 5));
        let pull = pb::Pull { shard: 3, source, by, after: "k".into(), pairs_max };
        match machine.take(request::Operation::Pull(pull), None) {
            Wanted::Query { query: ShardQuery::Pull { limit, .. }, .. } => {
                assert_eq!((limit.pairs_max, limit.bytes_max), (expected, CHUNK_LIMIT.bytes_max));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_shard_that_is_not_served_here_is_a_redirect_that_says_how_far_the_group_is() {
    for (why, reason) in [
        (NotServed::Elsewhere, RefusedReason::RefusedElsewhere),
        (NotServed::NotArrived, RefusedReason::RefusedNotArrived),
    ] {
        let config = ConfigNum(7);
        let to_a_command = ShardMachine::told(ShardReply::NotServed { why, config }).unwrap_err();
        let to_a_question =
            ShardMachine::answered(ShardAnswer::NotServed { why, config }, Index(9)).unwrap_err();
        assert_eq!(to_a_command, to_a_question);
        assert_eq!((to_a_command.reason, to_a_command.config), (reason, config));
    }
}

#[test]
fn clients_are_told_the_shards_position_and_not_the_logs_index() {
    let answer = KvAnswer::Value { value: None };
    let (result, position) = ShardMachine::answered(ShardAnswer::Kv(answer, 30), Index(9)).unwrap();
    assert!(matches!(result, done::Result::Get(kvpb::GetResult { value: None })));
    assert_eq!(position, 39);
    let told = ShardMachine::told(ShardReply::Adopted(ConfigNum(1))).unwrap_err();
    assert_eq!(told.reason, RefusedReason::RefusedMalformed);
}

#[test]
fn a_key_of_another_shard_is_not_looked_for_here() {
    let mut world = World::new(1, 4);
    assert!(world.join(1));
    world.settle_all();
    let group = &world.groups[&GroupId(1)];
    let ask = |shard| {
        let query = KvQuery::Get { key: key_of(2, 4).into() };
        group.read(ShardQuery::Kv { shard: ShardId(shard), query })
    };
    assert!(matches!(ask(2), ShardAnswer::Kv(..)));
    assert_eq!(ask(1), ShardAnswer::Refused("the key is of another shard".to_owned()));
}

#[test]
fn operators_see_users_keys_and_no_sessions_among_them() {
    let mut world = World::new(1, 4);
    assert!(world.join(1));
    world.settle_all();
    let shard = ShardId(2);
    world.group(1).open(shard, 1);
    world.group(1).append(4, 1, 1, &key_of(2, 4), "value");
    let mut status = crate::proto::admin::Status::default();
    let group = &world.groups[&GroupId(1)];
    ShardMachine::add_status(group.read(ShardMachine::status_query()), &mut status);
    assert_eq!((status.group, status.config, status.sessions, status.shards.len()), (1, 1, 1, 4));
    let of = &status.shards[2];
    assert_eq!((of.shard, &of.state[..], of.epoch, of.keys), (2, "Serving", 1, 1));
    assert!(of.bytes > 5, "the session counts as bytes");
    let nothing = machine().read(&Map::new(), &ShardQuery::Status).unwrap();
    assert!(matches!(nothing, ShardAnswer::Status { config: ConfigNum(0), held, .. } if held.is_empty()));
}
