//! The clients: how they start, how their processes end, and how they go on.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use eraft::buggify::Buggify;
use eraft::client::{Client, ClientOptions};
use eraft::random::Draws;
use eraft::replica::Surroundings;
use eraft::replica::link::Party;
use eraft::replica::timers::Clock;

use super::faults::name;
use super::{World, lock};
use crate::places::{self, Place};
use crate::workload::{self, Progress, Work};

/// One attempt at one node takes at most this, and at most a third of the operation's deadline.
const ATTEMPT_MS_MAX: u64 = 1_000;

/// What the scenario knows of a client.
pub(super) struct ClientState {
    madsim_id: madsim::task::NodeId,
    is_up: bool,
    /// The fault that ended its process and is to start it again.
    owner: Option<String>,
    progress: Arc<Progress>,
}

/// What a client's process starts from, each time.
#[derive(Clone)]
struct Start {
    number: u64,
    /// Weak: the closures of clients live in the runtime, whose handle the world holds.
    world: Weak<World>,
    starts: Arc<AtomicU64>,
    progress: Arc<Progress>,
}

impl Start {
    async fn run(self) {
        let Some(world) = self.world.upgrade() else { return };
        let start = self.starts.fetch_add(1, Ordering::Relaxed) + 1;
        let pipeline = world.plan.configuration.workload.pipeline;
        let work = world.work(self.number, start, self.progress);
        drop(world);
        workload::run(work, pipeline).await;
    }
}

impl World {
    /// Starts all clients.
    pub(crate) fn start_clients(self: &Arc<Self>) {
        for number in 1..=self.plan.configuration.workload.clients {
            let progress = Arc::new(self.progress(number));
            let world = Arc::downgrade(self);
            let start = Start { number, world, starts: Arc::default(), progress: progress.clone() };
            let node = self.client_node(number).init(move || start.clone().run()).build();
            lock(&self.machines).push(node.id());
            let state = ClientState { madsim_id: node.id(), is_up: true, owner: None, progress };
            lock(&self.clients).insert(number, state);
        }
    }

    /// Resolves when all clients have done their work.
    pub(crate) async fn clients_are_done(&self) {
        let progresses: Vec<Arc<Progress>> =
            lock(&self.clients).values().map(|client| client.progress.clone()).collect();
        for progress in progresses {
            progress.is_over().await;
        }
    }

    /// Ends a client's process; false if there was none. `owner` is to start it again.
    pub(super) fn stop_client(&self, party: Party, owner: &str) -> bool {
        let Party::Client(number) = party else { return false };
        let madsim_id = {
            let mut clients = lock(&self.clients);
            let Some(client) = clients.get_mut(&number).filter(|client| client.is_up) else { return false };
            (client.is_up, client.owner) = (false, Some(owner.to_owned()));
            client.madsim_id
        };
        self.watcher.note(&name(party), "node.end", "process");
        self.net.process_death(party);
        self.handle.kill(madsim_id);
        self.outstanding.forget(number);
        true
    }

    /// Starts the clients whose processes `owner` ended.
    pub(super) fn start_clients_of(&self, owner: &str) {
        self.revive_clients(|client| client.owner.as_deref() == Some(owner));
    }

    /// Starts all clients whose processes have ended.
    pub(super) fn start_all_clients(&self) {
        self.revive_clients(|_| true);
    }

    fn revive_clients(&self, chosen: impl Fn(&ClientState) -> bool) {
        let mut down = Vec::new();
        for (number, client) in lock(&self.clients).iter_mut() {
            if !client.is_up && chosen(client) {
                (client.is_up, client.owner) = (true, None);
                down.push((Party::Client(*number), client.madsim_id));
            }
        }
        for (party, madsim_id) in down {
            self.watcher.note(&name(party), "node.start", "");
            self.net.revive(party);
            self.handle.restart(madsim_id);
        }
    }

