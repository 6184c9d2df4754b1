//! A loss of power of all nodes: everything that no sync covered is gone, or only a part of it is there.
//!
//! The moment of the loss is chosen afterwards, from what the shim recorded: any moment of a run, but more often one
//! inside a sync or beside a change to a directory. So one run under load is judged at many moments, each of which is
//! restored on the real disks and started. Then the load goes on from one of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use eraft::random::Draw;

use super::acknowledged::acknowledgements;
use super::cluster::Cluster;
use super::cover::is_log_of_log_store;
use super::disk::{Disk, Tree, write_tree};
use super::ledger::{Fate, Ledger};
use super::records::{Call, Record};
use super::workload::{Workload, read_all, report};
use super::{alone, draws, rounds};

/// How a cluster is put to the test.
struct Plan {
    nodes: u64,
    /// Runs under load, each after the first from a loss of power …
    runs: u64,
    /// … and moments at which each is judged.
    moments: u64,
}

/// Any node may lose what the others still have.
const GROUP: Plan = Plan { nodes: 3, runs: 3, moments: 6 };
/// Nobody else has what this one loses, so the smallest loss shows.
const ALONE: Plan = Plan { nodes: 1, runs: 3, moments: 14 };

const WORKERS: u64 = 6;

/// Large enough that LevelDB begins new logs and writes tables within a run.
const FILLER_BYTES: usize = 24 << 10;

/// A run goes on until so much was acknowledged, and then for a drawn time.
const ACKNOWLEDGED_MIN: usize = 400;
const LOAD_MS: (u64, u64) = (0, 500);

const ARGUMENTS: [&str; 6] =
    ["--log-bytes-max", "1MiB", "--apply-flush", "50ms", "--election-timeout", "150ms..300ms"];

/// What the shim recorded of each node's last process.
type Records = BTreeMap<u64, Vec<Record>>;

fn recorded(cluster: &Cluster) -> Records {
    cluster.ids().into_iter().map(|id| (id, cluster.records(id))).collect()
}

/// A moment to lose power at: at or inside a call, inside a sync, at a change to names, at an acknowledgement, or at
/// the first acknowledgement after the beginning of a new log.
fn moment(records: &Records, ledger: &Ledger, draw: &mut Draw) -> u64 {
    let told: BTreeSet<u64> = acknowledgements(ledger).iter().map(|told| told.at_ns).collect();
    let kind = draw.below(5);
    if kind == 0 {
        let told: Vec<u64> = told.into_iter().collect();
        return *draw.pick(&told).expect("something was acknowledged");
    }
    let is_chosen = |record: &&Record| match (kind, &record.call) {
        (1, _) => true,
        (2, call) => matches!(call, Call::Sync { .. }),
        (3, call) => {
            matches!(call, Call::Rename { .. } | Call::Unlink { .. } | Call::Open { creates: true, .. })
        }
        (_, Call::Open { creates: true, path, .. }) => is_log_of_log_store(path),
        _ => false,
    };
    let chosen: Vec<&Record> = records.values().flatten().filter(is_chosen).collect();
    let record = draw.pick(&chosen).expect("every node opens a log and syncs it");
    let at_ns = draw.between(record.begin_ns, record.end_ns);
    match kind {
        4 => told.range(at_ns..).next().copied().unwrap_or(at_ns),
        _ => at_ns,
    }
}

/// What a loss of power at `at_ns` may leave of the disks that began as `before`; and how many files and names it
/// takes away or changes.
fn lose_power(
    cluster: &Cluster,
    before: &BTreeMap<u64, Tree>,
    records: &Records,
    at_ns: u64,
    draw: &mut Draw,
) -> (BTreeMap<u64, Tree>, usize) {
    let (mut left, mut changed) = (BTreeMap::new(), 0);
    for (id, records) in records {
        let mut disk = Disk::new(&cluster.disk(*id), &before[id]);
        records.iter().filter(|record| record.end_ns <= at_ns).for_each(|record| disk.replay(record));
        let (was, is) = (disk.now(), disk.after_power_loss(draw));
        let paths: BTreeSet<_> = was.keys().chain(is.keys()).collect();
        changed += paths.into_iter().filter(|path| was.get(*path) != is.get(*path)).count();
        left.insert(*id, is);
    }
    (left, changed)
}

fn restore(cluster: &Cluster, trees: &BTreeMap<u64, Tree>) {
    trees.iter().for_each(|(id, tree)| write_tree(&cluster.disk(*id), tree));
}

