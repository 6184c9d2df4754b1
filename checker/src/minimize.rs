//! Makes a violation small, soundly: what is left is a violation by itself, and whatever linearizes the whole history
//! would linearize what is left. So it is enough to understand what is left.
//!
//! What may be taken away without making a linearizable history impossible:
//! - everything after an event; what had not returned by then has an unknown outcome;
//! - other partitions;
//! - an operation that is [`Class::ReadOnly`] with its answer: it changes nothing where it is;
//! - an answer: an operation of unknown outcome may do what it did. (The operation itself must stay: others may need it.)
//! - where all operations write, read or swap whole contents, every operation that mentions some contents, if no other
//!   content is swapped with one of these. What was read is what was written last; between the two there was no write, so
//!   after leaving out writes there still is none. A swap that changed nothing goes with the reads.
//!
//! Each is tried on halves, quarters, and so on, down to single operations, and kept if the rest is still a violation. A
//! contradiction of the fast paths is small from the start: its core, with what wrote the contents.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::check::{Options, find_violation};
use crate::engine::budget::{Budget, Wanted};
use crate::engine::part::Part;
use crate::engine::{OperationOf, Violation, decide, known_after};
use crate::evidence::Found;
use crate::history::{History, Outcome};
use crate::model::{Class, Content, Model, Reveal};
use crate::partition::Partitions;

/// What one try may cost, in steps of the search.
const TRY_STEPS_MAX: u64 = 200_000;

/// So many tries at most.
const TRIES_MAX: usize = 2_000;

/// What looking for the core of a report may cost, in steps of the search.
const CORE_STEPS_MAX: u64 = 1_000_000;

/// Operations in the core of a report; more do not help anybody.
const CORE_MAX: usize = 12;

/// A small part of a history that is a violation by itself; `None` unless the history is one. Whoever must explain
/// the violation need not look at anything else.
pub fn minimize<M: Model>(
    model: &M,
    history: &History<M::Op, M::Ret>,
    options: &Options,
) -> Option<History<M::Op, M::Ret>> {
    let partitions = Partitions::new(model, &history.operations);
    let (number, found) = find_violation(model, history, &partitions, options)?;
    let part = partitions.part::<M>(number, &history.operations);
    let (mut small, event) = match &found {
        Found::Contradiction(contradiction) => {
            let mut members = [&contradiction.core[..], &contradiction.support[..]].concat();
            members.sort_by_key(|operation| operation.invoked.event);
            members.dedup_by_key(|operation| operation.invoked.event);
            (known_after(members.into_iter().cloned(), contradiction.event), contradiction.event)
        }
        Found::Violation(violation) => {
            let event = violation.operation.returned()?.event;
            (known_after(part.iter().cloned(), event), event)
        }
    };
    let deadline = options.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let mut shrinker = Shrinker { model, options, tries: 0, steps_left: u64::MAX, deadline };
    // The search sees a violation one answer ahead, so up to the event alone there may be none.
    if !shrinker.is_violation(&small) {
        small = known_after(part.iter().cloned(), event);
    }
    if !shrinker.is_violation(&small) {
        small = known_after(part.iter().cloned(), usize::MAX);
    }
    shrinker.shrink(&mut small);
    Some(History { operations: small, failed: 0, notes: Vec::new() })
}

/// A few operations of the partition that are a violation by themselves, as a part of which `violation` was found; empty if
/// they would not be few.
pub(crate) fn core_of<'a, M: Model>(
    model: &M,
    part: Part<'_, 'a, M>,
    violation: &Violation<'a, M>,
    deadline: Option<Instant>,
    options: &Options,
) -> Vec<&'a OperationOf<M>> {
    let Some(event) = violation.operation.returned().map(|returned| returned.event) else {
        return Vec::new();
    };
    let mut shrinker = Shrinker { model, options, tries: 0, steps_left: CORE_STEPS_MAX, deadline };
    let mut small = known_after(part.iter().cloned(), event);
    if !shrinker.is_violation(&small) {
        return Vec::new();
    }
    shrinker.shrink(&mut small);
    if small.len() > CORE_MAX {
        return Vec::new();
    }
    let whole = |small: &OperationOf<M>| part.iter().find(|operation| operation.invoked == small.invoked);
    small.iter().filter_map(whole).collect()
}

struct Shrinker<'m, M: Model> {
    model: &'m M,
    options: &'m Options,
    tries: usize,
    steps_left: u64,
    deadline: Option<Instant>,
}

