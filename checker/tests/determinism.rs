//! The same history gives the same bytes: over runs, and over threads.

mod common;

use common::generate::{Shape, corrupt, legal};
use common::{KvHistory, Rng};
use eraft_checker::models::kv::Kv;
use eraft_checker::{Options, Report, Verdict, check, linearize, minimize, picture};

const RUNS: usize = 10;

fn sample(seed: u64) -> KvHistory {
    sample_of(seed, 3_000)
}

fn sample_of(seed: u64, operations: usize) -> KvHistory {
    let mut rng = Rng(seed);
    let shape = Shape {
        operations,
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
    let (report, told) = told_in_words(history, jobs);
    (report.verdict, told + &page(history, &report, jobs))
}

/// All but the picture.
fn told_in_words(history: &KvHistory, jobs: usize) -> (Report, String) {
    let options = Options { jobs, confirm: false, ..Options::default() };
    let report = check(&Kv::new(), history, &options);
    let orders = linearize(&Kv::new(), history, &options);
    let small = minimize(&Kv::new(), history, &options);
    let told = format!("{}\n{orders:?}\n{small:?}\n", serde_json::to_string(&report).unwrap());
    (report, told)
}

fn page(history: &KvHistory, report: &Report, jobs: usize) -> String {
    let options = Options { jobs, confirm: false, ..Options::default() };
    picture(&Kv::new(), history, report, "a history", &options)
}

/// More operations than the fast paths leave to one thread.
const MANY_OPERATIONS: usize = 60_000;

#[test]
fn the_same_bytes_when_partitions_are_decided_in_parallel() {
    let mut verdicts = Vec::new();
    for seed in [0, 3] {
        let history = sample_of(seed, MANY_OPERATIONS);
        let (report, first) = told_in_words(&history, 1);
        verdicts.push(report.verdict);
        for run in 0..RUNS {
            for jobs in [1, 2] {
                assert!(told_in_words(&history, jobs).1 == first, "seed {seed}, run {run}, {jobs} threads");
            }
        }
        // The picture takes longer than all else; of smaller histories it is drawn in every run.
        assert!(page(&history, &report, 1) == page(&history, &report, 2), "seed {seed}");
    }
    assert!(
        verdicts.contains(&Verdict::Linearizable) && verdicts.contains(&Verdict::Violation),
        "{verdicts:?}"
    );
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
