//! The contract between a replica's driver and the state machine that it drives.
//!
//! A machine is pure: what it writes and replies depends on the view, the entry's position and the entry's bytes,
//! and on nothing else. The same entries over the same view give the same batches and replies on every replica and
//! at every replay. It owns no keys, so state is not bounded by memory. The machine's configuration is part of that
//! function: replicas of one group must run with the same one.
//!
//! Keys that begin with [`DRIVER_PREFIX`] belong to the driver; no machine reads or writes them.
//!
//! The **replica hash** is a multiset hash: the wrapping sum of one 64-bit hash per (key, value) pair. It depends on
//! the content and not on the way that led there, and it is kept up to date from the old and new values of each
//! batch, so comparing replicas costs nothing.

use std::collections::BTreeMap;
use std::fmt::Debug;

use xxhash_rust::xxh3::Xxh3Default;

use crate::raft::Position;
use crate::view::{Batch, View, ViewError};

/// The first byte of every key that the driver keeps beside the machine's in the same store.
pub const DRIVER_PREFIX: u8 = 0;

/// A replicated state machine.
pub trait StateMachine: Clone + Send + Sync + 'static {
    /// What a proposer is told when its entry was applied.
    type Reply: Clone + Debug + Send + 'static;
    /// What can be asked without an entry in the log.
    type Query: Send + 'static;
    /// What comes back.
    type Answer: Send + 'static;

    /// What the committed entry at `at` writes, and what its proposer is told. The bytes are never trusted: a
    /// command that does not decode gets a refusal, the same one on every replica. An error means that the state
    /// below cannot be read; nothing of the entry is applied, and the replica cannot go on.
    fn apply(&self, view: &dyn View, at: Position, command: &[u8])
    -> Result<(Batch, Self::Reply), ViewError>;

    /// Answers from the view as it is; the driver sees to it that the view is recent enough.
    fn read(&self, view: &dyn View, query: &Self::Query) -> Result<Self::Answer, ViewError>;
}

/// A summary of all pairs of a machine, equal on two replicas that have the same content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Content {
    /// The replica hash.
    pub hash: u64,
    /// The number of keys.
    pub keys: u64,
    /// The bytes of all keys and values.
    pub bytes: u64,
}

impl Content {
    /// The summary after a batch that changes it by `delta`.
    pub fn after(self, delta: ContentDelta) -> Self {
        // Wrapping, as the hash: deltas then add up in any order, and a damaged count shows instead of panicking.
        Self {
            hash: self.hash.wrapping_add(delta.hash),
            keys: self.keys.wrapping_add_signed(delta.keys),
            bytes: self.bytes.wrapping_add_signed(delta.bytes),
        }
    }
}

impl Content {
    /// The summary with one pair more.
    pub fn with(self, key: &[u8], value: &[u8]) -> Self {
        let mut delta = ContentDelta::default();
        delta.include(key, value);
        self.after(delta)
    }
}

/// How one batch changes the [`Content`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ContentDelta {
    /// Added to the hash, wrapping.
    pub hash: u64,
    /// Added to the number of keys.
    pub keys: i64,
    /// Added to the number of bytes.
    pub bytes: i64,
}

impl ContentDelta {
    fn include(&mut self, key: &[u8], value: &[u8]) {
        self.hash = self.hash.wrapping_add(pair_hash(key, value));
        self.keys += 1;
        self.bytes += pair_bytes(key, value);
    }

    fn exclude(&mut self, key: &[u8], value: &[u8]) {
        self.hash = self.hash.wrapping_sub(pair_hash(key, value));
        self.keys -= 1;
        self.bytes -= pair_bytes(key, value);
    }
}

