//! Checks a history: splits it into partitions, decides each, and tells what was found.
//!
//! Invariant: every partition is decided, whatever was found in others, and the answers are put together in the order of
//! the keys, so that the report does not depend on the order or the threads in which they were decided. Of several
//! violations the report tells the one whose answer came first.

use std::time::{Duration, Instant};

use rayon::prelude::*;
use rustc_hash::FxHashMap;

use crate::engine::budget::Budget;
use crate::engine::part::Part;
use crate::engine::{Answer, decide, explain, sharpen};
use crate::evidence::{self, Found};
use crate::history::History;
use crate::minimize::core_of;
use crate::model::Model;
use crate::report::{Report, Verdict};

/// The steps that a partition may take unless the caller says otherwise: some ten seconds.
pub const STEPS_MAX_DEFAULT: u64 = 20_000_000;

/// The memory that the search may use unless the caller says otherwise.
pub const MEMORY_BYTES_MAX_DEFAULT: usize = 1 << 30;

/// Steps for finding the first impossible return of a partition that was searched.
const SHARPEN_STEPS_MAX: u64 = 2_000_000;

/// Fewer operations than this are not worth a second thread.
const OPERATIONS_PARALLEL_MIN: usize = 2_000;

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
    /// Whether a violation is searched again without the model's hints, within reason, so that a wrong hint shows itself.
    pub confirm: bool,
    /// Threads that decide partitions; 1 starts none. The report does not depend on it.
    pub jobs: usize,
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

/// A partition that was decided.
struct Decided<'a, M: Model> {
    answer: Answer<'a, M>,
    steps: u64,
}

/// Says whether `history` is linearizable with respect to `model`.
pub fn check<M: Model>(model: &M, history: &History<M::Op, M::Ret>, options: &Options) -> Report {
    let partitions = partition(model, history);
    let mut report = empty_report(history, partitions.len());
    let decided = decide_all(model, history, &partitions, options, false);
    report.steps = decided.iter().map(|decided| decided.steps).sum();
    let name = |number: usize| {
        let key = partitions[number].key.as_ref();
        key.map_or_else(|| "the whole history".to_owned(), |key| model.describe_key(key))
    };
    for (number, decided) in decided.iter().enumerate() {
        if let Answer::Undecided(reason) = &decided.answer {
            report.verdict = Verdict::Undecided;
            report.reason = Some(format!("{} is undecided: {reason}", name(number)));
            report.partition = Some(name(number));
            break;
        }
    }
    if options.verdict_only && decided.iter().any(|decided| decided.answer.is_violation()) {
        (report.reason, report.partition, report.verdict) = (None, None, Verdict::Violation);
    } else if let Some((number, found)) = first_violation(model, history, &partitions, decided) {
        let found = sharpen_found(model, partitions[number].part(history), found, options);
        evidence::tell(&mut report, model, name(number), &found);
    }
    report
}

/// What the search found is looked at once more: which return is the first that is impossible, and which few operations
/// make it so.
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
    violation.core = core_of(model, part, &violation, deadline, options);
    Found::Violation(violation)
}

/// The violation that a report would tell, with the operations of its partition.
pub(crate) fn find_violation<'a, M: Model>(
    model: &'a M,
    history: &'a History<M::Op, M::Ret>,
    options: &Options,
) -> Option<(Partition<M::Key>, Found<'a, M>)> {
    let mut partitions = partition(model, history);
    let decided = decide_all(model, history, &partitions, options, false);
    let (number, found) = first_violation(model, history, &partitions, decided)?;
    Some((partitions.swap_remove(number), found))
}

