//! The random scheduler over the pure core: no task, no clock, no codec, so millions of steps a second.
//!
//! Each seed is one run: a small group whose shape, rates and bounds are drawn (swarm), a network that loses,
//! repeats and reorders, disks whose writes complete some time, crashes between a write and its completion,
//! compaction and snapshots. After every step all invariants are judged; at the end everything heals and the group
//! has to make progress. A run is a function of its seed, so a seed is a reproduction.

mod dice;
mod liveness;
pub(crate) mod node;
pub(crate) mod quiet;
mod swarm;
mod world;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use eraft::mutants::Mutants;
use serde::{Deserialize, Serialize};

use crate::invariants::{Suite, Violation};
use crate::runner::thread_core_seconds;
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

impl Stats {
    fn add(&mut self, other: &Stats) {
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
}

thread_local! {
    /// The step that this thread is at, for the report of a panic.
    static STEP: Cell<u64> = const { Cell::new(0) };
}

fn note_step(step: u64) {
    STEP.set(step);
}

/// One seed's run.
fn run_seed(seed: u64, options: &Options) -> (Stats, Option<CoreViolation>) {
    note_step(0);
    let ran = quiet::catch(|| {
        let suite = if options.oracles.is_empty() { Suite::default() } else { Suite::only(&options.oracles) };
        let mut world = World::new(seed, options.mutants, suite);
        let result = world.run().and_then(|()| world.prove_liveness());
        let mut stats = world.stats;
        stats.judged = world.suite.judged().collect();
        (stats, result.err())
    });
    let (stats, violation) = ran.unwrap_or_else(|message| {
        let violation = Violation {
            oracle: "sim.panic".into(),
            fingerprint: format!("sim.panic: {}", without_numbers(&message)),
            message,
        };
        (Stats { steps: STEP.get(), ..Stats::default() }, Some(violation))
    });
    (stats, violation.map(|violation| CoreViolation { seed, step: STEP.get(), violation }))
}

/// `text` with every number replaced by `#`.
fn without_numbers(text: &str) -> String {
    let mut words = String::with_capacity(text.len());
    for letter in text.chars() {
        if !letter.is_ascii_digit() {
            words.push(letter);
        } else if !words.ends_with('#') {
            words.push('#');
        }
    }
    words
}

/// Runs seeds until one fails or a bound is reached. Seeds are begun in order, so the one reported is the smallest.
pub fn run(options: &Options) -> CoreReport {
    let started = Instant::now();
    let next = AtomicU64::new(0);
    let failed = AtomicU64::new(u64::MAX);
    let core_nanos = AtomicU64::new(0);
    let search = || {
        let (mut total, mut unsure, mut violation) = (Stats::default(), Vec::new(), None::<CoreViolation>);
        let mut seeds = 0;
        loop {
            let late = options.time_max.is_some_and(|time_max| started.elapsed() >= time_max);
            let offset = next.fetch_add(1, Ordering::Relaxed);
            if late || offset >= options.seeds_max || offset > failed.load(Ordering::Relaxed) {
                return (seeds, total, unsure, violation);
            }
            let (stats, found) = run_seed(options.seed.wrapping_add(offset), options);
            if let Some(found) = found {
                failed.fetch_min(offset, Ordering::Relaxed);
                violation.get_or_insert(found);
            }
            // The last few may lie beyond a failing seed that another thread is still running.
            unsure.push((offset, stats));
            if unsure.len() > UNSURE_MAX {
                for (_, stats) in unsure.drain(..UNSURE_MAX / 2) {
                    seeds += 1;
                    total.add(&stats);
                }
            }
        }
    };
    let work = || {
        let result = search();
        let core_seconds = thread_core_seconds().unwrap_or_else(|| started.elapsed().as_secs_f64());
        core_nanos.fetch_add((core_seconds * 1e9) as u64, Ordering::Relaxed);
        result
    };
    let jobs = options.jobs.max(1);
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().expect("a run's panic is caught inside")).collect()
    });
    let last = failed.load(Ordering::Relaxed);
    let (mut seeds, mut total) = (0, Stats::default());
    let mut violation = None::<CoreViolation>;
    for (sure, stats, unsure, found) in results {
        seeds += sure;
        total.add(&stats);
        for (_, stats) in unsure.iter().filter(|(offset, _)| *offset <= last) {
            seeds += 1;
            total.add(stats);
        }
        if let Some(found) = found
            && found.seed.wrapping_sub(options.seed) == last
        {
            violation = Some(found);
        }
    }
    let core_seconds = core_nanos.into_inner() as f64 / 1e9;
    report(seeds, &total, violation, started.elapsed(), core_seconds)
}

/// Results that a thread keeps apart: far more than seeds can be under way at once.
const UNSURE_MAX: usize = 4096;

fn report(
    seeds: u64,
    total: &Stats,
    violation: Option<CoreViolation>,
    elapsed: Duration,
    core_seconds: f64,
) -> CoreReport {
    let idle = total.judged.values().any(|judged| *judged == 0);
    let verdict = match &violation {
        Some(_) => Verdict::Fail,
        None if seeds >= VACUITY_SEEDS_MIN && idle => Verdict::Vacuous,
        None => Verdict::Pass,
    };
    CoreReport {
        seeds,
        steps: total.steps,
        steps_per_second: (total.steps as f64 / elapsed.as_secs_f64().max(1e-9)) as u64,
        core_seconds,
        commits: total.commits,
        elections: total.elections,
        snapshots: total.snapshots,
        reads: total.reads,
        transfers: total.transfers,
        judged: total.judged.iter().map(|(id, judged)| ((*id).to_owned(), *judged)).collect(),
        violation,
        verdict,
    }
}
