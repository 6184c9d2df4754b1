//! The faults of a scenario: `[[faults]]` at named moments, and `[random_faults]` at drawn ones.

use eraft::types::NodeId;

use super::fault::{Action, Direction, FaultKind, Hits, RotStore, Shape, Stores, Trigger};
use super::reader::{ScenarioError, Section, suggestion};
use super::setting::Setting;
use super::target::Target;
use super::{Cluster, PhasesSettings};
use crate::places;

/// The longest time in a scenario.
const TIME_MS_MAX: u64 = 36_000_000;
/// Between two faults of a kind, unless the scenario says otherwise.
const MEAN_INTERVAL_MS: Setting<u64> = Setting::Range(1_000, 6_000);
/// A fault lasts this long, unless the scenario says otherwise.
const DURATION_MS: Setting<u64> = Setting::Range(50, 2_000);

/// What a fault of one kind may look like. For `[[faults]]` mostly single values, for `[random_faults]` mostly sets.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// The kind.
    pub kind: FaultKind,
    /// Whom it may hit.
    pub targets: Vec<Target>,
    /// After what it may happen; `None`: at its time.
    pub after: Vec<Option<Trigger>>,
    /// How long after the trigger.
    pub within_ms: Setting<u64>,
    /// How long it lasts; `None`: until something else ends it.
    pub duration_ms: Option<Setting<u64>>,
    /// For net.loss, net.duplicate and net.reorder.
    pub rate: Setting<f64>,
    /// For net.delay and net.reorder.
    pub delay_ms: Setting<u64>,
    /// For net.slow.
    pub bytes_per_second: Setting<u64>,
    /// For disk.slow: everything takes this many times as long.
    pub factor: Setting<u64>,
    /// For clock.skew: the clock runs so many times as fast.
    pub speed: Setting<f64>,
    /// For clock.jump.
    pub jump_ms: Setting<u64>,
    /// For disk.bitrot.
    pub rots: Vec<RotStore>,
    /// For disk.full and disk.io_error.
    pub stores: Vec<Stores>,
    /// For what bends links.
    pub directions: Vec<Direction>,
    /// For net.partition.
    pub shapes: Vec<Shape>,
    /// For net.partition: are clients cut off from the target too? Both if the scenario leaves it open.
    pub clients: Vec<bool>,
}

/// A fault at a named moment.
#[derive(Clone, Debug, PartialEq)]
pub struct ScriptedFault {
    /// When, or from when on its trigger counts.
    pub at_ms: Setting<u64>,
    /// What.
    pub profile: Profile,
}

/// Faults of one kind at drawn moments.
#[derive(Clone, Debug, PartialEq)]
pub struct RandomFault {
    /// The mean time between two; drawn once per run.
    pub mean_interval_ms: Setting<u64>,
    /// What; drawn per fault.
    pub profile: Profile,
}

/// Faults at drawn moments.
#[derive(Clone, Debug, PartialEq)]
pub struct RandomFaults {
    /// Does each run have a random half of the kinds only?
    pub subset: bool,
    /// The kinds.
    pub kinds: Vec<RandomFault>,
}

const PARAMETER_KEYS: &[&str] = &[
    "duration_ms",
    "rate",
    "delay_ms",
    "bytes_per_second",
    "factor",
    "speed",
    "jump_ms",
    "store",
    "direction",
    "shape",
    "clients",
];

