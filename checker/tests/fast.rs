//! The fast paths against brute force, on random small histories of each kind that they are made for; and what they say
//! about a violation.

mod common;

use common::generate::{Shape, corrupt, legal};
use common::oracle::brute_force;
use common::{KvHistory, Rng, assert_engines_agree};
use eraft_checker::models::kv::Kv;
use eraft_checker::{Options, Report, Verdict, check};

/// For each kind, unless `ERAFT_CROSSCHECK` asks for more.
const HISTORIES: u64 = 8_000;

fn histories() -> u64 {
    let asked = std::env::var("ERAFT_CROSSCHECK").ok().and_then(|count| count.parse().ok());
    asked.unwrap_or(HISTORIES).max(HISTORIES)
}

fn shape(rng: &mut Rng, gets: usize, appends: usize, values: usize) -> Shape {
    let operations = 2 + rng.below(8);
    let unknown = rng.below(operations.min(4));
    Shape {
        operations,
        clients: 1 + rng.below(4),
        keys: 1,
        values,
        unknown,
        gets,
        appends,
        deletes: 0,
        cas: 0,
    }
}

fn sample(seed: u64, gets: usize, appends: usize, values: usize) -> KvHistory {
    let mut rng = Rng(seed);
    let shape = shape(&mut rng, gets, appends, values);
    let mut history = legal(&mut rng, &shape);
    for _ in 0..[0, 1, 1, 2][rng.below(4)] {
        corrupt(&mut rng, &mut history);
    }
    history
}

/// The fast paths cost one step for each operation, the search more.
fn was_fast(report: &Report) -> bool {
    report.steps == report.operations as u64
}

fn compare(name: &str, gets: usize, appends: usize, values: usize, fast_percent_min: u64) {
    let (mut seen, mut fast) = ([0; 2], 0);
    for seed in 0..histories() {
        let history = sample(seed, gets, appends, values);
        let expected = brute_force(&history);
        // Not confirmed by another search, which would hide mistakes.
        let report = check(&Kv::new(), &history, &Options { confirm: false, ..Options::default() });
        let verdict = if expected { Verdict::Linearizable } else { Verdict::Violation };
        assert_eq!(report.verdict, verdict, "{name}, seed {seed}: {report:#?} {history:#?}");
        assert_engines_agree(name, &Kv::new(), &history, verdict);
        seen[usize::from(expected)] += 1;
        fast += u64::from(was_fast(&report));
    }
    println!("{name}: illegal, legal: {seen:?}, fast: {fast}");
    assert!(seen.iter().all(|count| *count > 1_000), "{name}: {seen:?}");
    assert!(fast * 100 >= histories() * fast_percent_min, "{name}: {fast} of {}", histories());
}

#[test]
fn unique_writes() {
    compare("unique writes", 50, 0, 0, 99);
}

#[test]
fn repeated_writes() {
    compare("repeated writes", 50, 0, 3, 10);
}

#[test]
fn unique_appends() {
    compare("unique appends", 40, 60, 0, 99);
}

#[test]
fn repeated_appends() {
    compare("repeated appends", 40, 60, 3, 10);
}

#[test]
fn writes_and_appends() {
    compare("writes and appends", 40, 30, 0, 80);
}

#[test]
fn repeated_writes_and_appends() {
    compare("repeated writes and appends", 40, 30, 4, 10);
}
