//! Many seeds in parallel: each run in its own thread, results in the order of the seeds.
//!
//! What a seed does never depends on how many jobs there are or which one takes it, and neither does the output.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use eraft::random::Draws;

use crate::artifact::{Artifact, RunRequest};
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
}

/// One line of `fuzz -o json`, and the result of `run`.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
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
    /// Why it did not pass.
    pub violation: Option<Violation>,
    /// Where the artifact is.
    pub artifact: Option<PathBuf>,
    /// From the end of the faults to a leader.
    pub leader_after_ms: Option<u64>,
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
    /// Seeds that were run twice, and differed.
    pub determinism_checked: u64,
    /// Seeds whose two runs had two digests.
    pub nondeterministic: Vec<u64>,
    /// `scenario: id` of enabled faults that were never delivered and oracles that never judged.
    pub vacuous: Vec<String>,
    /// From the end of the faults to a leader: median, 99th percentile, maximum.
    pub leader_after_ms: Option<(u64, u64, u64)>,
}

/// What a scenario's runs delivered and judged together, for vacuity.
#[derive(Default)]
struct Coverage {
    runs: u64,
    enabled: BTreeMap<String, u64>,
    delivered: BTreeMap<String, u64>,
    checks: BTreeMap<String, u64>,
    judged: BTreeMap<String, u64>,
}

struct Finished {
    position: u64,
    source: usize,
    request: RunRequest,
    outcome: Outcome,
    again: Option<u64>,
}

/// Runs a campaign; `each` sees every result, in the order of the seeds.
pub fn fuzz(
    simulate: Simulate,
    campaign: &Campaign,
    mut each: impl FnMut(&Line),
) -> Result<Summary, Internal> {
    let begun = Instant::now();
    let next = Mutex::new(0u64);
    let stop = AtomicBool::new(false);
    let mut tally = Tally::new(campaign.sources.len());
    let (sender, receiver) = mpsc::sync_channel(campaign.jobs.max(1) * 4);
    let failure = std::thread::scope(|scope| {
        for _ in 0..campaign.jobs.max(1) {
            let sender = sender.clone();
            let (next, stop) = (&next, &stop);
            scope.spawn(move || worker(simulate, campaign, begun, next, stop, &sender));
        }
        drop(sender);
        let mut waiting = BTreeMap::new();
        let mut due = 0;
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
                match tally.take(campaign, &finished) {
                    Ok(line) => {
                        each(&line);
                        if line.verdict != Verdict::Pass && !campaign.keep_going {
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
        None => Ok(tally.summary(campaign, begun.elapsed())),
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
            if stop.load(Ordering::SeqCst) || campaign.time.is_some_and(|time| begun.elapsed() >= time) {
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
    Ok(Finished { position, source, request, outcome, again })
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

struct Tally {
    summary: Summary,
    coverage: Vec<Coverage>,
    leader_after_ms: Vec<u64>,
}

impl Tally {
    fn new(sources: usize) -> Self {
        Self {
            summary: Summary::default(),
            coverage: (0..sources).map(|_| Coverage::default()).collect(),
            leader_after_ms: Vec::new(),
        }
    }

    fn take(&mut self, campaign: &Campaign, finished: &Finished) -> Result<Line, Internal> {
        let Finished { request, outcome, again, .. } = finished;
        let mut outcome = outcome.clone();
        if let Some(digest) = again {
            self.summary.determinism_checked += 1;
            if *digest != outcome.digest {
                self.summary.nondeterministic.push(request.seed);
                let digests = format!("{} and {}", hex::text(outcome.digest), hex::text(*digest));
                outcome.verdict = Verdict::Fail;
                outcome.violation.get_or_insert(Violation::new(
                    "sim.determinism",
                    format!("seed {} run twice has two digests: {digests}", request.seed),
                ));
            }
        }
        self.count(finished.source, &request.plan, &outcome);
        let mut artifact = None;
        if outcome.verdict != Verdict::Pass {
            let written = Artifact::new(request, &outcome).write_into(&campaign.out);
            artifact = Some(written.map_err(|error| Internal(error.to_string()))?);
        }
        Ok(Line::new(request, &outcome, artifact))
    }

    fn count(&mut self, source: usize, plan: &Plan, outcome: &Outcome) {
        let add = |counts: &mut BTreeMap<String, u64>, id: &str, number: u64| {
            *counts.entry(id.to_owned()).or_default() += number;
        };
        let summary = &mut self.summary;
        summary.runs += 1;
        *summary.verdicts.entry(outcome.verdict.word()).or_default() += 1;
        summary.sim_seconds += outcome.sim_seconds;
        summary.operations += outcome.operations;
        self.leader_after_ms.extend(outcome.leader_after_ms);
        let coverage = &mut self.coverage[source];
        coverage.runs += 1;
        for kind in &plan.kinds {
            add(&mut coverage.enabled, kind, 1);
        }
        for check in plan.must_judge() {
            add(&mut coverage.checks, check, 1);
        }
        for (kind, delivered) in &outcome.faults {
            add(&mut summary.faults, kind, *delivered);
            add(&mut coverage.delivered, kind, *delivered);
        }
        for (oracle, judged) in &outcome.judged {
            add(&mut coverage.judged, oracle, *judged);
        }
    }

    fn summary(mut self, campaign: &Campaign, elapsed: Duration) -> Summary {
        self.summary.wall_seconds = elapsed.as_secs_f64();
        for (source, coverage) in campaign.sources.iter().zip(&self.coverage) {
            // A campaign that a failure ended has shown something, and a planted bug ends many runs early.
            if coverage.runs < VACUITY_RUNS_MIN || campaign.mutant.is_some() {
                continue;
            }
            let never = |wanted: &BTreeMap<String, u64>, seen: &BTreeMap<String, u64>| {
                wanted
                    .keys()
                    .filter(|id| seen.get(*id).copied().unwrap_or(0) == 0)
                    .cloned()
                    .collect::<Vec<_>>()
            };
            let mut missing = never(&coverage.enabled, &coverage.delivered);
            missing.extend(never(&coverage.checks, &coverage.judged));
            let name = &source.scenario.name;
            self.summary.vacuous.extend(missing.into_iter().map(|id| format!("{name}: {id}")));
        }
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
