//! Bytes of a log that are not as they were written. (Directories of another cluster or node are in `tests/cli`.)

use std::fs;
use std::path::Path;

use eraft::storage::leveldb::wal::{HEADER_BYTES, Verdict, scan};

use super::alone;
use super::cluster::{Cluster, newest_log};
use super::shim::Orders;
use super::workload::{Workload, verify};

/// The exit code of a node whose data is damaged.
const DAMAGED: i32 = 5;

/// A cluster that was killed under load, the ledger of that, and a node to do harm to.
async fn killed() -> (Cluster, super::ledger::Ledger, u64) {
    let mut cluster = Cluster::new(3, false, &[]);
    cluster.start_all();
    let workload = Workload::start(&cluster, 1, 4, 0, None);
    workload.progress(100).await;
    let ledger = workload.finish().await;
    cluster.kill_all();
    (cluster, ledger, 2)
}

/// Where the records of a log begin, and how long they are.
fn records_of(log: &Path) -> Vec<(usize, usize)> {
    let mut records = Vec::new();
    let verdict =
        scan(&fs::read(log).expect("a log"), |offset, payload| records.push((offset, payload.len())));
    assert_eq!(verdict, Verdict::Whole);
    records
}

#[test]
fn a_flipped_bit_in_the_middle_of_the_log_is_refused() {
    alone(async {
        let (mut cluster, ledger, victim) = killed().await;
        let log = newest_log(&cluster.directory(victim));
        let records = records_of(&log);
        let middle = records.len() / 2;
        // One that is not cut in two by the end of a block.
        let whole = |at: &usize| records[at + 1].0 == records[*at].0 + HEADER_BYTES + records[*at].1;
        let (offset, length) = records[(middle..records.len() - 2).find(whole).expect("a whole record")];
        let mut content = fs::read(&log).expect("a log");
        let good = content.clone();
        content[offset + HEADER_BYTES + length / 2] ^= 0x10;
        fs::write(&log, &content).expect("a log");

        cluster.start(victim, &Orders::default());
        let status = cluster.listens(victim).expect_err("it must not start");
        let said = cluster.stderr(victim);
        assert_eq!(status.code(), Some(DAMAGED), "{said}");
        let error = said.lines().filter(|line| line.starts_with("eraft: ")).collect::<Vec<_>>();
        let [error] = error[..] else { panic!("one line says why: {said}") };
        for words in [log.to_str().expect("text"), &format!("at byte {offset}:"), "checksum does not match"] {
            assert!(error.contains(words), "{words:?} in {error}");
        }
        assert_eq!(fs::read(&log).expect("a log"), content, "nothing was changed");

        // The others have everything and go on; so does the node itself with its right bytes.
        for id in cluster.ids().into_iter().filter(|id| *id != victim) {
            cluster.start(id, &Orders::default());
        }
        verify(&cluster.client(0, None), &ledger).await;
        fs::write(&log, &good).expect("a log");
        cluster.start(victim, &Orders::default());
        assert!(cluster.listens(victim).is_ok(), "{}", cluster.stderr(victim));
    });
}

#[test]
fn a_torn_record_at_the_end_of_the_log_is_cut_off() {
    alone(async {
        let (mut cluster, ledger, _) = killed().await;
        // On all nodes: a record that was being written when the power went. It acknowledges nothing.
        for id in cluster.ids() {
            let log = newest_log(&cluster.directory(id));
            let (offset, length) = records_of(&log)[0];
            let mut content = fs::read(&log).expect("a log");
            content.extend_from_within(offset..offset + HEADER_BYTES + length - 1);
            fs::write(&log, &content).expect("a log");
        }
        cluster.start_all();
        cluster.all_listen();
        verify(&cluster.client(0, None), &ledger).await;
        for id in cluster.ids() {
            let said = cluster.stderr(id);
            assert!(said.contains("cutting off a torn write"), "{said}");
        }
    });
}
