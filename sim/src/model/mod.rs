//! The model checker over the shipped code: every behaviour within bounds, where the scheduler takes samples.
//!
//! Each [`spec`](specs) is a small world with bounds on what may happen in it; stateright visits every state that can
//! be reached and looks at its properties. What must never be is an `always`, with the oracle's id as its name; what
//! must happen somewhere, lest the model be empty, is a `sometimes`. The worlds are [`group`] (Raft: cores, disks,
//! messages) and [`sessions`] (the key-value machine: clients, retries, eviction).
//!
//! No task, no clock and no runtime: the checker's own threads are all there is.

pub mod bounds;
pub mod group;
mod judge;
pub mod sessions;
pub mod shards;
mod shared;
pub mod specs;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use eraft::mutants::Mutants;
use serde::Serialize;
use stateright::{Checker, Expectation, HasDiscoveries, Model};

use crate::outcome::Verdict;

/// What to check.
#[derive(Clone, Debug)]
pub struct Options {
    /// Only the models of these names; empty: all.
    pub only: Vec<String>,
    /// Threads: as many models at a time.
    pub jobs: usize,
    /// A model that takes longer is left unfinished.
    pub time_max: Option<Duration>,
    /// Other bounds for the models of a group, by name.
    pub bounds: Vec<(String, u8)>,
    /// The planted bug, if any.
    pub mutants: Mutants,
}

/// Ends models early: when time is up, or something was found elsewhere.
#[derive(Clone, Debug, Default)]
pub struct Brake {
    until: Option<Instant>,
    is_pulled: Arc<AtomicBool>,
    is_noticed: Arc<AtomicBool>,
    /// The states are visited: what was found may be followed step by step.
    is_over: Arc<AtomicBool>,
}

impl Brake {
    /// Whether the model has to end; nothing more happens in it then.
    pub fn is_on(&self) -> bool {
        let is_late = self.until.is_some_and(|until| Instant::now() >= until);
        let is_on = is_late || self.is_pulled.load(Ordering::Relaxed);
        if self.is_over.load(Ordering::Relaxed) {
            return false;
        }
        if is_on {
            self.is_noticed.store(true, Ordering::Relaxed);
        }
        is_on
    }
}

/// What is wrong, and how it comes about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ModelViolation {
    /// Which property.
    pub oracle: String,
    /// A sentence with the numbers.
    pub message: String,
    /// What happened, step by step.
    pub steps: Vec<String>,
}

/// What came of one model.
#[derive(Clone, Debug, Serialize)]
pub struct ModelReport {
    /// Its name.
    pub model: String,
    /// What it is about.
    pub about: String,
    /// How far it goes.
    pub bounds: BTreeMap<String, u64>,
    /// Steps that were tried.
    pub steps: u64,
    /// Distinct states.
    pub distinct: u64,
    /// The length of the longest behaviour.
    pub depth: u64,
    /// Wall-clock time.
    pub seconds: f64,
    /// Every state within the bounds was visited.
    pub is_complete: bool,
    /// What had to happen somewhere, and whether it did.
    pub reached: BTreeMap<String, bool>,
    /// The first thing that is wrong.
    pub violation: Option<ModelViolation>,
    /// The outcome.
    pub verdict: Verdict,
}

/// What came of all.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// One by one. Once one has found something, those under way are left undecided and no other is begun.
    pub models: Vec<ModelReport>,
    /// Distinct states, over all models.
    pub distinct: u64,
    /// Wall-clock time.
    pub seconds: f64,
    /// The outcome.
    pub verdict: Verdict,
}

impl Report {
    /// What was found, if anything was.
    pub fn violation(&self) -> Option<&ModelViolation> {
        self.models.iter().find_map(|model| model.violation.as_ref())
    }
}

/// A model with what the report says of it.
pub(crate) struct Spec<M: Model> {
    pub model: M,
    pub name: &'static str,
    pub about: &'static str,
    pub bounds: BTreeMap<String, u64>,
    /// Steps of one behaviour; 0: as many as there are.
    pub depth_max: usize,
    /// A sentence about a state that violates something.
    pub explain: fn(&M, &<M as Model>::State) -> String,
}

