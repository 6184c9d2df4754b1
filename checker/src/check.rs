//! Checks a history: splits it into partitions, decides each, and tells what was found.
//!
//! Invariant: every partition is decided, whatever was found in others, and the answers are put together in the order of
//! the keys, so that the report does not depend on the order or the threads in which they were decided. Of several
//! violations the report tells the one whose answer came first. If only the verdict is asked for, the partitions before
//! the first violation are decided, whatever the threads have seen of others.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rayon::prelude::*;
use rustc_hash::FxHashMap;

use crate::engine::budget::{Budget, Wanted};
use crate::engine::greedy::Scratch;
use crate::engine::part::Part;
use crate::engine::{Answer, Contradiction, Violation, decide_by_search, decide_fast, explain, sharpen};
use crate::evidence::{self, Found};
use crate::history::History;
use crate::minimize::core_of;
use crate::model::Model;
use crate::partition::Partitions;
use crate::report::{Report, Verdict};

/// The steps that a partition may take unless the caller says otherwise: some ten seconds.
pub const STEPS_MAX_DEFAULT: u64 = 20_000_000;

/// The memory that the search may use unless the caller says otherwise.
pub const MEMORY_BYTES_MAX_DEFAULT: usize = 1 << 30;

/// Steps for finding the first impossible return of a partition that was searched.
const SHARPEN_STEPS_MAX: u64 = 2_000_000;

/// Fewer operations than this are not worth a second thread: if each takes a step or two, and if they are searched.
const FAST_OPERATIONS_PARALLEL_MIN: usize = 50_000;
const SEARCHED_OPERATIONS_PARALLEL_MIN: usize = 2_000;

/// What a check may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Steps of the search in each partition. Deterministic.
    pub steps_max: u64,
    /// Memory of the search in each partition, estimated. Deterministic.
    pub memory_bytes_max: usize,
    /// Time for the whole history. Not deterministic, so a simulator leaves it out.
    pub timeout: Option<Duration>,
    /// Whether the verdict is all that is asked for: then the check ends at the first violation that it meets, and tells
    /// nothing about it.
    pub verdict_only: bool,
    /// Whether a violation is searched again without the model's hints, so that a wrong hint shows itself: for trying a
    /// model of one's own. That is slow, so it is given few steps, and a violation that they do not confirm is undecided.
    pub confirm: bool,
    /// Threads that decide partitions; 1 starts none. The report does not depend on it.
    pub jobs: usize,
}

/// Which parts of the engine may decide. The verdict does not depend on it, which is what the tests compare.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Engine {
    /// All of them, what costs least first.
    #[default]
    Portfolio,
    /// The search, without what is tried before it.
    Search,
    /// The frontier search alone.
    Breadth,
    /// The depth-first search alone.
    Depth,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            steps_max: STEPS_MAX_DEFAULT,
            memory_bytes_max: MEMORY_BYTES_MAX_DEFAULT,
            timeout: None,
            verdict_only: false,
            confirm: cfg!(debug_assertions),
            jobs: 1,
        }
    }
}

/// A partition that was decided, or was looked at.
struct Decided<A> {
    /// Its number among all.
    number: usize,
    answer: A,
    steps: u64,
}

type HistoryOf<M> = History<<M as Model>::Op, <M as Model>::Ret>;

/// Says whether `history` is linearizable with respect to `model`.
pub fn check<M: Model>(model: &M, history: &History<M::Op, M::Ret>, options: &Options) -> Report {
    check_by(Engine::Portfolio, model, history, options)
}

/// The same with some parts of the engine only, for its tests.
#[doc(hidden)]
pub fn check_by<M: Model>(
    engine: Engine,
    model: &M,
    history: &History<M::Op, M::Ret>,
    options: &Options,
) -> Report {
    let partitions = Partitions::new(model, &history.operations);
    let mut report = Report::linearizable(
        history.operations.len(),
        partitions.unknown(),
        history.failed,
        partitions.len(),
    );
    let wanted = if options.verdict_only { Wanted::Verdict } else { Wanted::Reason };
    let decided = decide_all(model, history, &partitions, options, (wanted, engine));
    report.steps = decided.iter().map(|decided| decided.steps).sum();
    let name = |number: usize| {
        let key = partitions.key(number);
        key.map_or_else(|| "the whole history".to_owned(), |key| model.describe_key(key))
    };
    for Decided { number, answer, .. } in &decided {
        if let Answer::Undecided(reason) = answer {
            report.verdict = Verdict::Undecided;
            report.reason = Some(format!("{} is undecided: {reason}", name(*number)));
            report.partition = Some(name(*number));
            break;
        }
    }
    if options.verdict_only && decided.iter().any(|decided| decided.answer.is_violation()) {
        (report.reason, report.partition, report.verdict) = (None, None, Verdict::Violation);
    } else if let Some((number, found)) = first_violation(model, history, &partitions, decided) {
        let part = partitions.part::<M>(number, &history.operations);
        let found = sharpen_found(model, part, found, options);
        evidence::tell(&mut report, model, name(number), &found);
    }
    report
}

