//! The client: finds the leader, retries, and says honestly how an operation ended.
//!
//! - `Ok`: it took effect between invocation and return. `Refused`: it was certainly not executed. `Unknown`: it
//!   may have been, or may still be.
//! - A mutation keeps its session number over all its retries, so it takes effect at most once.
//! - The leader is remembered; without one the nodes are asked in turn, with jittered backoff.
//! - The same client serves the simulator, the command line and the benchmark, and records its own history.

mod connection;
mod ctrler;
mod session;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;

use crate::history::{Operation, OperationResult, Outcome as Recorded, Recorder};
use crate::mutants::Mutants;
use crate::proto::kv::{self as pb, RefusedReason, done, mutation, mutation_result, reply, request};
use crate::random::Site;
use crate::replica::Surroundings;
use crate::replica::timers::Moment;
use crate::types::NodeId;
pub use ctrler::{ConfigCache, Found, Which};

use connection::{Connection, Lost};
use session::Session;

/// Closing a session takes this long at most, in milliseconds.
pub const CLOSE_MS: u64 = 1_000;

/// The timings of a client.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// The members of the group.
    pub nodes: BTreeMap<NodeId, SocketAddr>,
    /// The cluster that the nodes must be of; empty: any.
    pub cluster_id: String,
    /// The simulator's number of this client; 0 otherwise.
    pub number: u64,
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

/// Why an operation was certainly not executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// True if nobody could be asked in time; false if the request itself was turned down.
    pub unavailable: bool,
    /// In words.
    pub detail: String,
}

/// Talks to one group. Cheap to share; operations run concurrently.
pub struct Client {
    options: ClientOptions,
    surroundings: Surroundings,
    recorder: Option<Arc<Recorder>>,
    connections: BTreeMap<NodeId, Connection>,
    session: Session,
    /// The node to ask first: the last one that led.
    leader: AtomicU64,
    jitter: Mutex<Site>,
}

/// What one attempt showed.
enum Attempt {
    Done(pb::Done),
    /// Not executed by this attempt, and another node or time will not help.
    Rejected(RefusedReason, String),
    /// Not executed by this attempt; try again.
    Again {
        hint: Option<NodeId>,
        detail: String,
    },
    /// It may have been taken.
    Ambiguous {
        hint: Option<NodeId>,
        detail: String,
    },
}