impl Profile {
    fn read(
        section: &Section<'_>,
        kind: FaultKind,
        duration: Option<Setting<u64>>,
    ) -> Result<Self, ScenarioError> {
        for key in PARAMETER_KEYS {
            if section.has(key) && !kind.parameters().contains(key) {
                let known = [&["target"], kind.parameters()].concat().join(", ");
                return Err(section.error(key, format!("says nothing about {kind}; it has: {known}")));
            }
        }
        let default_duration = duration.filter(|_| kind.parameters().contains(&"duration_ms"));
        Ok(Self {
            kind,
            targets: read_targets(section)?,
            after: vec![None],
            within_ms: section.setting("within_ms", 0..=TIME_MS_MAX)?.unwrap_or(Setting::Fixed(0)),
            duration_ms: section.setting("duration_ms", 1..=TIME_MS_MAX)?.or(default_duration),
            rate: section.setting("rate", 0.0..=1.0)?.unwrap_or(Setting::Range(0.01, 0.3)),
            delay_ms: section.setting("delay_ms", 0..=TIME_MS_MAX)?.unwrap_or(Setting::Range(5, 200)),
            bytes_per_second: section
                .setting("bytes_per_second", 1..=1 << 40)?
                .unwrap_or(Setting::Range(1_000, 100_000)),
            factor: section.setting("factor", 1..=1_000_000)?.unwrap_or(Setting::Range(5, 100)),
            speed: section.setting("speed", 0.5..=2.0)?.unwrap_or(Setting::Range(0.8, 1.2)),
            jump_ms: section.setting("jump_ms", 1..=TIME_MS_MAX)?.unwrap_or(Setting::Range(20, 3_000)),
            shapes: read_words(section, "shape", &Shape::WORDS)?.unwrap_or(vec![Shape::Symmetric]),
            rots: match kind {
                FaultKind::DiskBitrot => read_words(section, "store", &RotStore::WORDS)?,
                _ => None,
            }
            .unwrap_or(RotStore::WORDS.map(|(_, store)| store).to_vec()),
            stores: match kind {
                FaultKind::DiskBitrot => None,
                _ => read_words(section, "store", &Stores::WORDS)?,
            }
            .unwrap_or(vec![Stores::Both]),
            directions: read_words(section, "direction", &Direction::WORDS)?.unwrap_or(vec![Direction::Both]),
            clients: section.flag("clients")?.map_or_else(|| vec![false], |clients| vec![clients]),
        })
    }

    /// The action that the values of one draw make.
    pub fn action(&self, numbers: Numbers) -> Action {
        let Numbers { rate, delay_ms, bytes_per_second, factor, speed, jump_ms, rot, stores, shape, clients } =
            numbers;
        match self.kind {
            FaultKind::NetLoss => Action::NetLoss { rate },
            FaultKind::NetDelay => Action::NetDelay { delay_ms },
            FaultKind::NetReorder => Action::NetReorder { rate, delay_ms },
            FaultKind::NetDuplicate => Action::NetDuplicate { rate },
            FaultKind::NetPartition => Action::NetPartition { shape, clients },
            FaultKind::NetSlow => Action::NetSlow { bytes_per_second },
            FaultKind::NetReset => Action::NetReset,
            FaultKind::NodeKill => Action::NodeKill,
            FaultKind::NodeRestart => Action::NodeRestart,
            FaultKind::NodeCrash => Action::NodeCrash,
            FaultKind::NodeCrashAll => Action::NodeCrashAll,
            FaultKind::NodePause => Action::NodePause,
            FaultKind::DiskTorn => Action::DiskTorn,
            FaultKind::DiskSlow => Action::DiskSlow { factor },
            FaultKind::DiskStall => Action::DiskStall,
            FaultKind::DiskFull => Action::DiskFull { stores },
            FaultKind::DiskIoError => Action::DiskIoError { stores },
            FaultKind::ClockSkew => Action::ClockSkew { speed },
            FaultKind::ClockJump => Action::ClockJump { jump_ms },
            FaultKind::ClientCrash => Action::ClientCrash,
            FaultKind::ClientPause => Action::ClientPause,
            FaultKind::DiskBitrot => Action::DiskBitrot { store: rot },
            FaultKind::OpsTransfer => Action::OpsTransfer,
            FaultKind::OpsJoin => Action::OpsJoin,
            FaultKind::OpsLeave => Action::OpsLeave,
            FaultKind::OpsMove => Action::OpsMove,
            FaultKind::OpsUnpin => Action::OpsUnpin,
            FaultKind::OpsRollback => Action::OpsRollback,
        }
    }
}

