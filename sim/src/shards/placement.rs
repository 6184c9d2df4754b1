//! What holds between two configs that follow on each other, by rules that are written without looking at how the
//! product rebalances.

use std::collections::BTreeMap;

use eraft::ctrler::Config;
use eraft::proto::ctrler::{self as pb, change::Change as Of};
use eraft::types::{GroupId, ShardId};

/// Which oracle says what.
pub type Wrong = (&'static str, String);

/// Whether a change must be refused. What it says must be is certain; it does not know of every bad change.
pub fn must_be_refused(config: &Config, change: &Of) -> Option<&'static str> {
    let joined = |group: &u64| config.groups.contains_key(&GroupId(*group));
    let names = |groups: &pb::Groups| groups.groups.iter().map(|group| group.group).collect::<Vec<_>>();
    match change {
        Of::Join(groups) if groups.groups.is_empty() => Some("no group is named"),
        Of::Join(groups) if names(groups).contains(&0) => Some("group 0 is nobody"),
        Of::Join(groups) if names(groups).iter().any(joined) => Some("it is joined already"),
        Of::Join(groups) if groups.groups.iter().any(|group| group.addresses.is_empty()) => {
            Some("it has no addresses")
        }
        Of::Update(groups) if !names(groups).iter().all(joined) => Some("it is not joined"),
        Of::Leave(leave) if leave.groups.is_empty() => Some("no group is named"),
        Of::Leave(leave) if !leave.groups.iter().all(joined) => Some("it is not joined"),
        Of::Move(to) if config.placement(ShardId(to.shard)).is_none() => Some("there is no such shard"),
        Of::Move(to) if !joined(&to.group) => Some("it is not joined"),
        Of::Unpin(shard) if !config.placement(ShardId(*shard)).is_some_and(|placement| placement.pinned) => {
            Some("it is not pinned")
        }
        _ => None,
    }
}

/// Judges the config `after`, which an accepted `change` made of `before`.
pub fn judge(before: &Config, after: &Config, change: &Of) -> Result<(), Wrong> {
    after.check().map_err(|what| ("ctrler.balanced", format!("config {}: {what}", after.num)))?;
    for ((shard, was), (_, is)) in before.placements().zip(after.placements()) {
        let epoch = if was.owner == is.owner { was.epoch } else { after.num };
        if is.epoch != epoch {
            let what = format!("config {}: shard {shard} has epoch {}, not {epoch}", after.num, is.epoch);
            return Err(("ctrler.minimal", what));
        }
    }
    if matches!(change, Of::Update(_) | Of::Rollback(_) | Of::Create(_)) || after.groups.is_empty() {
        return Ok(());
    }
    balanced(before, after)
}

/// What a group has of pinned shards, and of free ones whose data is at it.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    pinned: usize,
    at_home: usize,
    owned: usize,
}