/// What the search found is looked at once more: which return is the first that is impossible, and which few operations
/// make it so. What the fast paths could not tell of the whole partition, they often can of what was known by then.
fn sharpen_found<'a, M: Model>(
    model: &'a M,
    part: Part<'_, 'a, M>,
    found: Found<'a, M>,
    options: &Options,
) -> Found<'a, M> {
    let Found::Violation(violation) = found else { return found };
    let deadline = options.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let steps_max = options.steps_max.min(SHARPEN_STEPS_MAX);
    let mut budget = Budget::new(steps_max, options.memory_bytes_max, deadline);
    let mut violation = sharpen(model, part, violation, &mut budget);
    if let Some(contradiction) = contradiction_at(model, part, &violation) {
        return Found::Contradiction(contradiction);
    }
    violation.core = core_of(model, part, &violation, deadline, options);
    Found::Violation(violation)
}

/// The contradiction that makes the return impossible, if the fast paths see one.
fn contradiction_at<'a, M: Model>(
    model: &'a M,
    part: Part<'_, 'a, M>,
    violation: &Violation<'a, M>,
) -> Option<Contradiction<'a, M>> {
    let event = violation.operation.returned()?.event;
    let mut contradiction = explain(model, part, None, event.saturating_add(1))?;
    if contradiction.event == event && contradiction.before.is_none() {
        let end = violation.dead_ends.first();
        contradiction.before = end.map(|end| (violation.prefix, end.state.clone()));
    }
    Some(contradiction)
}

/// The violation that a report would tell, with the number of its partition.
pub(crate) fn find_violation<'a, M: Model>(
    model: &'a M,
    history: &'a HistoryOf<M>,
    partitions: &Partitions<M::Key>,
    options: &Options,
) -> Option<(usize, Found<'a, M>)> {
    let decided = decide_all(model, history, partitions, options, (Wanted::Reason, Engine::Portfolio));
    let (number, found) = first_violation(model, history, partitions, decided)?;
    let Found::Violation(violation) = found else { return Some((number, found)) };
    let contradiction = contradiction_at(model, partitions.part(number, &history.operations), &violation);
    Some((number, contradiction.map_or(Found::Violation(violation), Found::Contradiction)))
}

/// Of all violations the one whose answer came first.
fn first_violation<'a, M: Model>(
    model: &'a M,
    history: &'a HistoryOf<M>,
    partitions: &Partitions<M::Key>,
    decided: Vec<Decided<Answer<'a, M>>>,
) -> Option<(usize, Found<'a, M>)> {
    let mut first = usize::MAX;
    let mut found = None;
    let mut proofs = Vec::new();
    for Decided { number, answer, .. } in decided {
        match answer {
            Answer::Violation(violation) => {
                let event = violation.operation.returned().map_or(usize::MAX - 1, |returned| returned.event);
                if event < first {
                    (first, found) = (event, Some((number, Found::Violation(violation))));
                }
            }
            Answer::Contradiction(proof) => proofs.push((number, proof)),
            Answer::Linearizable(_) | Answer::Undecided(_) | Answer::Impossible => {}
        }
    }
    // A contradiction is looked at only if there is one before the first that is known so far.
    for (number, proof) in proofs {
        let part = partitions.part(number, &history.operations);
        if let Some(contradiction) = explain(model, part, Some(proof), first) {
            (first, found) = (contradiction.event, Some((number, Found::Contradiction(contradiction))));
        }
    }
    found
}

/// An order of the operations of each partition that explains every answer; `None` unless the history is linearizable
/// and the budget suffices to see it. Operations are given by their place in the history.
pub fn linearize<M: Model>(
    model: &M,
    history: &History<M::Op, M::Ret>,
    options: &Options,
) -> Option<Vec<Vec<usize>>> {
    let partitions = Partitions::new(model, &history.operations);
    let decided = decide_all(model, history, &partitions, options, (Wanted::Order, Engine::Portfolio));
    if decided.len() < partitions.len() {
        return None;
    }
    let order = |Decided { number, answer, .. }: Decided<Answer<'_, M>>| match answer {
        Answer::Linearizable(order) => {
            let part = partitions.part::<M>(number, &history.operations);
            Some(order.into_iter().map(|place| part.number(place as usize)).collect())
        }
        _ => None,
    };
    decided.into_iter().map(order).collect()
}

