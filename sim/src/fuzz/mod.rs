//! Many seeds in parallel: each run in its own thread, results in the order of the seeds.
//!
//! What a seed does never depends on how many jobs there are or which one takes it, and neither does the output.

pub mod results;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use eraft::random::Draws;

pub use results::{Head, ResultsError, Run, Writer, merge};

use crate::artifact::{Artifact, RunRequest};
use crate::coverage::Coverage;
use crate::digest::hex;
use crate::outcome::{Outcome, Verdict, Violation};
use crate::runner::{self, Internal, RunOptions, Simulate};
use crate::scenario::Scenario;
use crate::schedule::Plan;

/// A campaign of at least this many runs of one scenario has to deliver every kind of fault and use every oracle.
pub const VACUITY_RUNS_MIN: u64 = 100;

/// A scenario with its text, which goes into artifacts.
#[derive(Clone, Debug)]
pub struct Source {
    /// As it was named.
    pub file: String,
    /// The file's text.
    pub text: String,
    /// What it says.
    pub scenario: Scenario,
}

impl Source {
    /// Reads a scenario file; the error names it.
    pub fn read(path: &Path) -> Result<Self, String> {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| {
            format!("{file}: {error}; `eraft-sim list` shows the scenarios that there are")
        })?;
        let scenario = Scenario::parse(&file, &text).map_err(|error| error.to_string())?;
        Ok(Self { file, text, scenario })
    }

    /// The run of `seed`.
    pub fn request(&self, seed: u64, mutant: Option<&str>) -> RunRequest {
        RunRequest {
            scenario_file: self.file.clone(),
            scenario: self.scenario.name.clone(),
            scenario_text: self.text.clone(),
            is_scripted: self.scenario.is_scripted(),
            seed,
            mutant: mutant.map(str::to_owned),
            plan: Plan::new(&self.scenario, seed),
        }
    }
}

/// What a campaign does.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// The scenarios; each seed is run in each.
    pub sources: Vec<Source>,
    /// The first seed.
    pub first_seed: u64,
    /// Seeds below this; `None`: until the time is over.
    pub end_seed: Option<u64>,
    /// Begin no run after this.
    pub time: Option<Duration>,
    /// Threads.
    pub jobs: usize,
    /// This part (counted from 0) of so many parts of the seeds.
    pub shard: (u64, u64),
    /// The planted bug.
    pub mutant: Option<String>,
    /// Run so many percent of the seeds twice and compare.
    pub check_determinism_percent: u64,
    /// Go on after a failure.
    pub keep_going: bool,
    /// Where artifacts go.
    pub out: PathBuf,
    /// Runs of an earlier part of the same campaign: it goes on after them.
    pub done: Vec<Run>,
    /// Set from outside: begin no more runs.
    pub stop: Arc<AtomicBool>,
}

/// One line of `fuzz -o json`, and the result of `run`.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Line {
    /// The scenario's name.
    pub scenario: String,
    /// The seed.
    pub seed: u64,
    /// The digest of all events.
    #[serde(with = "hex")]
    pub digest: u64,
    /// The judgement.
    pub verdict: Verdict,
    /// Simulated time.
    pub sim_seconds: f64,
    /// Real time.
    pub wall_seconds: f64,
    /// Client operations.
    pub operations: u64,
    /// Faults delivered, by kind.
    pub faults: BTreeMap<String, u64>,
    /// Points of the product's code that were forced, and how often.
    #[serde(default)]
    pub buggify: BTreeMap<String, u64>,
    /// Shards that arrived at another group.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub migrations: u64,
    /// Why it did not pass.
    pub violation: Option<Violation>,
    /// Where the artifact is.
    pub artifact: Option<PathBuf>,
    /// From the end of the faults to a leader.
    pub leader_after_ms: Option<u64>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Line {
    /// The line of a run.
    pub fn new(request: &RunRequest, outcome: &Outcome, artifact: Option<PathBuf>) -> Self {
        Self {
            scenario: request.scenario.clone(),
            seed: request.seed,
            digest: outcome.digest,
            verdict: outcome.verdict,
            sim_seconds: outcome.sim_seconds,
            wall_seconds: outcome.wall_seconds,
            operations: outcome.operations,
            faults: outcome.faults.clone(),
            buggify: outcome.buggify.clone(),
            migrations: outcome.migrations,
            violation: outcome.violation.clone(),
            artifact,
            leader_after_ms: outcome.leader_after_ms,
        }
    }
}

