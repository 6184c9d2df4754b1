//! Histories of the size that the simulator records: decided within milliseconds, legal or not.

mod common;

use std::time::Instant;

use common::generate::{Shape, legal, plant_stale_read};
use common::{KvHistory, Rng};
use eraft_checker::models::kv::Kv;
use eraft_checker::{Options, Report, Role, Verdict, check};

const SEEDS: u64 = 10;

/// More than ten times what these histories take, so that a step backwards shows.
const STEPS_MAX: u64 = 2_000_000;

fn report(name: &str, history: &KvHistory) -> Report {
    let start = Instant::now();
    let options = Options { steps_max: STEPS_MAX, confirm: false, ..Options::default() };
    let report = check(&Kv::new(), history, &options);
    println!("{name}: {report}, {:?}", start.elapsed());
    report
}

fn decide_all(name: &str, shape: &Shape) {
    for seed in 0..SEEDS {
        let mut rng = Rng(seed);
        let mut history = legal(&mut rng, shape);
        let good = report(name, &history);
        assert_eq!(good.verdict, Verdict::Linearizable, "{name}, seed {seed}: {:?}", good.reason);
        assert_eq!(good.unknown, shape.unknown);
        let stale = plant_stale_read(&mut rng, &mut history);
        let bad = report(name, &history);
        assert_eq!(bad.verdict, Verdict::Violation, "{name}, seed {seed}: {:?}", bad.reason);
        assert_eq!(bad.core[0].role, Role::Unplaceable);
        assert_eq!(bad.core[0].process, history.operations[stale].process, "{name}, seed {seed}");
        assert_eq!(bad, report(name, &history), "a report must be deterministic");
    }
}

const STANDARD: Shape = Shape {
    operations: 5_000,
    clients: 5,
    keys: 10,
    values: 0,
    unknown: 20,
    gets: 50,
    appends: 10,
    deletes: 5,
    cas: 10,
};

#[test]
fn a_standard_run() {
    decide_all("standard", &STANDARD);
}

#[test]
fn few_keys_and_many_unknown_outcomes() {
    decide_all("unknown", &Shape { keys: 5, unknown: 60, ..STANDARD });
}

#[test]
fn many_appends_of_unknown_outcome() {
    decide_all("appends", &Shape { operations: 2_000, keys: 5, unknown: 40, appends: 45, ..STANDARD });
}

#[test]
fn many_clients_on_one_key() {
    decide_all("one key", &Shape { operations: 1_000, clients: 10, keys: 1, unknown: 10, ..STANDARD });
}

#[test]
fn more_open_operations_than_bits_in_a_word() {
    decide_all("wide", &Shape { operations: 1_000, keys: 1, unknown: 150, appends: 0, ..STANDARD });
}

#[test]
fn values_that_repeat_are_decided_too() {
    for seed in 0..SEEDS {
        let shape = Shape { values: 4, appends: 0, keys: 5, unknown: 40, ..STANDARD };
        let history = legal(&mut Rng(seed), &shape);
        assert_eq!(report("repeated", &history).verdict, Verdict::Linearizable, "seed {seed}");
    }
}
