//! The real engine: LevelDB, behind our own safe wrapper.
//!
//! - `handle`: the only place that calls LevelDB's C interface.
//! - `writer`: the thread per store that groups batches into synced writes.
//! - [`wal`] and `recovery`: what is checked, and cut off, before LevelDB opens a store.
//! - [`volume`]: the data directory.
//!
//! What is found and what is not: LevelDB is opened paranoid and every read verifies checksums, so a damaged table
//! fails the read that meets it. Damage to CURRENT, MANIFEST or a log refuses the store at open, with file and
//! offset. The exception is the very last record of a log: damage inside it, or the loss of whole records from the
//! log's end, cannot be told from a write that the machine never finished, and is cut off with a warning. Tables are
//! read by calls and not mapped into memory, so a device that fails to deliver one fails the read.
//!
//! What we assume of the file system: within one directory, names change in order. LevelDB switches CURRENT to a new
//! MANIFEST and deletes the old one without a sync between; file systems with a journal keep that order.

mod error;
mod files;
mod handle;
mod manifest;
mod recovery;
pub mod volume;
pub mod wal;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use handle::{BLOCK_CACHE_BYTES, BLOOM_BITS_PER_KEY, WRITE_BUFFER_BYTES};
pub use volume::LevelDbVolume;
pub use writer::{GROUP_BYTES_MAX, QUEUE_BATCHES_MAX, QUEUE_BYTES_MAX};

use super::{BoxFuture, StorageError, Store};
use crate::view::{Batch, KeyRange, PageLimit, Pair, View, ViewError};
use handle::{Database, Snapshot};
use writer::Writer;

/// An open store. Dropping it completes what is queued, ends its thread and, once the last snapshot is gone, closes
/// the database; it may then be opened again at once. That may take as long as a sync.
pub struct LevelDbStore {
    /// Before `database`: its thread must end first.
    writer: Writer,
    database: Arc<Database>,
    directory: PathBuf,
}

impl LevelDbStore {
    /// Wraps the database in `directory`, just opened.
    fn start(database: Database, directory: &Path) -> Result<Self, StorageError> {
        let database = Arc::new(database);
        let writer = Writer::start(database.clone(), directory)?;
        Ok(Self { writer, database, directory: directory.to_path_buf() })
    }
}

impl View for LevelDbStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        self.database.get(key).map_err(|message| read_error(&self.directory, &message))
    }

    fn page(&self, range: &KeyRange, limit: PageLimit) -> Result<Vec<Pair>, ViewError> {
        self.database.page(range, limit).map_err(|message| read_error(&self.directory, &message))
    }
}

impl Store for LevelDbStore {
    fn write(&self, batch: Batch) -> BoxFuture<Result<(), StorageError>> {
        let outcome = self.writer.write(batch);
        Box::pin(async move {
            let gone = || StorageError::Closed("its thread ended before the write was done".to_string());
            outcome.await.unwrap_or_else(|_| Err(gone()))
        })
    }

    fn snapshot(&self) -> Result<Arc<dyn View + Send + Sync>, StorageError> {
        let snapshot = self.database.snapshot();
        Ok(Arc::new(SnapshotView { snapshot, directory: self.directory.clone() }))
    }
}

/// A frozen view, which keeps the database open.
struct SnapshotView {
    snapshot: Snapshot,
    directory: PathBuf,
}

impl View for SnapshotView {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        self.snapshot.get(key).map_err(|message| read_error(&self.directory, &message))
    }

    fn page(&self, range: &KeyRange, limit: PageLimit) -> Result<Vec<Pair>, ViewError> {
        self.snapshot.page(range, limit).map_err(|message| read_error(&self.directory, &message))
    }
}

/// Reads have one kind of error; its text says where.
fn read_error(directory: &Path, message: &str) -> ViewError {
    ViewError(error::from_leveldb("reading the store in", directory, message).to_string())
}

#[cfg(test)]
mod tests;
