//! What operators do to a config, and why they may not.
//!
//! Invariants:
//! - a change that is accepted makes exactly the next config, and one that differs; one that would change nothing is
//!   refused, so a config number is never spent on a typing error;
//! - a change that is refused makes nothing, for whatever mix of good and bad parts;
//! - whatever the change, no shard of a kept config is forgotten: see the invariants of [`Config`].

use std::collections::{BTreeMap, BTreeSet};

use super::config::{Config, Placement, SHARDS_MAX, shard_of};
use super::rebalance::{Seat, assign};
use crate::addresses::{Addresses, AddressesError};
use crate::mutants::{MutantId, Mutants};
use crate::types::{GroupId, ShardId};

/// One operator's command.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// Groups come, and take their shares.
    Join(BTreeMap<GroupId, Addresses>),
    /// Groups go; their shards go to the others, their pins end.
    Leave(BTreeSet<GroupId>),
    /// A shard goes to a group and stays there, whoever joins or leaves besides, until it is unpinned.
    Move {
        /// The shard.
        shard: ShardId,
        /// The group, which must be joined.
        group: GroupId,
    },
    /// A shard that was moved may be moved by rebalancing again.
    Unpin {
        /// The shard.
        shard: ShardId,
    },
    /// Joined groups have other addresses now.
    Update(BTreeMap<GroupId, Addresses>),
    /// Groups, owners and pins are again those of an earlier config. Groups that are joined now keep their present
    /// addresses: going back to old ones would only cut them off.
    Rollback(Config),
}

/// Why a change was not made. The texts are kept in sessions, so they are part of the replicated state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The command names no group at all.
    #[error("no group is named")]
    NoGroups,
    /// Group ids start at 1.
    #[error("group 0 is nobody; group ids start at 1")]
    GroupZero,
    /// One command names a group twice.
    #[error("group {0} is named twice")]
    GroupTwice(GroupId),
    /// The group is not joined.
    #[error("group {0} is not joined")]
    UnknownGroup(GroupId),
    /// The group is joined already.
    #[error("group {0} is joined already; update its addresses instead")]
    AlreadyJoined(GroupId),
    /// The addresses are no addresses.
    #[error("group {group}: {error}")]
    Addresses {
        /// Whose.
        group: GroupId,
        /// What is wrong.
        error: AddressesError,
    },
    /// Two groups cannot be at one address.
    #[error("group {group}: {address} is an address of group {other} already")]
    AddressTaken {
        /// Who wants it.
        group: GroupId,
        /// The address.
        address: String,
        /// Who has it.
        other: GroupId,
    },
    /// There is no such shard.
    #[error("shard {shard} does not exist; there are {shards}, 0 to {}", .shards - 1)]
    UnknownShard {
        /// Which one.
        shard: ShardId,
        /// How many there are.
        shards: usize,
    },
    /// The shard is pinned to that group already.
    #[error("shard {0} is pinned to group {1} already")]
    AlreadyPinned(ShardId, GroupId),
    /// The shard is not pinned.
    #[error("shard {0} is not pinned")]
    NotPinned(ShardId),
    /// It would be the same config again.
    #[error("it would change nothing")]
    NothingChanges,
}

impl Change {
    /// The config after `config`, or why there is none. Pure; the whole of it is in the two arguments.
    pub fn apply(&self, config: &Config) -> Result<Config, Refusal> {
        self.apply_with(config, Mutants::default())
    }

    pub(super) fn apply_with(&self, config: &Config, mutants: Mutants) -> Result<Config, Refusal> {
        match self {
            Change::Join(groups) => join(config, groups, mutants),
            Change::Leave(groups) => leave(config, groups, mutants),
            Change::Move { shard, group } => pin(config, *shard, *group, mutants),
            Change::Unpin { shard } => unpin(config, *shard, mutants),
            Change::Update(groups) => update(config, groups),
            Change::Rollback(to) => roll_back(config, to),
        }
    }
}

