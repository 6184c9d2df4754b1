//! The engine on a real file system.

use tempfile::TempDir;

use super::*;
use crate::storage::Volume;
use crate::storage::suite::{self, End, Harness};

/// A volume in a temporary directory. A process death is staged by closing everything, which is what is left of it
/// on a file system: every completed write is already synced. Power losses need a device of their own.
struct Real {
    directory: TempDir,
}

impl Real {
    fn new() -> Self {
        Self { directory: TempDir::new().expect("a temporary directory") }
    }

    fn open(&self) -> Arc<dyn Volume> {
        Arc::new(LevelDbVolume::open(self.directory.path()).expect("the volume opens"))
    }
}

impl Harness for Real {
    async fn fresh(&mut self) -> Arc<dyn Volume> {
        *self = Self::new();
        self.open()
    }

    async fn reopen(&mut self, volume: Arc<dyn Volume>, end: End) -> Option<Arc<dyn Volume>> {
        drop(volume);
        (end == End::ProcessDeath).then(|| self.open())
    }
}

#[tokio::test]
async fn conforms() {
    suite::run_all(&mut Real::new()).await;
}

#[tokio::test]
async fn agrees_with_the_model() {
    for seed in 0..4 {
        suite::model::check(&mut Real::new(), seed, 150, &[End::ProcessDeath]).await;
    }
}

fn put(key: &str, value: &str) -> Batch {
    let mut batch = Batch::new();
    batch.put(key, value);
    batch
}

#[tokio::test]
async fn a_snapshot_keeps_its_store_open() {
    let real = Real::new();
    let volume = real.open();
    let store = volume.open("log").await.expect("the store opens");
    store.write(put("a", "1")).await.expect("the write completes");
    let snapshot = store.snapshot().expect("a snapshot");
    drop(store);
    assert_eq!(snapshot.get(b"a"), Ok(Some(b"1".to_vec())));
    let error = volume.open("log").await.err().expect("the database is open").to_string();
    assert!(error.contains("a snapshot keeps it open"), "{error}");
    drop(snapshot);
    volume.open("log").await.expect("the store opens again");
}

#[tokio::test]
async fn a_directory_is_used_by_one_volume() {
    let real = Real::new();
    let volume = real.open();
    let second = || LevelDbVolume::open(real.directory.path()).map(drop);
    let error = second().expect_err("the directory is locked").to_string();
    assert!(error.contains("in use by another process"), "{error}");
    let store = volume.open("log").await.expect("the store opens");
    drop(volume);
    second().expect_err("an open store keeps the directory locked");
    drop(store);
    second().expect("everything is closed");
}

#[tokio::test]
async fn what_a_crash_leaves_behind_is_swept() {
    let real = Real::new();
    let volume = real.open();
    volume.replace_file("current", b"old".to_vec()).await.expect("the file is replaced");
    drop(volume);
    let stores = real.directory.path().join("stores");
    for name in [".log.new", ".state.removed"] {
        std::fs::create_dir(stores.join(name)).expect("a directory");
        std::fs::write(stores.join(name).join("CURRENT"), b"half").expect("a file");
    }
    std::fs::write(real.directory.path().join(".current.new"), b"ne").expect("a file");
    let volume = real.open();
    assert_eq!(files::names_in(&stores), Ok(vec![]));
    assert_eq!(volume.read_file("current").await, Ok(Some(b"old".to_vec())));
    volume.replace_file("current", b"new".to_vec()).await.expect("the file is replaced");
    assert_eq!(volume.read_file("current").await, Ok(Some(b"new".to_vec())));
}

#[tokio::test]
async fn a_dropped_store_has_written_what_was_queued() {
    let real = Real::new();
    let volume = real.open();
    let store = volume.open("log").await.expect("the store opens");
    let writes: Vec<_> = (0..100).map(|i| store.write(put(&format!("{i:03}"), "1"))).collect();
    drop(store);
    for write in writes {
        write.await.expect("a queued write completes");
    }
    let store = volume.open("log").await.expect("the store opens again");
    let everything = PageLimit { pairs_max: usize::MAX, bytes_max: usize::MAX };
    assert_eq!(store.page(&KeyRange::all(), everything).map(|page| page.len()), Ok(100));
}

#[test]
fn leveldbs_words_become_types() {
    let of = |message| error::from_leveldb("writing to", Path::new("/d"), message);
    assert!(matches!(of("IO error: /d/5.log: No space left on device"), StorageError::Full { .. }));
    assert!(matches!(of("Corruption: bad block"), StorageError::Corrupt { .. }));
    let locked = of("IO error: lock /d/LOCK: Resource temporarily unavailable").to_string();
    assert!(locked.contains("in use by another process"), "{locked}");
    let other = of("IO error: /d/5.log: Input/output error");
    assert_eq!(other.to_string(), "writing to /d: IO error: /d/5.log: Input/output error");
}

/// The exam of what is checked before a store is opened: with each planted bug a log that is damaged, or torn, is
/// not what it is without.
#[cfg(feature = "mutants")]
mod exam {
    use super::*;
    use crate::mutants::{MutantId, Mutants};

    /// What a store says that was opened after `harm` was done to the log of one with three records: how many keys it
    /// has, or why it does not open.
    async fn opened_after(harm: fn(&mut Vec<u8>), mutants: Mutants) -> Result<usize, String> {
        let real = Real::new();
        let volume = real.open();
        let store = volume.open("log").await.expect("the store opens");
        for key in ["a", "b", "c"] {
            store.write(put(key, "value")).await.expect("the write completes");
        }
        drop((store, volume));
        let logs = recovery::logs_in(&real.directory.path().join("stores/log")).expect("it has a log");
        let (_, path) = logs.last_key_value().expect("it has a log");
        let mut content = std::fs::read(path).expect("it is read");
        harm(&mut content);
        std::fs::write(path, content).expect("it is written");
        let volume = LevelDbVolume::open_with(real.directory.path(), mutants).expect("the volume opens");
        let store = volume.open("log").await.map_err(|error| error.to_string())?;
        let everything = PageLimit { pairs_max: usize::MAX, bytes_max: usize::MAX };
        store.page(&KeyRange::all(), everything).map(|page| page.len()).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn damage_that_is_ignored_loses_what_was_acknowledged() {
        // The length of the second of three records: LevelDB takes it for a torn write and what follows for nothing.
        let flip: fn(&mut Vec<u8>) = |log| {
            let second = log.len() / 3;
            log[second + 5] ^= 0x10;
        };
        let refused = opened_after(flip, Mutants::default()).await.expect_err("the second record is damaged");
        assert!(refused.contains(".log: damaged at byte") && refused.contains("follows"), "{refused}");
        let ignored = opened_after(flip, Mutants::with(MutantId::DiskChecksumIgnored)).await;
        assert_ne!(ignored, Ok(3));
        assert!(ignored.as_ref().err().is_none_or(|error| !error.contains(".log: damaged")), "{ignored:?}");
    }

    #[tokio::test]
    async fn a_torn_record_that_is_left_there_keeps_the_store_from_opening() {
        // The last bytes of the last write did not reach the device: they are what was there before.
        let tear: fn(&mut Vec<u8>) = |log| {
            let end = log.len();
            log[end - 3..].fill(0);
        };
        assert_eq!(opened_after(tear, Mutants::default()).await, Ok(2));
        let accepted = opened_after(tear, Mutants::with(MutantId::DiskTornTailAccepted)).await;
        assert_ne!(accepted, Ok(2));
    }
}
