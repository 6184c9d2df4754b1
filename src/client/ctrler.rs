//! Talking to the controllers: making configs, asking for them, waiting for them.

use std::sync::{Arc, Mutex};

use super::group::{Ask, Group, Way};
use super::session::Session;
use super::{Client, Outcome, Refused, Target};
use crate::ctrler::Config;
use crate::proto::ctrler::change::Change;
use crate::proto::ctrler::query::Which as Asked;
use crate::proto::ctrler::{self as pb};
use crate::proto::kv::{Done, done, mutation, mutation_result, request};
use crate::types::{ConfigNum, GroupId};

/// Which config.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The latest.
    Latest,
    /// The one with this number.
    Num(ConfigNum),
    /// The one that follows this one.
    After(ConfigNum),
}

/// What the controllers have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The config that was asked for; `None`: there is none such yet, or it is not kept any more.
    pub config: Option<Config>,
    /// The number of the latest config.
    pub latest: ConfigNum,
    /// The number of the oldest config that is kept.
    pub oldest: ConfigNum,
}

impl Client {
    /// Makes the next config; its number. At most once, over all retries.
    pub async fn change(&self, change: Change) -> Outcome<ConfigNum> {
        let (group, session) = self.ctrlers();
        let change = mutation::Operation::Change(pb::Change { change: Some(change) });
        match session.execute(group, change, self.context.deadline()).await {
            Outcome::Ok(done) => changed(done),
            Outcome::Refused(refused) => Outcome::Refused(refused),
            Outcome::Unknown(detail) => Outcome::Unknown(detail),
        }
    }

    /// Asks for a config, linearizably: the latest one is the latest at some moment of this call.
    pub async fn query(&self, which: Which) -> Outcome<Found> {
        self.ask(which, false, 0).await
    }

    /// Asks for the config after `after` and waits for it, for about half of the time of an attempt; `None` if there
    /// is none yet. Any controller may answer, and one that is behind does not know better: who waits in a loop asks
    /// linearizably every now and then.
    pub async fn await_config(&self, after: ConfigNum) -> Outcome<Found> {
        self.ask(Which::After(after), true, self.context.options.attempt_ms / 2).await
    }

    /// Says that `group` has adopted all configs up to `reached`, and whether it still holds anything; see
    /// [`crate::ctrler`].
    pub async fn report(&self, group: GroupId, reached: ConfigNum, holds: bool) -> Outcome<()> {
        let report = pb::Report { group: group.0, reached: reached.0, holds };
        match self.tell_ctrlers(request::Operation::Report(report)).await {
            Outcome::Ok(Done { result: Some(done::Result::Reported(_)), .. }) => Outcome::Ok(()),
            Outcome::Ok(other) => Outcome::Unknown(format!("an answer to another question: {other:?}")),
            Outcome::Refused(refused) => Outcome::Refused(refused),
            Outcome::Unknown(detail) => Outcome::Unknown(detail),
        }
    }

    async fn ask(&self, which: Which, stale: bool, wait_ms: u64) -> Outcome<Found> {
        let which = match which {
            Which::Latest => Asked::Latest(true),
            Which::Num(num) => Asked::Num(num.0),
            Which::After(num) => Asked::After(num.0),
        };
        let query = pb::Query { which: Some(which), stale, wait_ms };
        match self.tell_ctrlers(request::Operation::Query(query)).await {
            Outcome::Ok(done) => found(done),
            Outcome::Refused(refused) => Outcome::Refused(refused),
            Outcome::Unknown(detail) => Outcome::Unknown(detail),
        }
    }

    async fn tell_ctrlers(&self, operation: request::Operation) -> Outcome<Done> {
        self.ctrlers().0.attempts(&Ask::new(operation), self.context.deadline()).await
    }

    /// The controllers; a client of one group takes it for them.
    fn ctrlers(&self) -> (&Group, &Session) {
        match &self.target {
            Target::Group(group, session) => (group, session),
            Target::Shards(shards) => shards.configs().ctrlers().ctrlers(),
        }
    }

