//! A config: which group owns which shard, since when, and where the groups are.
//!
//! Invariants of every config that [`Change::apply`](super::Change::apply) makes:
//! - a shard has an owner exactly if any group is joined, and the owner is joined;
//! - a pinned shard has an owner: the group that it is pinned to;
//! - `epoch` is the config that gave the shard to its owner (or took it from its last one), so (shard, epoch) names
//!   one reign, and epochs only grow;
//! - `source` is the last group that owned the shard before `epoch`, however long ago; a shard without a source was
//!   never owned before and starts empty. It may be the owner itself, when nobody was joined in between;
//! - the addresses of every owner and every source are in the config: `groups` has those that are joined, `left`
//!   exactly those that are a source and are not. So a group that left can still be asked for its data (eRaft gave
//!   such shards to the next owner empty: B31).

use std::collections::{BTreeMap, BTreeSet};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::addresses::Addresses;
use crate::types::{ConfigNum, GroupId, ShardId};

/// The number of shards of a cluster whose creator says nothing.
pub const SHARDS_DEFAULT: usize = 10;

/// The largest number of shards that a cluster may have.
pub const SHARDS_MAX: usize = 4096;

/// Frozen: it says where every key of every cluster is.
const KEY_SEED: u64 = 0x6572_6166_742d_6b65;

/// The shard of `key` in a cluster of `shards` shards, at least one. All bytes of the key count: keys with a common
/// beginning spread over all shards (eRaft looked at the first byte alone: B22).
pub fn shard_of(key: &[u8], shards: usize) -> ShardId {
    assert!(shards > 0, "a cluster has shards");
    ShardId(xxh3_64_with_seed(key, KEY_SEED) % shards as u64)
}

/// One version of the placement of all shards.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    /// Its number; each accepted change makes the next one.
    pub num: ConfigNum,
    /// Where each shard is, by [`ShardId`].
    pub shards: Vec<Placement>,
    /// The joined groups and where their members are.
    pub groups: BTreeMap<GroupId, Addresses>,
    /// Groups that are not joined but still a source.
    pub left: BTreeMap<GroupId, Addresses>,
}

/// Where one shard is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Placement {
    /// The group that serves it; `None` while no group is joined.
    pub owner: Option<GroupId>,
    /// The config since which this is so.
    pub epoch: ConfigNum,
    /// From whom the owner gets the data; `None`: the shard starts empty.
    pub source: Option<Source>,
    /// True if an operator put it there; rebalancing leaves it alone.
    pub pinned: bool,
}

/// The reign before the present one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    /// The group that owned the shard.
    pub group: GroupId,
    /// The config that had given it to that group.
    pub epoch: ConfigNum,
}

impl Placement {
    /// The placement in config `num`, in which `owner` owns the shard.
    pub(super) fn given_to(self, owner: Option<GroupId>, num: ConfigNum) -> Self {
        if owner == self.owner {
            return self;
        }
        let source = match self.owner {
            Some(group) => Some(Source { group, epoch: self.epoch }),
            None => self.source,
        };
        Self { owner, epoch: num, source, pinned: self.pinned }
    }

    /// The group that has the shard's data without moving it: the owner, or the last one if nobody owns it now.
    pub fn home(&self) -> Option<GroupId> {
        self.owner.or(self.source.map(|source| source.group))
    }
}

impl Config {
    /// Config 0 of a cluster of `shards` shards: no groups, nothing owned.
    pub fn empty(shards: usize) -> Self {
        Self {
            num: ConfigNum(0),
            shards: vec![Placement::default(); shards],
            groups: BTreeMap::new(),
            left: BTreeMap::new(),
        }
    }

    /// Where `shard` is, if the cluster has such a shard.
    pub fn placement(&self, shard: ShardId) -> Option<&Placement> {
        self.shards.get(usize::try_from(shard.0).ok()?)
    }

    /// The shard of `key`.
    pub fn shard_of(&self, key: &[u8]) -> ShardId {
        shard_of(key, self.shards.len())
    }

    /// The shards with their numbers.
    pub fn placements(&self) -> impl Iterator<Item = (ShardId, &Placement)> {
        (0..).map(ShardId).zip(&self.shards)
    }

