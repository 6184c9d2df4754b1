//! The nodes: how they start, how they end, and what happens if one ends by itself.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use eraft::buggify::Buggify;
use eraft::ctrler::{CtrlerLimits, CtrlerMachine};
use eraft::kv::{KvLimits, KvMachine};
use eraft::machine::StateMachine;
use eraft::node::{NodeOptions, serve};
use eraft::proto::admin::Status;
use eraft::raft;
use eraft::random::Draws;
use eraft::replica::link::Party;
use eraft::replica::timers::Clock;
use eraft::replica::{Handle, Identity, Options, Service, Surroundings, TransferError};
use eraft::session::SessionLimits;
use eraft::shardkv::{self, GroupOptions, MigrationOptions, ShardMachine};
use eraft::types::NodeId;
use tokio::sync::{mpsc, oneshot};

use super::{World, lock};
use crate::disk::{DiskCounters, DiskSim};
use crate::outcome::Violation;
use crate::places::{self, Place};
use crate::scenario::Action;

/// A group asks for configs linearizably this often, has an answer from another group within this, and pauses so long
/// after a failure: shorter than in a real cluster, as the other times of a run are.
const CONFIG_POLL_MS: u64 = 1_000;
const CALL_TIMEOUT_MS: u64 = 1_000;
const BACKOFF_MS: (u64, u64) = (20, 500);
/// It looks for something to do this often, or as soon as the first if there may be something.
const LOOK_MS: (u64, u64) = (20, 300);
/// A node that ended by itself is started again after this, as a service manager would.
const RESTART_AFTER: Duration = Duration::from_millis(300);

/// What the scenario knows of a node.
pub(super) struct NodeState {
    madsim_id: madsim::task::NodeId,
    /// Counts the starts.
    incarnation: Arc<AtomicU64>,
    is_up: bool,
    /// The fault that ended it and is to start it again.
    pub(super) owner: Option<String>,
    /// It stays as it is.
    is_retired: bool,
    /// What its disk had met when it was started.
    met_at_start: DiskCounters,
    /// The way past the network to its replica, for a script and for operators.
    reach: Reach,
    /// Its clock, which outlives its process.
    pub(super) clock: Clock,
}

/// How the scenario reaches a node's replica.
enum Reach {
    Not,
    /// Says so once the replica is there.
    Opening(Box<dyn FnMut() -> Option<Reached> + Send>),
    Open(Reached),
}

/// A replica, by what it runs.
#[derive(Clone)]
enum Reached {
    Kv(Handle<KvMachine>),
    Ctrler(Handle<CtrlerMachine>),
    Shard(Handle<ShardMachine>),
}

/// A node that ended by itself.
pub(crate) struct Exit {
    node: NodeId,
    incarnation: u64,
    why: String,
}

/// How a node ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The process is killed.
    Process,
    /// The machine loses power.
    Power,
    /// The machine loses power in the middle of a write, if it is writing.
    Torn,
}

impl World {
    /// Builds and starts all nodes.
    pub(crate) fn start_nodes(self: &Arc<Self>) {
        for (place, nodes) in self.places() {
            let addresses: BTreeMap<NodeId, SocketAddr> =
                nodes.into_iter().map(|id| (id, places::address(id))).collect();
            for (id, address) in &addresses {
                self.start_first(place, *id, *address, &addresses);
            }
        }
    }

    fn start_first(
        self: &Arc<Self>,
        place: Place,
        id: NodeId,
        address: SocketAddr,
        group: &BTreeMap<NodeId, SocketAddr>,
    ) {
        let incarnation = Arc::new(AtomicU64::new(0));
        let clock = Clock::default();
        let start = Start {
            seed: self.seed,
            options: self.node_options(place, id, group),
            world: Arc::downgrade(self),
            exits: self.exits.clone(),
            incarnation: incarnation.clone(),
            clock: clock.clone(),
        };
        let builder = self.handle.create_node().name(places::name(id)).ip(address.ip());
        let node = builder.init(move || start.clone().run()).build();
        lock(&self.machines).push(node.id());
        let state = NodeState {
            madsim_id: node.id(),
            incarnation,
            is_up: true,
            owner: None,
            is_retired: false,
            met_at_start: DiskCounters::default(),
            reach: Reach::Not,
            clock,
        };
        lock(&self.nodes).insert(id, state);
    }

