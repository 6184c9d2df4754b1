//! Nodes as processes on loopback, which can be killed and started again.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use eraft::buggify::Buggify;
use eraft::client::{Client, ClientOptions};
use eraft::history::Recorder;
use eraft::proto::admin::admin_client::AdminClient;
use eraft::proto::admin::{Status, StatusRequest};
use eraft::random::Draws;
use eraft::replica::Surroundings;
use eraft::replica::link::Link;
use eraft::replica::timers::Clock;
use eraft::types::NodeId;
use tempfile::TempDir;

use super::records::{self, Record};
use super::shim;

/// Everything here is far faster; this is for a machine that is busy with something else.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How often something is looked at again.
const POLL: Duration = Duration::from_millis(2);

/// An operation of a client may take this long: it outlives a restart of all nodes.
const DEADLINE_MS: u64 = 60_000;

/// Waits until `ready` gives something.
pub fn wait_for<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        sleep(POLL);
    }
}

/// Addresses that are free now and that no outgoing connection takes, so that a node can have its own again.
fn free_addresses(count: u64) -> BTreeMap<NodeId, SocketAddr> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = (std::process::id() % 1_000) as u16 * 10;
    let ports = (0..10_000).map(|_| 10_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000);
    let addresses = ports.map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    let free = addresses.filter(|address| TcpListener::bind(address).is_ok());
    let nodes: BTreeMap<_, _> = (1..=count).map(NodeId).zip(free).collect();
    assert_eq!(nodes.len() as u64, count, "no free ports");
    nodes
}

/// A cluster in a directory of its own; its processes end with it.
pub struct Cluster {
    home: TempDir,
    pub nodes: BTreeMap<NodeId, SocketAddr>,
    /// Given to every node.
    arguments: Vec<&'static str>,
    /// Whether nodes run with the shim.
    is_recorded: bool,
    running: BTreeMap<u64, Child>,
    /// How often each node was started.
    starts: BTreeMap<u64, u64>,
}

