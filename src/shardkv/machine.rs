//! The machine of a group: clients' commands for the shards that it serves, and the steps of migration.
//!
//! Invariants:
//! - a client's command takes effect only in the tenure that is served at its place in the log; what it writes, the
//!   session's reply and the sum of the shard's content are one batch;
//! - every step of migration names a shard and a config, and doing it again does nothing;
//! - the configs are adopted one by one, in order; `adopt.rs` says when one may be left out;
//! - a bad command writes nothing and is refused, the same on every replica.

use prost::Message as _;

use super::chunk::{check, collect, pack};
use super::errand::Chores;
use super::migrate::{Accepted, Arrival, Next, NotServed, Reign, ShardState, Stage, Tenures};
use super::record::{
    Adopted, damaged, data_prefix, load_adopted, load_config, load_tenures, save_tenures, shard_prefix,
};
use crate::ctrler::{Config, shard_of};
use crate::kv::{KvAnswer, KvLimits, KvMachine, KvQuery, KvReply, LimitError, USER_PREFIX};
use crate::machine::{Content, StateMachine, hash_delta};
use crate::mutants::{MutantId, Mutants};
use crate::proto::shardkv::{self as pb, command};
use crate::raft::Position;
use crate::session::Whole;
use crate::types::{ConfigNum, GroupId, Index, ShardId};
use crate::view::{Batch, KeyRange, PageLimit, View, ViewError, Within};

/// Pairs that one step of deleting removes at most.
pub const DELETE_PAIRS_MAX: usize = 1 << 10;

/// Bytes that one step of deleting looks at, beyond which it takes no further pair.
pub const DELETE_BYTES_MAX: usize = 1 << 20;

/// The state machine of one group; see [`super`] for its keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ShardMachine {
    pub(super) group: GroupId,
    kv: KvMachine,
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

/// What can be asked of the state.
#[derive(Clone, Debug)]
pub enum ShardQuery {
    /// A client's question about a shard.
    Kv {
        /// The shard.
        shard: ShardId,
        /// The question.
        query: KvQuery,
    },
    /// A part of a frozen shard. Any replica may be asked without a barrier: frozen data is the same everywhere.
    Pull {
        /// The shard.
        shard: ShardId,
        /// The config that gave it to this group.
        epoch: ConfigNum,
        /// Who takes it.
        by: Reign,
        /// The last key that arrived there.
        after: Vec<u8>,
        /// How much one part may hold.
        limit: PageLimit,
    },
    /// What there is to do.
    Chores,
    /// What is here of which shard.
    Held,
    /// What the group reports to the controllers.
    Standing,
    /// The adopted config.
    Config,
}

/// What comes back.
#[derive(Clone, Debug, PartialEq)]
pub enum ShardAnswer {
    /// To [`ShardQuery::Kv`]; the second turns the index at which it was read into a position of the shard.
    Kv(KvAnswer, i64),
    /// To [`ShardQuery::Kv`]: the shard is not served here.
    NotServed {
        /// Why.
        why: NotServed,
        /// The config that this group has adopted.
        config: ConfigNum,
    },
    /// To [`ShardQuery::Pull`].
    Pulled(Pulled),
    /// To [`ShardQuery::Chores`].
    Chores(Chores),
    /// To [`ShardQuery::Held`], by shard, then oldest first.
    Held(Vec<Held>),
    /// To [`ShardQuery::Standing`].
    Standing {
        /// The adopted config.
        config: ConfigNum,
        /// The group owns a shard, or keeps data that another group has yet to fetch.
        holds: bool,
    },
    /// To [`ShardQuery::Config`]; `None` before the first.
    Config(Option<Config>),
}

/// What a source says to a pull.
#[derive(Clone, Debug, PartialEq)]
pub enum Pulled {
    /// The next part.
    Chunk(pb::Chunk),
    /// Not here yet, or not frozen yet, or not for this reign; ask again later.
    NotYet(String),
    /// It was here, the reign that asks has confirmed that it has it, and it is being deleted or gone.
    Gone,
}

