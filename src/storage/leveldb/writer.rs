//! The one thread per store that writes.
//!
//! Batches queue up while the device syncs, and the next group takes all that fit into [`GROUP_BYTES_MAX`]: one
//! LevelDB write, one sync, one log record, so a group is there as a whole or not at all. Invariants: batches are
//! applied and completed in the order in which they were queued; nothing is completed before it is durable; after
//! the first failure nothing is written any more, and every later batch is told what that failure was.
//!
//! LevelDB syncs a log's content but not the directory entry of a log that it begins at rotation, so a synced write
//! could vanish with its file. We notice that a write did not land in the newest log that we know, and sync the
//! directory before we complete it.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use tokio::sync::oneshot;

use super::error::{from_io, from_leveldb};
use super::files::sync_directory;
use super::handle::{Database, WriteBatch};
use super::recovery::logs_in;
use crate::storage::StorageError;
use crate::view::Batch;

/// A group takes no further batch once it has so many bytes of keys and values.
pub const GROUP_BYTES_MAX: usize = 1 << 20;

/// So many batches may wait for the device; one more blocks its caller's thread. Stores' owners keep fewer in
/// flight: this is the last bound on memory, not a flow control.
pub const QUEUE_BATCHES_MAX: usize = 4096;

/// So many bytes of keys and values may wait; a larger batch is taken when nothing else waits.
pub const QUEUE_BYTES_MAX: usize = 64 << 20;

/// What a batch ended in.
pub(super) type Outcome = Result<(), StorageError>;

struct Job {
    batch: Batch,
    bytes: usize,
    done: oneshot::Sender<Outcome>,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    bytes: usize,
    /// No more jobs: the store is dropped or its thread has ended.
    closed: bool,
}

/// The queue between the callers and the thread.
#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    /// There are jobs, or the queue is closed.
    filled: Condvar,
    /// There is room, or the queue is closed.
    drained: Condvar,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing under this lock panics halfway.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a job; gives it back if the queue is closed.
    fn push(&self, job: Job) -> Result<(), Job> {
        let is_full = |waiting: &mut Waiting| {
            let bytes = waiting.bytes + job.bytes;
            let full = waiting.jobs.len() >= QUEUE_BATCHES_MAX || bytes > QUEUE_BYTES_MAX;
            !waiting.closed && !waiting.jobs.is_empty() && full
        };
        let mut waiting =
            self.drained.wait_while(self.lock(), is_full).unwrap_or_else(PoisonError::into_inner);
        if waiting.closed {
            return Err(job);
        }
        waiting.bytes += job.bytes;
        waiting.jobs.push_back(job);
        self.filled.notify_one();
        Ok(())
    }

    /// The next group, in order; waits for one. `None`: the queue is closed and empty.
    fn next_group(&self) -> Option<Vec<Job>> {
        let is_idle = |waiting: &mut Waiting| waiting.jobs.is_empty() && !waiting.closed;
        let mut waiting =
            self.filled.wait_while(self.lock(), is_idle).unwrap_or_else(PoisonError::into_inner);
        let (mut group, mut bytes) = (Vec::new(), 0);
        while let Some(next) = waiting.jobs.front()
            && (group.is_empty() || bytes + next.bytes <= GROUP_BYTES_MAX)
        {
            bytes += next.bytes;
            group.extend(waiting.jobs.pop_front());
        }
        waiting.bytes -= bytes;
        self.drained.notify_all();
        (!group.is_empty()).then_some(group)
    }

    fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_all();
        self.drained.notify_all();
    }
}

/// The writing side of a store. Dropping it writes what is queued and ends the thread.
pub(super) struct Writer {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread for the open `database` in `directory`.
    pub(super) fn start(database: Arc<Database>, directory: &Path) -> Result<Self, StorageError> {
        let newest = NewestLog::find(directory)?;
        let queue = Arc::new(Queue::default());
        let worker = Worker { database, directory: directory.to_path_buf(), newest, failed: None };
        let closer = CloseOnExit(queue.clone());
        let run = move || {
            let closer = closer;
            worker.run(&closer.0);
        };
        let thread = thread::Builder::new().name("leveldb-write".to_string()).spawn(run);
        let thread =
            thread.map_err(|error| from_io("starting the thread that writes to", directory, &error))?;
        Ok(Self { queue, thread: Some(thread) })
    }

    /// Queues `batch`; the receiver gets what became of it.
    pub(super) fn write(&self, batch: Batch) -> oneshot::Receiver<Outcome> {
        let (done, outcome) = oneshot::channel();
        let job = Job { bytes: batch.bytes(), batch, done };
        if let Err(job) = self.queue.push(job) {
            finish(job, Err(StorageError::Closed("its thread has ended".to_string())));
        }
        outcome
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue.close();
        let Some(thread) = self.thread.take() else { return };
        // A completion may run its waiter on our own thread, and that may drop the store: a thread cannot join itself.
        if thread.thread().id() != thread::current().id() && thread.join().is_err() {
            tracing::error!("the thread of a store panicked");
        }
    }
}

