//! What a check costs, for real histories with known verdicts and for generated families.
//!
//! `ERAFT_HISTORY_DATA` names the folder that holds `porcupine/`; without it the real histories are skipped, which is said.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hint::black_box;
use std::path::PathBuf;
use std::time::Duration;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use eraft_checker::check::{Engine, check_by};
use eraft_checker::generate::{Shape, generate};
use eraft_checker::models::whole::Whole;
use eraft_checker::{
    AnyHistory, Format, History, Model, Online, OnlineOptions, Options, Verdict, check, read_history,
};

/// Only what a check without explanation costs, as other checkers do by default.
fn verdict_only() -> Options {
    Options { verdict_only: true, confirm: false, ..Options::default() }
}

fn explained() -> Options {
    Options { confirm: false, ..Options::default() }
}

/// A real history with its name and its verdict.
struct Known {
    name: String,
    history: AnyHistory,
    verdict: Verdict,
}

/// The histories of a folder. The table of the data says what is true of them: `| etcd/etcd_000.log | not linearizable |`.
fn read(folder: &str) -> Vec<Known> {
    let Some(data) = std::env::var_os("ERAFT_HISTORY_DATA").map(PathBuf::from) else { return Vec::new() };
    let data = data.join("porcupine");
    let table = std::fs::read_to_string(data.join("README.md")).expect("the table of verdicts can be read");
    let rows = table.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| ")?.split(" | ");
        let (file, verdict) = (cells.next()?, cells.next()?.trim_end_matches(" |"));
        let name = file.strip_prefix(folder)?.strip_prefix('/')?;
        let violation = verdict == "not linearizable";
        Some((name.to_owned(), if violation { Verdict::Violation } else { Verdict::Linearizable }))
    });
    let history = |file: &str| {
        let bytes = std::fs::read(data.join(folder).join(file)).expect("the file can be read");
        let format = if bytes.is_empty() { Format::JepsenLog } else { Format::Auto };
        read_history(&bytes[..], format, None).expect("the file is a history")
    };
    rows.map(|(file, verdict)| Known { history: history(&file), name: file, verdict }).collect()
}

fn real_histories(criterion: &mut Criterion) {
    let (etcd, kv) = (read("etcd"), read("kv"));
    if etcd.is_empty() {
        println!("skipped: real histories (set ERAFT_HISTORY_DATA to the folder that holds porcupine/)");
        return;
    }
    let mut group = criterion.benchmark_group("data");
    group.bench_function("etcd, all files", |bencher| {
        bencher.iter(|| {
            etcd.iter().for_each(|known| assert_verdict(&known.history, &verdict_only(), known.verdict));
        });
    });
    for Known { name, history, verdict } in &kv {
        group.bench_function(name, |bencher| {
            bencher.iter(|| assert_verdict(black_box(history), &verdict_only(), *verdict));
        });
        forget_peak();
        let before_kib = peak_kib();
        let report = history.check(&explained());
        println!(
            "measured: {name}: explained by {} operations in {} KiB above the history",
            report.core.len(),
            peak_kib().saturating_sub(before_kib)
        );
        assert_eq!(report.core.is_empty(), *verdict == Verdict::Linearizable);
        assert!(report.core.len() <= CORE_OPERATIONS_MAX, "{name}: {}", report.explanation());
        group.bench_function(format!("{name}, explained"), |bencher| {
            bencher.iter(|| assert_verdict(black_box(history), &explained(), *verdict));
        });
    }
    group.finish();
}

/// A violation of the real histories is explained by at most so many operations.
const CORE_OPERATIONS_MAX: usize = 6;

/// The most memory that is resident is counted from now on. Linux only.
fn forget_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn assert_verdict(history: &AnyHistory, options: &Options, verdict: Verdict) {
    assert_eq!(history.check(options).verdict, verdict);
}

