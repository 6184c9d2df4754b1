//! The machine: clients' commands by shard, what travels with a shard, what is deleted, what is refused.

use std::cell::RefCell;

use prost::Message as _;

use super::testing::*;
use super::*;
use crate::kv::{KvAnswer, KvQuery, KvReply};
use crate::machine::{Content, StateMachine as _};
use crate::proto::kv::RefusedReason;
use crate::proto::shardkv::{self as pb, command};
use crate::raft::Position;
use crate::types::{ConfigNum, GroupId, Index, ShardId, Term};
use crate::view::{KeyRange, PageLimit, Pair, View, ViewError};

const SHARDS: usize = 4;

/// Group 1 has all shards, client 1 a session in each, and each shard one key with one byte.
fn served() -> World {
    let mut world = World::new(3, SHARDS);
    world.join(1);
    world.settle_all();
    for shard in 0..SHARDS as u64 {
        world.group(1).open(ShardId(shard), 1);
        assert!(is_done(&world.group(1).append(SHARDS, 1, 0, &key_of(shard, SHARDS), "a")));
    }
    world
}

#[test]
fn a_client_is_told_where_a_shard_is_not() {
    let mut world = served();
    let key = key_of(2, SHARDS);
    let elsewhere = |config| ShardReply::NotServed { why: NotServed::Elsewhere, config: ConfigNum(config) };
    assert_eq!(world.group(2).append(SHARDS, 1, 1, &key, "b"), elsewhere(1));
    assert_eq!(world.group(3).open(ShardId(99), 1), elsewhere(1), "there is no such shard");
    world.join(2);
    world.pin(2, 2);
    world.settle(&[2]);
    let waiting = ShardReply::NotServed { why: NotServed::NotArrived, config: ConfigNum(3) };
    assert_eq!(world.group(2).append(SHARDS, 1, 1, &key, "b"), waiting);
    let query = ShardQuery::Kv { shard: ShardId(2), query: KvQuery::Status };
    let not_served = ShardAnswer::NotServed { why: NotServed::NotArrived, config: ConfigNum(3) };
    assert_eq!(world.group(2).read(query), not_served);
}

#[test]
fn a_key_of_another_shard_and_what_does_not_decode_is_refused() {
    let mut world = served();
    let other = key_of(1, SHARDS);
    let mut group = world.group(1).clone();
    let command = crate::proto::kv::Command {
        limits: None,
        time_ms: 0,
        operation: Some(crate::proto::kv::command::Operation::Execute(crate::proto::kv::Execute {
            client: Some(crate::proto::kv::ClientId { high: 1, low: !1 }),
            sequence: 1,
            acknowledged_below: 0,
            mutation: Some(crate::proto::kv::Mutation {
                operation: Some(crate::proto::kv::mutation::Operation::Delete(crate::proto::kv::Delete {
                    key: other.into(),
                })),
            }),
        })),
    };
    let bytes = command.encode_to_vec();
    for (shard, command) in [(2, bytes.clone()), (2, b"\xff\xff".to_vec()), (2, Vec::new())] {
        let client = pb::Client { shard, command: command.into() };
        assert!(matches!(group.apply(command::Operation::Client(client)), ShardReply::Refused(_)));
    }
    let client = pb::Client { shard: 1, command: bytes.into() };
    assert!(is_done(&group.apply(command::Operation::Client(client))));
    for bad in [
        command::Operation::Adopt(pb::Adopt { config: b"\xff\xff"[..].into(), oldest: 0 }),
        command::Operation::Adopt(pb::Adopt::default()),
        command::Operation::Insert(pb::Insert::default()),
        command::Operation::Insert(pb::Insert { shard: 99, ..pb::Insert::default() }),
        command::Operation::Confirm(pb::Confirm::default()),
        command::Operation::Told(pb::Told { shard: 99, born: 0 }),
        command::Operation::Delete(pb::Delete { shard: u64::MAX, born: 0 }),
    ] {
        let reply = group.apply(bad.clone());
        assert!(matches!(reply, ShardReply::Refused(_)), "{bad:?}: {reply:?}");
    }
    let at = Position { index: Index(99), term: Term(1) };
    for bytes in [&b""[..], b"\xff\xff\xff", b"\x0a\x7f"] {
        let (batch, reply) = group.machine.apply(&group.map, at, bytes).unwrap();
        assert!(matches!(reply, ShardReply::Refused(_)) && batch.is_empty());
    }
}

