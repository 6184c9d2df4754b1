//! A follower that has nothing catches up on a large state while writes go on, is killed in the middle, and goes on where
//! it was; and neither side needs more memory for it than a bound that has nothing to do with the size of the state.
//!
//! eRaft's snapshots were one message (B6) that held the whole database several times over (B29), its log was never
//! compacted (B7), and a lagging peer was sent everything again with each heartbeat (B16).

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use eraft::client::{Client, Outcome};
use eraft::proto::admin::Status;
use tokio::task::JoinSet;

use super::cluster::Cluster;
use super::{alone, from_environment, shim};

/// The state that travels; `STREAM_STATE_MIB` changes it.
const STATE_MIB: u64 = 500;
const VALUE_BYTES: usize = 256 << 10;
/// Puts at the same time while the state is made.
const LOADERS: u64 = 8;

/// What either side may need beyond what it has when nothing travels.
const EXTRA_BYTES_MAX: u64 = 200 << 20;
/// The default bound of the log in memory, and twice that while a snapshot travels; entries are cut off in steps.
const LOG_BYTES_MAX: u64 = 64 << 20;

/// The writes that go on meanwhile: one of these at a time, with a pause.
const WRITE_BYTES: usize = 16 << 10;
const WRITE_PAUSE: Duration = Duration::from_millis(20);

/// It takes seconds; this is for a machine that is busy with something else.
const PATIENCE: Duration = Duration::from_secs(300);

/// The resident bytes that the kernel counts for a process: now, and the most since [`forget_peak`].
fn resident_bytes(pid: u32, line: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let text = status.lines().find_map(|found| found.strip_prefix(line)).expect("a line of proc(5)");
    let kib = text.trim_start_matches(':').trim().trim_end_matches(" kB");
    kib.parse::<u64>().expect("a number of KiB") << 10
}

/// Lets the peak begin anew from what is resident now.
fn forget_peak(pid: u32) {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("proc(5): resets the peak");
}

fn mib(bytes: u64) -> u64 {
    bytes >> 20
}

async fn load(client: &Arc<Client>, values: u64) {
    let next = Arc::new(AtomicU64::new(0));
    let mut loaders = JoinSet::new();
    for _ in 0..LOADERS {
        let (client, next) = (client.clone(), next.clone());
        loaders.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= values {
                    return;
                }
                let value = vec![number as u8; VALUE_BYTES];
                let put = client.put(format!("large {number:06}").into(), value.into()).await;
                assert_eq!(put, Outcome::Ok(()));
            }
        });
    }
    while let Some(loader) = loaders.join_next().await {
        loader.expect("it loads");
    }
}

/// Writes until told to stop; how many writes were acknowledged.
async fn go_on_writing(client: Arc<Client>, stop: Arc<AtomicBool>) -> u64 {
    let mut written = 0;
    while !stop.load(Ordering::Relaxed) {
        let key = format!("small {}", written % 500);
        assert_eq!(client.put(key.into(), vec![7; WRITE_BYTES].into()).await, Outcome::Ok(()));
        written += 1;
        tokio::time::sleep(WRITE_PAUSE).await;
    }
    written
}

/// Waits until node `id` says of itself what is wanted.
async fn until(cluster: &Cluster, id: u64, what: &str, is_so: impl Fn(&Status) -> bool) -> Status {
    let begun = Instant::now();
    loop {
        if let Some(status) = cluster.status_of(id).await.filter(&is_so) {
            return status;
        }
        assert!(begun.elapsed() < PATIENCE, "n{id}: {what}: not within {PATIENCE:?}: {}", cluster.stderr(id));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[test]
fn eraft_b06_b07_b16_b29_a_wiped_follower_catches_up_on_500_mb_while_writes_go_on() {
    alone(async {
        let state_bytes = from_environment("STREAM_STATE_MIB").unwrap_or(STATE_MIB) << 20;
        let mut cluster = Cluster::new(3, false, &[]);
        let begun = Instant::now();
        let said = |what: &str| println!("{:6.1} s: {what}", begun.elapsed().as_secs_f64());
        for id in [1, 2] {
            cluster.start(id, &shim::Orders::default());
            cluster.listens(id).expect("it listens");
        }
        let leader = cluster.leader();
        let client = Arc::new(cluster.client(0, None));
        load(&client, state_bytes / VALUE_BYTES as u64).await;
        let loaded =
            until(&cluster, leader, "flushed", |status| status.durable_applied == status.commit).await;
        let peak = resident_bytes(cluster.pid(leader), "VmHWM");
        said(&format!("{} MiB are there; the leader's peak so far: {} MiB", mib(loaded.bytes), mib(peak)));
        assert!(loaded.bytes >= state_bytes, "{loaded:?}");
        assert!(loaded.log_bytes <= LOG_BYTES_MAX + (16 << 20), "the log waited for the third: {loaded:?}");

        // The third begins with nothing; it is killed in the middle, and begins again with what it has.
        forget_peak(cluster.pid(leader));
        let resident = resident_bytes(cluster.pid(leader), "VmRSS");
        let stop = Arc::new(AtomicBool::new(false));
        let writing = tokio::spawn(go_on_writing(client, stop.clone()));
        cluster.start(3, &shim::Orders::default());
        cluster.listens(3).expect("it listens");
        let new = resident_bytes(cluster.pid(3), "VmHWM");
        let arrived = |status: &Status| status.snapshot_received_bytes > state_bytes * 2 / 5;
        let partly = until(&cluster, 3, "a good part has arrived", arrived).await;
        assert_eq!(partly.applied, 0, "it was to be killed before everything is there");
        let first_peak = resident_bytes(cluster.pid(3), "VmHWM");
        cluster.kill(3);
        said(&format!("killed after {} MiB", mib(partly.snapshot_received_bytes)));
        cluster.start(3, &shim::Orders::default());
        let target = until(&cluster, leader, "it answers", |_| true).await.commit;
        let whole = until(&cluster, 3, "it catches up", |status| status.applied >= target).await;
        let second_peak = resident_bytes(cluster.pid(3), "VmHWM");
        stop.store(true, Ordering::Relaxed);
        let written = writing.await.expect("all writes were acknowledged");
        let sender = until(&cluster, leader, "it answers", |_| true).await;
        let sender_peak = resident_bytes(cluster.pid(leader), "VmHWM");
        // A process may have given back more than it took since.
        let received = first_peak.max(second_peak).saturating_sub(new);
        let extra = sender_peak.saturating_sub(resident);
        said(&format!(
            "caught up with {} MiB more, {written} writes meanwhile; {} MiB were sent; extra memory: \
             sender {} MiB (of {}), receiver {} MiB (of {})",
            mib(whole.snapshot_received_bytes),
            mib(sender.snapshot_sent_bytes),
            mib(extra),
            mib(sender_peak),
            mib(received),
            mib(first_peak.max(second_peak)),
        ));
        assert_eq!(sender.role, "leader", "the test measures one sender");
        assert!(whole.snapshot_received_bytes < state_bytes * 7 / 10, "it began anew");
        assert!(sender.snapshot_sent_bytes < state_bytes * 6 / 5, "it was sent again");
        assert!(sender.log_bytes <= 2 * LOG_BYTES_MAX + (16 << 20), "{sender:?}");
        assert!(written > 10, "{written} writes are no load");
        assert!(extra < EXTRA_BYTES_MAX, "the sender needed {} MiB", mib(extra));
        assert!(received < EXTRA_BYTES_MAX, "the receiver needed {} MiB", mib(received));
        cluster.assert_agreement();
    });
}
