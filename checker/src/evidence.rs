//! What a report says about a violation: the operations that matter, and the reason as a sentence.

use crate::engine::{Contradiction, OperationOf, Violation};
use crate::history::Operation;
use crate::model::Model;
use crate::report::{Evidence, Report, Role, Verdict};

/// Concurrent operations in the evidence; more do not help anybody.
pub(crate) const CONCURRENT_MAX: usize = 16;

/// A violation, however it was found.
pub(crate) enum Found<'a, M: Model> {
    /// By a fast path.
    Contradiction(Contradiction<'a, M>),
    /// By the search.
    Violation(Violation<'a, M>),
}

/// Puts what was found in the partition called `name` into the report.
pub(crate) fn tell<M: Model>(report: &mut Report, model: &M, name: String, found: &Found<'_, M>) {
    match found {
        Found::Contradiction(contradiction) => tell_contradiction(report, model, name, contradiction),
        Found::Violation(violation) => tell_violation(report, model, name, violation),
    }
}

/// An operation with the part that it plays.
pub(crate) fn evidence<M: Model>(model: &M, role: Role, operation: &OperationOf<M>) -> Evidence {
    Evidence {
        role,
        process: operation.process,
        operation: model.describe(&operation.op, operation.ret()),
        invoked_line: operation.invoked.line,
        returned_line: operation.returned().map(|returned| returned.line),
    }
}

/// An operation in a sentence: what, who, when.
pub(crate) fn name<M: Model>(model: &M, operation: &OperationOf<M>) -> String {
    let what = model.describe(&operation.op, operation.ret());
    format!("{what} (process {}{})", operation.process, when(operation))
}

/// The lines and the times of an operation, as far as they are known.
fn when<O, R>(operation: &Operation<O, R>) -> String {
    let (invoked, returned) = (operation.invoked, operation.returned());
    let mut text = String::new();
    if invoked.line > 0 {
        match returned {
            Some(returned) => text += &format!(", lines {}-{}", invoked.line, returned.line),
            None => text += &format!(", line {}", invoked.line),
        }
    }
    if let Some(from) = invoked.time_ns {
        let milliseconds = |time_ns: u64| time_ns as f64 / 1e6;
        match returned.and_then(|returned| returned.time_ns) {
            Some(to) => text += &format!(", {:.3}-{:.3} ms", milliseconds(from), milliseconds(to)),
            None => text += &format!(", from {:.3} ms", milliseconds(from)),
        }
    }
    text
}

fn tell_contradiction<M: Model>(
    report: &mut Report,
    model: &M,
    name: String,
    contradiction: &Contradiction<'_, M>,
) {
    let Contradiction { core, sentence, event, before, .. } = contradiction;
    let unplaceable =
        |operation: &&&OperationOf<M>| operation.returned().is_some_and(|at| at.event == *event);
    let last = core.iter().find(unplaceable).map(|operation| evidence(model, Role::Unplaceable, operation));
    let others = core.iter().filter(|operation| !unplaceable(operation));
    report.core =
        last.into_iter().chain(others.map(|other| evidence(model, Role::Conflict, other))).collect();
    report.verdict = Verdict::Violation;
    report.states = before.iter().map(|(_, state)| model.describe_state(state)).collect();
    let prefix = before.as_ref().map(|(prefix, _)| *prefix);
    let before =
        prefix.map(|prefix| format!("; the {prefix} operations that had returned before can be ordered"));
    report.reason = Some(format!("{name}: {sentence}{}", before.unwrap_or_default()));
    report.prefix = prefix;
    report.partition = Some(name);
}

fn tell_violation<M: Model>(report: &mut Report, model: &M, name: String, violation: &Violation<'_, M>) {
    let evidence = |role: Role, operation: &OperationOf<M>| evidence(model, role, operation);
    let mut core = vec![evidence(Role::Unplaceable, violation.operation)];
    for operation in violation.dead_ends.iter().filter_map(|end| end.made_by) {
        let evidence = evidence(Role::Before, operation);
        if !core.contains(&evidence) {
            core.push(evidence);
        }
    }
    if violation.core.is_empty() {
        // An operation that returned must be accounted for, one of unknown outcome need not: those come last.
        let mut concurrent = violation.concurrent.clone();
        concurrent.retain(|operation| !violation.dead_ends.iter().any(|end| end.made_by == Some(operation)));
        concurrent.sort_by_key(|operation| (operation.ret().is_none(), operation.invoked.event));
        let concurrent = concurrent.iter().take(CONCURRENT_MAX);
        core.extend(concurrent.map(|operation| evidence(Role::Concurrent, operation)));
    } else {
        core.truncate(1);
        let others = violation.core.iter().filter(|operation| **operation != violation.operation);
        core.extend(others.map(|operation| evidence(Role::Conflict, operation)));
    }
    report.verdict = Verdict::Violation;
    report.states = violation.dead_ends.iter().map(|end| model.describe_state(&end.state)).collect();
    report.reason = Some(reason(model, &name, violation, &report.states));
    report.prefix = Some(violation.prefix);
    report.partition = Some(name);
    report.core = core;
}

fn reason<M: Model>(model: &M, partition: &str, violation: &Violation<'_, M>, states: &[String]) -> String {
    let more = if violation.more { ", …" } else { "" };
    let core = match violation.core.len() {
        0 => String::new(),
        count => format!("; {count} operations are impossible by themselves"),
    };
    let impossible = impossible(model, partition, violation.prefix, violation.operation);
    format!("{impossible} {}{more}{core}", states.join(", "))
}

/// That a return is impossible behind the first `prefix` ones. What follows are states.
pub(crate) fn impossible<M: Model>(
    model: &M,
    partition: &str,
    prefix: usize,
    operation: &OperationOf<M>,
) -> String {
    format!(
        "{partition}: the first {prefix} operations to return can be ordered, but then comes {}, which no state explains \
         that is possible by then, such as",
        name(model, operation)
    )
}