impl<M: Model> Shrinker<'_, M> {
    fn is_violation(&mut self, operations: &[OperationOf<M>]) -> bool {
        self.tries += 1;
        let steps_max = self.options.steps_max.min(TRY_STEPS_MAX);
        let mut budget =
            Budget::new(steps_max.min(self.steps_left), self.options.memory_bytes_max, self.deadline);
        budget.wanted = Wanted::Verdict;
        let is_violation = decide(self.model, Part::whole(operations), &mut budget).is_violation();
        self.steps_left = self.steps_left.saturating_sub(budget.steps);
        is_violation
    }

    fn shrink(&mut self, operations: &mut Vec<OperationOf<M>>) {
        let class = |operation: &OperationOf<M>| self.model.class(&operation.op, operation.ret());
        let reads: Vec<usize> = operations
            .iter()
            .filter(|operation| class(operation) == Class::ReadOnly)
            .map(|operation| operation.invoked.event)
            .collect();
        self.without(operations, reads.iter().map(|read| vec![*read]).collect(), false);
        let mentions = self.mentions(operations);
        self.without(operations, mentions, false);
        let answers = operations.iter().filter(|operation| operation.ret().is_some());
        let answers = answers.map(|operation| vec![operation.invoked.event]).collect();
        self.without(operations, answers, true);
        let mentions = self.mentions(operations);
        self.without(operations, mentions, false);
    }

    /// Takes away whole groups, or their answers, as long as a violation is left. Operations by their first event.
    fn without(&mut self, operations: &mut Vec<OperationOf<M>>, mut groups: Vec<Vec<usize>>, answers: bool) {
        let mut size = groups.len();
        while size > 0 {
            let mut start = 0;
            while start < groups.len() {
                if self.tries >= TRIES_MAX || self.steps_left == 0 {
                    return;
                }
                let end = (start + size).min(groups.len());
                let mut chosen: Vec<usize> = groups[start..end].concat();
                chosen.sort_unstable();
                let is_chosen =
                    |operation: &OperationOf<M>| chosen.binary_search(&operation.invoked.event).is_ok();
                let mut fewer = operations.clone();
                if answers {
                    let taken = fewer.iter_mut().filter(|operation| is_chosen(operation));
                    taken.for_each(|operation| operation.outcome = Outcome::Unknown);
                } else {
                    fewer.retain(|operation| !is_chosen(operation));
                }
                if self.is_violation(&fewer) {
                    *operations = fewer;
                    groups.drain(start..end);
                } else {
                    start = end;
                }
            }
            size /= 2;
        }
    }

    /// The operations that mention each group of contents that no swap connects with others. Empty if something else
    /// than writes, reads and swaps happens.
    fn mentions(&self, operations: &[OperationOf<M>]) -> Vec<Vec<usize>> {
        let mut numbers: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
        let mut leader: Vec<usize> = Vec::new();
        let mut mentioned: Vec<(usize, usize)> = Vec::new();
        for operation in operations {
            let is_read = self.model.class(&operation.op, operation.ret()) == Class::ReadOnly;
            let contents = match self.model.reveal(&operation.op, operation.ret()) {
                Reveal::Writes(content) | Reveal::Reads(content) => vec![content],
                Reveal::Swaps { expected, new } if !is_read => vec![expected, new],
                _ => return Vec::new(),
            };
            let mut joined = None;
            for content in contents {
                let fresh = leader.len();
                let number = *numbers.entry(name_of(content)).or_insert(fresh);
                if number == fresh {
                    leader.push(fresh);
                }
                let root = root_of(&leader, number);
                leader[root] = *joined.get_or_insert(root);
            }
            mentioned.push((joined.unwrap_or(0), operation.invoked.event));
        }
        let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (number, event) in mentioned {
            groups.entry(root_of(&leader, number)).or_default().push(event);
        }
        groups.into_values().collect()
    }
}

fn root_of(leader: &[usize], mut number: usize) -> usize {
    while leader[number] != number {
        number = leader[number];
    }
    number
}

/// Contents as bytes that differ if the contents do.
fn name_of(content: Content<'_>) -> Vec<u8> {
    match content {
        Content::Absent => vec![0],
        Content::Number(number) => [&[1][..], &number.to_be_bytes()].concat(),
        Content::Bytes(bytes) => [&[2], bytes].concat(),
        Content::List(list) => {
            let elements =
                list.iter().map(|value| [&value.as_bytes().len().to_be_bytes(), value.as_bytes()].concat());
            [&[3][..], &elements.collect::<Vec<_>>().concat()].concat()
        }
    }
}