    /// The shards that `group` owns, ascending.
    pub fn shards_of(&self, group: GroupId) -> impl Iterator<Item = ShardId> {
        let owned = move |(_, placement): &(ShardId, &Placement)| placement.owner == Some(group);
        self.placements().filter(owned).map(|(shard, _)| shard)
    }

    /// The addresses of a group that is joined, or left and still a source.
    pub fn addresses(&self, group: GroupId) -> Option<&Addresses> {
        self.groups.get(&group).or_else(|| self.left.get(&group))
    }

    /// How many shards are at another group than in `before`, counted as transfers of data: a shard that nobody
    /// owned costs nothing where its data is, nor where it starts empty.
    pub fn moves_since(&self, before: &Config) -> usize {
        let moved = |(now, then): &(&Placement, &Placement)| {
            now.owner.is_some() && then.home().is_some() && now.owner != then.home()
        };
        self.shards.iter().zip(&before.shards).filter(moved).count()
    }

    /// What contradicts the invariants of a config, if anything does.
    pub fn check(&self) -> Result<(), String> {
        let mut sources = BTreeSet::new();
        for (shard, placement) in self.placements() {
            if placement.epoch > self.num {
                return Err(format!("shard {shard} has epoch {} in config {}", placement.epoch, self.num));
            }
            if placement.source.is_some_and(|source| source.epoch >= placement.epoch) {
                return Err(format!("shard {shard} comes from a later reign than its own"));
            }
            match placement.owner {
                Some(owner) if !self.groups.contains_key(&owner) => {
                    return Err(format!("shard {shard} is at group {owner}, which is not joined"));
                }
                None if !self.groups.is_empty() => return Err(format!("shard {shard} is at no group")),
                None if placement.pinned => return Err(format!("shard {shard} is pinned to nobody")),
                _ => {}
            }
            sources.extend(placement.source.map(|source| source.group));
        }
        let left: BTreeSet<GroupId> = sources.into_iter().filter(|g| !self.groups.contains_key(g)).collect();
        if !left.iter().eq(self.left.keys()) {
            return Err(format!(
                "{left:?} left and are a source, but there are addresses of {:?}",
                self.left
            ));
        }
        match self.groups.contains_key(&GroupId(0)) {
            true => Err("group 0 is joined".to_owned()),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_key_is_is_frozen() {
        let of = |key: &str| (shard_of(key.as_bytes(), 10).0, shard_of(key.as_bytes(), SHARDS_MAX).0);
        assert_eq!([of(""), of("a"), of("user:1")], [(8, 3010), (1, 69), (0, 2682)]);
    }

    #[test]
    fn eraft_b22_keys_with_a_common_beginning_spread_over_all_shards() {
        for shards in [1, 3, SHARDS_DEFAULT, 64] {
            let mut keys = vec![0; shards];
            for number in 0..1000 * shards {
                keys[usize::try_from(shard_of(format!("user:{number}").as_bytes(), shards).0).unwrap()] += 1;
            }
            assert!(keys.iter().all(|count| (800..1200).contains(count)), "{keys:?}");
        }
    }

    #[test]
    fn a_placement_remembers_who_had_the_shard_before() {
        let (first, second) = (GroupId(1), GroupId(2));
        let mut placement = Placement::default().given_to(Some(first), ConfigNum(1));
        assert_eq!((placement.epoch, placement.source), (ConfigNum(1), None), "it starts empty");
        placement = placement.given_to(Some(first), ConfigNum(2));
        assert_eq!(placement.epoch, ConfigNum(1), "nothing changed");
        placement = placement.given_to(None, ConfigNum(3));
        let source = Some(Source { group: first, epoch: ConfigNum(1) });
        assert_eq!((placement.epoch, placement.source), (ConfigNum(3), source), "nobody owns it");
        placement = placement.given_to(Some(second), ConfigNum(4));
        assert_eq!((placement.epoch, placement.source), (ConfigNum(4), source), "the data is where it was");
        placement = placement.given_to(Some(first), ConfigNum(5));
        let source = Some(Source { group: second, epoch: ConfigNum(4) });
        assert_eq!((placement.epoch, placement.source), (ConfigNum(5), source));
    }
}
