//! A loss of power of all nodes under load: everything that no sync covered is gone, or only a part of it is there.

use std::collections::BTreeMap;
use std::time::Duration;

use eraft::random::Draw;

use super::cluster::Cluster;
use super::disk::{Disk, Tree, read_tree, write_tree};
use super::records::{Call, Record};
use super::workload::{Workload, read_all, report, verify};
use super::{alone, draws, rounds};

const ROUNDS: u64 = 8;
const WORKERS: u64 = 6;

/// Large enough that LevelDB begins new logs and writes tables within a round or two.
const FILLER_BYTES: usize = 24 << 10;

/// Acknowledgements that a round waits for before the time of its end is drawn.
const ACKNOWLEDGED_MIN: usize = 40;
const LOAD_MS: (u64, u64) = (0, 1_000);

const ARGUMENTS: [&str; 4] = ["--log-bytes-max", "1MiB", "--apply-flush", "50ms"];

/// The data directories of all nodes.
fn trees(cluster: &Cluster) -> BTreeMap<u64, Tree> {
    let tree = |id| {
        let directory = cluster.directory(id);
        (id, if directory.is_dir() { read_tree(&directory) } else { Tree::new() })
    };
    cluster.ids().into_iter().map(tree).collect()
}

/// Leaves on the disk of node `id`, which began as `before`, what a loss of power may leave. Gives how many bytes and
/// names that takes away.
fn lose_power(
    cluster: &Cluster,
    id: u64,
    before: &Tree,
    records: &[Record],
    draw: &mut Draw,
) -> (usize, usize) {
    let directory = cluster.directory(id);
    let mut disk = Disk::new(&directory, before);
    records.iter().for_each(|record| disk.replay(record));
    let left = disk.after_power_loss(draw);
    let bytes = |tree: &Tree| tree.values().flatten().map(Vec::len).sum::<usize>();
    let was = disk.now();
    write_tree(&directory, &left);
    (bytes(&was).saturating_sub(bytes(&left)), was.keys().filter(|path| !left.contains_key(*path)).count())
}

#[test]
fn acknowledged_writes_survive_a_loss_of_power() {
    alone(async {
        let mut site = draws("power").site("loss", 0);
        let mut cluster = Cluster::new(3, true, &ARGUMENTS);
        let mut before = trees(&cluster);
        cluster.start_all();
        let workload = Workload::start(&cluster, WORKERS, FILLER_BYTES, None);
        let reader = cluster.client(0, None, None);
        let mut lost_in_all = (0, 0);
        for round in 0..rounds(ROUNDS) {
            let mut draw = site.next();
            // One round hits nodes that have only just begun to make or to open their stores.
            if round % 4 != 3 {
                workload.progress(ACKNOWLEDGED_MIN).await;
            }
            tokio::time::sleep(Duration::from_millis(draw.between(LOAD_MS.0, LOAD_MS.1))).await;
            cluster.kill_all();
            for id in cluster.ids() {
                let lost = lose_power(&cluster, id, &before[&id], &cluster.records(id), &mut draw);
                lost_in_all = (lost_in_all.0 + lost.0, lost_in_all.1 + lost.1);
            }
            before = trees(&cluster);
            workload.next_round();
            cluster.start_all();
            cluster.all_listen();
            let known = workload.ledger();
            let found = read_all(&reader, &known).await;
            report(&known.until(&workload.ledger()).flaws(&found));
            println!(
                "round {round}: {} acknowledged; {lost_in_all:?} bytes and names lost",
                known.acknowledged()
            );
        }
        let ledger = workload.finish().await;
        verify(&reader, &ledger).await;
    });
}

/// A node that only pretended to sync its logs would be found out by the test above.
#[test]
fn a_loss_of_power_shows_syncs_that_were_left_out() {
    alone(async {
        let mut site = draws("power").site("left-out", 0);
        let mut cluster = Cluster::new(3, true, &[]);
        cluster.start_all();
        let workload = Workload::start(&cluster, 2, 0, None);
        workload.progress(50).await;
        cluster.kill_all();
        let ledger = workload.abandon();
        for id in cluster.ids() {
            let records = without_syncs_of_logs(cluster.records(id));
            lose_power(&cluster, id, &Tree::new(), &records, &mut site.next());
        }
        cluster.start_all();
        cluster.all_listen();
        let found = read_all(&cluster.client(0, None, None), &ledger).await;
        let flaws = ledger.flaws(&found);
        assert!(flaws.iter().any(|flaw| flaw.contains("lost")), "nothing is missing: {flaws:?}");
    });
}

/// The records of a process that does not sync the logs of its stores.
fn without_syncs_of_logs(records: Vec<Record>) -> Vec<Record> {
    let mut logs = std::collections::BTreeSet::new();
    let is_kept = |record: &Record| match &record.call {
        Call::Open { descriptor, path, .. } => {
            logs.remove(descriptor);
            if path.extension().is_some_and(|end| end == "log") {
                logs.insert(*descriptor);
            }
            true
        }
        Call::Sync { descriptor, .. } => !logs.contains(descriptor),
        _ => true,
    };
    records.into_iter().filter(is_kept).collect()
}