fn join(config: &Config, new: &BTreeMap<GroupId, Addresses>, mutants: Mutants) -> Result<Config, Refusal> {
    check_named(new.keys())?;
    let joined = new.keys().find(|group| config.groups.contains_key(group));
    if let Some(group) = joined.filter(|_| !mutants.is(MutantId::CtrlerDuplicateJoin)) {
        return Err(Refusal::AlreadyJoined(*group));
    }
    let mut groups = config.groups.clone();
    groups.extend(new.clone());
    check_disjoint(&groups, new)?;
    Ok(next(config, groups, &pins(config), mutants))
}

fn leave(config: &Config, leaving: &BTreeSet<GroupId>, mutants: Mutants) -> Result<Config, Refusal> {
    check_named(leaving.iter())?;
    check_joined(config, leaving.iter())?;
    let mut groups = config.groups.clone();
    groups.retain(|group, _| !leaving.contains(group));
    let mut pins = pins(config);
    pins.retain(|_, group| !leaving.contains(group));
    let mut next = next(config, groups, &pins, mutants);
    if mutants.is(MutantId::CtrlerLeaveDropsShard) {
        let was_there = |(_, before): &(&mut Placement, &Placement)| {
            before.owner.is_some_and(|group| leaving.contains(&group))
        };
        if let Some((placement, _)) = next.shards.iter_mut().zip(&config.shards).find(was_there) {
            placement.owner = None;
        }
    }
    Ok(next)
}

fn pin(config: &Config, shard: ShardId, group: GroupId, mutants: Mutants) -> Result<Config, Refusal> {
    let placement = existing(config, shard)?;
    check_named([&group].into_iter())?;
    check_joined(config, [&group].into_iter())?;
    if placement.pinned && placement.owner == Some(group) {
        return Err(Refusal::AlreadyPinned(shard, group));
    }
    let mut pins = pins(config);
    pins.insert(shard, group);
    Ok(next(config, config.groups.clone(), &pins, mutants))
}

fn unpin(config: &Config, shard: ShardId, mutants: Mutants) -> Result<Config, Refusal> {
    if !existing(config, shard)?.pinned {
        return Err(Refusal::NotPinned(shard));
    }
    let mut pins = pins(config);
    pins.remove(&shard);
    Ok(next(config, config.groups.clone(), &pins, mutants))
}

fn update(config: &Config, new: &BTreeMap<GroupId, Addresses>) -> Result<Config, Refusal> {
    check_named(new.keys())?;
    check_joined(config, new.keys())?;
    let mut groups = config.groups.clone();
    groups.extend(new.clone());
    check_disjoint(&groups, new)?;
    if groups == config.groups {
        return Err(Refusal::NothingChanges);
    }
    Ok(Config { num: config.num.next(), groups, ..config.clone() })
}

fn roll_back(config: &Config, to: &Config) -> Result<Config, Refusal> {
    let address_of = |group, old: &Addresses| config.groups.get(group).unwrap_or(old).clone();
    let groups: BTreeMap<_, _> =
        to.groups.iter().map(|(group, old)| (*group, address_of(group, old))).collect();
    check_disjoint(&groups, &groups)?;
    let wanted = |placement: &Placement| (placement.owner, placement.pinned);
    let same = groups == config.groups && to.shards.iter().map(wanted).eq(config.shards.iter().map(wanted));
    if same {
        return Err(Refusal::NothingChanges);
    }
    let owners = to.shards.iter().map(|placement| placement.owner).collect();
    Ok(placed(config, groups, owners, &pins(to)))
}

/// The pins of a config.
fn pins(config: &Config) -> BTreeMap<ShardId, GroupId> {
    let pin = |(shard, placement): (ShardId, &Placement)| {
        placement.owner.filter(|_| placement.pinned).map(|owner| (shard, owner))
    };
    config.placements().filter_map(pin).collect()
}

