//! What holds after every entry of every group, and once everything has settled.
//!
//! - `shard.single_owner`: a shard is served by one group at most, the one that its adopted config names, and by none
//!   of an earlier epoch once a later one was served;
//! - `shard.no_loss`: a copy of all of a shard is somewhere, from its first owner on; what records say of the data is
//!   what is in the store;
//! - `shard.config_order`: configs are adopted one by one, and one is left out only if it never concerned the group;
//! - `shard.position`: the positions that clients are told of a shard only grow, wherever it goes;
//! - `shard.gc`: once everything has settled, nothing is left of a shard but at its owner, to the byte.

use std::collections::BTreeSet;

use eraft::ctrler::Config;
use eraft::machine::Content;
use eraft::shardkv::{Held, ShardState};
use eraft::types::{ConfigNum, GroupId, ShardId};

use super::clients::Wrong;
use super::group::{Group, is_served, is_whole};

/// A group, with what was last known of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Seen {
    /// The group.
    pub group: Group,
    /// The config that it has adopted.
    pub adopted: ConfigNum,
    /// What it has.
    pub held: Vec<Held>,
}

impl Seen {
    /// A group that has nothing.
    pub fn new(group: Group) -> Self {
        Self { group, adopted: ConfigNum(0), held: Vec::new() }
    }

    /// What it has of `shard`, the oldest first.
    pub fn of(&self, shard: ShardId) -> impl Iterator<Item = &Held> {
        self.held.iter().filter(move |held| held.shard == shard)
    }
}

/// What is remembered of a shard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Past {
    /// The latest epoch in which it was served, and by whom.
    served: Option<(ConfigNum, GroupId)>,
    position: u64,
    /// Who has ever had all of it.
    owners: BTreeSet<GroupId>,
}

/// What is remembered of all shards.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ledger(Vec<Past>);

impl Ledger {
    /// Of so many shards, of which nothing has happened.
    pub fn new(shards: usize) -> Self {
        Self(vec![Past::default(); shards])
    }

    fn of(&mut self, shard: ShardId) -> &mut Past {
        &mut self.0[shard.0 as usize]
    }

    /// `seen` answered a client for `shard`, at this position of it.
    pub fn served(
        &mut self,
        seen: &Seen,
        configs: &[Config],
        shard: ShardId,
        position: Option<u64>,
    ) -> Result<(), Wrong> {
        let me = seen.group.id;
        let config = &configs[seen.adopted.0 as usize];
        let owner = config.placement(shard).and_then(|placement| placement.owner);
        let epoch = seen.of(shard).last().map(|held| held.epoch);
        let (Some(epoch), true) = (epoch, owner == Some(me)) else {
            let what =
                format!("group {me} serves shard {shard}, which config {} gives to {owner:?}", config.num);
            return Err(("shard.single_owner", what));
        };
        let past = self.of(shard);
        if let Some((before, group)) = past.served
            && (before > epoch || (before == epoch && group != me))
        {
            let what = format!(
                "group {me} serves shard {shard} of config {epoch}, after group {group} did of config {before}"
            );
            return Err(("shard.single_owner", what));
        }
        past.served = Some((epoch, me));
        if let Some(position) = position {
            if position <= past.position {
                let what =
                    format!("shard {shard} at group {me}: position {position} after {}", past.position);
                return Err(("shard.position", what));
            }
            past.position = position;
        }
        Ok(())
    }

