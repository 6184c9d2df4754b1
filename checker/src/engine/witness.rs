//! The proof of "linearizable": an order of the operations, replayed.
//!
//! The replay knows nothing of the search: it wants every operation that returned exactly once, every other at most once,
//! none before another that had returned when it was invoked, and every answer explained by the model.

use crate::engine::part::Part;
use crate::engine::{OperationOf, apply_step};
use crate::model::Model;

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

/// The order of the search with the free operations that returned: blind writes, each right before another blind write.
/// Operations by place in the partition.
///
/// Which one hides it? The search placed that one while the free operation was open, so all from there on returned after
/// the invocation of the free one. The first blind write of which this is true stands no later, so that all before it were
/// invoked before the free one returned. Free operations that precede each other find theirs in that order, because what
/// returned after a later invocation also did after an earlier one; at the same place they are in the order of invocation.
pub(crate) fn complete<M: Model>(
    part: Part<'_, '_, M>,
    order: Vec<u32>,
    is_blind: impl Fn(&OperationOf<M>) -> bool,
) -> Option<Vec<u32>> {
    let mut placed = vec![false; part.len()];
    order.iter().for_each(|place| placed[*place as usize] = true);
    let is_hidden = |place: &u32| !placed[*place as usize] && part.get(*place as usize).ret().is_some();
    let hidden: Vec<u32> = (0..part.len() as u32).filter(is_hidden).collect();
    drop(placed);
    if hidden.is_empty() {
        return Some(order);
    }
    // The first return from each place of the order on.
    let mut returned = vec![u32::MAX; order.len()];
    let mut first = u32::MAX;
    for (at, place) in order.iter().enumerate().rev() {
        let event = part.get(*place as usize).returned().map(|returned| returned.event);
        first = first.min(event.map_or(u32::MAX, |event| u32::try_from(event).unwrap_or(u32::MAX)));
        returned[at] = first;
    }
    let mut full = Vec::with_capacity(order.len() + hidden.len());
    let mut waiting = hidden.into_iter().peekable();
    for (place, first_return) in order.into_iter().zip(returned) {
        let operation = part.get(place as usize);
        if is_blind(operation) {
            let fits = |hidden: &u32| part.get(*hidden as usize).invoked.event < first_return as usize;
            while let Some(hidden) = waiting.next_if(fits) {
                full.push(hidden);
            }
        }
        full.push(place);
    }
    waiting.next().is_none().then_some(full)
}

/// Checks an order of the partition's operations, given by place, from scratch, and returns the state after it.
pub(crate) fn replay<M: Model>(model: &M, part: Part<'_, '_, M>, order: &[u32]) -> Result<M::State, Flaw> {
    replay_until(model, part, order, usize::MAX)
}

/// The same for what was known when event `limit` was about to happen.
pub(crate) fn replay_until<M: Model>(
    model: &M,
    part: Part<'_, '_, M>,
    order: &[u32],
    limit: usize,
) -> Result<M::State, Flaw> {
    let returned = |operation: &OperationOf<M>| {
        operation.returned().map(|returned| returned.event).filter(|event| *event < limit)
    };
    let mut missing = vec![true; part.len()];
    let mut state = model.init();
    let mut invoked_last = 0;
    for place in order {
        let missing = missing.get_mut(*place as usize).ok_or(Flaw::Incomplete)?;
        if !std::mem::take(missing) {
            return Err(Flaw::Incomplete);
        }
        let operation = part.get(*place as usize);
        let returned = returned(operation);
        if returned.is_some_and(|returned| returned < invoked_last) {
            return Err(Flaw::RealTime);
        }
        invoked_last = invoked_last.max(operation.invoked.event);
        let ret = operation.ret().filter(|_| returned.is_some());
        if !apply_step(model, &mut state, &operation.op, ret) {
            return Err(Flaw::Illegal);
        }
    }
    let lost = |(missing, operation): (&bool, &OperationOf<M>)| *missing && returned(operation).is_some();
    if missing.iter().zip(part.iter()).any(lost) { Err(Flaw::Incomplete) } else { Ok(state) }
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
        let verdict = |order: &[u32]| {
            let part = Part::<Register>::whole(&history.operations);
            replay(&Register::plain(), part, order)
        };
        assert_eq!(verdict(&[0, 2]), Ok(Some("1".into())));
        assert_eq!(verdict(&[0, 2, 1]), Ok(Some("2".into())));
        assert_eq!(verdict(&[0, 1, 2]), Err(Flaw::Illegal));
        assert_eq!(verdict(&[0, 1]), Err(Flaw::Incomplete));
        assert_eq!(verdict(&[0, 2, 2]), Err(Flaw::Incomplete));
        assert_eq!(verdict(&[1, 0, 2]), Err(Flaw::RealTime));
    }
}
