//! The world of a run: nodes, clients, network and disks inside one madsim runtime, and what the scenario does to them.
//!
//! Where nodes are and what they are called is in [`crate::places`]; clients are `c1`… at 10.0.1.1…. The phases run
//! on madsim's main node; what the scenario does beside them is a task of a node of its own, and ends with it.

mod clients;
mod faults;
mod nodes;
mod operators;
mod ops;
mod settle;
mod targets;
mod wakeups;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use eraft::history;
use eraft::mutants::{MutantId, Mutants};
use eraft::random::Draws;
use eraft::replica::link::{Channel, Party, Route};
use eraft::types::NodeId;
use madsim::runtime::{Handle, NodeHandle, Runtime};
use madsim::time::TimeHandle;
use tokio::sync::mpsc;

use crate::artifact::RunRequest;
use crate::buggify::Points;
use crate::disk::{DiskConfig, DiskSim};
use crate::explain::{Stage, label};
use crate::judge;
use crate::net::{self, LinkConfig, NetConfig, NoticeConfig, SimNet, madsim_config};
use crate::observer::Watcher;
use crate::outcome::{Hit, Outcome, Violation};
use crate::phases::{self, Ended};
use crate::places::{self, Place};
use crate::runner::{self, Internal, Leak, RunOptions};
use crate::scenario::{Disk, FaultKind, Network};
use crate::schedule::Plan;
use crate::timing::Spread;
use crate::trace::{Recorder, Sink};
use crate::workload::Phases;

use clients::ClientState;
use faults::Active;
use nodes::NodeState;
pub(crate) use nodes::{End, Exit};
pub(crate) use operators::{Answer, Operator};
pub use wakeups::Outstanding;
pub(crate) use wakeups::Pulse;

/// How often ended tasks are looked after.
const END_ROUNDS: usize = 3;

/// Everything that the scenario's tasks share.
pub struct World {
    pub(crate) seed: u64,
    pub(crate) plan: Plan,
    pub(crate) mutants: Mutants,
    pub(crate) net: SimNet,
    pub(crate) disk: Arc<DiskSim>,
    pub(crate) points: Arc<Points>,
    pub(crate) watcher: Arc<Watcher>,
    pub(crate) history: Arc<history::Recorder>,
    pub(crate) phases: Arc<Phases>,
    pub(crate) begun: Arc<AtomicU64>,
    /// Operations of the workload's clients that were acknowledged.
    pub(crate) acknowledged: Arc<AtomicU64>,
    /// What clients wait for.
    pub(crate) outstanding: Arc<Outstanding>,
    /// What the oracles of the scenario looked at.
    judged: Mutex<BTreeMap<&'static str, u64>>,
    pub(crate) time: TimeHandle,
    pub(crate) leak: Option<Leak>,
    /// What the scenario draws on the way: roles, halves.
    pub(crate) draws: Draws,
    handle: Handle,
    /// The machine of the scenario's own tasks.
    crew: NodeHandle,
    /// Every machine, to end it.
    machines: Mutex<Vec<madsim::task::NodeId>>,
    nodes: Mutex<BTreeMap<NodeId, NodeState>>,
    clients: Mutex<BTreeMap<u64, ClientState>>,
    active: Mutex<BTreeMap<String, Active>>,
    /// Nodes on whose disks something has rotted.
    pub(crate) rotten: Mutex<BTreeSet<NodeId>>,
    delivered: Mutex<BTreeMap<FaultKind, u64>>,
    hits: Mutex<Vec<Hit>>,
    exits: mpsc::UnboundedSender<Exit>,
    /// Who changes the placement as the schedule says.
    steward: Mutex<Option<ops::Steward>>,
}

/// What outlives the runtime.
pub(crate) struct Remains {
    pub(crate) watcher: Arc<Watcher>,
    pub(crate) history: Arc<history::Recorder>,
    pub(crate) operations: u64,
    pub(crate) delivered: BTreeMap<FaultKind, u64>,
    pub(crate) buggify: BTreeMap<String, u64>,
    pub(crate) elapsed: Duration,
    pub(crate) ended: Option<Ended>,
    pub(crate) hits: Vec<Hit>,
    pub(crate) judged: BTreeMap<&'static str, u64>,
}