fn families(criterion: &mut Criterion) {
    let register = Shape { keys: 0, ..Shape::default() };
    let hundred_thousand = Shape { operations: 100_000, ..register };
    let million = Shape { operations: 1_000_000, ..register };
    let appends = Shape { operations: 2_000, keys: 4, appends: 50, ..Shape::default() };
    let unknown = Shape { operations: 100, values: 5, cas: 20, ..register };
    let many_keys = Shape { appends: 35, clients: 50, keys: 10_000, ..million };
    let repeated = Shape { values: 5, ..hundred_thousand };
    let shapes = [
        ("unique values, 100,000 operations, 5 clients", hundred_thousand),
        ("unique values, 100,000 operations, 5 clients, stale", Shape { stale: true, ..hundred_thousand }),
        ("unique values, 1,000,000 operations, 5 clients", million),
        ("unique values, 1,000,000 operations, 20 clients", Shape { clients: 20, ..million }),
        ("order told, 1,000,000 operations, 20 clients", Shape { clients: 20, index: true, ..million }),
        ("5 values, 100,000 operations, 5 clients", repeated),
        ("5 values, 100,000 operations, 5 clients, stale", Shape { stale: true, ..repeated }),
        ("5 values, 1,000,000 operations, 5 clients", Shape { values: 5, ..million }),
        ("5 values, 1,000 operations, 20 clients", Shape { values: 5, clients: 20, ..register }),
        ("5 values, 1,000 operations, 50 clients", Shape { values: 5, clients: 50, ..register }),
        (
            "5 values, 1,000 operations, 50 clients, stale",
            Shape { values: 5, clients: 50, stale: true, ..register },
        ),
        ("append/get, 2,000 operations, 50 clients", Shape { clients: 50, ..appends }),
        ("append/get, 2,000 operations, 50 clients, stale", Shape { clients: 50, stale: true, ..appends }),
        ("with deletes, 2,000 operations, 50 clients", Shape { clients: 50, deletes: 10, ..appends }),
        ("17 % unknown outcomes, 100 operations", Shape { unknown_permille: 170, ..unknown }),
        ("25 % unknown outcomes, 100 operations", Shape { unknown_permille: 250, ..unknown }),
        ("10,000 keys, 1,000,000 operations, 50 clients", many_keys),
        ("1,000 keys, 1,000,000 operations, 50 clients", Shape { keys: 1_000, ..many_keys }),
    ];
    let mut group = criterion.benchmark_group("generated");
    group.sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
    for (name, shape) in shapes {
        let history = generate(&shape, 1);
        let verdict = if shape.stale { Verdict::Violation } else { Verdict::Linearizable };
        let threads: &[usize] = if shape.keys >= 1_000 { &[1, 2] } else { &[1] };
        for jobs in threads {
            let name = if threads.len() > 1 { format!("{name}, {jobs} threads") } else { name.to_owned() };
            let options = Options { jobs: *jobs, ..verdict_only() };
            group.bench_function(name, |bencher| {
                bencher.iter_batched(
                    || (),
                    |()| assert_verdict(black_box(&history), &options, verdict),
                    BatchSize::PerIteration,
                );
            });
        }
    }
    // With unknown outcomes a stale read may be possible, so the verdict is not known beforehand: whatever the whole engine
    // says, its frontier search alone must say too.
    let shape = Shape { unknown_permille: 250, stale: true, ..unknown };
    let AnyHistory::Register(model, history) = generate(&shape, 1) else {
        panic!("no keys make it a register")
    };
    let verdict = check_by(Engine::Breadth, &model, &history, &verdict_only()).verdict;
    group.bench_function(format!("25 % unknown outcomes, 100 operations, stale: {verdict}"), |bencher| {
        bencher.iter(|| {
            assert_eq!(check(&model, black_box(&history), &verdict_only()).verdict, verdict);
        });
    });
    group.finish();
}

/// Stores that are not taken apart by key, as an object would be that cannot be.
fn without_partition(criterion: &mut Criterion) {
    let kv = Shape { keys: 10, reads: 46, appends: 48, operations: 400, clients: 10, ..Shape::default() };
    let shapes = [
        ("as porcupine's c10, 10 clients", kv),
        ("the same, stale", Shape { stale: true, ..kv }),
        ("3 keys, 5 values, 1,000 operations", Shape { keys: 3, values: 5, appends: 0, clients: 5, ..kv }),
    ];
    let mut group = criterion.benchmark_group("without partition");
    group.sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
    for (name, shape) in shapes {
        let AnyHistory::Kv(model, history) = generate(&shape, 1) else { panic!("keys make it a store") };
        let model = Whole::new(model);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let verdict = check(&model, black_box(&history), &verdict_only()).verdict;
                assert_eq!(verdict == Verdict::Violation, shape.stale);
            });
        });
    }
    group.finish();
}

/// Checking while the events arrive, one by one.
fn online(criterion: &mut Criterion) {
    let register = Shape { keys: 0, operations: 200_000, ..Shape::default() };
    let shapes = [
        ("unique values, 5 clients", register),
        ("5 values, 5 clients", Shape { values: 5, ..register }),
        ("unique values, 20 clients", Shape { clients: 20, ..register }),
        ("10 keys, appends, 10 clients", Shape { keys: 10, appends: 5, clients: 10, ..register }),
    ];
    let mut group = criterion.benchmark_group("online, 200,000 operations");
    group.sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
    for (name, shape) in shapes {
        let history = generate(&shape, 1);
        for probe_every in [1, 64] {
            let options = OnlineOptions { probe_every, ..OnlineOptions::default() };
            group.bench_function(format!("{name}, a probe every {probe_every}"), |bencher| {
                bencher.iter(|| match &history {
                    AnyHistory::Register(model, history) => follow(*model, history, options),
                    AnyHistory::Kv(model, history) => follow(model.clone(), history, options),
                    other => panic!("{other:?} is not generated"),
                });
            });
        }
    }
    group.finish();
}

fn follow<M: Model>(model: M, history: &History<M::Op, M::Ret>, options: OnlineOptions) {
    let mut online = Online::new(model, options);
    let mut returns: BinaryHeap<Reverse<(usize, usize)>> = BinaryHeap::new();
    let answer = |online: &mut Online<M>, number: usize| {
        let operation = &history.operations[number];
        if let Some(ret) = operation.ret() {
            assert_eq!(online.ok(operation.process, ret.clone(), 0, None), Ok(None));
        }
    };
    for (number, operation) in history.operations.iter().enumerate() {
        while returns.peek().is_some_and(|Reverse((event, _))| *event < operation.invoked.event) {
            let Some(Reverse((_, number))) = returns.pop() else { break };
            answer(&mut online, number);
        }
        assert_eq!(online.invoke(operation.process, operation.op.clone(), 0, None), Ok(()));
        returns.extend(operation.returned().map(|returned| Reverse((returned.event, number))));
    }
    while let Some(Reverse((_, number))) = returns.pop() {
        answer(&mut online, number);
    }
    assert_eq!(online.report().verdict, Verdict::Linearizable);
}

criterion_group!(benches, real_histories, families, without_partition, online);
criterion_main!(benches);
