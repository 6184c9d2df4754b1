//! Shards go from group to group.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use eraft::client::{Client, Outcome};
use eraft::types::{GroupId, ShardId};

use super::cluster::{Cluster, ExpectOk as _, wait_for};
use super::faults::key_of;
use super::load::Load;

/// What a group takes over per second, in the test about it.
const PULL_BYTES_PER_SECOND: u64 = 1 << 20;
const VALUE_BYTES: u64 = 64 << 10;

fn key(number: u64) -> Bytes {
    format!("user:{number:04}").into()
}

fn put_all(cluster: &Cluster, client: &Client, keys: u64) {
    for number in 0..keys {
        cluster.run(client.put(key(number), format!("{number}").into())).expect_ok();
    }
}

/// The group that has `shard` now.
fn owner(cluster: &Cluster, client: &Client, shard: u64) -> u64 {
    let config = cluster.latest(client);
    config.placement(ShardId(shard)).and_then(|placement| placement.owner).expect("it has an owner").0
}

#[test]
fn a_store_is_served_by_its_groups_and_a_shard_moves() {
    let cluster = Cluster::new(&[1, 2]);
    let client = cluster.client(1);
    cluster.join(&client, &[1, 2]);
    put_all(&cluster, &client, 50);
    let from = owner(&cluster, &client, 3);
    cluster.pin(&client, 3, 3 - from);
    for number in 0..50 {
        cluster.run(client.append(key(number), "+".into())).expect_ok();
        let value = cluster.run(client.get(key(number))).expect_ok();
        assert_eq!(value, Some(format!("{number}+").into()));
    }
    cluster.settle(&client, &[1, 2]);
    assert!(cluster.statuses(from).iter().all(|status| status.shards.iter().all(|of| of.shard != 3)));
}

/// Sessions travel with their shards: what is asked again at the new owner gets the old one's answer.
#[test]
fn under_load_groups_join_and_leave_and_everything_is_there_exactly_once() {
    let cluster = Cluster::new(&[1, 2, 3]);
    let client = cluster.client(1);
    cluster.join(&client, &[1]);
    let load = Load::start(&cluster, 3);
    let pause = || std::thread::sleep(Duration::from_millis(400));
    pause();
    cluster.join(&client, &[2, 3]);
    pause();
    for shard in 0..4 {
        let to = owner(&cluster, &client, shard) % 3 + 1;
        cluster.pin(&client, shard, to);
    }
    pause();
    cluster.leave(&client, &[1]);
    pause();
    cluster.join(&client, &[1]);
    cluster.leave(&client, &[2]);
    pause();
    cluster.settle(&client, &[1, 2, 3]);
    let summary = load.finish(&cluster, &client);
    println!("{summary:?}");
    assert_eq!((summary.unknown, summary.refused), (0, 0), "nobody failed: {summary:?}");
}

/// eRaft's iterator had no end: clearing a shard cleared its neighbours (B1), and what it left came back later (B29).
#[test]
fn eraft_b01_b29_what_moved_away_leaves_nothing_in_the_store_and_its_neighbours_keep_theirs() {
    let mut cluster = Cluster::new(&[1, 2]);
    let client = cluster.client(1);
    cluster.join(&client, &[1]);
    put_all(&cluster, &client, 300);
    cluster.join(&client, &[2]);
    cluster.settle(&client, &[1, 2]);
    let config = cluster.latest(&client);
    for number in 0..300 {
        let value = cluster.run(client.get(key(number))).expect_ok();
        assert_eq!(value, Some(format!("{number}").into()));
    }
    for group in [1, 2] {
        cluster.stop_all(group);
        for id in 1..=3 {
            for (shard, placement) in config.placements() {
                let prefix = [b"d/", &u16::try_from(shard.0).expect("few shards").to_be_bytes()[..]].concat();
                let pairs = cluster.stored_pairs(group, id, &prefix);
                let is_here = placement.owner == Some(GroupId(group));
                assert_eq!(pairs > 0, is_here, "shard {shard} at n{id} of group {group}: {pairs} pairs");
            }
        }
    }
}

/// eRaft gave shards that nobody owned for a while to their next owner empty.
#[test]
fn eraft_b31_when_all_groups_leave_the_data_waits_for_the_next_one() {
    let cluster = Cluster::new(&[1, 2]);
    let client = cluster.client(1);
    cluster.join(&client, &[1]);
    put_all(&cluster, &client, 30);
    cluster.leave(&client, &[1]);
    let impatient = cluster.client_with(2, |options| options.deadline_ms = 500, None);
    let outcome = cluster.run(impatient.get(key(1)));
    assert!(matches!(outcome, Outcome::Refused(refused) if refused.unavailable));
    cluster.join(&client, &[2]);
    for number in 0..30 {
        let value = cluster.run(client.get(key(number))).expect_ok();
        assert_eq!(value, Some(format!("{number}").into()));
    }
    cluster.settle(&client, &[1, 2]);
}

/// eRaft's values were strings, and one message held a shard: neither these bytes nor this much ever arrived.
#[test]
fn eraft_b06_b26_any_bytes_and_values_larger_than_a_message_move_too() {
    let cluster = Cluster::tuned(&[1, 2], |options| options.limits.value_bytes_max = 8 << 20);
    let client = cluster.client(1);
    cluster.join(&client, &[1]);
    let large: Vec<u8> = (0..6 << 20).map(|number: u32| (number % 251) as u8).collect();
    let odd = Bytes::from_static(b"\xff\x00\xfe");
    cluster.run(client.put(odd.clone(), large.clone().into())).expect_ok();
    cluster.run(client.put("empty".into(), Bytes::new())).expect_ok();
    cluster.leave(&client, &[1]);
    cluster.join(&client, &[2]);
    assert_eq!(cluster.run(client.get(odd)).expect_ok(), Some(large.into()));
    assert_eq!(cluster.run(client.get("empty".into())).expect_ok(), Some(Bytes::new()));
    cluster.settle(&client, &[1, 2]);
}

