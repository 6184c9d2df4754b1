//! What can be asked of a group's state, and the answers. Nothing here changes anything.

use super::chunk::pack;
use super::errand::Chores;
use super::machine::{OTHER_SHARD, ShardMachine, known};
use super::migrate::{Next, NotServed, Reign, ShardState, Stage, Tenure, Tenures};
use super::record::{data_prefix, load_adopted, load_all_tenures, load_config, load_tenures};
use crate::ctrler::{Config, shard_of};
use crate::kv::{KvAnswer, KvQuery, USER_PREFIX};
use crate::machine::{Content, StateMachine as _};
use crate::mutants::MutantId;
use crate::proto::shardkv as pb;
use crate::types::{ConfigNum, GroupId, ShardId};
use crate::view::{KeyRange, PageLimit, View, ViewError, Within, collect};

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
    /// The adopted config.
    Config,
    /// What the group reports to the controllers.
    Standing,
    /// What operators see.
    Status,
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
    /// To [`ShardQuery::Config`]; `None` before the first.
    Config(Option<Config>),
    /// To [`ShardQuery::Standing`].
    Standing {
        /// The adopted config; 0 before the first.
        config: ConfigNum,
        /// It owns a shard, or keeps data that another group has yet to fetch.
        holds: bool,
    },
    /// To [`ShardQuery::Status`].
    Status {
        /// The group.
        group: GroupId,
        /// The config that it has adopted.
        config: ConfigNum,
        /// What is here, and how many open sessions are among it.
        held: Vec<(Held, u64)>,
    },
    /// The question makes no sense, and why.
    Refused(String),
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
    /// The config under whose name its data is kept.
    pub born: ConfigNum,
    /// The sum of its pairs: values, sessions and their table.
    pub content: Content,
    /// How many of them are users'.
    pub user_keys: u64,
}

impl Held {
    fn new(shard: ShardId, tenure: &Tenure) -> Self {
        let Tenure { epoch, born, content, user_keys, .. } = *tenure;
        Self { shard, epoch, state: tenure.state(), born, content, user_keys }
    }
}

impl ShardMachine {
    /// Answers `query`.
    pub(super) fn answer(&self, view: &dyn View, query: &ShardQuery) -> Result<ShardAnswer, ViewError> {
        match query {
            ShardQuery::Kv { shard, query } => {
                let adopted = load_adopted(view)?;
                let elsewhere = |why| ShardAnswer::NotServed { why, config: adopted.config };
                let Some(shard) = known(shard.0, &adopted) else {
                    return Ok(elsewhere(NotServed::Elsewhere));
                };
                let key = if let KvQuery::Get { key } = query { Some(key) } else { None };
                if key.is_some_and(|key| shard_of(key, adopted.shards) != shard) {
                    return Ok(ShardAnswer::Refused(OTHER_SHARD.to_owned()));
                }
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
                    all.extend(tenures.0.values().map(|tenure| Held::new(shard, tenure)));
                })?;
                Ok(ShardAnswer::Held(all))
            }
            ShardQuery::Standing => {
                let config = load_adopted(view)?.config;
                Ok(ShardAnswer::Standing { config, holds: self.holds(view)? })
            }
            ShardQuery::Status => self.status(view),
            ShardQuery::Config => Ok(ShardAnswer::Config(load_config(view)?)),
        }
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
        let Some(tenure) = tenures.of_epoch(epoch) else { return Ok(Pulled::Gone) };
        match (&tenure.stage, tenure.next) {
            (Stage::Deleting, _) => return Ok(Pulled::Gone),
            (Stage::Pulling(_), _) => return Ok(Pulled::NotYet("it has not arrived here".to_owned())),
            (Stage::Here, next) if next == Next::Group(by) => {}
            (Stage::Here, next) => {
                return Ok(Pulled::NotYet(format!("it is followed by {next:?}, not by {by:?}")));
            }
        }
        let newest = tenures.last().filter(|_| self.mutants.is(MutantId::ShardkvPullFromNewer));
        let (data, frozen) = (newest.unwrap_or(tenure), tenure.frozen);
        let prefix = data_prefix(shard, data.born);
        let within = Within::new(view, &prefix);
        let sessions_stay = self.mutants.is(MutantId::ShardkvSessionsNotMoved);
        let moved = if sessions_stay { KeyRange::prefix(USER_PREFIX) } else { KeyRange::all() };
        let range = if after.is_empty() { moved } else { moved.after(after) };
        let (pairs, all) = collect(&within, range, limit)?;
        let whole = all.then_some((data.content, frozen));
        Ok(Pulled::Chunk(pack(shard, by, after, pairs, whole)))
    }

    /// All shards of which something is here, with what it is.
    pub(super) fn each_shard(
        &self,
        view: &dyn View,
        mut each: impl FnMut(ShardId, &Tenures),
    ) -> Result<(), ViewError> {
        for (shard, tenures) in load_all_tenures(view)? {
            each(shard, &tenures);
        }
        Ok(())
    }

    fn status(&self, view: &dyn View) -> Result<ShardAnswer, ViewError> {
        let mut held = Vec::new();
        self.each_shard(view, |shard, tenures| {
            held.extend(tenures.0.values().map(|tenure| (Held::new(shard, tenure), 0)));
        })?;
        for (held, sessions) in &mut held {
            let prefix = data_prefix(held.shard, held.born);
            if let KvAnswer::Status(own) = self.kv.read(&Within::new(view, &prefix), &KvQuery::Status)? {
                *sessions = own.sessions;
            }
        }
        let config = load_adopted(view)?.config;
        Ok(ShardAnswer::Status { group: self.group, config, held })
    }
}