#[test]
fn a_retry_at_the_new_owner_gets_the_reply_of_the_old_one_even_after_three_owners() {
    let mut world = served();
    let key = key_of(2, SHARDS);
    for (sequence, group) in [(1, 2), (2, 3), (3, 1)] {
        let before = world.config().placements().nth(2).unwrap().1.owner.unwrap();
        let first = world.group(before.0).append(SHARDS, 1, sequence, &key, "x");
        let ShardReply::Kv(first, _) = first else { panic!("{first:?}") };
        world.join(group);
        world.pin(2, group);
        world.settle_all();
        let ShardReply::Kv(again, _) = world.group(group).append(SHARDS, 1, sequence, &key, "x") else {
            panic!("not served")
        };
        assert_eq!(again, first);
    }
    assert_eq!(world.groups[&GroupId(1)].get(SHARDS, &key), Some(Some(b"axxx".to_vec())));
}

#[test]
fn eraft_b30_value_session_and_sum_are_one_batch() {
    let mut world = served();
    let key = key_of(2, SHARDS);
    let before = world.group(1).clone();
    assert!(is_done(&world.group(1).append(SHARDS, 1, 1, &key, "b")));
    let after = &world.groups[&GroupId(1)];
    let changed = after.map.iter().filter(|(key, value)| before.map.get(*key) != Some(*value));
    let of_shard =
        |key: &&Vec<u8>| data_of_key(key).is_some_and(|(shard, born, _)| (shard.0, born.0) == (2, 1));
    let kinds: Vec<Option<u8>> = changed
        .map(|(key, _)| if of_shard(&key) { data_of_key(key).map(|(.., key)| key[0]) } else { Some(key[0]) })
        .collect();
    for kind in [b'k', b's', b'h'] {
        assert!(kinds.contains(&Some(kind)), "{} is not among {kinds:?}", char::from(kind));
    }
    assert_eq!(after.index, before.index + 1, "by one entry, which is one batch");
    assert_eq!(after.held()[2].content, after.stored(2));
}

#[test]
fn sessions_are_of_one_shard() {
    let mut world = served();
    let reply = world.group(1).append(SHARDS, 2, 0, &key_of(1, SHARDS), "a");
    let expired = |reply: &ShardReply| {
        matches!(reply, ShardReply::Kv(KvReply::Refused { reason, .. }, _)
            if *reason == RefusedReason::RefusedSessionExpired)
    };
    assert!(expired(&reply), "{reply:?}");
    world.group(1).open(ShardId(1), 2);
    assert!(is_done(&world.group(1).append(SHARDS, 2, 0, &key_of(1, SHARDS), "a")));
    assert!(expired(&world.group(1).append(SHARDS, 2, 0, &key_of(2, SHARDS), "a")));
}

#[test]
fn eraft_b01_deleting_a_shard_leaves_its_neighbours_alone_and_a_pull_gives_that_shard_only() {
    let mut world = served();
    let neighbours: Vec<_> = [0, 2, 3].map(|shard| world.groups[&GroupId(1)].stored(shard)).into();
    let moved = world.groups[&GroupId(1)].stored(1);
    world.join(2);
    // Only shard 1 goes; the others are pinned where they are.
    for shard in [0, 2, 3] {
        world.pin(shard, 1);
    }
    world.pin(1, 2);
    world.settle_all();
    let after: Vec<_> = [0, 2, 3].map(|shard| world.groups[&GroupId(1)].stored(shard)).into();
    assert_eq!(after, neighbours);
    assert_eq!(world.groups[&GroupId(2)].stored(1), moved, "to the byte");
    assert_eq!(world.groups[&GroupId(1)].stored(1), Content::default());
    world.check_settled();
}

/// A state that notes where each page of data begins that is read.
struct Noting<'a> {
    map: &'a Map,
    starts: RefCell<Vec<Vec<u8>>>,
}

