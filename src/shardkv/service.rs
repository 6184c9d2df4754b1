//! How a group meets its clients, and the groups that take its shards over.

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;

use super::migrate::Reign;
use super::{CHUNK_LIMIT, NotServed, Pulled, ShardAnswer, ShardMachine, ShardQuery, ShardReply};
use crate::proto::kv::{Command, Limits, RefusedReason, done, request};
use crate::proto::shardkv::{self as pb, command};
use crate::proto::{admin, shardkv};
use crate::service::{Refusal, Served, Wanted, of_reply};
use crate::types::{ConfigNum, GroupId, Index, ShardId};
use crate::view::PageLimit;

impl Served for ShardMachine {
    fn take(&self, operation: request::Operation, shard: Option<ShardId>) -> Wanted<ShardQuery> {
        match operation {
            request::Operation::Pull(pull) => match self.between(pull.source, pull.by) {
                Ok((source, by)) => Wanted::Query {
                    query: ShardQuery::Pull {
                        shard: ShardId(pull.shard),
                        epoch: source.epoch,
                        by,
                        after: pull.after.into(),
                        limit: limit_of(pull.pairs_max),
                    },
                    // Frozen data is the same on all replicas, and one that is behind says so.
                    stale: true,
                    wait: Duration::ZERO,
                },
                Err(refusal) => Wanted::Refused(refusal),
            },
            request::Operation::Arrived(arrived) => match self.between(arrived.source, arrived.by) {
                Ok((source, by)) => {
                    let confirm =
                        pb::Confirm { shard: arrived.shard, epoch: source.epoch.0, by: Some(by.into()) };
                    Wanted::Entry(entry(command::Operation::Confirm(confirm)))
                }
                Err(refusal) => Wanted::Refused(refusal),
            },
            of_clients => {
                let wanted = self.kv.take(of_clients, shard);
                match (wanted, shard) {
                    (Wanted::Refused(refusal), _) => Wanted::Refused(refusal),
                    (_, None) => Wanted::Refused(Refusal::malformed("the request names no shard")),
                    (Wanted::Command(command), Some(_)) => Wanted::Command(command),
                    (Wanted::Entry(entry), Some(_)) => Wanted::Entry(entry),
                    (Wanted::Query { query, stale, wait }, Some(shard)) => {
                        Wanted::Query { query: ShardQuery::Kv { shard, query }, stale, wait }
                    }
                }
            }
        }
    }

    fn entry(&self, command: Command, shard: Option<ShardId>) -> Bytes {
        let shard = shard.map_or(u64::MAX, |shard| shard.0);
        entry(command::Operation::Client(pb::Client { shard, command: command.encode_to_vec().into() }))
    }

    fn told(reply: ShardReply) -> Result<done::Result, Refusal> {
        match reply {
            ShardReply::Kv(reply, _) => of_reply(reply),
            ShardReply::NotServed { why, config } => Err(not_served(why, config)),
            ShardReply::Done => Ok(done::Result::Confirmed(true)),
            ShardReply::Refused(detail) => Err(Refusal::malformed(detail)),
            ShardReply::Adopted(_) | ShardReply::Inserted(_) => {
                Err(Refusal::malformed("no client can ask for that"))
            }
        }
    }

    fn answered(answer: ShardAnswer, index: Index) -> Result<(done::Result, u64), Refusal> {
        match answer {
            ShardAnswer::Kv(answer, offset) => {
                crate::kv::KvMachine::answered(answer, Index(index.0.saturating_add_signed(offset)))
            }
            ShardAnswer::NotServed { why, config } => Err(not_served(why, config)),
            ShardAnswer::Pulled(pulled) => {
                let what = match pulled {
                    Pulled::Chunk(chunk) => pb::pulled::What::Chunk(chunk),
                    Pulled::NotYet(why) => pb::pulled::What::NotYet(why),
                    Pulled::Gone => pb::pulled::What::Gone(true),
                };
                Ok((done::Result::Pulled(pb::Pulled { what: Some(what) }), index.0))
            }
            ShardAnswer::Refused(detail) => Err(Refusal::malformed(detail)),
            ShardAnswer::Chores(_)
            | ShardAnswer::Held(_)
            | ShardAnswer::Config(_)
            | ShardAnswer::Standing { .. }
            | ShardAnswer::Status { .. } => Err(Refusal::malformed("an answer to another question")),
        }
    }

    fn limits(&self) -> Option<Limits> {
        Served::limits(&self.kv)
    }

    fn status_query() -> ShardQuery {
        ShardQuery::Status
    }

    fn add_status(answer: ShardAnswer, status: &mut admin::Status) {
        let ShardAnswer::Status { group, config, held } = answer else { return };
        status.group = group.0;
        status.config = config.0;
        status.sessions = held.iter().map(|(_, sessions)| sessions).sum();
        let shard = |(held, _): &(super::Held, u64)| admin::ShardStatus {
            shard: held.shard.0,
            state: held.state.name().to_owned(),
            epoch: held.epoch.0,
            keys: held.user_keys,
            bytes: held.content.bytes,
        };
        status.shards = held.iter().map(shard).collect();
    }
}

impl ShardMachine {
    /// The two reigns of a move from this group to another, or why it is none.
    fn between(
        &self,
        source: Option<shardkv::Reign>,
        by: Option<shardkv::Reign>,
    ) -> Result<(Reign, Reign), Refusal> {
        let (Some(source), Some(by)) = (source, by) else {
            return Err(Refusal::malformed("a move from nobody or to nobody"));
        };
        let (source, by) = (Reign::from(source), Reign::from(by));
        if source.group != self.group {
            let detail = format!("this is group {}, not group {}", self.group, source.group);
            return Err(Refusal::new(RefusedReason::RefusedNotServed, detail));
        }
        if by.group == GroupId(0) || by.epoch <= source.epoch {
            return Err(Refusal::malformed(format!("{by:?} cannot follow on {source:?}")));
        }
        Ok((source, by))
    }
}

/// How much one part may hold if `pairs_max` pairs are wanted at most; 0: whatever this group gives.
fn limit_of(pairs_max: u64) -> PageLimit {
    let wanted = usize::try_from(pairs_max).unwrap_or(usize::MAX);
    let pairs_max = if wanted == 0 { CHUNK_LIMIT.pairs_max } else { wanted.min(CHUNK_LIMIT.pairs_max) };
    PageLimit { pairs_max, ..CHUNK_LIMIT }
}

/// An entry of the group's log.
pub(super) fn entry(operation: command::Operation) -> Bytes {
    pb::Command { operation: Some(operation) }.encode_to_vec().into()
}

fn not_served(why: NotServed, config: ConfigNum) -> Refusal {
    let (reason, detail) = match why {
        NotServed::Elsewhere => (RefusedReason::RefusedElsewhere, "the shard is of another group"),
        NotServed::NotArrived => (RefusedReason::RefusedNotArrived, "the shard is on its way to this group"),
    };
    Refusal { config, ..Refusal::new(reason, format!("{detail} (config {config})")) }
}