    fn client_node(&self, number: u64) -> madsim::runtime::NodeBuilder<'_> {
        let ip = IpAddr::V4(Ipv4Addr::new(10, 0, 1, number as u8));
        self.handle.create_node().name(places::client_name(number)).ip(ip)
    }

    /// The machine of a client that is not started by itself.
    pub(super) fn client_machine(&self, number: u64) -> madsim::runtime::NodeHandle {
        let node = self.client_node(number).build();
        lock(&self.machines).push(node.id());
        node
    }

    fn client_options(&self, number: u64, deadline_ms: u64) -> ClientOptions {
        // A client of a sharded store finds the groups through the controllers.
        let place = if self.plan.configuration.cluster.groups > 0 { Place::Ctrlers } else { Place::Alone };
        self.options_towards(place, number, deadline_ms)
    }

    /// The options of a client of one group.
    pub(super) fn options_towards(&self, place: Place, number: u64, deadline_ms: u64) -> ClientOptions {
        let nodes = self.nodes_of(place).into_iter().map(|id| (id, places::address(id))).collect();
        ClientOptions {
            cluster_id: "simulated".to_owned(),
            number,
            deadline_ms,
            mutants: self.mutants,
            attempt_ms: (deadline_ms / 3).clamp(1, ATTEMPT_MS_MAX),
            ..ClientOptions::new(nodes)
        }
    }

    /// A client beside those of the workload, and the machine that it runs on.
    pub(crate) async fn script_client(
        self: &Arc<Self>,
        number: u64,
        deadline_ms: u64,
    ) -> (madsim::runtime::NodeHandle, Arc<Client>) {
        let node = self.client_machine(number);
        let (world, options) = (self.clone(), self.client_options(number, deadline_ms));
        let making = node.spawn(async move { Arc::new(world.client("script client", options)) });
        (node, making.await.expect("nothing ends the machine of a client"))
    }

    fn client(&self, domain: &str, options: ClientOptions) -> Client {
        let surroundings = self.client_surroundings(domain, options.number);
        match self.plan.configuration.cluster.groups {
            0 => Client::new(options, surroundings, Some(self.history.clone())),
            _ => Client::sharded(options, surroundings, Some(self.history.clone())),
        }
    }

    pub(super) fn client_surroundings(&self, domain: &str, number: u64) -> Surroundings {
        let draws = Draws::new(self.seed, &format!("{domain} {number}"));
        let buggify = Buggify::new(self.points.clone(), Party::Client(number));
        Surroundings { link: self.net.link(), clock: Clock::default(), draws, buggify }
    }

    fn progress(&self, number: u64) -> Progress {
        let own = |lists: &[Vec<crate::schedule::Operation>]| {
            let list = usize::try_from(number - 1).ok().and_then(|place| lists.get(place));
            list.cloned().unwrap_or_default()
        };
        Progress::new(own(&self.plan.operations), own(&self.plan.liveness_operations))
    }

    /// Inside the client's node: its connections are tasks of that node. Every start has sessions of its own.
    fn work(&self, number: u64, start: u64, progress: Arc<Progress>) -> Arc<Work> {
        let workload = &self.plan.configuration.workload;
        let options = self.client_options(number, workload.deadline_ms);
        let acknowledge_ms = self.plan.configuration.phases.acknowledge_ms;
        let patient =
            ClientOptions { deadline_ms: acknowledge_ms, attempt_ms: ATTEMPT_MS_MAX, ..options.clone() };
        let domain = |name: &str| if start == 1 { name.to_owned() } else { format!("{name} start {start}") };
        Arc::new(Work {
            number,
            client: self.client(&domain("client"), options),
            patient: self.client(&domain("patient client"), patient),
            progress,
            final_keys: (0..workload.keys).filter(|key| key % workload.clients == number - 1).collect(),
            value_bytes: usize::try_from(workload.value_bytes).unwrap_or(usize::MAX),
            acknowledge: Duration::from_millis(acknowledge_ms),
            phases: self.phases.clone(),
            net: self.net.clone(),
            watcher: self.watcher.clone(),
            begun: self.begun.clone(),
            acknowledged: self.acknowledged.clone(),
            outstanding: self.outstanding.clone(),
            deadline: Duration::from_millis(workload.deadline_ms),
            time: self.time.clone(),
            leak: self.leak.clone(),
        })
    }
}
