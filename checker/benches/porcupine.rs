//! Porcupine beside this checker, on the same histories in the same run: verdicts, times and ratios.
//!
//! `GO` names a Go toolchain (1.21 or later), `PORCUPINE` the folder with porcupine's source; without them this is skipped,
//! which is said. `ERAFT_HISTORY_DATA` adds the real histories, `PORCUPINE_SECONDS` is the time for each (30). An argument
//! leaves only the histories whose group and name contain it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use eraft_checker::generate::{Shape, generate};
use eraft_checker::{AnyHistory, Format, Options, Verdict, read_history};
use serde::Deserialize;

/// What porcupine says about a file.
#[derive(Deserialize)]
struct Theirs {
    file: String,
    verdict: String,
    micros: f64,
}

fn main() {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let (Some(go), Some(source)) = (variable("GO"), variable("PORCUPINE")) else {
        println!("skipped: porcupine (set GO to a Go toolchain and PORCUPINE to the folder with its source)");
        return;
    };
    let folder = tempfile::tempdir().expect("a folder for the histories");
    let program = build(&go, &source, folder.path());
    let seconds = std::env::var("PORCUPINE_SECONDS").unwrap_or_else(|_| "30".to_owned());
    let mut groups: Vec<(&str, Vec<(String, AnyHistory)>)> = Vec::new();
    if let Some(data) = variable("ERAFT_HISTORY_DATA") {
        groups.push(("etcd", read(&data, "etcd")));
        groups.push(("kv", read(&data, "kv")));
    } else {
        println!("skipped: real histories (set ERAFT_HISTORY_DATA to the folder that holds porcupine/)");
    }
    groups.push(("generated", families()));
    let only = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    for (group, mut histories) in groups {
        histories.retain(|(name, _)| format!("{group}: {name}").contains(&only));
        if histories.is_empty() {
            continue;
        }
        println!("\n{group}: file, operations, verdict, porcupine, ours, ratio");
        let files: Vec<PathBuf> = histories.iter().map(|(name, _)| folder.path().join(name)).collect();
        for ((_, history), file) in histories.iter().zip(&files) {
            let mut out = fs::File::create(file).map(std::io::BufWriter::new).expect("a history file");
            history.write(&mut out).expect("the history can be written");
        }
        let theirs = run(&program, &seconds, &files);
        compare(&files, &theirs);
    }
}

/// Builds the Go program against the given source.
fn build(go: &Path, source: &Path, folder: &Path) -> PathBuf {
    let program = folder.join("program");
    fs::create_dir_all(&program).expect("a folder for the program");
    fs::write(program.join("main.go"), include_str!("porcupine/main.go"))
        .expect("the program can be written");
    let source = source.canonicalize().unwrap_or_else(|error| panic!("{}: {error}", source.display()));
    let module = format!(
        "module bench\n\ngo 1.21\n\nrequire github.com/anishathalye/porcupine v0.0.0\n\nreplace \
         github.com/anishathalye/porcupine => {}\n",
        source.display()
    );
    fs::write(program.join("go.mod"), module).expect("the module can be written");
    let binary = folder.join("porcupine-bench");
    let built = Command::new(go)
        .args(["build", "-o"])
        .arg(&binary)
        .current_dir(&program)
        .env("GOFLAGS", "-mod=mod")
        .env("GOTOOLCHAIN", "local")
        .status();
    assert!(
        built.is_ok_and(|status| status.success()),
        "the Go program does not build with {}",
        go.display()
    );
    binary
}