impl View for Noting<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        View::get(self.map, key)
    }

    fn page(&self, range: &KeyRange, limit: PageLimit) -> Result<Vec<Pair>, ViewError> {
        if range.start.starts_with(b"d/") {
            self.starts.borrow_mut().push(range.start.clone());
        }
        self.map.page(range, limit)
    }
}

#[test]
fn eraft_b06_b28_a_large_shard_goes_in_bounded_chunks_and_is_deleted_in_bounded_steps() {
    let mut world = World::new(2, 1);
    world.pairs_max = CHUNK_LIMIT.pairs_max;
    world.join(1);
    world.settle(&[1]);
    world.group(1).open(ShardId(0), 1);
    let value = "v".repeat(3000);
    let keys = DELETE_PAIRS_MAX + 200;
    for key in 0..keys {
        let sequence = key as u64;
        let append =
            crate::proto::kv::Append { key: format!("{key:05}").into(), value: value.clone().into() };
        let execute = crate::proto::kv::Execute {
            client: Some(crate::proto::kv::ClientId { high: 1, low: !1 }),
            sequence,
            acknowledged_below: sequence,
            mutation: Some(crate::proto::kv::Mutation {
                operation: Some(crate::proto::kv::mutation::Operation::Append(append)),
            }),
        };
        let operation = crate::proto::kv::command::Operation::Execute(execute);
        assert!(is_done(&world.group(1).client(ShardId(0), operation)));
    }
    world.join(2);
    world.pin(0, 2);
    world.settle(&[1]);
    while world.adopt_next(2) {}
    let by = Reign { group: GroupId(2), epoch: ConfigNum(3) };
    let (mut after, mut chunks) = (Vec::new(), 0);
    loop {
        let pull = ShardQuery::Pull { shard: ShardId(0), epoch: ConfigNum(1), by, after, limit: CHUNK_LIMIT };
        let ShardAnswer::Pulled(Pulled::Chunk(chunk)) = world.groups[&GroupId(1)].read(pull) else {
            panic!("no chunk")
        };
        assert!(chunk.encoded_len() < CHUNK_LIMIT.bytes_max + 64 * 1024, "{} bytes", chunk.encoded_len());
        chunks += 1;
        after = chunk.pairs.last().map(|pair| pair.key.to_vec()).unwrap_or_default();
        let last = chunk.whole.is_some();
        let insert = pb::Insert { shard: 0, born: 3, chunk: Some(chunk) };
        assert_eq!(world.group(2).apply(command::Operation::Insert(insert)), ShardReply::Inserted(true));
        if last {
            break;
        }
    }
    let bytes = world.groups[&GroupId(2)].stored(0).bytes;
    assert!(chunks as u64 >= bytes / CHUNK_LIMIT.bytes_max as u64, "{chunks} chunks for {bytes} bytes");
    let confirm = pb::Confirm { shard: 0, epoch: 1, by: Some(by.into()) };
    assert_eq!(world.group(1).apply(command::Operation::Confirm(confirm)), ShardReply::Done);
    let mut left = world.groups[&GroupId(1)].stored(0);
    let (mut steps, mut gone) = (0, None);
    while left != Content::default() {
        let delete = command::Operation::Delete(pb::Delete { shard: 0, born: 1 });
        let group = &world.groups[&GroupId(1)];
        let noting = Noting { map: &group.map, starts: RefCell::default() };
        let command = pb::Command { operation: Some(delete.clone()) }.encode_to_vec();
        let at = Position { index: Index(group.index + 1), term: Term(1) };
        let (batch, _) = group.machine.apply(&noting, at, &command).unwrap();
        let start = noting.starts.into_inner().into_iter().min();
        assert!(start > gone, "step {steps} goes again through what is gone: {start:?} after {gone:?}");
        let data = |key: &&Vec<u8>| key.starts_with(b"d/");
        gone = batch.writes.iter().map(|(key, _)| key).filter(data).max().cloned();
        world.group(1).apply(delete);
        let now = world.groups[&GroupId(1)].stored(0);
        assert!(left.keys - now.keys <= DELETE_PAIRS_MAX as u64);
        assert!(left.bytes - now.bytes <= (DELETE_BYTES_MAX + 64 * 1024) as u64);
        (left, steps) = (now, steps + 1);
    }
    assert!(steps > 2, "{steps} steps");
    world.settle_all();
    world.check_settled();
}

