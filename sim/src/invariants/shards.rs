//! What the groups of a sharded store know of their shards, and the invariants of it.
//!
//! | id | invariant | source |
//! |---|---|---|
//! | shard.single_owner | at most one group serves a shard at any (shard, epoch); no write is accepted by two | MIT 6.824 lab 4B |
//! | shard.no_loss | a shard's data exists at the old owner until the new owner's commit | the same, challenge 1 |
//! | shard.config_order | configs are adopted one by one, in order | the same, section "configuration changes" |
//! | kv.exactly_once | a (session, number) takes effect at most once, wherever its shard lives | Raft dissertation 6.3 |
//!
//! Everything is read from the entries and from what they write. Only the first application of an entry by any replica
//! counts: the others do the same, or `kv.replicas_equal` says so.

use std::collections::BTreeMap;

use eraft::proto::kv::{self, Mutation, command as kv_command};
use eraft::proto::shardkv::{self as pb, command::Operation};
use eraft::raft::{Entry, Payload};
use eraft::types::{ConfigNum, GroupId, Index, ShardId};
use eraft::view::Batch;
use prost::Message as _;

use super::Violation;
use super::configs::{Kept, judge};
use super::shard_config_order::ConfigOrder;
use super::shard_no_loss::NoLoss;
use super::shard_single_owner::SingleOwner;
use crate::coverage::Placement;

const ADOPTED_KEY: &[u8] = b"n";
const TENURES_PREFIX: &[u8] = b"h/";
const DATA_PREFIX: &[u8] = b"d/";
/// In a shard's part of the keys.
const USER_PREFIX: &[u8] = b"k/";

/// What a group knows.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The config that it has adopted.
    pub adopted: ConfigNum,
    /// Its reigns over each shard, oldest first.
    pub tenures: BTreeMap<ShardId, Vec<pb::Tenure>>,
    /// Entries up to here were looked at.
    seen: Index,
    /// What its shards are doing.
    placement: Placement,
}

/// A key in the state store that holds data of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataKey<'a> {
    /// The shard.
    pub shard: ShardId,
    /// The config that brought it.
    pub born: u64,
    /// The key in the shard.
    pub key: &'a [u8],
}

impl<'a> DataKey<'a> {
    /// Reads a key of the state store; `None`: it holds no data.
    pub fn of(key: &'a [u8]) -> Option<Self> {
        let rest = key.strip_prefix(DATA_PREFIX)?;
        let (shard, rest) = rest.split_first_chunk()?;
        let (born, key) = rest.split_first_chunk()?;
        let shard = ShardId(u64::from(u16::from_be_bytes(*shard)));
        Some(Self { shard, born: u64::from_be_bytes(*born), key })
    }

    /// Is it a value that a client wrote?
    pub fn is_user(&self) -> bool {
        self.key.starts_with(USER_PREFIX)
    }
}

/// What happens to shards at a group, for whoever waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// A config was adopted.
    Config,
    /// All data of a shard has arrived.
    Arrival,
    /// A copy is not needed any more.
    Release,
    /// A copy is gone.
    Deletion,
}

/// An entry that was applied for the first time.
pub struct Step<'a> {
    /// In which group.
    pub group: GroupId,
    /// Where.
    pub index: Index,
    /// What it says.
    pub operation: &'a Operation,
    /// What it wrote.
    pub batch: &'a Batch,
    /// What the group knew before,
    pub before: &'a Known,
    /// and after.
    pub after: &'a Known,
    /// What the other groups know.
    pub all: &'a BTreeMap<GroupId, Known>,
    /// All configs.
    pub kept: &'a Kept,
}

impl Step<'_> {
    /// The shards whose tenures this entry changed, with those before and after.
    pub fn changed(&self) -> impl Iterator<Item = (ShardId, &[pb::Tenure], &[pb::Tenure])> {
        let shards = self.batch.writes.iter().filter_map(|(key, _)| shard_of_tenures(key));
        shards.map(move |shard| (shard, self.before.of(shard), self.after.of(shard)))
    }

    /// The tenure of a reign, wherever it is. It may have got a later epoch since: when nobody had the shard for a while.
    pub fn tenure(&self, shard: ShardId, reign: &pb::Reign) -> Option<&pb::Tenure> {
        let group = GroupId(reign.group);
        let known = if group == self.group { Some(self.before) } else { self.all.get(&group) };
        known?.of(shard).iter().find(|tenure| [tenure.epoch, tenure.born].contains(&reign.epoch))
    }
}

impl Known {
    /// The tenures of a shard.
    pub fn of(&self, shard: ShardId) -> &[pb::Tenure] {
        self.tenures.get(&shard).map(Vec::as_slice).unwrap_or_default()
    }

    /// What its shards are doing, whatever the configs say.
    pub fn placement(&self) -> Placement {
        self.placement
    }

    fn write(&mut self, batch: &Batch) {
        for (key, value) in &batch.writes {
            if key == ADOPTED_KEY {
                let adopted = value.as_deref().and_then(|value| pb::Adopted::decode(value).ok());
                self.adopted = ConfigNum(adopted.unwrap_or_default().config);
            } else if let Some(shard) = shard_of_tenures(key) {
                let tenures = value.as_deref().and_then(|value| pb::Tenures::decode(value).ok());
                self.tenures.insert(shard, tenures.unwrap_or_default().tenures);
            }
        }
        let tenures = || self.tenures.values().flatten();
        self.placement = Placement {
            configs_behind: 0,
            is_arriving: tenures().any(|tenure| !is_here(tenure) && !is_deleting(tenure)),
            is_leaving: tenures().any(|tenure| tenure.next.is_some() || is_deleting(tenure)),
        };
    }
}