#[test]
fn a_scan_sees_the_keys_of_all_shards_in_order_page_by_page() {
    let cluster = Cluster::new(&[1, 2]);
    let client = cluster.client(1);
    cluster.join(&client, &[1, 2]);
    put_all(&cluster, &client, 100);
    cluster.run(client.put("other".into(), "x".into())).expect_ok();
    for pairs_max in [7, 100, 1000] {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = cluster.run(client.scan("user:".into(), after, pairs_max)).expect_ok();
            assert!(page.pairs.len() <= pairs_max);
            after = page.pairs.last().map(|(key, _)| key.clone());
            found.extend(page.pairs);
            if !page.more {
                break;
            }
        }
        let all: Vec<(Bytes, Bytes)> = (0..100).map(|n| (key(n), format!("{n}").into())).collect();
        assert_eq!(found, all);
    }
}

/// All pairs, page by page; each page lies behind the one before.
async fn scan_all(client: &Client, prefix: &'static str, pairs_max: usize) -> Vec<(Bytes, Bytes)> {
    let (mut found, mut after): (Vec<(Bytes, Bytes)>, Option<Bytes>) = (Vec::new(), None);
    loop {
        let page = client.scan(prefix.into(), after, pairs_max).await.expect_ok();
        after = page.pairs.last().map(|(key, _)| key.clone());
        found.extend(page.pairs);
        if !page.more {
            return found;
        }
    }
}

/// What `Client::scan` promises, while shards are on their way: no key twice, and none missed that was there all the time.
#[test]
fn a_scan_misses_nothing_and_sees_nothing_twice_while_shards_move() {
    let cluster = Cluster::new(&[1, 2]);
    let client = cluster.client(1);
    cluster.join(&client, &[1, 2]);
    put_all(&cluster, &client, 100);
    let stop = Arc::new(AtomicBool::new(false));
    // Others come and go between them.
    let (writer, stopped) = (cluster.client(2), stop.clone());
    let writing = cluster.spawn(async move {
        for number in (0..100).cycle() {
            if stopped.load(Ordering::Relaxed) {
                return;
            }
            let passing = Bytes::from(format!("user:{number:04} passing"));
            writer.put(passing.clone(), "x".into()).await.expect_ok();
            writer.delete(passing).await.expect_ok();
        }
    });
    let (reader, stopped) = (cluster.client(3), stop.clone());
    let scanning = cluster.spawn(async move {
        let (mut scans, mut passing) = (0, 0);
        while !stopped.load(Ordering::Relaxed) {
            let found = scan_all(&reader, "user:", 7).await;
            assert!(found.is_sorted_by(|(left, _), (right, _)| left < right), "a key twice: {found:?}");
            let found: BTreeMap<Bytes, Bytes> = found.into_iter().collect();
            for number in 0..100 {
                assert_eq!(found.get(&key(number)), Some(&format!("{number}").into()), "key {number}");
            }
            (scans, passing) = (scans + 1, passing + found.len() - 100);
        }
        (scans, passing)
    });
    for round in 0..6 {
        for shard in 0..10 {
            cluster.pin(&client, shard, 1 + (round + shard) % 2);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    cluster.settle(&client, &[1, 2]);
    stop.store(true, Ordering::Relaxed);
    cluster.run(writing).expect("it writes");
    let (scans, passing) = cluster.run(scanning).expect("it finds what it must");
    println!("{scans} scans met {passing} keys that came and went");
    assert!(scans > 3, "{scans} scans");
}

/// A bound on what arrives per second holds; what has arrived is paid for before the next part is asked for.
#[test]
fn a_shard_does_not_arrive_faster_than_its_group_may_take_it_over() {
    let cluster = Cluster::tuned(&[1, 2], |options| {
        options.migration.pull_bytes_per_second_max = PULL_BYTES_PER_SECOND;
    });
    let client = cluster.client(1);
    cluster.join(&client, &[1, 2]);
    let key = String::from_utf8(key_of(3).to_vec()).expect("text");
    let mut bytes = 0;
    // Keys of one shard, 2.5 MiB of them.
    let fitting = (0..).map(|number: u64| format!("{key} {number}"));
    let fitting = fitting.filter(|key| eraft::ctrler::shard_of(key.as_bytes(), 10) == ShardId(3));
    for key in fitting.take(40) {
        cluster.run(client.put(key.into(), vec![7; VALUE_BYTES as usize].into())).expect_ok();
        bytes += VALUE_BYTES;
    }
    let to = 3 - owner(&cluster, &client, 3);
    let begun = Instant::now();
    cluster.pin(&client, 3, to);
    wait_for("it arrives", || {
        let held = cluster.statuses(to).into_iter().flat_map(|status| status.shards);
        held.into_iter()
            .any(|of| of.shard == 3 && ["Serving", "GCing"].contains(&&of.state[..]))
            .then_some(())
    });
    let took = begun.elapsed();
    // The last part need not be paid for.
    let paid = bytes - eraft::shardkv::CHUNK_LIMIT.bytes_max as u64 - VALUE_BYTES;
    let least = Duration::from_secs_f64(paid as f64 / PULL_BYTES_PER_SECOND as f64);
    println!("{bytes} bytes took {took:?}, {least:?} at least");
    assert!(took >= least, "{bytes} bytes within {took:?}, {least:?} at least");
}
