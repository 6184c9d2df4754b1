//! `kill -9` of all nodes under load, again and again. eRaft lost the whole log in 2 of 25 such rounds (B3), and
//! applied every append twice in each (B2).

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use eraft::history::Recorder;

use super::cluster::Cluster;
use super::ledger::Ledger;
use super::workload::{Workload, read_all, report, verify};
use super::{alone, draws, rounds};

const ROUNDS: u64 = 25;
const WORKERS: u64 = 4;
const FILLER_BYTES: usize = 200;

/// Load goes on for a time drawn from this range before the kill.
const LOAD_MS: (u64, u64) = (0, 600);

/// A small log, so that compaction is met as well.
const ARGUMENTS: [&str; 4] = ["--log-bytes-max", "128KiB", "--apply-flush", "50ms"];

/// Where the history of the test lies after it, for a linearizability checker.
fn history_path() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("durability-kill.history.jsonl")
}

#[test]
fn eraft_b02_b03_acknowledged_writes_survive_kill_9_of_all_nodes() {
    alone(async {
        let mut site = draws("kill").site("load", 0);
        let history = File::create(history_path()).expect("a history");
        let recorder = Arc::new(Recorder::to(history));
        let mut cluster = Cluster::new(3, false, &ARGUMENTS);
        cluster.start_all();
        let workload = Workload::start(&cluster, 1, WORKERS, FILLER_BYTES, Some(&recorder));
        let reader = cluster.client(0, Some(recorder.clone()));
        let mut verified = Ledger::default();
        workload.progress(1).await;
        for round in 0..rounds(ROUNDS) {
            let mut draw = site.next();
            // In some rounds the kill hits a cluster that is still recovering from the one before.
            if draw.chance(0.2) {
                tokio::time::sleep(Duration::from_millis(draw.between(0, 400))).await;
                cluster.kill_all();
                cluster.start_all();
            }
            workload.progress(1).await;
            tokio::time::sleep(Duration::from_millis(draw.between(LOAD_MS.0, LOAD_MS.1))).await;
            cluster.kill_all();
            workload.next_round();
            cluster.start_all();
            cluster.all_listen();
            // The load goes on meanwhile: what is read holds at least what was acknowledged before.
            let before = workload.ledger();
            let news = before.news(&verified);
            let found = read_all(&reader, &news).await;
            report(&news.until(&workload.ledger()).flaws(&found));
            verified = before;
            let ledger = &verified;
            println!("round {round}: {} acknowledged", ledger.acknowledged());
        }
        let ledger = workload.finish().await;
        verify(&reader, &ledger).await;
        cluster.assert_agreement();
        assert!(ledger.acknowledged() > 10 * rounds(ROUNDS) as usize, "there was load");
        recorder.flush().expect("the history is complete");
        println!("{} acknowledged of {}", ledger.acknowledged(), ledger.asked.len());
    });
}
