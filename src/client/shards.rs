//! The way through a sharded store: from a key to its shard, to the group that serves it, to that group's leader.
//!
//! - The config is fetched once and again only when a group says that the shard is not there, or does not answer.
//!   While the controllers cannot be reached, the config that is known serves.
//! - A shard has a session of its own, which travels with it: an operation keeps its number over all its attempts, at
//!   the old owner and at the new one, so it takes effect at most once.
//! - A shard that is on its way is waited for, until the deadline. Other shards are not affected.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::StreamExt as _;

use super::ctrler::ConfigCache;
use super::group::{Ask, Attempts, Context, Group, Step, Way};
use super::members::members;
use super::session::Session;
use super::{Outcome, Refused};
use crate::addresses::Addresses;
use crate::buggify::Point;
use crate::ctrler::Config;
use crate::proto::kv as pb;
use crate::replica::timers::Moment;
use crate::types::{GroupId, NodeId, ShardId};

/// Sessions that are closed at the same time.
const CLOSING_MAX: usize = 64;

pub(super) struct Shards {
    context: Arc<Context>,
    configs: ConfigCache,
    known: Mutex<Known>,
}

/// What a client has found so far.
#[derive(Default)]
struct Known {
    groups: BTreeMap<GroupId, (Addresses, Arc<Group>)>,
    sessions: BTreeMap<ShardId, Arc<Session>>,
}

impl Shards {
    pub(super) fn new(context: Arc<Context>, configs: ConfigCache) -> Self {
        Self { context, configs, known: Mutex::default() }
    }

    pub(super) fn configs(&self) -> &ConfigCache {
        &self.configs
    }

    /// The session of `shard`.
    pub(super) fn session(&self, shard: ShardId) -> Arc<Session> {
        let mut known = self.lock();
        let new = || Arc::new(Session::new(self.context.clone(), Some(shard)));
        known.sessions.entry(shard).or_insert_with(new).clone()
    }

    /// Gives all sessions back.
    pub(super) async fn close(&self) {
        let sessions: Vec<Arc<Session>> = self.lock().sessions.values().cloned().collect();
        let closing = sessions.iter().map(|session| session.close(self));
        futures_util::stream::iter(closing).buffer_unordered(CLOSING_MAX).collect::<()>().await;
    }

    /// A config in which shards have owners: from the first one on, the number of shards is fixed.
    pub(super) async fn config(&self, deadline: Moment) -> Result<Arc<Config>, Refused> {
        let unavailable = |detail| Refused { unavailable: true, detail };
        let nobody = || unavailable("no group has joined".to_owned());
        let clock = self.context.clock();
        let mut config = match clock.timeout(deadline.since(clock.now()), self.configs.get()).await {
            Some(Outcome::Ok(config)) => config,
            Some(Outcome::Refused(refused)) => return Err(refused),
            Some(Outcome::Unknown(detail)) => return Err(unavailable(detail)),
            None => return Err(unavailable("the controllers did not answer before the deadline".to_owned())),
        };
        let mut pause_ms = self.context.options.backoff_ms.0;
        while config.groups.is_empty() {
            let left = deadline.since(clock.now());
            if left.is_zero() {
                return Err(nobody());
            }
            clock.sleep(Duration::from_millis(pause_ms).min(left)).await;
            pause_ms = self.context.options.backoff_ms.1.min(pause_ms * 2);
            config = self.newer_than(&config, deadline).await;
        }
        Ok(config)
    }

    /// A config that is fetched now, or `stale` again if the controllers do not answer.
    async fn newer_than(&self, stale: &Arc<Config>, deadline: Moment) -> Arc<Config> {
        if self.context.surroundings.buggify.forces(Point::StaleRoute) {
            return stale.clone();
        }
        let clock = self.context.clock();
        let within = Duration::from_millis(self.context.options.attempt_ms);
        let within = within.min(deadline.since(clock.now()));
        match clock.timeout(within, self.configs.newer_than(stale)).await {
            Some(Outcome::Ok(config)) => config,
            _ => stale.clone(),
        }
    }

    /// The group that owns `shard`.
    async fn owner(&self, config: &Config, shard: ShardId) -> Result<Arc<Group>, String> {
        let owner = config.placement(shard).and_then(|placement| placement.owner);
        let owner = owner.ok_or_else(|| format!("shard {shard} is at no group"))?;
        let addresses = config.addresses(owner).ok_or_else(|| format!("group {owner} has no addresses"))?;
        let is_forgotten = self.context.surroundings.buggify.forces(Point::ForgottenGroup);
        if let Some((known, group)) = self.lock().groups.get(&owner)
            && known == addresses
            && !is_forgotten
        {
            return Ok(group.clone());
        }
        let members = members(addresses, &self.context.surroundings.link).await?;
        let group = Arc::new(Group::new(self.context.clone(), &members));
        let mut known = self.lock();
        known.groups.retain(|group, _| config.groups.contains_key(group));
        known.groups.insert(owner, (addresses.clone(), group.clone()));
        Ok(group)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("nothing panics while it holds what is known")
    }
}

impl Way for Shards {
    async fn attempts(&self, ask: &Ask<'_>, deadline: Moment) -> Outcome<pb::Done> {
        let Some(shard) = ask.shard else {
            let detail = "an operation of no shard".to_owned();
            return Outcome::Refused(Refused { unavailable: false, detail });
        };
        let mut config = match self.config(deadline).await {
            Ok(config) => config,
            Err(refused) => return Outcome::Refused(refused),
        };
        let mut attempts = Attempts::new(&self.context, ask, deadline);
        let mut next: Option<NodeId> = None;
        let mut unanswered = 0;
        while attempts.has_time() {
            let group = match self.owner(&config, shard).await {
                Ok(group) => group,
                Err(detail) => {
                    attempts.note(detail);
                    attempts.pause().await;
                    config = self.newer_than(&config, deadline).await;
                    continue;
                }
            };
            let node = next.take().unwrap_or_else(|| group.first());
            match attempts.at(&group, node).await {
                Step::Ended(outcome) => return outcome,
                Step::Again(hint) => {
                    next = Some(attempts.follow(&group, node, hint).await);
                    unanswered += 1;
                    if unanswered >= group.size() {
                        // Nobody there: the group may have left, or moved.
                        unanswered = 0;
                        let newer = self.newer_than(&config, deadline).await;
                        if newer.num != config.num {
                            next = None;
                        }
                        config = newer;
                    }
                }
                Step::Elsewhere(theirs) => {
                    let owner = config.placement(shard).and_then(|placement| placement.owner);
                    if theirs >= config.num {
                        config = self.newer_than(&config, deadline).await;
                    }
                    // The same group again: it is behind the config, or the config behind the group.
                    if config.placement(shard).and_then(|placement| placement.owner) == owner {
                        attempts.pause().await;
                    }
                }
                Step::NotArrived => attempts.pause().await,
            }
        }
        attempts.given_up()
    }
}