/// The next config with these groups and pins, balanced.
fn next(
    config: &Config,
    groups: BTreeMap<GroupId, Addresses>,
    pins: &BTreeMap<ShardId, GroupId>,
    mutants: Mutants,
) -> Config {
    let seat = |(shard, placement): (ShardId, &Placement)| match pins.get(&shard) {
        Some(group) => Seat::Pinned(*group),
        None if mutants.is(MutantId::CtrlerMovesTooMany) => Seat::Free(None),
        None => Seat::Free(placement.home()),
    };
    let seats: Vec<Seat> = config.placements().map(seat).collect();
    let mut owners = assign(&seats, &groups.keys().copied().collect());
    if mutants.is(MutantId::CtrlerHashOrder) {
        // Who gets what depends on the order in which this process finds the groups.
        let free: Vec<usize> =
            (0..seats.len()).filter(|shard| matches!(seats[*shard], Seat::Free(_))).collect();
        let mut dealt: Vec<_> = free.iter().map(|shard| owners[*shard]).collect();
        let found = |group: GroupId| shard_of(&(group.0 ^ mutants.process()).to_le_bytes(), SHARDS_MAX);
        dealt.sort_by_key(|owner| owner.map(found));
        for (shard, owner) in free.into_iter().zip(dealt) {
            owners[shard] = owner;
        }
    }
    placed(config, groups, owners, pins)
}

/// The next config with these groups, owners and pins.
fn placed(
    config: &Config,
    groups: BTreeMap<GroupId, Addresses>,
    owners: Vec<Option<GroupId>>,
    pins: &BTreeMap<ShardId, GroupId>,
) -> Config {
    let num = config.num.next();
    let place = |((shard, placement), owner): ((ShardId, &Placement), Option<GroupId>)| Placement {
        pinned: pins.contains_key(&shard),
        ..placement.given_to(owner, num)
    };
    let shards: Vec<Placement> = config.placements().zip(owners).map(place).collect();
    let sources = shards.iter().filter_map(|placement| placement.source.map(|source| source.group));
    let left = sources.filter(|group| !groups.contains_key(group)).map(|group| {
        let addresses =
            config.addresses(group).expect("the config has the addresses of every owner and source");
        (group, addresses.clone())
    });
    let left = left.collect();
    Config { num, shards, groups, left }
}

fn check_named<'a>(mut groups: impl ExactSizeIterator<Item = &'a GroupId>) -> Result<(), Refusal> {
    if groups.len() == 0 {
        return Err(Refusal::NoGroups);
    }
    if groups.any(|group| *group == GroupId(0)) {
        return Err(Refusal::GroupZero);
    }
    Ok(())
}

fn check_joined<'a>(config: &Config, mut groups: impl Iterator<Item = &'a GroupId>) -> Result<(), Refusal> {
    match groups.find(|group| !config.groups.contains_key(group)) {
        Some(group) => Err(Refusal::UnknownGroup(*group)),
        None => Ok(()),
    }
}

/// No address of a group in `new` may be another group's. Addresses of groups that left are free again.
fn check_disjoint(
    groups: &BTreeMap<GroupId, Addresses>,
    new: &BTreeMap<GroupId, Addresses>,
) -> Result<(), Refusal> {
    let mut taken = BTreeMap::new();
    for (group, addresses) in groups {
        for address in addresses.as_slice() {
            let Some(other) = taken.insert(address, *group) else { continue };
            let (group, other) = if new.contains_key(group) { (*group, other) } else { (other, *group) };
            return Err(Refusal::AddressTaken { group, address: address.clone(), other });
        }
    }
    Ok(())
}

fn existing(config: &Config, shard: ShardId) -> Result<&Placement, Refusal> {
    config.placement(shard).ok_or(Refusal::UnknownShard { shard, shards: config.shards.len() })
}

/// The config after these changes, all of which must be good.
#[cfg(test)]
pub(super) fn config_after(changes: &[Change], shards: usize) -> Config {
    let apply = |config: Config, change: &Change| match change.apply(&config) {
        Ok(next) => next,
        Err(refusal) => panic!("{change:?}: {refusal}"),
    };
    changes.iter().fold(Config::empty(shards), apply)
}