    /// The config by which a client of a sharded store goes. A client of one group has none.
    pub async fn config(&self) -> Outcome<Arc<Config>> {
        match &self.target {
            Target::Shards(shards) => shards.configs().get().await,
            Target::Group(..) => {
                let detail = "a single group keeps all keys: there is no config".to_owned();
                Outcome::Refused(Refused { unavailable: false, detail })
            }
        }
    }
}

fn changed(done: Done) -> Outcome<ConfigNum> {
    use mutation_result::Result as Did;
    match done.result {
        Some(done::Result::Mutation(mutation)) => match mutation.result {
            Some(Did::Config(num)) => Outcome::Ok(ConfigNum(num)),
            Some(Did::Refused(detail)) => Outcome::Refused(Refused { unavailable: false, detail }),
            other => Outcome::Unknown(format!("an answer to another question: {other:?}")),
        },
        other => Outcome::Unknown(format!("an answer to another question: {other:?}")),
    }
}

fn found(done: Done) -> Outcome<Found> {
    let Some(done::Result::Query(answer)) = done.result else {
        return Outcome::Unknown(format!("an answer to another question: {:?}", done.result));
    };
    match answer.config.map(Config::try_from).transpose() {
        Ok(config) => {
            let (latest, oldest) = (ConfigNum(answer.latest), ConfigNum(answer.oldest));
            Outcome::Ok(Found { config, latest, oldest })
        }
        Err(reason) => Outcome::Unknown(format!("an answer that is no config: {reason}")),
    }
}

/// The latest config that a client knows, shared by all who route by it. It is fetched when it is first needed, and
/// anew only when someone says that it is out of date, once for all who say so at the same time.
pub struct ConfigCache {
    ctrlers: Client,
    known: Mutex<Option<Arc<Config>>>,
    /// One fetches, the others wait for it.
    fetching: tokio::sync::Mutex<()>,
}

impl ConfigCache {
    /// Asks `ctrlers`, a client of the controllers.
    pub fn new(ctrlers: Client) -> Self {
        Self { ctrlers, known: Mutex::new(None), fetching: tokio::sync::Mutex::new(()) }
    }

    /// The client of the controllers.
    pub fn ctrlers(&self) -> &Client {
        &self.ctrlers
    }

    /// The config that is known, or else the latest.
    pub async fn get(&self) -> Outcome<Arc<Config>> {
        match self.known() {
            Some(config) => Outcome::Ok(config),
            None => self.fetch(None).await,
        }
    }

    /// A config that was fetched after `stale` turned out to be out of date. It may have the same number, if the
    /// controllers have none newer.
    pub async fn newer_than(&self, stale: &Arc<Config>) -> Outcome<Arc<Config>> {
        self.fetch(Some(stale)).await
    }

    fn known(&self) -> Option<Arc<Config>> {
        self.known.lock().expect("nothing panics while it holds the config").clone()
    }

    async fn fetch(&self, stale: Option<&Arc<Config>>) -> Outcome<Arc<Config>> {
        let _one = self.fetching.lock().await;
        if let Some(known) = self.known()
            && stale.is_none_or(|stale| !Arc::ptr_eq(&known, stale))
        {
            return Outcome::Ok(known); // someone else fetched it meanwhile
        }
        let latest = match self.ctrlers.query(Which::Latest).await {
            Outcome::Ok(Found { config: Some(config), .. }) => Arc::new(config),
            Outcome::Ok(_) => return Outcome::Unknown("the controllers have no latest config".to_owned()),
            Outcome::Refused(refused) => return Outcome::Refused(refused),
            Outcome::Unknown(detail) => return Outcome::Unknown(detail),
        };
        *self.known.lock().expect("nothing panics while it holds the config") = Some(latest.clone());
        Outcome::Ok(latest)
    }
}
