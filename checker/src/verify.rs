//! The witness of a linearizable history, verified in linear time.
//!
//! The verifier shares nothing with the search: it knows the model's `step` and `key`, and the times in the history. For
//! each partition it wants an order in which every operation that returned is exactly once and every other at most once,
//! in which none comes before another that had returned when it was invoked, and whose answers the model explains.

use std::collections::BTreeSet;

use crate::history::History;
use crate::model::Model;

/// Why an order of operations proves nothing. Operations are named by their number in the history, from 0.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// The number is too large.
    #[error("operation {0} does not exist")]
    Absent(usize),
    /// It is in the witness before.
    #[error("operation {0} is there twice")]
    Twice(usize),
    /// It returned, but is in none of the orders.
    #[error("operation {0} returned, but is missing")]
    Missing(usize),
    /// It is in an order with operations of another partition.
    #[error("operation {0} is in an order of another partition")]
    Partition(usize),
    /// It had returned when one before it was invoked.
    #[error("operation {0} had returned before one that comes before it was invoked")]
    RealTime(usize),
    /// The model does not explain its answer.
    #[error("operation {0} cannot have answered that in the state that the order leads to")]
    Illegal(usize),
}

/// Checks that `orders`, one for each partition, prove `history` linearizable.
pub fn verify<M: Model>(
    model: &M,
    history: &History<M::Op, M::Ret>,
    orders: &[Vec<usize>],
) -> Result<(), Flaw> {
    let mut seen = vec![false; history.operations.len()];
    let mut keys = BTreeSet::new();
    for order in orders.iter().filter(|order| !order.is_empty()) {
        let mut state = model.init();
        let mut invoked_last = 0;
        let mut own_keys = BTreeSet::new();
        for number in order {
            let operation = history.operations.get(*number).ok_or(Flaw::Absent(*number))?;
            if std::mem::replace(&mut seen[*number], true) {
                return Err(Flaw::Twice(*number));
            }
            let key = model.key(&operation.op);
            // Different keys share an order only if it is the order of everything.
            if own_keys.insert(key.clone()) && (!keys.insert(key) || own_keys.len() > 1 && orders.len() > 1) {
                return Err(Flaw::Partition(*number));
            }
            if operation.returned().is_some_and(|returned| returned.event < invoked_last) {
                return Err(Flaw::RealTime(*number));
            }
            invoked_last = invoked_last.max(operation.invoked.event);
            if !model.apply(&mut state, &operation.op, operation.ret()) {
                return Err(Flaw::Illegal(*number));
            }
        }
    }
    if keys.contains(&None) && orders.iter().filter(|order| !order.is_empty()).count() > 1 {
        return Err(Flaw::Partition(0));
    }
    let missing =
        (0..seen.len()).find(|number| !seen[*number] && history.operations[*number].ret().is_some());
    missing.map_or(Ok(()), |number| Err(Flaw::Missing(number)))
}