/// Runs a plan: in a runtime of its own, on this thread.
pub fn run(request: &RunRequest, options: &RunOptions) -> Result<Outcome, Internal> {
    let started = Instant::now();
    let sink = options.trace.as_ref().map(|path| open_trace(path)).transpose()?;
    let mutants = match &request.mutant {
        None => Mutants::default(),
        Some(id) => Mutants::with(id.parse::<MutantId>().map_err(|error| Internal(error.to_string()))?),
    };
    // What the run leaves is handed out before it runs: a panic unwinds through everything else.
    let slot: Arc<Mutex<Option<Arc<World>>>> = Arc::default();
    let inner = slot.clone();
    let runtime = Runtime::with_seed_and_config(request.seed, madsim_config());
    DiskSim::install(&runtime);
    let ran = runner::catch(|| {
        runtime.block_on(async move {
            let (exits, exited) = mpsc::unbounded_channel();
            let world = World::new(request, mutants, options, Recorder::new(sink), exits);
            *inner.lock().unwrap_or_else(PoisonError::into_inner) = Some(world.clone());
            phases::drive(world, exited, options.until_ms).await
        })
    });
    let world = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(world) = world else {
        let why = ran.err().map_or_else(|| "the world was not made".to_owned(), |panic| panic.message);
        return Err(Internal(why));
    };
    let ended = match ran {
        Ok(ended) => Some(ended),
        Err(panic) if panic.is_own() => {
            return Err(Internal(format!("{} at {}", panic.message, panic.location)));
        }
        Err(panic) => {
            let (oracle, what) = match panic.message.contains("all tasks will block forever") {
                true => ("sim.no_lost_wakeup", "every task waits for ever".to_owned()),
                false => ("sim.panic", format!("a node panicked at {}: {}", panic.location, panic.message)),
            };
            if world.watcher.checks(oracle) {
                world.watcher.violate(Violation::new(oracle, what));
            }
            None
        }
    };
    let remains = world.remains(ended);
    let _ = runner::catch(|| runtime.block_on(world.close()));
    drop(world);
    // Destructors of what the nodes hold run here; they may complain, but the run is over.
    let _ = runner::catch(move || drop(runtime));
    judge::judge(request, options, remains, started)
}

fn open_trace(path: &std::path::Path) -> Result<Sink, Internal> {
    let file = std::fs::File::create(path);
    file.map(|file| Box::new(file) as Sink).map_err(|error| Internal(format!("{}: {error}", path.display())))
}

impl World {
    fn new(
        request: &RunRequest,
        mutants: Mutants,
        options: &RunOptions,
        recorder: Recorder,
        exits: mpsc::UnboundedSender<Exit>,
    ) -> Arc<Self> {
        let configuration = &request.plan.configuration;
        let disk = DiskSim::current();
        let ignores_checksums = mutants.is(MutantId::DiskChecksumIgnored);
        disk.configure(request.seed, DiskConfig { ignores_checksums, ..disk_config(&configuration.disk) });
        let notice = NoticeConfig {
            silence: Spread::millis(500, 2_000, 8_000),
            connect_timeout: Spread::millis(300, 800, 2_000),
            ..NoticeConfig::default()
        };
        let watcher =
            Watcher::new(recorder, &configuration.cluster, &configuration.checks, options.stage.clone());
        if !request.plan.steps.is_empty() {
            watcher.keep_ledger();
        }
        let net = NetConfig { link: link_config(&configuration.network), notice };
        let net = SimNet::new(request.seed, net);
        net.set_sink(options.stage.clone().map(explained));
        Arc::new(Self {
            seed: request.seed,
            mutants,
            net,
            disk,
            points: Arc::new(Points::new(request.seed, &configuration.buggify)),
            watcher,
            history: Arc::new(history::Recorder::in_memory()),
            phases: Arc::default(),
            begun: Arc::default(),
            acknowledged: Arc::default(),
            outstanding: Arc::default(),
            judged: Mutex::default(),
            time: TimeHandle::current(),
            leak: options.leak.clone(),
            draws: Draws::new(request.seed, "world"),
            handle: Handle::current(),
            crew: Handle::current().create_node().name("world").build(),
            machines: Mutex::default(),
            nodes: Mutex::default(),
            clients: Mutex::default(),
            active: Mutex::default(),
            rotten: Mutex::default(),
            delivered: Mutex::default(),
            hits: Mutex::default(),
            exits,
            steward: Mutex::default(),
            plan: request.plan.clone(),
        })
    }

