//! A replica's data directory: `stores/<name>/`, each a LevelDB, small files beside it, and `LOCK`.
//!
//! Invariants: one process, and one volume in it, uses a directory at a time (`LOCK` is held until the volume and
//! everything opened from it is gone; the check of a store's log before LevelDB opens it relies on that). A store
//! has its name only while it is complete: it is made under a hidden name and renamed, and renamed to a hidden name
//! before it is deleted; leftovers are swept when the volume opens. Hidden names begin with a dot, which no store's
//! name does. Blocking work runs on the volume's own thread, in the order in which it was asked for.

use std::any::Any;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use tokio::sync::oneshot;

use super::error::{from_io, from_leveldb};
use super::files::{
    bytes_below, create_directories, lock, names_in, read_if_there, rename, replace_file, sync_directory,
    sync_parent,
};
use super::handle::Database;
use super::{LevelDbStore, recovery};
use crate::mutants::Mutants;
use crate::storage::names::{STORES_DIRECTORY, check_file_name, check_store_name};
use crate::storage::{BoxFuture, StorageError, Store, Volume};

/// So many requests may wait for the volume's thread; one more blocks its caller's thread.
const REQUESTS_MAX: usize = 64;

/// The file that is locked while the volume is in use.
const LOCK_FILE: &str = "LOCK";

type Request = Box<dyn FnOnce(&Arc<Directory>) + Send>;

/// An open data directory.
pub struct LevelDbVolume {
    /// `None` only while the volume is dropped.
    requests: Option<SyncSender<Request>>,
    thread: Option<JoinHandle<()>>,
}

impl LevelDbVolume {
    /// Opens the data directory `path`, making it if it is not there, and sweeps what a crash left behind. Blocks for
    /// a few syncs.
    pub fn open(path: &Path) -> Result<Self, StorageError> {
        Self::open_with(path, Mutants::default())
    }

    /// As above, with a planted bug.
    pub(super) fn open_with(path: &Path, mutants: Mutants) -> Result<Self, StorageError> {
        let directory = Arc::new(Directory::open(path, mutants)?);
        let (requests, received) = sync_channel::<Request>(REQUESTS_MAX);
        let run = move || {
            while let Ok(request) = received.recv() {
                request(&directory);
            }
        };
        let thread = thread::Builder::new().name("leveldb-volume".to_string()).spawn(run);
        let thread = thread.map_err(|error| from_io("starting the thread of", path, &error))?;
        Ok(Self { requests: Some(requests), thread: Some(thread) })
    }

    /// Runs `work` on the volume's thread.
    fn request<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<Directory>) -> Result<T, StorageError> + Send + 'static,
    ) -> BoxFuture<Result<T, StorageError>> {
        let (answer, answered) = oneshot::channel();
        if let Some(requests) = &self.requests {
            // If the thread is gone, so is the request, and its answer with it.
            let _ = requests.send(Box::new(move |directory| drop(answer.send(work(directory)))));
        }
        let gone = || StorageError::Closed("the data directory's thread has ended".to_string());
        Box::pin(async move { answered.await.unwrap_or_else(|_| Err(gone())) })
    }
}

impl Drop for LevelDbVolume {
    fn drop(&mut self) {
        self.requests = None;
        let Some(thread) = self.thread.take() else { return };
        // See `Writer`: a thread cannot join itself.
        if thread.thread().id() != thread::current().id() && thread.join().is_err() {
            tracing::error!("the thread of a data directory panicked");
        }
    }
}

impl Volume for LevelDbVolume {
    fn open(&self, name: &str) -> BoxFuture<Result<Arc<dyn Store>, StorageError>> {
        let name = name.to_string();
        self.request(move |directory| Ok(Arc::new(directory.open_store(&name)?) as Arc<dyn Store>))
    }

    fn remove(&self, name: &str) -> BoxFuture<Result<(), StorageError>> {
        let name = name.to_string();
        self.request(move |directory| directory.remove_store(&name))
    }

    fn list(&self) -> BoxFuture<Result<Vec<String>, StorageError>> {
        self.request(|directory| {
            let mut names = names_in(&directory.stores)?;
            names.retain(|name| check_store_name(name).is_ok());
            Ok(names)
        })
    }

    fn read_file(&self, name: &str) -> BoxFuture<Result<Option<Vec<u8>>, StorageError>> {
        let name = name.to_string();
        self.request(move |directory| {
            check_file_name(&name)?;
            read_if_there(&directory.path.join(name))
        })
    }

