//! Stores in memory, for unit tests of what stands above storage. Needs no runtime and works in both worlds.
//!
//! A [`MemoryVolume`] is the device: its clones share it, and it outlives the stores opened from it, so dropping a
//! store and opening it again is what a process death is for the real engine. A write takes effect when it is
//! called; its future is ready at once. A snapshot shares the map and the next write copies it.

use std::collections::BTreeMap;
use std::future::ready;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::names::{check_file_name, check_store_name};
use super::{BoxFuture, StorageError, Store, Volume};
use crate::view::{Batch, KeyRange, PageLimit, Pair, View, ViewError};

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// One store's content, shared by the device and the handle.
#[derive(Debug, Default)]
struct Content {
    map: Arc<Map>,
    /// A handle to this store exists.
    open: bool,
    /// What the next write fails with; set by tests.
    fail_next: Option<StorageError>,
    /// The first failure since the store was opened.
    failed: Option<String>,
}

impl Content {
    fn write(&mut self, batch: Batch) -> Result<(), StorageError> {
        if let Some(first) = &self.failed {
            return Err(StorageError::Closed(format!("an earlier write failed: {first}")));
        }
        if let Some(error) = self.fail_next.take() {
            self.failed = Some(error.to_string());
            return Err(error);
        }
        let map = Arc::make_mut(&mut self.map);
        for (key, value) in batch.writes {
            match value {
                Some(value) => map.insert(key, value),
                None => map.remove(&key),
            };
        }
        Ok(())
    }
}

/// What the device holds.
#[derive(Debug, Default)]
struct Device {
    stores: BTreeMap<String, Arc<Mutex<Content>>>,
    files: BTreeMap<String, Vec<u8>>,
}

/// A data directory in memory. Clones are the same directory.
#[derive(Clone, Debug, Default)]
pub struct MemoryVolume {
    device: Arc<Mutex<Device>>,
}

impl MemoryVolume {
    /// An empty directory.
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens the store `name` at once; see [`Volume::open`].
    pub fn open_store(&self, name: &str) -> Result<MemoryStore, StorageError> {
        check_store_name(name)?;
        let content = lock(&self.device).stores.entry(name.to_string()).or_default().clone();
        let mut guard = lock(&content);
        if guard.open {
            let action = format!("opening the store {name}");
            return Err(StorageError::Io { action, reason: "it is already open".to_string() });
        }
        guard.open = true;
        guard.failed = None;
        drop(guard);
        Ok(MemoryStore { content })
    }

    /// Lets the next write to the store `name` fail with `error`, as a device would; false if there is no such
    /// store. Nothing of that write is applied.
    pub fn fail_next_write(&self, name: &str, error: StorageError) -> bool {
        let device = lock(&self.device);
        let Some(content) = device.stores.get(name) else { return false };
        lock(content).fail_next = Some(error);
        true
    }

    fn remove_store(&self, name: &str) -> Result<(), StorageError> {
        check_store_name(name)?;
        let mut device = lock(&self.device);
        if device.stores.get(name).is_some_and(|content| lock(content).open) {
            let action = format!("removing the store {name}");
            return Err(StorageError::Io { action, reason: "it is open".to_string() });
        }
        device.stores.remove(name);
        Ok(())
    }

    fn count_bytes(&self) -> u64 {
        let device = lock(&self.device);
        let of_map = |map: &Map| map.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
        let stores: usize = device.stores.values().map(|content| of_map(&lock(content).map)).sum();
        let files: usize = device.files.values().map(Vec::len).sum();
        (stores + files) as u64
    }
}

impl Volume for MemoryVolume {
    fn open(&self, name: &str) -> BoxFuture<Result<Arc<dyn Store>, StorageError>> {
        Box::pin(ready(self.open_store(name).map(|store| Arc::new(store) as Arc<dyn Store>)))
    }

    fn remove(&self, name: &str) -> BoxFuture<Result<(), StorageError>> {
        Box::pin(ready(self.remove_store(name)))
    }

