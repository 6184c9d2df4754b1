//! The clients of a run: each works through its part of the plan, in the phases of the run.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use eraft::client::{Client, Outcome};
use eraft::history::{Operation as Asked, OperationResult};
use eraft::replica::link::Party;
use madsim::time::TimeHandle;
use tokio::sync::Notify;

use crate::net::SimNet;
use crate::observer::Watcher;
use crate::outcome::Violation;
use crate::runner::Leak;
use crate::schedule::{Operation, OperationKind};
use crate::world::Outstanding;

/// The pause before a client asks again for what was not acknowledged after the faults have stopped.
pub(crate) const AGAIN: Duration = Duration::from_millis(20);

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Workload and faults together.
    Safety,
    /// The faults have stopped.
    Liveness,
    /// Every key is read once more.
    Final,
}

/// Tells the clients where the run is.
pub struct Phases {
    now: Mutex<Phase>,
    changed: Notify,
}

impl Default for Phases {
    fn default() -> Self {
        Self { now: Mutex::new(Phase::Safety), changed: Notify::new() }
    }
}

impl Phases {
    /// Where the run is.
    pub fn now(&self) -> Phase {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next phase begins.
    pub fn enter(&self, phase: Phase) {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = phase;
        self.changed.notify_waiters();
    }

    /// Resolves once the run is in `phase` or later.
    pub async fn reached(&self, phase: Phase) {
        loop {
            let changed = self.changed.notified();
            if self.now() >= phase {
                return;
            }
            changed.await;
        }
    }
}

/// How far a client has come. It outlives the client's process: the next one goes on from here, and what was under
/// way is lost.
pub struct Progress {
    /// What it does while faults happen.
    safety: Mutex<VecDeque<Operation>>,
    /// What it does after that.
    liveness: Mutex<VecDeque<Operation>>,
    /// Number of the next write.
    writes: AtomicU64,
    /// What it last knew of each key, for compare-and-set.
    known: Mutex<BTreeMap<u64, Option<Bytes>>>,
    is_over: AtomicBool,
    over: Notify,
}

impl Progress {
    /// Before the first operation.
    pub fn new(safety: Vec<Operation>, liveness: Vec<Operation>) -> Self {
        Self {
            safety: Mutex::new(safety.into()),
            liveness: Mutex::new(liveness.into()),
            writes: AtomicU64::new(0),
            known: Mutex::default(),
            is_over: AtomicBool::new(false),
            over: Notify::new(),
        }
    }

    /// Resolves once everything is done.
    pub async fn is_over(&self) {
        loop {
            let over = self.over.notified();
            if self.is_over.load(Ordering::Relaxed) {
                return;
            }
            over.await;
        }
    }

    fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.over.notify_waiters();
    }
}

/// What the process of one client works with.
pub struct Work {
    /// Its number, from 1.
    pub number: u64,
    /// The client while faults happen.
    pub client: Client,
    /// The client after that: with a deadline that is a matter of liveness, so that it does not ask over and over.
    pub patient: Client,
    /// How far it has come.
    pub progress: Arc<Progress>,
    /// The keys that it reads at the end.
    pub final_keys: Vec<u64>,
    /// Size of what it puts.
    pub value_bytes: usize,
    /// New operations are acknowledged within this after the faults have stopped.
    pub acknowledge: Duration,
    /// Where the run is.
    pub phases: Arc<Phases>,
    /// Where it waits while it is paused.
    pub net: SimNet,
    /// Records what is asked and answered.
    pub watcher: Arc<Watcher>,
    /// Operations of all clients.
    pub begun: Arc<AtomicU64>,
    /// Those that were acknowledged.
    pub acknowledged: Arc<AtomicU64>,
    /// Operations under way, of all clients.
    pub outstanding: Arc<Outstanding>,
    /// An operation is over by then, while faults happen.
    pub deadline: Duration,
    /// The run's time.
    pub time: TimeHandle,
    /// Waited for before the first operation; none but in the tests of the digest.
    pub leak: Option<Leak>,
}

/// Runs a client's operations, so many at once, to the end of the run.
pub async fn run(work: Arc<Work>, pipeline: u64) {
    if let Some(Leak(leak)) = &work.leak {
        madsim::time::sleep(Duration::from_millis(leak())).await;
    }
    let workers: Vec<_> = (0..pipeline).map(|_| tokio::spawn(worker(work.clone()))).collect();
    for worker in workers {
        let _ = worker.await;
    }
    work.phases.reached(Phase::Final).await;
    for key in &work.final_keys {
        let read = Operation { kind: OperationKind::Get, key: *key, think_ms: 0 };
        work.until_acknowledged(&read).await;
    }
    work.progress.end();
}

