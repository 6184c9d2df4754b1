//! The history as columns, which compress well: numbers that grow are differences, text is a place in a table.

use serde::Serialize;

use crate::history::{History, Operation};
use crate::model::{Class, Model};
use crate::picture::order::Partition;
use crate::picture::text::Texts;
use crate::report::{Evidence, Report};

/// JavaScript's numbers are exact up to here.
const EXACT_MAX: u64 = 1 << 53;

/// A clock that shows less than this began with the run or with the machine, so its times are shown as they are; others
/// from the first on. Some eleven days.
const SHORT_CLOCK_NS_MAX: u64 = 1_000_000_000_000_000;

/// With more operations than this, times are rounded to microseconds, which takes half the room.
const NANOSECONDS_OPERATIONS_MAX: usize = 20_000;

/// What the script draws. `picture/assets/data.js` reads it.
#[derive(Debug, Serialize)]
pub(crate) struct Columns {
    /// For each operation in the core, its place in the history, or -1 if it is not known.
    #[serde(skip)]
    pub(crate) core: Vec<i64>,
    /// The partition of the core.
    #[serde(skip)]
    pub(crate) partition: Option<usize>,
    processes: Vec<String>,
    keys: Vec<String>,
    /// The event of the return that ends each partition's order, or -1.
    cuts: Vec<i64>,
    /// The state before the first operation of a partition.
    initial: String,
    process: Vec<usize>,
    key: Vec<usize>,
    /// What was asked and answered, and the states; see there.
    texts: Texts,
    /// Events: differences from operation to operation.
    invoked: Vec<i64>,
    /// Events: from the invocation to the return; 0 if it never returned.
    returned: Vec<usize>,
    /// By how much lines are ahead of events: at invocations, differences; then at returns, from the invocation.
    invoked_line: Vec<i64>,
    returned_line: Vec<i64>,
    /// In units of `time_unit` nanoseconds: from event to event; empty if some event has no time.
    times: Vec<i64>,
    time_unit: u64,
    /// The orders of the partitions, one after the other: places among the partition's operations, as differences.
    order_length: Vec<usize>,
    order: Vec<i64>,
    notes: Vec<Note>,
}

/// An annotation.
#[derive(Debug, Serialize)]
struct Note {
    event: usize,
    line: usize,
    lane: String,
    text: String,
    /// Whether it lasts until the next of its lane.
    lasts: bool,
}

/// Each number as its difference from the one before.
fn differences(numbers: impl Iterator<Item = i64>) -> Vec<i64> {
    let mut last = 0;
    numbers.map(|number| number - std::mem::replace(&mut last, number)).collect()
}

pub(crate) fn columns<M: Model>(
    model: &M,
    history: &History<M::Op, M::Ret>,
    report: &Report,
    partitions: &[Partition],
) -> Columns {
    let operations = &history.operations;
    let describe = |operation: &Operation<M::Op, M::Ret>| describe(model, operation);
    let mut key = vec![0; operations.len()];
    let mut order = Vec::new();
    for (place, partition) in partitions.iter().enumerate() {
        partition.operations.iter().for_each(|number| key[*number] = place);
        let local = |number: &usize| partition.operations.binary_search(number).unwrap_or_default() as i64;
        order.extend(differences(partition.order.iter().map(|(number, _)| local(number))));
    }
    let mut texts = Texts::default();
    for (number, operation) in operations.iter().enumerate() {
        let class = model.class(&operation.op, operation.ret()) != Class::ReadOnly;
        texts.operation(&describe(operation), class, &partitions[key[number]].name);
    }
    let initial = model.describe_state(&model.init());
    for partition in partitions {
        let mut before = initial.as_str();
        for (number, state) in &partition.order {
            texts.state(state, *number, before);
            before = state;
        }
    }
    let mut processes: Vec<u64> = operations.iter().map(|operation| operation.process).collect();
    processes.sort_unstable();
    processes.dedup();
    let rank = |process: u64| processes.binary_search(&process).unwrap_or_default();
    let after = |operation: &Operation<M::Op, M::Ret>| {
        operation.returned().map_or(0, |returned| returned.event - operation.invoked.event)
    };
    let ahead = |position: crate::history::Position| position.line as i64 - position.event as i64;
    let guilty = report.partition.as_ref();
    let guilty = guilty.and_then(|name| partitions.iter().position(|partition| partition.name == *name));
    let (time_unit, times) = times(operations);
    Columns {
        core: core(report, guilty.map(|place| &partitions[place]), operations, &describe),
        partition: guilty,
        process: operations.iter().map(|operation| rank(operation.process)).collect(),
        processes: processes.iter().map(u64::to_string).collect(),
        keys: partitions.iter().map(|partition| partition.name.clone()).collect(),
        cuts: partitions.iter().map(|partition| partition.cut.map_or(-1, |cut| cut as i64)).collect(),
        initial,
        key,
        texts,
        invoked: differences(operations.iter().map(|operation| operation.invoked.event as i64)),
        returned: operations.iter().map(after).collect(),
        invoked_line: differences(operations.iter().map(|operation| ahead(operation.invoked))),
        returned_line: operations
            .iter()
            .map(|operation| {
                operation.returned().map_or(0, |returned| ahead(returned) - ahead(operation.invoked))
            })
            .collect(),
        times,
        time_unit,
        order_length: partitions.iter().map(|partition| partition.order.len()).collect(),
        order,
        notes: history.notes.iter().map(note).collect(),
    }
}

