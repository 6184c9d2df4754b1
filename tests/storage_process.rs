//! A process that is killed while it writes, and a second process beside it. Real builds only.
//!
//! The killed process is this test binary itself, which runs [`child`] alone when [`DIRECTORY`] is set.
#![cfg(not(madsim))]

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use eraft::storage::Volume as _;
use eraft::storage::leveldb::LevelDbVolume;
use eraft::view::{Batch, KeyRange, PageLimit, Pair};
use tempfile::TempDir;

/// Where the child writes.
const DIRECTORY: &str = "STORAGE_PROCESS_DIRECTORY";

/// The child begins here, after what its predecessors wrote.
const FIRST: &str = "STORAGE_PROCESS_FIRST";

/// What the child writes before each number of a completed batch.
const DONE: &str = "done ";

/// Batches that the child has in flight, so that it is killed in the middle of some.
const IN_FLIGHT: usize = 8;

fn batch_of(i: u64) -> Batch {
    let mut batch = Batch::new();
    for part in 0..3 {
        batch.put(format!("{i:08}/{part}"), vec![i as u8; 100 + (i as usize * 37) % 3_000]);
    }
    batch
}

/// Writes without end and prints what is complete; does nothing in an ordinary run of the tests.
#[tokio::test]
async fn child() {
    let (Some(directory), Ok(first)) = (std::env::var_os(DIRECTORY), std::env::var(FIRST)) else { return };
    let volume = LevelDbVolume::open(Path::new(&directory)).expect("the volume opens");
    let store = volume.open("log").await.expect("the store opens");
    let mut writes = VecDeque::new();
    for i in first.parse().expect("a number").. {
        writes.push_back((i, store.write(batch_of(i))));
        if writes.len() == IN_FLIGHT {
            let (done, write) = writes.pop_front().expect("there are some");
            write.await.expect("the write completes");
            // Not `println`, which the test harness would keep for itself.
            writeln!(std::io::stdout().lock(), "{DONE}{done}").expect("the parent reads");
        }
    }
}

fn start_child(directory: &Path, first: u64) -> Child {
    Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", "child", "--nocapture", "--test-threads", "1"])
        .env(DIRECTORY, directory)
        .env(FIRST, first.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the child starts")
}

#[tokio::test]
async fn a_killed_process_keeps_what_it_completed() {
    let directory = TempDir::new().expect("a temporary directory");
    let mut first = 0;
    for completed_min in [1, 20, 300, 700] {
        let mut child = start_child(directory.path(), first);
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
        // The harness prints lines of its own, and one of ours may share its line.
        let number = |line: String| Some(line.split_once(DONE)?.1.parse::<u64>().expect("a number"));
        let mut done = lines.by_ref().filter_map(number).nth(completed_min - 1);
        let refused =
            LevelDbVolume::open(directory.path()).err().expect("another process uses it").to_string();
        assert!(refused.contains("in use by another process"), "{refused}");
        child.kill().expect("the child is killed");
        done = lines.filter_map(number).last().or(done);
        child.wait().expect("the child is gone");

        let completed = done.expect("the child completed some writes") + 1;
        let volume = LevelDbVolume::open(directory.path()).expect("the volume opens");
        let store = volume.open("log").await.expect("a killed process leaves no damage");
        let everything = PageLimit { pairs_max: usize::MAX, bytes_max: usize::MAX };
        let found = store.page(&KeyRange::all(), everything).expect("the store is read");
        first = found.len() as u64 / 3;
        assert!(first >= completed, "{first} batches are there of {completed} completed ones");
        let pairs_of =
            |i| batch_of(i).writes.into_iter().map(|(key, value)| (key, value.unwrap_or_default()));
        let expected: Vec<Pair> = (0..first).flat_map(pairs_of).collect();
        assert!(
            found == expected,
            "after {completed} completed batches something else is there, or a part of one"
        );
    }
}
