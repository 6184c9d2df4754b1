//! A source that is gone, a group that comes back, and a store that nobody uses.

use std::time::Duration;

use bytes::Bytes;
use eraft::client::Outcome;
use eraft::types::{GroupId, ShardId};

use super::cluster::{CTRLERS, Cluster, ExpectOk as _, wait_for};
use super::load::Load;

/// A key of `shard`, of ten.
pub fn key_of(shard: u64) -> Bytes {
    let of = |key: &String| eraft::ctrler::shard_of(key.as_bytes(), 10) == ShardId(shard);
    (0..).map(|number| format!("key {number}")).find(of).expect("some key").into()
}

/// In eRaft a source that was gone stopped all moves and all later configs.
#[test]
fn eraft_b27_b33_a_source_that_is_gone_delays_its_own_shards_alone() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    let client = cluster.client(1);
    cluster.join(&client, &[1, 2, 3]);
    for shard in 0..10 {
        cluster.run(client.put(key_of(shard), format!("{shard}").into())).expect_ok();
    }
    cluster.settle(&client, &[1, 2, 3]);
    let before = cluster.latest(&client);
    let of = |group| before.shards_of(GroupId(group)).map(|shard| shard.0).collect::<Vec<_>>();
    let (gone, second) = (of(1), of(2));
    cluster.end_all(1);

    // Group 1 leaves while it is down, and a shard moves between the others after that.
    cluster.leave(&client, &[1]);
    cluster.pin(&client, second[0], 3);
    for shard in (0..10).filter(|shard| !gone.contains(shard)) {
        let value = cluster.run(client.get(key_of(shard))).expect_ok();
        assert_eq!(value, Some(format!("{shard}").into()));
        cluster.run(client.append(key_of(shard), "+".into())).expect_ok();
    }
    wait_for("the shard between the others has moved and is deleted where it was", || {
        let state_of = |group: u64| {
            let statuses = cluster.statuses(group);
            let of = |status: &eraft::proto::admin::Status| {
                status.shards.iter().find(|of| of.shard == second[0]).map(|of| of.state.clone())
            };
            statuses.iter().map(of).collect::<Vec<_>>()
        };
        let serves = state_of(3).iter().all(|state| state.as_deref() == Some("Serving"));
        (serves && state_of(2).iter().all(Option::is_none)).then_some(())
    });
    let impatient = cluster.client_with(2, |options| options.deadline_ms = 500, None);
    for shard in &gone {
        let outcome = cluster.run(impatient.get(key_of(*shard)));
        assert!(matches!(outcome, Outcome::Refused(refused) if refused.unavailable), "shard {shard}");
    }

    cluster.start_all(1);
    cluster.settle(&client, &[1, 2, 3]);
    for shard in gone {
        assert_eq!(cluster.run(client.get(key_of(shard))).expect_ok(), Some(format!("{shard}").into()));
    }
}

/// In eRaft everything was applied once more after a restart.
#[test]
fn eraft_b02_a_restart_of_all_nodes_applies_nothing_twice_and_moves_go_on() {
    let mut cluster = Cluster::new(&[1, 2]);
    let client = cluster.client(1);
    cluster.join(&client, &[1]);
    for round in 0..3 {
        for shard in 0..10 {
            cluster.run(client.append(key_of(shard), format!("{round}").into())).expect_ok();
        }
        // In the middle of what the second one brings, or of giving it back.
        if round == 0 {
            cluster.join(&client, &[2])
        } else {
            cluster.leave(&client, &[round])
        }
        if round == 1 {
            cluster.join(&client, &[1]);
        }
        for group in [1, 2] {
            cluster.end_all(group);
        }
        for group in [1, 2] {
            cluster.start_all(group);
        }
    }
    for shard in 0..10 {
        assert_eq!(cluster.run(client.get(key_of(shard))).expect_ok(), Some("012".into()));
    }
}

/// Leaders are ended again and again while shards move; nothing is lost, and nothing is there twice.
#[test]
fn leaders_end_while_shards_move_under_load() {
    let mut cluster = Cluster::new(&[1, 2]);
    let client = cluster.client(1);
    cluster.join(&client, &[1, 2]);
    let load = Load::start(&cluster, 2);
    for round in 0..6 {
        let group = round % 2 + 1;
        for shard in 0..5 {
            cluster.pin(&client, shard, group);
        }
        let leader = wait_for("a leader", || {
            let statuses = cluster.statuses(group);
            statuses.iter().find(|status| status.role == "leader").map(|status| status.node_id)
        });
        cluster.end(group, leader);
        std::thread::sleep(Duration::from_millis(200));
        cluster.start(group, leader);
    }
    cluster.settle(&client, &[1, 2]);
    println!("{:?}", load.finish(&cluster, &client));
}

/// The controllers have dropped the configs that the group was not in; it goes on with what there is.
#[test]
fn a_group_that_left_and_was_forgotten_joins_again() {
    let mut cluster = Cluster::new(&[1, 2]);
    let client = cluster.client(1);
    cluster.join(&client, &[1, 2]);
    cluster.run(client.put(key_of(0), "0".into())).expect_ok();
    cluster.leave(&client, &[2]);
    cluster.settle(&client, &[1, 2]);
    let left = cluster.latest(&client).num;
    // It tells the controllers that it holds nothing, and sees nothing of what comes then.
    std::thread::sleep(Duration::from_secs(2));
    cluster.end_all(2);
    for _ in 0..60 {
        cluster.pin(&client, 0, 1);
        cluster.unpin(&client, 0);
    }
    wait_for("its configs are dropped", || {
        let found = cluster.run(client.query(eraft::client::Which::Latest)).expect_ok();
        (found.oldest > left.next()).then_some(())
    });
    cluster.start_all(2);
    cluster.join(&client, &[2]);
    cluster.pin(&client, 0, 2);
    cluster.settle(&client, &[1, 2]);
    assert_eq!(cluster.run(client.get(key_of(0))).expect_ok(), Some("0".into()));
}

/// In eRaft an idle cluster's logs grew by 18 entries a second.
#[test]
fn eraft_b11_nothing_is_logged_when_nobody_does_anything() {
    let cluster = Cluster::new(&[1, 2]);
    let client = cluster.client(1);
    cluster.join(&client, &[1, 2]);
    cluster.settle(&client, &[1, 2]);
    let logs = || {
        let of = |group| cluster.statuses(group).iter().map(|status| status.log_last).collect::<Vec<_>>();
        [CTRLERS, 1, 2].map(of)
    };
    // Until the groups have told the controllers how far they are.
    let mut last = logs();
    wait_for("the logs stand still", || {
        std::thread::sleep(Duration::from_secs(1));
        let now = logs();
        let stand_still = now == last;
        last = now;
        stand_still.then_some(())
    });
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(logs(), last);
}