/// What a group has of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Held {
    /// The shard.
    pub shard: ShardId,
    /// The config since which it is here.
    pub epoch: ConfigNum,
    /// Its state.
    pub state: ShardState,
    /// The sum of its pairs: values, sessions and their table.
    pub content: Content,
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
            return Ok(ShardReply::Refused("the key is of another shard".to_owned()));
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
        let delta = hash_delta(&within, &writes)?;
        if let Some(tenure) = tenures.0.get_mut(&born) {
            tenure.content = tenure.content.after(delta);
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
                batch.extend_within(&prefix, writes);
                save_tenures(shard, &before, &tenures, batch);
                ShardReply::Inserted(true)
            }
            Ok(Accepted::OutOfOrder | Accepted::HereAlready) => ShardReply::Inserted(false),
            Err(refusal) => ShardReply::Refused(format!("shard {shard}: {refusal}")),
        })
    }

    /// Removes the first pairs of a confirmed shard.
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
        let (pairs, all) = collect(&within, KeyRange::all(), limit)?;
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
        tenures.deleted(born, content);
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

    fn pull(
        &self,
        view: &dyn View,
        shard: ShardId,
        epoch: ConfigNum,
        by: Reign,
        after: &[u8],
        limit: PageLimit,
    ) -> Result<Pulled, ViewError> {
        let adopted = load_adopted(view)?;
        if adopted.config < by.epoch {
            return Ok(Pulled::NotYet(format!("config {} is not adopted here", by.epoch)));
        }
        let tenures = load_tenures(view, shard)?;
        let newer = self.mutants.is(MutantId::ShardkvPullFromNewer);
        let asked = if newer { tenures.last() } else { tenures.of_epoch(epoch) };
        let Some(tenure) = asked else { return Ok(Pulled::Gone) };
        match (&tenure.stage, tenure.next) {
            (Stage::Deleting, _) => return Ok(Pulled::Gone),
            (Stage::Pulling(_), _) => return Ok(Pulled::NotYet("it has not arrived here".to_owned())),
            (Stage::Here, next) if next == Next::Group(by) || newer => {}
            (Stage::Here, next) => {
                return Ok(Pulled::NotYet(format!("it is followed by {next:?}, not by {by:?}")));
            }
        }
        let prefix = data_prefix(shard, tenure.born);
        let within = Within::new(view, &prefix);
        let sessions_stay = self.mutants.is(MutantId::ShardkvSessionsNotMoved);
        let moved = if sessions_stay { KeyRange::prefix(USER_PREFIX) } else { KeyRange::all() };
        let range = if after.is_empty() { moved } else { moved.after(after) };
        let (pairs, all) = collect(&within, range, limit)?;
        let whole = all.then_some((tenure.content, tenure.frozen));
        Ok(Pulled::Chunk(pack(shard, by, after, pairs, whole)))
    }

    /// All shards of which something is here, with what it is.
    pub(super) fn each_shard(
        &self,
        view: &dyn View,
        mut each: impl FnMut(ShardId, &Tenures),
    ) -> Result<(), ViewError> {
        for shard in 0..load_adopted(view)?.shards {
            let shard = ShardId(shard as u64);
            each(shard, &load_tenures(view, shard)?);
        }
        Ok(())
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
        match query {
            ShardQuery::Kv { shard, query } => {
                let adopted = load_adopted(view)?;
                let elsewhere = |why| ShardAnswer::NotServed { why, config: adopted.config };
                let Some(shard) = known(shard.0, &adopted) else {
                    return Ok(elsewhere(NotServed::Elsewhere));
                };
                match load_tenures(view, shard)?.served(false, self.mutants) {
                    Ok(tenure) => {
                        let prefix = data_prefix(shard, tenure.born);
                        let answer = self.kv.read(&Within::new(view, &prefix), query)?;
                        Ok(ShardAnswer::Kv(answer, tenure.offset))
                    }
                    Err(why) => Ok(elsewhere(why)),
                }
            }
            ShardQuery::Pull { shard, epoch, by, after, limit } => {
                Ok(ShardAnswer::Pulled(self.pull(view, *shard, *epoch, *by, after, *limit)?))
            }
            ShardQuery::Chores => {
                let mut all = Chores::default();
                self.each_shard(view, |shard, tenures| {
                    let chores = tenures.chores(self.group, self.mutants);
                    all.todo.extend(chores.into_iter().map(|chore| (shard, chore)));
                    all.addresses.extend(tenures.addresses());
                })?;
                Ok(ShardAnswer::Chores(all))
            }
            ShardQuery::Held => {
                let mut all = Vec::new();
                self.each_shard(view, |shard, tenures| {
                    all.extend(tenures.0.values().map(|tenure| Held {
                        shard,
                        epoch: tenure.epoch,
                        state: tenure.state(),
                        content: tenure.content,
                    }));
                })?;
                Ok(ShardAnswer::Held(all))
            }
            ShardQuery::Standing => {
                let config = load_adopted(view)?.config;
                Ok(ShardAnswer::Standing { config, holds: self.holds(view)? })
            }
            ShardQuery::Config => Ok(ShardAnswer::Config(load_config(view)?)),
        }
    }
}

/// The shard of this number, if the cluster has it.
fn known(shard: u64, adopted: &Adopted) -> Option<ShardId> {
    (shard < adopted.shards as u64).then_some(ShardId(shard))
}

fn unknown_shard() -> ShardReply {
    ShardReply::Refused("there is no such shard".to_owned())
}
