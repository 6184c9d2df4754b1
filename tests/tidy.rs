//! Rules that no compiler holds: which module may know which, and what breaks replay.
//!
//! Each rule says why it is there. The rules look at code, not at comments or test modules.
#![cfg(not(madsim))]

use std::fs;
use std::path::{Path, PathBuf};

/// One line of code, without its comment.
struct Line {
    file: String,
    number: usize,
    code: String,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(directory: &Path, files: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a directory entry").path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            if !path.ends_with("target") {
                rust_files(&path, files);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn is_test_only(file: &str) -> bool {
    let is_script_runner = file == "src/raft/script.rs" || file.starts_with("src/raft/script/");
    file.ends_with("_tests.rs") || file.ends_with("/tests.rs") || file.contains("/tests/") || is_script_runner
}

/// The product code below `directory`: no comments, no test modules, no test files.
fn code_below(directory: &str) -> Vec<Line> {
    let mut files = Vec::new();
    rust_files(&root().join(directory), &mut files);
    let mut lines = Vec::new();
    for path in files {
        let file = path.strip_prefix(root()).expect("below the root").to_string_lossy().replace('\\', "/");
        if is_test_only(&file) {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"));
        // A test module is the tail of its file.
        let product = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for (index, line) in product.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default().trim_end().to_owned();
            lines.push(Line { file: file.clone(), number: index + 1, code });
        }
    }
    assert!(!lines.is_empty(), "{directory}: no code found, so the rule would hold of nothing");
    lines
}

/// Whether `word` stands in `code` by itself, not as a part of a longer name.
fn mentions(code: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        let bounded_before = !word.starts_with(is_part) || !before.is_some_and(is_part);
        let bounded_after = !word.ends_with(is_part) || !after.is_some_and(is_part);
        bounded_before && bounded_after
    })
}

/// Fails with every line of `lines` that mentions one of `banned`, unless `allowed` says that its file may.
fn ban(lines: &[Line], banned: &[&str], why: &str, allowed: impl Fn(&str) -> bool) {
    let found: Vec<String> = lines
        .iter()
        .filter(|line| !allowed(&line.file))
        .filter_map(|line| {
            let word = banned.iter().find(|word| mentions(&line.code, word))?;
            Some(format!("{}:{}: `{word}`: {}", line.file, line.number, line.code.trim()))
        })
        .collect();
    assert!(found.is_empty(), "{why}\n{}", found.join("\n"));
}

fn nowhere(_: &str) -> bool {
    false
}

const PURE_FILES: &[&str] = &[
    "src/addresses.rs",
    "src/ctrler/change.rs",
    "src/ctrler/codec.rs",
    "src/ctrler/config.rs",
    "src/ctrler/machine.rs",
    "src/ctrler/rebalance.rs",
    "src/ctrler/records.rs",
    "src/kv/machine.rs",
    "src/kv/operation.rs",
    "src/machine.rs",
    "src/mutants.rs",
    "src/session/mod.rs",
    "src/session/table.rs",
    "src/shardkv/adopt.rs",
    "src/shardkv/chunk.rs",
    "src/shardkv/errand.rs",
    "src/shardkv/follow.rs",
    "src/shardkv/machine.rs",
    "src/shardkv/migrate.rs",
    "src/shardkv/query.rs",
    "src/shardkv/record.rs",
    "src/types.rs",
    "src/view.rs",
];

fn pure_code() -> Vec<Line> {
    let is_pure = |file: &str| file.starts_with("src/raft/") || PURE_FILES.contains(&file);
    for file in PURE_FILES {
        assert!(root().join(file).exists(), "{file} is gone; name its successor here");
    }
    code_below("src").into_iter().filter(|line| is_pure(&line.file)).collect()
}

#[test]
fn pure_modules_know_no_clock_no_chance_no_disk_and_no_task() {
    let banned = [
        "tokio",
        "madsim",
        "tonic",
        "futures_util",
        "async fn",
        ".await",
        "std::time",
        "Instant",
        "SystemTime",
        "std::fs",
        "std::net",
        "std::thread",
        "std::env",
        "std::process",
        "rand",
        "rand_chacha",
        "getrandom",
        "HashMap",
        "HashSet",
        "println!",
        "tracing",
    ];
    ban(&pure_code(), &banned, "a pure module is a function of its inputs", nowhere);
}

