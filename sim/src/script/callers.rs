//! The clients of a script: ordinary clients, each on a machine of its own, that may be cut off from some nodes. What
//! they do is part of the history that is judged at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use eraft::client::{Client, Outcome};
use eraft::ctrler::shard_of;
use eraft::history::{Operation, OperationResult};
use eraft::replica::link::Party;
use eraft::types::{NodeId, ShardId};
use madsim::runtime::NodeHandle;
use madsim::task::JoinHandle;
use madsim::time::{sleep, timeout};

use super::{Held, Script, until};
use crate::net::Partition;
use crate::scenario::{Spread, Step};

/// Numbers of a script's clients begin after this; those of the workload stay below.
const NUMBER_BASE: u64 = 200;
/// A script's clients hardly ever give up: the script has bounds of its own.
const DEADLINE_MS: u64 = 60_000;

/// A client.
struct Caller {
    number: u64,
    node: NodeHandle,
    client: Arc<Client>,
}

/// What was begun in the background, and its outcome.
struct Background {
    what: String,
    /// What a read has to find.
    expected: Option<String>,
    outcome: Arc<Mutex<Option<Outcome<OperationResult>>>>,
}

impl Background {
    fn outcome(&self) -> Option<Outcome<OperationResult>> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The script's clients by name.
#[derive(Default)]
pub(super) struct Callers {
    callers: BTreeMap<String, Caller>,
    background: Vec<Background>,
}

impl Script {
    pub(super) async fn caller_step(&mut self, step: &Step) -> Held {
        match step {
            Step::Client { name, via } => {
                let via = self.resolve(via)?;
                self.reach(name, &via).await;
                Ok(())
            }
            Step::Put { client, key, value, count, spread, in_background, within_ms } => {
                for (key, value) in self.pairs(key, Some(value), *count, *spread)? {
                    let put = Operation::Put { key: key.into(), value: value.unwrap_or_default().into() };
                    self.call(client, put, None, *in_background, *within_ms).await?;
                }
                Ok(())
            }
            Step::Append { client, key, value, count, spread, in_background, within_ms } => {
                for (key, value) in self.pairs(key, Some(value), *count, *spread)? {
                    let append =
                        Operation::Append { key: key.into(), value: value.unwrap_or_default().into() };
                    self.call(client, append, None, *in_background, *within_ms).await?;
                }
                Ok(())
            }
            Step::Get { client, key, value, count, spread, in_background, within_ms } => {
                for (key, value) in self.pairs(key, value.as_deref(), *count, *spread)? {
                    let get = Operation::Get { key: key.into() };
                    self.call(client, get, value, *in_background, *within_ms).await?;
                }
                Ok(())
            }
            Step::Ended { exactly, for_ms } => {
                sleep(Duration::from_millis(*for_ms)).await;
                let ended = self.callers.background.iter().filter(|begun| begun.outcome().is_some());
                let (ended, all) = (ended.count() as u64, self.callers.background.len());
                match ended == *exactly {
                    true => Ok(()),
                    false => Err(format!("{ended} of {all} ended in {for_ms} ms, {exactly} have to")),
                }
            }
            Step::Pending { for_ms } => {
                sleep(Duration::from_millis(*for_ms)).await;
                match self.callers.background.iter().find(|begun| begun.outcome().is_some()) {
                    Some(begun) => Err(format!("`{}` ended: {:?}", begun.what, begun.outcome())),
                    None if self.callers.background.is_empty() => Err("nothing was begun".to_owned()),
                    None => Ok(()),
                }
            }
            Step::Finished { within_ms } => {
                let begun = std::mem::take(&mut self.callers.background);
                let all_ended = || begun.iter().all(|begun| begun.outcome().is_some());
                until(Duration::from_millis(*within_ms), all_ended).await;
                for Background { what, expected, outcome } in begun {
                    let outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner).take();
                    let outcome =
                        outcome.ok_or_else(|| format!("`{what}` did not end within {within_ms} ms"))?;
                    judge(&what, expected.as_deref(), outcome)?;
                }
                Ok(())
            }
            _ => Err("is about no client".to_owned()),
        }
    }