/// The ledger at `at_ns`: what was acknowledged later may be there or not. What was refused is not, ever.
fn at(ledger: &Ledger, at_ns: u64) -> Ledger {
    let mut ledger = ledger.clone();
    for asked in ledger.asked.values_mut() {
        if matches!(asked.fate, Fate::Acknowledged { at_ns: told_ns } if told_ns > at_ns) {
            asked.fate = Fate::Unknown;
        }
    }
    ledger
}

#[test]
fn a_group_survives_a_loss_of_power_at_any_moment() {
    alone(survives(GROUP));
}

#[test]
fn a_single_node_survives_a_loss_of_power_at_any_moment() {
    alone(survives(ALONE));
}

async fn survives(plan: Plan) {
    let mut site = draws("power").site("loss", plan.nodes);
    let mut cluster = Cluster::new(plan.nodes, true, &ARGUMENTS);
    let mut disks: BTreeMap<u64, Tree> = cluster.ids().into_iter().map(|id| (id, Tree::new())).collect();
    let (mut all, mut changed_in_all) = (Ledger::default(), 0);
    for run in 0..rounds(plan.runs) {
        let mut draw = site.next();
        restore(&cluster, &disks);
        cluster.start_all();
        let first_worker = 1 + run * WORKERS;
        let workload = Workload::start(&cluster, first_worker, WORKERS, FILLER_BYTES, None);
        workload.progress(ACKNOWLEDGED_MIN).await;
        tokio::time::sleep(Duration::from_millis(draw.between(LOAD_MS.0, LOAD_MS.1))).await;
        cluster.kill_all();
        all.asked.append(&mut workload.abandon().asked);
        let (records, before) = (recorded(&cluster), disks);
        let of_run = Ledger {
            asked: all.asked.range((first_worker, 0)..).map(|(id, asked)| (*id, asked.clone())).collect(),
        };
        let mut chosen = (before.clone(), Ledger::default());
        for _ in 0..plan.moments {
            let mut draw = site.next();
            let at_ns = moment(&records, &of_run, &mut draw);
            let (left, changed) = lose_power(&cluster, &before, &records, at_ns, &mut draw);
            let ledger = at(&all, at_ns);
            restore(&cluster, &left);
            cluster.start_all();
            cluster.all_listen();
            let found = read_all(&cluster.client(0, None), &ledger).await;
            cluster.kill_all();
            report(&ledger.flaws(&found));
            changed_in_all += changed;
            println!("run {run}: {} acknowledged, {changed} files and names hit", ledger.acknowledged());
            chosen = (left, ledger);
        }
        (disks, all) = chosen;
    }
    assert!(changed_in_all > 0, "the losses of power took something away");
}

/// A node that only pretended to sync its logs would be found out by the test above.
#[test]
fn a_loss_of_power_shows_syncs_that_were_left_out() {
    alone(async {
        let mut site = draws("power").site("left-out", 0);
        let mut cluster = Cluster::new(3, true, &[]);
        cluster.start_all();
        let workload = Workload::start(&cluster, 1, 2, 0, None);
        workload.progress(50).await;
        cluster.kill_all();
        let ledger = workload.abandon();
        let mut records = recorded(&cluster);
        records.values_mut().for_each(without_syncs_of_logs);
        let before = cluster.ids().into_iter().map(|id| (id, Tree::new())).collect();
        let (left, _) = lose_power(&cluster, &before, &records, super::now_ns(), &mut site.next());
        restore(&cluster, &left);
        cluster.start_all();
        cluster.all_listen();
        let found = read_all(&cluster.client(0, None), &ledger).await;
        let flaws = ledger.flaws(&found);
        assert!(flaws.iter().any(|flaw| flaw.contains("lost")), "nothing is missing: {flaws:?}");
    });
}

/// Makes them the records of a process that does not sync the logs of its stores.
fn without_syncs_of_logs(records: &mut Vec<Record>) {
    let mut logs = BTreeSet::new();
    records.retain(|record| match &record.call {
        Call::Open { descriptor, path, .. } => {
            logs.remove(descriptor);
            if path.extension().is_some_and(|end| end == "log") {
                logs.insert(*descriptor);
            }
            true
        }
        Call::Sync { descriptor, .. } => !logs.contains(descriptor),
        _ => true,
    });
}
