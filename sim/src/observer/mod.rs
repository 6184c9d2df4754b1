//! The simulator's eye on all nodes: feeds the trace and the invariants, and tells the scenario what happens where.
//!
//! Once an invariant does not hold, nothing more is recorded: the violation is the last event of the run.

mod canonical;
mod kv;
mod ledger;
mod stage;
mod triggers;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use eraft::ctrler::Config;
use eraft::observe::{Event, Observer};
use eraft::proto::kv::Mutation;
use eraft::raft::Raft;
use eraft::types::{ConfigNum, GroupId, Index, NodeId, Term};
use madsim::time::TimeHandle;
use tokio::sync::{Notify, oneshot};

use crate::coverage::{Coverage, Map, Placement};
use crate::explain::Stage;
use crate::invariants::configs::{Asked, Configs, Open, Told};
use crate::invariants::shards::{Known, Shards};
use crate::invariants::{self, Suite};
use crate::outcome::Violation;
use crate::places::{self, Place};
use crate::scenario::{Cluster, Trigger};
use crate::trace::{Record, Recorder};
use kv::{ExactlyOnce, Replicas};
pub use ledger::Fate;
use ledger::Ledger;

/// What is known of a node that runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Face {
    /// Its process runs and has opened its disk.
    pub is_up: bool,
    /// Its term.
    pub term: Term,
    /// It leads.
    pub is_leader: bool,
    /// Whom it follows.
    pub leader: Option<NodeId>,
    /// The last entry it has applied.
    pub applied: Index,
    /// The last entry of its log.
    pub last: Index,
    /// Its log begins after this entry.
    pub base: Index,
    /// Bytes of the entries of its log.
    pub log_bytes: usize,
}

/// Sees everything.
pub struct Watcher {
    time: TimeHandle,
    state: Mutex<State>,
    /// Told when an invariant does not hold.
    violated: Notify,
}

/// What is known of one Raft group.
struct Group {
    suite: Suite,
    replicas: Replicas,
    exactly_once: ExactlyOnce,
    /// States are relative to the group: each has a map of its own.
    map: Map,
}

struct State {
    recorder: Recorder,
    groups: BTreeMap<Place, Group>,
    configs: Configs,
    shards: Shards,
    checks: BTreeSet<String>,
    violation: Option<Violation>,
    faces: BTreeMap<NodeId, Face>,
    names: BTreeMap<NodeId, String>,
    waiting: BTreeMap<Trigger, Vec<oneshot::Sender<NodeId>>>,
    payload: Vec<u8>,
    /// Steps of nodes that ended without a panic, and processes that came to run.
    events: u64,
    opened: u64,
    /// Filled if the run is to be explained.
    stage: Option<Stage>,
    /// In a run with a script.
    ledger: Option<Ledger>,
    /// The run is over: what comes now is no part of it.
    is_closed: bool,
}

/// What a watcher has seen, once the run is over.
pub struct Seen {
    /// The first violation.
    pub violation: Option<Violation>,
    /// The digest of all events.
    pub digest: crate::digest::Digest,
    /// The last events, with words.
    pub tail: Vec<Record>,
    /// How often each oracle judged something.
    pub judged: BTreeMap<String, u64>,
    /// States of the protocol that were reached.
    pub coverage: Coverage,
    /// The trace file's own trouble.
    pub trace: Result<(), String>,
    /// The mutations that took effect, by their place in the log.
    pub effects: Vec<(Index, Mutation)>,
    /// Shards that arrived at another group.
    pub migrations: u64,
}

