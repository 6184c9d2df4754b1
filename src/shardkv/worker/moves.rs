//! Moving shards: everything that is to be done for each, at the same time and within bounds.
//!
//! What is to be done is read from the group's state ([`Chore`]); what is under way is only remembered here, and
//! forgotten with the leadership. A chore that fails waits for a while and is looked at again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use super::Worker;
use crate::addresses::Addresses;
use crate::client::{Client, ClientOptions, members};
use crate::proto::shardkv::{self as pb, command, pulled};
use crate::replica::Surroundings;
use crate::replica::timers::Moment;
use crate::shardkv::{Chore, Reign, ShardAnswer, ShardQuery, ShardReply};
use crate::types::{ConfigNum, GroupId, ShardId};

/// What is done with whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Pull(GroupId),
    Tell(GroupId),
    Delete,
}

/// One chore, however far it is.
type Key = (Kind, ShardId, ConfigNum);

fn key_of(shard: ShardId, chore: &Chore) -> Key {
    match chore {
        Chore::Pull { by, source, .. } => (Kind::Pull(source.group), shard, by.epoch),
        Chore::Tell { by, source } => (Kind::Tell(source.group), shard, by.epoch),
        Chore::Delete { born } => (Kind::Delete, shard, *born),
    }
}

/// A chore that failed.
struct Waiting {
    until: Moment,
    failures: u32,
}

impl Worker {
    /// Never ends.
    pub(super) async fn move_shards(&self) {
        let clock = &self.surroundings.clock;
        let (look_min, look_max) = self.options.look_ms;
        let mut running = FuturesUnordered::new();
        let mut under_way: BTreeMap<Kind, Vec<Key>> = BTreeMap::new();
        let mut waiting: BTreeMap<Key, Waiting> = BTreeMap::new();
        loop {
            let mut applied = std::pin::pin!(self.handle.applied());
            applied.as_mut().enable();
            let chores = self.chores().await;
            let now = clock.now();
            waiting.retain(|key, _| chores.contains_key(key));
            for (key, chore) in chores {
                let places = under_way.entry(key.0).or_default();
                let waits = waiting.get(&key).is_some_and(|waiting| waiting.until > now);
                if places.len() < self.places(key.0) && !places.contains(&key) && !waits {
                    places.push(key);
                    running.push(async move { (key, self.perform(key.1, chore).await) });
                }
            }
            let due = waiting.values().map(|waiting| waiting.until).filter(|until| *until > now).min();
            let wake = due.unwrap_or(Moment(Duration::MAX)).min(now.after(Duration::from_millis(look_max)));
            let changed = async {
                applied.await;
                clock.sleep(Duration::from_millis(look_min)).await;
            };
            tokio::select! {
                biased;
                Some((key, ended)) = running.next(), if !running.is_empty() => {
                    under_way.entry(key.0).or_default().retain(|busy| *busy != key);
                    match ended {
                        Ok(()) => drop(waiting.remove(&key)),
                        Err(reason) => {
                            let failures = 1 + waiting.get(&key).map_or(0, |waiting| waiting.failures);
                            tracing::debug!(group = %self.group, ?key, failures, reason, "a shard waits");
                            let until = clock.now().after(self.pause(failures));
                            waiting.insert(key, Waiting { until, failures });
                        }
                    }
                }
                () = self.nudge.notified() => {}
                () = changed => {}
                () = clock.sleep_until(wake) => {}
            }
        }
    }

    /// How many of a kind may be under way.
    fn places(&self, kind: Kind) -> usize {
        match kind {
            Kind::Pull(_) => self.options.pulls_per_source_max,
            Kind::Tell(_) => self.options.tells_per_source_max,
            Kind::Delete => self.options.deletes_max,
        }
    }

    async fn chores(&self) -> BTreeMap<Key, Chore> {
        match self.look(ShardQuery::Chores).await {
            Ok(ShardAnswer::Chores(chores)) => {
                chores.into_iter().map(|(shard, chore)| (key_of(shard, &chore), chore)).collect()
            }
            _ => BTreeMap::new(), // the node is overloaded or stops
        }
    }