/// Lets nobody wait for a thread that is gone, however it ended.
struct CloseOnExit(Arc<Queue>);

impl Drop for CloseOnExit {
    fn drop(&mut self) {
        self.0.close();
        self.0.lock().jobs.clear();
    }
}

/// What the thread owns.
struct Worker {
    database: Arc<Database>,
    directory: PathBuf,
    newest: NewestLog,
    /// The first failure. LevelDB itself would accept writes after some failures, behind a torn record in its log.
    failed: Option<String>,
}

impl Worker {
    fn run(mut self, queue: &Queue) {
        while let Some(group) = queue.next_group() {
            let outcome = match &self.failed {
                Some(first) => Err(StorageError::Closed(format!("an earlier write failed: {first}"))),
                None => self.write(&group),
            };
            if let (Err(error), None) = (&outcome, &self.failed) {
                tracing::error!(%error, "a write failed, the store is closed for writing");
                self.failed = Some(error.to_string());
            }
            for job in group {
                finish(job, outcome.clone());
            }
        }
    }

    fn write(&mut self, group: &[Job]) -> Outcome {
        let mut writes = WriteBatch::new();
        let mut empty = true;
        for (key, value) in group.iter().flat_map(|job| &job.batch.writes) {
            writes.add(key, value.as_deref());
            empty = false;
        }
        if empty {
            return Ok(());
        }
        let action = "writing to the store in";
        let written = self.database.write_synced(&mut writes);
        written.map_err(|message| from_leveldb(action, &self.directory, &message))?;
        self.newest.sync_if_changed(&self.directory)
    }
}

/// Tells the waiter; that it is gone is no error, the write has happened all the same.
fn finish(job: Job, outcome: Outcome) {
    let _ = job.done.send(outcome);
}

/// The log that writes go to, as far as we know.
struct NewestLog {
    path: PathBuf,
    length: u64,
}

impl NewestLog {
    fn find(directory: &Path) -> Result<Self, StorageError> {
        let Some((_, path)) = logs_in(directory)?.pop_last() else {
            let reason = "LevelDB keeps no log in it".to_string();
            return Err(StorageError::Io { action: format!("opening {}", directory.display()), reason });
        };
        let metadata = fs::metadata(&path).map_err(|error| from_io("measuring", &path, &error))?;
        Ok(Self { path, length: metadata.len() })
    }

    /// Called after each write: if the log that we know has not grown, there is another one, whose name is not
    /// durable yet.
    fn sync_if_changed(&mut self, directory: &Path) -> Result<(), StorageError> {
        if let Ok(metadata) = fs::metadata(&self.path)
            && metadata.len() > self.length
        {
            self.length = metadata.len();
            return Ok(());
        }
        sync_directory(directory)?;
        *self = Self::find(directory)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(bytes: usize) -> Job {
        Job { batch: Batch::new(), bytes, done: oneshot::channel().0 }
    }

    #[test]
    fn groups_are_bounded_and_in_order() {
        let queue = Queue::default();
        let sizes = [10, GROUP_BYTES_MAX - 10, 1, 3 * GROUP_BYTES_MAX, 5, 6];
        for bytes in sizes {
            assert!(queue.push(job(bytes)).is_ok(), "the queue is open");
        }
        queue.close();
        assert!(queue.push(job(1)).is_err(), "a closed queue takes nothing");
        let groups = std::iter::from_fn(|| queue.next_group());
        let groups: Vec<Vec<usize>> =
            groups.map(|group| group.iter().map(|job| job.bytes).collect()).collect();
        assert_eq!(groups, [&sizes[..2], &sizes[2..3], &sizes[3..4], &sizes[4..]]);
        assert_eq!(queue.lock().bytes, 0, "what is taken no longer counts");
    }

    #[test]
    fn a_full_queue_makes_its_caller_wait() {
        let queue = Queue::default();
        assert!(queue.push(job(2 * QUEUE_BYTES_MAX)).is_ok(), "an empty queue takes a batch of any size");
        let pushed = std::sync::atomic::AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                assert!(queue.push(job(1)).is_ok(), "the queue is open");
                pushed.store(true, std::sync::atomic::Ordering::SeqCst);
            });
            thread::sleep(std::time::Duration::from_millis(50));
            assert!(!pushed.load(std::sync::atomic::Ordering::SeqCst), "the queue is full");
            assert_eq!(queue.next_group().map(|group| group.len()), Some(1));
        });
        assert!(pushed.into_inner(), "there is room again");
    }
}
