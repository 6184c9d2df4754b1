//! A node's handles on its device: the volume, its stores, their snapshots, and the writes under way.
//!
//! Every handle carries the incarnation in which it was made and is refused in any other: destructors and stray
//! tasks of a killed node run after its reset, and must not reach what the next incarnation sees.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use eraft::storage::names::{check_file_name, check_store_name};
use eraft::storage::{BoxFuture, StorageError, Store, Volume};
use eraft::view::{Batch, KeyRange, PageLimit, Pair, View, ViewError};

use super::device::{Content, Device, Rot, Slot, State, Work};
use super::trouble::turned;
use crate::timing::Alarm;

/// The data directory of one node in one incarnation.
#[derive(Clone)]
pub struct SimVolume {
    device: Arc<Device>,
    incarnation: u64,
}

impl SimVolume {
    pub(super) fn new(device: Arc<Device>, incarnation: u64) -> Self {
        Self { device, incarnation }
    }

    /// The device, if this incarnation is still the current one.
    fn lock(&self) -> Result<MutexGuard<'_, State>, StorageError> {
        let state = self.device.lock();
        if state.incarnation == self.incarnation {
            return Ok(state);
        }
        Err(StorageError::Closed(format!("{} has ended since it was opened", self.device.node)))
    }

    /// Submits `work` now; the future only waits for it.
    fn submit(&self, work: Work) -> Result<Pending, StorageError> {
        match &work {
            Work::Replace { file, .. } => check_file_name(file)?,
            Work::Write { store, .. } | Work::Open { store } | Work::Remove { store } => {
                check_store_name(store)?;
            }
        }
        let mut state = self.lock()?;
        let (number, slot) = self.device.submit(&mut state, work);
        drop(state);
        Ok(Pending { device: self.device.clone(), number, slot, alarm: Alarm::default() })
    }

    fn submit_boxed(&self, work: Work) -> BoxFuture<Result<(), StorageError>> {
        match self.submit(work) {
            Ok(pending) => Box::pin(pending),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }

    /// The handle on a store whose opening has just completed.
    fn opened(&self, name: String) -> Result<Arc<dyn Store>, StorageError> {
        let mut state = self.lock()?;
        let stored = state.stores.entry(name.clone()).or_default();
        if std::mem::replace(&mut stored.open, true) {
            let action = format!("opening the store `{name}` of {}'s disk", self.device.node);
            return Err(StorageError::Io { action, reason: "it is already open".into() });
        }
        Ok(Arc::new(SimStore { volume: self.clone(), name }))
    }
}

impl Volume for SimVolume {
    fn open(&self, name: &str) -> BoxFuture<Result<Arc<dyn Store>, StorageError>> {
        let (volume, name) = (self.clone(), name.to_owned());
        let pending = self.submit(Work::Open { store: name.clone() });
        Box::pin(async move {
            pending?.await?;
            volume.opened(name)
        })
    }

    fn remove(&self, name: &str) -> BoxFuture<Result<(), StorageError>> {
        self.submit_boxed(Work::Remove { store: name.to_owned() })
    }

    fn list(&self) -> BoxFuture<Result<Vec<String>, StorageError>> {
        let names = self.lock().map(|state| state.stores.keys().cloned().collect());
        Box::pin(std::future::ready(names))
    }

    fn read_file(&self, name: &str) -> BoxFuture<Result<Option<Vec<u8>>, StorageError>> {
        let content = check_file_name(name).and_then(|()| self.lock()).and_then(|mut state| {
            if self.device.read_fails(&mut state, name) {
                let action = format!("reading the file `{name}` on {}'s disk", self.device.node);
                return Err(StorageError::Io { action, reason: "input/output error".into() });
            }
            Ok(state.files.get(name).cloned())
        });
        Box::pin(std::future::ready(content))
    }

    fn replace_file(&self, name: &str, content: Vec<u8>) -> BoxFuture<Result<(), StorageError>> {
        self.submit_boxed(Work::Replace { file: name.to_owned(), content })
    }

    fn bytes_used(&self) -> BoxFuture<Result<u64, StorageError>> {
        let bytes = self.lock().map(|state| {
            let stores: u64 = state.stores.values().map(|stored| stored.bytes).sum();
            stores + state.files.values().map(|content| content.len() as u64).sum::<u64>()
        });
        Box::pin(std::future::ready(bytes))
    }
}

/// An open store.
struct SimStore {
    volume: SimVolume,
    name: String,
}

impl SimStore {
    /// The store's content for a read that the device lets pass.
    fn readable(&self) -> Result<Readable, ViewError> {
        let state = self.volume.lock().map_err(|error| ViewError(error.to_string()))?;
        let stored = state.stores.get(&self.name);
        let content = stored.map(|stored| stored.content.clone()).unwrap_or_default();
        let rot = stored.map(|stored| stored.rot.clone()).unwrap_or_default();
        drop(state);
        let readable = Readable { volume: self.volume.clone(), name: self.name.clone(), content, rot };
        readable.check().map(|()| readable)
    }
}

