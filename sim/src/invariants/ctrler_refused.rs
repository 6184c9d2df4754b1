//! ctrler.refused: a config is what its command says, and a command that asks for nonsense makes none.
//!
//! Source: MIT 6.824 lab 4A; eRaft took a second join of a group for one (B18), moves of shards that do not exist and
//! to groups that do not (B9, B10).

use std::collections::{BTreeMap, BTreeSet};

use eraft::addresses::Addresses;
use eraft::ctrler::{Config, Placement, SHARDS_MAX};
use eraft::proto::ctrler::change::Change as Of;
use eraft::proto::ctrler::{Change, Group};
use eraft::types::{ConfigNum, GroupId, ShardId};

use super::configs::{Kept, Made, pins};

/// The invariant.
#[derive(Default)]
pub struct Refused {
    pub(super) judged: u64,
}

impl Refused {
    /// A config was made.
    pub(super) fn made(&mut self, made: &Made<'_>, kept: &Kept) -> Result<(), String> {
        self.judged += 1;
        let Made { change, before, config } = made;
        if let Some(why) = nonsense(change, before, kept, ConfigNum(0)) {
            return Err(format!("config {} was made although {why}", config.num));
        }
        match contradiction(change, before, config, kept) {
            Some(why) => Err(format!("config {} is not what its command says: {why}", config.num)),
            None => Ok(()),
        }
    }

    /// An operator was told that a command is refused for good: it made no sense in one of the configs `within`, which
    /// were the latest at some time since it was asked.
    pub(super) fn told<'a>(
        &mut self,
        change: &Change,
        within: impl Iterator<Item = &'a Config>,
        kept: &Kept,
        oldest: ConfigNum,
    ) -> Result<(), String> {
        self.judged += 1;
        // After the first config of all nobody may choose the number of shards any more, not even again the same.
        if matches!(change.change, Some(Of::Create(_))) && !kept.is_empty() {
            return Ok(());
        }
        let mut configs: Vec<&Config> = within.collect();
        let empty =
            Config::empty(kept.first_key_value().map_or(SHARDS_MAX, |(_, config)| config.shards.len()));
        if configs.is_empty() {
            configs.push(&empty);
        }
        match configs.iter().any(|config| nonsense(change, config, kept, oldest).is_some()) {
            true => Ok(()),
            false => Err(format!("a command was refused that made sense all the time: {change:?}")),
        }
    }
}

/// Why `change` makes no sense after `config`, if it does not.
fn nonsense(change: &Change, config: &Config, kept: &Kept, oldest: ConfigNum) -> Option<String> {
    let is_joined = |group: u64| config.groups.contains_key(&GroupId(group));
    let of_groups = |groups: &[Group]| -> Option<String> {
        let ids: BTreeSet<u64> = groups.iter().map(|group| group.group).collect();
        if ids.is_empty() || ids.contains(&0) || ids.len() != groups.len() {
            return Some("it names no groups, group 0 or a group twice".to_owned());
        }
        let mut taken: BTreeMap<&String, u64> = BTreeMap::new();
        for (group, addresses) in &config.groups {
            let others = addresses.as_slice().iter().filter(|_| !ids.contains(&group.0));
            others.for_each(|address| _ = taken.insert(address, group.0));
        }
        for group in groups {
            if Addresses::new(group.addresses.clone()).is_err() {
                return Some(format!("the addresses of group {} are none", group.group));
            }
            if group.addresses.iter().any(|address| taken.insert(address, group.group).is_some()) {
                return Some(format!("an address of group {} is another group's", group.group));
            }
        }
        None
    };
    let placement = |shard: u64| config.placement(ShardId(shard));
    match change.change.as_ref()? {
        Of::Create(create) => {
            let may = (1..=SHARDS_MAX as u64).contains(&create.shards)
                && kept.len() <= 1
                && config.num == ConfigNum(0);
            (!may).then(|| "the number of shards was set".to_owned())
        }
        Of::Join(join) => {
            let joined = join.groups.iter().find(|group| is_joined(group.group));
            joined
                .map(|group| format!("group {} was there already", group.group))
                .or_else(|| of_groups(&join.groups))
        }
        Of::Update(update) => {
            let same = update.groups.iter().all(|group| {
                let known = config.groups.get(&GroupId(group.group));
                known.is_some_and(|known| known.as_slice() == group.addresses)
            });
            let stranger = update.groups.iter().find(|group| !is_joined(group.group));
            let words = stranger.map(|group| format!("group {} was not there", group.group));
            words.or_else(|| same.then(|| "nothing changes".to_owned())).or_else(|| of_groups(&update.groups))
        }
        Of::Leave(leave) => {
            let stranger = leave.groups.iter().find(|group| !is_joined(**group));
            let nobody = leave.groups.is_empty().then(|| "nobody leaves".to_owned());
            nobody.or_else(|| stranger.map(|group| format!("group {group} was not there")))
        }
        Of::Move(to) => match placement(to.shard) {
            None => Some(format!("there is no shard {}", to.shard)),
            Some(_) if !is_joined(to.group) => Some(format!("group {} was not there", to.group)),
            Some(at) => {
                (at.pinned && at.owner == Some(GroupId(to.group))).then(|| "it was pinned there".to_owned())
            }
        },
        Of::Unpin(shard) => {
            (!placement(*shard).is_some_and(|at| at.pinned)).then(|| format!("shard {shard} was not pinned"))
        }
        Of::Rollback(num) => {
            let num = ConfigNum(*num);
            match kept.get(&num) {
                None => Some(format!("there is no config {num}")),
                // Whether it was still kept then is not known.
                Some(_) if num > config.num || num < oldest => Some(format!("config {num} was not there")),
                Some(to) => rollback_nonsense(to, config),
            }
        }
    }
}

