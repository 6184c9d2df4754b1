//! The machine of a group: clients' commands for the shards that it serves, and the steps of migration.
//!
//! Invariants:
//! - a client's command takes effect only in the tenure that is served at its place in the log; what it writes, the
//!   session's reply and the sum of the shard's content are one batch;
//! - every step of migration names a shard and a config, and doing it again does nothing;
//! - the configs are adopted one by one, in order; `adopt.rs` says when one may be left out;
//! - a bad command writes nothing and is refused, the same on every replica.

use prost::Message as _;

use super::chunk::check;
use super::migrate::{Accepted, Arrival, NotServed, Reign, Stage, Tenures};
use super::query::{ShardAnswer, ShardQuery};
use super::record::{Adopted, damaged, data_prefix, load_adopted, load_tenures, save_tenures, shard_prefix};
use crate::ctrler::shard_of;
use crate::kv::{KvLimits, KvMachine, KvReply, LimitError, USER_PREFIX};
use crate::machine::{Content, StateMachine, hash_delta};
use crate::mutants::{MutantId, Mutants};
use crate::proto::shardkv::{self as pb, command};
use crate::raft::Position;
use crate::session::Whole;
use crate::types::{ConfigNum, GroupId, Index, ShardId};
use crate::view::{Batch, KeyRange, PageLimit, View, ViewError, Within, collect};

/// Pairs that one step of deleting removes at most.
pub const DELETE_PAIRS_MAX: usize = 1 << 10;

/// Bytes that one step of deleting looks at, beyond which it takes no further pair.
pub const DELETE_BYTES_MAX: usize = 1 << 20;

/// The text is part of the replicated state.
pub(super) const OTHER_SHARD: &str = "the key is of another shard";

/// The state machine of one group; see [`super`] for its keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ShardMachine {
    pub(super) group: GroupId,
    pub(super) kv: KvMachine,
    pub(super) mutants: Mutants,
}

/// What a proposer is told.
#[derive(Clone, Debug, PartialEq)]
pub enum ShardReply {
    /// To a client's command: what the shard's machine says, and the shard's position at which it says so.
    Kv(KvReply, u64),
    /// To a client's command: the shard is not served here.
    NotServed {
        /// Why.
        why: NotServed,
        /// The config that this group has adopted.
        config: ConfigNum,
    },
    /// To a config: the last one that is adopted now.
    Adopted(ConfigNum),
    /// To a chunk: whether it was taken over now.
    Inserted(bool),
    /// To the other steps: it is so, by this entry or by an earlier one.
    Done,
    /// Nothing was done, and why.
    Refused(String),
}

impl ShardMachine {
    /// The machine of `group`, with the limits that all its replicas must share, and that all groups should.
    pub fn new(group: GroupId, limits: KvLimits, mutants: Mutants) -> Result<Self, LimitError> {
        Ok(Self { group, kv: KvMachine::new(limits, mutants)?, mutants })
    }

    fn client(
        &self,
        view: &dyn View,
        at: Position,
        shard: u64,
        command: &[u8],
        batch: &mut Batch,
    ) -> Result<ShardReply, ViewError> {
        let whole = match Whole::parse(command) {
            Ok(whole) => whole,
            Err(detail) => return Ok(ShardReply::Refused(detail.to_owned())),
        };
        let adopted = load_adopted(view)?;
        let Some(shard) = known(shard, &adopted) else {
            return Ok(ShardReply::NotServed { why: NotServed::Elsewhere, config: adopted.config });
        };
        if whole.key().is_some_and(|key| shard_of(key, adopted.shards) != shard) {
            return Ok(ShardReply::Refused(OTHER_SHARD.to_owned()));
        }
        let mut tenures = load_tenures(view, shard)?;
        let before = tenures.clone();
        let tenure = match tenures.served(true, self.mutants) {
            Ok(tenure) => tenure,
            Err(why) => return Ok(ShardReply::NotServed { why, config: adopted.config }),
        };
        let (born, position) = (tenure.born, tenure.position(at.index.0));
        let prefix = data_prefix(shard, born);
        let within = Within::new(view, &prefix);
        let place = Position { index: Index(position), term: at.term };
        let (writes, reply) = self.kv.apply_whole(&within, place, &whole)?;
        let (delta, users) = (hash_delta(&within, &writes)?, users_delta(&within, &writes)?);
        if let Some(tenure) = tenures.0.get_mut(&born) {
            tenure.content = tenure.content.after(delta);
            tenure.user_keys = tenure.user_keys.saturating_add_signed(users);
        }
        batch.extend_within(&prefix, writes);
        save_tenures(shard, &before, &tenures, batch);
        Ok(ShardReply::Kv(reply, position))
    }

