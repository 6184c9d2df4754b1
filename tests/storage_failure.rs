//! Devices that refuse a write in the middle of it. Real builds only.
//!
//! Two tricks that need no privileges: a limit on the size of files, behind which a write stops halfway, and a link
//! to `/dev/full` where LevelDB will make its next log. The limit is the whole process's, so these tests take turns.
#![cfg(not(madsim))]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use eraft::storage::leveldb::{LevelDbVolume, WRITE_BUFFER_BYTES};
use eraft::storage::{StorageError, Store, Volume as _};
use eraft::view::{Batch, KeyRange, PageLimit};
use tempfile::TempDir;

/// The limit is for all threads.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Limits the size of every file that this process writes, until dropped.
struct FileLimit {
    before: libc::rlimit,
}

impl FileLimit {
    fn set(bytes: u64) -> Self {
        let mut before = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the pointers are to live structures; ignoring SIGXFSZ turns the signal into an error of the write.
        unsafe {
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            assert_eq!(libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut before), 0);
            let limited = libc::rlimit { rlim_cur: bytes, ..before };
            assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limited), 0);
        }
        Self { before }
    }
}

impl Drop for FileLimit {
    fn drop(&mut self) {
        // SAFETY: as above.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const self.before) }, 0);
    }
}

fn batch_of(i: usize, value_bytes: usize) -> Batch {
    let mut batch = Batch::new();
    batch.put(format!("{i:05}/a"), vec![i as u8; value_bytes]);
    batch.put(format!("{i:05}/b"), vec![i as u8; value_bytes]);
    batch
}

async fn open(path: &Path) -> (LevelDbVolume, Arc<dyn Store>) {
    let volume = LevelDbVolume::open(path).expect("the volume opens");
    let store = volume.open("log").await.expect("the store opens");
    (volume, store)
}

/// Writes until one fails: how many were completed, and the failure.
async fn write_until_failure(store: &Arc<dyn Store>, value_bytes: usize) -> (usize, StorageError) {
    for i in 0..10_000 {
        if let Err(error) = store.write(batch_of(i, value_bytes)).await {
            return (i, error);
        }
    }
    panic!("no write failed");
}

/// All later writes are refused for the same reason, also those queued together; reads go on.
async fn assert_closed(store: &Arc<dyn Store>, first: &StorageError, completed: usize, value_bytes: usize) {
    let queued: Vec<_> = (0..5).map(|i| store.write(batch_of(20_000 + i, 10))).collect();
    for write in queued {
        let error = write.await.expect_err("a write after a failed one");
        let StorageError::Closed(reason) = &error else {
            panic!("it should be refused as closed, not {error}")
        };
        assert!(reason.contains(&first.to_string()), "{reason:?} should name the first failure, {first}");
    }
    assert_holds(store, completed, value_bytes, false);
}

/// The store holds the first `completed` batches, and with `or_one_more` perhaps the whole one after them.
fn assert_holds(store: &Arc<dyn Store>, completed: usize, value_bytes: usize, or_one_more: bool) {
    let everything = PageLimit { pairs_max: usize::MAX, bytes_max: usize::MAX };
    let found = store.page(&KeyRange::all(), everything).expect("reads work");
    let holds = |count: usize| {
        let writes = (0..count).flat_map(|i| batch_of(i, value_bytes).writes);
        found.iter().cloned().eq(writes.map(|(key, value)| (key, value.unwrap_or_default())))
    };
    assert!(
        holds(completed) || (or_one_more && holds(completed + 1)),
        "{} pairs are there after {completed} completed batches of two",
        found.len()
    );
}

#[tokio::test]
async fn a_write_that_stops_halfway_closes_the_store_and_is_cut_off() {
    let _turn = TURN.lock().await;
    for (limit, value_bytes) in [(100_000, 1_000), (32_768, 100), (32_770, 100), (150_000, 40_000)] {
        let directory = TempDir::new().expect("a temporary directory");
        let (volume, store) = open(directory.path()).await;
        let limited = FileLimit::set(limit);
        let (completed, failure) = write_until_failure(&store, value_bytes).await;
        assert!(matches!(failure, StorageError::Io { .. }), "a file that may not grow: {failure:?}");
        assert!(failure.to_string().contains("stores/log"), "the failure says where: {failure}");
        assert!(completed > 0, "writes below the limit work");
        assert_closed(&store, &failure, completed, value_bytes).await;
        drop((store, volume, limited));

        let (volume, store) = open(directory.path()).await;
        assert_holds(&store, completed, value_bytes, true);
        store.write(batch_of(completed, value_bytes)).await.expect("a reopened store writes again");
        drop((store, volume));
        let (_volume, store) = open(directory.path()).await;
        assert_holds(&store, completed + 1, value_bytes, false);
    }
}

#[tokio::test]
async fn a_full_device_is_called_full() {
    let _turn = TURN.lock().await;
    if !Path::new("/dev/full").exists() {
        return;
    }
    let directory = TempDir::new().expect("a temporary directory");
    let (volume, store) = open(directory.path()).await;
    let files = directory.path().join("stores/log");
    let names =
        fs::read_dir(&files).expect("the store is listed").map(|entry| entry.expect("an entry").file_name());
    let numbers = names.filter_map(|name| name.to_str()?.strip_suffix(".log")?.parse::<u64>().ok());
    let next_log = files.join(format!("{:06}.log", numbers.max().expect("there is a log") + 1));
    std::os::unix::fs::symlink("/dev/full", &next_log).expect("the link is made");

    let value_bytes = 100_000;
    let (completed, failure) = write_until_failure(&store, value_bytes).await;
    assert!(matches!(failure, StorageError::Full { .. }), "a full device: {failure:?}");
    assert!(completed * 2 * value_bytes >= WRITE_BUFFER_BYTES, "the first log was not full yet");
    assert_closed(&store, &failure, completed, value_bytes).await;
    drop((store, volume));

    // What a full device leaves: a log without content.
    fs::remove_file(&next_log).expect("the link is removed");
    fs::write(&next_log, b"").expect("an empty log");
    let (_volume, store) = open(directory.path()).await;
    assert_holds(&store, completed, value_bytes, false);
}

/// A directory that cannot be made, or is none, is an error that names it.
#[tokio::test]
async fn a_bad_directory_is_named() {
    let _turn = TURN.lock().await;
    let directory = TempDir::new().expect("a temporary directory");
    let file = directory.path().join("file");
    fs::write(&file, b"x").expect("a file");
    let error = LevelDbVolume::open(&file.join("data")).err().expect("a directory inside a file");
    assert!(error.to_string().contains(&file.display().to_string()), "{error}");

    let volume = LevelDbVolume::open(&directory.path().join("data")).expect("the volume opens");
    fs::write(directory.path().join("data/stores/log"), b"x").expect("a file in a store's place");
    let error = volume.open("log").await.err().expect("a store that is a file");
    assert!(error.to_string().contains("stores/log"), "{error}");
}