    fn remains(&self, ended: Option<Ended>) -> Remains {
        Remains {
            watcher: self.watcher.clone(),
            history: self.history.clone(),
            operations: self.begun.load(std::sync::atomic::Ordering::Relaxed),
            delivered: lock(&self.delivered).clone(),
            buggify: self.points.forced(),
            elapsed: self.time.elapsed(),
            ended,
            hits: lock(&self.hits).clone(),
            judged: {
                let mut judged = lock(&self.judged).clone();
                judged.insert("sim.no_lost_wakeup", self.outstanding.ended());
                judged
            },
        }
    }

    /// `oracle` looked at so many things.
    pub(crate) fn judged(&self, oracle: &'static str, count: u64) {
        *lock(&self.judged).entry(oracle).or_default() += count;
    }

    /// The groups, each with its nodes.
    pub(crate) fn places(&self) -> Vec<(Place, Vec<NodeId>)> {
        places::of(&self.plan.configuration.cluster)
    }

    /// The nodes of a group.
    pub(crate) fn nodes_of(&self, place: Place) -> Vec<NodeId> {
        let of_place = self.places().into_iter().filter(|(known, _)| *known == place);
        of_place.flat_map(|(_, nodes)| nodes).collect()
    }

    /// A task of the scenario.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> madsim::task::JoinHandle<T> {
        self.crew.spawn(task)
    }

    /// Ends every task. One that waits for what it holds itself, as a server does for its clients, would outlive the
    /// runtime for ever, and with it everything that it holds. What happens here is no part of the run.
    async fn close(&self) {
        self.watcher.close();
        let machines = std::mem::take(&mut *lock(&self.machines));
        for id in machines.into_iter().chain([self.crew.id()]) {
            self.handle.kill(id);
        }
        // They are dropped when they would run next, and wake others by that.
        for _ in 0..END_ROUNDS {
            madsim::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Every node's id.
    pub(crate) fn node_ids(&self) -> Vec<NodeId> {
        self.places().into_iter().flat_map(|(_, nodes)| nodes).collect()
    }

    /// Every node as a party.
    pub(crate) fn node_parties(&self) -> Vec<Party> {
        self.node_ids().into_iter().map(Party::Node).collect()
    }

    /// Every client as a party, and every operator.
    pub(crate) fn client_parties(&self) -> Vec<Party> {
        let configuration = &self.plan.configuration;
        let operators = (1..=configuration.operators.operators).map(|number| places::OPERATORS + number);
        (1..=configuration.workload.clients).chain(operators).map(Party::Client).collect()
    }

    /// How all links behave without faults.
    pub(crate) fn quiet_link(&self) -> LinkConfig {
        link_config(&self.plan.configuration.network)
    }

    /// Keeps madsim's list of tasks from growing: it is pruned when it is counted.
    pub(crate) fn prune_tasks(&self) {
        self.handle.metrics().num_tasks();
    }
}

/// Shows every message's fate on `stage`.
fn explained(stage: Stage) -> net::Sink {
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    Box::new(move |message, frame| {
        let Route { from, to, channel } = message.route;
        let is_reply = matches!(from, Party::Node(_)) && channel == Channel::Client;
        let node = if let Party::Node(_) = from { from } else { to };
        let place = if let Party::Node(id) = node { Place::of(id) } else { Place::Alone };
        let (kind, text) = label::frame(place, channel, is_reply, frame);
        let times = (micros(message.sent_at), micros(message.at));
        stage.lock().message(
            times,
            &faults::name(from),
            &faults::name(to),
            kind,
            message.outcome.word(),
            &text,
        );
    })
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn link_config(network: &Network) -> LinkConfig {
    let (low, jitter) = (network.latency_ms, network.jitter_ms);
    LinkConfig {
        latency: Spread::millis(low, low + jitter / 2, low + 10 * jitter),
        loss: network.loss,
        duplicate: network.duplicate,
        reorder: network.reorder,
        extra: Spread::millis(1, 5 + jitter, 50 + 10 * jitter),
        buffer_bytes: usize::try_from(network.buffer_bytes).unwrap_or(usize::MAX),
        ..LinkConfig::default()
    }
}

fn disk_config(disk: &Disk) -> DiskConfig {
    let micros = |ms: u64| ms * 1_000;
    let (low, jitter) = (micros(disk.latency_ms).max(50), micros(disk.jitter_ms));
    DiskConfig { write: Spread::micros(low, low + jitter / 2, low + 10 * jitter), ..DiskConfig::default() }
}