/// What a campaign came to.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Summary {
    /// Runs that ended.
    pub runs: u64,
    /// By verdict.
    pub verdicts: BTreeMap<&'static str, u64>,
    /// Simulated time.
    pub sim_seconds: f64,
    /// Real time of the campaign.
    pub wall_seconds: f64,
    /// Client operations.
    pub operations: u64,
    /// Faults delivered, by kind.
    pub faults: BTreeMap<String, u64>,
    /// Points of the product's code that were forced, and how often.
    pub buggify: BTreeMap<String, u64>,
    /// Seeds that were run twice, and differed.
    pub determinism_checked: u64,
    /// Seeds whose two runs had two digests.
    pub nondeterministic: Vec<u64>,
    /// `scenario: id` of enabled faults and points that were never delivered and oracles that never judged.
    pub vacuous: Vec<String>,
    /// From the end of the faults to a leader: median, 99th percentile, maximum.
    pub leader_after_ms: Option<(u64, u64, u64)>,
    /// Shards that arrived at another group: in how many runs, of how many, and how many in the median run and in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub migrations: Option<(u64, u64, u64, u64)>,
    /// States of the protocol that were reached; as JSON, counts, and in words what was not.
    #[serde(serialize_with = "coverage_in_words")]
    pub coverage: Coverage,
    /// It was asked to end before it was through.
    pub is_interrupted: bool,
}

fn coverage_in_words<S: serde::Serializer>(coverage: &Coverage, serializer: S) -> Result<S::Ok, S::Error> {
    serde::Serialize::serialize(&coverage.report(), serializer)
}

/// What a scenario's runs delivered and judged together, for vacuity.
#[derive(Default)]
struct Counts {
    runs: u64,
    enabled: BTreeMap<String, u64>,
    delivered: BTreeMap<String, u64>,
    checks: BTreeMap<String, u64>,
    judged: BTreeMap<String, u64>,
}

struct Finished {
    position: u64,
    request: RunRequest,
    outcome: Outcome,
    again: Option<u64>,
}

/// Runs a campaign; `each` sees every result, in the order of the seeds.
pub fn fuzz(
    simulate: Simulate,
    campaign: &Campaign,
    mut each: impl FnMut(&Run),
) -> Result<Summary, Internal> {
    let begun = Instant::now();
    let next = Mutex::new(campaign.done.len() as u64);
    let stop = AtomicBool::new(false);
    let mut tally = Tally::default();
    campaign.done.iter().for_each(|run| tally.count(run));
    let (sender, receiver) = mpsc::sync_channel(campaign.jobs.max(1) * 4);
    let failure = std::thread::scope(|scope| {
        for _ in 0..campaign.jobs.max(1) {
            let sender = sender.clone();
            let (next, stop) = (&next, &stop);
            scope.spawn(move || worker(simulate, campaign, begun, next, stop, &sender));
        }
        drop(sender);
        let mut waiting = BTreeMap::new();
        let mut due = campaign.done.len() as u64;
        let mut failure = None;
        let mut is_over = false;
        for message in receiver {
            match message {
                Err(error) => {
                    stop.store(true, Ordering::SeqCst);
                    failure.get_or_insert(error);
                }
                Ok(finished) => {
                    waiting.insert(finished.position, finished);
                }
            }
            while let Some(finished) = waiting.remove(&due) {
                due += 1;
                // What other jobs ran beyond the first failure is dropped: the output does not depend on `jobs`.
                if is_over {
                    continue;
                }
                match finished.into_run(&campaign.out) {
                    Ok(run) => {
                        tally.count(&run);
                        each(&run);
                        if run.line.verdict != Verdict::Pass && !campaign.keep_going {
                            is_over = true;
                            stop.store(true, Ordering::SeqCst);
                        }
                    }
                    Err(error) => {
                        stop.store(true, Ordering::SeqCst);
                        failure.get_or_insert(error);
                        is_over = true;
                    }
                }
            }
        }
        failure
    });
    match failure {
        Some(error) => Err(error),
        None => {
            let mut summary = tally.summary(campaign.mutant.as_deref(), begun.elapsed());
            summary.is_interrupted = campaign.stop.load(Ordering::SeqCst);
            Ok(summary)
        }
    }
}