#[test]
fn a_damaged_or_foreign_chunk_writes_nothing() {
    let mut world = served();
    world.join(2);
    world.pin(2, 2);
    world.settle(&[1]);
    while world.adopt_next(2) {}
    let chores = world.groups[&GroupId(2)].chores();
    let (shard, pull) = chores.iter().find(|(shard, _)| shard.0 == 2).unwrap().clone();
    let Some(Mail::Command(_, command::Operation::Insert(insert))) = world.start(2, shard, &pull) else {
        panic!("no chunk")
    };
    let mut group = world.group(2).clone();
    let before = group.map.clone();
    let changes: [fn(&mut pb::Insert); 4] = [
        |insert| insert.chunk.as_mut().unwrap().checksum ^= 1,
        |insert| insert.chunk.as_mut().unwrap().pairs[0].value = "other".into(),
        |insert| insert.chunk = None,
        |insert| insert.shard = 1,
    ];
    for change in changes {
        let mut bad = insert.clone();
        change(&mut bad);
        assert!(matches!(group.apply(command::Operation::Insert(bad)), ShardReply::Refused(_)));
    }
    assert!(group.map == before);
    // Nor does one that comes twice, or late.
    assert_eq!(group.apply(command::Operation::Insert(insert.clone())), ShardReply::Inserted(true));
    let before = group.map.clone();
    assert_eq!(group.apply(command::Operation::Insert(insert)), ShardReply::Inserted(false));
    assert!(group.map == before);
}

#[test]
fn chunks_that_do_not_make_up_what_the_source_had_are_refused() {
    let mut world = served();
    world.join(2);
    world.pin(2, 2);
    world.settle(&[1]);
    while world.adopt_next(2) {}
    let by = Reign { group: GroupId(2), epoch: world.config().placements().nth(2).unwrap().1.epoch };
    let pairs = vec![(b"k/other".to_vec(), b"x".to_vec())];
    let whole = Some((Content { hash: 1, keys: 1, bytes: 8 }, 5));
    let chunk = super::chunk::pack(ShardId(2), by, b"", pairs, whole);
    let insert = pb::Insert { shard: 2, born: by.epoch.0, chunk: Some(chunk) };
    let reply = world.group(2).apply(command::Operation::Insert(insert));
    let ShardReply::Refused(why) = reply else { panic!("{reply:?}") };
    assert!(why.contains("1 keys and 8 bytes arrived, the source had 1 and 8, or others"), "{why}");
}

#[test]
fn what_is_held_is_counted_without_looking_at_the_data() {
    let mut world = served();
    for shard in 0..SHARDS as u64 {
        let held = world.groups[&GroupId(1)].held();
        assert_eq!(held.len(), SHARDS);
        assert_eq!(held[usize::try_from(shard).unwrap()].content, world.groups[&GroupId(1)].stored(shard));
    }
    world.group(1).append(SHARDS, 1, 1, &key_of(3, SHARDS), "more");
    let held = world.groups[&GroupId(1)].held();
    assert_eq!(held[3].content, world.groups[&GroupId(1)].stored(3));
}

#[test]
fn a_scan_sees_one_shard_and_no_session() {
    let world = served();
    let scan = |prefix: &'static str, after: Option<&str>| {
        let after = after.map(|after| after.to_owned().into());
        let limit = PageLimit { pairs_max: 10, bytes_max: 1000 };
        let query = KvQuery::Scan { prefix: prefix.into(), after, limit };
        match world.groups[&GroupId(1)].read(ShardQuery::Kv { shard: ShardId(3), query }) {
            ShardAnswer::Kv(KvAnswer::Pairs { pairs, all: true }, _) => pairs,
            other => panic!("{other:?}"),
        }
    };
    let key = key_of(3, SHARDS);
    assert_eq!(scan("", None), [(key.clone().into_bytes(), b"a".to_vec())]);
    assert_eq!(scan("k", None).len(), 1);
    assert_eq!(scan("l", None), []);
    assert_eq!(scan("", Some(&key)), []);
}
