//! shard.single_owner: at most one group serves a shard at any (shard, epoch), and no write is accepted by two.
//!
//! Source: MIT 6.824 lab 4B ("at most one replica group is serving requests for each shard at any one time"). A write
//! counts when its entry is applied for the first time; from the moment at which a later reign has all of the data, no
//! earlier one may take any.

use std::collections::BTreeMap;

use eraft::proto::shardkv as pb;
use eraft::proto::shardkv::command::Operation;
use eraft::types::{ConfigNum, GroupId, ShardId};

use super::shards::{DataKey, Step, is_here};

/// The invariant.
#[derive(Default)]
pub struct SingleOwner {
    /// The latest reign over each shard that has served, or could.
    reigns: BTreeMap<ShardId, (u64, GroupId)>,
    pub(super) judged: u64,
}

impl SingleOwner {
    pub(super) fn step(&mut self, step: &Step<'_>) -> Result<(), String> {
        for (shard, _, after) in step.changed() {
            // Whoever has all of it and nobody behind it serves.
            if let Some(last) = after.last().filter(|last| is_here(last) && last.next.is_none()) {
                self.reigns_over(step, shard, last.epoch)?;
            }
        }
        let Operation::Client(client) = step.operation else { return Ok(()) };
        let written = step.batch.writes.iter().filter_map(|(key, _)| DataKey::of(key)).find(DataKey::is_user);
        let Some(written) = written else { return Ok(()) };
        self.judged += 1;
        let (group, shard, index) = (step.group, ShardId(client.shard), step.index);
        let what = format!("g{group} accepts a write to shard {shard} at index {index}");
        let Some(tenure) = step.before.of(shard).last() else {
            return Err(format!("{what}, of which it has nothing"));
        };
        if written.shard != shard || written.born != tenure.born {
            return Err(format!(
                "{what}, and puts it where shard {} was born in config {}",
                written.shard, written.born
            ));
        }
        if !is_here(tenure) {
            return Err(format!("{what}, whose data is not there yet"));
        }
        if let Some(next) = &tenure.next {
            return Err(format!("{what}, which was taken away: {}", words(next)));
        }
        self.reigns_over(step, shard, tenure.epoch)
    }

    fn reigns_over(&mut self, step: &Step<'_>, shard: ShardId, epoch: u64) -> Result<(), String> {
        let group = step.group;
        let given = step.kept.get(&ConfigNum(epoch)).and_then(|config| config.placement(shard));
        if !given.is_some_and(|given| given.owner == Some(group) && given.epoch.0 == epoch) {
            return Err(format!(
                "g{group} serves shard {shard} of epoch {epoch}, which gave it to {given:?}"
            ));
        }
        let (latest, owner) = *self.reigns.entry(shard).or_insert((epoch, group));
        if latest > epoch || (latest == epoch && owner != group) {
            return Err(format!(
                "g{group} serves shard {shard} of epoch {epoch}, and g{owner} has served it of epoch {latest}"
            ));
        }
        self.reigns.insert(shard, (epoch, group));
        Ok(())
    }
}

fn words(next: &pb::tenure::Next) -> String {
    match next {
        pb::tenure::Next::Nobody(_) => "by nobody".to_owned(),
        pb::tenure::Next::Group(reign) => format!("by g{} in epoch {}", reign.group, reign.epoch),
    }
}