    fn node_options(&self, place: Place, id: NodeId, nodes: &BTreeMap<NodeId, SocketAddr>) -> NodeOptions {
        let cluster = &self.plan.configuration.cluster;
        let bytes = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
        let cluster_id = "simulated".to_owned();
        let service = match place {
            Place::Alone => Service::Kv,
            Place::Ctrlers => Service::Ctrler,
            Place::Group(group) => Service::Shard(group),
        };
        let identity = Identity { cluster_id, service, id, nodes: nodes.clone() };
        let core = raft::Config::new(id);
        NodeOptions {
            raft: raft::Config {
                append_entries_max: bytes(cluster.append_entries_max),
                append_bytes_max: bytes(cluster.append_bytes_max),
                window: raft::Window { appends_max: bytes(cluster.appends_in_flight_max), ..core.window },
                uncommitted_bytes_max: bytes(cluster.uncommitted_bytes_max),
                mutants: self.mutants,
                ..core
            },
            replica: Options {
                heartbeat_ms: cluster.heartbeat_ms,
                election_timeout_ms: (cluster.election_timeout_ms, 2 * cluster.election_timeout_ms),
                apply_flush_ms: cluster.apply_flush_ms,
                apply_overlay_bytes_max: bytes(cluster.apply_overlay_bytes_max),
                log_bytes_max: bytes(cluster.log_bytes_max),
                peer_silence_ms: cluster.peer_silence_ms,
                snapshot_chunk_bytes_max: bytes(cluster.snapshot_chunk_bytes),
                ..Options::default()
            },
            identity,
        }
    }

    fn session_limits(&self) -> SessionLimits {
        let sessions_max = self.plan.configuration.cluster.sessions_max;
        SessionLimits { sessions_max, ..SessionLimits::default() }
    }

    fn kv_machine(&self, id: NodeId) -> KvMachine {
        let limits = KvLimits { sessions: self.session_limits(), ..KvLimits::default() };
        KvMachine::new(limits, self.mutants.in_process(id.0))
            .expect("the scenario's bounds are the machine's")
    }

    fn group_options(&self, node: NodeOptions) -> GroupOptions {
        let ctrlers = self.nodes_of(Place::Ctrlers).into_iter().map(|id| (id, places::address(id))).collect();
        let limits = KvLimits { sessions: self.session_limits(), ..KvLimits::default() };
        let migration = MigrationOptions {
            config_poll_ms: CONFIG_POLL_MS,
            call_timeout_ms: CALL_TIMEOUT_MS,
            backoff_ms: BACKOFF_MS,
            look_ms: LOOK_MS,
            ..MigrationOptions::default()
        };
        GroupOptions { node, limits, ctrlers, migration }
    }

    /// `process` tells one start of one node from all others.
    fn ctrler_machine(&self, process: u64) -> CtrlerMachine {
        let limits = CtrlerLimits { sessions: self.session_limits(), ..CtrlerLimits::default() };
        CtrlerMachine::new(limits, self.mutants.in_process(process))
    }

    /// Does this node's process run?
    pub(crate) fn is_up(&self, id: NodeId) -> bool {
        lock(&self.nodes).get(&id).is_some_and(|node| node.is_up)
    }

    fn reached(&self, id: NodeId) -> Option<Reached> {
        let mut nodes = lock(&self.nodes);
        let reach = &mut nodes.get_mut(&id)?.reach;
        if let Reach::Opening(is_open) = reach
            && let Some(reached) = is_open()
        {
            *reach = Reach::Open(reached);
        }
        match reach {
            Reach::Open(reached) => Some(reached.clone()),
            Reach::Not | Reach::Opening(_) => None,
        }
    }