    fn insert(
        &self,
        view: &dyn View,
        at: Position,
        insert: &pb::Insert,
        batch: &mut Batch,
    ) -> Result<ShardReply, ViewError> {
        let Some(shard) = known(insert.shard, &load_adopted(view)?) else { return Ok(unknown_shard()) };
        let Some(chunk) = &insert.chunk else {
            return Ok(ShardReply::Refused("there is no chunk".to_owned()));
        };
        let born = ConfigNum(insert.born);
        if let Err(detail) = check(shard, Reign { group: self.group, epoch: born }, chunk) {
            return Ok(ShardReply::Refused(detail.to_owned()));
        }
        let before = load_tenures(view, shard)?;
        let mut tenures = before.clone();
        let prefix = data_prefix(shard, born);
        let mut writes = Batch::new();
        for pair in &chunk.pairs {
            writes.put(pair.key.clone(), pair.value.clone());
        }
        let arrival = Arrival {
            after: &chunk.after,
            last: chunk.pairs.last().map(|pair| &pair.key[..]),
            adds: hash_delta(&Within::new(view, &prefix), &writes)?,
            whole: chunk.whole.map(|whole| (whole.content.unwrap_or_default().into(), whole.position)),
        };
        Ok(match tenures.arrive(born, &arrival, at.index.0, self.mutants) {
            Ok(Accepted::Write) => {
                if let Some(tenure) = tenures.0.get_mut(&born) {
                    tenure.user_keys += users_in(&writes);
                }
                batch.extend_within(&prefix, writes);
                save_tenures(shard, &before, &tenures, batch);
                ShardReply::Inserted(true)
            }
            Ok(Accepted::OutOfOrder | Accepted::HereAlready) => ShardReply::Inserted(false),
            Err(refusal) => ShardReply::Refused(format!("shard {shard}: {refusal}")),
        })
    }

    /// Removes the first pairs of a confirmed shard that are left.
    fn delete(
        &self,
        view: &dyn View,
        delete: pb::Delete,
        batch: &mut Batch,
    ) -> Result<ShardReply, ViewError> {
        let Some(shard) = known(delete.shard, &load_adopted(view)?) else { return Ok(unknown_shard()) };
        let born = ConfigNum(delete.born);
        let before = load_tenures(view, shard)?;
        let Some(tenure) = before.0.get(&born).filter(|tenure| tenure.stage == Stage::Deleting) else {
            return Ok(ShardReply::Done);
        };
        let mut prefix = data_prefix(shard, born);
        if self.mutants.is(MutantId::ShardkvDeleteReturned) {
            prefix = shard_prefix(shard);
        }
        let within = Within::new(view, &prefix);
        let limit = PageLimit { pairs_max: DELETE_PAIRS_MAX, bytes_max: DELETE_BYTES_MAX };
        let everything = KeyRange::all();
        let range = match &tenure.deleted_to[..] {
            [] => everything,
            deleted_to => everything.after(deleted_to),
        };
        let (pairs, all) = collect(&within, range, limit)?;
        let last = pairs.last().map(|(key, _)| key.clone());
        let mut writes = Batch::new();
        for (key, _) in pairs {
            writes.delete(key);
        }
        let mut content = tenure.content.after(hash_delta(&within, &writes)?);
        if all && content != Content::default() {
            if !self.mutants.is(MutantId::ShardkvDeleteReturned) {
                return Err(damaged(&prefix, "what was there is not what its record says"));
            }
            content = Content::default();
        }
        let mut tenures = before.clone();
        if let Some(tenure) = tenures.0.get_mut(&born) {
            tenure.user_keys = tenure.user_keys.saturating_sub(users_in(&writes));
        }
        if self.mutants.is(MutantId::ShardkvNeverDeletes) {
            (content, writes) = (Content::default(), Batch::new());
        }
        tenures.deleted(born, last, content);
        batch.extend_within(&prefix, writes);
        save_tenures(shard, &before, &tenures, batch);
        Ok(ShardReply::Done)
    }

