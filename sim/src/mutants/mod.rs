//! The testbed's own exam: how soon each planted bug is found, and by what.
//!
//! A mutant is examined at a layer over disjoint ranges of seeds; each range is searched by one thread until the first
//! seed that fails. From that come the seeds and the core-seconds to detection, as median and 90th percentile.

mod ablation;
mod shrinking;
mod table;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use eraft::mutants::{Layer, Mutant, Mutants};
use serde::{Deserialize, Serialize};

pub use ablation::Ingredient;
pub use shrinking::{Shrinking, summary as summary_of_shrinking};
pub use table::{Row, Table, TableError};

use crate::artifact::RunRequest;
use crate::core;
use crate::fuzz::Source;
use crate::model;
use crate::outcome::{Outcome, Verdict};
use crate::parallel;
use crate::runner::{self, Internal, RunOptions, Simulate};
use crate::shards;

/// Seeds of one range in the scheduler over the core.
const CORE_SEEDS_MAX: u64 = 50_000;
/// Seeds of one range in simulated clusters.
const SIMULATION_SEEDS_MAX: u64 = 500;
/// Mutants of these groups are seen by the scheduler over the machines of the sharded store.
const SHARDED_GROUPS: [&str; 2] = ["ctrler", "shardkv"];
/// Mutants of these groups are found sooner where elections and replication are under pressure.
const OF_CONSENSUS: [&str; 2] = ["election", "replication"];
/// Mutants that show in one situation, which a swarm of its own makes often: id, and name of the scenario.
const SITUATIONS: [(&str, &str); 2] = [
    ("kv.reply_of_another", "deposed"),
    // Disks that are slow or fail, which the swarm of consensus leaves alone.
    ("replication.leader_counts_before_persisted", "kv"),
];
/// The first seeds of two ranges are so far apart: no range ever reaches the next.
const RANGE_DISTANCE: u64 = 1_000_000;
/// If none of so many first ranges finds anything, the others are not searched.
const HOPELESS_RANGES: usize = 4;

/// Where a mutant is looked for. A part of [`Layer`]: unit tests are run by cargo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// The random schedulers over pure code: Raft's core, and the machines of the sharded store.
    Core,
    /// The model checker. It has no seeds: it visits every state, in one order.
    Model,
    /// Simulated clusters.
    Simulation,
}

impl Stage {
    /// Every stage, cheapest first.
    pub const ALL: [Stage; 3] = [Stage::Core, Stage::Model, Stage::Simulation];

    /// Its word in tables and options.
    pub fn word(self) -> &'static str {
        match self {
            Stage::Core => "core",
            Stage::Model => "model",
            Stage::Simulation => "simulation",
        }
    }

    /// The stage of this word.
    pub fn by_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.word() == word)
    }

    fn layer(self) -> Layer {
        match self {
            Stage::Core => Layer::Core,
            Stage::Model => Layer::Model,
            Stage::Simulation => Layer::Simulation,
        }
    }

    /// Can `mutant` be seen here?
    pub fn sees(self, mutant: &Mutant) -> bool {
        mutant.layers.contains(&self.layer())
    }

    fn seeds_max(self) -> u64 {
        match self {
            Stage::Core => CORE_SEEDS_MAX,
            Stage::Model => 1,
            Stage::Simulation => SIMULATION_SEEDS_MAX,
        }
    }
}

/// How a mutant is examined.
#[derive(Clone, Debug)]
pub struct Exam {
    /// Disjoint ranges of seeds.
    pub ranges: usize,
    /// Seeds of a range; `None`: as the stage has it.
    pub seeds_max: Option<u64>,
    /// One range takes at most so much of a core.
    pub time_max: Duration,
    /// Threads.
    pub jobs: usize,
    /// Where the swarm scenarios are.
    pub scenarios: PathBuf,
    /// Ingredients of the simulation that are left out.
    pub without: Vec<Ingredient>,
}

