//! Whoever is asked and never answers: a source of shards, and the controllers.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use eraft::client::Outcome;
use eraft::types::{GroupId, ShardId};

use super::cluster::{CTRLERS, Cluster, ExpectOk as _, wait_for};
use super::faults::key_of;

/// A group of which nobody but a listener is there.
const STRANGER: u64 = 9;
/// What is not delayed by it is done within this: far more than it takes, and as little as a hung call does.
const SOON: Duration = Duration::from_secs(10);
/// Controllers are down for so long.
const DOWN: Duration = Duration::from_secs(5);
/// Connections that one worker makes meanwhile, at most: it pauses between attempts, from 5 to 250 ms within a call and
/// from 50 ms to 2 s between calls, and an attempt may connect twice.
const CONNECTIONS_MAX: u64 = 150;

/// Takes connections, counts them, and never says anything on them; or closes each at once.
fn listen(at: SocketAddr, keeps: bool) -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind(at).expect("a free port");
    let (address, count) = (listener.local_addr().expect("its address"), Arc::new(AtomicU64::new(0)));
    let counted = count.clone();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for connection in listener.incoming() {
            counted.fetch_add(1, Ordering::SeqCst);
            kept.extend(connection.ok().filter(|_| keeps));
        }
    });
    (address, count)
}

/// In eRaft one hung source stalled every move of a group.
#[test]
fn eraft_b27_a_source_that_takes_connections_and_never_answers_delays_its_own_shards_alone() {
    let cluster = Cluster::new(&[1, 2]);
    let client = cluster.client(1);
    cluster.join(&client, &[1, 2]);
    for shard in 0..10 {
        cluster.run(client.put(key_of(shard), format!("{shard}").into())).expect_ok();
    }
    cluster.settle(&client, &[1, 2]);
    // It gets some shards, takes over none, and they are to come from it when it leaves.
    let (address, asked) = listen(([127, 0, 0, 1], 0).into(), true);
    cluster.join_stranger(&client, STRANGER, address);
    let hung: Vec<u64> = cluster.latest(&client).shards_of(GroupId(STRANGER)).map(|shard| shard.0).collect();
    assert!(!hung.is_empty());
    cluster.leave(&client, &[STRANGER]);
    wait_for("it is asked", || (asked.load(Ordering::SeqCst) > 0).then_some(()));

    let config = cluster.latest(&client);
    let others: Vec<u64> = (0..10).filter(|shard| !hung.contains(shard)).collect();
    for shard in &others {
        let owner = config.placement(ShardId(*shard)).and_then(|at| at.owner).expect("it has an owner").0;
        let begun = Instant::now();
        cluster.pin(&client, *shard, 3 - owner);
        cluster.run(client.append(key_of(*shard), "+".into())).expect_ok();
        let value = cluster.run(client.get(key_of(*shard))).expect_ok();
        assert_eq!(value, Some(format!("{shard}+").into()));
        assert!(begun.elapsed() < SOON, "shard {shard} waited for {:?}", begun.elapsed());
    }
    wait_for("the copies of what moved are gone", || {
        let held = |group| cluster.statuses(group).into_iter().flat_map(|status| status.shards);
        let is_over =
            |of: &eraft::proto::admin::ShardStatus| !others.contains(&of.shard) || of.state == "Serving";
        (held(1).chain(held(2)).all(|of| is_over(&of))).then_some(())
    });
    let impatient = cluster.client_with(2, |options| options.deadline_ms = 500, None);
    for shard in hung {
        let outcome = cluster.run(impatient.get(key_of(shard)));
        assert!(matches!(outcome, Outcome::Refused(refused) if refused.unavailable), "shard {shard}");
    }
}

/// In eRaft a client without a pause span; here the leader of a group is the client, of controllers that are down.
#[test]
fn eraft_b25_a_group_pauses_between_attempts_while_the_controllers_are_down() {
    let mut cluster = Cluster::new(&[1]);
    let client = cluster.client(1);
    cluster.join(&client, &[1]);
    cluster.run(client.put("a".into(), "1".into())).expect_ok();
    cluster.settle(&client, &[1]);
    cluster.end_all(CTRLERS);
    let counts: Vec<Arc<AtomicU64>> =
        (1..=3).map(|id| listen(cluster.address(CTRLERS, id), false).1).collect();
    let all = || counts.iter().map(|count| count.load(Ordering::SeqCst)).sum::<u64>();
    let (before, begun) = (all(), Instant::now());
    while begun.elapsed() < DOWN {
        // Nothing of the group waits for them.
        cluster.run(client.append("a".into(), "+".into())).expect_ok();
        std::thread::sleep(Duration::from_millis(50));
    }
    let attempts = all() - before;
    println!("{attempts} connections in {:?}", begun.elapsed());
    assert!((1..=CONNECTIONS_MAX).contains(&attempts), "{attempts} connections in {DOWN:?}");
}
