//! The same history gives the same bytes: over runs, and over threads.

mod common;

use common::generate::{Shape, corrupt, legal, plant_stale_read};
use common::{KvHistory, Rng};
use eraft_checker::models::kv::Kv;
use eraft_checker::{Options, Verdict, check, linearize, minimize, picture};

const RUNS: usize = 10;

fn sample(seed: u64) -> KvHistory {
    let mut rng = Rng(seed);
    let shape = Shape {
        operations: 3_000,
        clients: 8,
        keys: 12,
        values: [0, 0, 5][rng.below(3)],
        unknown: rng.below(20),
        gets: 50,
        appends: [0, 10][rng.below(2)],
        deletes: [0, 5][rng.below(2)],
        cas: [0, 10][rng.below(2)],
    };
    let mut history = legal(&mut rng, &shape);
    for _ in 0..rng.below(4) {
        corrupt(&mut rng, &mut history);
    }
    history
}

/// Everything that is told of a history.
fn told(history: &KvHistory, jobs: usize) -> (Verdict, String) {
    let options = Options { jobs, confirm: false, ..Options::default() };
    let report = check(&Kv::new(), history, &options);
    let orders = linearize(&Kv::new(), history, &options);
    let small = minimize(&Kv::new(), history, &options);
    let page = picture(&Kv::new(), history, &report, "a history", &options);
    let told = format!("{}\n{orders:?}\n{small:?}\n{page}", serde_json::to_string(&report).unwrap());
    (report.verdict, told)
}

/// More operations than the fast paths leave to one thread.
const MANY_OPERATIONS: usize = 60_000;

#[test]
fn the_same_bytes_when_partitions_are_decided_in_parallel() {
    let mut rng = Rng(1);
    let shape = Shape {
        operations: MANY_OPERATIONS,
        clients: 8,
        keys: 12,
        values: 0,
        unknown: 10,
        gets: 50,
        appends: 10,
        deletes: 0,
        cas: 0,
    };
    let mut history = legal(&mut rng, &shape);
    for verdict in [Verdict::Linearizable, Verdict::Violation] {
        let options = |jobs: usize| Options { jobs, confirm: false, ..Options::default() };
        let decide = |jobs: usize| {
            let report = check(&Kv::new(), &history, &options(jobs));
            (report, linearize(&Kv::new(), &history, &options(jobs)))
        };
        let first = decide(1);
        assert_eq!(first.0.verdict, verdict);
        for run in 0..RUNS {
            for jobs in [1, 2] {
                assert!(decide(jobs) == first, "run {run}, {jobs} threads");
            }
        }
        // These take longer than all else; of smaller histories they are made in every run.
        assert!(told(&history, 1) == told(&history, 2), "{verdict}");
        plant_stale_read(&mut rng, &mut history);
    }
}

#[test]
fn the_same_bytes_over_runs_and_threads() {
    let mut violations = 0;
    for seed in 0..6 {
        let history = sample(seed);
        let (verdict, first) = told(&history, 1);
        violations += usize::from(verdict == Verdict::Violation);
        for run in 0..RUNS {
            for jobs in [1, 2] {
                assert!(told(&history, jobs).1 == first, "seed {seed}, run {run}, {jobs} threads");
            }
        }
    }
    assert!((1..6).contains(&violations), "{violations}");
}

#[test]
fn a_quick_verdict_is_the_same_verdict() {
    for seed in 0..6 {
        let history = sample(seed);
        let expected = told(&history, 1).0;
        for jobs in [1, 2] {
            let options = Options { jobs, verdict_only: true, confirm: false, ..Options::default() };
            let report = check(&Kv::new(), &history, &options);
            assert_eq!((report.verdict, report.core.len()), (expected, 0), "seed {seed}, {jobs} threads");
        }
    }
}