fn worker(
    simulate: Simulate,
    campaign: &Campaign,
    begun: Instant,
    next: &Mutex<u64>,
    stop: &AtomicBool,
    sender: &mpsc::SyncSender<Result<Finished, Internal>>,
) {
    loop {
        let position = {
            let mut next = next.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let is_stopped = stop.load(Ordering::SeqCst) || campaign.stop.load(Ordering::SeqCst);
            if is_stopped || campaign.time.is_some_and(|time| begun.elapsed() >= time) {
                return;
            }
            *next += 1;
            *next - 1
        };
        let Some((source, seed)) = campaign.at(position) else { return };
        let result = one(simulate, campaign, position, source, seed);
        let is_error = result.is_err();
        if sender.send(result).is_err() || is_error {
            return;
        }
    }
}

fn one(
    simulate: Simulate,
    campaign: &Campaign,
    position: u64,
    source: usize,
    seed: u64,
) -> Result<Finished, Internal> {
    let request = campaign.sources[source].request(seed, campaign.mutant.as_deref());
    let outcome = runner::run(simulate, &request, &RunOptions::default())?;
    let chosen = Draws::new(seed, "check-determinism").draw("run", 0, 0).below(100);
    let again = if chosen < campaign.check_determinism_percent {
        Some(runner::run(simulate, &request, &RunOptions::default())?.digest)
    } else {
        None
    };
    Ok(Finished { position, request, outcome, again })
}

impl Campaign {
    /// The scenario and the seed at `position` of this shard's sequence.
    fn at(&self, position: u64) -> Option<(usize, u64)> {
        let sources = self.sources.len() as u64;
        let (part, parts) = self.shard;
        let offset = (position / sources).checked_mul(parts)?.checked_add(part)?;
        let seed = self.first_seed.checked_add(offset)?;
        let is_inside = self.end_seed.is_none_or(|end| seed < end);
        is_inside.then_some(((position % sources) as usize, seed))
    }
}

impl Finished {
    /// The run as the campaign counts it; if it did not pass its artifact is written into `out`.
    fn into_run(self, out: &Path) -> Result<Run, Internal> {
        let Finished { request, mut outcome, again, .. } = self;
        let same_twice = again.map(|digest| digest == outcome.digest);
        if let Some(digest) = again.filter(|digest| *digest != outcome.digest) {
            let digests = format!("{} and {}", hex::text(outcome.digest), hex::text(digest));
            outcome.verdict = Verdict::Fail;
            outcome.violation.get_or_insert(Violation::new(
                "sim.determinism",
                format!("seed {} run twice has two digests: {digests}", request.seed),
            ));
        }
        let mut artifact = None;
        if outcome.verdict != Verdict::Pass {
            let written = Artifact::new(&request, &outcome).write_into(out);
            artifact = Some(written.map_err(|error| Internal(error.to_string()))?);
        }
        Ok(Run {
            line: Line::new(&request, &outcome, artifact),
            kinds: request.plan.kinds.clone(),
            points: request.plan.configuration.buggify.keys().cloned().collect(),
            checks: request.plan.must_judge().into_iter().map(str::to_owned).collect(),
            judged: outcome.judged,
            same_twice,
            coverage: outcome.coverage,
        })
    }
}

