//! The frontier search with sets that are just large enough: most partitions have few operations open at a time, and
//! small sets are fast.

use crate::engine::breadth::{Breadth, Returned, Stop};
use crate::engine::budget::{Budget, Exhausted};
use crate::engine::slots::Slots;
use crate::engine::states::{Handle, StateId, States, WrongHint};
use crate::engine::trail::{StepId, Trail};
use crate::engine::window::Open;
use crate::model::Model;

/// So many operations may be open at the same time.
pub(crate) const OPEN_MAX: usize = Slots::<128>::CAPACITY;

/// A frontier search whose sets grow.
#[derive(Clone)]
pub(crate) enum Frontier<M: Model, H> {
    W1(Box<Breadth<M, H, 1>>),
    W2(Box<Breadth<M, H, 2>>),
    W4(Box<Breadth<M, H, 4>>),
    W16(Box<Breadth<M, H, 16>>),
    W128(Box<Breadth<M, H, 128>>),
}

/// The same for every width.
macro_rules! each {
    ($frontier:expr, $breadth:ident => $body:expr) => {
        match $frontier {
            Frontier::W1($breadth) => $body,
            Frontier::W2($breadth) => $body,
            Frontier::W4($breadth) => $body,
            Frontier::W16($breadth) => $body,
            Frontier::W128($breadth) => $body,
        }
    };
}

impl<M: Model, H: Handle<M>> Frontier<M, H> {
    /// See [`Breadth::new`].
    pub(crate) fn new(states: States<M, H>, keep_order: bool) -> Self {
        Frontier::W1(Box::new(Breadth::new(states, keep_order)))
    }

    fn widen(self) -> Result<Self, Exhausted> {
        Ok(match self {
            Frontier::W1(breadth) => Frontier::W2(Box::new(breadth.widen())),
            Frontier::W2(breadth) => Frontier::W4(Box::new(breadth.widen())),
            Frontier::W4(breadth) => Frontier::W16(Box::new(breadth.widen())),
            Frontier::W16(breadth) => Frontier::W128(Box::new(breadth.widen())),
            Frontier::W128(_) => return Err(Exhausted::Open { open_max: OPEN_MAX }),
        })
    }

    /// See [`Breadth::invoke`]; makes room if there is none.
    pub(crate) fn invoke(
        mut self,
        place: u32,
        operation: &H,
        returned: usize,
        budget: &mut Budget,
    ) -> Result<(Self, Option<u16>), Stop> {
        loop {
            match each!(&mut self, breadth => breadth.invoke(place, operation, returned, budget)) {
                Err(Stop::Full) => self = self.widen()?,
                Err(stop) => return Err(stop),
                Ok(slot) => return Ok((self, slot)),
            }
        }
    }

    /// See [`Breadth::finish`].
    pub(crate) fn finish(&mut self, slot: u16, budget: &mut Budget) -> Result<Returned, Stop> {
        each!(self, breadth => breadth.finish(slot, budget))
    }

    /// See [`Breadth::resume`].
    pub(crate) fn resume(&mut self, budget: &mut Budget) -> Result<Returned, Stop> {
        each!(self, breadth => breadth.resume(budget))
    }

    /// See [`Breadth::dead_ends`].
    pub(crate) fn dead_ends(&self) -> (Vec<(StateId, StepId)>, bool) {
        each!(self, breadth => breadth.dead_ends())
    }

    /// See [`Breadth::into_order`].
    pub(crate) fn into_order(self) -> Vec<u32> {
        each!(self, breadth => breadth.into_order())
    }

    pub(crate) fn trail(&self) -> &Trail {
        each!(self, breadth => breadth.trail())
    }

    pub(crate) fn states(&self) -> &States<M, H> {
        each!(self, breadth => breadth.states())
    }

    /// See [`Breadth::open_changes`].
    pub(crate) fn open_changes(&self) -> Vec<Open> {
        each!(self, breadth => breadth.open_changes().copied().collect())
    }

    /// See [`Breadth::bytes_in_use`].
    pub(crate) fn bytes(&self) -> usize {
        each!(self, breadth => breadth.bytes_in_use())
    }

    /// See [`Breadth::tidy`].
    pub(crate) fn tidy(&mut self) -> Result<(), WrongHint> {
        each!(self, breadth => breadth.tidy())
    }

    /// See [`Breadth::push_mark`].
    pub(crate) fn push_mark(&mut self) {
        each!(self, breadth => breadth.push_mark());
    }

    /// See [`Breadth::pop_mark`].
    pub(crate) fn pop_mark(&mut self, go_back: bool) {
        each!(self, breadth => breadth.pop_mark(go_back));
    }
}