impl Cluster {
    pub fn new(count: u64, is_recorded: bool, arguments: &[&'static str]) -> Self {
        let home = tempfile::tempdir().expect("a temporary directory");
        let nodes = free_addresses(count);
        for node in nodes.keys() {
            fs::create_dir(home.path().join(format!("disk{}", node.0))).expect("a directory");
        }
        Self {
            home,
            nodes,
            arguments: arguments.to_vec(),
            is_recorded,
            running: BTreeMap::new(),
            starts: BTreeMap::new(),
        }
    }

    pub fn ids(&self) -> Vec<u64> {
        self.nodes.keys().map(|node| node.0).collect()
    }

    /// The disk of node `id`: it makes everything below.
    pub fn disk(&self, id: u64) -> PathBuf {
        self.home.path().join(format!("disk{id}"))
    }

    /// Where node `id` has its data.
    pub fn directory(&self, id: u64) -> PathBuf {
        self.disk(id).join("db").join(format!("n{id}"))
    }

    /// What the shim wrote in the last process of node `id`.
    pub fn shim_log(&self, id: u64) -> PathBuf {
        let start = self.starts.get(&id).copied().unwrap_or(0);
        self.home.path().join(format!("n{id}.{start}.records"))
    }

    pub fn records(&self, id: u64) -> Vec<Record> {
        records::read(&self.shim_log(id))
    }

    fn output(&self, id: u64, what: &str) -> PathBuf {
        self.home.path().join(format!("n{id}.{what}"))
    }

    /// What the last process of node `id` said on standard error.
    pub fn stderr(&self, id: u64) -> String {
        String::from_utf8_lossy(&fs::read(self.output(id, "err")).unwrap_or_default()).into_owned()
    }

    /// Starts node `id` and does not wait for anything.
    pub fn start(&mut self, id: u64, orders: &shim::Orders) {
        assert!(!self.running.contains_key(&id), "n{id} runs");
        *self.starts.entry(id).or_default() += 1;
        let mut command = Command::new(env!("CARGO_BIN_EXE_eraft"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ERAFT_")) {
            command.env_remove(name);
        }
        let addresses: Vec<String> = self.nodes.values().map(ToString::to_string).collect();
        command.args(["serve", "kv", "--id", &id.to_string(), "--cluster", &addresses.join(",")]);
        command.arg("--db").arg(self.disk(id).join("db")).args(&self.arguments);
        if self.is_recorded {
            shim::load(&mut command, &self.disk(id), &self.shim_log(id), orders);
        }
        let file = |what| File::create(self.output(id, what)).expect("a file for its output");
        command.stdin(Stdio::null()).stdout(file("out")).stderr(file("err"));
        // SAFETY: between fork and exec only prctl is called, which is async-signal-safe.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        self.running.insert(id, command.spawn().expect("the binary starts"));
    }

    pub fn start_all(&mut self) {
        for id in self.ids() {
            self.start(id, &shim::Orders::default());
        }
    }

    /// Waits until node `id` listens; or gives its exit status if it ends before.
    pub fn listens(&mut self, id: u64) -> Result<(), ExitStatus> {
        let output = self.output(id, "out");
        wait_for("a node listens or ends", || {
            // The status first: what it printed before it ended is there then.
            let ended = self.ended(id);
            let listens = fs::read_to_string(&output).is_ok_and(|text| text.contains("listens on"));
            if listens { Some(Ok(())) } else { ended.map(Err) }
        })
    }

    pub fn all_listen(&mut self) {
        for id in self.ids() {
            let listens = self.listens(id);
            assert!(listens.is_ok(), "n{id} ended: {listens:?}: {}", self.stderr(id));
        }
    }

    /// How node `id` ended, if it did.
    pub fn ended(&mut self, id: u64) -> Option<ExitStatus> {
        let status = self.running.get_mut(&id)?.try_wait().expect("a child");
        if status.is_some() {
            self.running.remove(&id);
        }
        status
    }

    fn signal(&self, id: u64, signal: i32) {
        if let Some(child) = self.running.get(&id) {
            // SAFETY: kill has no preconditions; the process is a child that was not waited for.
            unsafe { libc::kill(child.id().cast_signed(), signal) };
        }
    }

    /// `kill -9` of all nodes, as nearly at once as can be.
    pub fn kill_all(&mut self) {
        let ids: Vec<u64> = self.running.keys().copied().collect();
        ids.iter().for_each(|id| self.signal(*id, libc::SIGKILL));
        for id in ids {
            let status = self.running.remove(&id).expect("it runs").wait().expect("a child");
            assert_eq!(status.code(), None, "n{id} ended by itself: {}", self.stderr(id));
        }
    }

    /// Kills one node.
    pub fn kill(&mut self, id: u64) {
        self.signal(id, libc::SIGKILL);
        self.running.remove(&id).expect("it runs").wait().expect("a child");
    }

    /// Stops node `id` in order.
    pub fn stop(&mut self, id: u64) {
        self.signal(id, libc::SIGTERM);
        let status = wait_for("a node stops", || self.ended(id));
        assert!(status.success(), "{status}: {}", self.stderr(id));
    }

    /// A client of all nodes.
    pub fn client(&self, number: u64, recorder: Option<Arc<Recorder>>) -> Client {
        static OTHERS: AtomicU64 = AtomicU64::new(0);
        let mut options = ClientOptions::new(self.nodes.clone());
        options.deadline_ms = DEADLINE_MS;
        // Sessions must not meet, so each client has a seed of its own.
        let seed = OTHERS.fetch_add(1, Ordering::Relaxed);
        let draws = Draws::new(seed, &format!("durability client {number}"));
        Client::new(
            options,
            Surroundings { link: Link, clock: Clock::default(), draws, buggify: Buggify },
            recorder,
        )
    }

    /// The process of node `id`, which runs.
    pub fn pid(&self, id: u64) -> u32 {
        self.running.get(&id).expect("it runs").id()
    }

    /// What node `id` says of itself, with what `eraft status` leaves out; `None` if it does not answer.
    pub async fn status_of(&self, id: u64) -> Option<Status> {
        let address = self.nodes[&NodeId(id)];
        let asking = async move {
            let mut admin = AdminClient::connect(format!("http://{address}")).await.ok()?;
            Some(admin.get_status(StatusRequest {}).await.ok()?.into_inner())
        };
        tokio::time::timeout(Duration::from_secs(5), asking).await.ok()?
    }

    /// What the nodes say of themselves; `None` if none answers.
    fn status(&self) -> Option<serde_json::Value> {
        let addresses: Vec<String> = self.nodes.values().map(ToString::to_string).collect();
        let mut command = Command::new(env!("CARGO_BIN_EXE_eraft"));
        command.args(["status", "-o", "json", "--cluster", &addresses.join(",")]);
        serde_json::from_slice(&command.output().expect("the binary starts").stdout).ok()
    }

    /// The node that says of itself that it leads; waits until there is one.
    pub fn leader(&self) -> u64 {
        wait_for("a leader", || {
            let status = self.status()?;
            let leads =
                |node: &&serde_json::Value| node["role"] == "leader" && node["id"] == status["leader"];
            status["nodes"].as_array()?.iter().find(leads)?["id"].as_u64()
        })
    }

    /// Waits until all nodes have applied the same entries; then they hold the same.
    pub fn assert_agreement(&self) {
        let states = wait_for("all nodes have applied the same", || {
            let status = self.status()?;
            let state =
                |node: &serde_json::Value| Some((node["applied"].as_u64()?, node["replica_hash"].clone()));
            let states: Vec<_> = status["nodes"].as_array()?.iter().map(state).collect::<Option<_>>()?;
            states.iter().all(|(applied, _)| *applied == states[0].0).then_some(states)
        });
        assert!(states.iter().all(|state| *state == states[0]), "applied and hash differ: {states:?}");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.running.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The newest log of the log store of the node with this data directory.
pub fn newest_log(directory: &Path) -> PathBuf {
    let store = directory.join("stores/log");
    let entries = fs::read_dir(&store).unwrap_or_else(|error| panic!("{}: {error}", store.display()));
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.filter(|path| path.extension().is_some_and(|end| end == "log")).max().expect("a log")
}
