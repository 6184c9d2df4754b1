//! Clients that append to keys of all shards for as long as a test wants, and what must be there then: everything that
//! was acknowledged, once and in order, and nothing twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use eraft::client::{Client, Outcome};
use tokio::task::JoinHandle;

use super::cluster::{Cluster, ExpectOk as _};

/// Keys of one client; they are of many shards.
const KEYS: u64 = 20;

/// What one client did.
#[derive(Default)]
struct Done {
    /// By key: the numbers that were acknowledged, in order.
    acknowledged: BTreeMap<Bytes, Vec<u64>>,
    /// Numbers whose outcome is not known.
    unknown: Vec<u64>,
    refused: u64,
    /// The longest time that an append took.
    longest: Duration,
}

pub struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Done>>,
}

/// What a load came to.
#[derive(Debug)]
pub struct Summary {
    pub acknowledged: usize,
    pub unknown: usize,
    pub refused: u64,
    pub longest: Duration,
}

impl Load {
    /// Starts so many clients, each with several appends at the same time.
    pub fn start(cluster: &Cluster, clients: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let start = |number| {
            let client =
                Arc::new(cluster.client_with(1000 + number, |options| options.deadline_ms = 60_000, None));
            cluster.spawn(append(client, number, stop.clone()))
        };
        Self { clients: (0..clients).map(start).collect(), stop }
    }

    /// Stops it and looks at every key.
    pub fn finish(self, cluster: &Cluster, reader: &Client) -> Summary {
        self.stop.store(true, Ordering::Relaxed);
        let mut summary = Summary { acknowledged: 0, unknown: 0, refused: 0, longest: Duration::default() };
        for client in self.clients {
            let done = cluster.run(client).expect("it does not panic");
            summary.unknown += done.unknown.len();
            summary.refused += done.refused;
            summary.longest = summary.longest.max(done.longest);
            for (key, acknowledged) in done.acknowledged {
                summary.acknowledged += acknowledged.len();
                let value = cluster.run(reader.get(key.clone())).expect_ok().unwrap_or_default();
                let text = String::from_utf8(value.to_vec()).expect("numbers");
                let found: Vec<u64> =
                    text.split_terminator(' ').map(|n| n.parse().expect("a number")).collect();
                let certain: Vec<u64> =
                    found.iter().copied().filter(|number| !done.unknown.contains(number)).collect();
                assert_eq!(certain, acknowledged, "{key:?}: each once and in order, of {found:?}");
                let mut once = found.clone();
                once.sort_unstable();
                once.dedup();
                assert_eq!(once.len(), found.len(), "{key:?}: something is there twice: {found:?}");
            }
        }
        assert!(summary.acknowledged > 0, "no load: {summary:?}");
        summary
    }
}

/// Appends ascending numbers to each key; the appends of one key wait for each other, those of several keys do not.
async fn append(client: Arc<Client>, number: u64, stop: Arc<AtomicBool>) -> Done {
    let keys = (0..KEYS).map(|key| {
        let (client, stop) = (client.clone(), stop.clone());
        tokio::spawn(async move {
            let key = Bytes::from(format!("client {number} key {key}"));
            let (mut done, mut next) = (Done::default(), 0);
            while !stop.load(Ordering::Relaxed) {
                let begun = Instant::now();
                match client.append(key.clone(), format!("{next} ").into()).await {
                    Outcome::Ok(()) => done.acknowledged.entry(key.clone()).or_default().push(next),
                    Outcome::Unknown(_) => done.unknown.push(next),
                    Outcome::Refused(_) => done.refused += 1,
                }
                done.longest = done.longest.max(begun.elapsed());
                next += 1;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            done
        })
    });
    let mut all = Done::default();
    for key in keys.collect::<Vec<_>>() {
        let done = key.await.expect("it does not panic");
        all.acknowledged.extend(done.acknowledged);
        all.unknown.extend(done.unknown);
        all.refused += done.refused;
        all.longest = all.longest.max(done.longest);
    }
    all
}