/// Decides all partitions: first all by what costs little, then the rest by the search. The answers are in the order of the
/// partitions. If the verdict is all that is asked for, the first violation is the last answer.
fn decide_all<'a, M: Model>(
    model: &'a M,
    history: &'a HistoryOf<M>,
    partitions: &Partitions<M::Key>,
    options: &Options,
    (wanted, engine): (Wanted, Engine),
) -> Vec<Decided<Answer<'a, M>>> {
    let deadline = options.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let part = |number: usize| partitions.part::<M>(number, &history.operations);
    let budget = |steps: u64| {
        let mut budget = Budget::new(options.steps_max, options.memory_bytes_max, deadline);
        (budget.confirm, budget.wanted, budget.engine) = (options.confirm, wanted, engine);
        budget.steps = steps;
        budget
    };
    let kept = |answer: Answer<'a, M>| match answer {
        Answer::Linearizable(_) if wanted != Wanted::Order => Answer::Linearizable(Vec::new()),
        answer => answer,
    };
    let turns = Turns { jobs: options.jobs, until_violation: options.verdict_only };
    let length = |number: usize| part(number).len();
    let fast = |scratch: &mut Scratch, number: usize| {
        let mut budget = budget(0);
        let answer = decide_fast(model, part(number), &mut budget, scratch).map(kept);
        Decided { number, answer, steps: budget.steps }
    };
    let all = (0..partitions.len()).collect();
    let fast = turns.take(all, length, FAST_OPERATIONS_PARALLEL_MIN, fast);
    let is_open = |decided: &Decided<Option<_>>| decided.answer.is_none();
    let violated = turns.until_violation && fast.iter().any(Decided::is_violation);
    let mut spent: FxHashMap<usize, u64> = FxHashMap::default();
    if !violated {
        spent.extend(fast.iter().filter(|decided| is_open(decided)).map(|open| (open.number, open.steps)));
    }
    let answered = |Decided { number, answer, steps }: Decided<Option<_>>| {
        answer.map(|answer| Decided { number, answer, steps })
    };
    let mut decided: Vec<_> = fast.into_iter().filter_map(answered).collect();
    if spent.is_empty() {
        return decided;
    }
    let mut numbers: Vec<usize> = spent.keys().copied().collect();
    numbers.sort_unstable();
    let searched = turns.take(numbers, length, SEARCHED_OPERATIONS_PARALLEL_MIN, |_: &mut (), number| {
        let mut budget = budget(spent[&number]);
        let answer = Some(kept(decide_by_search(model, part(number), &mut budget)));
        Decided { number, answer, steps: budget.steps }
    });
    decided.extend(searched.into_iter().filter_map(answered));
    decided.sort_by_key(|decided| decided.number);
    decided
}

impl<M: Model> Decided<Option<Answer<'_, M>>> {
    fn is_violation(&self) -> bool {
        self.answer.as_ref().is_some_and(Answer::is_violation)
    }
}

/// How partitions are gone through.
struct Turns {
    jobs: usize,
    /// Whether the first violation is the last answer that is wanted.
    until_violation: bool,
}

impl Turns {
    /// What `decide` says about each number, in their order, whoever found it. The longest are begun first. `decide` is
    /// given what earlier calls in the same thread left behind.
    fn take<'a, M: Model, S: Default + Send>(
        &self,
        numbers: Vec<usize>,
        length: impl Fn(usize) -> usize,
        operations_parallel_min: usize,
        decide: impl Fn(&mut S, usize) -> Decided<Option<Answer<'a, M>>> + Sync,
    ) -> Vec<Decided<Option<Answer<'a, M>>>> {
        let is_long =
            || numbers.iter().map(|number| length(*number)).sum::<usize>() >= operations_parallel_min;
        let parallel = self.jobs > 1 && numbers.len() > 1 && is_long();
        let pool = || rayon::ThreadPoolBuilder::new().num_threads(self.jobs).build().ok();
        // A machine that refuses threads is no reason to refuse an answer.
        let Some(pool) = parallel.then(pool).flatten() else {
            let mut scratch = S::default();
            let mut decided = Vec::with_capacity(numbers.len());
            for number in numbers {
                decided.push(decide(&mut scratch, number));
                if self.until_violation && decided.last().is_some_and(Decided::is_violation) {
                    break;
                }
            }
            return decided;
        };
        let mut longest_first = numbers;
        longest_first.sort_by_key(|number| std::cmp::Reverse(length(*number)));
        // The first violation, as far as is known. Only what comes later is left out, so what comes before is all there.
        let last = AtomicUsize::new(usize::MAX);
        let mut decided: Vec<Decided<_>> = pool.install(|| {
            let numbers = longest_first.into_par_iter().with_max_len(1);
            let wanted = numbers.filter(|number| *number <= last.load(Ordering::Relaxed));
            let decide_one = |scratch: &mut S, number| {
                let decided = decide(scratch, number);
                if self.until_violation && decided.is_violation() {
                    last.fetch_min(number, Ordering::Relaxed);
                }
                decided
            };
            wanted.map_init(S::default, decide_one).collect()
        });
        let last = last.into_inner();
        decided.retain(|decided| decided.number <= last);
        decided.sort_by_key(|decided| decided.number);
        decided
    }
}