impl Watcher {
    /// Inside the runtime; `checks` are the ids of the oracles that judge the groups of `cluster`.
    pub fn new(recorder: Recorder, cluster: &Cluster, checks: &[String], stage: Option<Stage>) -> Arc<Self> {
        let places = places::of(cluster);
        let ids: Vec<&str> = checks.iter().map(String::as_str).collect();
        let state = State {
            recorder,
            groups: places.iter().map(|(place, _)| (*place, Group::new(&ids))).collect(),
            configs: Configs::default(),
            shards: Shards::default(),
            checks: checks.iter().cloned().collect(),
            violation: None,
            faces: BTreeMap::new(),
            names: BTreeMap::new(),
            waiting: BTreeMap::new(),
            payload: Vec::new(),
            events: 0,
            opened: 0,
            stage,
            ledger: None,
            is_closed: false,
        };
        Arc::new(Self { time: TimeHandle::current(), state: Mutex::new(state), violated: Notify::new() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.time.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Records an event of the scenario or of a client. `text` is canonical: it goes into the digest.
    pub fn note(&self, node: &str, kind: &str, text: &str) {
        let at_ns = self.now_ns();
        let mut state = self.lock();
        if state.violation.is_none() && !state.is_closed {
            state.recorder.record(at_ns, node, kind, text.as_bytes(), || text.to_owned());
            if let Some(stage) = &state.stage {
                stage::note(&mut stage.lock(), at_ns / 1_000, node, kind, text);
            }
        }
    }

    /// An oracle outside of the nodes does not hold.
    pub fn violate(&self, violation: Violation) {
        let at_ns = self.now_ns();
        self.lock().violate(violation, at_ns);
        self.violated.notify_one();
    }

    /// Resolves when an invariant does not hold.
    pub async fn violated(&self) {
        if self.lock().violation.is_none() {
            self.violated.notified().await;
        }
    }

    /// Resolves with the node on which `trigger` happens next.
    pub fn next(&self, trigger: Trigger) -> oneshot::Receiver<NodeId> {
        let (sender, receiver) = oneshot::channel();
        self.lock().waiting.entry(trigger).or_default().push(sender);
        receiver
    }

    /// A node's state was damaged from outside.
    pub fn state_is_bad(&self, node: NodeId) {
        if let Some(group) = self.lock().groups.get_mut(&Place::of(node)) {
            group.suite.state_is_bad(node);
        }
    }

    /// The node's process is gone.
    pub fn down(&self, node: NodeId) {
        self.lock().faces.insert(node, Face::default());
    }

    /// What is known of each node.
    pub fn faces(&self) -> BTreeMap<NodeId, Face> {
        self.lock().faces.clone()
    }

    /// Does `oracle` judge this run?
    pub fn checks(&self, oracle: &str) -> bool {
        self.lock().checks.contains(oracle)
    }

    /// Counts for a script, from now on.
    pub fn keep_ledger(&self) {
        self.lock().ledger = Some(Ledger::default());
    }

    /// Events of nodes so far.
    pub fn events(&self) -> u64 {
        self.lock().events
    }

    /// Looks out for a command of the script.
    pub fn expect(&self, command: bytes::Bytes) {
        if let Some(ledger) = &mut self.lock().ledger {
            ledger.expect(command);
        }
    }

    /// Where a command of the script is.
    pub fn fate(&self, command: &bytes::Bytes) -> Fate {
        self.lock().ledger.as_ref().map(|ledger| ledger.fate(command)).unwrap_or_default()
    }

    /// Requests between nodes and snapshots installed so far.
    pub fn counts(&self) -> (u64, u64) {
        self.lock().ledger.as_ref().map(|ledger| (ledger.calls, ledger.installed)).unwrap_or_default()
    }

    /// A claim of the script was judged.
    pub fn claim(&self) {
        if let Some(ledger) = &mut self.lock().ledger {
            ledger.judged += 1;
        }
    }

    /// An operator asks the controllers.
    pub fn asked(&self, asked: Asked) -> Open {
        self.lock().configs.asked(asked)
    }

    /// What an operator was told.
    pub fn told(&self, open: &Open, told: &Told) {
        let held = {
            let state = &mut *self.lock();
            let checks = |oracle: &str| state.checks.contains(oracle);
            state.configs.told(open, told, &checks)
        };
        if let Err(violation) = held {
            self.violate(violation.into());
        }
    }

    /// What the groups that serve shards have committed.
    pub fn shards(&self) -> BTreeMap<GroupId, Known> {
        self.lock().shards.groups().clone()
    }

    /// The config of this number, if a controller has made it.
    pub fn config(&self, num: ConfigNum) -> Option<Config> {
        self.lock().configs.config(num).cloned()
    }

    /// The latest config that a controller has made.
    pub fn latest_config(&self) -> Option<Config> {
        self.lock().configs.latest().cloned()
    }

    /// What comes from now on is no part of the run.
    pub fn close(&self) {
        self.lock().is_closed = true;
    }

    /// Everything that was seen. What comes later is not.
    pub fn finish(&self) -> Seen {
        let mut state = self.lock();
        let trace = state.recorder.finish();
        let mut judged: BTreeMap<String, u64> = BTreeMap::new();
        for (id, count) in state
            .groups
            .values()
            .flat_map(Group::judged)
            .chain(state.configs.judged())
            .chain(state.shards.judged())
        {
            *judged.entry(id.to_owned()).or_default() += count;
        }
        if let Some(ledger) = &state.ledger {
            judged.insert("sim.script".to_owned(), ledger.judged);
        }
        // A node that panics is not seen again; one that stops by itself was started, and is missed.
        judged.insert("sim.panic".to_owned(), state.events);
        judged.insert("sim.exit".to_owned(), state.opened);
        judged.retain(|oracle, _| state.checks.contains(oracle) || !oracle.starts_with("sim."));
        let mut coverage = Coverage::default();
        state.groups.values().for_each(|group| coverage.add(group.map.reached()));
        let with_words = |record: &Record| {
            let text = canonical::describe(&record.kind, &record.payload);
            Record { text, ..record.clone() }
        };
        Seen {
            violation: state.violation.clone(),
            digest: state.recorder.digest().clone(),
            tail: state.recorder.tail().map(with_words).collect(),
            judged,
            coverage,
            trace,
            effects: match state.groups.get_mut(&Place::Alone) {
                Some(group) => std::mem::take(&mut group.exactly_once.effects),
                None => std::mem::take(&mut state.shards.effects),
            },
            migrations: state.shards.migrations,
        }
    }
}

impl Observer for Watcher {
    fn observe(&self, node: NodeId, event: &Event<'_>) {
        let at_ns = self.now_ns();
        let mut state = self.lock();
        if state.violation.is_some() || state.is_closed {
            return;
        }
        state.record(at_ns, node, event);
        state.update(node, event);
        if let Some(ledger) = &mut state.ledger {
            ledger.observe(event);
        }
        if let Err(violation) = state.judge(at_ns, node, event) {
            state.violate(violation, at_ns);
            drop(state);
            self.violated.notify_one();
        }
    }

    fn wants_inputs(&self) -> bool {
        true
    }
}

impl Group {
    fn new(checks: &[&str]) -> Self {
        Self {
            suite: Suite::only(checks),
            replicas: Replicas::default(),
            exactly_once: ExactlyOnce::default(),
            map: Map::default(),
        }
    }

    fn judged(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let own =
            [("kv.replicas_equal", self.replicas.judged), ("kv.exactly_once", self.exactly_once.judged)];
        self.suite.judged().chain(own)
    }
}

impl State {
    fn record(&mut self, at_ns: u64, node: NodeId, event: &Event<'_>) {
        self.payload.clear();
        canonical::payload(event, &mut self.payload);
        let name = self.names.entry(node).or_insert_with(|| places::name(node));
        self.recorder.record(at_ns, name, canonical::kind(event), &self.payload, || format!("{event:?}"));
        if let Some(stage) = &self.stage {
            stage::event(&mut stage.lock(), at_ns / 1_000, name, event);
        }
    }

    fn violate(&mut self, violation: Violation, at_ns: u64) {
        if self.violation.is_none() {
            let text = format!("{}: {}", violation.oracle, violation.message);
            self.recorder.record(at_ns, "world", "violation", text.as_bytes(), || text.clone());
            if let Some(stage) = &self.stage {
                stage::note(&mut stage.lock(), at_ns / 1_000, "world", "violation", &text);
            }
            self.violation = Some(violation);
        }
    }

    /// How far the group of `node` is with configs and shards, if it serves any.
    fn placement(&self, node: NodeId) -> Option<Placement> {
        let Place::Group(group) = Place::of(node) else { return None };
        let known = self.shards.groups().get(&group)?;
        let latest = self.configs.latest().map_or(ConfigNum(0), |config| config.num);
        Some(Placement { configs_behind: latest.0.saturating_sub(known.adopted.0), ..known.placement() })
    }

    fn map(&mut self, node: NodeId, raft: &Raft) {
        let placement = self.placement(node);
        if let Some(group) = self.groups.get_mut(&Place::of(node)) {
            group.map.see(node, raft, placement);
        }
    }

    fn update(&mut self, node: NodeId, event: &Event<'_>) {
        self.events += 1;
        let face = self.faces.entry(node).or_default();
        match event {
            Event::Opened { raft, applied, .. } => {
                *face = Face { is_up: true, applied: applied.index, ..Face::default() };
                see(face, raft);
                self.opened += 1;
                self.map(node, raft);
            }
            Event::Stepped { input, effects, raft } => {
                let was_leader = face.is_leader;
                see(face, raft);
                let is_new_leader = face.is_leader && !was_leader;
                self.map(node, raft);
                self.step_triggers(node, *input, effects, is_new_leader);
            }
            Event::Applied { entry, .. } => face.applied = entry.index,
            Event::Flushed { .. } => self.fire(Trigger::Flush, node),
            Event::SnapshotInstalled { applied, .. } => {
                face.applied = applied.index;
                self.fire(Trigger::Snapshot, node);
            }
            Event::ReadServed { .. } => {}
            Event::Stopped { .. } => *face = Face::default(),
        }
    }

    fn judge(&mut self, at_ns: u64, node: NodeId, event: &Event<'_>) -> Result<(), Violation> {
        let Some(group) = self.groups.get_mut(&Place::of(node)) else { return Ok(()) };
        group.suite.observe(node, at_ns, event).map_err(Violation::from)?;
        if self.checks.contains("kv.replicas_equal") {
            match event {
                Event::Applied { entry, replica_hash, .. } => {
                    let at = eraft::raft::Position { index: entry.index, term: entry.term };
                    group.replicas.compare(node, at, *replica_hash)?;
                }
                Event::Opened { applied, replica_hash, .. }
                | Event::SnapshotInstalled { applied, replica_hash } => {
                    group.replicas.compare(node, *applied, *replica_hash)?;
                }
                _ => {}
            }
        }
        if let Event::Applied { entry, batch, .. } = event
            && self.checks.contains("kv.exactly_once")
            && !matches!(Place::of(node), Place::Group(_))
        {
            group.exactly_once.applied(entry, batch)?;
        }
        if let Event::Applied { entry, batch, .. } = event
            && Place::of(node) == Place::Ctrlers
        {
            let checks = |oracle: &str| self.checks.contains(oracle);
            self.configs.applied(node, entry, batch, &checks).map_err(Violation::from)?;
        }
        if let (Event::Applied { entry, batch, .. }, Place::Group(group)) = (event, Place::of(node)) {
            let checks = |oracle: &str| self.checks.contains(oracle);
            self.shards
                .applied(group, entry, batch, self.configs.kept(), &checks)
                .map_err(Violation::from)?;
            for turn in std::mem::take(&mut self.shards.turns) {
                self.fire(triggers::of(turn), node);
            }
        }
        Ok(())
    }
}

fn see(face: &mut Face, raft: &Raft) {
    face.term = raft.hard().term;
    face.is_leader = raft.is_leader();
    face.leader = raft.leader();
    let log = raft.log();
    (face.last, face.base, face.log_bytes) = (log.last().index, log.base().index, log.bytes());
}

impl From<invariants::Violation> for Violation {
    fn from(violation: invariants::Violation) -> Self {
        let invariants::Violation { oracle, fingerprint, message } = violation;
        Self { oracle, fingerprint, message: places::renamed(&message) }
    }
}
