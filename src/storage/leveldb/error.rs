//! From the words of LevelDB and of the operating system to [`StorageError`].

use std::io;
use std::path::Path;

use super::super::StorageError;

/// What operators are told if another process holds the lock.
const LOCKED: &str = "it is in use by another process";

/// An error of the operating system while doing `action` to `path`.
pub(super) fn from_io(action: &str, path: &Path, error: &io::Error) -> StorageError {
    let action = format!("{action} {}", path.display());
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StorageError::Full { action },
        _ => StorageError::Io { action, reason: error.to_string() },
    }
}

/// A file whose content is not what was written.
pub(super) fn corrupt(path: &Path, offset: usize, reason: impl Into<String>) -> StorageError {
    StorageError::Corrupt { path: path.display().to_string(), offset: offset as u64, reason: reason.into() }
}

/// LevelDB's `message` on doing `action` to the store in `directory`. LevelDB's status is its message's beginning;
/// the rest is for humans, and names the file if it knows it.
pub(super) fn from_leveldb(action: &str, directory: &Path, message: &str) -> StorageError {
    if message.starts_with("Corruption:") {
        return corrupt(directory, 0, format!("{action}: {message} (the offset is unknown)"));
    }
    let action = format!("{action} {}", directory.display());
    if ["No space left on device", "Disk quota exceeded"].iter().any(|words| message.contains(words)) {
        return StorageError::Full { action };
    }
    if message.contains("/LOCK:") {
        return StorageError::Io { action, reason: format!("{message}: {LOCKED}") };
    }
    StorageError::Io { action, reason: message.to_string() }
}
