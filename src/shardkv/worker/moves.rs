//! Moving shards: everything that is to be done for each, at the same time and within bounds.
//!
//! What is to be done is read from the group's state ([`Chore`]); what is under way is only remembered here, and
//! forgotten with the leadership. A chore that fails waits for a while and is looked at again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use super::Worker;
use crate::addresses::Addresses;
use crate::buggify::Point;
use crate::client::{Client, ClientOptions, members};
use crate::proto::shardkv::{self as pb, pulled};
use crate::replica::Surroundings;
use crate::replica::timers::Moment;
use crate::shardkv::{Answered, Chore, Chores, Errand, Reign, ShardAnswer, ShardQuery, ShardReply, due};
use crate::types::{GroupId, ShardId};

/// An errand that failed.
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
        let mut under_way: BTreeSet<Errand> = BTreeSet::new();
        let mut waiting: BTreeMap<Errand, Waiting> = BTreeMap::new();
        loop {
            let mut applied = std::pin::pin!(self.handle.applied());
            applied.as_mut().enable();
            let Chores { mut todo, addresses } = self.chores().await;
            let now = clock.now();
            let errands: BTreeSet<Errand> = todo.iter().map(|(shard, chore)| chore.errand(*shard)).collect();
            waiting.retain(|errand, _| errands.contains(errand));
            todo.retain(|(shard, chore)| {
                waiting.get(&chore.errand(*shard)).is_none_or(|waiting| waiting.until <= now)
            });
            let is_full = self.surroundings.buggify.forces(Point::FullPulls);
            let places = if is_full { 1 } else { self.options.errands_per_source_max };
            for (shard, chore) in due(&todo, &under_way, places) {
                let errand = chore.errand(shard);
                let source = errand.source.and_then(|source| Some((source, addresses.get(&source)?.clone())));
                under_way.insert(errand);
                running.push(async move { (errand, self.perform(shard, chore, source).await) });
            }
            let next = waiting.values().map(|waiting| waiting.until).filter(|until| *until > now).min();
            let wake = next.unwrap_or(Moment(Duration::MAX)).min(now.after(Duration::from_millis(look_max)));
            let changed = async {
                applied.await;
                clock.sleep(Duration::from_millis(look_min)).await;
            };
            tokio::select! {
                biased;
                Some((errand, ended)) = running.next(), if !running.is_empty() => {
                    under_way.remove(&errand);
                    match ended {
                        Ok(()) => drop(waiting.remove(&errand)),
                        Err(reason) => {
                            let failures = 1 + waiting.get(&errand).map_or(0, |waiting| waiting.failures);
                            tracing::debug!(group = %self.group, ?errand, failures, reason, "a shard waits");
                            let until = clock.now().after(self.pause(failures));
                            waiting.insert(errand, Waiting { until, failures });
                        }
                    }
                }
                () = self.nudge.notified() => {}
                () = changed => {}
                () = clock.sleep_until(wake) => {}
            }
        }
    }

    async fn chores(&self) -> Chores {
        match self.look(ShardQuery::Chores).await {
            Ok(ShardAnswer::Chores(chores)) => chores,
            _ => Chores::default(), // the node is overloaded or stops
        }
    }

    /// Does one chore; `source`: the group that it needs, and where that is.
    async fn perform(
        &self,
        shard: ShardId,
        chore: Chore,
        source: Option<(GroupId, Addresses)>,
    ) -> Result<(), String> {
        let client = match source {
            Some((group, addresses)) => Some(self.sources.client(group, addresses).await?),
            None => None,
        };
        let unknown = || "it is not known where the source is".to_owned();
        match &chore {
            Chore::Pull { by, source, after } => {
                self.pull(&*client.ok_or_else(unknown)?, shard, &chore, (*by, *source), after.clone()).await
            }
            Chore::Tell { by, source } => {
                let client = client.ok_or_else(unknown)?;
                client.arrived(shard, *source, *by).await.into_result()?;
                if self.surroundings.buggify.forces(Point::RepeatedArrival) {
                    client.arrived(shard, *source, *by).await.into_result()?;
                }
                self.put(&chore, shard, Some(Answered::Confirmed)).await.map(drop)
            }
            Chore::Delete { .. } => self.put(&chore, shard, None).await.map(drop),
        }
    }

    /// Puts into the log what `chore` leads to.
    async fn put(
        &self,
        chore: &Chore,
        shard: ShardId,
        answered: Option<Answered>,
    ) -> Result<ShardReply, String> {
        match chore.command(shard, answered) {
            Some(command) => self.propose(command).await,
            None => Err("an answer to another question".to_owned()),
        }
    }

    /// Fetches a shard, part by part: while one part goes through the log, the next one is fetched.
    async fn pull(
        &self,
        client: &Client,
        shard: ShardId,
        chore: &Chore,
        (by, source): (Reign, Reign),
        after: Vec<u8>,
    ) -> Result<(), String> {
        let pairs_max = u64::from(self.surroundings.buggify.forces(Point::ShortPull));
        let mut chunk = self.fetch(client, shard, (by, source), after, pairs_max).await?;
        loop {
            let last = chunk.pairs.last().map(|pair| pair.key.to_vec());
            let is_whole = chunk.whole.is_some();
            let inserted = self.put(chore, shard, Some(Answered::Chunk(chunk)));
            let (inserted, fetched) = match last.filter(|_| !is_whole) {
                Some(after) => {
                    let fetched = self.fetch(client, shard, (by, source), after, pairs_max);
                    futures_util::future::join(inserted, fetched).await
                }
                None => return self.taken(shard, inserted.await).map(drop),
            };
            // If somebody else was faster, what is to be done now is looked up again.
            if !self.taken(shard, inserted)? {
                return Ok(());
            }
            chunk = fetched?;
        }
    }

    /// Whether a part was taken over.
    fn taken(&self, shard: ShardId, inserted: Result<ShardReply, String>) -> Result<bool, String> {
        match inserted {
            Ok(reply) => Ok(reply == ShardReply::Inserted(true)),
            Err(reason) => {
                tracing::warn!(group = %self.group, %shard, reason, "a part of a shard was not taken over");
                Err(reason)
            }
        }
    }

    /// The part after `after`; of at most `pairs_max` pairs, if that is not 0.
    async fn fetch(
        &self,
        client: &Client,
        shard: ShardId,
        (by, source): (Reign, Reign),
        after: Vec<u8>,
        pairs_max: u64,
    ) -> Result<pb::Chunk, String> {
        let clock = &self.surroundings.clock;
        let free = self.rate.lock().expect("nothing panics while it counts").free();
        if free > clock.now() {
            clock.sleep_until(free).await;
        }
        match client.pull(shard, source, by, &after, pairs_max).await.into_result()? {
            pulled::What::Chunk(_) if self.surroundings.buggify.forces(Point::LostPart) => {
                Err("the part was lost".to_owned())
            }
            pulled::What::Chunk(chunk) => {
                let bytes = chunk.pairs.iter().map(|pair| pair.key.len() + pair.value.len()).sum();
                let mut rate = self.rate.lock().expect("nothing panics while it counts");
                rate.arrived(bytes, clock.now());
                Ok(chunk)
            }
            pulled::What::NotYet(why) => Err(why),
            pulled::What::Gone(_) => Err("the source has given it away before".to_owned()),
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