/// The times in the order of the events, if all events have one.
fn times<O, R>(operations: &[Operation<O, R>]) -> (u64, Vec<i64>) {
    let unit = if operations.len() > NANOSECONDS_OPERATIONS_MAX { 1_000 } else { 1 };
    let positions = operations.iter().flat_map(|operation| [Some(operation.invoked), operation.returned()]);
    let mut positions: Vec<_> = positions.flatten().collect();
    positions.sort_unstable_by_key(|position| position.event);
    let times: Option<Vec<u64>> = positions.iter().map(|position| position.time_ns).collect();
    let times = times.unwrap_or_default();
    let (Some(first), Some(last)) = (times.iter().min(), times.iter().max()) else {
        return (unit, Vec::new());
    };
    let base = if *last < SHORT_CLOCK_NS_MAX { 0 } else { *first };
    if last - base >= EXACT_MAX {
        return (unit, Vec::new());
    }
    (unit, differences(times.iter().map(|time| ((time - base) / unit) as i64)))
}

fn note(note: &crate::history::Note) -> Note {
    let field = |name: &str| note.content.get(name).and_then(|value| value.as_str());
    let text = field("text").map_or_else(|| note.content.to_string(), str::to_owned);
    let lane = field("lane").unwrap_or("notes").to_owned();
    let lasts = note.content.get("lasts").is_some_and(|lasts| lasts == true);
    Note { event: note.event, line: note.line, lane, text, lasts }
}

/// An operation with its answer, as in a report.
pub(crate) fn describe<M: Model>(model: &M, operation: &Operation<M::Op, M::Ret>) -> String {
    model.describe(&operation.op, operation.ret())
}

/// Finds the operations of the core. Several events may be on one line, so that more than one operation may look like
/// the one that is meant: it is the last that was invoked before the end of the prefix, which is the return without an
/// explanation.
pub(crate) fn core<O, R>(
    report: &Report,
    partition: Option<&Partition>,
    operations: &[Operation<O, R>],
    describe: &impl Fn(&Operation<O, R>) -> String,
) -> Vec<i64> {
    let Some(partition) = partition else { return vec![-1; report.core.len()] };
    let mut returns: Vec<usize> = partition.operations.clone();
    returns.retain(|number| operations[*number].returned().is_some());
    returns.sort_by_key(|number| operations[*number].returned().map(|returned| returned.event));
    let fits = |evidence: &Evidence, number: usize| {
        let operation = &operations[number];
        operation.process == evidence.process
            && operation.invoked.line == evidence.invoked_line
            && operation.returned().map(|returned| returned.line) == evidence.returned_line
            && describe(operation) == evidence.operation
    };
    let end = report.prefix.and_then(|prefix| returns.get(prefix));
    let before_end = |number: usize| {
        let returned = end.and_then(|end| operations[*end].returned());
        returned.is_none_or(|returned| operations[number].invoked.event < returned.event)
    };
    let find = |evidence: &Evidence| {
        let candidates =
            || partition.operations.iter().rev().copied().filter(|number| fits(evidence, *number));
        candidates().find(|number| before_end(*number)).or_else(|| candidates().next())
    };
    report.core.iter().map(|evidence| find(evidence).map_or(-1, |number| number as i64)).collect()
}