fn shard_of_tenures(key: &[u8]) -> Option<ShardId> {
    let shard = key.strip_prefix(TENURES_PREFIX)?.try_into().map(u16::from_be_bytes).ok()?;
    Some(ShardId(u64::from(shard)))
}

/// Is all of the data here?
pub fn is_here(tenure: &pb::Tenure) -> bool {
    matches!(tenure.stage, Some(pb::tenure::Stage::Here(_)))
}

/// Is it being deleted?
pub fn is_deleting(tenure: &pb::Tenure) -> bool {
    matches!(tenure.stage, Some(pb::tenure::Stage::Deleting(_)))
}

/// All groups, and their invariants.
#[derive(Default)]
pub struct Shards {
    groups: BTreeMap<GroupId, Known>,
    single_owner: SingleOwner,
    no_loss: NoLoss,
    config_order: ConfigOrder,
    /// Where each (shard, session, number) took effect.
    executed: BTreeMap<(ShardId, u64, u64, u64), (GroupId, Index)>,
    executions: u64,
    /// What took effect, in that order, with its position in the shard.
    pub effects: Vec<(Index, Mutation)>,
    /// Shards whose data arrived at another group.
    pub migrations: u64,
    /// What the last entry brought about.
    pub turns: Vec<Turn>,
}

impl Shards {
    /// A replica of `group` has applied `entry`, which wrote `batch`.
    pub fn applied(
        &mut self,
        group: GroupId,
        entry: &Entry,
        batch: &Batch,
        kept: &Kept,
        checks: &dyn Fn(&str) -> bool,
    ) -> Result<(), Violation> {
        self.turns.clear();
        let before = self.groups.get(&group).cloned().unwrap_or_default();
        if entry.index <= before.seen {
            return Ok(());
        }
        let mut after = before.clone();
        after.seen = entry.index;
        after.write(batch);
        let operation = match &entry.payload {
            Payload::Command(bytes) => pb::Command::decode(bytes.as_ref()).ok().and_then(|it| it.operation),
            _ => None,
        };
        let mut held = Ok(());
        if let Some(operation) = &operation {
            let step = Step {
                group,
                index: entry.index,
                operation,
                batch,
                before: &before,
                after: &after,
                all: &self.groups,
                kept,
            };
            held = judge("shard.config_order", checks, self.config_order.step(&step))
                .and_then(|()| judge("shard.single_owner", checks, self.single_owner.step(&step)))
                .and_then(|()| judge("shard.no_loss", checks, self.no_loss.step(&step)));
            self.turns = turns(&step);
            self.migrations += self.turns.iter().filter(|turn| **turn == Turn::Arrival).count() as u64;
            if let Operation::Client(client) = operation {
                let once = self.once(group, entry.index, client, batch, &before);
                held = held.and_then(|()| judge("kv.exactly_once", checks, once));
            }
        }
        self.groups.insert(group, after);
        held
    }

    fn once(
        &mut self,
        group: GroupId,
        index: Index,
        client: &pb::Client,
        batch: &Batch,
        before: &Known,
    ) -> Result<(), String> {
        let command = kv::Command::decode(client.command.as_ref()).ok().and_then(|command| command.operation);
        let Some(kv_command::Operation::Execute(execute)) = command else { return Ok(()) };
        self.executions += 1;
        let is_user = |key: &[u8]| DataKey::of(key).is_some_and(|key| key.is_user());
        if !batch.writes.iter().any(|(key, _)| is_user(key)) {
            return Ok(());
        }
        let (shard, session) = (ShardId(client.shard), execute.client.unwrap_or_default());
        let number = (shard, session.high, session.low, execute.sequence);
        if let Some((first, at)) = self.executed.insert(number, (group, index)) {
            return Err(format!(
                "number {} of session {:016x}{:016x} of shard {shard} took effect at index {at} of g{first} and again at \
                 index {index} of g{group}",
                execute.sequence, session.high, session.low
            ));
        }
        let offset = before.of(shard).last().map_or(0, |tenure| tenure.offset);
        let position = Index(index.0.saturating_add_signed(offset));
        self.effects.extend(execute.mutation.map(|mutation| (position, mutation)));
        Ok(())
    }

    /// What each group knows.
    pub fn groups(&self) -> &BTreeMap<GroupId, Known> {
        &self.groups
    }

    /// How often each invariant compared something.
    pub fn judged(&self) -> [(&'static str, u64); 4] {
        [
            ("shard.single_owner", self.single_owner.judged),
            ("shard.no_loss", self.no_loss.judged),
            ("shard.config_order", self.config_order.judged),
            ("kv.exactly_once", self.executions),
        ]
    }
}

/// What this entry brings about.
fn turns(step: &Step<'_>) -> Vec<Turn> {
    let mut turns = Vec::new();
    if step.before.adopted != step.after.adopted {
        turns.push(Turn::Config);
    }
    for (_, before, after) in step.changed() {
        for then in before {
            match after.iter().find(|now| now.born == then.born) {
                None => turns.push(Turn::Deletion),
                Some(now) if is_here(now) && !is_here(then) => turns.push(Turn::Arrival),
                Some(now) if is_deleting(now) && !is_deleting(then) => turns.push(Turn::Release),
                Some(_) => {}
            }
        }
    }
    turns
}

#[cfg(test)]
#[path = "shards_tests.rs"]
mod tests;