    /// Changes the tenures of one shard, and nothing else.
    fn change(
        &self,
        view: &dyn View,
        shard: u64,
        batch: &mut Batch,
        change: impl FnOnce(&mut Tenures, &Adopted) -> Result<(), super::migrate::Refusal>,
    ) -> Result<ShardReply, ViewError> {
        let adopted = load_adopted(view)?;
        let Some(shard) = known(shard, &adopted) else { return Ok(unknown_shard()) };
        let before = load_tenures(view, shard)?;
        let mut tenures = before.clone();
        if let Err(refusal) = change(&mut tenures, &adopted) {
            return Ok(ShardReply::Refused(format!("shard {shard}: {refusal}")));
        }
        save_tenures(shard, &before, &tenures, batch);
        Ok(ShardReply::Done)
    }
}

impl StateMachine for ShardMachine {
    type Reply = ShardReply;
    type Query = ShardQuery;
    type Answer = ShardAnswer;

    fn apply(&self, view: &dyn View, at: Position, command: &[u8]) -> Result<(Batch, ShardReply), ViewError> {
        use command::Operation as To;
        let mut batch = Batch::new();
        let operation = pb::Command::decode(command).ok().and_then(|command| command.operation);
        let reply = match &operation {
            None => ShardReply::Refused("the command does not decode".to_owned()),
            Some(To::Client(client)) => self.client(view, at, client.shard, &client.command, &mut batch)?,
            Some(To::Adopt(adopt)) => self.adopt(view, at, adopt, &mut batch)?,
            Some(To::Insert(insert)) => self.insert(view, at, insert, &mut batch)?,
            Some(To::Confirm(confirm)) => {
                self.change(view, confirm.shard, &mut batch, |tenures, adopted| match confirm.by {
                    Some(by) => tenures.confirm(ConfigNum(confirm.epoch), by.into(), adopted.config),
                    None => Err(super::migrate::Refusal("nobody confirms".to_owned())),
                })?
            }
            Some(To::Told(told)) => self.change(view, told.shard, &mut batch, |tenures, _| {
                tenures.told(ConfigNum(told.born));
                Ok(())
            })?,
            Some(To::Delete(delete)) => self.delete(view, *delete, &mut batch)?,
        };
        Ok((batch, reply))
    }

    fn read(&self, view: &dyn View, query: &ShardQuery) -> Result<ShardAnswer, ViewError> {
        self.answer(view, query)
    }
}

/// By how much a client's command changes the number of users' keys: it writes each at most once.
fn users_delta(view: &dyn View, batch: &Batch) -> Result<i64, ViewError> {
    let mut delta = 0;
    for (key, new) in batch.writes.iter().filter(|(key, _)| key.starts_with(USER_PREFIX)) {
        delta += i64::from(new.is_some()) - i64::from(view.get(key)?.is_some());
    }
    Ok(delta)
}

/// How many users' keys a batch names.
fn users_in(batch: &Batch) -> u64 {
    batch.writes.iter().filter(|(key, _)| key.starts_with(USER_PREFIX)).count() as u64
}

/// The shard of this number, if the cluster has it.
pub(super) fn known(shard: u64, adopted: &Adopted) -> Option<ShardId> {
    (shard < adopted.shards as u64).then_some(ShardId(shard))
}

fn unknown_shard() -> ShardReply {
    ShardReply::Refused("there is no such shard".to_owned())
}
