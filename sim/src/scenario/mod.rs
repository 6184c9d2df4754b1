//! A scenario: a TOML file that says what a run is made of and what it is checked for.
//!
//! ```toml
//! name = "leader cut off"
//! [cluster]
//! nodes = 3                        # a number, a range [low, high], or { choices = [3, 5] }
//! [[faults]]
//! at_ms = 2000
//! action = "net.partition"
//! target = "leader"
//! duration_ms = 3000
//! ```
//!
//! Everything has a default. A range or a list of choices is drawn per run (in `[random_faults]`, per fault).

mod buggify;
mod fault;
mod faults;
mod operator;
mod reader;
mod setting;
mod step;
mod steps;
mod target;

pub use buggify::Buggify;
pub use fault::{Action, Direction, FaultKind, RotStore, Shape, Stores, Trigger};
pub use faults::{Numbers, Profile, RandomFault, RandomFaults, ScriptedFault};
pub use operator::{Command, CommandKind, Operators, OperatorsSettings};
pub use reader::ScenarioError;
pub(crate) use reader::suggestion;
pub use setting::{Number, Setting};
pub use step::{Loss, Spread, Step, Who};
pub use target::Target;

use crate::oracles;
use reader::{Section, Source};
use setting::section;

section! {
    /// The groups and their bounds.
    Cluster, ClusterSettings, "cluster" {
        /// Members of the group, or of each of the groups that serve shards.
        nodes: u64 = 3, 1 => 9;
        /// Controllers; 0: one group stands alone.
        ctrlers: u64 = 0, 0 => 9;
        /// Groups that serve shards; 0: the controllers are alone.
        groups: u64 = 0, 0 => 8;
        /// Groups that have joined when clients begin; no more than there are.
        joined: u64 = 8, 0 => 8;
        /// Shards of the store.
        shards: u64 = 10, 1 => 4_096;
        /// A follower waits between once and twice this for its leader.
        election_timeout_ms: u64 = 300, 20 => 60_000;
        /// The time between a leader's heartbeats.
        heartbeat_ms: u64 = 50, 5 => 10_000;
        /// A silent peer's stream is opened anew after this.
        peer_silence_ms: u64 = 1_000, 50 => 60_000;
        /// The log in memory is compacted once it holds this many bytes.
        log_bytes_max: u64 = 64 << 20, 256 => 1 << 32;
        /// One chunk of a snapshot stream.
        snapshot_chunk_bytes: u64 = 64 << 10, 64 => 2 << 20;
        /// Entries in one append.
        append_entries_max: u64 = 1_024, 1 => 100_000;
        /// Bytes in one append.
        append_bytes_max: u64 = 1 << 20, 64 => 4 << 20;
        /// Unanswered appends per follower.
        appends_in_flight_max: u64 = 64, 1 => 10_000;
        /// Proposals are refused above this many uncommitted bytes.
        uncommitted_bytes_max: u64 = 64 << 20, 1_024 => 1 << 32;
        /// Applied state is flushed at least this often.
        apply_flush_ms: u64 = 100, 1 => 60_000;
        /// Applied state is flushed once it holds this many bytes.
        apply_overlay_bytes_max: u64 = 8 << 20, 64 => 1 << 32;
        /// Sessions that the group keeps.
        sessions_max: u64 = 10_000, 1 => 1_000_000;
    }
}

section! {
    /// What clients do.
    Workload, WorkloadSettings, "workload" {
        /// How many clients.
        clients: u64 = 3, 0 => 64;
        /// Operations of each client while faults happen, at most.
        operations: u64 = 500, 0 => 100_000;
        /// Operations of each client after the faults.
        liveness_operations: u64 = 10, 1 => 10_000;
        /// How many keys there are.
        keys: u64 = 10, 1 => 100_000;
        /// Keys of each client that no other one uses; 0: all share all keys.
        own_keys: u64 = 0, 0 => 1_000;
        /// The exponent of the keys' popularity; 0 is uniform.
        skew: f64 = 0.0, 0.0 => 4.0;
        /// The size of written values.
        value_bytes: u64 = 16, 1 => 1 << 20;
        /// The mean pause before an operation.
        think_ms: u64 = 20, 0 => 60_000;
        /// Operations of one client at once.
        pipeline: u64 = 1, 1 => 64;
        /// How long an operation may take.
        deadline_ms: u64 = 3_000, 10 => 600_000;
        /// Weight of reads.
        get: u64 = 40, 0 => 1_000;
        /// Weight of writes.
        put: u64 = 30, 0 => 1_000;
        /// Weight of appends.
        append: u64 = 15, 0 => 1_000;
        /// Weight of deletes.
        delete: u64 = 5, 0 => 1_000;
        /// Weight of compare-and-sets.
        cas: u64 = 10, 0 => 1_000;
    }
}

