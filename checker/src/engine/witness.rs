//! The proof of "linearizable": an order of the operations, replayed.
//!
//! The replay knows nothing of the search: it wants every operation that returned exactly once, every other at most once,
//! none before another that had returned when it was invoked, and every answer explained by the model.

use crate::engine::OperationOf;
use crate::engine::plan::Plan;
use crate::engine::trail::Step;
use crate::model::{Class, Model};

/// Why an order proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// An operation that returned is missing, or one is there twice.
    Incomplete,
    /// An operation comes before one that had returned when it was invoked.
    RealTime,
    /// The model does not explain an answer.
    Illegal,
}

/// The order of the search with the free operations that returned: blind writes, each put before another blind write that
/// was placed while it was open. Operations by place in the partition.
pub(crate) fn complete<M: Model>(plan: &Plan<'_, M>, steps: &[Step]) -> Option<Vec<u32>> {
    let mut placed = vec![false; plan.operations.len()];
    steps.iter().for_each(|step| placed[step.operation as usize] = true);
    // For each step, what goes right before it.
    let mut hidden: Vec<Vec<usize>> = vec![Vec::new(); steps.len()];
    for number in (0..plan.operations.len()).filter(|number| !placed[*number] && !plan.is_unknown(*number)) {
        let first = steps.partition_point(|step| step.event <= plan.invoked_at[number]);
        let window = steps[first..].iter().take_while(|step| step.event <= plan.returned_at[number]);
        let cover = window
            .map(|step| plan.class_of(step.operation as usize))
            .position(|class| class == Class::BlindWrite);
        hidden[first + cover?].push(number);
    }
    let order = steps.iter().zip(hidden).flat_map(|(step, mut before)| {
        before.push(step.operation as usize);
        before
    });
    Some(order.map(|number| plan.place[number]).collect())
}

/// Checks an order of `operations`, given by place, from scratch, and returns the state after it.
pub(crate) fn replay<M: Model>(
    model: &M,
    operations: &[&OperationOf<M>],
    order: &[u32],
) -> Result<M::State, Flaw> {
    replay_until(model, operations, order, usize::MAX)
}

/// The same for what was known when event `limit` was about to happen.
pub(crate) fn replay_until<M: Model>(
    model: &M,
    operations: &[&OperationOf<M>],
    order: &[u32],
    limit: usize,
) -> Result<M::State, Flaw> {
    let returned = |operation: &OperationOf<M>| {
        operation.returned().map(|returned| returned.event).filter(|event| *event < limit)
    };
    let mut missing = vec![true; operations.len()];
    let mut state = model.init();
    let mut invoked_last = 0;
    for place in order {
        let operation = operations.get(*place as usize).ok_or(Flaw::Incomplete)?;
        if !std::mem::take(&mut missing[*place as usize]) {
            return Err(Flaw::Incomplete);
        }
        let returned = returned(operation);
        if returned.is_some_and(|returned| returned < invoked_last) {
            return Err(Flaw::RealTime);
        }
        invoked_last = invoked_last.max(operation.invoked.event);
        let ret = operation.ret().filter(|_| returned.is_some());
        state = model.step(&state, &operation.op, ret).ok_or(Flaw::Illegal)?;
    }
    let lost = |(missing, operation): (&bool, &&OperationOf<M>)| *missing && returned(operation).is_some();
    if missing.iter().zip(operations).any(lost) { Err(Flaw::Incomplete) } else { Ok(state) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{History, HistoryBuilder};
    use crate::models::register::{Register, RegisterOp, RegisterRet};

    fn history() -> History<RegisterOp, RegisterRet> {
        let mut builder = HistoryBuilder::new();
        let write = |value: &str| RegisterOp::Write { key: None, value: value.into() };
        builder.invoke(1, write("1"), 1, None).unwrap();
        builder.ok(1, RegisterRet::Done, None, 2, None).unwrap();
        builder.invoke(1, write("2"), 3, None).unwrap();
        builder.invoke(2, RegisterOp::Read { key: None }, 4, None).unwrap();
        builder.ok(2, RegisterRet::Value(Some("1".into())), None, 5, None).unwrap();
        builder.finish()
    }

    #[test]
    fn only_a_true_order_is_accepted() {
        let history = history();
        let all: Vec<_> = history.operations.iter().collect();
        let verdict = |order: &[u32]| replay(&Register::plain(), &all, order);
        assert_eq!(verdict(&[0, 2]), Ok(Some("1".into())));
        assert_eq!(verdict(&[0, 2, 1]), Ok(Some("2".into())));
        assert_eq!(verdict(&[0, 1, 2]), Err(Flaw::Illegal));
        assert_eq!(verdict(&[0, 1]), Err(Flaw::Incomplete));
        assert_eq!(verdict(&[0, 2, 2]), Err(Flaw::Incomplete));
        assert_eq!(verdict(&[1, 0, 2]), Err(Flaw::RealTime));
    }
}