/// How `batch` changes the content of `view`, which must be the view just before the batch. Within a batch a later
/// write to a key wins; deleting a key that is not there changes nothing. The batch must hold machine keys only: the
/// driver's record contains the hash and cannot be part of it.
pub fn hash_delta(view: &dyn View, batch: &Batch) -> Result<ContentDelta, ViewError> {
    let last: BTreeMap<&[u8], Option<&[u8]>> =
        batch.writes.iter().map(|(key, value)| (key.as_slice(), value.as_deref())).collect();
    let mut delta = ContentDelta::default();
    for (key, new) in last {
        let old = view.get(key)?;
        if old.as_deref() == new {
            continue;
        }
        if let Some(old) = old {
            delta.exclude(key, &old);
        }
        if let Some(new) = new {
            delta.include(key, new);
        }
    }
    Ok(delta)
}

/// The hash of one pair. The key's length goes first, so that no byte can move between key and value unseen.
/// Frozen: replicas of different builds compare these.
fn pair_hash(key: &[u8], value: &[u8]) -> u64 {
    let mut hasher = Xxh3Default::new();
    hasher.update(&(key.len() as u64).to_le_bytes());
    hasher.update(key);
    hasher.update(value);
    hasher.digest()
}

fn pair_bytes(key: &[u8], value: &[u8]) -> i64 {
    // A pair is in memory, so its size fits.
    (key.len() + value.len()) as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Index, Term};
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    type Map = BTreeMap<Vec<u8>, Vec<u8>>;

    fn write(map: &mut Map, content: &mut Content, batch: &Batch) {
        *content = content.after(hash_delta(map, batch).unwrap());
        for (key, value) in &batch.writes {
            match value {
                Some(value) => map.insert(key.clone(), value.clone()),
                None => map.remove(key),
            };
        }
    }

    /// The content computed from nothing, pair by pair.
    fn content_of(map: &Map) -> Content {
        let mut content = Content::default();
        for (key, value) in map {
            content = content.with(key, value);
        }
        content
    }

    #[test]
    fn the_hash_of_a_pair_is_frozen() {
        assert_eq!(pair_hash(b"", b""), xxhash_rust::xxh3::xxh3_64(&[0; 8]));
        assert_eq!(pair_hash(b"key", b"value"), xxhash_rust::xxh3::xxh3_64(b"\x03\0\0\0\0\0\0\0keyvalue"));
        assert_eq!(pair_hash(b"key", b"value"), 0x07e3_3da5_beb1_bad1);
    }

    #[test]
    fn a_later_write_wins_and_deleting_what_is_not_there_changes_nothing() {
        let (mut map, mut content) = (Map::new(), Content::default());
        let mut batch = Batch::new();
        batch.put("a", "1");
        batch.delete("a");
        batch.delete("missing");
        batch.put("b", "");
        batch.put("b", "22");
        write(&mut map, &mut content, &batch);
        assert_eq!(content, content_of(&Map::from([(b"b".to_vec(), b"22".to_vec())])));
        assert_eq!((content.keys, content.bytes), (1, 3));
    }

    #[test]
    fn an_unreadable_view_is_an_error_and_not_a_wrong_hash() {
        struct Damaged;
        impl View for Damaged {
            fn get(&self, _: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
                Err(ViewError("block 7 is damaged".into()))
            }
            fn page(
                &self,
                _: &crate::view::KeyRange,
                _: crate::view::PageLimit,
            ) -> Result<Vec<crate::view::Pair>, ViewError> {
                Err(ViewError("block 7 is damaged".into()))
            }
        }
        let mut batch = Batch::new();
        batch.delete("a");
        assert_eq!(hash_delta(&Damaged, &batch), Err(ViewError("block 7 is damaged".into())));
    }

    /// A machine small enough to show that the trait can be implemented and driven.
    #[derive(Clone)]
    struct Counter;

    impl StateMachine for Counter {
        type Reply = u64;
        type Query = ();
        type Answer = u64;

        fn apply(&self, view: &dyn View, _: Position, command: &[u8]) -> Result<(Batch, u64), ViewError> {
            let sum = self.read(view, &())? + command.len() as u64;
            let mut batch = Batch::new();
            batch.put("sum", sum.to_le_bytes());
            Ok((batch, sum))
        }

        fn read(&self, view: &dyn View, _: &()) -> Result<u64, ViewError> {
            let bytes = view.get(b"sum")?.unwrap_or_else(|| vec![0; 8]);
            bytes.try_into().map(u64::from_le_bytes).map_err(|_| ViewError("sum: not 8 bytes".into()))
        }
    }

    #[test]
    fn a_machine_is_driven_entry_by_entry() {
        let (mut map, mut content) = (Map::new(), Content::default());
        for (index, command) in [(1, "aa"), (2, "bbb")] {
            let at = Position { index: Index(index), term: Term(1) };
            let (batch, _) = Counter.apply(&map, at, command.as_bytes()).unwrap();
            write(&mut map, &mut content, &batch);
        }
        assert_eq!(Counter.read(&map, &()), Ok(5));
        assert_eq!(content, content_of(&map));
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        vec(0..4u8, 0..4)
    }

    fn writes() -> impl Strategy<Value = Vec<(Vec<u8>, Option<Vec<u8>>)>> {
        vec((bytes(), proptest::option::of(bytes())), 0..8)
    }

    proptest! {
        #[test]
        fn kept_up_batch_by_batch_it_is_the_hash_of_the_content(batches in vec(writes(), 0..12)) {
            let (mut map, mut content) = (Map::new(), Content::default());
            for writes in batches {
                write(&mut map, &mut content, &Batch { writes });
                prop_assert_eq!(content, content_of(&map));
            }
        }

        #[test]
        fn the_same_content_reached_in_another_order_has_the_same_hash(
            target in btree_map(bytes(), bytes(), 0..8), detour in writes(), order in any::<u64>(), split in 1..4usize,
        ) {
            let (mut straight, mut straight_content) = (Map::new(), Content::default());
            for (key, value) in &target {
                write(&mut straight, &mut straight_content, &Batch { writes: vec![(key.clone(), Some(value.clone()))] });
            }
            let (mut other, mut other_content) = (Map::new(), Content::default());
            write(&mut other, &mut other_content, &Batch { writes: detour });
            let mut writes: Vec<_> = other.keys().filter(|key| !target.contains_key(*key))
                .map(|key| (key.clone(), None)).collect();
            writes.extend(target.iter().map(|(key, value)| (key.clone(), Some(value.clone()))));
            writes.sort_by_key(|(key, _)| pair_hash(key, &order.to_le_bytes()));
            for part in writes.chunks(split) {
                write(&mut other, &mut other_content, &Batch { writes: part.to_vec() });
            }
            prop_assert_eq!(&straight, &other);
            prop_assert_eq!(straight_content, other_content);
        }

        #[test]
        fn a_changed_byte_a_swapped_pair_or_a_missing_key_changes_the_hash(
            map in btree_map(bytes(), vec(any::<u8>(), 1..6), 2..8), which in any::<prop::sample::Index>(),
            other in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), bit in 0..8u8,
        ) {
            let keys: Vec<_> = map.keys().cloned().collect();
            let (key, hash) = (which.get(&keys), content_of(&map).hash);

            let mut changed = map.clone();
            let value = changed.get_mut(key).unwrap();
            value[at.index(map[key].len())] ^= 1 << bit;
            prop_assert_ne!(content_of(&changed).hash, hash);

            let mut missing = map.clone();
            missing.remove(key);
            prop_assert_ne!(content_of(&missing).hash, hash);

            let partner = other.get(&keys);
            let mut swapped = map.clone();
            swapped.insert(key.clone(), map[partner].clone());
            swapped.insert(partner.clone(), map[key].clone());
            prop_assert_eq!(content_of(&swapped).hash == hash, swapped == map);

            // Key and value exchanged, and a byte moved over the border between them.
            prop_assert_eq!(pair_hash(key, &map[key]) == pair_hash(&map[key], key), *key == map[key]);
            let moved = [key.as_slice(), &map[key][..1]].concat();
            prop_assert_ne!(pair_hash(&moved, &map[key][1..]), pair_hash(key, &map[key]));
        }
    }
}
