//! The random scheduler over the pure core: no task, no clock, no codec, so millions of steps a second.
//!
//! Each seed is one run: a small group whose shape, rates and bounds are drawn (swarm), a network that loses,
//! repeats and reorders, disks whose writes complete some time, crashes between a write and its completion,
//! compaction and snapshots. After every step all invariants are judged; at the end everything heals and the group
//! has to make progress. A run is a function of its seed, so a seed is a reproduction.

pub(crate) mod dice;
mod liveness;
pub(crate) mod node;
pub(crate) mod quiet;
pub(crate) mod seeds;
mod swarm;
mod world;

use std::collections::BTreeMap;
use std::time::Duration;

use eraft::mutants::Mutants;
use serde::{Deserialize, Serialize};

use crate::invariants::{Suite, Violation};
use seeds::{Searched, Tally, note_step};
use world::World;

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The first seed.
    pub seed: u64,
    /// At most this many seeds.
    pub seeds_max: u64,
    /// No new seed is begun after this time.
    pub time_max: Option<Duration>,
    /// Threads.
    pub jobs: usize,
    /// The planted bug, if any.
    pub mutants: Mutants,
    /// Only these invariants judge; empty: all.
    pub oracles: Vec<&'static str>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 0,
            seeds_max: u64::MAX,
            time_max: None,
            jobs: 1,
            mutants: Mutants::default(),
            oracles: Vec::new(),
        }
    }
}

/// Whether the core holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// No seed violated anything.
    Pass,
    /// A seed did.
    Fail,
    /// Nothing was violated, but some invariant never compared anything in [`VACUITY_SEEDS_MIN`] seeds or more.
    Vacuous,
}

impl Verdict {
    /// Its word in reports.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Fail => "fail",
            Verdict::Vacuous => "vacuous",
        }
    }
}

/// From so many seeds on an invariant that never judged is a finding.
pub const VACUITY_SEEDS_MIN: u64 = 100;

/// A violation and how to see it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoreViolation {
    /// The smallest seed that fails.
    pub seed: u64,
    /// The step of that run.
    pub step: u64,
    /// What failed.
    #[serde(flatten)]
    pub violation: Violation,
}

/// What was run and what came of it. Of a failing campaign only the seeds up to the failing one count, so the
/// report (but for the rate) does not depend on timing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CoreReport {
    /// Runs.
    pub seeds: u64,
    /// Steps of cores, each judged by all invariants.
    pub steps: u64,
    /// Steps per wall-clock second, over all threads.
    pub steps_per_second: u64,
    /// What all threads took of their processors, in seconds.
    pub core_seconds: f64,
    /// Entries committed by counting.
    pub commits: u64,
    /// Leaders elected.
    pub elections: u64,
    /// Snapshots installed.
    pub snapshots: u64,
    /// Linearizable reads answered.
    pub reads: u64,
    /// Transfers of leadership after which the node that was asked led no more.
    pub transfers: u64,
    /// How often each invariant compared something.
    pub judged: BTreeMap<String, u64>,
    /// The smallest seed that failed.
    pub violation: Option<CoreViolation>,
    /// The outcome.
    pub verdict: Verdict,
}

/// What one or more runs did.
#[derive(Clone, Debug, Default)]
struct Stats {
    steps: u64,
    commits: u64,
    elections: u64,
    snapshots: u64,
    reads: u64,
    transfers: u64,
    judged: BTreeMap<&'static str, u64>,
}

impl Tally for Stats {
    fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.commits += other.commits;
        self.elections += other.elections;
        self.snapshots += other.snapshots;
        self.reads += other.reads;
        self.transfers += other.transfers;
        for (id, judged) in &other.judged {
            *self.judged.entry(id).or_default() += judged;
        }
    }

    fn of_steps(steps: u64) -> Self {
        Self { steps, ..Self::default() }
    }
}

/// One seed's run.
fn run_seed(seed: u64, options: &Options) -> (Stats, Option<CoreViolation>) {
    seeds::caught(seed, || {
        let suite = if options.oracles.is_empty() { Suite::default() } else { Suite::only(&options.oracles) };
        let mut world = World::new(seed, options.mutants, suite);
        let result = world.run().and_then(|()| world.prove_liveness());
        let mut stats = world.stats;
        stats.judged = world.suite.judged().collect();
        (stats, result)
    })
}

/// Runs seeds until one fails or a bound is reached. Seeds are begun in order, so the one reported is the smallest.
pub fn run(options: &Options) -> CoreReport {
    report(seeds::search(options, |seed| run_seed(seed, options)))
}

/// The outcome of a search in which each of `judged` compared something so often.
pub(crate) fn verdict(found: bool, seeds: u64, judged: &BTreeMap<&'static str, u64>) -> Verdict {
    match found {
        true => Verdict::Fail,
        false if seeds >= VACUITY_SEEDS_MIN && judged.values().any(|judged| *judged == 0) => Verdict::Vacuous,
        false => Verdict::Pass,
    }
}

fn report(searched: Searched<Stats>) -> CoreReport {
    let Searched { seeds, total, violation, elapsed, core_seconds } = searched;
    CoreReport {
        seeds,
        steps: total.steps,
        steps_per_second: (total.steps as f64 / elapsed.as_secs_f64().max(1e-9)) as u64,
        core_seconds,
        commits: total.commits,
        elections: total.elections,
        snapshots: total.snapshots,
        reads: total.reads,
        verdict: verdict(violation.is_some(), seeds, &total.judged),
        transfers: total.transfers,
        judged: total.judged.iter().map(|(id, judged)| ((*id).to_owned(), *judged)).collect(),
        violation,
    }
}
