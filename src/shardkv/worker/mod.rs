//! What a group's leader does beside serving: it follows the configs, moves shards, and tells the controllers.
//!
//! - Everything that it does goes through the group's log or is idempotent elsewhere, so it does not matter if two
//!   leaders do it, or one is cut off in the middle. It runs while the replica leads and is dropped when it does not.
//! - Each shard goes its own way (`moves.rs`): a source that does not answer costs its own shards a pause, and takes
//!   none of the places that others need.
//! - Every call has a deadline, every failure a pause with jitter that grows. Nothing is proposed unless something is
//!   to be done, so an idle cluster's logs do not grow.

mod configs;
mod moves;
mod rate;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::Notify;

use super::service::entry;
use super::{ShardAnswer, ShardMachine, ShardQuery, ShardReply};
use crate::client::{Client, ClientOptions};
use crate::proto::shardkv::command;
use crate::random::Site;
use crate::replica::{Decision, Handle, Identity, Surroundings};
use crate::types::{GroupId, NodeId};
use moves::Sources;
use rate::Rate;

/// How fast shards move, and how much of it at the same time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrationOptions {
    /// The group waits for the next config at any controller, and asks for it linearizably this often.
    pub config_poll_ms: u64,
    /// A call to another group has its answer by then, or has failed.
    pub call_timeout_ms: u64,
    /// The pause after a step failed grows from the first to the second, with jitter.
    pub backoff_ms: (u64, u64),
    /// What is to be done is looked up at the latest after the second, and if entries were applied after the first.
    pub look_ms: (u64, u64),
    /// Shards that are fetched from one group, or that it is told of, at the same time; and copies that are deleted
    /// here at the same time. A shard that is fetched needs memory for two chunks.
    pub errands_per_source_max: usize,
    /// Bytes of keys and values that the group takes over per second, of all shards together.
    pub pull_bytes_per_second_max: u64,
}

impl Default for MigrationOptions {
    fn default() -> Self {
        Self {
            config_poll_ms: 2_000,
            call_timeout_ms: 2_000,
            backoff_ms: (50, 2_000),
            look_ms: (50, 1_000),
            errands_per_source_max: 4,
            pull_bytes_per_second_max: 64 << 20,
        }
    }
}

impl MigrationOptions {
    /// What is wrong with these options, if anything.
    pub fn check(&self) -> Result<(), String> {
        let bounds = [
            ("call_timeout_ms", self.call_timeout_ms),
            ("backoff_ms", self.backoff_ms.0),
            ("look_ms", self.look_ms.0),
            ("errands_per_source_max", self.errands_per_source_max as u64),
            ("pull_bytes_per_second_max", self.pull_bytes_per_second_max),
        ];
        if let Some((name, _)) = bounds.iter().find(|(_, bound)| *bound == 0) {
            return Err(format!("{name}: must be at least 1"));
        }
        for (name, (low, high)) in [("backoff_ms", self.backoff_ms), ("look_ms", self.look_ms)] {
            if low > high {
                return Err(format!("{name}: {low} is above {high}"));
            }
        }
        Ok(())
    }
}

/// A call to the controllers has its answer by then.
const CTRLERS_DEADLINE_MS: u64 = 5_000;

/// Pauses between attempts at one call.
const CALL_BACKOFF_MS: (u64, u64) = (20, 500);

/// See the module.
pub(super) struct Worker {
    group: GroupId,
    options: MigrationOptions,
    surroundings: Surroundings,
    handle: Handle<ShardMachine>,
    ctrlers: Client,
    sources: Sources,
    rate: Mutex<Rate>,
    jitter: Mutex<Site>,
    /// There may be something new to do.
    nudge: Notify,
}

impl Worker {
    pub(super) fn new(
        group: GroupId,
        identity: &Identity,
        ctrlers: BTreeMap<NodeId, SocketAddr>,
        options: MigrationOptions,
        surroundings: Surroundings,
        handle: Handle<ShardMachine>,
    ) -> Self {
        let client = ClientOptions {
            cluster_id: identity.cluster_id.clone(),
            node: Some(identity.id),
            deadline_ms: CTRLERS_DEADLINE_MS,
            ..ClientOptions::new(ctrlers)
        };
        let of_sources = ClientOptions {
            deadline_ms: options.call_timeout_ms,
            attempt_ms: options.call_timeout_ms.div_ceil(2),
            backoff_ms: CALL_BACKOFF_MS,
            nodes: BTreeMap::new(),
            ..client.clone()
        };
        Self {
            group,
            ctrlers: Client::new(client, surroundings.clone(), None),
            sources: Sources::new(of_sources, surroundings.clone()),
            rate: Mutex::new(Rate::new(options.pull_bytes_per_second_max)),
            jitter: Mutex::new(surroundings.draws.site("migration-backoff", group.0)),
            nudge: Notify::new(),
            options,
            surroundings,
            handle,
        }
    }

    /// Works whenever the replica leads; never ends by itself.
    pub(super) async fn run(self) {
        let leadership = self.handle.leadership();
        loop {
            let term = leadership.begin().await;
            let work = futures_util::future::join(self.follow_configs(), self.move_shards());
            tokio::select! {
                biased;
                () = leadership.end(term) => {}
                _ = work => {}
            }
        }
    }

    /// Proposes an entry; what the machine says to it.
    async fn propose(&self, operation: command::Operation) -> Result<ShardReply, String> {
        let deadline = self.surroundings.clock.now().after(self.call_timeout());
        match self.handle.propose(entry(operation), deadline).await {
            Decision::Done(ShardReply::Refused(reason), _) => Err(reason),
            Decision::Done(reply, _) => Ok(reply),
            Decision::Refused(denial) => Err(format!("{denial:?}")),
            Decision::Unknown(_) => Err("this node stopped leading".to_owned()),
        }
    }

    /// Looks at what is applied here.
    async fn look(&self, query: ShardQuery) -> Result<ShardAnswer, String> {
        let deadline = self.surroundings.clock.now().after(self.call_timeout());
        match self.handle.query(query, true, deadline).await {
            Decision::Done(answer, _) => Ok(answer),
            Decision::Refused(denial) => Err(format!("{denial:?}")),
            Decision::Unknown(_) => Err("the replica has stopped".to_owned()),
        }
    }

    fn call_timeout(&self) -> Duration {
        Duration::from_millis(self.options.call_timeout_ms)
    }

    /// How long to wait after so many failures in a row.
    fn pause(&self, failures: u32) -> Duration {
        let (low, high) = self.options.backoff_ms;
        let pause_ms = high.min(low.saturating_mul(1 << failures.saturating_sub(1).min(16)));
        let mut jitter = self.jitter.lock().expect("nothing panics while it draws");
        Duration::from_millis(jitter.next().between(pause_ms.div_ceil(2), pause_ms))
    }
}
