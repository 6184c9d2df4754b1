//! Builds the clients.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use eraft::client::{Client, ClientOptions};
use eraft::random::Draws;
use eraft::replica::Surroundings;
use eraft::replica::timers::Clock;
use madsim::task::JoinHandle;

use super::World;
use crate::places::{self, Place};
use crate::workload::{self, Work};

/// One attempt at one node takes at most this, and at most a third of the operation's deadline.
const ATTEMPT_MS_MAX: u64 = 1_000;

impl World {
    /// Starts all clients; each resolves when it has done its work.
    pub(crate) fn start_clients(self: &Arc<Self>) -> Vec<JoinHandle<()>> {
        (1..=self.plan.configuration.workload.clients).map(|number| self.start_client(number)).collect()
    }

    fn start_client(self: &Arc<Self>, number: u64) -> JoinHandle<()> {
        let workload = &self.plan.configuration.workload;
        let node = self.client_node(number);
        let options = self.client_options(number, workload.deadline_ms);
        let world = self.clone();
        let pipeline = workload.pipeline;
        node.spawn(async move {
            let work = world.work(number, options);
            drop(world);
            workload::run(work, pipeline).await;
        })
    }

    pub(super) fn client_node(&self, number: u64) -> madsim::runtime::NodeHandle {
        let ip = IpAddr::V4(Ipv4Addr::new(10, 0, 1, number as u8));
        self.handle.create_node().name(places::client_name(number)).ip(ip).build()
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
        let node = self.client_node(number);
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
        Surroundings { link: self.net.link(), clock: Clock::default(), draws }
    }

    /// Inside the client's node: its connections are tasks of that node.
    fn work(&self, number: u64, options: ClientOptions) -> Arc<Work> {
        let workload = &self.plan.configuration.workload;
        let acknowledge_ms = self.plan.configuration.phases.acknowledge_ms;
        let patient =
            ClientOptions { deadline_ms: acknowledge_ms, attempt_ms: ATTEMPT_MS_MAX, ..options.clone() };
        let own = |lists: &[Vec<crate::schedule::Operation>]| {
            let list = usize::try_from(number - 1).ok().and_then(|place| lists.get(place));
            Mutex::new(list.cloned().unwrap_or_default().into())
        };
        Arc::new(Work {
            number,
            client: self.client("client", options),
            patient: self.client("patient client", patient),
            safety: own(&self.plan.operations),
            liveness: own(&self.plan.liveness_operations),
            final_keys: (0..workload.keys).filter(|key| key % workload.clients == number - 1).collect(),
            value_bytes: usize::try_from(workload.value_bytes).unwrap_or(usize::MAX),
            acknowledge: Duration::from_millis(acknowledge_ms),
            phases: self.phases.clone(),
            watcher: self.watcher.clone(),
            begun: self.begun.clone(),
            acknowledged: self.acknowledged.clone(),
            writes: AtomicU64::new(0),
            known: Mutex::new(BTreeMap::new()),
            time: self.time.clone(),
            leak: self.leak.clone(),
        })
    }
}
