//! A large shard moves between two processes while both serve other shards: neither needs more memory for it than a
//! bound that has nothing to do with the size of the shard, and no message is larger than gRPC's limit, which both
//! sides have (`node::GRPC_MESSAGE_BYTES_MAX`).
//!
//! eRaft sent a shard as one message (B6), through one entry of its log (B28), as a map in memory.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use eraft::client::{Client, ClientOptions};
use eraft::ctrler::{SHARDS_DEFAULT, shard_of};
use eraft::proto::admin::admin_client::AdminClient;
use eraft::proto::admin::{ShardStatus, Status, StatusRequest};
use eraft::proto::ctrler::change::Change;
use eraft::proto::ctrler::{Group, Groups, Move};
use eraft::types::{GroupId, NodeId, ShardId};
use tokio::task::JoinSet;

use super::cluster::{ExpectOk as _, surroundings};

/// The shard that travels; `SHARD_MIB` changes it.
const SHARD_MIB: u64 = 200;
const VALUE_BYTES: usize = 64 << 10;
/// Puts at the same time while the shard is made.
const LOADERS: u64 = 16;

/// What either side may need beyond what it has when nothing travels.
const EXTRA_BYTES_MAX: u64 = 200 << 20;

/// It takes seconds; this is for a machine that is busy with something else.
const PATIENCE: Duration = Duration::from_secs(300);

