//! Clients that work all the time, and remember how long each operation took.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

use bytes::Bytes;
use eraft::client::{Client, ClientOptions, Outcome};
use eraft::ctrler::{SHARDS_DEFAULT, shard_of};
use eraft::history::{Operation, Recorder};
use eraft::server::surroundings;
use eraft::shardkv::CHUNK_LIMIT;
use eraft::types::{NodeId, ShardId};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use super::cluster::PULL_BYTES_PER_SECOND;

const CLIENTS: u64 = 6;
/// Spread over all shards.
const KEYS: u64 = 40;
/// What else is in the shards, so that they are on their way for a while: some chunks each.
const BALLAST_KEYS: u64 = 160;
const BALLAST_BYTES: usize = 100 << 10;
/// So that the processes have some of the machine, too.
const PAUSE: Duration = Duration::from_millis(5);
/// An operation that takes this long is a failure, and so is one that ends otherwise.
const DEADLINE_MS: u64 = 20_000;

pub struct Load {
    runtime: Runtime,
    shared: Arc<Shared>,
    /// Who filled the shards; that is not a part of the history.
    filling: Client,
    clients: Vec<JoinHandle<()>>,
}

struct Shared {
    recorder: Arc<Recorder>,
    stopped: AtomicBool,
    operations: AtomicU64,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    longest: (String, Duration),
    failures: Vec<String>,
}

/// What the clients saw.
pub struct Done {
    pub operations: u64,
    pub longest: (String, Duration),
    pub failures: Vec<String>,
    pub history: Vec<u8>,
}

impl Load {
    /// Fills the shards, and starts clients of the cluster with these controllers.
    pub fn start(ctrlers: &str) -> Self {
        let nodes = ctrlers.split(',').map(|address| address.parse().expect("an address"));
        let mut options = ClientOptions::new((1..).map(NodeId).zip(nodes).collect());
        options.deadline_ms = DEADLINE_MS;
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let shared = Arc::new(Shared {
            recorder: Arc::new(Recorder::in_memory()),
            stopped: AtomicBool::new(false),
            operations: AtomicU64::new(0),
            seen: Mutex::default(),
        });
        let inside = runtime.enter();
        let client = |recorder| {
            Client::sharded(options.clone(), surroundings("placement").expect("randomness"), recorder)
        };
        let filling = client(None);
        runtime.block_on(async {
            for number in 0..BALLAST_KEYS {
                let (key, value) = ballast(number);
                assert_eq!(filling.put(key, value).await, Outcome::Ok(()));
            }
        });
        let clients = (0..CLIENTS)
            .map(|number| tokio::spawn(shared.clone().work(client(Some(shared.recorder.clone())), number)));
        let clients = clients.collect();
        drop(inside);
        Self { runtime, shared, filling, clients }
    }

    /// Lets them work; operations must be answered meanwhile.
    pub fn runs_for(&self, time: Duration) {
        let before = self.shared.operations.load(Ordering::Relaxed);
        let begun = Instant::now();
        sleep(time);
        while self.shared.operations.load(Ordering::Relaxed) == before {
            assert!(begun.elapsed() < super::OPERATION_MAX, "nothing is answered for {:?}", begun.elapsed());
            sleep(Duration::from_millis(10));
        }
    }

    /// Ends them; everything that they wrote is read once more.
    pub fn stop(self) -> Done {
        self.shared.stopped.store(true, Ordering::Relaxed);
        for client in self.clients {
            self.runtime.block_on(client).expect("no panic");
        }
        for (key, value) in (0..BALLAST_KEYS).map(ballast) {
            let read = self.runtime.block_on(self.filling.get(key));
            assert_eq!(read, Outcome::Ok(Some(value)), "it was acknowledged");
        }
        let seen = std::mem::take(&mut *self.shared.seen.lock().unwrap());
        Done {
            operations: self.shared.operations.load(Ordering::Relaxed),
            longest: seen.longest,
            failures: seen.failures,
            history: self.shared.recorder.memory().expect("it is in memory"),
        }
    }
}

/// A shard takes at least this long to another group: its last part is asked for when all before it is paid for.
pub fn moves_for_at_least(shard: u64) -> Duration {
    let keys = (0..BALLAST_KEYS).map(|number| ballast(number).0);
    let here = keys.filter(|key| shard_of(key, SHARDS_DEFAULT) == ShardId(shard)).count();
    let before_the_last = (here * BALLAST_BYTES).saturating_sub(CHUNK_LIMIT.bytes_max + BALLAST_BYTES);
    Duration::from_secs_f64(before_the_last as f64 / PULL_BYTES_PER_SECOND as f64)
}

/// A key that is written once, and its value.
fn ballast(number: u64) -> (Bytes, Bytes) {
    (format!("ballast {number}").into(), vec![number as u8; BALLAST_BYTES].into())
}

impl Shared {
    async fn work(self: Arc<Self>, client: Client, number: u64) {
        let mut sequence = 0;
        while !self.stopped.load(Ordering::Relaxed) {
            sequence += 1;
            let key = Bytes::from(format!("key {}", (sequence * (number + 1) + number) % KEYS));
            // No two values are alike, so a read says which writes it saw.
            let value = Bytes::from(format!("{number}.{sequence}."));
            let operation = match sequence % 5 {
                0 => Operation::Put { key, value },
                1 | 3 => Operation::Get { key },
                _ => Operation::Append { key, value },
            };
            self.run(&client, operation).await;
            tokio::time::sleep(PAUSE).await;
        }
        for key in (0..KEYS).filter(|key| key % CLIENTS == number) {
            self.run(&client, Operation::Get { key: format!("key {key}").into() }).await;
        }
    }

    async fn run(&self, client: &Client, operation: Operation) {
        let (what, begun) = (format!("{operation:?}"), Instant::now());
        let outcome = client.execute(operation).await;
        let took = begun.elapsed();
        self.operations.fetch_add(1, Ordering::Relaxed);
        let mut seen = self.seen.lock().unwrap();
        if !matches!(outcome, Outcome::Ok(_)) {
            seen.failures.push(format!("{what} after {took:?}: {outcome:?}"));
        }
        if took > seen.longest.1 {
            seen.longest = (what, took);
        }
    }
}