section! {
    /// The network without faults.
    Network, NetworkSettings, "network" {
        /// Every message takes at least this long.
        latency_ms: u64 = 1, 0 => 10_000;
        /// And up to this much longer.
        jitter_ms: u64 = 4, 0 => 10_000;
        /// The fraction of peer messages that is lost all the time.
        loss: f64 = 0.0, 0.0 => 0.9;
        /// The fraction of peer messages that arrives twice all the time.
        duplicate: f64 = 0.0, 0.0 => 0.9;
        /// The fraction of peer messages that may be overtaken all the time.
        reorder: f64 = 0.0, 0.0 => 0.9;
        /// What a stream takes before its sender has to wait.
        buffer_bytes: u64 = 1 << 20, 1_024 => 1 << 30;
    }
}

section! {
    /// The disks without faults.
    Disk, DiskSettings, "disk" {
        /// Every synced write takes at least this long.
        latency_ms: u64 = 1, 0 => 10_000;
        /// And up to this much longer.
        jitter_ms: u64 = 2, 0 => 10_000;
    }
}

section! {
    /// How long the phases last.
    Phases, PhasesSettings, "phases" {
        /// Workload and faults together.
        safety_ms: u64 = 10_000, 0 => 36_000_000;
        /// Workload after the faults have stopped.
        liveness_ms: u64 = 3_000, 0 => 36_000_000;
        /// A leader within this many election timeouts after the faults have stopped.
        leader_timeouts: u64 = 20, 1 => 1_000;
        /// Every shard is served where it belongs within this after the faults have stopped.
        settle_ms: u64 = 30_000, 100 => 3_600_000;
        /// New operations are acknowledged within this after the faults have stopped.
        acknowledge_ms: u64 = 30_000, 100 => 3_600_000;
    }
}

impl ClusterSettings {
    /// The smallest of all clusters that may be drawn: what is named has to be in it.
    fn smallest(&self) -> Cluster {
        Cluster {
            nodes: self.nodes.low(),
            ctrlers: self.ctrlers.low(),
            groups: self.groups.low(),
            shards: self.shards.low(),
            ..Cluster::default()
        }
    }
}

/// Which nodes are healthy again after the faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Heal {
    /// A random majority; the others stay dead, cut or slow for good.
    Majority,
    /// All.
    All,
}

/// A scenario, as its file says it.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// What it shows, in a sentence.
    pub about: String,
    /// The group.
    pub cluster: ClusterSettings,
    /// The clients.
    pub workload: WorkloadSettings,
    /// Those who change the placement of shards.
    pub operators: OperatorsSettings,
    /// The network without faults.
    pub network: NetworkSettings,
    /// The disks without faults.
    pub disk: DiskSettings,
    /// How long.
    pub phases: PhasesSettings,
    /// Which nodes are healthy again.
    pub heal: Heal,
    /// Faults at named moments.
    pub faults: Vec<ScriptedFault>,
    /// Faults at drawn moments.
    pub random_faults: Option<RandomFaults>,
    /// What is forced in the product's code.
    pub buggify: Option<Buggify>,
    /// What is done and claimed step by step; the safety phase lasts as long as they do.
    pub steps: Vec<Step>,
    /// The oracles that judge a run.
    pub checks: Vec<String>,
}

const ROOT_KEYS: &[&str] = &[
    "name",
    "about",
    "cluster",
    "workload",
    "operators",
    "network",
    "disk",
    "phases",
    "faults",
    "random_faults",
    "buggify",
    "steps",
    "checks",
];