/// A process and what it is.
struct Node {
    child: Child,
    address: SocketAddr,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Node {
    fn start(home: &std::path::Path, address: SocketAddr, service: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_eraft"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ERAFT_")) {
            command.env_remove(name);
        }
        command.arg("serve").args(service).args(["--id", "1", "--cluster", &address.to_string()]);
        command.arg("--db").arg(home);
        let errors = File::create(home.join(format!("{}.err", address.port()))).expect("a file");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
        // SAFETY: between fork and exec only prctl is called, which is async-signal-safe.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        Self { child: command.spawn().expect("the binary starts"), address }
    }

    /// The resident bytes that the kernel counts: now (`VmRSS`), and the most since [`Node::forget_peak`] (`VmHWM`).
    fn resident_bytes(&self, line: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let text = status.lines().find_map(|found| found.strip_prefix(line)).expect("a line of proc(5)");
        let kib = text.trim_start_matches(':').trim().trim_end_matches(" kB");
        kib.parse::<u64>().expect("a number of KiB") << 10
    }

    fn forget_peak(&self) {
        fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5").expect("proc(5): resets the peak");
    }

    async fn status(&self) -> Option<Status> {
        let mut admin = AdminClient::connect(format!("http://{}", self.address)).await.ok()?;
        Some(admin.get_status(StatusRequest {}).await.ok()?.into_inner())
    }

    /// What it has of `shard`.
    async fn shard(&self, shard: u64) -> Option<ShardStatus> {
        self.status().await?.shards.into_iter().find(|of| of.shard == shard)
    }

    async fn until(&self, what: &str, is_so: impl Fn(Option<&ShardStatus>) -> bool) {
        let begun = Instant::now();
        while !is_so(self.shard(0).await.as_ref()) {
            assert!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn keys_of(shard: u64) -> impl Iterator<Item = Bytes> {
    let of = move |key: &String| shard_of(key.as_bytes(), SHARDS_DEFAULT) == ShardId(shard);
    (0..).map(|number| format!("key {number}")).filter(of).map(Bytes::from)
}

async fn load(client: &Arc<Client>, values: u64) {
    let keys = Arc::new(std::sync::Mutex::new(keys_of(0).take(usize::try_from(values).expect("a count"))));
    let mut loaders = JoinSet::new();
    for _ in 0..LOADERS {
        let (client, keys) = (client.clone(), keys.clone());
        loaders.spawn(async move {
            loop {
                let next = keys.lock().expect("nobody panics").next();
                let Some(key) = next else { return };
                let value = vec![key[key.len() - 1]; VALUE_BYTES];
                client.put(key, value.into()).await.expect_ok();
            }
        });
    }
    while let Some(loader) = loaders.join_next().await {
        loader.expect("it loads");
    }
}

/// Writes to `shard` until told to stop; how often, and the longest time that one took.
async fn go_on(client: Arc<Client>, shard: u64, stop: Arc<AtomicBool>) -> (u64, Duration) {
    let key = keys_of(shard).next().expect("some key");
    let (mut written, mut longest) = (0, Duration::ZERO);
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        client.put(key.clone(), vec![7; 4 << 10].into()).await.expect_ok();
        longest = longest.max(begun.elapsed());
        written += 1;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    (written, longest)
}

#[test]
fn eraft_b06_b28_a_large_shard_moves_in_bounded_memory_while_both_sides_serve() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let shard_mib = std::env::var("SHARD_MIB").map_or(SHARD_MIB, |mib| mib.parse().expect("SHARD_MIB"));
        let home = tempfile::tempdir().expect("a temporary directory");
        let addresses: Vec<SocketAddr> = {
            let listeners: Vec<_> =
                (0..3).map(|_| TcpListener::bind(("127.0.0.1", 0)).expect("a free port")).collect();
            listeners.iter().map(|listener| listener.local_addr().expect("its address")).collect()
        };
        let ctrlers = addresses[0].to_string();
        let _ctrler = Node::start(home.path(), addresses[0], &["ctrler"]);
        let group = |gid| ["shard", "--gid", gid, "--ctrlers", &ctrlers];
        let source = Node::start(home.path(), addresses[1], &group("1"));
        let target = Node::start(home.path(), addresses[2], &group("2"));
        let mut options = ClientOptions::new(BTreeMap::from([(NodeId(1), addresses[0])]));
        options.deadline_ms = 60_000;
        let client = Arc::new(Client::sharded(options, surroundings(1), None));

        let begun = Instant::now();
        let said = |what: &str| println!("{:6.1} s: {what}", begun.elapsed().as_secs_f64());
        let member = |group: u64, address: SocketAddr| Group { group, addresses: vec![address.to_string()] };
        let groups = vec![member(1, addresses[1]), member(2, addresses[2])];
        client.change(Change::Join(Groups { groups })).await.expect_ok();
        client.change(Change::Move(Move { shard: 0, group: 1 })).await.expect_ok();
        let values = (shard_mib << 20) / VALUE_BYTES as u64;
        load(&client, values).await;
        let loaded = source.shard(0).await.expect("it is there");
        said(&format!("{} MiB in {} keys are there", loaded.bytes >> 20, loaded.keys));
        assert_eq!(loaded.keys, values);

        let resident = [&source, &target].map(|node| {
            node.forget_peak();
            node.resident_bytes("VmRSS")
        });
        let config = client.config().await.expect_ok();
        let of = |group| config.shards_of(GroupId(group)).map(|shard| shard.0).find(|shard| *shard != 0);
        let stop = Arc::new(AtomicBool::new(false));
        let served = [of(1), of(2)].map(|shard| {
            let shard = shard.expect("each group has some");
            tokio::spawn(go_on(client.clone(), shard, stop.clone()))
        });
        let moved = Instant::now();
        client.change(Change::Move(Move { shard: 0, group: 2 })).await.expect_ok();
        target
            .until("it arrives", |of| of.is_some_and(|of| of.state == "Serving" || of.state == "GCing"))
            .await;
        let arrived = moved.elapsed();
        said(&format!("it arrived after {:.1} s", arrived.as_secs_f64()));
        source.until("its copy is deleted", |of| of.is_none()).await;
        said(&format!("its copy is deleted {:.1} s later", (moved.elapsed() - arrived).as_secs_f64()));
        stop.store(true, Ordering::Relaxed);
        for (side, writing) in ["source", "target"].iter().zip(served) {
            let (written, longest) = writing.await.expect("all writes were acknowledged");
            said(&format!("{side}: {written} writes meanwhile, the longest took {longest:?}"));
            assert!(written > 10 && longest < Duration::from_secs(10), "{side} did not serve");
        }
        let there = target.shard(0).await.expect("it is there");
        assert_eq!((there.keys, &there.state[..]), (values, "Serving"));
        for (side, node, resident) in [("source", &source, resident[0]), ("target", &target, resident[1])] {
            let peak = node.resident_bytes("VmHWM");
            let extra = peak.saturating_sub(resident);
            said(&format!("{side}: {} MiB more than the {} before", extra >> 20, resident >> 20));
            assert!(extra < EXTRA_BYTES_MAX, "the {side} needed {} MiB more", extra >> 20);
        }
        let first = keys_of(0).next().expect("some key");
        let value = client.get(first.clone()).await.expect_ok().expect("it is there");
        assert_eq!((value.len(), value[0]), (VALUE_BYTES, first[first.len() - 1]));
    });
}
