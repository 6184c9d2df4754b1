//! What a release is made of: no planted bug in it, and no silent change of world.
#![cfg(not(madsim))]

use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn cargo() -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(root()).env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    cargo
}

fn contains(haystack: &[u8], needle: &str) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle.as_bytes())
}

/// Built as `make release` builds it (`-p eraft` alone, so that no other package's features come in), the binary holds
/// no id of a planted bug.
#[test]
fn a_binary_built_alone_holds_no_planted_bug() {
    let built = cargo().args(["build", "-p", "eraft", "--bin", "eraft", "--message-format=json"]).output();
    let built = built.expect("cargo runs");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let messages = String::from_utf8_lossy(&built.stdout);
    let executable = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .expect("cargo names the binary");
    let binary = std::fs::read(&executable).expect("the binary is read");
    assert!(contains(&binary, "n1 listens") || contains(&binary, "listens on"), "this is the binary we mean");
    for id in ["vote_not_durable", "commit_old_term", "reply_before_sync", "no_dedup", "read_without_barrier"]
    {
        assert!(!contains(&binary, id), "{id} is in {}", executable.display());
    }
}

/// An environment's RUSTFLAGS replaces the flag that chooses the simulated world, silently. The command says so.
#[test]
fn a_simulator_that_was_built_for_the_real_world_says_so() {
    let directory = tempfile::tempdir().expect("a directory");
    // Built without the flag, as `cargo sim` is under an environment that sets RUSTFLAGS.
    let built = cargo()
        .args(["build", "-p", "eraft-sim", "--bin", "eraft-sim", "--message-format=json"])
        .output()
        .expect("cargo runs");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let messages = String::from_utf8_lossy(&built.stdout);
    let executable = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .expect("cargo names the binary");
    let ran = Command::new(executable).current_dir(directory.path()).arg("list").output().expect("it runs");
    assert_eq!(ran.status.code(), Some(70));
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(said.contains("cargo sim"), "{said}");
}
