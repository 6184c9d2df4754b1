//! ctrler.minimal: no more shards move than the shares demand.
//!
//! Source: MIT 6.824 lab 4A ("move as few shards as possible"). eRaft's own test of it looks at groups that do not
//! exist, and so at nothing.

use std::collections::BTreeMap;

use eraft::ctrler::Placement;
use eraft::proto::ctrler::change::Change as Of;
use eraft::types::GroupId;

use super::configs::{Made, level_shares, pins};

/// The invariant.
#[derive(Default)]
pub struct Minimal {
    pub(super) judged: u64,
}

/// Where the data of a shard is.
fn home(placement: &Placement) -> Option<GroupId> {
    placement.owner.or(placement.source.map(|source| source.group))
}

impl Minimal {
    pub(super) fn made(&mut self, made: &Made<'_>) -> Result<(), String> {
        let Made { config, before, change } = made;
        // A rollback goes where it is told; the others deal nothing out.
        if matches!(change.change, Some(Of::Rollback(_) | Of::Create(_) | Of::Update(_)) | None)
            || config.groups.is_empty()
            || before.shards.len() != config.shards.len()
        {
            return Ok(());
        }
        self.judged += 1;
        // Of each group: shards that are at home there and free to stay, and its pins.
        let mut free: BTreeMap<GroupId, usize> = config.groups.keys().map(|group| (*group, 0)).collect();
        let mut pinned = free.clone();
        let mut stayed = 0;
        for (now, then) in config.shards.iter().zip(&before.shards).filter(|(now, _)| !now.pinned) {
            if let Some(count) = home(then).and_then(|home| free.get_mut(&home)) {
                *count += 1;
            }
            stayed += usize::from(now.owner.is_some() && now.owner == home(then));
        }
        for group in pins(config).into_values() {
            *pinned.entry(group).or_default() += 1;
        }
        let most = most_that_stay(&level_shares(config), &free, &pinned);
        if stayed == most {
            return Ok(());
        }
        Err(format!("config {}: {stayed} free shards stayed where they were, {most} could have", config.num))
    }
}

/// Every group keeps what its share has room for; of those that may have one more, whoever can use it has it.
fn most_that_stay(
    shares: &[usize],
    free: &BTreeMap<GroupId, usize>,
    pinned: &BTreeMap<GroupId, usize>,
) -> usize {
    // Groups with nothing but too many pins have the largest shares; the others have the lowest share or one more.
    let level = shares.first().copied().unwrap_or(0);
    let is_full = |group: &GroupId| pinned[group] > level;
    let full = free.keys().filter(|group| is_full(group)).count();
    let raised = shares.iter().filter(|share| **share > level).count();
    let mut more = raised.saturating_sub(full);
    let mut stay = 0;
    for (group, free) in free.iter().filter(|(group, _)| !is_full(group)) {
        let room = level - pinned[group];
        stay += room.min(*free);
        if *free > room && more > 0 {
            stay += 1;
            more -= 1;
        }
    }
    stay
}