    fn replace_file(&self, name: &str, content: Vec<u8>) -> BoxFuture<Result<(), StorageError>> {
        let name = name.to_string();
        self.request(move |directory| {
            check_file_name(&name)?;
            replace_file(&directory.path, &name, &content)
        })
    }

    fn bytes_used(&self) -> BoxFuture<Result<u64, StorageError>> {
        self.request(|directory| bytes_below(&directory.path))
    }
}

/// The directory itself, shared by the volume and everything opened from it.
struct Directory {
    path: PathBuf,
    stores: PathBuf,
    /// Names of open stores, including those kept open by a snapshot.
    open: Mutex<BTreeSet<String>>,
    mutants: Mutants,
    _lock: File,
}

impl Directory {
    fn open(path: &Path, mutants: Mutants) -> Result<Self, StorageError> {
        let stores = path.join(STORES_DIRECTORY);
        create_directories(&stores)?;
        let directory = Self {
            path: path.to_path_buf(),
            stores,
            open: Mutex::default(),
            mutants,
            _lock: lock(&path.join(LOCK_FILE))?,
        };
        directory.sweep()?;
        // What a process killed before its syncs has left is read as if it were durable, so it has to be.
        sync_directory(&directory.stores)?;
        sync_directory(path)?;
        sync_parent(path)?;
        Ok(directory)
    }

    /// Deletes stores that were being made or deleted when the process ended.
    fn sweep(&self) -> Result<(), StorageError> {
        for name in names_in(&self.stores)?.iter().filter(|name| name.starts_with('.')) {
            let path = self.stores.join(name);
            tracing::warn!(path = %path.display(), "deleting a store that was being made or deleted at a crash");
            delete_directory(&path)?;
        }
        Ok(())
    }

    fn lock_open(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_store(self: &Arc<Self>, name: &str) -> Result<LevelDbStore, StorageError> {
        check_store_name(name)?;
        let mark = OpenMark::set(self, name)?;
        let path = self.stores.join(name);
        if !path.try_exists().map_err(|error| from_io("looking for", &path, &error))? {
            self.make_store(name, &path)?;
        }
        // Also if it is there: an earlier attempt may have failed at this sync.
        sync_directory(&self.stores)?;
        recovery::prepare(&path, self.mutants)?;
        let database = open_database(&path, false, Arc::new(mark))?;
        // LevelDB has renamed CURRENT without a sync of the directory.
        sync_directory(&path)?;
        LevelDbStore::start(database, &path)
    }

    /// Makes an empty store under a hidden name, and then gives it its name.
    fn make_store(&self, name: &str, path: &Path) -> Result<(), StorageError> {
        let hidden = self.stores.join(format!(".{name}.new"));
        delete_directory(&hidden)?;
        drop(open_database(&hidden, true, Arc::new(()))?);
        sync_directory(&hidden)?;
        rename(&hidden, path)
    }

    fn remove_store(self: &Arc<Self>, name: &str) -> Result<(), StorageError> {
        check_store_name(name)?;
        let _mark = OpenMark::set(self, name)?;
        let path = self.stores.join(name);
        if !path.try_exists().map_err(|error| from_io("looking for", &path, &error))? {
            return Ok(());
        }
        let hidden = self.stores.join(format!(".{name}.removed"));
        delete_directory(&hidden)?;
        rename(&path, &hidden)?;
        delete_directory(&hidden)
    }
}

/// Opens a LevelDB; `keep` is released when it is closed.
fn open_database(
    path: &Path,
    create: bool,
    keep: Arc<dyn Any + Send + Sync>,
) -> Result<Database, StorageError> {
    let opened = Database::open(path, create, keep);
    opened.map_err(|message| from_leveldb("opening the store in", path, &message))
}

/// Deletes a directory with all that is in it, if it is there.
fn delete_directory(path: &Path) -> Result<(), StorageError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(from_io("deleting", path, &error)),
        _ => Ok(()),
    }
}

/// Marks a store as open, until the database that holds this mark is closed.
struct OpenMark {
    directory: Arc<Directory>,
    name: String,
}

impl OpenMark {
    fn set(directory: &Arc<Directory>, name: &str) -> Result<Self, StorageError> {
        if directory.lock_open().insert(name.to_string()) {
            return Ok(Self { directory: directory.clone(), name: name.to_string() });
        }
        let action = format!("using the store {}", directory.stores.join(name).display());
        Err(StorageError::Io {
            action,
            reason: "it is open already, or a snapshot keeps it open".to_string(),
        })
    }
}

impl Drop for OpenMark {
    fn drop(&mut self) {
        self.directory.lock_open().remove(&self.name);
    }
}
