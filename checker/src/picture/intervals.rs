//! The operations of a history as intervals, for a picture that shows them beside something else.

use serde::Serialize;

use super::data;
use super::order;
use crate::check::Options;
use crate::history::{History, Operation};
use crate::model::Model;
use crate::report::{Report, Role};

/// An operation, and what a check knows of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Interval {
    /// Who asked: a logical process.
    pub process: u64,
    /// The partition that it belongs to.
    pub partition: String,
    /// What was asked and answered.
    pub text: String,
    /// When it was invoked, on the history's clock.
    pub invoked_ns: Option<u64>,
    /// When it was answered; `None`: never.
    pub returned_ns: Option<u64>,
    /// Its place in the longest prefix of its partition that has an order; `None`: that does not hold it.
    pub place: Option<usize>,
    /// The state after it, in that order.
    pub state: Option<String>,
    /// Its part in the evidence of a violation.
    pub role: Option<Role>,
}

/// All operations, in the order of the history.
pub(crate) fn intervals<M: Model>(
    model: &M,
    history: &History<M::Op, M::Ret>,
    report: &Report,
    options: &Options,
) -> Vec<Interval> {
    let partitions = order::partitions(model, history, options);
    let mut intervals: Vec<Interval> = history
        .operations
        .iter()
        .map(|operation| Interval {
            process: operation.process,
            partition: String::new(),
            text: data::describe(model, operation),
            invoked_ns: operation.invoked.time_ns,
            returned_ns: operation.returned().and_then(|returned| returned.time_ns),
            place: None,
            state: None,
            role: None,
        })
        .collect();
    for partition in &partitions {
        for number in &partition.operations {
            intervals[*number].partition.clone_from(&partition.name);
        }
        for (place, (number, state)) in partition.order.iter().enumerate() {
            intervals[*number].place = Some(place);
            intervals[*number].state = Some(state.clone());
        }
    }
    let guilty = report.partition.as_ref();
    let guilty = guilty.and_then(|name| partitions.iter().find(|partition| partition.name == *name));
    let describe = |operation: &Operation<M::Op, M::Ret>| data::describe(model, operation);
    for (evidence, number) in
        report.core.iter().zip(data::core(report, guilty, &history.operations, &describe))
    {
        if let Some(interval) = usize::try_from(number).ok().and_then(|number| intervals.get_mut(number)) {
            interval.role = Some(evidence.role);
        }
    }
    intervals
}

#[cfg(test)]
mod tests {
    use crate::{Format, Options, Role, read_history};

    #[test]
    fn what_cannot_be_placed_is_named_and_the_rest_is_in_order() {
        let lines = [
            r#"{"format":"eraft-history","version":1,"model":"kv"}"#,
            r#"{"process":0,"type":"invoke","f":"put","key":"a","value":"1","time":10}"#,
            r#"{"process":0,"type":"ok","f":"put","time":20}"#,
            r#"{"process":1,"type":"invoke","f":"get","key":"a","time":30}"#,
            r#"{"process":1,"type":"ok","f":"get","value":null,"time":40}"#,
        ];
        let text = lines.join("\n");
        let history = read_history(text.as_bytes(), Format::Jsonl, None).unwrap();
        let options = Options::default();
        let intervals = history.intervals(&history.check(&options), &options);
        assert_eq!((intervals[0].invoked_ns, intervals[0].returned_ns), (Some(10), Some(20)));
        assert_eq!((intervals[0].place, intervals[1].place), (Some(0), None));
        assert_eq!(intervals[1].role, Some(Role::Unplaceable));
        assert!(intervals[1].text.starts_with("get"), "{}", intervals[1].text);
    }
}
