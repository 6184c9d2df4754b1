//! A volume in memory that counts what changes it, and ends its process at one of these steps.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use eraft::storage::memory::MemoryVolume;
use eraft::storage::{BoxFuture, StorageError, Store, Volume};
use eraft::view::{Batch, KeyRange, PageLimit, Pair, View, ViewError};

/// What a process does to its disk, and how it ends.
#[derive(Debug, Default)]
pub struct Orders {
    /// The step at which the process ends, counted from 0.
    pub crash_at: Option<u64>,
    /// Whether that step still happens.
    pub happens: bool,
    /// Every write of a store takes this long.
    pub write_time: Duration,
}

/// A process's view of a disk, which outlives it.
#[derive(Clone)]
pub struct Watched {
    disk: MemoryVolume,
    shared: Arc<Shared>,
}

struct Shared {
    orders: Orders,
    steps: AtomicU64,
    reads: AtomicU64,
    /// What the process was doing when it ended.
    crashed: Mutex<Option<String>>,
}

impl Watched {
    pub fn new(disk: MemoryVolume, orders: Orders) -> Self {
        let shared =
            Shared { orders, steps: AtomicU64::new(0), reads: AtomicU64::new(0), crashed: Mutex::default() };
        Self { disk, shared: Arc::new(shared) }
    }

    /// Steps so far.
    pub fn steps(&self) -> u64 {
        self.shared.steps.load(Ordering::SeqCst)
    }

    /// Reads of its stores so far.
    pub fn reads(&self) -> u64 {
        self.shared.reads.load(Ordering::SeqCst)
    }

    /// What the process was doing when it ended, if it did.
    pub fn crashed(&self) -> Option<String> {
        self.shared.crashed.lock().expect("not poisoned").clone()
    }
}

impl Shared {
    /// Takes the step `what`, unless the process has ended: then nothing ever happens again.
    fn step<T: Send + 'static>(
        &self,
        what: &str,
        act: impl FnOnce() -> BoxFuture<Result<T, StorageError>>,
    ) -> BoxFuture<Result<T, StorageError>> {
        let step = self.steps.fetch_add(1, Ordering::SeqCst);
        match self.orders.crash_at {
            Some(crash_at) if step >= crash_at => {
                // Stores in memory change when they are called, so the answer is not waited for.
                let acted = (step == crash_at && self.orders.happens).then(act);
                if step == crash_at {
                    *self.crashed.lock().expect("not poisoned") = Some(what.to_owned());
                }
                Box::pin(async move {
                    drop(acted);
                    std::future::pending().await
                })
            }
            _ => act(),
        }
    }
}

impl Volume for Watched {
    fn open(&self, name: &str) -> BoxFuture<Result<Arc<dyn Store>, StorageError>> {
        let opening = self.shared.step(&format!("open {name}"), || self.disk.open(name));
        let (shared, name) = (self.shared.clone(), name.to_owned());
        Box::pin(async move {
            Ok(Arc::new(WatchedStore { store: opening.await?, name, shared }) as Arc<dyn Store>)
        })
    }

    fn remove(&self, name: &str) -> BoxFuture<Result<(), StorageError>> {
        self.shared.step(&format!("remove {name}"), || self.disk.remove(name))
    }

    fn list(&self) -> BoxFuture<Result<Vec<String>, StorageError>> {
        self.disk.list()
    }

    fn read_file(&self, name: &str) -> BoxFuture<Result<Option<Vec<u8>>, StorageError>> {
        self.disk.read_file(name)
    }

    fn replace_file(&self, name: &str, content: Vec<u8>) -> BoxFuture<Result<(), StorageError>> {
        self.shared.step(&format!("replace {name}"), || self.disk.replace_file(name, content))
    }

    fn bytes_used(&self) -> BoxFuture<Result<u64, StorageError>> {
        self.disk.bytes_used()
    }
}

struct WatchedStore {
    store: Arc<dyn Store>,
    name: String,
    shared: Arc<Shared>,
}

impl View for WatchedStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        self.shared.reads.fetch_add(1, Ordering::SeqCst);
        self.store.get(key)
    }

    fn page(&self, range: &KeyRange, limit: PageLimit) -> Result<Vec<Pair>, ViewError> {
        self.shared.reads.fetch_add(1, Ordering::SeqCst);
        self.store.page(range, limit)
    }
}

impl Store for WatchedStore {
    fn write(&self, batch: Batch) -> BoxFuture<Result<(), StorageError>> {
        let writing = self.shared.step(&format!("write {}", self.name), || self.store.write(batch));
        let write_time = self.shared.orders.write_time;
        if write_time.is_zero() {
            return writing;
        }
        Box::pin(async move {
            tokio::time::sleep(write_time).await;
            writing.await
        })
    }

    fn snapshot(&self) -> Result<Arc<dyn View + Send + Sync>, StorageError> {
        self.store.snapshot()
    }
}
