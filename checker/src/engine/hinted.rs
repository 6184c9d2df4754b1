//! The order that the system itself tells: the log index at which each operation took effect.
//!
//! The order is a guess like any other. It is replayed by the caller, in time linear in the history; if that fails, the
//! hint is forgotten and nothing follows from it. So a wrong index costs time, and never a verdict.
//!
//! Operations with the same index are one write and the reads that came right after it. An operation of unknown outcome
//! may have no index; it is put in where the next operation would be impossible without it.

use crate::engine::part::Part;
use crate::history::Outcome;
use crate::model::{Class, Model};

/// So many steps are spent on finding the places of operations of unknown outcome, for each operation.
const TRIES_PER_OPERATION: usize = 4;

/// The operations in the order of their indexes, if all that matter have one.
pub(crate) fn order<M: Model>(model: &M, part: Part<'_, '_, M>) -> Option<Vec<u32>> {
    let mut known = Vec::new();
    let mut unknown = Vec::new();
    for (place, operation) in (0_u32..).zip(part.iter()) {
        match (operation.index, &operation.outcome) {
            (Some(index), _) => {
                let is_read = model.class(&operation.op, operation.ret()) == Class::ReadOnly;
                known.push((index, is_read, operation.invoked.event, place));
            }
            (None, Outcome::Ok { .. }) => return None,
            (None, Outcome::Unknown) => unknown.push(place),
        }
    }
    if known.is_empty() {
        return None;
    }
    known.sort_unstable();
    let known: Vec<u32> = known.into_iter().map(|(.., place)| place).collect();
    if unknown.is_empty() { Some(known) } else { insert(model, part, &known, unknown) }
}

fn insert<M: Model>(
    model: &M,
    part: Part<'_, '_, M>,
    known: &[u32],
    mut unknown: Vec<u32>,
) -> Option<Vec<u32>> {
    let mut order = Vec::with_capacity(part.len());
    let mut state = model.init();
    let mut tries = part.len() * TRIES_PER_OPERATION;
    for place in known {
        let operation = part.get(*place as usize);
        let step = |state: &M::State| model.step(state, &operation.op, operation.ret());
        if let Some(next) = step(&state) {
            state = next;
        } else {
            let returned = operation.returned().map_or(usize::MAX, |returned| returned.event);
            let found = unknown.iter().enumerate().find_map(|(at, other)| {
                let other = part.get(*other as usize);
                if other.invoked.event > returned || tries == 0 {
                    return None;
                }
                tries -= 1;
                let between = model.step(&state, &other.op, None)?;
                Some((at, step(&between)?))
            });
            let (at, next) = found?;
            order.push(unknown.remove(at));
            state = next;
        }
        order.push(*place);
    }
    Some(order)
}
