//! What a cluster costs that nobody uses.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use eraft::client::{Client, Outcome};
use eraft::replica::Options;
use eraft::storage::memory::MemoryVolume;
use eraft::types::NodeId;

use super::nodes::{Group, free_addresses, wait_for};
use super::volume::{Orders, Watched};

/// eRaft wrote its whole log with each heartbeat (B7, B17) and an entry with each look at the configuration (B11).
#[test]
fn eraft_b17_nothing_is_written_when_nobody_uses_it() {
    let options = Options { heartbeat_ms: 10, election_timeout_ms: (500, 600), ..Options::default() };
    let mut group = Group::new(3, options);
    let volumes: Vec<_> = (0..3).map(|_| Watched::new(MemoryVolume::new(), Orders::default())).collect();
    for (id, volume) in (1..).zip(&volumes) {
        group.start(id, volume);
    }
    let client = group.client(9);
    assert_eq!(group.here.block_on(client.put("a".into(), "1".into())), Outcome::Ok(()));
    let steps = || volumes.iter().map(Watched::steps).collect::<Vec<_>>();
    let settled = wait_for("the state is flushed everywhere", || {
        let statuses: Option<Vec<_>> = (1..=3).map(|id| group.status(id)).collect();
        let statuses = statuses?;
        let flushed = |status: &eraft::proto::admin::Status| status.durable_applied == statuses[0].commit;
        statuses.iter().all(flushed).then(|| (steps(), statuses[0].term))
    });
    let before = steps();
    std::thread::sleep(Duration::from_millis(1_500)); // 150 heartbeats, several times the flush interval
    let (after, term) = (steps(), group.status(1).expect("it answers").term);
    assert_eq!(term, settled.1, "an election on a busy machine: the test says nothing, run it again");
    assert_eq!(after, before, "steps on the disks of an idle cluster");
}

/// A node by itself that holds one key, flushed.
fn one_key() -> (Group, Watched, Client) {
    let mut group = Group::new(1, Options { apply_flush_ms: 10, ..Options::default() });
    let volume = Watched::new(MemoryVolume::new(), Orders::default());
    group.start(1, &volume);
    let client = group.client(9);
    assert_eq!(group.here.block_on(client.put("a".into(), "1".into())), Outcome::Ok(()));
    let is_flushed = |status: &eraft::proto::admin::Status| status.durable_applied == status.commit;
    wait_for("it is flushed", || group.status(1).filter(is_flushed));
    (group, volume, client)
}

/// A read of eRaft's was an entry in the log (B35).
#[test]
fn eraft_b35_a_read_writes_nothing() {
    let (group, volume, client) = one_key();
    let before = volume.steps();
    for _ in 0..100 {
        assert_eq!(group.here.block_on(client.get("a".into())), Outcome::Ok(Some("1".into())));
    }
    assert_eq!(volume.steps(), before);
}

/// eRaft's looked at every key to say how many there are (B38).
#[test]
fn eraft_b38_a_look_at_a_node_reads_no_keys() {
    let (group, volume, client) = one_key();
    let reads_of_a_look = || {
        let before = volume.reads();
        let keys = group.status(1).expect("it answers").keys;
        (volume.reads() - before, keys)
    };
    let (reads_before, keys_before) = reads_of_a_look();
    for number in 0..50 {
        let put = client.put(format!("key {number}").into(), "1".into());
        assert_eq!(group.here.block_on(put), Outcome::Ok(()));
    }
    let (reads, keys) = reads_of_a_look();
    assert_eq!(keys, keys_before + 50);
    // The record that counts the sessions, unless that is not flushed yet.
    assert!(reads_before <= 1 && reads <= 1, "{reads_before} reads, then {reads}");
}

/// eRaft's leader span at 90% of a core when a follower's port refused it (B5).
#[test]
fn eraft_b05_a_dead_peer_costs_one_attempt_per_backoff() {
    const BACKOFF_MS: u64 = 200;
    let options = Options {
        heartbeat_ms: 5,
        election_timeout_ms: (300, 400),
        reconnect_backoff_ms: (BACKOFF_MS, BACKOFF_MS),
        ..Options::default()
    };
    let mut group = Group::new(3, options);
    // The third node is a port on which every connection ends at once.
    let address = free_addresses(1)[&NodeId(1)];
    group.nodes.insert(NodeId(3), address);
    let listener = TcpListener::bind(address).expect("it was free just now");
    let attempts = Arc::new(AtomicU64::new(0));
    let counted = attempts.clone();
    std::thread::spawn(move || {
        while listener.accept().is_ok() {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    let begun = Instant::now();
    for id in [1, 2] {
        group.start(id, &Watched::new(MemoryVolume::new(), Orders::default()));
    }
    let client = group.client(9);
    while begun.elapsed() < Duration::from_secs(3) {
        assert_eq!(group.here.block_on(client.put("a".into(), "1".into())), Outcome::Ok(()));
    }
    let took = begun.elapsed();
    // Two nodes; jitter takes up to a half off each pause.
    let most = 2 * (took.as_millis() as u64 / (BACKOFF_MS / 2) + 2);
    let attempts = attempts.load(Ordering::SeqCst);
    assert!((1..=most).contains(&attempts), "{attempts} attempts in {took:?}, at most {most} expected");
}
