//! Controllers and groups whose nodes can be started and ended, each on a runtime of its own: when that goes,
//! everything of the node does.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use eraft::buggify::Buggify;
use eraft::client::{Client, ClientOptions, Outcome, Which};
use eraft::ctrler::{Config, CtrlerMachine};
use eraft::history::Recorder;
use eraft::node::{self, NodeOptions};
use eraft::observe::NoObserver;
use eraft::proto::admin::admin_client::AdminClient;
use eraft::proto::admin::{Status, StatusRequest};
use eraft::proto::ctrler as pb;
use eraft::proto::ctrler::change::Change;
use eraft::random::Draws;
use eraft::replica::link::Link;
use eraft::replica::timers::Clock;
use eraft::replica::{Identity, Service, Surroundings};
use eraft::shardkv::{self, GroupOptions};
use eraft::storage::Volume as _;
use eraft::storage::memory::MemoryVolume;
use eraft::types::{ConfigNum, GroupId, NodeId, ShardId};
use eraft::view::{KeyRange, PageLimit};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

/// Everything here is far faster; this is for a machine that is busy with something else.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The controllers, among the groups.
pub const CTRLERS: u64 = 0;

/// The members of one Raft group.
#[derive(Default)]
struct Members {
    nodes: BTreeMap<NodeId, SocketAddr>,
    volumes: BTreeMap<u64, MemoryVolume>,
    running: BTreeMap<u64, Running>,
}

struct Running {
    runtime: Runtime,
    stop: oneshot::Sender<()>,
    ended: oneshot::Receiver<()>,
}

pub struct Cluster {
    /// By group; the controllers are [`CTRLERS`].
    members: BTreeMap<u64, Members>,
    /// For clients and questions.
    here: Runtime,
    /// Changes what the nodes of groups are started with.
    tune: fn(&mut GroupOptions),
}

impl Cluster {
    /// Controllers and these groups, none of which has joined.
    pub fn new(groups: &[u64]) -> Self {
        Self::tuned(groups, |_| {})
    }

    pub fn tuned(groups: &[u64], tune: fn(&mut GroupOptions)) -> Self {
        let here = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let members = BTreeMap::new();
        let mut cluster = Self { members, here: here.expect("a runtime"), tune };
        for group in std::iter::once(&CTRLERS).chain(groups) {
            let nodes = free_addresses(3);
            let volumes = nodes.keys().map(|id| (id.0, MemoryVolume::default())).collect();
            cluster.members.insert(*group, Members { nodes, volumes, running: BTreeMap::new() });
            (1..=3).for_each(|id| cluster.start(*group, id));
        }
        cluster
    }

    pub fn start(&mut self, group: u64, id: u64) {
        let ctrlers = self.members[&CTRLERS].nodes.clone();
        let members = self.members.get_mut(&group).expect("there is such a group");
        let service = if group == CTRLERS { Service::Ctrler } else { Service::Shard(GroupId(group)) };
        let nodes = members.nodes.clone();
        let identity = Identity { cluster_id: "test".to_owned(), service, id: NodeId(id), nodes };
        let (volume, tune) = (Arc::new(members.volumes[&id].clone()), self.tune);
        let ((stop, stopped), (tell, ended)) = (oneshot::channel::<()>(), oneshot::channel());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        // In the runtime: a clock starts a timer of it.
        runtime.spawn(async move {
            let (around, observer) = (surroundings(100 * group + id), Arc::new(NoObserver));
            let stopped = async {
                let _ = stopped.await;
            };
            let ended = if group == CTRLERS {
                let machine = CtrlerMachine::default();
                node::serve(machine, NodeOptions::new(identity), volume, around, observer, None, stopped)
                    .await
            } else {
                let mut options = GroupOptions::new(identity, ctrlers);
                tune(&mut options);
                shardkv::serve(options, volume, around, observer, None, stopped).await
            };
            ended.unwrap_or_else(|error| panic!("n{id} of group {group} ended: {error}"));
            let _ = tell.send(());
        });
        members.running.insert(id, Running { runtime, stop, ended });
    }

    /// Ends the node with all of its tasks, as a crash of its process does.
    pub fn end(&mut self, group: u64, id: u64) {
        let running = &mut self.members.get_mut(&group).expect("there is such a group").running;
        running.remove(&id).expect("it runs").runtime.shutdown_timeout(PATIENCE);
    }

    /// Ends all nodes of `group` in order: what they applied is in their stores then.
    pub fn stop_all(&mut self, group: u64) {
        let members = self.members.get_mut(&group).expect("there is such a group");
        for running in std::mem::take(&mut members.running).into_values() {
            running.stop.send(()).expect("it runs");
            self.here.block_on(running.ended).expect("it ends in order");
            running.runtime.shutdown_timeout(PATIENCE);
        }
    }

    pub fn end_all(&mut self, group: u64) {
        (1..=3).for_each(|id| self.end(group, id));
    }

    pub fn start_all(&mut self, group: u64) {
        (1..=3).for_each(|id| self.start(group, id));
    }