fn run(program: &Path, seconds: &str, files: &[PathBuf]) -> BTreeMap<PathBuf, Theirs> {
    let output = Command::new(program).arg(seconds).args(files).output().expect("the program runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8_lossy(&output.stdout);
    let parse = |line: &str| -> Theirs { serde_json::from_str(line).expect("a line of JSON") };
    lines.lines().map(parse).map(|theirs| (PathBuf::from(&theirs.file), theirs)).collect()
}

/// The fastest of some runs of the verdict alone, in microseconds.
fn ours(history: &AnyHistory) -> (Verdict, f64) {
    const REPETITIONS_MAX: usize = 50;
    let options = Options { verdict_only: true, confirm: false, jobs: 2, ..Options::default() };
    let (start, mut best, mut verdict) = (Instant::now(), Duration::MAX, Verdict::Undecided);
    for repetition in 0..REPETITIONS_MAX {
        if repetition > 0 && start.elapsed() > Duration::from_secs(1) {
            break;
        }
        let at = Instant::now();
        verdict = history.check(&options).verdict;
        best = best.min(at.elapsed());
    }
    (verdict, best.as_nanos() as f64 / 1e3)
}

fn compare(files: &[PathBuf], theirs: &BTreeMap<PathBuf, Theirs>) {
    let (mut total_theirs, mut total_ours, mut logarithms, mut slowest) = (0.0, 0.0, 0.0, f64::MAX);
    for file in files {
        let bytes = fs::read(file).expect("a history file");
        let history = read_history(&bytes[..], Format::Jsonl, None).expect("a history");
        let (verdict, micros) = ours(&history);
        let theirs = &theirs[file];
        let same = match (theirs.verdict.as_str(), verdict) {
            ("Ok", Verdict::Linearizable) | ("Illegal", Verdict::Violation) => "",
            ("Unknown", _) => " (porcupine: unknown)",
            _ => " DIFFERENT",
        };
        let ratio = theirs.micros / micros;
        let operations = bytes.split(|byte| *byte == b'\n').filter(|line| is_invoke(line)).count();
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        println!(
            "{name}, {operations}, {verdict}{same}, {:.0} µs, {micros:.1} µs, {ratio:.1}x",
            theirs.micros
        );
        assert!(!same.contains("DIFFERENT"), "{name}: porcupine says {}", theirs.verdict);
        (total_theirs, total_ours) = (total_theirs + theirs.micros, total_ours + micros);
        logarithms += ratio.ln();
        slowest = slowest.min(ratio);
    }
    println!(
        "total: {:.1} ms, {:.2} ms, {:.0}x; geometric mean {:.1}x; least {slowest:.2}x",
        total_theirs / 1e3,
        total_ours / 1e3,
        total_theirs / total_ours,
        (logarithms / files.len() as f64).exp()
    );
}

fn is_invoke(line: &[u8]) -> bool {
    line.windows(8).any(|part| part == b"\"invoke\"")
}

fn read(data: &Path, folder: &str) -> Vec<(String, AnyHistory)> {
    let folder = data.join("porcupine").join(folder);
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("the folder can be listed").path())
        .collect();
    files.sort();
    let history = |file: &PathBuf| {
        let bytes = fs::read(file).expect("the file can be read");
        let history = (!bytes.is_empty()).then(|| read_history(&bytes[..], Format::Auto, None));
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Some((name, history?.expect("the file is a history")))
    };
    files.iter().filter_map(history).collect()
}

/// The families that porcupine can decide, and those that it gives up on.
fn families() -> Vec<(String, AnyHistory)> {
    let register = Shape { keys: 0, ..Shape::default() };
    let appends = Shape { operations: 2_000, keys: 4, appends: 50, ..Shape::default() };
    let unknown = Shape { operations: 100, values: 5, cas: 20, ..register };
    let many_keys = Shape { appends: 35, clients: 50, operations: 1_000_000, ..Shape::default() };
    let mut families = vec![
        ("unique values, 1,000 operations".to_owned(), register, 1),
        ("unique values, 10,000 operations".to_owned(), Shape { operations: 10_000, ..register }, 1),
        ("unique values, 100,000 operations".to_owned(), Shape { operations: 100_000, ..register }, 1),
        ("5 values, 1,000 operations".to_owned(), Shape { values: 5, ..register }, 1),
        ("5 values, 100,000 operations".to_owned(), Shape { values: 5, operations: 100_000, ..register }, 1),
        ("5 values, 10 clients".to_owned(), Shape { values: 5, clients: 10, ..register }, 1),
        ("5 values, 20 clients".to_owned(), Shape { values: 5, clients: 20, ..register }, 1),
        ("append and get, 5 clients".to_owned(), appends, 1),
        ("append and get, 20 clients".to_owned(), Shape { clients: 20, ..appends }, 1),
        ("1,000,000 operations, 10,000 keys".to_owned(), Shape { keys: 10_000, ..many_keys }, 1),
        ("1,000,000 operations, 1,000 keys".to_owned(), Shape { keys: 1_000, ..many_keys }, 1),
    ];
    for seed in 1..=4 {
        for permille in [50, 100, 170, 250] {
            let shape = Shape { unknown_permille: permille, ..unknown };
            families.push((format!("{permille} permille unknown, seed {seed}"), shape, seed));
            families.push((
                format!("{permille} permille unknown, stale, seed {seed}"),
                Shape { stale: true, ..shape },
                seed,
            ));
        }
    }
    let made = families.into_iter().map(|(name, shape, seed)| (name, generate(&shape, seed)));
    made.collect()
}
