//! Durable storage: one contract, three engines.
//!
//! A [`Store`] holds ordered keys. A write batch is atomic and **durable when its future resolves**; there are no
//! unsynced writes, because LevelDB does not lose those as a suffix (it drops its old log file unsynced at
//! rotation, so a lazy batch can vanish from the middle while later ones survive). A [`Volume`] is the data
//! directory of one replica: named stores beside small files that are replaced atomically.
//!
//! Engines: `leveldb` (real builds), [`memory`] (unit tests), and the simulator's disk, which lives with the
//! simulator. All pass the one conformance suite in [`suite`].

#[cfg(not(madsim))]
pub mod leveldb;
pub mod memory;
pub mod names;
pub mod suite;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::view::{Batch, View};

/// A boxed future, so that engines of both worlds stand behind one object-safe trait.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send + 'static>>;

/// What went wrong below us. None of these is ever retried as if it might have succeeded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// The device or the file system refused: what was being done, and its own words.
    #[error("{action}: {reason}")]
    Io {
        /// What we were doing, with the path.
        action: String,
        /// The engine's or the operating system's message.
        reason: String,
    },
    /// The device is full. Nothing of the batch is durable for certain.
    #[error("{action}: no space left on the device")]
    Full {
        /// What we were doing, with the path.
        action: String,
    },
    /// Another process has the directory open. Nothing is wrong with it.
    #[error("{path} is in use by another process")]
    InUse {
        /// The locked file.
        path: String,
    },
    /// Bytes on disk are not what was written.
    #[error("{path}: damaged at byte {offset}: {reason}")]
    Corrupt {
        /// The file.
        path: String,
        /// Where in the file, in bytes.
        offset: u64,
        /// What was expected.
        reason: String,
    },
    /// The store was closed, its node was stopped, or an earlier failure made it read-only.
    #[error("the store is closed: {0}")]
    Closed(String),
}

/// Ordered keys on a device.
///
/// Calls of `write` take effect in the order in which they are made (not polled), and complete in that order.
/// After a failed write every later write fails: the store's owner must stop acknowledging.
pub trait Store: View + Send + Sync + 'static {
    /// Applies `batch` atomically; durable when the future resolves to `Ok`. On an error the batch may or may not
    /// be there after a restart, but never in part.
    fn write(&self, batch: Batch) -> BoxFuture<Result<(), StorageError>>;

    /// A view of the completed writes as they are now, untouched by later ones.
    fn snapshot(&self) -> Result<Arc<dyn View + Send + Sync>, StorageError>;
}

/// The data directory of one replica.
pub trait Volume: Send + Sync + 'static {
    /// Opens the store `name`, creating it if it is not there. It is an error to open a store twice.
    fn open(&self, name: &str) -> BoxFuture<Result<Arc<dyn Store>, StorageError>>;

    /// Removes the store `name`, which must not be open; nothing happens if it is not there.
    fn remove(&self, name: &str) -> BoxFuture<Result<(), StorageError>>;

    /// The names of all stores, in order.
    fn list(&self) -> BoxFuture<Result<Vec<String>, StorageError>>;

    /// The content of the small file `name`; `None` if it is not there.
    fn read_file(&self, name: &str) -> BoxFuture<Result<Option<Vec<u8>>, StorageError>>;

    /// Replaces the small file `name` (write beside it, sync, rename, sync the directory): after a crash it holds
    /// the old or the new content, and once the future resolves the new one.
    fn replace_file(&self, name: &str, content: Vec<u8>) -> BoxFuture<Result<(), StorageError>>;

    /// Bytes used on the device, for status; an estimate.
    fn bytes_used(&self) -> BoxFuture<Result<u64, StorageError>>;
}