    /// Something about `shard` was written by the group at `place`, which had `before`. True if it now has all of it
    /// and had not before; and whether it had it in an earlier reign.
    pub fn changed(
        &mut self,
        all: &[Seen],
        place: usize,
        before: &[Held],
        shard: ShardId,
    ) -> Result<Option<bool>, Wrong> {
        let serving: Vec<GroupId> = all
            .iter()
            .filter(|seen| seen.of(shard).any(|held| is_served(held.state)))
            .map(|seen| seen.group.id)
            .collect();
        if serving.len() > 1 {
            return Err(("shard.single_owner", format!("groups {serving:?} serve shard {shard}")));
        }
        let whole = |held: &&Held| held.shard == shard && is_whole(held.state);
        let came = all[place].held.iter().filter(whole).count() > before.iter().filter(whole).count();
        let me = all[place].group.id;
        let past = self.of(shard);
        let is_first = past.owners.is_empty();
        let came_back = came && !past.owners.insert(me);
        if !past.owners.is_empty() && !all.iter().any(|seen| seen.of(shard).any(|held| is_whole(held.state)))
        {
            return Err(("shard.no_loss", format!("shard {shard} is nowhere as a whole")));
        }
        Ok((came && !is_first).then_some(came_back))
    }
}

/// Whether a group that had adopted `from` and had `before` may have adopted `to`.
pub fn order(
    me: GroupId,
    from: ConfigNum,
    to: ConfigNum,
    before: &[Held],
    configs: &[Config],
    oldest: ConfigNum,
) -> Result<(), Wrong> {
    if to == from.next() {
        return Ok(());
    }
    let concerns = |config: &&Config| {
        config.groups.contains_key(&me) || config.shards.iter().any(|placement| placement.owner == Some(me))
    };
    let between = &configs[from.0 as usize + 1..to.0 as usize];
    let what = match () {
        () if to > oldest => "which are kept",
        () if before.iter().any(|held| held.state != ShardState::Deleting) => "while it holds something",
        () if between.iter().any(|config| concerns(&config)) => "one of which concerned it",
        () => return Ok(()),
    };
    let what = format!("group {me} adopts config {to} after {from}, without those in between, {what}");
    Err(("shard.config_order", what))
}

/// What is in the store is what the records say.
pub fn stored(seen: &Seen) -> Result<(), Wrong> {
    let mut stored = seen.group.stored();
    // Records do not say under which name the data is; of one shard the sums are compared in their order.
    for shard in seen.held.iter().map(|held| held.shard).collect::<BTreeSet<_>>() {
        let here: Vec<_> = stored.keys().filter(|(of, _)| *of == shard).copied().collect();
        let sums: Vec<Content> = here.iter().filter_map(|name| stored.remove(name)).collect();
        let said: Vec<Content> = seen
            .of(shard)
            .map(|held| held.content)
            .filter(|content| *content != Content::default())
            .collect();
        if sums != said {
            let what = format!("group {} has {sums:?} of shard {shard}, and says {said:?}", seen.group.id);
            return Err(("shard.no_loss", what));
        }
    }
    match stored.first_key_value() {
        Some(((shard, born), content)) => {
            let what =
                format!("group {} has {content:?} of shard {shard} since config {born}", seen.group.id);
            Err(("shard.gc", what))
        }
        None => Ok(()),
    }
}

/// Every shard is at its owner and nowhere else.
pub fn settled(all: &[Seen], config: &Config) -> Result<(), Wrong> {
    for seen in all {
        if seen.adopted != config.num {
            let what = format!("group {} stays at config {} of {}", seen.group.id, seen.adopted, config.num);
            return Err(("sim.liveness", what));
        }
        for held in &seen.held {
            let placement = config.placement(held.shard);
            let owner = placement.and_then(|placement| placement.owner);
            let fits = match owner {
                Some(owner) => owner == seen.group.id && held.state == ShardState::Serving,
                None => held.state == ShardState::BePulling,
            };
            if !fits {
                let what = format!(
                    "shard {} of {owner:?} stays {} at group {}",
                    held.shard,
                    held.state.name(),
                    seen.group.id
                );
                return Err(("sim.liveness", what));
            }
        }
        stored(seen)?;
    }
    for (shard, placement) in config.placements() {
        let is_served = all.iter().any(|seen| seen.of(shard).any(|held| is_served(held.state)));
        if is_served != placement.owner.is_some() {
            return Err(("sim.liveness", format!("shard {shard} is not served by {:?}", placement.owner)));
        }
    }
    Ok(())
}
