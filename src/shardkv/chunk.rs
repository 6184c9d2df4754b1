//! A part of a shard on its way: its bounds and its checksum.
//!
//! Invariants: the keys of a chunk ascend, and all lie behind what the chunk says came before; its checksum covers
//! every byte of it, which shard it is of, and which reign it is for.

use xxhash_rust::xxh3::Xxh3Default;

use super::migrate::Reign;
use crate::machine::Content;
use crate::proto::shardkv as pb;
use crate::types::ShardId;
use crate::view::{PageLimit, Pair};

/// What a chunk holds: bytes of keys and values, beyond which no further pair is added (one pair may be larger), and
/// pairs.
pub const CHUNK_LIMIT: PageLimit = PageLimit { pairs_max: 4 << 10, bytes_max: 512 << 10 };

/// A chunk for `by`; `whole`: it is the last one.
pub(super) fn pack(
    shard: ShardId,
    by: Reign,
    after: &[u8],
    pairs: Vec<Pair>,
    whole: Option<(Content, u64)>,
) -> pb::Chunk {
    let pair = |(key, value): Pair| pb::Pair { key: key.into(), value: value.into() };
    let mut chunk = pb::Chunk {
        after: after.to_vec().into(),
        pairs: pairs.into_iter().map(pair).collect(),
        whole: whole.map(|(content, position)| pb::Whole { content: Some(content.into()), position }),
        checksum: 0,
    };
    chunk.checksum = checksum(shard, by, &chunk);
    chunk
}

/// What is wrong with `chunk`, which came for `by`, if anything.
pub(super) fn check(shard: ShardId, by: Reign, chunk: &pb::Chunk) -> Result<(), &'static str> {
    if chunk.checksum != checksum(shard, by, chunk) {
        return Err("the chunk's checksum does not match");
    }
    let keys = std::iter::once(&chunk.after).chain(chunk.pairs.iter().map(|pair| &pair.key));
    if !keys.is_sorted_by(|left, right| left < right) {
        return Err("the chunk's keys are not in order");
    }
    match &chunk.whole {
        Some(pb::Whole { content: None, .. }) => Err("the last chunk lacks the sum of all"),
        None if chunk.pairs.is_empty() => Err("the chunk is empty and not the last"),
        _ => Ok(()),
    }
}

/// Frozen: groups of different builds compare these.
fn checksum(shard: ShardId, by: Reign, chunk: &pb::Chunk) -> u64 {
    let mut hasher = Xxh3Default::new();
    let number = |hasher: &mut Xxh3Default, number: u64| hasher.update(&number.to_le_bytes());
    for part in [shard.0, by.group.0, by.epoch.0, chunk.pairs.len() as u64] {
        number(&mut hasher, part);
    }
    let parts = chunk.pairs.iter().flat_map(|pair| [&pair.key, &pair.value]);
    for part in std::iter::once(&chunk.after).chain(parts) {
        number(&mut hasher, part.len() as u64);
        hasher.update(part);
    }
    if let Some(whole) = &chunk.whole {
        let content = whole.content.unwrap_or_default();
        for part in [content.hash, content.keys, content.bytes, whole.position] {
            number(&mut hasher, part);
        }
    }
    hasher.digest()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{ConfigNum, GroupId};

    const SHARD: ShardId = ShardId(3);
    const BY: Reign = Reign { group: GroupId(2), epoch: ConfigNum(5) };

    fn pairs(keys: &[&str]) -> Vec<Pair> {
        keys.iter().map(|key| (key.as_bytes().to_vec(), b"value".to_vec())).collect()
    }

    #[test]
    fn any_changed_part_of_a_chunk_is_noticed() {
        let chunk = pack(SHARD, BY, b"a", pairs(&["b", "c"]), Some((Content::default(), 9)));
        assert_eq!(check(SHARD, BY, &chunk), Ok(()));
        let changes: [fn(&mut pb::Chunk); 6] = [
            |chunk| chunk.after = "".into(),
            |chunk| chunk.pairs[1].value = "valve".into(),
            |chunk| chunk.pairs[0].key = "bb".into(),
            |chunk| drop(chunk.pairs.pop()),
            |chunk| chunk.whole = None,
            |chunk| chunk.whole.as_mut().unwrap().position = 8,
        ];
        for (number, change) in changes.iter().enumerate() {
            let mut changed = chunk.clone();
            change(&mut changed);
            assert!(check(SHARD, BY, &changed).is_err(), "change {number}");
        }
        assert!(check(ShardId(4), BY, &chunk).is_err());
        assert!(check(SHARD, Reign { epoch: ConfigNum(6), ..BY }, &chunk).is_err());
    }

    #[test]
    fn keys_that_do_not_ascend_are_refused_although_the_checksum_is_right() {
        for keys in [&["c", "b"][..], &["b", "b"], &["a"], &[]] {
            let chunk = pack(SHARD, BY, b"a", pairs(keys), None);
            assert!(check(SHARD, BY, &chunk).is_err(), "{keys:?}");
        }
    }
}
