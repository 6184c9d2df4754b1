//! Nodes that can be started and ended, each on a runtime of its own: when that goes, everything of the node does.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use eraft::buggify::Buggify;
use eraft::client::{Client, ClientOptions};
use eraft::kv::KvMachine;
use eraft::node::{NodeError, NodeOptions, serve};
use eraft::observe::NoObserver;
use eraft::proto::admin::admin_client::AdminClient;
use eraft::proto::admin::{Status, StatusRequest};
use eraft::random::Draws;
use eraft::replica::link::Link;
use eraft::replica::timers::Clock;
use eraft::replica::{Identity, Options, Service, Surroundings};
use eraft::storage::Volume;
use eraft::types::NodeId;
use tokio::runtime::Runtime;

use super::volume::Watched;

/// Everything here is far faster; this is for a machine that is busy with something else.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Addresses that are free now.
pub fn free_addresses(count: u64) -> BTreeMap<NodeId, SocketAddr> {
    let listeners: Vec<_> =
        (0..count).map(|_| TcpListener::bind(("127.0.0.1", 0)).expect("a free port")).collect();
    let addresses = listeners.iter().map(|listener| listener.local_addr().expect("its address"));
    (1..=count).map(NodeId).zip(addresses).collect()
}

/// A real node's or client's; `seed` tells its draws from others'.
pub fn surroundings(seed: u64) -> Surroundings {
    Surroundings {
        link: Link,
        clock: Clock::default(),
        draws: Draws::new(seed, "loopback"),
        buggify: Buggify,
    }
}

/// A group on loopback.
pub struct Group {
    pub nodes: BTreeMap<NodeId, SocketAddr>,
    pub options: Options,
    running: BTreeMap<u64, Runtime>,
    /// For clients and questions.
    pub here: Runtime,
}

impl Group {
    pub fn new(count: u64, options: Options) -> Self {
        let here = Runtime::new().expect("a runtime");
        Self { nodes: free_addresses(count), options, running: BTreeMap::new(), here }
    }

    pub fn start(&mut self, id: u64, volume: &Watched) {
        self.start_on(id, Arc::new(volume.clone()));
    }

    pub fn start_on(&mut self, id: u64, volume: Arc<dyn Volume>) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let process = self.process(id, volume);
        runtime.spawn(async move { panic!("n{id} ended: {:?}", process.await) });
        self.running.insert(id, runtime);
    }

    /// A node's life; it ends if the node cannot go on.
    pub fn process(
        &self,
        id: u64,
        volume: Arc<dyn Volume>,
    ) -> impl Future<Output = Result<(), NodeError>> + Send + use<> {
        let identity = Identity {
            cluster_id: "test".into(),
            service: Service::Kv,
            id: NodeId(id),
            nodes: self.nodes.clone(),
        };
        let mut options = NodeOptions::new(identity);
        options.replica = self.options.clone();
        // In the runtime: a clock starts a timer of it.
        async move {
            let (here, observer) = (surroundings(id), Arc::new(NoObserver));
            let end = std::future::pending();
            serve(KvMachine::default(), options, volume, here, observer, None, end).await
        }
    }

    /// Ends the node with all of its tasks, as a crash of its process does.
    pub fn end(&mut self, id: u64) {
        self.running.remove(&id).expect("it runs").shutdown_timeout(PATIENCE);
    }

    /// What node `id` says of itself; `None` if it does not answer.
    pub fn status(&self, id: u64) -> Option<Status> {
        let address = self.nodes[&NodeId(id)];
        let asking = async move {
            let mut admin = AdminClient::connect(format!("http://{address}")).await.ok()?;
            Some(admin.get_status(StatusRequest {}).await.ok()?.into_inner())
        };
        self.here.block_on(async { tokio::time::timeout(Duration::from_secs(1), asking).await.ok()? })
    }

    pub fn client(&self, seed: u64) -> Client {
        let _inside = self.here.enter();
        Client::new(ClientOptions::new(self.nodes.clone()), surroundings(seed), None)
    }
}

/// Waits until `ready` gives something.
pub fn wait_for<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
