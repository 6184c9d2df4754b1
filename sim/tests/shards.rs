//! The exam of the scheduler over the machines of the sharded store: healthy code passes, and each planted bug of the
//! controllers and of migration is found, by the oracle that is named here.

use eraft::mutants::{CATALOGUE, Layer, MutantId, Mutants};
use eraft_sim::core::{Options, Verdict};
use eraft_sim::shards::{ShardsReport, run};

/// What finds each bug first, from seed 0 on, and within how many seeds; the catalogue names what finds it most often.
const EXAM: [(MutantId, &str, u64); 14] = [
    (MutantId::CtrlerHashOrder, "ctrler.deterministic", 100),
    (MutantId::CtrlerMovesTooMany, "ctrler.minimal", 100),
    (MutantId::CtrlerLeaveDropsShard, "ctrler.balanced", 100),
    (MutantId::CtrlerOldQueryGetsLatest, "ctrler.deterministic", 100),
    (MutantId::CtrlerDuplicateJoin, "ctrler.refused", 100),
    (MutantId::ShardkvServeBeforeArrival, "shard.position", 100),
    (MutantId::ShardkvDeleteBeforeCommit, "shard.no_loss", 100),
    (MutantId::ShardkvSessionsNotMoved, "kv.exactly_once", 100),
    (MutantId::ShardkvSkipConfig, "shard.config_order", 100),
    (MutantId::ShardkvPullFromNewer, "kv.exactly_once", 100),
    (MutantId::ShardkvDeleteReturned, "shard.no_loss", 100),
    (MutantId::ShardkvNeverDeletes, "shard.no_loss", 100),
    (MutantId::ShardkvWriteWhileBePulling, "shard.single_owner", 100),
    (MutantId::ShardkvUnaffectedBlocked, "sim.liveness", 100),
];

fn examine(seed: u64, seeds_max: u64, mutants: Mutants) -> ShardsReport {
    run(&Options { seed, seeds_max, jobs: 2, mutants, ..Options::default() })
}

#[test]
fn healthy_code_passes_and_everything_happens() {
    let report = examine(0, 400, Mutants::default());
    assert_eq!(report.violation, None);
    assert_eq!((report.verdict, report.seeds), (Verdict::Pass, 400), "{:?}", report.counts);
    assert!(report.counts.values().all(|count| *count > 10), "{:?}", report.counts);
}

/// A source that lives and itself waited for a dead one kept the only place of its other shards.
#[test]
fn what_came_to_nothing_keeps_no_place() {
    for seed in [2652, 100_774, 200_108, 300_723, 400_648] {
        assert_eq!(examine(seed, 1, Mutants::default()).violation, None);
    }
}

#[test]
fn the_exam_is_that_of_the_catalogue() {
    let expected = CATALOGUE.iter().filter(|mutant| {
        mutant.layers.contains(&Layer::Core) && ["ctrler", "shardkv"].contains(&mutant.group)
    });
    let expected: Vec<MutantId> = expected.map(|mutant| mutant.mutant).collect();
    assert_eq!(EXAM.map(|(mutant, ..)| mutant).to_vec(), expected);
}

#[test]
fn every_planted_bug_of_controllers_and_migration_is_found() {
    for (mutant, oracle, seeds_max) in EXAM {
        let report = examine(0, seeds_max, Mutants::with(mutant));
        let found = report.violation.as_ref().map(|violation| violation.violation.oracle.as_str());
        assert_eq!(found, Some(oracle), "{mutant:?} after {} seeds: {:?}", report.seeds, report.violation);
    }
}

#[test]
fn a_seed_is_a_reproduction_whatever_the_number_of_threads() {
    let mutants = Mutants::with(MutantId::ShardkvSessionsNotMoved);
    let first = examine(0, 500, mutants).violation.expect("the planted bug is found");
    assert_eq!(examine(0, 500, mutants).violation, Some(first.clone()));
    assert_eq!(examine(first.seed, 1, mutants).violation, Some(first));
}
