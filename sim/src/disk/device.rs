//! One node's device: what is durable on it, and a queue of operations on their way there.
//!
//! Operations are served one after the other in the order in which they were submitted. Each takes a drawn time,
//! more on a slow device; a stalled device serves nothing, while the node's tasks run on. The queue is worked off
//! lazily: whoever looks at the device first brings it up to the present with [`Device::advance`], so that an
//! operation completes at its time whether or not somebody is waiting for it.
//!
//! Invariants: the durable content changes only when an operation completes, fails or outlives a death; every draw
//! belongs to an operation's number, so no fault moves the draws of other operations.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use eraft::random::Draws;
use eraft::storage::StorageError;
use eraft::types::NodeId;
use eraft::view::Batch;
use madsim::time::TimeHandle;

use super::DiskConfig;
use super::fault::{DiskCounters, Failure, Wrong, Wrongs};

/// The keys of a store; shared with its snapshots until the next write.
pub(super) type Content = BTreeMap<Bytes, Bytes>;

/// Rotten keys of a store, each with the bit of its value that has turned.
pub(super) type Rot = BTreeMap<Bytes, u64>;

/// What an operation does when it completes.
#[derive(Debug)]
pub(super) enum Work {
    Write { store: String, batch: Batch },
    Replace { file: String, content: Vec<u8> },
    Open { store: String },
    Remove { store: String },
}

impl Work {
    /// The store or file, to find what is wrong with it.
    pub(super) fn target(&self) -> &str {
        match self {
            Self::Write { store, .. } | Self::Open { store } | Self::Remove { store } => store,
            Self::Replace { file, .. } => file,
        }
    }

    /// What must pass through the device.
    fn bytes(&self) -> u64 {
        match self {
            Self::Write { batch, .. } => batch.bytes() as u64,
            Self::Replace { content, .. } => content.len() as u64,
            Self::Open { .. } | Self::Remove { .. } => 0,
        }
    }

    /// For error messages.
    fn action(&self, node: NodeId) -> String {
        match self {
            Self::Write { store, .. } => format!("writing to the store `{store}` of {node}'s disk"),
            Self::Replace { file, .. } => format!("replacing the file `{file}` on {node}'s disk"),
            Self::Open { store } => format!("opening the store `{store}` of {node}'s disk"),
            Self::Remove { store } => format!("removing the store `{store}` of {node}'s disk"),
        }
    }
}

/// Where the one who waits finds the outcome.
#[derive(Debug, Default)]
pub(super) struct Slot {
    pub(super) outcome: Option<Result<(), StorageError>>,
    pub(super) waker: Option<Waker>,
}

pub(super) struct Operation {
    pub(super) number: u64,
    pub(super) work: Work,
    service: Duration,
    pub(super) slot: Arc<Mutex<Slot>>,
}

/// A store as it is on the device.
#[derive(Debug, Default)]
pub(super) struct Stored {
    pub(super) content: Arc<Content>,
    pub(super) bytes: u64,
    pub(super) open: bool,
    /// Why its handle takes no writes any more.
    pub(super) poison: Option<String>,
    /// A write that failed and that the next open will find all the same.
    limbo: Option<Batch>,
    /// The offset of a damage that the next open reports.
    pub(super) damage: Option<u64>,
    /// Keys whose values have rotted: which bit has turned. What is written anew is whole again.
    pub(super) rot: Arc<Rot>,
    /// The keys of the last batch: in a log, the record in which rot would not be noticed.
    pub(super) newest: Vec<Vec<u8>>,
}

impl Stored {
    pub(super) fn apply(&mut self, batch: Batch) {
        let content = Arc::make_mut(&mut self.content);
        if !self.rot.is_empty() {
            let rot = Arc::make_mut(&mut self.rot);
            for (key, _) in &batch.writes {
                rot.remove(key.as_slice());
            }
        }
        self.newest = batch.writes.iter().map(|(key, _)| key.clone()).collect();
        for (key, value) in batch.writes {
            let key_bytes = key.len() as u64;
            let (added, replaced) = match value {
                Some(value) => {
                    (key_bytes + value.len() as u64, content.insert(Bytes::from(key), Bytes::from(value)))
                }
                None => (0, content.remove(key.as_slice())),
            };
            self.bytes += added;
            self.bytes -= replaced.map_or(0, |old| key_bytes + old.len() as u64);
        }
    }
}

