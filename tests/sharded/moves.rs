//! Shards go from group to group.

use std::time::Duration;

use bytes::Bytes;
use eraft::client::{Client, Outcome};
use eraft::types::{GroupId, ShardId};

use super::cluster::{Cluster, ExpectOk as _};
use super::load::Load;

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
