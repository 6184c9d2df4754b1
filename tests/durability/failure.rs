//! A disk that fails one sync: what it was for may be lost although the next sync succeeds, so the node ends.

use std::collections::BTreeMap;
use std::fs;

use super::acknowledged::acknowledgements;
use super::cluster::{Cluster, wait_for};
use super::cover::{synced_after_failure, too_early};
use super::disk::{Disk, Tree, write_tree};
use super::records::{Call, Record, SyncCall};
use super::shim::{self, Orders};
use super::workload::{Workload, read_all, verify};
use super::{alone, rounds};

/// The exit code of a node whose disk failed.
const UNHEALTHY: i32 = 5;

/// What the store that acknowledgements depend on has in the paths of its logs.
const LOG_STORE: &str = "/stores/log/";
const STATE_STORE: &str = "/stores/state.";

/// Operations that the others must get done without the node.
const GO_ON: usize = 50;

/// The last line of a node that ended: it names what failed.
fn assert_says_why(cluster: &Cluster, id: u64) {
    let said = cluster.stderr(id);
    let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("eraft: ")).collect();
    let [error] = errors[..] else { panic!("one line says why n{id} ended: {said}") };
    let directory = cluster.directory(id);
    for words in [directory.to_str().expect("text"), "Input/output error", "acknowledges nothing any more"] {
        assert!(error.contains(words), "{words:?} in {error}");
    }
    let disk = cluster.disk(id);
    let says = |action: &&str| error.contains(&format!("{action} {}", disk.display()));
    let actions = ["writing to the store in", "opening the store in", "syncing", "writing"];
    assert!(actions.iter().any(says), "{error}");
}

/// The next sync of a path with `words` fails on node `id`; waits for its end.
fn fail_sync(cluster: &mut Cluster, id: u64, words: &str) {
    let order = shim::fail_file(&cluster.shim_log(id));
    // Under another name first, so that the shim does not see half of it.
    let beside = order.with_extension("new");
    fs::write(&beside, words).expect("an order");
    fs::rename(&beside, &order).expect("an order");
    let status = wait_for("the node ends", || cluster.ended(id));
    assert_eq!(status.code(), Some(UNHEALTHY), "{status}: {}", cluster.stderr(id));
    assert!(!order.exists(), "the sync failed");
    assert_says_why(cluster, id);
}

fn failed_syncs(records: &[Record]) -> usize {
    records.iter().filter(|record| matches!(record.call, Call::Sync { error: libc::EIO, .. })).count()
}

/// One failing sync on a node that is chosen by whether it leads.
async fn a_node_fails(is_leader: bool, words: &str) {
    let mut cluster = Cluster::new(3, true, &[]);
    cluster.start_all();
    let workload = Workload::start(&cluster, 1, 4, 0, None);
    workload.progress(GO_ON).await;
    let leader = cluster.leader();
    let victim = cluster.ids().into_iter().find(|id| (*id == leader) == is_leader).expect("a node");
    fail_sync(&mut cluster, victim, words);
    workload.progress(GO_ON).await;

    // Not one acknowledgement rests on the failed sync, and it was not tried again.
    let known = acknowledgements(&workload.ledger());
    let records: BTreeMap<u64, Vec<Record>> =
        cluster.ids().into_iter().map(|id| (id, cluster.records(id))).collect();
    assert_eq!(failed_syncs(&records[&victim]), 1);
    assert_eq!(synced_after_failure(&records[&victim]), Vec::<std::path::PathBuf>::new());
    assert_eq!(too_early(&records, &known), Vec::<String>::new());

    cluster.start(victim, &Orders::default());
    assert!(cluster.listens(victim).is_ok(), "{}", cluster.stderr(victim));
    // With another node down, nothing is acknowledged without the one that is back.
    let other = cluster.ids().into_iter().find(|id| *id != victim && *id != leader).expect("a node");
    cluster.kill(other);
    workload.progress(GO_ON).await;
    let ledger = workload.finish().await;
    verify(&cluster.client(0, None), &ledger).await;
    cluster.start(other, &Orders::default());
    cluster.assert_agreement();
}

#[test]
fn a_failed_sync_of_the_log_ends_a_follower() {
    alone(a_node_fails(false, LOG_STORE));
}

#[test]
fn a_failed_sync_of_the_log_ends_the_leader() {
    alone(a_node_fails(true, LOG_STORE));
}

#[test]
fn a_failed_sync_of_the_state_ends_the_leader() {
    alone(a_node_fails(true, STATE_STORE));
}

/// The syncs of a first start are made to fail one by one, and so many more: those of the first writes.
const MORE_FDATASYNCS: u64 = 8;

/// A fast one: nobody else has to vote.
const ALONE: [&str; 2] = ["--election-timeout", "100ms..150ms"];

/// Every single sync of a node that is a cluster of its own: from the making of its stores to its writes. What the
/// failed process left behind is in the kernel's memory only, so a loss of power after the next start must not lose
/// what that one acknowledged either.
#[test]
fn whichever_sync_fails_the_node_ends_and_loses_nothing() {
    alone(async {
        let mut cluster = Cluster::new(1, true, &ALONE);
        cluster.start_all();
        cluster.all_listen();
        cluster.kill_all();
        let count = |of: SyncCall| {
            let is_one = |record: &&Record| matches!(record.call, Call::Sync { call, .. } if call == of);
            cluster.records(1).iter().filter(is_one).count() as u64
        };
        let fsyncs = (1..=rounds(count(SyncCall::Fsync))).map(|number| (SyncCall::Fsync, number));
        let fdatasyncs = 1..=rounds(count(SyncCall::Fdatasync) + MORE_FDATASYNCS);
        let all: Vec<_> = fsyncs.chain(fdatasyncs.map(|number| (SyncCall::Fdatasync, number))).collect();
        let mut flaws = Vec::new();
        for failing in all {
            let flaw = a_single_node_fails(Orders { fail: Some(failing) }).await;
            flaws.extend(flaw.map(|flaw| format!("{failing:?}, a start, a loss of power: {flaw}")));
        }
        assert!(flaws.is_empty(), "{flaws:#?}");
    });
}

/// Gives what is wrong in the end.
async fn a_single_node_fails(orders: Orders) -> Option<String> {
    let mut cluster = Cluster::new(1, true, &ALONE);
    cluster.start(1, &orders);
    let workload = Workload::start(&cluster, 1, 2, 0, None);
    let status = wait_for("the node ends", || cluster.ended(1));
    assert_eq!(status.code(), Some(UNHEALTHY), "{orders:?}: {status}: {}", cluster.stderr(1));
    assert_says_why(&cluster, 1);
    let known = acknowledgements(&workload.ledger());
    let records = BTreeMap::from([(1, cluster.records(1))]);
    assert_eq!(failed_syncs(&records[&1]), 1, "{orders:?}");
    assert_eq!(too_early(&records, &known), Vec::<String>::new(), "{orders:?}");

    let mut disk = Disk::new(&cluster.disk(1), &Tree::new());
    records[&1].iter().for_each(|record| disk.replay(record));
    disk.close_all();
    cluster.start_all();
    workload.progress(5).await;
    let ledger = workload.finish().await;
    cluster.kill_all();
    cluster.records(1).iter().for_each(|record| disk.replay(record));
    write_tree(&cluster.disk(1), &disk.durable());
    cluster.start_all();
    if cluster.listens(1).is_err() {
        return Some(cluster.stderr(1));
    }
    ledger.flaws(&read_all(&cluster.client(0, None), &ledger).await).into_iter().next()
}