/// A node's device. Shared by its volumes, stores and the scenario.
pub(super) struct Device {
    pub(super) node: NodeId,
    pub(super) time: TimeHandle,
    pub(super) draws: Draws,
    pub(super) config: DiskConfig,
    state: Mutex<State>,
}

/// The inside of a device, under its lock.
#[derive(Default)]
pub(super) struct State {
    /// Bumped by every death; handles of an older one are refused.
    pub(super) incarnation: u64,
    /// The scenario has already said how the node dies; the reset that follows is no second death.
    pub(super) announced: bool,
    /// The madsim node whose reset ends the incarnation.
    pub(super) owner: Option<madsim::task::NodeId>,
    pub(super) stores: BTreeMap<String, Stored>,
    pub(super) files: BTreeMap<String, Vec<u8>>,
    pub(super) wrongs: Wrongs,
    pub(super) counters: DiskCounters,
    pub(super) queue: VecDeque<Operation>,
    operations: u64,
    reads: u64,
    /// When the operation at the head of the queue completes.
    pub(super) head_due: Duration,
    pub(super) stalled_until: Duration,
    pub(super) slowness: Option<u32>,
}

impl Device {
    pub(super) fn new(node: NodeId, seed: u64, config: DiskConfig, time: TimeHandle) -> Self {
        let draws = Draws::new(seed, "disk");
        Self { node, time, draws, config, state: Mutex::default() }
    }

    /// The device as of now.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.advance(&mut state);
        state
    }

    /// Puts `work` at the end of the queue.
    pub(super) fn submit(&self, state: &mut State, work: Work) -> (u64, Arc<Mutex<Slot>>) {
        state.operations += 1;
        let number = state.operations;
        let spread = if matches!(work, Work::Open { .. }) { self.config.open } else { self.config.write };
        let access = spread.sample(&mut self.draws.draw("latency", self.node.0, number));
        let nanos = work.bytes().saturating_mul(1_000_000_000) / self.config.bytes_per_second.max(1);
        let service = access + Duration::from_nanos(nanos);
        let slot = Arc::<Mutex<Slot>>::default();
        state.queue.push_back(Operation { number, work, service, slot: slot.clone() });
        if state.queue.len() == 1 {
            state.start_head(self.time.elapsed());
        }
        (number, slot)
    }

    /// When operation `number` completes, as things stand; `None` if it is not in the queue.
    pub(super) fn expected(&self, state: &State, number: u64) -> Option<Duration> {
        let head = state.queue.front()?;
        let place = number.checked_sub(head.number)? as usize;
        let behind = state.queue.iter().skip(1).take(place).map(|operation| operation.service);
        (place < state.queue.len()).then(|| state.head_due + behind.sum::<Duration>())
    }

    /// Completes everything that is due.
    fn advance(&self, state: &mut State) {
        let now = self.time.elapsed();
        while state.head_due <= now {
            let Some(operation) = state.queue.pop_front() else { return };
            let done_at = state.head_due;
            let outcome = self.complete(state, operation.number, operation.work);
            set_outcome(&operation.slot, outcome);
            state.start_head(done_at);
        }
    }

    fn complete(&self, state: &mut State, number: u64, work: Work) -> Result<(), StorageError> {
        if let Work::Write { store, .. } = &work
            && let Some(reason) = state.stores.get(store).and_then(|stored| stored.poison.clone())
        {
            return Err(StorageError::Closed(reason));
        }
        if let Err(error) = self.judge(state, number, &work) {
            state.poison(&work, &error);
            return Err(error);
        }
        match work {
            Work::Write { store, batch } => {
                state.counters.writes += 1;
                state.stores.entry(store).or_default().apply(batch);
            }
            Work::Replace { file, content } => {
                state.files.insert(file, content);
            }
            Work::Open { ref store } => self.complete_open(state, store, &work)?,
            Work::Remove { ref store } => {
                if state.stores.get(store).is_some_and(|stored| stored.open) {
                    let reason = "it is open: drop its handle first".into();
                    return Err(StorageError::Io { action: work.action(self.node), reason });
                }
                state.stores.remove(store);
            }
        }
        Ok(())
    }

    fn complete_open(&self, state: &mut State, store: &str, work: &Work) -> Result<(), StorageError> {
        let stored = state.stores.entry(store.to_owned()).or_default();
        if stored.open {
            let reason = "it is already open".into();
            return Err(StorageError::Io { action: work.action(self.node), reason });
        }
        if let Some(offset) = stored.damage {
            state.counters.damaged += 1;
            let path = format!("{}/{store}", self.node);
            return Err(StorageError::Corrupt { path, offset, reason: "checksum mismatch".into() });
        }
        stored.poison = None;
        if let Some(batch) = stored.limbo.take() {
            stored.apply(batch);
        }
        Ok(())
    }

    /// Lets an operation meet what is wrong with its target and with the device.
    fn judge(&self, state: &mut State, number: u64, work: &Work) -> Result<(), StorageError> {
        if state.wrongs.is_empty() {
            return Ok(());
        }
        let mut draw = self.draws.draw("fault", self.node.0, number);
        let kept = draw.chance(self.config.kept_after_error);
        for key in [Some(work.target().to_owned()), None] {
            let Some(wrong) = state.wrongs.get_mut(&key) else { continue };
            if wrong.full {
                state.counters.full += 1;
                return Err(StorageError::Full { action: work.action(self.node) });
            }
            if !matches!(work, Work::Open { .. }) && wrong.writes.strikes(&mut draw) {
                state.counters.write_errors += 1;
                if kept {
                    state.keep_in_limbo(work);
                }
                let reason = "input/output error".into();
                return Err(StorageError::Io { action: work.action(self.node), reason });
            }
        }
        Ok(())
    }

    /// Does this read meet a fault?
    pub(super) fn read_fails(&self, state: &mut State, store: &str) -> bool {
        if state.wrongs.is_empty() {
            return false;
        }
        state.reads += 1;
        let mut draw = self.draws.draw("read", self.node.0, state.reads);
        let fails = [Some(store.to_owned()), None]
            .iter()
            .any(|key| state.wrongs.get_mut(key).is_some_and(|wrong| wrong.reads.strikes(&mut draw)));
        state.counters.read_errors += u64::from(fails);
        fails
    }
}

