//! Clients that write without a pause and keep a ledger.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use eraft::client::{Client, Outcome};
use eraft::history::Recorder;
use tokio::task::JoinHandle;

use super::cluster::{Cluster, PATIENCE};
use super::ledger::{Asked, Fate, Ledger, token};
use super::now_ns;

/// The keys that appends of one round go to.
const APPEND_KEYS: u64 = 3;

/// Keys that are read at the same time when everything is verified.
const READS_AT_ONCE: usize = 32;

/// The writers, and what they were told.
pub struct Workload {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

struct Shared {
    ledger: Mutex<Ledger>,
    round: AtomicU64,
    stop: AtomicBool,
    /// Bytes behind the token in the value of a put.
    filler_bytes: usize,
}

impl Shared {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().expect("nothing panics while it holds the ledger")
    }

    /// What `worker` does as its `number`-th operation: every other one is a put.
    fn next(&self, worker: u64, number: u64) -> (String, bool) {
        let round = self.round.load(Ordering::Relaxed);
        match number % 2 {
            0 => (format!("put-{worker}-{number}"), false),
            _ => (format!("append-{round}-{}", (worker + number / 2) % APPEND_KEYS), true),
        }
    }

    async fn work(&self, worker: u64, client: &Client) {
        let filler = vec![b'.'; self.filler_bytes];
        let mut number = 0;
        while !self.stop.load(Ordering::Relaxed) {
            number += 1;
            let token = token(worker, number);
            let (key, is_append) = self.next(worker, number);
            let asked = Asked { key: key.clone(), is_append, fate: Fate::Unknown };
            self.ledger().asked.insert((worker, number), asked);
            let outcome = match is_append {
                true => client.append(key.into(), token.into()).await,
                false => client.put(key.into(), [token.as_bytes(), &filler].concat().into()).await,
            };
            let at_ns = now_ns();
            let fate = match outcome {
                Outcome::Ok(()) => Fate::Acknowledged { at_ns },
                Outcome::Refused(_) => Fate::Refused,
                Outcome::Unknown(_) => Fate::Unknown,
            };
            self.ledger().asked.get_mut(&(worker, number)).expect("just put there").fate = fate;
        }
    }
}

impl Workload {
    /// `workers` clients of all nodes, numbered from `first`; puts have `filler_bytes` more than their token.
    pub fn start(
        cluster: &Cluster,
        first: u64,
        workers: u64,
        filler_bytes: usize,
        recorder: Option<&Arc<Recorder>>,
    ) -> Self {
        let shared = Arc::new(Shared {
            ledger: Mutex::default(),
            round: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            filler_bytes,
        });
        let workers = (first..first + workers).map(|worker| {
            let (shared, client) = (shared.clone(), cluster.client(worker, recorder.cloned()));
            tokio::spawn(async move { shared.work(worker, &client).await })
        });
        let workers = workers.collect();
        Self { shared, workers }
    }

    /// What is known now.
    pub fn ledger(&self) -> Ledger {
        self.shared.ledger().clone()
    }

    pub fn acknowledged(&self) -> usize {
        self.shared.ledger().acknowledged()
    }

    /// Appends go to other keys from now on.
    pub fn next_round(&self) {
        self.shared.round.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits until `more` operations have been acknowledged after now.
    pub async fn progress(&self, more: usize) {
        let (enough, begun) = (self.acknowledged() + more, std::time::Instant::now());
        while self.acknowledged() < enough {
            assert!(begun.elapsed() < PATIENCE, "no progress: {} of {enough}", self.acknowledged());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Lets everybody finish their operation; gives the ledger.
    pub async fn finish(self) -> Ledger {
        self.shared.stop.store(true, Ordering::Relaxed);
        for worker in self.workers {
            worker.await.expect("a worker does not panic");
        }
        self.shared.ledger().clone()
    }

    /// Ends everybody in the middle of what they do; gives the ledger.
    pub fn abandon(self) -> Ledger {
        self.workers.iter().for_each(JoinHandle::abort);
        self.shared.ledger().clone()
    }
}

/// Reads all keys of `ledger`, linearizably.
pub async fn read_all(client: &Client, ledger: &Ledger) -> BTreeMap<String, Vec<u8>> {
    let keys: Vec<String> = ledger.keys().into_iter().collect();
    let mut found = BTreeMap::new();
    for keys in keys.chunks(READS_AT_ONCE) {
        let reads = keys.iter().map(|key| client.get(key.clone().into()));
        for (key, outcome) in keys.iter().zip(futures_util::future::join_all(reads).await) {
            match outcome {
                Outcome::Ok(Some(value)) => drop(found.insert(key.clone(), value.to_vec())),
                Outcome::Ok(None) => {}
                other => panic!("reading {key}: {other:?}"),
            }
        }
    }
    found
}

/// Everything that `ledger` says must be there is, and nothing that must not be.
pub async fn verify(client: &Client, ledger: &Ledger) {
    report(&ledger.flaws(&read_all(client, ledger).await));
}

/// Fails with the first of `flaws`, if there are any.
pub fn report(flaws: &[String]) {
    assert!(flaws.is_empty(), "{} flaws: {:#?}", flaws.len(), &flaws[..flaws.len().min(20)]);
}
