//! One partition, prepared for the search: its operations numbered in the order of invocation, its events in order, and
//! equal operations (same request, same answer) under one *kind*.
//!
//! Invariant: `events` holds one `Invoke` for each operation and, later, one `Return` for each whose outcome is known.

use rustc_hash::FxHashMap as HashMap;

use crate::history::Operation;
use crate::model::{Class, Model};

/// The return event of an operation whose outcome is unknown: after all others.
pub(crate) const NEVER: u32 = u32::MAX;

/// Whether the search may believe the model's hints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hints {
    /// Use them, test them on the way.
    Trusted,
    /// One of them was wrong: every operation is general and the model is not focused.
    Ignored,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Invoke(u32),
    Return(u32),
}

pub(crate) struct Plan<'a, M: Model> {
    /// The model as its author wrote it.
    pub(crate) model: &'a M,
    /// The model that the search uses.
    pub(crate) focused: M,
    pub(crate) operations: Vec<&'a Operation<M::Op, M::Ret>>,
    /// The place in the partition of each operation.
    pub(crate) place: Vec<u32>,
    pub(crate) events: Vec<Event>,
    /// The number in `events` of each operation's invocation.
    pub(crate) invoked_at: Vec<u32>,
    /// The number in `events` of each operation's return, or [`NEVER`].
    pub(crate) returned_at: Vec<u32>,
    /// The kind of each operation.
    pub(crate) kind: Vec<u32>,
    /// The class of each kind.
    pub(crate) class: Vec<Class>,
    /// An operation of each kind.
    pub(crate) example: Vec<u32>,
}

impl<'a, M: Model> Plan<'a, M> {
    pub(crate) fn new(model: &'a M, operations: &[&'a Operation<M::Op, M::Ret>], hints: Hints) -> Self {
        let focused = match hints {
            Hints::Ignored => model.clone(),
            Hints::Trusted => {
                let seen: Vec<_> =
                    operations.iter().map(|operation| (&operation.op, operation.ret())).collect();
                model.focus(&seen)
            }
        };
        let class_of = |operation: &Operation<M::Op, M::Ret>| match hints {
            Hints::Trusted => focused.class(&operation.op, operation.ret()),
            Hints::Ignored => Class::General,
        };
        // A read that nobody knows the answer of constrains nothing.
        let constrains = |operation: &Operation<M::Op, M::Ret>| {
            operation.ret().is_some() || class_of(operation) != Class::ReadOnly
        };
        let (place, operations): (Vec<u32>, Vec<_>) =
            (0..).zip(operations.iter().copied()).filter(|(_, operation)| constrains(operation)).unzip();
        let mut plan = Plan {
            model,
            focused: focused.clone(),
            events: Vec::new(),
            invoked_at: vec![NEVER; operations.len()],
            returned_at: vec![NEVER; operations.len()],
            kind: Vec::with_capacity(operations.len()),
            class: Vec::new(),
            example: Vec::new(),
            operations,
            place,
        };
        plan.order_events();
        let mut kinds = HashMap::default();
        for (number, operation) in (0..).zip(&plan.operations) {
            let kind = *kinds.entry((&operation.op, operation.ret())).or_insert_with(|| {
                plan.class.push(class_of(operation));
                plan.example.push(number);
                (plan.class.len() - 1) as u32
            });
            plan.kind.push(kind);
        }
        plan
    }

    fn order_events(&mut self) {
        let mut events = Vec::with_capacity(2 * self.operations.len());
        for (number, operation) in (0..).zip(&self.operations) {
            events.push((operation.invoked.event, Event::Invoke(number)));
            if let Some(returned) = operation.returned() {
                events.push((returned.event, Event::Return(number)));
            }
        }
        events.sort_unstable_by_key(|(position, _)| *position);
        self.events = events.into_iter().map(|(_, event)| event).collect();
        for (at, event) in (0..).zip(&self.events) {
            match *event {
                Event::Invoke(number) => self.invoked_at[number as usize] = at,
                Event::Return(number) => self.returned_at[number as usize] = at,
            }
        }
    }

    pub(crate) fn class_of(&self, number: usize) -> Class {
        self.class[self.kind[number] as usize]
    }

    pub(crate) fn is_unknown(&self, number: usize) -> bool {
        self.returned_at[number] == NEVER
    }

    /// The largest number of operations that are open at the same time.
    pub(crate) fn open_max(&self) -> usize {
        let (mut open, mut most) = (0_usize, 0);
        for event in &self.events {
            match event {
                Event::Invoke(_) => open += 1,
                Event::Return(_) => open -= 1,
            }
            most = most.max(open);
        }
        most
    }
}