async fn worker(work: Arc<Work>) {
    while work.phases.now() == Phase::Safety {
        let Some(operation) = pop(&work.progress.safety) else { break };
        madsim::time::sleep(Duration::from_millis(operation.think_ms)).await;
        if work.phases.now() == Phase::Safety {
            let _ = work.once(&operation).await;
        }
    }
    work.phases.reached(Phase::Liveness).await;
    while let Some(operation) = pop(&work.progress.liveness) {
        madsim::time::sleep(Duration::from_millis(operation.think_ms)).await;
        work.until_acknowledged(&operation).await;
    }
}

fn pop(queue: &Mutex<VecDeque<Operation>>) -> Option<Operation> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
}

impl Work {
    /// After the faults, an operation is tried as often as it takes, but not for ever.
    async fn until_acknowledged(&self, operation: &Operation) {
        let begun = self.time.elapsed();
        loop {
            let Err(why) = self.once(operation).await else { return };
            let waited = self.time.elapsed() - begun;
            if waited >= self.acknowledge {
                let message = format!(
                    "c{}: `{}` was not acknowledged within {} ms after the faults had stopped: {why}",
                    self.number,
                    operation,
                    waited.as_millis()
                );
                if self.watcher.checks("sim.liveness") {
                    self.watcher.violate(Violation {
                        oracle: "sim.liveness".to_owned(),
                        fingerprint: "sim.liveness: not acknowledged".to_owned(),
                        message,
                    });
                }
                return;
            }
            madsim::time::sleep(AGAIN).await;
        }
    }

    /// One operation; the error says why it was not acknowledged.
    async fn once(&self, operation: &Operation) -> Result<(), String> {
        self.net.gate_of(Party::Client(self.number)).await;
        let asked = self.question(operation);
        self.begun.fetch_add(1, Ordering::Relaxed);
        let node = format!("c{}", self.number);
        self.watcher.note(&node, "client.invoke", &format!("{} k{}", asked.name(), operation.key));
        let (client, deadline) = match self.phases.now() {
            Phase::Safety => (&self.client, self.deadline),
            _ => (&self.patient, self.acknowledge),
        };
        let what = format!("{} k{}", asked.name(), operation.key);
        let entry = self.outstanding.begin(self.number, what, self.time.elapsed() + deadline);
        let outcome = client.execute(asked.clone()).await;
        drop(entry);
        self.remember(operation.key, &asked, &outcome);
        let (word, result) = match outcome {
            Outcome::Ok(_) => {
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
                ("ok", Ok(()))
            }
            Outcome::Refused(refused) => ("refused", Err(refused.detail)),
            Outcome::Unknown(detail) => ("unknown", Err(detail)),
        };
        self.watcher.note(&node, "client.return", &format!("{} k{} {word}", asked.name(), operation.key));
        result
    }

    fn question(&self, operation: &Operation) -> Asked {
        let key = Bytes::from(operation.key_name());
        match operation.kind {
            OperationKind::Get => Asked::Get { key },
            OperationKind::Put => Asked::Put { key, value: self.value(true) },
            OperationKind::Append => Asked::Append { key, value: self.value(false) },
            OperationKind::Delete => Asked::Delete { key },
            OperationKind::Cas => {
                let known = self.progress.known.lock().unwrap_or_else(PoisonError::into_inner);
                let expected = known.get(&operation.key).cloned().flatten();
                Asked::Cas { key, expected, value: self.value(true) }
            }
        }
    }

    /// A value that nobody else writes. What is appended is short, since it adds up.
    fn value(&self, is_padded: bool) -> Bytes {
        let number = self.progress.writes.fetch_add(1, Ordering::Relaxed) + 1;
        let mut value = format!("c{}.{number},", self.number);
        while is_padded && value.len() < self.value_bytes {
            value.push('.');
        }
        value.into()
    }

    fn remember(&self, key: u64, asked: &Asked, outcome: &Outcome<OperationResult>) {
        let value = match (asked, outcome) {
            (Asked::Get { .. }, Outcome::Ok(OperationResult::Value(value))) => value.clone(),
            (Asked::Put { value, .. }, Outcome::Ok(_))
            | (Asked::Cas { value, .. }, Outcome::Ok(OperationResult::Swapped(true))) => Some(value.clone()),
            (Asked::Delete { .. }, Outcome::Ok(_)) => None,
            _ => return,
        };
        self.progress.known.lock().unwrap_or_else(PoisonError::into_inner).insert(key, value);
    }
}
