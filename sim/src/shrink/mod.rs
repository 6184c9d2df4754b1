//! Shrinking: the smallest plan that still ends in the same violation.
//!
//! A plan is data and every draw is counter-based, so whatever is taken out of it, the rest stays what it was. Faults,
//! operations, clients, nodes, settings and time are removed or made simpler, as long as a run of what is left fails
//! with the same fingerprint. Candidates are tried in parallel and in a fixed order, and the first that fails is
//! taken: the result is a function of the artifact and the budget, never of the number of threads or of the machine.

mod passes;
mod simpler;

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::artifact::RunRequest;
use crate::outcome::{Outcome, Verdict};
use crate::parallel;
use crate::runner::{self, Internal, RunOptions, Simulate};
use crate::schedule::Plan;

/// A candidate may fail so much later than the plan it is made from, as a factor and a constant.
const LATER_FACTOR: u64 = 2;
const LATER_MS: u64 = 2_000;
/// The passes over everything are repeated while they find something, at most so often.
const ROUNDS_MAX: usize = 4;
/// As long as more faults than this are left, other latencies are tried too.
const FAULTS_ENOUGH: usize = 3;
/// How many other seeds each of those candidates is run with.
const OTHER_SEEDS: u64 = 4;

/// Candidates that are run, at most, if nobody says otherwise.
pub const RUNS_MAX: u64 = 2_000;

/// How hard to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Threads.
    pub jobs: usize,
    /// Candidates that are run, at most. Not a time: the result must not depend on the machine.
    pub runs_max: u64,
}

/// How large a run is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Size {
    /// Faults in the schedule.
    pub faults: usize,
    /// Operations of all clients while faults happen.
    pub operations: usize,
    /// Members of the group.
    pub nodes: u64,
    /// Clients.
    pub clients: u64,
    /// Simulated time up to the verdict.
    pub sim_seconds: f64,
}

impl Size {
    /// Of a plan that was run.
    pub fn of(plan: &Plan, outcome: &Outcome) -> Self {
        Self {
            faults: plan.faults.len(),
            operations: plan.operations.iter().map(Vec::len).sum(),
            nodes: plan.configuration.cluster.nodes,
            clients: plan.configuration.workload.clients,
            sim_seconds: outcome.sim_seconds,
        }
    }
}

/// What shrinking came to.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The smallest run.
    pub request: RunRequest,
    /// What it came to, run to its own end.
    pub outcome: Outcome,
    /// The size at first.
    pub before: Size,
    /// The size now.
    pub after: Size,
    /// Candidates that were run.
    pub runs: u64,
    /// The budget ended the search.
    pub is_out_of_runs: bool,
}

/// Why there is nothing to shrink.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShrinkError {
    /// The run passes, or fails otherwise.
    #[error("the artifact's run no longer ends in `{wanted}` but in `{found}`: nothing to shrink")]
    Another {
        /// The artifact's fingerprint.
        wanted: String,
        /// The fingerprint or verdict now.
        found: String,
    },
    /// The simulator failed.
    #[error(transparent)]
    Internal(#[from] Internal),
}

/// Shrinks `request`, whose run fails with `fingerprint`; `progress` hears of every candidate.
pub fn shrink(
    simulate: Simulate,
    request: &RunRequest,
    fingerprint: &str,
    effort: Effort,
    progress: &(dyn Fn(u64, &Plan) + Sync),
) -> Result<Shrunk, ShrinkError> {
    let first = runner::run(simulate, request, &RunOptions::default())?;
    let found = fingerprint_of(&first);
    if found != Some(fingerprint) {
        let found = found.unwrap_or(first.verdict.word()).to_owned();
        return Err(ShrinkError::Another { wanted: fingerprint.to_owned(), found });
    }
    let before = Size::of(&request.plan, &first);
    let mut shrinker = Shrinker {
        simulate,
        fingerprint,
        effort,
        progress,
        best: request.clone(),
        outcome: first,
        runs: 0,
        is_out_of_runs: false,
    };
    shrinker.all_passes()?;
    let plan = &mut shrinker.best.plan;
    let is_left = |kind: &String| plan.faults.iter().any(|fault| fault.kind().id() == kind);
    plan.kinds.retain(is_left);
    let outcome = runner::run(simulate, &shrinker.best, &RunOptions::default())?;
    if fingerprint_of(&outcome) != Some(fingerprint) {
        let found = fingerprint_of(&outcome).unwrap_or(outcome.verdict.word());
        let why = format!("the shrunk plan ends in `{found}` when it is run again, not in `{fingerprint}`");
        return Err(Internal(why).into());
    }
    Ok(Shrunk {
        before,
        after: Size::of(&shrinker.best.plan, &outcome),
        request: shrinker.best,
        outcome,
        runs: shrinker.runs,
        is_out_of_runs: shrinker.is_out_of_runs,
    })
}

fn fingerprint_of(outcome: &Outcome) -> Option<&str> {
    match outcome.verdict {
        Verdict::Pass => None,
        _ => outcome.violation.as_ref().map(|violation| violation.fingerprint.as_str()),
    }
}