impl Scenario {
    /// Reads a scenario; `file` is named in errors, and names a scenario that has no name.
    pub fn parse(file: &str, text: &str) -> Result<Self, ScenarioError> {
        let source = Source { file, text };
        let table = source.parse()?;
        let root = Section::root(source, &table, ROOT_KEYS)?;
        let cluster_section = root.section("cluster", ClusterSettings::KEYS)?;
        let cluster = ClusterSettings::read(&cluster_section)?;
        if cluster.heartbeat_ms.high() * 2 > cluster.election_timeout_ms.low() {
            let message = format!(
                "{} ms is more than half of the shortest election_timeout_ms ({} ms): followers would call \
                 elections under a healthy leader",
                cluster.heartbeat_ms.high(),
                cluster.election_timeout_ms.low()
            );
            return Err(cluster_section.error("heartbeat_ms", message));
        }
        let smallest = cluster.smallest();
        check_places(&cluster_section, &cluster)?;
        let steps = steps::read(&root, &smallest)?;
        for (key, number) in
            [("nodes", &cluster.nodes), ("ctrlers", &cluster.ctrlers), ("groups", &cluster.groups)]
        {
            if !steps.is_empty() && number.low() != number.high() {
                let message = format!("a scenario with steps has a fixed number of {key}");
                return Err(cluster_section.error(key, message));
            }
        }
        let workload_section = root.section("workload", WorkloadSettings::KEYS)?;
        let mut workload = WorkloadSettings::read(&workload_section)?;
        if cluster.ctrlers.high() > 0 && cluster.groups.high() == 0 {
            if root.has("workload") {
                let message = "controllers keep no keys: without `groups` there are only [operators]";
                return Err(workload_section.error("clients", message));
            }
            workload.clients = Setting::Fixed(0);
        }
        let weights = [&workload.get, &workload.put, &workload.append, &workload.delete, &workload.cas];
        if weights.iter().all(|weight| weight.low() == 0) {
            let message = "the weights of get, put, append, delete and cas may all be 0: one must not be";
            return Err(workload_section.error("get", message));
        }
        if workload.clients.high() * workload.own_keys.high() > workload.keys.low() {
            let message = format!(
                "{} clients with {} keys each need more than {} keys",
                workload.clients.high(),
                workload.own_keys.high(),
                workload.keys.low()
            );
            return Err(workload_section.error("own_keys", message));
        }
        let phases_section = root.section("phases", &[PhasesSettings::KEYS, &["heal"]].concat())?;
        let heal = [("majority", Heal::Majority), ("all", Heal::All)];
        let phases = PhasesSettings::read(&phases_section)?;
        Ok(Self {
            name: root.text("name")?.map_or_else(|| stem(file), str::to_owned),
            about: root.text("about")?.unwrap_or_default().to_owned(),
            workload,
            operators: operator::read(&root, &smallest)?,
            network: NetworkSettings::read(&root.section("network", NetworkSettings::KEYS)?)?,
            disk: DiskSettings::read(&root.section("disk", DiskSettings::KEYS)?)?,
            heal: phases_section.word("heal", &heal)?.unwrap_or(if steps.is_empty() {
                Heal::Majority
            } else {
                Heal::All
            }),
            faults: faults::read_scripted(&root, &smallest, &phases)?,
            random_faults: faults::read_random(&root, &smallest)?,
            buggify: Buggify::read(&root, &smallest)?,
            checks: read_checks(
                &root.section("checks", &["oracles", "skip"])?,
                &smallest,
                !steps.is_empty(),
            )?,
            steps,
            cluster,
            phases,
        })
    }

    /// True if no fault is drawn: then every fault has to be delivered.
    pub fn is_scripted(&self) -> bool {
        self.random_faults.is_none()
    }
}

/// Groups need controllers, and either every run has controllers or none has.
fn check_places(section: &Section<'_>, cluster: &ClusterSettings) -> Result<(), ScenarioError> {
    for (key, number) in [("ctrlers", &cluster.ctrlers), ("groups", &cluster.groups)] {
        if number.low() == 0 && number.high() > 0 {
            return Err(section.error(key, "either every run has some or none has: the range starts at 0"));
        }
    }
    if cluster.groups.high() > 0 && cluster.ctrlers.high() == 0 {
        return Err(section.error("groups", "groups that serve shards need `ctrlers`"));
    }
    Ok(())
}

fn read_checks(
    section: &Section<'_>,
    cluster: &Cluster,
    has_steps: bool,
) -> Result<Vec<String>, ScenarioError> {
    let named = |key: &str| -> Result<Option<Vec<&str>>, ScenarioError> {
        let names = section.texts(key)?;
        for name in names.iter().flatten() {
            if !oracles::ids().any(|id| id == *name) {
                let hint = suggestion(name, oracles::ids());
                return Err(section.error(key, format!("unknown oracle `{name}`{hint}")));
            }
        }
        Ok(names)
    };
    let wanted = named("oracles")?
        .unwrap_or_else(|| oracles::of(cluster).filter(|id| has_steps || *id != oracles::SCRIPT).collect());
    let skipped = named("skip")?.unwrap_or_default();
    Ok(wanted.into_iter().filter(|name| !skipped.contains(name)).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests;

fn stem(file: &str) -> String {
    let path = std::path::Path::new(file);
    path.file_stem().map_or_else(|| file.to_owned(), |stem| stem.to_string_lossy().into_owned())
}