impl Client {
    /// A client of the group; it connects when it is used.
    pub fn new(options: ClientOptions, surroundings: Surroundings, recorder: Option<Arc<Recorder>>) -> Self {
        let jitter = surroundings.draws.site("client-backoff", options.number);
        let connections = options
            .nodes
            .iter()
            .map(|(node, address)| (*node, Connection::new(*node, *address, &options, surroundings.clone())))
            .collect();
        let session = Session::new(options.session_window, &surroundings.draws, options.number);
        let first = options.nodes.keys().next().map_or(0, |node| node.0);
        Self {
            options,
            surroundings,
            recorder,
            connections,
            session,
            leader: AtomicU64::new(first),
            jitter: Mutex::new(jitter),
        }
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
    /// next mutation opens another.
    pub async fn close(&self) {
        let Some(client) = self.session.leave() else { return };
        let wait_ms = self.options.deadline_ms.min(CLOSE_MS);
        let deadline = self.surroundings.clock.now().after(Duration::from_millis(wait_ms));
        let close = request::Operation::CloseSession(pb::CloseSession { client: Some(client) });
        self.attempts(close, false, deadline).await;
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
        let clock = &self.surroundings.clock;
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

    /// When an operation that begins now must have ended.
    fn deadline(&self) -> Moment {
        self.surroundings.clock.now().after(Duration::from_millis(self.options.deadline_ms))
    }

    async fn run(&self, operation: &Operation) -> Outcome<(OperationResult, u64)> {
        let deadline = self.deadline();
        let done = match mutation_of(operation) {
            None => {
                let get = pb::Get { key: operation.key().clone(), stale: false };
                self.attempts(request::Operation::Get(get), false, deadline).await
            }
            Some(mutation) => self.mutate(mutation, deadline).await,
        };
        match done {
            Outcome::Ok(done) => result_of(operation, done),
            Outcome::Refused(refused) => Outcome::Refused(refused),
            Outcome::Unknown(detail) => Outcome::Unknown(detail),
        }
    }

    async fn mutate(&self, mutation: mutation::Operation, deadline: Moment) -> Outcome<pb::Done> {
        let clock = &self.surroundings.clock;
        let open = |client| {
            let open = pb::OpenSession { client: Some(client) };
            self.attempts(request::Operation::OpenSession(open), false, deadline)
        };
        let number = match self.session.number(clock, deadline, open).await {
            Ok(number) => number,
            Err(refused) => return Outcome::Refused(refused),
        };
        let execute = pb::Execute {
            client: Some(number.client),
            sequence: number.sequence,
            acknowledged_below: number.acknowledged_below,
            mutation: Some(pb::Mutation { operation: Some(mutation) }),
        };
        self.attempts(request::Operation::Execute(execute), true, deadline).await
    }

    /// Tries until there is an answer or the deadline passes. `counts`: whether an attempt without an answer may
    /// have changed something.
    async fn attempts(
        &self,
        operation: request::Operation,
        counts: bool,
        deadline: Moment,
    ) -> Outcome<pb::Done> {
        let clock = &self.surroundings.clock;
        let (backoff_min, backoff_max) = self.options.backoff_ms;
        let mut backoff_ms = backoff_min;
        let mut maybe_taken = false;
        let mut last = "no node could be asked".to_owned();
        let mut node = NodeId(self.leader.load(Ordering::Relaxed));
        while clock.now() < deadline {
            let (hint, detail) = match self.attempt(node, &operation, deadline).await {
                Attempt::Done(done) => {
                    self.leader.store(node.0, Ordering::Relaxed);
                    return Outcome::Ok(done);
                }
                Attempt::Rejected(reason, detail) => {
                    if reason == RefusedReason::RefusedSessionExpired {
                        self.session.forget();
                    }
                    return if maybe_taken {
                        Outcome::Unknown(format!("an earlier attempt may have been taken; then: {detail}"))
                    } else {
                        Outcome::Refused(Refused { unavailable: false, detail })
                    };
                }
                Attempt::Again { hint, detail } => (hint, detail),
                Attempt::Ambiguous { hint, detail } => {
                    maybe_taken |= counts;
                    (hint, detail)
                }
            };
            last = format!("{node}: {detail}");
            let followed = hint.filter(|hint| *hint != node && self.connections.contains_key(hint));
            node = followed.unwrap_or_else(|| self.after(node));
            // A hint is followed at once the first time; hints that lead in circles are slowed down.
            if followed.is_none() || backoff_ms > backoff_min {
                let pause_ms =
                    self.jitter.lock().expect("not poisoned").next().between(backoff_ms / 2, backoff_ms);
                let pause = Duration::from_millis(pause_ms).min(deadline.since(clock.now()));
                clock.sleep(pause).await;
            }
            backoff_ms = backoff_max.min(backoff_ms * 2);
        }
        if maybe_taken {
            Outcome::Unknown(format!("no answer before the deadline; last, {last}"))
        } else {
            let detail = format!("nobody took it before the deadline; last, {last}");
            Outcome::Refused(Refused { unavailable: true, detail })
        }
    }

    /// The node after `node`, in a ring.
    fn after(&self, node: NodeId) -> NodeId {
        let mut following =
            self.connections.range((std::ops::Bound::Excluded(node), std::ops::Bound::Unbounded));
        let next = following.next().or_else(|| self.connections.iter().next());
        next.map_or(node, |(next, _)| *next)
    }

    async fn attempt(&self, node: NodeId, operation: &request::Operation, deadline: Moment) -> Attempt {
        let Some(connection) = self.connections.get(&node) else {
            return Attempt::Again { hint: None, detail: "has no address".to_owned() };
        };
        let now = self.surroundings.clock.now();
        let left = deadline.since(now).min(Duration::from_millis(self.options.attempt_ms));
        let deadline_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1);
        let request = pb::Request { id: 0, deadline_ms, operation: Some(operation.clone()) };
        let reply = match connection.call(request, left).await {
            Ok(reply) => reply,
            Err(Lost::NotSent(detail)) => return Attempt::Again { hint: None, detail },
            Err(Lost::Sent(detail)) => return Attempt::Ambiguous { hint: None, detail },
            Err(Lost::TurnedAway(detail)) => {
                return Attempt::Rejected(RefusedReason::RefusedWrongCluster, format!("{node}: {detail}"));
            }
        };
        let hint = |leader: u64| (leader != 0).then_some(NodeId(leader));
        match reply.outcome {
            Some(reply::Outcome::Done(done)) => Attempt::Done(done),
            Some(reply::Outcome::Unknown(unknown)) => {
                Attempt::Ambiguous { hint: hint(unknown.leader), detail: unknown.detail }
            }
            Some(reply::Outcome::Refused(refused)) => match refused.reason() {
                RefusedReason::RefusedNotLeader
                | RefusedReason::RefusedOverloaded
                | RefusedReason::RefusedDeadline
                | RefusedReason::RefusedUnhealthy => {
                    Attempt::Again { hint: hint(refused.leader), detail: refused.detail }
                }
                reason => Attempt::Rejected(reason, refused.detail),
            },
            None => Attempt::Ambiguous { hint: None, detail: "a reply without an outcome".to_owned() },
        }
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