/// The search: the smallest failing run so far, and what may still be tried.
struct Shrinker<'a> {
    simulate: Simulate,
    fingerprint: &'a str,
    effort: Effort,
    progress: &'a (dyn Fn(u64, &Plan) + Sync),
    best: RunRequest,
    outcome: Outcome,
    runs: u64,
    is_out_of_runs: bool,
}

impl Shrinker<'_> {
    fn all_passes(&mut self) -> Result<(), Internal> {
        for round in 0..ROUNDS_MAX {
            let before = (self.best.seed, self.best.plan.clone());
            self.time()?;
            self.operations_of_each()?;
            self.forced_points()?;
            self.faults(0)?;
            self.nodes()?;
            self.clients()?;
            if self.best.plan.faults.len() > FAULTS_ENOUGH {
                self.faults(OTHER_SEEDS)?;
            }
            self.quiet_settings()?;
            self.single_operations()?;
            self.simpler_faults()?;
            self.time()?;
            let is_same = before == (self.best.seed, self.best.plan.clone());
            if is_same || self.is_out_of_runs || round + 1 == ROUNDS_MAX {
                break;
            }
        }
        Ok(())
    }

    /// Until when a candidate is run: long enough to fail as the best one does, and no longer.
    fn until_ms(&self) -> Option<u64> {
        (!self.outcome.is_complete).then(|| self.failed_at_ms() * LATER_FACTOR + LATER_MS)
    }

    fn failed_at_ms(&self) -> u64 {
        (self.outcome.sim_seconds * 1_000.0) as u64
    }

    /// Tries `candidates` in order and keeps the first that fails in the same way; its place.
    fn try_first(&mut self, candidates: &[RunRequest]) -> Result<Option<usize>, Internal> {
        let left = self.effort.runs_max.saturating_sub(self.runs);
        let tried = candidates.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        self.is_out_of_runs |= tried < candidates.len();
        let options = RunOptions { until_ms: self.until_ms(), ..RunOptions::default() };
        let fails = |request: &RunRequest| -> Result<Option<Outcome>, Internal> {
            let outcome = runner::run(self.simulate, request, &options)?;
            (self.progress)(self.runs, &self.best.plan);
            Ok((fingerprint_of(&outcome) == Some(self.fingerprint)).then_some(outcome))
        };
        let found = parallel::first(&candidates[..tried], self.effort.jobs, fails)?;
        // Counted as one thread would run them, so that the budget means the same for any number of threads.
        self.runs += found.as_ref().map_or(tried, |(place, _)| place + 1) as u64;
        let Some((place, outcome)) = found else { return Ok(None) };
        self.best = candidates[place].clone();
        self.outcome = outcome;
        Ok(Some(place))
    }

    /// Removes runs of consecutive things, large ones first. `len` counts them, `without` makes a plan without some;
    /// each is tried with the present seed, or with so many other ones.
    fn remove(
        &mut self,
        other_seeds: u64,
        len: impl Fn(&Plan) -> usize,
        without: impl Fn(&Plan, Range<usize>) -> Plan,
    ) -> Result<(), Internal> {
        let mut size = len(&self.best.plan);
        while size >= 1 {
            // From the end: what comes late is seldom what matters, and does not move what was before.
            let mut end = len(&self.best.plan);
            while end > 0 && !self.is_out_of_runs {
                let seeds = self.seeds(other_seeds);
                let mut starts = Vec::new();
                let mut candidates = Vec::new();
                let mut high = end;
                while high > 0 {
                    let low = high.saturating_sub(size);
                    let plan = without(&self.best.plan, low..high);
                    for seed in &seeds {
                        starts.push(low);
                        candidates.push(RunRequest { seed: *seed, plan: plan.clone(), ..self.best.clone() });
                    }
                    high = low;
                }
                match self.try_first(&candidates)? {
                    Some(place) => end = starts[place],
                    None => break,
                }
            }
            size /= 2;
        }
        Ok(())
    }

    fn seeds(&self, others: u64) -> Vec<u64> {
        match others {
            0 => vec![self.best.seed],
            others => (1..=others).map(|more| self.best.seed.wrapping_add(more)).collect(),
        }
    }

    /// Tries plans that are made from the best one, until none of them fails any more.
    fn each(&mut self, plans: impl Fn(&Plan, &Outcome) -> Vec<Plan>) -> Result<(), Internal> {
        let mut skip = 0;
        loop {
            let of = |plan: Plan| RunRequest { plan, ..self.best.clone() };
            let candidates: Vec<RunRequest> =
                plans(&self.best.plan, &self.outcome).into_iter().map(of).collect();
            // What did not work before an accepted one is tried again in the next round only.
            let rest = candidates.get(skip..).unwrap_or_default();
            match self.try_first(rest)? {
                Some(place) => skip += place,
                None => return Ok(()),
            }
        }
    }
}

#[cfg(test)]
mod tests;