    /// The replica of a node that runs and has opened its disk, in a run with a script.
    pub(crate) fn replica(&self, id: NodeId) -> Option<Handle<KvMachine>> {
        match self.reached(id)? {
            Reached::Kv(handle) => Some(handle),
            Reached::Ctrler(_) | Reached::Shard(_) => None,
        }
    }

    /// `to` is to lead, an operator says to the node `leader`; the answer is what came of it, if that node runs.
    pub(crate) async fn transfer(&self, leader: NodeId, to: NodeId) -> Option<Result<NodeId, TransferError>> {
        Some(match self.reached(leader)? {
            Reached::Kv(handle) => handle.transfer(to).await,
            Reached::Ctrler(handle) => handle.transfer(to).await,
            Reached::Shard(handle) => handle.transfer(to).await,
        })
    }

    /// What the replica of a node says of itself, if it runs; in a run with a script.
    pub(crate) async fn status(&self, id: NodeId) -> Option<Status> {
        match self.reached(id)? {
            Reached::Kv(handle) => handle.status().await,
            Reached::Ctrler(handle) => handle.status().await,
            Reached::Shard(handle) => handle.status().await,
        }
    }

    /// Where a node that starts leaves its replica's handle.
    fn expect_replica<M: StateMachine>(
        &self,
        id: NodeId,
        reached: fn(Handle<M>) -> Reached,
    ) -> Option<oneshot::Sender<Handle<M>>> {
        let operates = self.plan.faults.iter().any(|fault| fault.action == Action::OpsTransfer);
        if self.plan.steps.is_empty() && !operates {
            return None;
        }
        let (ready, mut is_ready) = oneshot::channel();
        let is_open = move || is_ready.try_recv().ok().map(reached);
        lock(&self.nodes).get_mut(&id)?.reach = Reach::Opening(Box::new(is_open));
        Some(ready)
    }

    /// Ends a node; false if there was nothing to end. `owner` is to start it again.
    pub(crate) fn stop(&self, id: NodeId, end: End, owner: Option<&str>) -> bool {
        let madsim_id = {
            let mut nodes = lock(&self.nodes);
            let Some(node) = nodes.get_mut(&id).filter(|node| node.is_up) else { return false };
            node.is_up = false;
            node.reach = Reach::Not;
            node.owner = owner.map(str::to_owned);
            node.madsim_id
        };
        self.watcher.note(
            &places::name(id),
            "node.end",
            if end == End::Process { "process" } else { "power" },
        );
        // Network and disk are told first: what madsim makes of a kill would be noticed at once.
        match end {
            End::Process => {
                self.net.process_death(Party::Node(id));
                self.disk.process_death(id);
            }
            End::Power => {
                self.net.power_loss(Party::Node(id));
                self.disk.power_loss(id);
            }
            End::Torn => {
                self.net.power_loss(Party::Node(id));
                self.disk.torn_write(id);
            }
        }
        self.handle.kill(madsim_id);
        self.watcher.down(id);
        true
    }

    /// Starts a node that is down; false if there was nothing to start.
    pub(crate) fn start(&self, id: NodeId) -> bool {
        let madsim_id = {
            let mut nodes = lock(&self.nodes);
            let Some(node) = nodes.get_mut(&id).filter(|node| !node.is_up && !node.is_retired) else {
                return false;
            };
            node.is_up = true;
            node.owner = None;
            node.met_at_start = self.disk.counters(id);
            node.madsim_id
        };
        self.watcher.note(&places::name(id), "node.start", "");
        self.net.revive(Party::Node(id));
        self.handle.restart(madsim_id);
        true
    }

    /// Starts the nodes that `owner` ended, unless someone else has meanwhile.
    pub(crate) fn start_owned(&self, owner: &str) {
        let owned: Vec<NodeId> = lock(&self.nodes)
            .iter()
            .filter(|(_, node)| node.owner.as_deref() == Some(owner))
            .map(|(id, _)| *id)
            .collect();
        for id in owned {
            self.start(id);
        }
        self.start_clients_of(owner);
    }

