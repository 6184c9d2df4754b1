//! The client: finds the leader, retries, and says honestly how an operation ended. Of a sharded store, it finds the
//! group first (`shards.rs`).
//!
//! - `Ok`: it took effect between invocation and return. `Refused`: it was certainly not executed. `Unknown`: it
//!   may have been, or may still be.
//! - A mutation keeps its session number over all its retries, so it takes effect at most once.
//! - The leader is remembered; without one the nodes are asked in turn, with jittered backoff.
//! - The same client serves the simulator, the command line and the benchmark, and records its own history.

mod connection;
mod ctrler;
mod group;
mod members;
mod scan;
mod session;
mod shards;
mod transfer;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use crate::history::{Operation, OperationResult, Outcome as Recorded, Recorder};
use crate::mutants::Mutants;
use crate::proto::kv::{self as pb, done, mutation, mutation_result, request};
use crate::replica::Surroundings;
use crate::replica::timers::Moment;
use crate::types::{NodeId, ShardId};
pub use ctrler::{ConfigCache, Found, Which};
pub use members::members;
pub use scan::Page;

use group::{Ask, Context, Group, Way};
use session::Session;
use shards::Shards;

/// Closing a session takes this long at most, in milliseconds.
pub const CLOSE_MS: u64 = 1_000;

/// The timings of a client.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// The members of the group; of a sharded store, its controllers.
    pub nodes: BTreeMap<NodeId, SocketAddr>,
    /// The cluster that the nodes must be of; empty: any.
    pub cluster_id: String,
    /// The simulator's number of this client; 0 otherwise.
    pub number: u64,
    /// The node that this client is a part of, if it is.
    pub node: Option<NodeId>,
    /// An operation that has no answer by then ends as unknown or refused.
    pub deadline_ms: u64,
    /// One attempt at one node may take this long.
    pub attempt_ms: u64,
    /// Pauses between attempts grow from the first to the second, with jitter.
    pub backoff_ms: (u64, u64),
    /// The servers' window of a session; at most this many numbers are in use.
    pub session_window: u64,
    /// Planted bugs; of size zero without the feature `mutants`.
    pub mutants: Mutants,
}

impl ClientOptions {
    /// The defaults for a group.
    pub fn new(nodes: BTreeMap<NodeId, SocketAddr>) -> Self {
        Self {
            nodes,
            cluster_id: String::new(),
            number: 0,
            node: None,
            deadline_ms: 10_000,
            attempt_ms: 1_000,
            backoff_ms: (5, 250),
            session_window: 64,
            mutants: Mutants::default(),
        }
    }
}

/// How an operation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<T> {
    /// It took effect.
    Ok(T),
    /// It was certainly not executed, and why.
    Refused(Refused),
    /// It may have been executed, or may still be; what is known.
    Unknown(String),
}

impl<T> Outcome<T> {
    /// What it came to, or why not, for those who try again in either case.
    pub(crate) fn into_result(self) -> Result<T, String> {
        match self {
            Outcome::Ok(value) => Ok(value),
            Outcome::Refused(refused) => Err(refused.detail),
            Outcome::Unknown(detail) => Err(detail),
        }
    }
}

/// Why an operation was certainly not executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// True if nobody could be asked in time; false if the request itself was turned down.
    pub unavailable: bool,
    /// In words.
    pub detail: String,
}

/// Talks to one group, or to a sharded store. Cheap to share; operations run concurrently.
pub struct Client {
    context: Arc<Context>,
    recorder: Option<Arc<Recorder>>,
    target: Target,
}

/// Where operations go.
enum Target {
    /// To the one group that there is.
    Group(Group, Session),
    /// To the group that has the key's shard.
    Shards(Box<Shards>),
}

impl Client {
    /// A client of the group whose members are `options.nodes`; it connects when it is used.
    pub fn new(options: ClientOptions, surroundings: Surroundings, recorder: Option<Arc<Recorder>>) -> Self {
        let context = Context::new(options, surroundings);
        let group = Group::new(context.clone(), &context.options.nodes);
        let session = Session::new(context.clone(), None);
        Self { context, recorder, target: Target::Group(group, session) }
    }

    /// A client of the sharded store whose controllers are `options.nodes`. It asks them for the config when it is
    /// first used, and finds everything else by it. Operators' commands and questions go to the controllers.
    pub fn sharded(
        options: ClientOptions,
        surroundings: Surroundings,
        recorder: Option<Arc<Recorder>>,
    ) -> Self {
        let ctrlers = Client::new(options.clone(), surroundings.clone(), None);
        let context = Context::new(options, surroundings);
        let shards = Shards::new(context.clone(), ConfigCache::new(ctrlers));
        Self { context, recorder, target: Target::Shards(Box::new(shards)) }
    }

    /// The value of `key`, linearizably.
    pub async fn get(&self, key: Bytes) -> Outcome<Option<Bytes>> {
        match self.execute(Operation::Get { key }).await {
            Outcome::Ok(OperationResult::Value(value)) => Outcome::Ok(value),
            other => self.mismatch(other),
        }
    }

    /// Sets `key`.
    pub async fn put(&self, key: Bytes, value: Bytes) -> Outcome<()> {
        match self.execute(Operation::Put { key, value }).await {
            Outcome::Ok(OperationResult::Done) => Outcome::Ok(()),
            other => self.mismatch(other),
        }
    }

    /// Adds to the end of `key`'s value; creates it if it is missing.
    pub async fn append(&self, key: Bytes, value: Bytes) -> Outcome<()> {
        match self.execute(Operation::Append { key, value }).await {
            Outcome::Ok(OperationResult::Done) => Outcome::Ok(()),
            other => self.mismatch(other),
        }
    }