    pub fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.here.block_on(future)
    }

    pub fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.here.spawn(future)
    }

    pub fn client(&self, seed: u64) -> Client {
        self.client_with(seed, |_| {}, None)
    }

    pub fn client_with(
        &self,
        seed: u64,
        change: impl FnOnce(&mut ClientOptions),
        recorder: Option<Arc<Recorder>>,
    ) -> Client {
        let _inside = self.here.enter();
        let mut options = ClientOptions::new(self.members[&CTRLERS].nodes.clone());
        options.cluster_id = "test".to_owned();
        change(&mut options);
        Client::sharded(options, surroundings(seed), recorder)
    }

    pub fn join(&self, client: &Client, groups: &[u64]) {
        let group = |group: &u64| pb::Group {
            group: *group,
            addresses: self.members[group].nodes.values().map(SocketAddr::to_string).collect(),
        };
        let groups = groups.iter().map(group).collect();
        self.run(client.change(Change::Join(pb::Groups { groups }))).expect_ok();
    }

    /// A group at an address that is none of this cluster's joins.
    pub fn join_stranger(&self, client: &Client, group: u64, address: SocketAddr) {
        let groups = vec![pb::Group { group, addresses: vec![address.to_string()] }];
        self.run(client.change(Change::Join(pb::Groups { groups }))).expect_ok();
    }

    /// Where a node is.
    pub fn address(&self, group: u64, id: u64) -> SocketAddr {
        self.members[&group].nodes[&NodeId(id)]
    }

    pub fn leave(&self, client: &Client, groups: &[u64]) {
        let leave = pb::GroupIds { groups: groups.to_vec() };
        self.run(client.change(Change::Leave(leave))).expect_ok();
    }

    pub fn pin(&self, client: &Client, shard: u64, group: u64) {
        self.run(client.change(Change::Move(pb::Move { shard, group }))).expect_ok();
    }

    pub fn unpin(&self, client: &Client, shard: u64) {
        self.run(client.change(Change::Unpin(shard))).expect_ok();
    }

    pub fn latest(&self, client: &Client) -> Config {
        self.run(client.query(Which::Latest)).expect_ok().config.expect("there always is a latest config")
    }

    /// What node `id` of `group` says of itself; `None` if it does not answer.
    pub fn status(&self, group: u64, id: u64) -> Option<Status> {
        let address = self.members[&group].nodes[&NodeId(id)];
        let asking = async move {
            let mut admin = AdminClient::connect(format!("http://{address}")).await.ok()?;
            Some(admin.get_status(StatusRequest {}).await.ok()?.into_inner())
        };
        self.run(async { tokio::time::timeout(Duration::from_secs(1), asking).await.ok()? })
    }

    /// What the nodes of `group` say that run.
    pub fn statuses(&self, group: u64) -> Vec<Status> {
        self.members[&group].running.keys().filter_map(|id| self.status(group, *id)).collect()
    }

    /// Waits until every node of `groups` has adopted the latest config and every shard of theirs is where it
    /// belongs, with nothing left anywhere else.
    pub fn settle(&self, client: &Client, groups: &[u64]) {
        let config = self.latest(client);
        for group in groups {
            let owned: Vec<ShardId> = config.shards_of(GroupId(*group)).collect();
            wait_for(&format!("group {group} has what is its, as of config {}", config.num), || {
                let statuses = self.statuses(*group);
                let is_settled = |status: &Status| {
                    let shards: Vec<ShardId> = status.shards.iter().map(|of| ShardId(of.shard)).collect();
                    ConfigNum(status.config) == config.num
                        && shards == owned
                        && status.shards.iter().all(|of| of.state == "Serving")
                };
                (statuses.len() == 3 && statuses.iter().all(is_settled)).then_some(())
            });
        }
    }

    /// Pairs in the state store of a node that has ended, of any shard or of none, whatever the records say.
    pub fn stored_pairs(&self, group: u64, id: u64, prefix: &[u8]) -> usize {
        let members = &self.members[&group];
        assert!(!members.running.contains_key(&id), "a node that runs has its store open");
        let volume = &members.volumes[&id];
        let stores = self.run(volume.list()).expect("a list");
        let states: Vec<&String> = stores.iter().filter(|store| store.starts_with("state")).collect();
        let [name] = states[..] else { panic!("{stores:?}") };
        let store = self.run(volume.open(name)).expect("it opens");
        let limit = PageLimit { pairs_max: usize::MAX, bytes_max: usize::MAX };
        store.page(&KeyRange::prefix(prefix), limit).expect("it can be read").len()
    }
}

fn free_addresses(count: u64) -> BTreeMap<NodeId, SocketAddr> {
    let listeners: Vec<_> =
        (0..count).map(|_| TcpListener::bind(("127.0.0.1", 0)).expect("a free port")).collect();
    let addresses = listeners.iter().map(|listener| listener.local_addr().expect("its address"));
    (1..=count).map(NodeId).zip(addresses).collect()
}

pub fn surroundings(seed: u64) -> Surroundings {
    Surroundings { link: Link, clock: Clock::default(), draws: Draws::new(seed, "sharded"), buggify: Buggify }
}

/// Waits until `ready` gives something.
pub fn wait_for<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub trait ExpectOk<T> {
    fn expect_ok(self) -> T;
}

impl<T: std::fmt::Debug> ExpectOk<T> for Outcome<T> {
    #[track_caller]
    fn expect_ok(self) -> T {
        match self {
            Outcome::Ok(value) => value,
            other => panic!("{other:?}"),
        }
    }
}