impl State {
    /// The head of the queue begins to be served, at `at` or when the stall ends.
    fn start_head(&mut self, at: Duration) {
        let Some(head) = self.queue.front() else { return };
        let begins = at.max(self.stalled_until);
        self.counters.stalled += u64::from(begins > at);
        self.counters.slow += u64::from(self.slowness.is_some());
        self.head_due = begins + head.service * self.slowness.unwrap_or(1);
    }

    /// An operation that failed has happened all the same: a file at once, a batch at the next open.
    fn keep_in_limbo(&mut self, work: &Work) {
        match work {
            Work::Write { store, batch } => {
                self.stores.entry(store.clone()).or_default().limbo = Some(batch.clone());
            }
            Work::Replace { file, content } => {
                self.files.insert(file.clone(), content.clone());
            }
            Work::Open { .. } | Work::Remove { .. } => {}
        }
    }

    fn poison(&mut self, work: &Work, error: &StorageError) {
        if let Work::Write { store, .. } = work {
            let stored = self.stores.entry(store.clone()).or_default();
            stored.poison = Some(format!("an earlier write failed: {error}"));
        }
    }

    /// What is wrong with `target`, to be changed.
    pub(super) fn wrong(&mut self, target: Option<&str>) -> &mut Wrong {
        self.wrongs.entry(target.map(str::to_owned)).or_default()
    }

    /// Sets the failures of writes or reads.
    pub(super) fn set_failures(
        &mut self,
        target: Option<&str>,
        writes: Option<Failure>,
        reads: Option<Failure>,
    ) {
        let wrong = self.wrong(target);
        wrong.writes = writes.unwrap_or(wrong.writes);
        wrong.reads = reads.unwrap_or(wrong.reads);
    }
}

pub(super) fn set_outcome(slot: &Mutex<Slot>, outcome: Result<(), StorageError>) {
    let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    slot.outcome = Some(outcome);
    if let Some(waker) = slot.waker.take() {
        waker.wake();
    }
}