/// One value of each parameter; an action takes those that it needs.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Numbers {
    pub rate: f64,
    pub delay_ms: u64,
    pub bytes_per_second: u64,
    pub factor: u64,
    pub speed: f64,
    pub jump_ms: u64,
    pub rot: RotStore,
    pub stores: Stores,
    pub shape: Shape,
    pub clients: bool,
}

/// The values that the words of `key` stand for; `None`: the key is not there.
fn read_words<T: Copy>(
    section: &Section<'_>,
    key: &str,
    known: &[(&'static str, T)],
) -> Result<Option<Vec<T>>, ScenarioError> {
    let Some(words) = section.texts(key)? else { return Ok(None) };
    if words.is_empty() {
        return Err(section.error(key, "the list is empty"));
    }
    let names = || known.iter().map(|(word, _)| *word);
    let value = |word: &str| {
        let found = known.iter().find(|(known, _)| *known == word).map(|(_, value)| *value);
        found.ok_or_else(|| {
            let hint = suggestion(word, names());
            let all = names().collect::<Vec<_>>().join(", ");
            section.error(key, format!("unknown value `{word}`{hint}; known: {all}"))
        })
    };
    words.into_iter().map(value).collect::<Result<_, _>>().map(Some)
}

/// Of a scripted fault, a list is one target (`["n1", "n3"]`); of random faults it is a choice (`target` below).
fn read_targets(section: &Section<'_>) -> Result<Vec<Target>, ScenarioError> {
    let words = section.texts("target")?.unwrap_or_default();
    words.into_iter().map(|word| Target::parse(word).map_err(|why| section.error("target", why))).collect()
}

const SCRIPTED_KEYS: &[&str] = &["at_ms", "after", "within_ms", "action", "target"];

/// Reads `[[faults]]`.
pub(super) fn read_scripted(
    root: &Section<'_>,
    cluster: &Cluster,
    phases: &PhasesSettings,
) -> Result<Vec<ScriptedFault>, ScenarioError> {
    let keys = [SCRIPTED_KEYS, PARAMETER_KEYS].concat();
    root.sections("faults", &keys)?
        .iter()
        .map(|section| read_one_scripted(section, cluster, phases))
        .collect()
}

fn read_one_scripted(
    section: &Section<'_>,
    cluster: &Cluster,
    phases: &PhasesSettings,
) -> Result<ScriptedFault, ScenarioError> {
    let kinds = FaultKind::ALL.map(|kind| (kind.id(), kind));
    let Some(kind) = section.word("action", &kinds)? else {
        return Err(section.error("action", "missing: which fault is it?"));
    };
    let at_ms = section.setting("at_ms", 0..=TIME_MS_MAX)?;
    let after = section.word("after", &Trigger::WORDS)?;
    if at_ms.is_none() && after.is_none() {
        return Err(section.error("at_ms", "missing: when does it happen? (or `after`: after what?)"));
    }
    let at_ms = at_ms.unwrap_or(Setting::Fixed(0));
    if at_ms.high() >= phases.safety_ms.low() {
        let message = format!("not before the end of the safety phase ({} ms)", phases.safety_ms.low());
        return Err(section.error("at_ms", message));
    }
    let mut profile = Profile::read(section, kind, None)?;
    profile.after = vec![after];
    if profile.duration_ms.is_none() && kind.parameters().contains(&"duration_ms") && !kind.may_last() {
        return Err(section.error("duration_ms", format!("missing: how long does {kind} last?")));
    }
    profile.targets = vec![scripted_target(section, &profile, cluster)?];
    Ok(ScriptedFault { at_ms, profile })
}

/// The one target of a scripted fault.
fn scripted_target(
    section: &Section<'_>,
    profile: &Profile,
    cluster: &Cluster,
) -> Result<Target, ScenarioError> {
    let kind = profile.kind;
    let target = match profile.targets.as_slice() {
        [] if matches!(kind, FaultKind::NodeCrashAll | FaultKind::NodeRestart) => Target::All,
        [] if profile.shapes == [Shape::Ring] => Target::All,
        [] if kind.is_operation() => Target::Random,
        [] => return Err(section.error("target", format!("missing: whom does {kind} hit?"))),
        [one] => one.clone(),
        several => {
            let joined = several.iter().map(ToString::to_string).collect::<Vec<_>>().join("+");
            let mixed = |_| section.error("target", format!("`{joined}` mixes roles, nodes or clients"));
            Target::parse(&joined).map_err(mixed)?
        }
    };
    if target == Target::There && profile.after == [None] {
        return Err(section.error("target", "`there` means where the trigger happened: `after` is missing"));
    }
    let (hit, other) = if target.is_client() { (Hits::Clients, "nodes") } else { (Hits::Nodes, "clients") };
    if kind.hits() != hit && kind.hits() != Hits::Parties {
        let found = if target.is_client() { "clients" } else { "nodes" };
        return Err(section.error("target", format!("{kind} hits {other}, not {found}")));
    }
    check_target(section, &target, cluster)?;
    if kind.is_operation() && cluster.groups == 0 {
        return Err(section.error("action", format!("{kind} needs groups that serve shards")));
    }
    Ok(target)
}

/// What a target names has to be there in every run.
fn check_target(section: &Section<'_>, target: &Target, cluster: &Cluster) -> Result<(), ScenarioError> {
    let known = places::of(cluster);
    let missing = match target {
        Target::Nodes(nodes) => {
            let is_known = |number: &u64| known.iter().any(|(_, ids)| ids.contains(&NodeId(*number)));
            nodes.iter().find(|number| !is_known(number)).map(|number| places::name(NodeId(*number)))
        }
        Target::Of(_, place) => (!known.iter().any(|(known, _)| known == place)).then(|| place.to_string()),
        _ => None,
    };
    match missing {
        Some(name) => {
            Err(section.error("target", format!("there is no {name} in {}", places::described(cluster))))
        }
        None => Ok(()),
    }
}

const RANDOM_KEYS: &[&str] = &["kinds", "subset", "mean_interval_ms", "duration_ms"];
const KIND_KEYS: &[&str] = &["mean_interval_ms", "target", "after", "within_ms"];

/// Reads `[random_faults]`.
pub(super) fn read_random(
    root: &Section<'_>,
    cluster: &Cluster,
) -> Result<Option<RandomFaults>, ScenarioError> {
    if !root.has("random_faults") {
        return Ok(None);
    }
    let ids = FaultKind::ALL.map(FaultKind::id);
    let section = root.section("random_faults", &[RANDOM_KEYS, &ids].concat())?;
    let kinds = match section.texts("kinds")? {
        None => {
            FaultKind::ALL.into_iter().filter(|kind| !kind.is_operation() || cluster.groups > 0).collect()
        }
        Some(patterns) => matching_kinds(&section, &patterns)?,
    };
    let interval = section.setting("mean_interval_ms", 1..=TIME_MS_MAX)?.unwrap_or(MEAN_INTERVAL_MS);
    let duration = section.setting("duration_ms", 1..=TIME_MS_MAX)?.unwrap_or(DURATION_MS);
    for kind in FaultKind::ALL {
        if section.has(kind.id()) && !kinds.contains(&kind) {
            return Err(section.error(kind.id(), "is not among `kinds`"));
        }
    }
    let read = |kind: FaultKind| read_one_random(&section, kind, &interval, &duration, cluster);
    let kinds = kinds.into_iter().map(read).collect::<Result<_, _>>()?;
    Ok(Some(RandomFaults { subset: section.flag("subset")?.unwrap_or(false), kinds }))
}

fn read_one_random(
    random: &Section<'_>,
    kind: FaultKind,
    interval: &Setting<u64>,
    duration: &Setting<u64>,
    cluster: &Cluster,
) -> Result<RandomFault, ScenarioError> {
    let section = random.section(kind.id(), &[KIND_KEYS, PARAMETER_KEYS].concat())?;
    let mut profile = Profile::read(&section, kind, Some(duration.clone()))?;
    if profile.targets.is_empty() {
        profile.targets = default_targets(kind);
    }
    profile.targets.iter().try_for_each(|target| check_target(&section, target, cluster))?;
    if kind == FaultKind::NetPartition && !section.has("shape") {
        profile.shapes = Shape::WORDS.map(|(_, shape)| shape).to_vec();
    }
    if kind.parameters().contains(&"direction") && !section.has("direction") {
        profile.directions = Direction::WORDS.map(|(_, direction)| direction).to_vec();
    }
    if matches!(kind, FaultKind::DiskFull | FaultKind::DiskIoError) && !section.has("store") {
        profile.stores = Stores::WORDS.map(|(_, stores)| stores).to_vec();
    }
    if kind == FaultKind::NetPartition && !section.has("clients") {
        profile.clients = vec![false, true];
    }
    let with_time: Vec<(&str, Option<Trigger>)> = std::iter::once(("time", None))
        .chain(Trigger::WORDS.map(|(word, trigger)| (word, Some(trigger))))
        .collect();
    if let Some(after) = read_words(&section, "after", &with_time)? {
        profile.after = after;
    }
    Ok(RandomFault {
        mean_interval_ms: section
            .setting("mean_interval_ms", 1..=TIME_MS_MAX)?
            .unwrap_or_else(|| interval.clone()),
        profile,
    })
}

fn default_targets(kind: FaultKind) -> Vec<Target> {
    match kind {
        kind if kind.is_operation() => vec![Target::Random],
        FaultKind::NodeCrashAll => vec![Target::All],
        FaultKind::NodeRestart => vec![Target::Random, Target::All],
        FaultKind::NetLoss | FaultKind::NetDelay | FaultKind::NetReorder => {
            vec![Target::All, Target::Leader, Target::Random, Target::Client]
        }
        // The requests of clients are never doubled.
        FaultKind::NetDuplicate => vec![Target::All, Target::Leader, Target::Random],
        FaultKind::NetPartition => vec![Target::Leader, Target::Minority, Target::Random, Target::Client],
        FaultKind::NetSlow | FaultKind::NetReset => vec![Target::Leader, Target::Random, Target::Client],
        FaultKind::OpsTransfer => vec![Target::Follower, Target::Random],
        FaultKind::DiskFull | FaultKind::DiskIoError => vec![Target::Leader, Target::Follower],
        FaultKind::ClockSkew => vec![Target::Leader, Target::Follower, Target::Minority, Target::All],
        FaultKind::ClientCrash | FaultKind::ClientPause => vec![Target::Client],
        _ => vec![Target::Leader, Target::Follower, Target::Random, Target::Minority],
    }
}

/// The kinds that `patterns` name; `net.*` names a group.
fn matching_kinds(section: &Section<'_>, patterns: &[&str]) -> Result<Vec<FaultKind>, ScenarioError> {
    for pattern in patterns {
        if !FaultKind::ALL.iter().any(|kind| matches(pattern, *kind)) {
            let hint = suggestion(pattern, FaultKind::ALL.map(FaultKind::id));
            return Err(section.error("kinds", format!("unknown fault `{pattern}`{hint}")));
        }
    }
    let named = |kind: &FaultKind| patterns.iter().any(|pattern| matches(pattern, *kind));
    Ok(FaultKind::ALL.into_iter().filter(named).collect())
}

fn matches(pattern: &str, kind: FaultKind) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => kind.id().starts_with(prefix),
        None => kind.id() == pattern,
    }
}