impl View for SimStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        self.readable()?.value(key)
    }

    fn page(&self, range: &KeyRange, limit: PageLimit) -> Result<Vec<Pair>, ViewError> {
        self.readable()?.pairs(range, limit)
    }
}

impl Store for SimStore {
    fn write(&self, batch: Batch) -> BoxFuture<Result<(), StorageError>> {
        let poison = self
            .volume
            .lock()
            .map(|state| state.stores.get(&self.name).and_then(|stored| stored.poison.clone()));
        match poison {
            Err(error) => Box::pin(std::future::ready(Err(error))),
            Ok(Some(reason)) => Box::pin(std::future::ready(Err(StorageError::Closed(reason)))),
            Ok(None) => self.volume.submit_boxed(Work::Write { store: self.name.clone(), batch }),
        }
    }

    fn snapshot(&self) -> Result<Arc<dyn View + Send + Sync>, StorageError> {
        let state = self.volume.lock()?;
        let stored = state.stores.get(&self.name);
        let content = stored.map(|stored| stored.content.clone()).unwrap_or_default();
        let rot = stored.map(|stored| stored.rot.clone()).unwrap_or_default();
        Ok(Arc::new(Readable { volume: self.volume.clone(), name: self.name.clone(), content, rot }))
    }
}

impl Drop for SimStore {
    /// Closes the store; nothing is written, and a later incarnation's handle stays as it is.
    fn drop(&mut self) {
        if let Ok(mut state) = self.volume.lock()
            && let Some(stored) = state.stores.get_mut(&self.name)
        {
            stored.open = false;
        }
    }
}

/// A store as it was.
struct Readable {
    volume: SimVolume,
    name: String,
    content: Arc<Content>,
    rot: Arc<Rot>,
}

impl Readable {
    fn check(&self) -> Result<(), ViewError> {
        let mut state = self.volume.lock().map_err(|error| ViewError(error.to_string()))?;
        if self.volume.device.read_fails(&mut state, &self.name) {
            return Err(read_error(&self.volume, &self.name, "input/output error"));
        }
        Ok(())
    }

    fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        self.content.get(key).map(|value| self.checked(key, value)).transpose()
    }

    fn pairs(&self, range: &KeyRange, limit: PageLimit) -> Result<Vec<Pair>, ViewError> {
        let (mut page, mut bytes) = (Vec::new(), 0);
        let pairs = range.bounds().map(|bounds| self.content.range::<[u8], _>(bounds));
        for (key, value) in pairs.into_iter().flatten() {
            if !limit.has_room(page.len(), bytes) {
                break;
            }
            bytes += key.len() + value.len();
            page.push((key.to_vec(), self.checked(key, value)?));
        }
        Ok(page)
    }

    /// `value`, unless it has rotted.
    fn checked(&self, key: &[u8], value: &[u8]) -> Result<Vec<u8>, ViewError> {
        let Some(bit) = self.rot.get(key) else { return Ok(value.to_vec()) };
        let mut state = self.volume.lock().map_err(|error| ViewError(error.to_string()))?;
        state.counters.rotten += 1;
        if self.volume.device.config.ignores_checksums {
            return Ok(turned(value, *bit));
        }
        let what = format!("key {}: checksum mismatch", key.escape_ascii());
        Err(read_error(&self.volume, &self.name, &what))
    }
}

impl View for Readable {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        self.check()?;
        self.value(key)
    }

    fn page(&self, range: &KeyRange, limit: PageLimit) -> Result<Vec<Pair>, ViewError> {
        self.check()?;
        self.pairs(range, limit)
    }
}

fn read_error(volume: &SimVolume, store: &str, what: &str) -> ViewError {
    ViewError(format!("reading the store `{store}` of {}'s disk: {what}", volume.device.node))
}

/// Waits for an operation in the device's queue. Dropping it changes nothing: what is submitted happens.
struct Pending {
    device: Arc<Device>,
    number: u64,
    slot: Arc<Mutex<Slot>>,
    alarm: Alarm,
}

impl Pending {
    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Future for Pending {
    type Output = Result<(), StorageError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // Bringing the device up to the present must not wake the one who is doing it.
        self.slot().waker = None;
        let due = {
            let state = self.device.lock();
            self.device.expected(&state, self.number)
        };
        if let Some(outcome) = self.slot().outcome.take() {
            return Poll::Ready(outcome);
        }
        self.slot().waker = Some(context.waker().clone());
        let device = self.device.clone();
        if let Some(due) = due {
            self.alarm.arm(&device.time, due, context.waker());
        }
        Poll::Pending
    }
}