/// Of all violations the one whose answer came first.
fn first_violation<'a, M: Model>(
    model: &'a M,
    history: &'a HistoryOf<M>,
    partitions: &[Partition<M::Key>],
    decided: Vec<Decided<'a, M>>,
) -> Option<(usize, Found<'a, M>)> {
    let mut first = usize::MAX;
    let mut found = None;
    let mut proofs = Vec::new();
    for (number, decided) in decided.into_iter().enumerate() {
        match decided.answer {
            Answer::Violation(violation) => {
                let event = violation.operation.returned().map_or(usize::MAX - 1, |returned| returned.event);
                if event < first {
                    (first, found) = (event, Some((number, Found::Violation(violation))));
                }
            }
            Answer::Contradiction(proof) => proofs.push((number, proof)),
            Answer::Linearizable(_) | Answer::Undecided(_) => {}
        }
    }
    // A contradiction is looked at only if there is one before the first that is known so far.
    for (number, proof) in proofs {
        if let Some(contradiction) = explain(model, partitions[number].part(history), proof, first) {
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
    let partitions = partition(model, history);
    let decided = decide_all(model, history, &partitions, options, true);
    let order = |(partition, decided): (&Partition<M::Key>, Decided<'_, M>)| match decided.answer {
        Answer::Linearizable(order) => {
            let part = partition.part::<M>(history);
            Some(order.into_iter().map(|place| part.number(place as usize)).collect())
        }
        _ => None,
    };
    partitions.iter().zip(decided).map(order).collect()
}

/// Decides all partitions; the answers are in the order of the partitions, whoever found them.
fn decide_all<'a, M: Model>(
    model: &'a M,
    history: &'a HistoryOf<M>,
    partitions: &[Partition<M::Key>],
    options: &Options,
    keep_orders: bool,
) -> Vec<Decided<'a, M>> {
    let deadline = options.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let decide_one = |partition: &Partition<M::Key>| {
        let mut budget = Budget::new(options.steps_max, options.memory_bytes_max, deadline);
        budget.confirm = options.confirm;
        let answer = match decide(model, partition.part(history), &mut budget) {
            Answer::Linearizable(_) if !keep_orders => Answer::Linearizable(Vec::new()),
            answer => answer,
        };
        Decided { answer, steps: budget.steps }
    };
    let operations = history.operations.len();
    let pool = || rayon::ThreadPoolBuilder::new().num_threads(options.jobs).build().ok();
    let worth_it = options.jobs > 1 && partitions.len() > 1 && operations >= OPERATIONS_PARALLEL_MIN;
    match worth_it.then(pool).flatten() {
        // A machine that refuses threads is no reason to refuse an answer.
        None => {
            let mut decided = Vec::with_capacity(partitions.len());
            for partition in partitions {
                decided.push(decide_one(partition));
                if options.verdict_only && decided.last().is_some_and(|last| last.answer.is_violation()) {
                    break;
                }
            }
            decided
        }
        Some(pool) => {
            let mut longest_first: Vec<usize> = (0..partitions.len()).collect();
            longest_first
                .sort_by_key(|number| std::cmp::Reverse(partitions[*number].part::<M>(history).len()));
            let mut decided: Vec<(usize, Decided<'a, M>)> = pool.install(|| {
                let numbers = longest_first.into_par_iter().with_max_len(1);
                numbers.map(|number| (number, decide_one(&partitions[number]))).collect()
            });
            decided.sort_by_key(|(number, _)| *number);
            decided.into_iter().map(|(_, decided)| decided).collect()
        }
    }
}

type HistoryOf<M> = History<<M as Model>::Op, <M as Model>::Ret>;

/// A part of a history that is decided by itself.
pub(crate) struct Partition<K> {
    pub(crate) key: Option<K>,
    /// The numbers of its operations in the history; `None`: all.
    places: Option<Vec<u32>>,
}

impl<K> Partition<K> {
    /// Its operations.
    pub(crate) fn part<'p, 'a, M: Model>(&'p self, history: &'a HistoryOf<M>) -> Part<'p, 'a, M> {
        match &self.places {
            None => Part::whole(&history.operations),
            Some(places) => Part::at(&history.operations, places),
        }
    }
}

/// The parts of a history in the order of their keys.
pub(crate) fn partition<M: Model>(model: &M, history: &HistoryOf<M>) -> Vec<Partition<M::Key>> {
    let operations = &history.operations;
    let Some(first) = operations.first().map(|operation| model.key(&operation.op)) else {
        return Vec::new();
    };
    if operations.iter().all(|operation| model.key(&operation.op) == first) {
        return vec![Partition { key: first, places: None }];
    }
    let mut numbers: FxHashMap<Option<M::Key>, usize> = FxHashMap::default();
    let mut parts: Vec<Vec<u32>> = Vec::new();
    for (place, operation) in (0..).zip(operations) {
        let number = *numbers.entry(model.key(&operation.op)).or_insert_with(|| {
            parts.push(Vec::new());
            parts.len() - 1
        });
        parts[number].push(place);
    }
    if numbers.contains_key(&None) {
        return vec![Partition { key: None, places: None }];
    }
    let mut keys: Vec<(Option<M::Key>, usize)> = numbers.into_iter().collect();
    keys.sort_unstable();
    let part =
        |(key, number): (_, usize)| Partition { key, places: Some(std::mem::take(&mut parts[number])) };
    keys.into_iter().map(part).collect()
}

fn empty_report<O, R>(history: &History<O, R>, partitions: usize) -> Report {
    let unknown = history.operations.iter().filter(|operation| operation.ret().is_none()).count();
    Report::linearizable(history.operations.len(), unknown, history.failed, partitions)
}