fn rollback_nonsense(to: &Config, config: &Config) -> Option<String> {
    let place = |placement: &Placement| (placement.owner, placement.pinned);
    let groups_same = to.groups.keys().eq(config.groups.keys());
    if groups_same && to.shards.iter().map(place).eq(config.shards.iter().map(place)) {
        return Some("nothing changes".to_owned());
    }
    let mut taken = BTreeSet::new();
    let addresses = to.groups.iter().map(|(group, old)| config.groups.get(group).unwrap_or(old));
    let twice = addresses.flat_map(Addresses::as_slice).any(|address| !taken.insert(address.clone()));
    twice.then(|| "two groups would be at one address".to_owned())
}

/// In what `config` contradicts `change`, if it does.
fn contradiction(change: &Change, before: &Config, config: &Config, kept: &Kept) -> Option<String> {
    let mut groups: BTreeMap<GroupId, Vec<String>> =
        before.groups.iter().map(|(group, addresses)| (*group, addresses.as_slice().to_vec())).collect();
    let mut pinned = pins(before);
    match change.change.as_ref()? {
        Of::Create(create) => {
            return (config.shards.len() as u64 != create.shards || config.num != ConfigNum(0))
                .then(|| "another number of shards".to_owned());
        }
        Of::Join(new) | Of::Update(new) => {
            groups.extend(new.groups.iter().map(|group| (GroupId(group.group), group.addresses.clone())));
        }
        Of::Leave(leave) => {
            groups.retain(|group, _| !leave.groups.contains(&group.0));
            pinned.retain(|_, group| groups.contains_key(group));
        }
        Of::Move(to) => _ = pinned.insert(ShardId(to.shard), GroupId(to.group)),
        Of::Unpin(shard) => _ = pinned.remove(&ShardId(*shard)),
        Of::Rollback(num) => {
            let to = kept.get(&ConfigNum(*num))?;
            let owners =
                |config: &Config| config.shards.iter().map(|placement| placement.owner).collect::<Vec<_>>();
            if owners(to) != owners(config) {
                return Some(format!("shards are not where they were in config {num}"));
            }
            let address = |group: &GroupId, old: &Addresses| {
                before.groups.get(group).unwrap_or(old).as_slice().to_vec()
            };
            groups = to.groups.iter().map(|(group, old)| (*group, address(group, old))).collect();
            pinned = pins(to);
        }
    }
    let found = config.groups.iter().map(|(group, addresses)| (*group, addresses.as_slice().to_vec()));
    if !found.eq(groups) {
        return Some(format!("it has the groups {:?}", config.groups.keys().collect::<Vec<_>>()));
    }
    (pins(config) != pinned).then(|| format!("it has the pins {:?}", pins(config)))
}