fn balanced(before: &Config, after: &Config) -> Result<(), Wrong> {
    let mut shares: BTreeMap<GroupId, Share> =
        after.groups.keys().map(|group| (*group, Share::default())).collect();
    let mut moves = 0;
    for ((_, was), (_, is)) in before.placements().zip(after.placements()) {
        let home = was.owner.or(was.source.map(|source| source.group));
        if let Some(share) = is.owner.and_then(|owner| shares.get_mut(&owner)) {
            share.owned += 1;
            share.pinned += usize::from(is.pinned);
        }
        if let Some(share) = home.and_then(|home| shares.get_mut(&home)).filter(|_| !is.pinned) {
            share.at_home += 1;
            moves += usize::from(is.owner != home);
        }
    }
    // One shard after the other to whoever has least: the most level way there is.
    let mut level: Vec<usize> = shares.values().map(|share| share.pinned).collect();
    let pinned: usize = level.iter().sum();
    for _ in pinned..after.shards.len() {
        *level.iter_mut().min().expect("a group is joined") += 1;
    }
    let mut owned: Vec<usize> = shares.values().map(|share| share.owned).collect();
    level.sort_unstable();
    owned.sort_unstable();
    if owned != level {
        return Err(("ctrler.balanced", format!("config {}: shares {owned:?}, not {level:?}", after.num)));
    }
    // Everybody gets the common floor; whoever has more than that at home keeps one more, as far as they go.
    let filled = |floor: usize| shares.values().map(|share| share.pinned.max(floor)).sum::<usize>();
    let floor = (0..=after.shards.len()).rev().find(|floor| filled(*floor) <= after.shards.len());
    let floor = floor.expect("a floor of 0 is filled by pins alone");
    let spare = after.shards.len() - filled(floor);
    let surplus = |share: &Share| share.at_home.saturating_sub(floor.saturating_sub(share.pinned));
    let keepers = shares.values().filter(|share| share.pinned <= floor && surplus(share) > 0).count();
    let least = shares.values().map(surplus).sum::<usize>() - spare.min(keepers);
    match moves == least {
        true => Ok(()),
        false => Err(("ctrler.minimal", format!("config {}: {moves} moves, {least} are enough", after.num))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eraft::ctrler::{Placement, Source};
    use eraft::types::ConfigNum;

    fn config(num: u64, owners: &[u64]) -> Config {
        let placement = |owner: &u64| Placement {
            owner: Some(GroupId(*owner)),
            epoch: ConfigNum(num),
            source: None::<Source>,
            pinned: false,
        };
        let groups = owners.iter().map(|owner| (GroupId(*owner), format!("h:{owner}").parse().unwrap()));
        Config {
            num: ConfigNum(num),
            shards: owners.iter().map(placement).collect(),
            groups: groups.collect(),
            left: BTreeMap::new(),
        }
    }

    #[test]
    fn a_config_that_is_not_level_or_moves_too_much_is_wrong() {
        let before = config(1, &[1, 1, 1, 1]);
        let after = |owners: &[u64]| {
            let mut after = config(2, owners);
            for (placement, owner) in after.shards.iter_mut().zip(owners) {
                if *owner == 1 {
                    placement.epoch = ConfigNum(1);
                }
            }
            after
        };
        let join = Of::Join(pb::Groups::default());
        let oracle = |owners: &[u64]| judge(&before, &after(owners), &join).err().map(|(oracle, _)| oracle);
        assert_eq!(oracle(&[1, 1, 2, 2]), None);
        assert_eq!(oracle(&[1, 2, 1, 2]), None, "which ones is not judged here");
        assert_eq!(oracle(&[1, 1, 1, 2]), Some("ctrler.balanced"));
        assert_eq!(judge(&before, &config(2, &[1, 1, 2, 2]), &join).unwrap_err().0, "ctrler.minimal");
        let before = after(&[1, 1, 2, 2]);
        let mut dealt = config(3, &[2, 2, 1, 1]);
        dealt.groups = before.groups.clone();
        let wrong = judge(&before, &dealt, &Of::Unpin(0)).unwrap_err();
        assert_eq!(wrong, ("ctrler.minimal", "config 3: 4 moves, 0 are enough".to_owned()));
    }

    #[test]
    fn what_must_be_refused_is_known() {
        let config = config(1, &[1, 2]);
        let group = |group, addresses: &[&str]| pb::Group {
            group,
            addresses: addresses.iter().map(|address| (*address).to_owned()).collect(),
        };
        let join = |groups: Vec<pb::Group>| Of::Join(pb::Groups { groups });
        for (change, bad) in [
            (join(vec![]), true),
            (join(vec![group(0, &["h:9"])]), true),
            (join(vec![group(1, &["h:9"])]), true),
            (join(vec![group(3, &[])]), true),
            (join(vec![group(3, &["h:9"])]), false),
            (Of::Leave(pb::GroupIds { groups: vec![3] }), true),
            (Of::Leave(pb::GroupIds { groups: vec![1] }), false),
            (Of::Move(pb::Move { shard: 2, group: 1 }), true),
            (Of::Move(pb::Move { shard: 1, group: 3 }), true),
            (Of::Move(pb::Move { shard: 1, group: 1 }), false),
            (Of::Unpin(0), true),
        ] {
            assert_eq!(must_be_refused(&config, &change).is_some(), bad, "{change:?}");
        }
    }
}