/// The search of one range.
#[derive(Clone, Debug, PartialEq)]
pub struct Search {
    /// Seeds up to the one that failed, with it; `None`: not found.
    pub seeds: Option<u64>,
    /// What found it.
    pub oracle: Option<String>,
    /// What it cost.
    pub core_seconds: f64,
}

/// Why an exam cannot be held.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExamError {
    /// A scenario is missing or malformed.
    #[error("{0}")]
    Scenario(String),
    /// The simulator failed.
    #[error(transparent)]
    Internal(#[from] Internal),
}

impl Exam {
    /// Searches all ranges for `mutant` at `stage`.
    pub fn hold(&self, simulate: Simulate, mutant: &Mutant, stage: Stage) -> Result<Row, ExamError> {
        let source = match stage {
            Stage::Model => return Ok(self.visit(mutant)),
            Stage::Core => None,
            Stage::Simulation => Some(self.scenario_of(mutant)?),
        };
        let search = |range: usize| self.search(simulate, mutant, stage, source.as_ref(), range as u64);
        let few = self.ranges.min(HOPELESS_RANGES);
        let mut searches =
            parallel::map(few, self.jobs, search).into_iter().collect::<Result<Vec<_>, _>>()?;
        if searches.iter().any(|search| search.seeds.is_some()) {
            let rest = parallel::map(self.ranges - few, self.jobs, |range| search(range + few));
            searches.extend(rest.into_iter().collect::<Result<Vec<_>, _>>()?);
        }
        Ok(summary(mutant, stage, &searches))
    }

    /// One range; the first range begins at seed 0.
    fn search(
        &self,
        simulate: Simulate,
        mutant: &Mutant,
        stage: Stage,
        source: Option<&Source>,
        range: u64,
    ) -> Result<Search, Internal> {
        let first = range * RANGE_DISTANCE;
        let seeds_max = self.seeds_max.unwrap_or(stage.seeds_max()).min(RANGE_DISTANCE);
        let Some(source) = source else { return Ok(self.search_core(mutant, first, seeds_max)) };
        let (found, core_seconds) = self.first_failure(simulate, mutant, source, first..first + seeds_max)?;
        Ok(Search {
            seeds: found.as_ref().map(|(request, _)| request.seed - first + 1),
            oracle: found.and_then(|(_, outcome)| outcome.violation).map(|violation| violation.oracle),
            core_seconds,
        })
    }

    /// The first of `seeds` whose simulated cluster fails, within the time of a range, and the core-seconds up to there.
    fn first_failure(
        &self,
        simulate: Simulate,
        mutant: &Mutant,
        source: &Source,
        seeds: Range<u64>,
    ) -> Result<(Option<(RunRequest, Outcome)>, f64), Internal> {
        let mut core_seconds = 0.0;
        for seed in seeds {
            let request = source.request(seed, Some(mutant.id));
            let outcome = runner::run(simulate, &request, &RunOptions::default())?;
            core_seconds += outcome.core_seconds;
            if outcome.verdict == Verdict::Fail {
                return Ok((Some((request, outcome)), core_seconds));
            }
            if core_seconds > self.time_max.as_secs_f64() {
                break;
            }
        }
        Ok((None, core_seconds))
    }

    /// The models that can see the mutant's group, until one has found it.
    fn visit(&self, mutant: &Mutant) -> Row {
        let is_sharded = |name: &str| name.starts_with("shards.");
        let is_wanted = |name: &str| match mutant.group {
            "shardkv" => is_sharded(name),
            "kv" => name.starts_with("sessions.") || name == "read",
            _ => !is_sharded(name) && !name.starts_with("sessions."),
        };
        let names = model::specs::all().into_iter().map(|check| check.name);
        let report = model::run(&model::Options {
            only: names.filter(|name| is_wanted(name)).map(str::to_owned).collect(),
            jobs: 1,
            time_max: Some(self.time_max),
            bounds: Vec::new(),
            mutants: Mutants::with(mutant.mutant),
        });
        let found = report.violation();
        let seconds = (report.seconds * 1_000.0).round() / 1_000.0;
        Row {
            ranges: 1,
            killed: u64::from(found.is_some()),
            oracle: found.map(|found| found.oracle.clone()),
            states: found.map(|_| report.distinct),
            core_seconds_median: found.map(|_| seconds),
            core_seconds_p90: found.map(|_| seconds),
            ..Row::new(mutant, Stage::Model)
        }
    }

