//! When a sharded store has come to rest: each shard is where the latest config wants it, and nowhere else.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use eraft::ctrler::Config;
use eraft::types::{GroupId, NodeId, ShardId};
use madsim::time::sleep;

use super::World;
use crate::invariants::shards::{DataKey, Known, is_here};
use crate::places::{self, Place};

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Followers have applied and flushed everything within this after their group has come to rest, besides the time
/// between two flushes.
const CLEAN_WITHIN: Duration = Duration::from_secs(10);

impl World {
    /// Waits until all groups have come to rest; what is not in its place after `within`, otherwise.
    pub(crate) async fn settled(&self, within: Duration) -> Result<(), String> {
        let begun = self.time.elapsed();
        loop {
            match self.unsettled() {
                None => return Ok(()),
                Some(why) if self.time.elapsed() - begun >= within => return Err(why),
                Some(_) => sleep(LOOK_EVERY).await,
            }
        }
    }

    /// What is not in its place by what the groups have committed.
    fn unsettled(&self) -> Option<String> {
        let Some(config) = self.watcher.latest_config() else { return Some("there is no config".to_owned()) };
        let known = self.watcher.shards();
        let groups = (0..self.plan.configuration.cluster.groups).map(places::group);
        groups
            .into_iter()
            .find_map(|group| misplaced(group, &config, known.get(&group).unwrap_or(&Known::default())))
    }

    /// Waits until the stores of `nodes` hold the data of exactly the shards that their groups own: measured on what
    /// is durable. What else they hold after a while, otherwise.
    pub(crate) async fn clean(&self, nodes: &[NodeId]) -> Result<(), String> {
        let begun = self.time.elapsed();
        let flush = Duration::from_millis(self.plan.configuration.cluster.apply_flush_ms);
        loop {
            let found = nodes.iter().find_map(|node| self.litter(*node));
            match found {
                None => return Ok(()),
                Some(why) if self.time.elapsed() - begun >= CLEAN_WITHIN + flush => return Err(why),
                Some(_) => sleep(LOOK_EVERY).await,
            }
        }
    }

    /// What a node's store holds of shards that are not its group's, or holds twice.
    fn litter(&self, node: NodeId) -> Option<String> {
        let Place::Group(group) = Place::of(node) else { return None };
        let config = self.watcher.latest_config()?;
        let owned: BTreeSet<ShardId> = config.shards_of(group).collect();
        let store = self.disk.durable(node, &self.state_store(node))?;
        let found = by_shard(store.keys().map(|key| &key[..]));
        // A store without any data would have shown nothing.
        self.judged("shard.no_leak", u64::from(!found.is_empty()));
        leaked(&places::name(node), &owned, found)
    }
}

/// How many keys of data there are of each shard, and of each time that it was there.
fn by_shard<'a>(keys: impl Iterator<Item = &'a [u8]>) -> BTreeMap<(ShardId, u64), usize> {
    let mut found = BTreeMap::new();
    for key in keys.filter_map(DataKey::of) {
        *found.entry((key.shard, key.born)).or_default() += 1;
    }
    found
}

/// shard.no_leak: what the store of `name` has `found` in it that is not `owned`, or holds twice.
fn leaked(name: &str, owned: &BTreeSet<ShardId>, found: BTreeMap<(ShardId, u64), usize>) -> Option<String> {
    let mut seen = BTreeSet::new();
    for ((shard, born), keys) in found {
        if !owned.contains(&shard) {
            return Some(format!("{name} has {keys} keys of shard {shard}, which its group does not own"));
        }
        if !seen.insert(shard) {
            return Some(format!("{name} has data of shard {shard} from several times, as of config {born}"));
        }
    }
    None
}

/// What a group has that it should not have by `config`, or lacks.
fn misplaced(group: GroupId, config: &Config, known: &Known) -> Option<String> {
    let owned: BTreeSet<ShardId> = config.shards_of(group).collect();
    let shards = known.tenures.iter().filter(|(_, tenures)| !tenures.is_empty());
    let held: BTreeSet<ShardId> = shards.map(|(shard, _)| *shard).collect();
    if let Some(shard) = owned.difference(&held).next() {
        return Some(format!(
            "g{group} has nothing of shard {shard} (it has adopted config {})",
            known.adopted
        ));
    }
    if let Some(shard) = held.difference(&owned).next() {
        return Some(format!("g{group} still has shard {shard}: {:?}", known.of(*shard)));
    }
    if !owned.is_empty() && known.adopted != config.num {
        return Some(format!("g{group} has adopted config {} of {}", known.adopted, config.num));
    }
    let is_served = |shard: &&ShardId| match known.of(**shard) {
        [one] => is_here(one) && one.next.is_none() && one.source_told,
        _ => false,
    };
    let waiting = owned.iter().find(|shard| !is_served(shard));
    waiting.map(|shard| format!("g{group} does not serve shard {shard} yet: {:?}", known.of(*shard)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_with_anothers_shard_or_one_twice_leaks() {
        let key = |shard: u16, born: u64| {
            [&b"d/"[..], &shard.to_be_bytes(), &born.to_be_bytes(), b"k/key"].concat()
        };
        let leaks = |keys: &[Vec<u8>]| {
            leaked("g100n1", &BTreeSet::from([ShardId(3)]), by_shard(keys.iter().map(Vec::as_slice)))
        };
        assert_eq!(leaks(&[key(3, 5), b"h/other".to_vec()]), None);
        let others = leaks(&[key(3, 5), key(4, 5), key(4, 5)]).unwrap();
        assert_eq!(others, "g100n1 has 2 keys of shard 4, which its group does not own");
        let twice = leaks(&[key(3, 5), key(3, 2)]).unwrap();
        assert!(twice.contains("shard 3 from several times"), "{twice}");
    }
}