/// The summary of runs that are over, however they were run.
pub fn summarise(runs: &[Run], mutant: Option<&str>) -> Summary {
    let mut tally = Tally::default();
    runs.iter().for_each(|run| tally.count(run));
    let wall_seconds = runs.iter().map(|run| run.line.wall_seconds).sum();
    tally.summary(mutant, Duration::from_secs_f64(wall_seconds))
}

#[derive(Default)]
struct Tally {
    summary: Summary,
    scenarios: BTreeMap<String, Counts>,
    leader_after_ms: Vec<u64>,
    migrations: Vec<u64>,
}

impl Tally {
    fn count(&mut self, run: &Run) {
        let add = |counts: &mut BTreeMap<String, u64>, id: &str, number: u64| {
            *counts.entry(id.to_owned()).or_default() += number;
        };
        let summary = &mut self.summary;
        let line = &run.line;
        summary.runs += 1;
        *summary.verdicts.entry(line.verdict.word()).or_default() += 1;
        summary.sim_seconds += line.sim_seconds;
        summary.operations += line.operations;
        summary.coverage.add(&run.coverage);
        if let Some(is_same) = run.same_twice {
            summary.determinism_checked += 1;
            summary.nondeterministic.extend((!is_same).then_some(line.seed));
        }
        self.leader_after_ms.extend(line.leader_after_ms);
        self.migrations.push(line.migrations);
        let counts = self.scenarios.entry(line.scenario.clone()).or_default();
        counts.runs += 1;
        for kind in run.kinds.iter().chain(&run.points) {
            add(&mut counts.enabled, kind, 1);
        }
        for check in &run.checks {
            add(&mut counts.checks, check, 1);
        }
        for (kind, delivered) in &line.faults {
            add(&mut summary.faults, kind, *delivered);
            add(&mut counts.delivered, kind, *delivered);
        }
        for (point, forced) in &line.buggify {
            add(&mut summary.buggify, point, *forced);
            add(&mut counts.delivered, point, *forced);
        }
        for (oracle, judged) in &run.judged {
            add(&mut counts.judged, oracle, *judged);
        }
    }

    fn summary(mut self, mutant: Option<&str>, elapsed: Duration) -> Summary {
        self.summary.wall_seconds = elapsed.as_secs_f64();
        for (name, counts) in &self.scenarios {
            // A campaign that a failure ended has shown something, and a planted bug ends many runs early.
            if counts.runs < VACUITY_RUNS_MIN || mutant.is_some() {
                continue;
            }
            let never = |wanted: &BTreeMap<String, u64>, seen: &BTreeMap<String, u64>| {
                wanted
                    .keys()
                    .filter(|id| seen.get(*id).copied().unwrap_or(0) == 0)
                    .cloned()
                    .collect::<Vec<_>>()
            };
            let mut missing = never(&counts.enabled, &counts.delivered);
            missing.extend(never(&counts.checks, &counts.judged));
            self.summary.vacuous.extend(missing.into_iter().map(|id| format!("{name}: {id}")));
        }
        self.migrations.sort_unstable();
        let some = self.migrations.iter().filter(|count| **count > 0).count() as u64;
        let (runs, all) = (self.migrations.len() as u64, self.migrations.iter().sum());
        let median = self.migrations.get(self.migrations.len() / 2).copied().unwrap_or(0);
        self.summary.migrations = (some > 0).then_some((some, runs, median, all));
        self.leader_after_ms.sort_unstable();
        let at = |percent: usize| {
            let last = self.leader_after_ms.len().saturating_sub(1);
            self.leader_after_ms.get(last * percent / 100).copied()
        };
        self.summary.leader_after_ms = at(50).zip(at(99)).zip(at(100)).map(|((a, b), c)| (a, b, c));
        self.summary
    }
}

#[cfg(test)]
mod tests;