    async fn perform(&self, shard: ShardId, chore: Chore) -> Result<(), String> {
        match chore {
            Chore::Pull { by, source, after } => self.pull(shard, by, source, after).await,
            Chore::Tell { by, source } => {
                let client = self.source(source.group).await?;
                client.arrived(shard, source, by).await.into_result()?;
                let told = pb::Told { shard: shard.0, born: by.epoch.0 };
                self.propose(command::Operation::Told(told)).await.map(drop)
            }
            Chore::Delete { born } => {
                let delete = pb::Delete { shard: shard.0, born: born.0 };
                self.propose(command::Operation::Delete(delete)).await.map(drop)
            }
        }
    }

    /// Fetches a shard, part by part: while one part goes through the log, the next one is fetched.
    async fn pull(&self, shard: ShardId, by: Reign, source: Reign, after: Vec<u8>) -> Result<(), String> {
        let client = self.source(source.group).await?;
        let mut next = self.fetch(&client, shard, by, source, after).await?;
        while let Some(chunk) = next {
            let last = chunk.pairs.last().map(|pair| pair.key.to_vec());
            let is_whole = chunk.whole.is_some();
            let insert = pb::Insert { shard: shard.0, born: by.epoch.0, chunk: Some(chunk) };
            let inserted = self.propose(command::Operation::Insert(insert));
            let (inserted, fetched) = match last.filter(|_| !is_whole) {
                Some(after) => {
                    let fetched = self.fetch(&client, shard, by, source, after);
                    futures_util::future::join(inserted, fetched).await
                }
                None => (inserted.await, Ok(None)),
            };
            match inserted {
                Ok(ShardReply::Inserted(true)) => next = fetched?,
                Ok(_) => return Ok(()), // somebody else was faster; what is to be done now is looked up again
                Err(reason) => {
                    tracing::warn!(group = %self.group, %shard, reason, "a part of a shard was not taken over");
                    return Err(reason);
                }
            }
        }
        Ok(())
    }

    /// The part after `after`; `None` if the source says that this group has it all.
    async fn fetch(
        &self,
        client: &Client,
        shard: ShardId,
        by: Reign,
        source: Reign,
        after: Vec<u8>,
    ) -> Result<Option<pb::Chunk>, String> {
        let clock = &self.surroundings.clock;
        let free = self.rate.lock().expect("nothing panics while it counts").free();
        if free > clock.now() {
            clock.sleep_until(free).await;
        }
        match client.pull(shard, source, by, &after).await.into_result()? {
            pulled::What::Chunk(chunk) => {
                let bytes = chunk.pairs.iter().map(|pair| pair.key.len() + pair.value.len()).sum();
                let mut rate = self.rate.lock().expect("nothing panics while it counts");
                rate.arrived(bytes, clock.now());
                Ok(Some(chunk))
            }
            pulled::What::NotYet(why) => Err(why),
            pulled::What::Gone(_) => Ok(None),
        }
    }

    /// The client of a group that shards come from.
    async fn source(&self, group: GroupId) -> Result<Arc<Client>, String> {
        match self.look(ShardQuery::Addresses(group)).await? {
            ShardAnswer::Addresses(Some(addresses)) => self.sources.client(group, addresses).await,
            other => Err(format!("group {group} has no addresses here: {other:?}")),
        }
    }
}

/// Clients of the groups that shards come from.
pub(super) struct Sources {
    options: ClientOptions,
    surroundings: Surroundings,
    known: Mutex<BTreeMap<GroupId, (Addresses, Arc<Client>)>>,
}

impl Sources {
    pub(super) fn new(options: ClientOptions, surroundings: Surroundings) -> Self {
        Self { options, surroundings, known: Mutex::default() }
    }

    async fn client(&self, group: GroupId, addresses: Addresses) -> Result<Arc<Client>, String> {
        if let Some((known, client)) = self.known.lock().expect("nothing panics here").get(&group)
            && *known == addresses
        {
            return Ok(client.clone());
        }
        let nodes = members(&addresses, &self.surroundings.link).await?;
        let options = ClientOptions { nodes, number: group.0, ..self.options.clone() };
        let client = Arc::new(Client::new(options, self.surroundings.clone(), None));
        self.known.lock().expect("nothing panics here").insert(group, (addresses, client.clone()));
        Ok(client)
    }
}
