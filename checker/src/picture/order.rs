//! The points of a linearization, for every partition: of all its operations, or of the longest prefix that has one.
//!
//! Only the checker's own answers are used: [`linearize`] hands out what was replayed. A prefix of a history that is
//! linearizable is linearizable too, so the longest one can be found by bisection if the report's is not the one.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::check::{Options, check, linearize};
use crate::history::{History, Operation, Outcome};
use crate::model::Model;
use crate::report::Verdict;

/// One partition, and what is known of its order.
pub(crate) struct Partition {
    /// Its name, as in a report.
    pub(crate) name: String,
    /// Its operations, by their places in the history.
    pub(crate) operations: Vec<usize>,
    /// The order, by places in the history, each with the state after it.
    pub(crate) order: Vec<(usize, String)>,
    /// The event of the first return that the order does not explain, if there is one.
    pub(crate) cut: Option<usize>,
}

type HistoryOf<M> = History<<M as Model>::Op, <M as Model>::Ret>;

/// All partitions, in the order of their keys.
pub(crate) fn partitions<M: Model>(model: &M, history: &HistoryOf<M>, options: &Options) -> Vec<Partition> {
    let mut keys: BTreeMap<Option<M::Key>, Vec<usize>> = BTreeMap::new();
    for (number, operation) in history.operations.iter().enumerate() {
        keys.entry(model.key(&operation.op)).or_default().push(number);
    }
    if keys.len() > 1 && keys.contains_key(&None) {
        keys = BTreeMap::from([(None, (0..history.operations.len()).collect())]);
    }
    let deadline = options.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let left = || {
        let timeout = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        Options { timeout, ..*options }
    };
    let partition = |(key, operations): (Option<M::Key>, Vec<usize>)| {
        let name = key.map_or_else(|| "the whole history".to_owned(), |key| model.describe_key(&key));
        let part = History {
            operations: operations.iter().map(|number| history.operations[*number].clone()).collect(),
            failed: 0,
            notes: Vec::new(),
        };
        let (order, cut) = longest(model, part, left);
        let order = order.into_iter().map(|(number, state)| (operations[number], state)).collect();
        Partition { name, operations, order, cut }
    };
    keys.into_iter().map(partition).collect()
}

/// The order of the longest prefix of one partition, and the event of the return that ends it.
fn longest<M: Model>(
    model: &M,
    part: HistoryOf<M>,
    left: impl Fn() -> Options,
) -> (Vec<(usize, String)>, Option<usize>) {
    if let Some(order) = linearize(model, &part, &left()) {
        return (replay(model, &part, &order.concat()), None);
    }
    let report = check(model, &part, &left());
    if report.verdict != Verdict::Violation {
        return (Vec::new(), None);
    }
    let mut returns: Vec<usize> =
        part.operations.iter().filter_map(Operation::returned).map(|returned| returned.event).collect();
    returns.sort_unstable();
    let attempt = |returned: usize| {
        let prefix = prefix(&part, *returns.get(returned)?);
        let order = linearize(model, &prefix, &left())?;
        Some((replay(model, &prefix, &order.concat()), Some(returns[returned])))
    };
    if let Some(found) = report.prefix.and_then(attempt) {
        return found;
    }
    let (mut known, mut low, mut high) = ((Vec::new(), None), 0, returns.len());
    while low < high {
        let middle = low + (high - low) / 2;
        match attempt(middle) {
            Some(found) => (known, low) = (found, middle + 1),
            None => high = middle,
        }
    }
    known
}

/// What had been seen before the event `end`. An operation that was open has no answer yet.
fn prefix<O: Clone, R: Clone>(part: &History<O, R>, end: usize) -> History<O, R> {
    let mut prefix = part.clone();
    prefix.operations.retain(|operation| operation.invoked.event < end);
    for operation in &mut prefix.operations {
        if operation.returned().is_some_and(|returned| returned.event >= end) {
            operation.outcome = Outcome::Unknown;
        }
    }
    prefix
}

/// The states along an order.
fn replay<M: Model>(model: &M, part: &HistoryOf<M>, order: &[usize]) -> Vec<(usize, String)> {
    let mut state = model.init();
    let mut states = Vec::with_capacity(order.len());
    for number in order {
        let operation = &part.operations[*number];
        let Some(next) = model.step(&state, &operation.op, operation.ret()) else { break };
        state = next;
        states.push((*number, model.describe_state(&state)));
    }
    states
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::HistoryBuilder;
    use crate::models::register::{Register, RegisterOp, RegisterRet};

    #[test]
    fn a_violation_is_ordered_up_to_it() {
        let mut builder = HistoryBuilder::new();
        let write = |value: &str| RegisterOp::Write { key: None, value: value.into() };
        let read = |value: &str| RegisterRet::Value(Some(value.into()));
        builder.invoke(1, write("1"), 1, None).unwrap();
        builder.ok(1, RegisterRet::Done, None, 2, None).unwrap();
        builder.invoke(2, write("2"), 3, None).unwrap();
        builder.invoke(1, RegisterOp::Read { key: None }, 4, None).unwrap();
        builder.ok(1, read("2"), None, 5, None).unwrap();
        builder.invoke(1, RegisterOp::Read { key: None }, 6, None).unwrap();
        builder.ok(1, read("1"), None, 7, None).unwrap();
        builder.ok(2, RegisterRet::Done, None, 8, None).unwrap();
        let history = builder.finish();
        let partitions = partitions(&Register::plain(), &history, &Options::default());
        let order: Vec<usize> = partitions[0].order.iter().map(|(number, _)| *number).collect();
        assert_eq!((order, partitions[0].cut), (vec![0, 1, 2], Some(6)));
        assert_eq!(partitions[0].order[2].1, "\"2\"");
    }
}
