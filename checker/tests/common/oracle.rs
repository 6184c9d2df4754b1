//! Two judges that share nothing with the checker: brute force, and stateright's tester.

use eraft_checker::{History, Operation};
use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};

use super::{KvHistory, Store};

/// Tries all orders.
pub fn brute_force(history: &KvHistory) -> bool {
    brute_force_of(history, &Store::default())
}

/// Tries all orders of requests to `object`.
pub fn brute_force_of<S: SequentialSpec + Clone>(history: &History<S::Op, S::Ret>, object: &S) -> bool {
    let operations: Vec<_> = history.operations.iter().collect();
    extend(&operations, object)
}

fn extend<S: SequentialSpec + Clone>(remaining: &[&Operation<S::Op, S::Ret>], object: &S) -> bool {
    if remaining.iter().all(|operation| operation.ret().is_none()) {
        return true;
    }
    let first_return = remaining.iter().filter_map(|operation| operation.returned()).map(|at| at.event).min();
    (0..remaining.len()).any(|number| {
        let operation = remaining[number];
        if first_return.is_some_and(|first| operation.invoked.event > first) {
            return false;
        }
        let mut object = object.clone();
        let ret = object.invoke(&operation.op);
        if operation.ret().is_some_and(|expected| *expected != ret) {
            return false;
        }
        let mut rest = remaining.to_vec();
        rest.remove(number);
        extend(&rest, &object)
    })
}

/// Asks stateright. An operation of unknown outcome stays in flight, on a thread of its own.
pub fn stateright(history: &KvHistory) -> bool {
    const OWN_THREADS: u64 = 1_000;
    let mut events = Vec::new();
    for (number, operation) in history.operations.iter().enumerate() {
        let thread = match operation.returned() {
            Some(_) => operation.process,
            None => OWN_THREADS + number as u64,
        };
        events.push((operation.invoked.event, thread, operation, true));
        if let Some(returned) = operation.returned() {
            events.push((returned.event, thread, operation, false));
        }
    }
    events.sort_by_key(|(at, ..)| *at);
    let mut tester = LinearizabilityTester::new(Store::default());
    for (_, thread, operation, invoked) in events {
        let fed = match operation.ret() {
            Some(ret) if !invoked => tester.on_return(thread, ret.clone()),
            _ => tester.on_invoke(thread, operation.op.clone()),
        };
        fed.expect("the history is well formed");
    }
    tester.is_consistent()
}