#[test]
fn dependencies_point_one_way() {
    let of = |prefix: &'static str| -> Vec<Line> {
        code_below("src").into_iter().filter(|line| line.file.starts_with(prefix)).collect()
    };
    let shell =
        ["crate::replica", "crate::client", "crate::node", "crate::server", "crate::cli", "crate::observe"];
    ban(&pure_code(), &shell, "pure modules know only each other", nowhere);
    ban(&pure_code(), &["crate::storage", "crate::random"], "pure modules know only each other", nowhere);
    ban(
        &of("src/raft/"),
        &["crate::kv", "crate::proto", "crate::machine"],
        "the core knows no machine",
        nowhere,
    );
    let above_storage =
        ["crate::raft", "crate::kv", "crate::replica", "crate::client", "crate::node", "crate::server"];
    ban(&of("src/storage/"), &above_storage, "storage knows only keys", nowhere);
    let above_replica = ["crate::kv", "crate::client", "crate::node", "crate::server", "crate::cli"];
    ban(&of("src/replica/"), &above_replica, "a replica drives any machine", nowhere);
    ban(
        &of("src/client/"),
        &["crate::node", "crate::server", "crate::cli"],
        "a client knows no server",
        nowhere,
    );
    ban(
        &code_below("src"),
        &["eraft_sim", "eraft_checker"],
        "the product knows nothing of its testbed",
        nowhere,
    );
    ban(
        &code_below("checker/src"),
        &["eraft::", "eraft_sim", "tokio", "madsim"],
        "the checker stands alone",
        nowhere,
    );
}

/// Real-only code: threads, files and processes are its purpose.
fn is_real_only(file: &str) -> bool {
    ["src/storage/leveldb", "src/server/", "src/cli/", "src/bin/"]
        .iter()
        .any(|prefix| file.starts_with(prefix))
}

#[test]
fn node_code_does_nothing_that_a_seed_does_not_decide() {
    let node = code_below("src");
    let sources = [
        "HashMap",
        "HashSet",
        "thread_rng",
        "rand::random",
        "OsRng",
        "ahash",
        "RandomState",
        "getrandom",
        "sync::watch",
        "watch::channel",
        "futures::select!",
        "futures_util::select!",
        "select_biased!",
        "StreamMap",
        "std::thread",
        "thread::spawn",
        "spawn_blocking",
        "std::fs",
        "std::env",
    ];
    ban(&node, &sources, "it differs from run to run of one seed (docs/TESTING.md, ledger)", is_real_only);
    let clocks = ["tokio::time", "std::time::Instant", "Instant::now", "SystemTime"];
    let may_read_clocks = |file: &str| is_real_only(file) || file == "src/replica/timers.rs";
    ban(&node, &clocks, "clock faults reach only what goes through replica/timers.rs", may_read_clocks);
}

#[test]
fn every_select_is_biased() {
    for directory in ["src", "sim/src"] {
        let lines = code_below(directory);
        for (at, line) in lines.iter().enumerate().filter(|(_, line)| mentions(&line.code, "select!")) {
            let next = lines[at + 1..].iter().find(|line| !line.code.trim().is_empty());
            let biased = next.is_some_and(|next| next.code.trim() == "biased;");
            assert!(biased, "{}:{}: an unbiased select! differs between runs", line.file, line.number);
        }
    }
}

#[test]
fn nothing_is_left_unfinished() {
    let banned = ["todo!", "unimplemented!", "dbg!", "#[ignore", "FIXME", "XXX"];
    for directory in ["src", "sim/src", "checker/src"] {
        ban(&code_below(directory), &banned, "finish it or leave it out", nowhere);
    }
}

/// A file that a reader finishes in one sitting.
const FILE_LINES_MAX: usize = 500;

#[test]
fn files_stay_readable() {
    let mut files = Vec::new();
    for directory in ["src", "sim", "checker", "tests"] {
        rust_files(&root().join(directory), &mut files);
    }
    for path in files {
        let lines = fs::read_to_string(&path).expect("readable").lines().count();
        assert!(lines <= FILE_LINES_MAX, "{} has {lines} lines; split it by topic", path.display());
    }
}

#[test]
fn the_rules_see_what_they_look_for() {
    assert!(mentions("use tokio::sync;", "tokio") && !mentions("let tokios = 1;", "tokio"));
    assert!(mentions("tokio::select! {", "select!") && !mentions("reselect! {", "select!"));
    assert!(mentions("#[ignore = \"later\"]", "#[ignore"));
    let line = Line { file: "src/a.rs".into(), number: 1, code: "HashMap::new()".into() };
    let caught = std::panic::catch_unwind(|| ban(&[line], &["HashMap"], "why", nowhere));
    assert!(caught.is_err(), "a banned word is found");
}