    fn list(&self) -> BoxFuture<Result<Vec<String>, StorageError>> {
        Box::pin(ready(Ok(lock(&self.device).stores.keys().cloned().collect())))
    }

    fn read_file(&self, name: &str) -> BoxFuture<Result<Option<Vec<u8>>, StorageError>> {
        Box::pin(ready(check_file_name(name).map(|()| lock(&self.device).files.get(name).cloned())))
    }

    fn replace_file(&self, name: &str, content: Vec<u8>) -> BoxFuture<Result<(), StorageError>> {
        Box::pin(ready(check_file_name(name).map(|()| {
            lock(&self.device).files.insert(name.to_string(), content);
        })))
    }

    fn bytes_used(&self) -> BoxFuture<Result<u64, StorageError>> {
        Box::pin(ready(Ok(self.count_bytes())))
    }
}

/// An open store in memory.
#[derive(Debug)]
pub struct MemoryStore {
    content: Arc<Mutex<Content>>,
}

impl MemoryStore {
    /// A store of its own, on no device.
    pub fn new() -> Self {
        Self { content: Arc::new(Mutex::new(Content { open: true, ..Content::default() })) }
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for MemoryStore {
    fn drop(&mut self) {
        lock(&self.content).open = false;
    }
}

impl View for MemoryStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        View::get(&*lock(&self.content).map, key)
    }

    fn page(&self, range: &KeyRange, limit: PageLimit) -> Result<Vec<Pair>, ViewError> {
        lock(&self.content).map.page(range, limit)
    }
}

impl Store for MemoryStore {
    fn write(&self, batch: Batch) -> BoxFuture<Result<(), StorageError>> {
        let result = lock(&self.content).write(batch);
        Box::pin(ready(result))
    }

    fn snapshot(&self) -> Result<Arc<dyn View + Send + Sync>, StorageError> {
        Ok(Arc::new(Snapshot(lock(&self.content).map.clone())))
    }
}

/// The map as it was; a later write to the store copies it first.
struct Snapshot(Arc<Map>);

impl View for Snapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        View::get(&*self.0, key)
    }

    fn page(&self, range: &KeyRange, limit: PageLimit) -> Result<Vec<Pair>, ViewError> {
        self.0.page(range, limit)
    }
}

/// Locks even after a panic elsewhere: every change under these locks is a single step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::storage::suite::{self, End, Harness};

    /// Nothing in memory ever waits, so one poll after another will do; no runtime of either world is needed.
    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        loop {
            if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return value;
            }
        }
    }

    #[derive(Default)]
    struct Memory(MemoryVolume);

    impl Harness for Memory {
        async fn fresh(&mut self) -> Arc<dyn Volume> {
            self.0 = MemoryVolume::new();
            Arc::new(self.0.clone())
        }

        async fn reopen(&mut self, _volume: Arc<dyn Volume>, _end: End) -> Option<Arc<dyn Volume>> {
            Some(Arc::new(self.0.clone()))
        }

        fn fail_next_write(&mut self, store: &str) -> bool {
            self.0.fail_next_write(store, StorageError::Full { action: "a test".to_string() })
        }
    }

    #[test]
    fn conforms() {
        block_on(suite::run_all(&mut Memory::default()));
    }

    #[test]
    fn agrees_with_the_model() {
        for seed in 0..20 {
            block_on(suite::model::check(
                &mut Memory::default(),
                seed,
                300,
                &[End::ProcessDeath, End::PowerLoss],
            ));
        }
    }

    #[test]
    fn a_full_device_is_reported_once_and_then_closed() {
        let volume = MemoryVolume::new();
        let store = volume.open_store("log").expect("a fresh store opens");
        assert!(volume.fail_next_write("log", StorageError::Full { action: "test".to_string() }));
        let write = |key: &str| {
            let mut batch = Batch::new();
            batch.put(key, "1");
            block_on(store.write(batch))
        };
        assert_eq!(write("a"), Err(StorageError::Full { action: "test".to_string() }));
        let closed = "an earlier write failed: test: no space left on the device";
        assert_eq!(write("b"), Err(StorageError::Closed(closed.to_string())));
    }
}
