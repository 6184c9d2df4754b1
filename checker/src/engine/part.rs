//! The operations of one partition, without a copy of them.
//!
//! Invariant: they are in the order of their invocations; a place is a number in that order, from 0.

use crate::engine::OperationOf;
use crate::model::Model;

/// All operations of a history, or those at some places of it.
pub(crate) struct Part<'p, 'a, M: Model> {
    all: &'a [OperationOf<M>],
    places: Option<&'p [u32]>,
}

impl<M: Model> Clone for Part<'_, '_, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M: Model> Copy for Part<'_, '_, M> {}

impl<'p, 'a, M: Model> Part<'p, 'a, M> {
    /// All operations.
    pub(crate) fn whole(all: &'a [OperationOf<M>]) -> Self {
        Part { all, places: None }
    }

    /// The operations at `places`, which rise.
    pub(crate) fn at(all: &'a [OperationOf<M>], places: &'p [u32]) -> Self {
        Part { all, places: Some(places) }
    }

    pub(crate) fn len(self) -> usize {
        self.places.map_or(self.all.len(), <[u32]>::len)
    }

    /// The number in the history of the operation at `place`.
    pub(crate) fn number(self, place: usize) -> usize {
        self.places.map_or(place, |places| places[place] as usize)
    }

    pub(crate) fn get(self, place: usize) -> &'a OperationOf<M> {
        &self.all[self.number(place)]
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = &'a OperationOf<M>> + use<'p, 'a, M> {
        (0..self.len()).map(move |place| self.get(place))
    }

    /// What was invoked before event `limit`.
    pub(crate) fn invoked_before(self, limit: usize) -> Self {
        let early = |operation: &OperationOf<M>| operation.invoked.event < limit;
        match self.places {
            None => Part { all: &self.all[..self.all.partition_point(early)], places: None },
            Some(places) => {
                let count = places.partition_point(|number| early(&self.all[*number as usize]));
                Part { all: self.all, places: Some(&places[..count]) }
            }
        }
    }
}
