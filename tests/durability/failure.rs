//! A disk that fails one sync: what it was for may be lost although the next sync succeeds, so the node ends.

use std::collections::BTreeMap;
use std::fs;

use super::acknowledged::acknowledgements;
use super::cluster::{Cluster, wait_for};
use super::cover::{synced_after_failure, too_early};
use super::records::{Call, Record};
use super::shim::{self, Orders};
use super::workload::{Workload, verify};
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
    let is_action = |words: &&str| error.contains(*words);
    assert!(["writing to the store in", "opening the store in"].iter().any(is_action), "{error}");
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

/// So many syncs of a process are made to fail, one in each run: those of the first start and the first writes.
const FAILING_SYNCS: u64 = 24;

/// Every single sync of a node that is a cluster of its own: from the making of its stores to its writes.
#[test]
fn whichever_sync_fails_the_node_ends_and_loses_nothing() {
    alone(async {
        let mut ended_before_it_listened = 0;
        for number in 1..=rounds(FAILING_SYNCS) {
            let mut cluster = Cluster::new(1, true, &["--election-timeout", "100ms..150ms"]);
            cluster.start(1, &Orders { fail_after: Some(number) });
            let workload = Workload::start(&cluster, 1, 2, 0, None);
            let status = wait_for("the node ends", || cluster.ended(1));
            assert_eq!(status.code(), Some(UNHEALTHY), "sync {number}: {status}: {}", cluster.stderr(1));
            assert_says_why(&cluster, 1);
            assert_eq!(failed_syncs(&cluster.records(1)), 1, "sync {number}");
            let known = acknowledgements(&workload.ledger());
            let records = BTreeMap::from([(1, cluster.records(1))]);
            assert_eq!(too_early(&records, &known), Vec::<String>::new(), "sync {number}");
            ended_before_it_listened += u64::from(known.is_empty());
            cluster.start_all();
            workload.progress(5).await;
            let ledger = workload.finish().await;
            verify(&cluster.client(0, None), &ledger).await;
        }
        println!("{ended_before_it_listened} ended before the first acknowledgement");
    });
}
