//! Checks a history: splits it into partitions, decides each, and tells what was found.
//!
//! Invariant: every partition is decided, whatever was found in others, so that the report does not depend on their
//! order. Of several violations the report tells the one whose answer came first.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::engine::budget::Budget;
use crate::engine::{Answer, OperationOf, Violation, decide};
use crate::history::History;
use crate::model::Model;
use crate::report::{Evidence, Report, Role, Verdict};

/// The steps that a partition may take unless the caller says otherwise: some ten seconds.
pub const STEPS_MAX_DEFAULT: u64 = 20_000_000;

/// The memory that the search may use unless the caller says otherwise.
pub const MEMORY_BYTES_MAX_DEFAULT: usize = 1 << 30;

/// Concurrent operations in the evidence; more do not help anybody.
const CONCURRENT_MAX: usize = 16;

/// What a check may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Steps of the search in each partition. Deterministic.
    pub steps_max: u64,
    /// Memory of the search, estimated. Deterministic.
    pub memory_bytes_max: usize,
    /// Time for the whole history. Not deterministic, so a simulator leaves it out.
    pub timeout: Option<Duration>,
}

impl Default for Options {
    fn default() -> Options {
        Options { steps_max: STEPS_MAX_DEFAULT, memory_bytes_max: MEMORY_BYTES_MAX_DEFAULT, timeout: None }
    }
}

/// Says whether `history` is linearizable with respect to `model`.
pub fn check<M: Model>(model: &M, history: &History<M::Op, M::Ret>, options: &Options) -> Report {
    let deadline = options.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let partitions = partition(model, history);
    let mut report = empty_report(history, partitions.len());
    let mut first_violation: Option<usize> = None;
    for (key, operations) in &partitions {
        let mut budget = Budget::new(options.steps_max, options.memory_bytes_max, deadline);
        let answer = decide(model, operations, &mut budget);
        report.steps += budget.steps;
        let name = key.as_ref().map_or_else(|| "the whole history".to_owned(), |key| model.describe_key(key));
        match answer {
            Answer::Linearizable(_) => {}
            Answer::Undecided(reason) if report.verdict == Verdict::Linearizable => {
                report.verdict = Verdict::Undecided;
                report.reason = Some(format!("{name} is undecided: {reason}"));
                report.partition = Some(name);
            }
            Answer::Undecided(_) => {}
            Answer::Violation(violation) => {
                let at = violation.operation.returned().map_or(usize::MAX, |returned| returned.event);
                if first_violation.is_none_or(|first| at < first) {
                    first_violation = Some(at);
                    tell(&mut report, model, name, &violation);
                }
            }
        }
    }
    report
}

/// An order of the operations of each partition that explains every answer; `None` unless the history is linearizable
/// and the budget suffices to see it. Operations are given by their place in the history.
pub fn linearize<M: Model>(
    model: &M,
    history: &History<M::Op, M::Ret>,
    options: &Options,
) -> Option<Vec<Vec<usize>>> {
    let deadline = options.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let numbers: BTreeMap<usize, usize> = history
        .operations
        .iter()
        .enumerate()
        .map(|(number, operation)| (operation.invoked.event, number))
        .collect();
    let order = |operations: &Vec<&OperationOf<M>>| {
        let mut budget = Budget::new(options.steps_max, options.memory_bytes_max, deadline);
        match decide(model, operations, &mut budget) {
            Answer::Linearizable(order) => {
                Some(order.iter().map(|operation| numbers[&operation.invoked.event]).collect())
            }
            Answer::Violation(_) | Answer::Undecided(_) => None,
        }
    };
    partition(model, history).values().map(order).collect()
}

type Partitions<'a, M> = BTreeMap<Option<<M as Model>::Key>, Vec<&'a OperationOf<M>>>;

fn partition<'a, M: Model>(model: &M, history: &'a History<M::Op, M::Ret>) -> Partitions<'a, M> {
    let mut partitions = Partitions::<M>::new();
    for operation in &history.operations {
        partitions.entry(model.key(&operation.op)).or_default().push(operation);
    }
    if partitions.len() > 1 && partitions.contains_key(&None) {
        return BTreeMap::from([(None, history.operations.iter().collect())]);
    }
    partitions
}

fn empty_report<O, R>(history: &History<O, R>, partitions: usize) -> Report {
    Report {
        verdict: Verdict::Linearizable,
        operations: history.operations.len(),
        unknown: history.operations.iter().filter(|operation| operation.ret().is_none()).count(),
        failed: history.failed,
        partitions,
        steps: 0,
        partition: None,
        prefix: None,
        states: Vec::new(),
        core: Vec::new(),
        reason: None,
    }
}

fn tell<M: Model>(report: &mut Report, model: &M, name: String, violation: &Violation<'_, M>) {
    let evidence = |role: Role, operation: &OperationOf<M>| Evidence {
        role,
        process: operation.process,
        operation: model.describe(&operation.op, operation.ret()),
        invoked_line: operation.invoked.line,
        returned_line: operation.returned().map(|returned| returned.line),
    };
    let mut core = vec![evidence(Role::Unplaceable, violation.operation)];
    for operation in violation.dead_ends.iter().filter_map(|end| end.made_by) {
        let evidence = evidence(Role::Before, operation);
        if !core.contains(&evidence) {
            core.push(evidence);
        }
    }
    // An operation that returned must be accounted for, one of unknown outcome need not: those come last.
    let mut concurrent = violation.concurrent.clone();
    concurrent.retain(|operation| !violation.dead_ends.iter().any(|end| end.made_by == Some(operation)));
    concurrent.sort_by_key(|operation| (operation.ret().is_none(), operation.invoked.event));
    core.extend(
        concurrent.iter().take(CONCURRENT_MAX).map(|operation| evidence(Role::Concurrent, operation)),
    );
    report.verdict = Verdict::Violation;
    report.states = violation.dead_ends.iter().map(|end| model.describe_state(&end.state)).collect();
    report.reason = Some(reason(&name, violation, &core[0], &report.states));
    report.prefix = Some(violation.prefix);
    report.partition = Some(name);
    report.core = core;
}

fn reason<M: Model>(
    name: &str,
    violation: &Violation<'_, M>,
    unplaceable: &Evidence,
    states: &[String],
) -> String {
    let Evidence { process, operation, invoked_line, returned_line, .. } = unplaceable;
    let lines = match returned_line {
        Some(returned) if *returned > 0 => format!(" (lines {invoked_line}-{returned})"),
        _ => String::new(),
    };
    let more = if violation.more { ", …" } else { "" };
    format!(
        "{name}: the first {} operations to return can be ordered, but then process {process} has {operation}{lines}, \
         which no state explains that is possible by then, such as {}{more}",
        violation.prefix,
        states.join(", "),
    )
}
