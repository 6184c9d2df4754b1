//! A replica whose state is damaged on its disk wipes it and gets a snapshot; its log and its vote stay. On LevelDB.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use eraft::client::Outcome;
use eraft::replica::Options;
use eraft::storage::leveldb::LevelDbVolume;
use eraft::storage::leveldb::wal::{HEADER_BYTES, scan};

use super::nodes::{Group, wait_for};

const KEYS: usize = 12;
const VALUE_BYTES: usize = 1 << 10;
const VICTIM: u64 = 3;

/// A log that holds less than the keys: the state cannot be made from it again.
fn options() -> Options {
    Options {
        heartbeat_ms: 10,
        election_timeout_ms: (60, 120),
        apply_flush_ms: 10,
        log_bytes_max: 4 << 10,
        reconnect_backoff_ms: (5, 20),
        ..Options::default()
    }
}

struct Cluster {
    group: Group,
    directory: tempfile::TempDir,
}

impl Cluster {
    fn start(&mut self, id: u64) {
        let volume = LevelDbVolume::open(&self.data(id)).expect("the volume opens");
        self.group.start_on(id, Arc::new(volume));
    }

    fn data(&self, id: u64) -> PathBuf {
        self.directory.path().join(format!("n{id}"))
    }

    fn end_and_flip_a_record(&mut self, victim: u64) {
        self.group.end(victim);
        let log = self.state_files(victim, "log").pop().expect("a log of the state");
        let mut records = Vec::new();
        scan(&fs::read(&log).expect("a log"), |offset, payload| records.push((offset, payload.len())));
        let (offset, length) = records[records.len() / 2 - 1];
        flip(&log, offset + HEADER_BYTES + length / 2);
    }

    fn put_all(&self, seed: u64) {
        let client = self.group.client(seed);
        for number in 0..KEYS {
            let put = client.put(format!("key {number}").into(), vec![seed as u8; VALUE_BYTES].into());
            assert_eq!(self.group.here.block_on(put), Outcome::Ok(()));
        }
    }

    /// The victim's log no longer holds the first entries, and everybody has applied the same.
    fn settle(&self) {
        wait_for("everybody holds the same, and the victim's log is compacted", || {
            let status: Vec<_> = (1..=3).filter_map(|id| self.group.status(id)).collect();
            let same = |one: usize| {
                status[one].applied == status[0].applied && status[one].replica_hash == status[0].replica_hash
            };
            (status.len() == 3 && same(1) && same(2) && status[2].log_first > 4).then_some(())
        });
    }

    /// The files of a node's state that end in `extension`, the largest last.
    fn state_files(&self, id: u64, extension: &str) -> Vec<PathBuf> {
        let stores = entries(&self.data(id).join("stores"));
        let states = stores
            .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("state.")));
        let files = states.flat_map(|state| entries(&state).collect::<Vec<_>>());
        let mut files: Vec<_> =
            files.filter(|path| path.extension().is_some_and(|end| end == extension)).collect();
        files.sort_by_key(|path| fs::metadata(path).expect("a file").len());
        files
    }
}

fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    entries.map(|entry| entry.expect("an entry").path())
}

fn flip(file: &Path, offset: usize) {
    let mut content = fs::read(file).expect("a file");
    content[offset] ^= 0x10;
    fs::write(file, content).expect("a file");
}

fn written(nodes: u64) -> Cluster {
    let group = Group::new(nodes, options());
    let mut cluster = Cluster { group, directory: tempfile::tempdir().expect("a directory") };
    (1..=nodes).for_each(|id| cluster.start(id));
    cluster.put_all(7);
    cluster
}

fn settled() -> Cluster {
    let cluster = written(3);
    cluster.settle();
    cluster
}

fn received(cluster: &Cluster) -> u64 {
    cluster.group.status(VICTIM).expect("it answers").snapshot_received_bytes
}

/// What is found when the store is opened is repaired at once.
#[test]
fn a_state_with_a_damaged_log_file_is_wiped_and_a_snapshot_comes() {
    let mut cluster = settled();
    cluster.end_and_flip_a_record(VICTIM);

    cluster.start(VICTIM);
    cluster.settle();
    assert!(received(&cluster) > (KEYS * VALUE_BYTES) as u64 - 1);
    cluster.put_all(8);
    cluster.settle();
}

/// What is found later ends the node. The next start verifies the state, and repairs it.
#[test]
fn a_state_with_a_damaged_table_ends_the_node_and_is_wiped_at_the_next_start() {
    let mut cluster = settled();
    // LevelDB makes a table of its log when it is opened.
    cluster.group.end(VICTIM);
    cluster.start(VICTIM);
    cluster.settle();
    cluster.group.end(VICTIM);
    let table = cluster.state_files(VICTIM, "ldb").pop().expect("a table of the state");
    flip(&table, fs::metadata(&table).expect("a file").len() as usize / 2);

    cluster.start(VICTIM);
    // One that is behind would get a snapshot, and read nothing of what it has.
    cluster.settle();
    cluster.put_all(8);
    wait_for("it reads what is damaged, and ends", || cluster.group.status(VICTIM).is_none().then_some(()));
    let pointer = fs::read_to_string(cluster.data(VICTIM).join("state")).expect("the pointer");
    assert!(pointer.ends_with(" suspect"), "{pointer}");
    cluster.group.end(VICTIM);
    cluster.start(VICTIM);
    cluster.settle();
    assert!(received(&cluster) > (KEYS * VALUE_BYTES) as u64 - 1);
}

/// Nobody has another copy: it is left as it is, at every start.
#[test]
fn the_damaged_state_of_a_group_of_one_is_refused_and_kept() {
    let mut cluster = written(1);
    wait_for("the state is on disk", || {
        let status = cluster.group.status(1)?;
        (status.applied == status.commit && status.log_first > 4).then_some(())
    });
    cluster.end_and_flip_a_record(1);
    let log = cluster.state_files(1, "log").pop().expect("a log of the state");
    let damaged = fs::read(&log).expect("a log");

    for start in 1..=2 {
        let volume = LevelDbVolume::open(&cluster.data(1)).expect("the volume opens");
        let process = cluster.group.process(1, Arc::new(volume));
        let refused = cluster.group.here.block_on(process).expect_err("no copy is left to start from");
        let words = refused.to_string();
        let name = log.file_name().expect("a name").to_string_lossy();
        assert!(words.contains(&*name) && words.contains("at byte"), "start {start}: {words}");
        assert_eq!(fs::read(&log).expect("it is still there"), damaged, "start {start}");
    }
}
