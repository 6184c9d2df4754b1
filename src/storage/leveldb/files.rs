//! Small durable steps on a file system: what is done here survives a loss of power once it has returned.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use super::super::StorageError;
use super::error::from_io;

/// Syncs a directory: the names in it, not the files.
pub(super) fn sync_directory(path: &Path) -> Result<(), StorageError> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| from_io("syncing", path, &error))
}

/// Makes `path` and what is missing above it, each synced into its parent before the next one is made.
///
/// The first one that is there is synced too: the process that made it may have ended before it was.
pub(super) fn create_directories(path: &Path) -> Result<(), StorageError> {
    if path.is_dir() {
        return sync_parent(path);
    }
    let parent = parent_of(path);
    create_directories(&parent)?;
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(from_io("making the directory", path, &error))
        }
        _ => sync_directory(&parent),
    }
}

/// Syncs the directory that holds the name of `path`. A parent that we may not open is somebody else's care.
pub(super) fn sync_parent(path: &Path) -> Result<(), StorageError> {
    let parent = parent_of(path);
    match File::open(&parent) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            tracing::warn!(path = %parent.display(), "cannot sync the directory above the data: {error}");
            Ok(())
        }
        Err(error) => Err(from_io("opening", &parent, &error)),
        Ok(directory) => directory.sync_all().map_err(|error| from_io("syncing", &parent, &error)),
    }
}

/// The directory that holds the name of `path`.
fn parent_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// Replaces `directory/name`: whoever opens it sees the old or the new content, before and after a crash.
pub(super) fn replace_file(directory: &Path, name: &str, content: &[u8]) -> Result<(), StorageError> {
    // Names of small files do not begin with a dot, so this one is free; a crash may leave it, the next replacement
    // overwrites it.
    let beside = directory.join(format!(".{name}.new"));
    let written = File::create(&beside).and_then(|mut file| {
        file.write_all(content)?;
        file.sync_all()
    });
    written.map_err(|error| from_io("writing", &beside, &error))?;
    rename(&beside, &directory.join(name))
}

/// Renames within one directory, and syncs that.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), StorageError> {
    fs::rename(from, to).map_err(|error| from_io("renaming to", to, &error))?;
    sync_directory(&parent_of(to))
}

/// The content of a file; `None` if it is not there.
pub(super) fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, StorageError> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(from_io("reading", path, &error)),
    }
}

/// Makes durable what a file holds, whoever wrote it.
pub(super) fn sync_file(path: &Path) -> Result<(), StorageError> {
    let synced = OpenOptions::new().write(true).open(path).and_then(|file| file.sync_all());
    synced.map_err(|error| from_io("syncing", path, &error))
}

/// Cuts a file off at `length`, synced.
pub(super) fn cut(path: &Path, length: u64) -> Result<(), StorageError> {
    let cut = OpenOptions::new().write(true).open(path).and_then(|file| {
        file.set_len(length)?;
        file.sync_all()
    });
    cut.map_err(|error| from_io("cutting", path, &error))
}

/// The names in a directory, in order. Names that are not UTF-8 are none of ours.
pub(super) fn names_in(path: &Path) -> Result<Vec<String>, StorageError> {
    let read = || -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            names.extend(entry?.file_name().into_string().ok());
        }
        names.sort();
        Ok(names)
    };
    read().map_err(|error| from_io("listing", path, &error))
}

/// Bytes of all files below `path`. What disappears meanwhile (LevelDB deletes files as it likes) counts nothing.
pub(super) fn bytes_below(path: &Path) -> Result<u64, StorageError> {
    let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if gone(&error) => return Ok(0),
        Err(error) => return Err(from_io("listing", path, &error)),
    };
    let mut bytes = 0;
    for entry in entries {
        let entry = entry.map_err(|error| from_io("listing", path, &error))?;
        bytes += match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes_below(&entry.path())?,
            Ok(metadata) => metadata.len(),
            Err(error) if gone(&error) => 0,
            Err(error) => return Err(from_io("measuring", &entry.path(), &error)),
        };
    }
    Ok(bytes)
}

/// Locks `path` against every other opener, of this process too, until the returned file is dropped. The lock goes
/// with the process, however that ends.
pub(super) fn lock(path: &Path) -> Result<File, StorageError> {
    let opened = OpenOptions::new().create(true).truncate(false).write(true).open(path);
    let file = opened.map_err(|error| from_io("opening", path, &error))?;
    // SAFETY: the descriptor is open; flock has no other preconditions.
    if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
        return Ok(file);
    }
    Err(match io::Error::last_os_error() {
        error if error.kind() == io::ErrorKind::WouldBlock => {
            StorageError::InUse { path: path.display().to_string() }
        }
        error => from_io("locking", path, &error),
    })
}