    /// The node stays as it is for the rest of the run.
    pub(crate) fn retire(&self, id: NodeId) {
        if let Some(node) = lock(&self.nodes).get_mut(&id) {
            node.is_retired = true;
        }
    }

    /// Starts nodes again that ended by themselves; runs until the world ends.
    pub(crate) async fn supervise(self: Arc<Self>, mut exited: mpsc::UnboundedReceiver<Exit>) {
        while let Some(exit) = exited.recv().await {
            self.exited(&exit);
            let (world, node) = (self.clone(), exit.node);
            self.spawn(async move {
                madsim::time::sleep(RESTART_AFTER).await;
                if lock(&world.nodes).get(&node).is_some_and(|node| node.owner.is_none()) {
                    world.start(node);
                }
            });
        }
    }

    fn exited(&self, exit: &Exit) {
        let met = {
            let nodes = lock(&self.nodes);
            let node = &nodes[&exit.node];
            if !node.is_up || node.incarnation.load(Ordering::Relaxed) != exit.incarnation {
                return;
            }
            node.met_at_start
        };
        self.watcher.note(&places::name(exit.node), "node.exit", &exit.why);
        let now = self.disk.counters(exit.node);
        let failures = |counters: &DiskCounters| {
            counters.write_errors + counters.read_errors + counters.full + counters.rotten
        };
        if failures(&now) == failures(&met) && self.watcher.checks("sim.exit") {
            let message =
                format!("{} stopped although its disk had not failed: {}", places::name(exit.node), exit.why);
            self.watcher.violate(Violation::new("sim.exit", message));
        }
        self.stop(exit.node, End::Process, None);
        if self.has_bad_log(exit.node) {
            self.retire(exit.node);
        }
    }

    /// A replica whose log is bad is gone for good.
    pub(crate) fn has_bad_log(&self, id: NodeId) -> bool {
        self.disk.is_rotten(id, "log")
    }
}

/// What a node starts from, each time.
#[derive(Clone)]
struct Start {
    seed: u64,
    options: NodeOptions,
    /// Weak: the nodes' closures live in the runtime, whose handle the world holds.
    world: std::sync::Weak<World>,
    exits: mpsc::UnboundedSender<Exit>,
    incarnation: Arc<AtomicU64>,
    clock: Clock,
}

impl Start {
    async fn run(self) {
        let Some(world) = self.world.upgrade() else { return };
        let id = self.options.identity.id;
        let incarnation = self.incarnation.fetch_add(1, Ordering::Relaxed) + 1;
        let volume = Arc::new(DiskSim::current().volume(id));
        let surroundings = Surroundings {
            link: world.net.link(),
            clock: self.clock,
            buggify: Buggify::new(world.points.clone(), Party::Node(id)),
            // Every start draws anew, as a real process would.
            draws: Draws::new(self.seed, &format!("{id} start {incarnation}")),
        };
        let watcher = world.watcher.clone();
        let never = std::future::pending();
        let result = match Place::of(id) {
            Place::Alone => {
                let (machine, ready) = (world.kv_machine(id), world.expect_replica(id, Reached::Kv));
                drop(world);
                serve(machine, self.options, volume, surroundings, watcher, ready, never).await
            }
            Place::Ctrlers => {
                let machine = world.ctrler_machine(id.0 + (incarnation << 32));
                let ready = world.expect_replica(id, Reached::Ctrler);
                drop(world);
                serve(machine, self.options, volume, surroundings, watcher, ready, never).await
            }
            Place::Group(_) => {
                let options = world.group_options(self.options);
                let ready = world.expect_replica(id, Reached::Shard);
                drop(world);
                shardkv::serve(options, volume, surroundings, watcher, ready, never).await
            }
        };
        let why = result.err().map_or_else(|| "it returned".to_owned(), |error| error.to_string());
        let _ = self.exits.send(Exit { node: id, incarnation, why });
    }
}