    /// The keys and values that a step is about; it is about none if the group that it names had none of their shards.
    fn pairs(
        &self,
        key: &str,
        value: Option<&str>,
        count: u64,
        spread: Spread,
    ) -> Result<Vec<(String, Option<String>)>, String> {
        let shards = self.world.plan.configuration.cluster.shards;
        let is_of = |number: &u64| spread.of.is_none_or(|group| self.was_at(ShardId(number % shards), group));
        let pair = |number: u64| {
            let suffix = if count == 1 { String::new() } else { number.to_string() };
            let key = match spread.by_shard {
                false => format!("{key}{suffix}"),
                true => key_of_shard(&format!("{key}{suffix}"), number % shards, shards),
            };
            let value = value.map(|value| match value.contains("{n}") {
                true => value.replace("{n}", &suffix),
                false => format!("{value}{suffix}"),
            });
            (key, value)
        };
        let pairs: Vec<_> = (0..count).filter(is_of).map(pair).collect();
        match spread.of {
            Some(group) if pairs.is_empty() => Err(format!("no key is in a shard that g{group} had")),
            _ => Ok(pairs),
        }
    }

    /// The client of that name reaches these nodes only.
    async fn reach(&mut self, name: &str, via: &[NodeId]) {
        let number = self.caller(name).await.number;
        let far = self.world.node_ids().into_iter().filter(|node| !via.contains(node));
        let right: BTreeSet<Party> = far.map(Party::Node).collect();
        let cut = format!("script client {name}");
        self.world.net.heal(&cut);
        if !right.is_empty() {
            let left = BTreeSet::from([Party::Client(number)]);
            self.world.net.partition(&cut, Partition::Symmetric { left, right });
        }
    }

    async fn caller(&mut self, name: &str) -> &Caller {
        if !self.callers.callers.contains_key(name) {
            let number = NUMBER_BASE + self.callers.callers.len() as u64;
            let (node, client) = self.world.script_client(number, DEADLINE_MS).await;
            self.callers.callers.insert(name.to_owned(), Caller { number, node, client });
        }
        &self.callers.callers[name]
    }

    async fn call(
        &mut self,
        name: &str,
        operation: Operation,
        expected: Option<String>,
        in_background: bool,
        within_ms: u64,
    ) -> Held {
        let what = format!("{} of {} by {name}", operation.name(), operation.key().escape_ascii());
        self.world.begun.fetch_add(1, Ordering::Relaxed);
        self.world.watcher.note("script", "client.invoke", &what);
        let outcome = Arc::new(Mutex::new(None));
        let (slot, caller) = (outcome.clone(), self.caller(name).await);
        let client = caller.client.clone();
        let call: JoinHandle<Outcome<OperationResult>> = caller.node.spawn(async move {
            let outcome = client.execute(operation).await;
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome.clone());
            outcome
        });
        if in_background {
            self.callers.background.push(Background { what, expected, outcome });
            return Ok(());
        }
        match timeout(Duration::from_millis(within_ms), call).await {
            Ok(Ok(outcome)) => judge(&what, expected.as_deref(), outcome),
            Ok(Err(error)) => Err(format!("`{what}`: {error}")),
            Err(_) => Err(format!("`{what}` did not end within {within_ms} ms")),
        }
    }

    pub(super) async fn clients_done(&self, within_ms: u64) -> Held {
        let all: usize = self.world.plan.operations.iter().map(Vec::len).sum();
        let done = || self.world.acknowledged.load(Ordering::Relaxed);
        match until(Duration::from_millis(within_ms), || done() >= all as u64).await {
            true => Ok(()),
            false => Err(format!("{} of {all} operations were acknowledged within {within_ms} ms", done())),
        }
    }
}

/// A key of this shard that begins so.
fn key_of_shard(key: &str, shard: u64, shards: u64) -> String {
    let shards = usize::try_from(shards).unwrap_or(usize::MAX);
    let named = (0..).map(|number: u64| format!("{key}.{number}"));
    let mut fitting = named.filter(|key| shard_of(key.as_bytes(), shards) == ShardId(shard));
    fitting.next().expect("every shard has keys")
}

fn judge(what: &str, expected: Option<&str>, outcome: Outcome<OperationResult>) -> Held {
    match (outcome, expected) {
        (Outcome::Ok(OperationResult::Value(value)), Some(expected)) => {
            if value.as_deref() == Some(expected.as_bytes()) {
                return Ok(());
            }
            let found = value.map(|value: Bytes| value.escape_ascii().to_string());
            Err(format!("`{what}` read {found:?}, not {expected:?}"))
        }
        (Outcome::Ok(_), _) => Ok(()),
        (Outcome::Refused(refused), _) => Err(format!("`{what}` was refused: {}", refused.detail)),
        (Outcome::Unknown(detail), _) => Err(format!("`{what}` has no outcome: {detail}")),
    }
}