/// Checks the models, several at a time, each in one thread: so the states of a model, and what is found first in it,
/// are the same at every run. With a planted bug no further model is begun once one has found it.
pub fn run(options: &Options) -> Report {
    let started = Instant::now();
    let is_pulled = Arc::new(AtomicBool::new(false));
    let is_wanted = |name| options.only.is_empty() || options.only.iter().any(|only| only == name);
    let checks: Vec<_> = specs::all().into_iter().filter(|check| is_wanted(check.name)).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        while !is_pulled.load(Ordering::Relaxed) {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(check) = checks.get(at) else { break };
            let until = options.time_max.map(|time_max| Instant::now() + time_max);
            let brake = Brake { until, is_pulled: is_pulled.clone(), ..Brake::default() };
            let report = (check.run)(options, brake);
            is_pulled.fetch_or(report.verdict == Verdict::Fail, Ordering::Relaxed);
            done.push((at, report));
        }
        done
    };
    let jobs = options.jobs.clamp(1, checks.len().max(1));
    let mut models: Vec<(usize, ModelReport)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
        let done = threads.into_iter().map(|thread| thread.join().expect("a model's panic is caught inside"));
        done.flatten().collect()
    });
    models.sort_by_key(|(at, _)| *at);
    let models: Vec<ModelReport> = models.into_iter().map(|(_, report)| report).collect();
    let any = |verdict| models.iter().any(|report| report.verdict == verdict);
    let order = [Verdict::Fail, Verdict::Vacuous, Verdict::Undecided];
    let verdict = order.into_iter().find(|verdict| any(*verdict)).unwrap_or(Verdict::Pass);
    let distinct = models.iter().map(|report| report.distinct).sum();
    Report { models, distinct, seconds: started.elapsed().as_secs_f64(), verdict }
}

/// Visits every state of a model.
fn check<M>(spec: Spec<M>, brake: &Brake) -> ModelReport
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + PartialEq + Hash + Send + Sync,
    M::Action: Clone + Debug + PartialEq + Send + Sync,
{
    let started = Instant::now();
    let Spec { model, name, about, bounds, depth_max, explain } = spec;
    let properties: Vec<_> =
        model.properties().into_iter().map(|property| (property.name, property.expectation)).collect();
    let mut builder = model.checker().finish_when(HasDiscoveries::AnyFailures);
    if depth_max > 0 {
        // The checker counts states, of which a behaviour has one more than steps, and leaves the last unexpanded.
        builder = builder.target_max_depth(depth_max + 2);
    }
    let checker = builder.spawn_bfs().join();
    brake.is_over.store(true, Ordering::Relaxed);
    let is_left = brake.is_noticed.load(Ordering::Relaxed);
    let discoveries = checker.discoveries();
    // A model that is left early ends in the middle of everything.
    let judges = |expectation: &Expectation| match expectation {
        Expectation::Always => true,
        Expectation::Eventually => !is_left,
        Expectation::Sometimes => false,
    };
    let violation = properties
        .iter()
        .filter(|(_, expectation)| judges(expectation))
        .find_map(|(oracle, _)| discoveries.get(oracle).map(|path| (oracle, path.clone())))
        .map(|(oracle, path)| ModelViolation {
            oracle: (*oracle).to_owned(),
            message: explain(checker.model(), path.last_state()),
            steps: path.into_actions().iter().map(|action| checker.model().format_action(action)).collect(),
        });
    let reached: BTreeMap<String, bool> = properties
        .iter()
        .filter(|(_, expectation)| *expectation == Expectation::Sometimes)
        .map(|(name, _)| ((*name).to_owned(), discoveries.contains_key(name)))
        .collect();
    let is_complete = violation.is_none() && !is_left;
    let verdict = match () {
        () if violation.is_some() => Verdict::Fail,
        () if is_left => Verdict::Undecided,
        () if reached.values().any(|reached| !reached) => Verdict::Vacuous,
        () => Verdict::Pass,
    };
    ModelReport {
        model: name.to_owned(),
        about: about.to_owned(),
        bounds,
        steps: checker.state_count() as u64,
        distinct: checker.unique_state_count() as u64,
        depth: checker.max_depth() as u64,
        seconds: started.elapsed().as_secs_f64(),
        is_complete,
        reached,
        violation,
        verdict,
    }
}