    fn search_core(&self, mutant: &Mutant, first: u64, seeds_max: u64) -> Search {
        let options = core::Options {
            seed: first,
            seeds_max,
            time_max: Some(self.time_max),
            jobs: 1,
            mutants: Mutants::with(mutant.mutant),
            ..core::Options::default()
        };
        let (violation, core_seconds) = if SHARDED_GROUPS.contains(&mutant.group) {
            let report = shards::run(&options);
            (report.violation, report.core_seconds)
        } else {
            let report = core::run(&options);
            (report.violation, report.core_seconds)
        };
        let found = violation.as_ref();
        Search {
            seeds: found.map(|found| found.seed - first + 1),
            oracle: found.map(|found| found.violation.oracle.clone()),
            core_seconds,
        }
    }

    /// The swarm scenario of the mutant's situation or group, or the key-value one.
    fn scenario_of(&self, mutant: &Mutant) -> Result<Source, ExamError> {
        let special = SITUATIONS.iter().find(|(id, _)| *id == mutant.id).map(|(_, name)| *name);
        let name =
            special.unwrap_or(if OF_CONSENSUS.contains(&mutant.group) { "raft" } else { mutant.group });
        let of_group = self.scenarios.join(format!("{name}.toml"));
        let path = if of_group.exists() { of_group } else { self.scenarios.join("kv.toml") };
        let mut source = Source::read(&path).map_err(ExamError::Scenario)?;
        for ingredient in &self.without {
            ingredient.leave_out(&mut source.scenario);
        }
        Ok(source)
    }
}

/// The row of all ranges of a mutant at a stage.
fn summary(mutant: &Mutant, stage: Stage, searches: &[Search]) -> Row {
    let mut oracles: BTreeMap<String, u64> = BTreeMap::new();
    for oracle in searches.iter().filter_map(|search| search.oracle.clone()) {
        *oracles.entry(oracle).or_default() += 1;
    }
    // The one that found it most often; of equals, the first by name.
    let oracle = oracles.iter().max_by_key(|(_, count)| **count).map(|(oracle, _)| oracle.clone());
    let mut seeds: Vec<u64> = searches.iter().map(|search| search.seeds.unwrap_or(u64::MAX)).collect();
    let mut core_seconds: Vec<f64> = searches
        .iter()
        .map(|search| if search.seeds.is_some() { search.core_seconds } else { f64::MAX })
        .collect();
    seeds.sort_unstable();
    core_seconds.sort_unstable_by(f64::total_cmp);
    let found = |value: u64| (value < u64::MAX).then_some(value);
    let milli = |value: f64| (value < f64::MAX).then_some((value * 1_000.0).round() / 1_000.0);
    Row {
        ranges: searches.len() as u64,
        killed: searches.iter().filter(|search| search.seeds.is_some()).count() as u64,
        oracle,
        seeds_median: percentile(&seeds, 50).and_then(found),
        seeds_p90: percentile(&seeds, 90).and_then(found),
        core_seconds_median: percentile(&core_seconds, 50).and_then(milli),
        core_seconds_p90: percentile(&core_seconds, 90).and_then(milli),
        ..Row::new(mutant, stage)
    }
}

/// The smallest value that is not below `percent` of the sorted `values`.
fn percentile<T: Copy>(values: &[T], percent: usize) -> Option<T> {
    let place = (values.len() * percent).div_ceil(100);
    values.get(place.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests;
