//! The parts of a history that are decided by themselves.
//!
//! Invariant: the parts are in the order of their keys, the operations of each in the order of the history.

use std::hash::BuildHasher;

use hashbrown::HashTable;
use rustc_hash::FxBuildHasher;

use crate::engine::OperationOf;
use crate::engine::part::Part;
use crate::model::Model;

/// Room for as many parts as many histories have.
const ROOM_PARTS: usize = 28;

/// The parts of a history.
pub(crate) struct Partitions<K> {
    keys: Vec<Option<K>>,
    /// The numbers of the operations, those of one part after those of another; `None`: there is one part, of all.
    places: Option<Vec<u32>>,
    /// Where in `places` those of each part end.
    ends: Vec<u32>,
    /// How many operations have an unknown outcome: counted here, because going over a long history takes time.
    unknown: usize,
}

impl<K: Clone + Ord + std::hash::Hash> Partitions<K> {
    /// Takes a history apart. An operation without a key is of all parts, so then there is only one.
    pub(crate) fn new<M: Model<Key = K>>(model: &M, operations: &[OperationOf<M>]) -> Self {
        let Some(first) = operations.first().map(|operation| model.key(&operation.op)) else {
            return Partitions { keys: Vec::new(), places: None, ends: Vec::new(), unknown: 0 };
        };
        let mut unknown = 0;
        let whole = |key, unknown| Partitions { keys: vec![key], places: None, ends: Vec::new(), unknown };
        let one_key = operations.iter().all(|operation| {
            unknown += usize::from(operation.ret().is_none());
            model.with_key(&operation.op, |key| key == first.as_ref())
        });
        if one_key {
            return whole(first, unknown);
        }
        unknown = 0;
        let mut numbers: HashTable<u32> = HashTable::with_capacity(ROOM_PARTS);
        let mut keys: Vec<(Option<K>, u32)> = Vec::with_capacity(ROOM_PARTS);
        let mut counts: Vec<u32> = Vec::with_capacity(ROOM_PARTS);
        let mut part_of: Vec<u32> = Vec::with_capacity(operations.len());
        for operation in operations {
            let number = model.with_key(&operation.op, |key| {
                let hash = FxBuildHasher.hash_one(key);
                let known = numbers.find(hash, |number| keys[*number as usize].0.as_ref() == key);
                if let Some(number) = known {
                    return *number;
                }
                let number = keys.len() as u32;
                keys.push((key.cloned(), number));
                counts.push(0);
                let hash_of = |number: &u32| FxBuildHasher.hash_one(keys[*number as usize].0.as_ref());
                numbers.insert_unique(hash, number, hash_of);
                number
            });
            counts[number as usize] += 1;
            part_of.push(number);
            unknown += usize::from(operation.ret().is_none());
        }
        keys.sort_unstable();
        // Without a key is before all others.
        if keys[0].0.is_none() {
            return whole(None, unknown);
        }
        // Where the next operation of each part goes.
        let (mut next, mut start) = (vec![0; keys.len()], 0);
        for (_, number) in &keys {
            next[*number as usize] = start;
            start += counts[*number as usize];
        }
        let mut places = vec![0; operations.len()];
        for (place, number) in (0..).zip(part_of) {
            let next = &mut next[number as usize];
            places[*next as usize] = place;
            *next += 1;
        }
        let ends = keys.iter().map(|(_, number)| next[*number as usize]).collect();
        Partitions {
            keys: keys.into_iter().map(|(key, _)| key).collect(),
            places: Some(places),
            ends,
            unknown,
        }
    }
}

impl<K> Partitions<K> {
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// How many operations have an unknown outcome.
    pub(crate) fn unknown(&self) -> usize {
        self.unknown
    }

    /// The key of the part with this number.
    pub(crate) fn key(&self, number: usize) -> Option<&K> {
        self.keys[number].as_ref()
    }

    /// The operations of the part with this number.
    pub(crate) fn part<'p, 'a, M: Model>(
        &'p self,
        number: usize,
        operations: &'a [OperationOf<M>],
    ) -> Part<'p, 'a, M> {
        let Some(places) = &self.places else { return Part::whole(operations) };
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        Part::at(operations, &places[start..self.ends[number] as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::{Shape, generate};
    use crate::models::kv::Kv;
    use crate::read::AnyHistory;

    #[test]
    fn every_operation_is_in_the_part_of_its_key() {
        let AnyHistory::Kv(model, history) = generate(&Shape { keys: 7, ..Shape::default() }, 1) else {
            panic!("keys make it a store")
        };
        let partitions = Partitions::new(&model, &history.operations);
        let mut seen = vec![false; history.operations.len()];
        for number in 0..partitions.len() {
            assert!(number == 0 || partitions.key(number - 1) < partitions.key(number));
            let part = partitions.part::<Kv>(number, &history.operations);
            let mut last = None;
            for place in 0..part.len() {
                assert_eq!(Some(part.get(place).op.key()), partitions.key(number));
                assert!(last < Some(part.number(place)));
                last = Some(part.number(place));
                assert!(!std::mem::replace(&mut seen[part.number(place)], true));
            }
        }
        assert_eq!((partitions.len(), seen.contains(&false)), (7, false));
    }
}