    /// Removes `key`; whether it was there.
    pub async fn delete(&self, key: Bytes) -> Outcome<bool> {
        match self.execute(Operation::Delete { key }).await {
            Outcome::Ok(OperationResult::Deleted(deleted)) => Outcome::Ok(deleted),
            other => self.mismatch(other),
        }
    }

    /// Sets `key` if it holds exactly `expected` (`None`: if it is missing); whether it did.
    pub async fn cas(&self, key: Bytes, expected: Option<Bytes>, value: Bytes) -> Outcome<bool> {
        match self.execute(Operation::Cas { key, expected, value }).await {
            Outcome::Ok(OperationResult::Swapped(swapped)) => Outcome::Ok(swapped),
            other => self.mismatch(other),
        }
    }

    /// Gives the session back, if there is one and nothing uses it; else the servers keep it until it was idle for
    /// long. Waits for [`CLOSE_MS`] at most, and does not say how it went: the session is only room in a table. The
    /// next mutation opens another. Of a sharded store, all shards' sessions.
    pub async fn close(&self) {
        match &self.target {
            Target::Group(group, session) => session.close(group).await,
            Target::Shards(shards) => shards.close().await,
        }
    }

    fn mismatch<T>(&self, outcome: Outcome<OperationResult>) -> Outcome<T> {
        match outcome {
            Outcome::Ok(result) => Outcome::Unknown(format!("an answer to another question: {result:?}")),
            Outcome::Refused(refused) => Outcome::Refused(refused),
            Outcome::Unknown(detail) => Outcome::Unknown(detail),
        }
    }

    /// Runs one operation to its end and records it.
    pub async fn execute(&self, operation: Operation) -> Outcome<OperationResult> {
        let clock = self.context.clock();
        let recorded = self.recorder.as_ref().map(|recorder| recorder.invoke(&operation, clock.wall_ns()));
        let outcome = self.run(&operation).await;
        if let (Some(recorder), Some(handle)) = (&self.recorder, recorded) {
            let end = match &outcome {
                Outcome::Ok((result, index)) => Recorded::Ok { result: result.clone(), index: Some(*index) },
                Outcome::Refused(refused) => Recorded::Fail { error: refused.detail.clone() },
                Outcome::Unknown(detail) => Recorded::Info { error: detail.clone() },
            };
            recorder.complete(handle, &end, clock.wall_ns());
        }
        match outcome {
            Outcome::Ok((result, _)) => Outcome::Ok(result),
            Outcome::Refused(refused) => Outcome::Refused(refused),
            Outcome::Unknown(detail) => Outcome::Unknown(detail),
        }
    }

    async fn run(&self, operation: &Operation) -> Outcome<(OperationResult, u64)> {
        let deadline = self.context.deadline();
        let done = match &self.target {
            Target::Group(group, session) => once(group, session, None, operation, deadline).await,
            Target::Shards(shards) => match shards.config(deadline).await {
                Ok(config) => {
                    let shard = config.shard_of(operation.key());
                    once(&**shards, &shards.session(shard), Some(shard), operation, deadline).await
                }
                Err(refused) => Outcome::Refused(refused),
            },
        };
        match done {
            Outcome::Ok(done) => result_of(operation, done),
            Outcome::Refused(refused) => Outcome::Refused(refused),
            Outcome::Unknown(detail) => Outcome::Unknown(detail),
        }
    }
}

/// Runs one operation to its end.
async fn once(
    way: &impl Way,
    session: &Session,
    shard: Option<ShardId>,
    operation: &Operation,
    deadline: Moment,
) -> Outcome<pb::Done> {
    match mutation_of(operation) {
        None => {
            let get = pb::Get { key: operation.key().clone(), stale: false };
            let ask = Ask { operation: request::Operation::Get(get), shard, session: None };
            way.attempts(&ask, deadline).await
        }
        Some(mutation) => session.execute(way, mutation, deadline).await,
    }
}

fn mutation_of(operation: &Operation) -> Option<mutation::Operation> {
    use mutation::Operation as To;
    Some(match operation.clone() {
        Operation::Get { .. } => return None,
        Operation::Put { key, value } => To::Put(pb::Put { key, value }),
        Operation::Append { key, value } => To::Append(pb::Append { key, value }),
        Operation::Delete { key } => To::Delete(pb::Delete { key }),
        Operation::Cas { key, expected, value } => To::Cas(pb::Cas { key, expected, new: value }),
    })
}

/// The answer in the operation's own terms.
fn result_of(operation: &Operation, done: pb::Done) -> Outcome<(OperationResult, u64)> {
    use mutation_result::Result as Did;
    let result = match (operation, done.result) {
        (Operation::Get { .. }, Some(done::Result::Get(get))) => OperationResult::Value(get.value),
        (operation, Some(done::Result::Mutation(mutation))) => match (operation, mutation.result) {
            (_, Some(Did::Refused(detail))) => {
                return Outcome::Refused(Refused { unavailable: false, detail });
            }
            (Operation::Put { .. } | Operation::Append { .. }, Some(Did::Done(_))) => OperationResult::Done,
            (Operation::Delete { .. }, Some(Did::Done(_))) => OperationResult::Deleted(true),
            (Operation::Delete { .. }, Some(Did::DeleteMissing(_))) => OperationResult::Deleted(false),
            (Operation::Cas { .. }, Some(Did::Done(_))) => OperationResult::Swapped(true),
            (Operation::Cas { .. }, Some(Did::CasMismatch(_))) => OperationResult::Swapped(false),
            (_, other) => return Outcome::Unknown(format!("an answer to another question: {other:?}")),
        },
        (_, other) => return Outcome::Unknown(format!("an answer to another question: {other:?}")),
    };
    Outcome::Ok((result, done.index))
}
