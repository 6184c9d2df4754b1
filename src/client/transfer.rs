//! What one group of a sharded store says to another about a shard that moves between them.

use super::group::{Ask, Way};
use super::{Client, Outcome, Refused, Target};
use crate::proto::kv::{Done, done, request};
use crate::proto::shardkv as pb;
use crate::shardkv::Reign;
use crate::types::ShardId;

impl Client {
    /// Asks any member of this group for the next part of `shard`, which had it as `source`; `by` takes it, in parts of
    /// at most `pairs_max` pairs if that is not 0.
    pub(crate) async fn pull(
        &self,
        shard: ShardId,
        source: Reign,
        by: Reign,
        after: &[u8],
        pairs_max: u64,
    ) -> Outcome<pb::pulled::What> {
        let pull = pb::Pull {
            shard: shard.0,
            source: Some(source.into()),
            by: Some(by.into()),
            after: after.to_vec().into(),
            pairs_max,
        };
        let pulled = match self.tell_source(request::Operation::Pull(pull)).await {
            Outcome::Ok(Done { result: Some(done::Result::Pulled(pulled)), .. }) => pulled.what,
            Outcome::Ok(other) => return another(&other),
            Outcome::Refused(refused) => return Outcome::Refused(refused),
            Outcome::Unknown(detail) => return Outcome::Unknown(detail),
        };
        match pulled {
            Some(what) => {
                if let (pb::pulled::What::NotYet(_), Target::Group(group, _)) = (&what, &self.target) {
                    group.turn(); // that member is behind; another one may not be
                }
                Outcome::Ok(what)
            }
            None => Outcome::Unknown("an answer without an outcome".to_owned()),
        }
    }

    /// Tells this group that `by` has all of `shard`, committed.
    pub(crate) async fn arrived(&self, shard: ShardId, source: Reign, by: Reign) -> Outcome<()> {
        let arrived = pb::Arrived { shard: shard.0, source: Some(source.into()), by: Some(by.into()) };
        match self.tell_source(request::Operation::Arrived(arrived)).await {
            Outcome::Ok(Done { result: Some(done::Result::Confirmed(_)), .. }) => Outcome::Ok(()),
            Outcome::Ok(other) => another(&other),
            Outcome::Refused(refused) => Outcome::Refused(refused),
            Outcome::Unknown(detail) => Outcome::Unknown(detail),
        }
    }

    async fn tell_source(&self, operation: request::Operation) -> Outcome<Done> {
        match &self.target {
            Target::Group(group, _) => group.attempts(&Ask::new(operation), self.context.deadline()).await,
            Target::Shards(_) => {
                let detail = "groups talk to each other, not to the whole store".to_owned();
                Outcome::Refused(Refused { unavailable: false, detail })
            }
        }
    }
}

fn another<T>(done: &Done) -> Outcome<T> {
    Outcome::Unknown(format!("an answer to another question: {done:?}"))
}
