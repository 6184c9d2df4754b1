//! shard.no_loss: a shard's data exists at the old owner until the new owner's commit, and arrives as it was.
//!
//! Source: MIT 6.824 lab 4B, challenge 1 (deletion) and the hand-off that it asks for; classes of loss: data deleted
//! before it arrived, data of a later time or without its sessions given out, data of a shard that came back deleted.

use eraft::ctrler::Source;
use eraft::proto::shardkv as pb;
use eraft::proto::shardkv::command::Operation;
use eraft::types::{ConfigNum, GroupId, ShardId};

use super::shards::{DataKey, Step, is_deleting, is_here};

/// The invariant.
#[derive(Default)]
pub struct NoLoss {
    pub(super) judged: u64,
}

impl NoLoss {
    pub(super) fn step(&mut self, step: &Step<'_>) -> Result<(), String> {
        for (shard, before, after) in step.changed() {
            for now in after {
                let then = before.iter().find(|then| then.born == now.born);
                match then {
                    None => self.begins(step, shard, now)?,
                    Some(then) if !is_here(then) && is_here(now) => self.arrives(step, shard, now)?,
                    Some(then) if !is_deleting(then) && is_deleting(now) => {
                        self.is_let_go(step, shard, now)?
                    }
                    Some(_) => {}
                }
            }
        }
        match step.operation {
            Operation::Delete(delete) => self.deletes(step, delete),
            _ => Ok(()),
        }
    }

    /// A reign that begins empty has no predecessor.
    fn begins(&mut self, step: &Step<'_>, shard: ShardId, now: &pb::Tenure) -> Result<(), String> {
        let given = step.kept.get(&ConfigNum(now.epoch)).and_then(|config| config.placement(shard));
        let source = given.and_then(|given| given.source);
        let found = now
            .source
            .as_ref()
            .map(|source| Source { group: GroupId(source.group), epoch: ConfigNum(source.epoch) });
        self.judged += 1;
        if source == found {
            return Ok(());
        }
        Err(format!(
            "g{} begins to have shard {shard} in epoch {} from {found:?}, and its config says {source:?}",
            step.group, now.epoch
        ))
    }

    /// What arrives is what the source has, and the source has it still.
    fn arrives(&mut self, step: &Step<'_>, shard: ShardId, now: &pb::Tenure) -> Result<(), String> {
        let Some(source) = &now.source else { return Ok(()) };
        self.judged += 1;
        let what = format!("shard {shard} arrives at g{} in epoch {}", step.group, now.epoch);
        let Some(old) = step.tenure(shard, source) else {
            return Err(format!(
                "{what}, and g{} has nothing of epoch {} any more",
                source.group, source.epoch
            ));
        };
        if is_deleting(old) || !is_here(old) {
            return Err(format!("{what}, and g{} does not have all of it", source.group));
        }
        if old.content != now.content {
            return Err(format!(
                "{what} as {:?}, and g{} has it as {:?}",
                now.content.unwrap_or_default(),
                source.group,
                old.content.unwrap_or_default()
            ));
        }
        Ok(())
    }

    /// The old owner may delete once the new one has committed that it has all.
    fn is_let_go(&mut self, step: &Step<'_>, shard: ShardId, now: &pb::Tenure) -> Result<(), String> {
        self.judged += 1;
        let what = format!("g{} begins to delete shard {shard} of epoch {}", step.group, now.epoch);
        let Some(pb::tenure::Next::Group(next)) = &now.next else {
            return Err(format!("{what}, which no group has taken over"));
        };
        match step.tenure(shard, next) {
            Some(taken) if is_here(taken) || is_deleting(taken) => Ok(()),
            _ => Err(format!("{what}, which g{} does not have yet", next.group)),
        }
    }

    /// A deletion removes what it names, and that was let go.
    fn deletes(&mut self, step: &Step<'_>, delete: &pb::Delete) -> Result<(), String> {
        let shard = ShardId(delete.shard);
        let removed = step.batch.writes.iter().filter(|(_, value)| value.is_none());
        for key in removed.filter_map(|(key, _)| DataKey::of(key)) {
            self.judged += 1;
            let tenure = step.before.of(key.shard).iter().find(|tenure| tenure.born == key.born);
            if key.shard != shard || key.born != delete.born || !tenure.is_some_and(is_deleting) {
                return Err(format!(
                    "g{} deletes a key of shard {} born in config {}, told to delete shard {shard} born in config {}",
                    step.group, key.shard, key.born, delete.born
                ));
            }
        }
        Ok(())
    }
}
