//! No acknowledgement before the sync of what it acknowledges, by what the nodes really did to their files.

use std::collections::BTreeMap;

use super::alone;
use super::cluster::{Cluster, newest_log};
use super::cover::{Acknowledged, synced_after_failure, too_early};
use super::disk::{Disk, Tree, read_tree};
use super::ledger::{Fate, Ledger, token};
use super::records::{Call, Record};
use super::workload::Workload;

/// Enough that followers are behind the leader now and then, and that syncs are shared.
const WORKERS: u64 = 6;
const ACKNOWLEDGED_MIN: usize = 600;

/// The acknowledgements of a ledger.
pub fn acknowledgements(ledger: &Ledger) -> Vec<Acknowledged> {
    let told = ledger.asked.iter().filter_map(|((worker, number), asked)| match asked.fate {
        Fate::Acknowledged { at_ns } => Some(Acknowledged { token: token(*worker, *number), at_ns }),
        _ => None,
    });
    told.collect()
}

#[test]
fn every_acknowledgement_waits_for_a_sync_on_a_majority() {
    alone(async {
        let mut cluster = Cluster::new(3, true, &[]);
        cluster.start_all();
        let workload = Workload::start(&cluster, 1, WORKERS, 0, None);
        workload.progress(ACKNOWLEDGED_MIN).await;
        let ledger = workload.finish().await;
        let recorded = || -> BTreeMap<u64, Vec<Record>> {
            cluster.ids().into_iter().map(|id| (id, cluster.records(id))).collect()
        };
        let acknowledged = acknowledgements(&ledger);
        let early = too_early(&recorded(), &acknowledged);
        assert!(early.is_empty(), "{} of {}: {:#?}", early.len(), acknowledged.len(), early.first());

        // The same records without their syncs: the check sees the difference on the real thing too.
        let mut without = recorded();
        for records in without.values_mut() {
            records.retain(|record| !matches!(record.call, Call::Sync { .. }));
            assert_eq!(synced_after_failure(records), Vec::<std::path::PathBuf>::new());
        }
        assert_eq!(too_early(&without, &acknowledged).len(), acknowledged.len());
    });
}

/// What the shim does not see would be missing from every judgement here.
#[test]
fn the_shim_sees_everything_that_a_node_writes() {
    alone(async {
        let mut cluster = Cluster::new(1, true, &["--log-bytes-max", "64KiB", "--apply-flush", "20ms"]);
        // The second process replays and removes what the first one left, and writes enough for LevelDB's files to
        // be written out and replaced.
        for (filler_bytes, enough) in [(0, 20), (64 << 10, 150)] {
            let before = read_tree(&cluster.disk(1));
            cluster.start_all();
            let workload = Workload::start(&cluster, 1, 4, filler_bytes, None);
            workload.progress(enough).await;
            workload.finish().await;
            cluster.stop(1);
            let mut disk = Disk::new(&cluster.disk(1), &before);
            cluster.records(1).iter().for_each(|record| disk.replay(record));
            let (seen, real) = (without_stdio(disk.now()), without_stdio(read_tree(&cluster.disk(1))));
            let paths = |tree: &Tree| tree.keys().cloned().collect::<Vec<_>>();
            assert_eq!(paths(&seen), paths(&real));
            for (path, content) in &real {
                assert!(seen[path] == *content, "{} has another content", path.display());
            }
        }
        let log = newest_log(&cluster.directory(1));
        assert!(!log.ends_with("000003.log"), "LevelDB began another log: {}", log.display());
    });
}

/// LevelDB's own logs go through stdio; nobody reads them.
fn without_stdio(mut tree: Tree) -> Tree {
    tree.retain(|path, _| !path.ends_with("LOG") && !path.ends_with("LOG.old"));
    tree
}
