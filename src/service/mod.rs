//! The gRPC service of a node: decodes requests, asks the replica, encodes replies. One piece for every machine.
//!
//! - A session stream is pipelined: requests are answered as they are decided, matched by id; at most
//!   [`REQUESTS_PER_STREAM_MAX`] are under way, further ones wait in the stream.
//! - A request whose deadline has passed is refused before it is proposed.
//! - A node serves a bounded number of streams; one more is turned away before anything on it is read.
//! - `Refused` is said only of what certainly was not executed by this request.

mod in_flight;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::FuturesUnordered;
use futures_util::{Stream, StreamExt as _};
use prost::Message as _;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status, Streaming};

use crate::machine::StateMachine;
use crate::proto::admin::admin_server::Admin;
use crate::proto::admin::{self};
use crate::proto::kv::kv_server::Kv;
use crate::proto::kv::{self as pb, RefusedReason, command, done, reply, request};
use crate::replica::frames::{Joiner, Splitter};
use crate::replica::link::{Channel, Party, Route};
use crate::replica::timers::Moment;
use crate::replica::{Decision, Denial, FORMAT_VERSION, Handle, Identity, Surroundings, TransferError};
use crate::session::Reply;
use crate::types::{ConfigNum, Index, NodeId, ShardId};
use in_flight::{Entry, InFlight};

/// Requests of one stream that are under way at most.
pub const REQUESTS_PER_STREAM_MAX: usize = 256;

/// The longest deadline that a request may ask for.
pub const DEADLINE_MS_MAX: u64 = 60_000;

/// A machine that clients can reach: what it takes, and how it answers.
pub trait Served: StateMachine<Query: Clone + Sync> {
    /// What `operation` asks of a replica; `shard`: what the request says that it is for.
    fn take(&self, operation: request::Operation, shard: Option<ShardId>) -> Wanted<Self::Query>;

    /// The entry that holds a client's `command`, which [`Served::take`] let pass.
    fn entry(&self, command: pb::Command, _shard: Option<ShardId>) -> Bytes {
        command.encode_to_vec().into()
    }

    /// What a client is told when its command was applied.
    fn told(reply: Self::Reply) -> Result<done::Result, Refusal>;

    /// What a client is told of an answer that reflects the log up to `index`, and what it is told of the index.
    fn answered(answer: Self::Answer, index: Index) -> Result<(done::Result, u64), Refusal>;

    /// True if `answer` is not yet what `query` is waiting for.
    fn is_awaited(_answer: &Self::Answer, _query: &Self::Query) -> bool {
        false
    }

    /// What decides about commands that this node proposes, and so travels with them.
    fn limits(&self) -> Option<pb::Limits> {
        None
    }

    /// Asks the machine for its own numbers.
    fn status_query() -> Self::Query;

    /// Adds the machine's own numbers.
    fn add_status(answer: Self::Answer, status: &mut admin::Status);
}

/// What an operation asks of a replica.
#[derive(Clone, Debug)]
pub enum Wanted<Q> {
    /// A client's command in the log.
    Command(command::Operation),
    /// An entry in the log that is no client's.
    Entry(Bytes),
    /// A look at the state.
    Query {
        /// The question.
        query: Q,
        /// Whether this node's applied state will do, however old it is.
        stale: bool,
        /// How long to wait for an answer that [is still awaited](Served::is_awaited).
        wait: Duration,
    },
    /// Nothing.
    Refused(Refusal),
}

/// Certainly not executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: RefusedReason,
    /// Why, in words.
    pub detail: String,
    /// Of a group of the sharded store: the config that it has adopted.
    pub config: ConfigNum,
}

impl Refusal {
    /// For this reason, in words.
    pub fn new(reason: RefusedReason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), config: ConfigNum(0) }
    }

    /// The request makes no sense.
    pub fn malformed(detail: impl Into<String>) -> Self {
        Self::new(RefusedReason::RefusedMalformed, detail)
    }

    /// The request is for another service.
    pub fn not_served(detail: &str) -> Self {
        Self::new(RefusedReason::RefusedNotServed, detail)
    }
}

/// What a client is told of a session's reply.
pub fn of_reply(reply: Reply) -> Result<done::Result, Refusal> {
    match reply {
        Reply::SessionOpened => Ok(done::Result::SessionOpened(true)),
        Reply::SessionClosed => Ok(done::Result::SessionClosed(true)),
        Reply::Mutation(result) => Ok(done::Result::Mutation(result)),
        Reply::Refused { reason, detail } => Err(Refusal::new(reason, detail)),
    }
}

/// Serves one replica.
#[derive(Clone)]
pub struct ClientService<M: Served> {
    machine: M,
    handle: Handle<M>,
    identity: Identity,
    surroundings: Surroundings,
    in_flight: InFlight,
    streams: Arc<Semaphore>,
}

type Replies = Pin<Box<dyn Stream<Item = Result<pb::Frame, Status>> + Send>>;

impl<M: Served> ClientService<M> {
    /// A service in front of `handle`, whose replica runs `machine`.
    pub fn new(machine: M, handle: Handle<M>, identity: Identity, surroundings: Surroundings) -> Self {
        let streams = Arc::new(Semaphore::new(handle.options().client_streams_max));
        Self { machine, handle, identity, surroundings, in_flight: InFlight::default(), streams }
    }

    async fn answer_bytes(&self, bytes: Bytes) -> pb::Reply {
        match pb::Request::decode(bytes) {
            Ok(request) => self.answer(request).await,
            Err(error) => refusal(0, RefusedReason::RefusedMalformed, error.to_string(), 0),
        }
    }

    async fn answer(&self, request: pb::Request) -> pb::Reply {
        let id = request.id;
        if request.deadline_ms == 0 {
            return refusal(id, RefusedReason::RefusedDeadline, "the deadline has passed", 0);
        }
        let left = Duration::from_millis(request.deadline_ms.min(DEADLINE_MS_MAX));
        let deadline = self.surroundings.clock.now().after(left);
        let Some(operation) = request.operation else {
            return refusal(id, RefusedReason::RefusedMalformed, "a request without an operation", 0);
        };
        let shard = request.shard.map(ShardId);
        match self.machine.take(operation, shard) {
            Wanted::Command(command::Operation::Execute(execute)) => {
                self.execute(id, execute, shard, deadline).await
            }
            Wanted::Command(command) => self.command(id, command, shard, deadline).await,
            Wanted::Entry(entry) => self.propose(id, entry, deadline).await,
            Wanted::Query { query, stale, wait } => self.query(id, query, stale, wait, deadline).await,
            Wanted::Refused(refused) => refusal_of(id, refused),
        }
    }

    async fn execute(
        &self,
        id: u64,
        execute: pb::Execute,
        shard: Option<ShardId>,
        deadline: Moment,
    ) -> pb::Reply {
        match self.in_flight.enter(shard, &execute) {
            Entry::First(first) => {
                let reply = self.command(id, command::Operation::Execute(execute), shard, deadline).await;
                first.finish(reply.outcome.as_ref());
                reply
            }
            Entry::Joined(outcome) => match outcome.await {
                Ok(outcome) => pb::Reply { id, outcome: Some(outcome) },
                Err(_) => unknown(id, "the request that this one joined went away", 0),
            },
        }
    }

    async fn command(
        &self,
        id: u64,
        operation: command::Operation,
        shard: Option<ShardId>,
        deadline: Moment,
    ) -> pb::Reply {
        let command = pb::Command {
            time_ms: self.surroundings.clock.wall_ms(),
            limits: self.machine.limits(),
            operation: Some(operation),
        };
        self.propose(id, self.machine.entry(command, shard), deadline).await
    }

    async fn propose(&self, id: u64, entry: Bytes, deadline: Moment) -> pb::Reply {
        match self.handle.propose(entry, deadline).await {
            Decision::Done(reply, index) => match M::told(reply) {
                // This entry may be a retry: the mutation knows where it took effect.
                Ok(done::Result::Mutation(result)) => {
                    let index = result.index;
                    accepted(id, done::Result::Mutation(result), index)
                }
                Ok(result) => accepted(id, result, index.0),
                Err(refused) => refusal_of(id, refused),
            },
            Decision::Refused(denial) => denied(id, &denial),
            Decision::Unknown(leader) => {
                let leader = leader.map_or(0, |node| node.0);
                unknown(id, "this node stopped leading before the entry was applied", leader)
            }
        }
    }

    /// Asks, and while the answer is still awaited asks again whenever entries were applied. What is awaited only
    /// gets newer, so the later questions need not go to a majority.
    async fn query(
        &self,
        id: u64,
        query: M::Query,
        mut stale: bool,
        wait: Duration,
        deadline: Moment,
    ) -> pb::Reply {
        let clock = &self.surroundings.clock;
        let until = clock.now().after(wait).min(deadline);
        loop {
            // Before the question, so that nothing is missed that is applied after it.
            let mut applied = std::pin::pin!(self.handle.applied());
            applied.as_mut().enable();
            let (answer, index) = match self.handle.query(query.clone(), stale, deadline).await {
                Decision::Done(answer, index) => (answer, index),
                Decision::Refused(denial) => return denied(id, &denial),
                Decision::Unknown(_) => return denied(id, &Denial::Unhealthy),
            };
            let now = clock.now();
            if now >= until || !M::is_awaited(&answer, &query) {
                return match M::answered(answer, index) {
                    Ok((result, index)) => accepted(id, result, index),
                    Err(refused) => refusal_of(id, refused),
                };
            }
            clock.timeout(until.since(now), applied).await;
            stale = true;
        }
    }

    async fn hello(&self, requests: &mut Streaming<pb::Frame>) -> Result<Party, String> {
        let frame = requests.message().await.map_err(|status| status.message().to_owned())?;
        let frame = frame.ok_or("the stream ended before its first message")?;
        let hello = Joiner::default().join(frame.payload)?.ok_or("a first message of several frames")?;
        self.check(&pb::ClientHello::decode(hello).map_err(|error| error.to_string())?)
    }

    /// Who says `hello`, or why we do not talk to it.
    fn check(&self, hello: &pb::ClientHello) -> Result<Party, String> {
        if hello.format_version != FORMAT_VERSION {
            return Err(format!("format {}, this node speaks {FORMAT_VERSION}", hello.format_version));
        }
        if !hello.cluster_id.is_empty() && hello.cluster_id != self.identity.cluster_id {
            return Err(format!(
                "this is cluster {:?}, not {:?}",
                self.identity.cluster_id, hello.cluster_id
            ));
        }
        Ok(match hello.node {
            0 => Party::Client(hello.party),
            node => Party::Node(NodeId(node)),
        })
    }
}

#[tonic::async_trait]
impl<M: Served> Kv for ClientService<M> {
    type SessionStream = Replies;

    async fn session(&self, request: Request<Streaming<pb::Frame>>) -> Result<Response<Replies>, Status> {
        let Ok(one) = self.streams.clone().try_acquire_owned() else {
            let most = self.handle.options().client_streams_max;
            let reason = format!("{} serves {most} streams of clients, and no more", self.identity.id);
            return Err(Status::resource_exhausted(reason));
        };
        let service = self.clone();
        let mut requests = request.into_inner();
        let replies = async_stream::stream! {
            let _one = one;
            let party = match service.hello(&mut requests).await {
                Ok(party) => party,
                Err(reason) => {
                    // The one status of this kind: the client knows by it that nothing on the stream was taken.
                    yield Err(Status::failed_precondition(reason));
                    return;
                }
            };
            let route = Route { from: party, to: Party::Node(service.identity.id), channel: Channel::Client };
            let link = service.surroundings.link.clone();
            let frames = requests.map(|frame| match frame {
                Ok(frame) => Ok(frame.payload),
                Err(status) => Err(status.message().to_owned()),
            });
            let mut frames = link.inbound(route, frames.boxed());
            let replies = async_stream::stream! {
                let (mut joiner, mut splitter) = (Joiner::default(), Splitter::default());
                let mut under_way = FuturesUnordered::new();
                let mut open = true;
                while open || !under_way.is_empty() {
                    let reply = tokio::select! {
                        biased;
                        Some(reply) = under_way.next(), if !under_way.is_empty() => reply,
                        frame = frames.next(), if open && under_way.len() < REQUESTS_PER_STREAM_MAX => {
                            match frame.map(|frame| frame.and_then(|frame| joiner.join(frame))) {
                                Some(Ok(Some(message))) => under_way.push(service.answer_bytes(message)),
                                Some(Ok(None)) => {}
                                Some(Err(_)) | None => open = false,
                            }
                            continue;
                        }
                    };
                    for frame in splitter.split(&reply) {
                        yield Ok(frame);
                    }
                }
            };
            let mut replies = link.outbound(route.back(), replies.boxed());
            while let Some(frame) = replies.next().await {
                yield frame.map(|payload| pb::Frame { payload }).map_err(Status::unavailable);
            }
        };
        Ok(Response::new(Box::pin(replies)))
    }

    async fn call(&self, request: Request<pb::Frame>) -> Result<Response<pb::Frame>, Status> {
        let payload = request.into_inner().payload;
        let call = pb::Call::decode(payload.clone())
            .map_err(|error| Status::invalid_argument(format!("a call that does not decode: {error}")))?;
        let party = match self.check(&call.hello.unwrap_or_default()) {
            Ok(party) => party,
            Err(reason) => return Err(Status::failed_precondition(reason)),
        };
        let Some(request) = call.request else {
            return Err(Status::invalid_argument("a call without a request"));
        };
        // A call is a stream of one message each way, as far as the network is concerned.
        let route = Route { from: party, to: Party::Node(self.identity.id), channel: Channel::Client };
        let link = &self.surroundings.link;
        let one = |payload| futures_util::stream::iter([Ok(payload)]).boxed();
        let lost = || Err("it was lost".to_owned());
        link.inbound(route, one(payload)).next().await.unwrap_or_else(lost).map_err(Status::unavailable)?;
        let reply = self.answer(request).await.encode_to_vec().into();
        let reply = link.outbound(route.back(), one(reply)).next().await.unwrap_or_else(lost);
        Ok(Response::new(pb::Frame { payload: reply.map_err(Status::unavailable)? }))
    }
}

#[tonic::async_trait]
impl<M: Served> Admin for ClientService<M> {
    async fn get_status(&self, _: Request<admin::StatusRequest>) -> Result<Response<admin::Status>, Status> {
        let Some(mut status) = self.handle.status().await else {
            return Err(Status::unavailable("the replica has stopped"));
        };
        let now = self.surroundings.clock.now().after(Duration::from_secs(1));
        if let Decision::Done(answer, _) = self.handle.query(M::status_query(), true, now).await {
            M::add_status(answer, &mut status);
        }
        status.disk_bytes = self.handle.disk_bytes().await.unwrap_or_default();
        Ok(Response::new(status))
    }

    async fn transfer_leadership(
        &self,
        request: Request<admin::TransferRequest>,
    ) -> Result<Response<admin::TransferReply>, Status> {
        use admin::transfer_reply::Outcome;
        let admin::TransferRequest { to, wait_ms, cluster_id } = request.into_inner();
        if !cluster_id.is_empty() && cluster_id != self.identity.cluster_id {
            let reason = format!("this is cluster {:?}, not {cluster_id:?}", self.identity.cluster_id);
            return Err(Status::failed_precondition(reason));
        }
        let wait = Duration::from_millis(wait_ms.min(DEADLINE_MS_MAX));
        let transfer = self.handle.transfer(NodeId(to));
        let outcome = match self.surroundings.clock.timeout(wait, transfer).await {
            Some(Ok(leader)) => Outcome::Leader(leader.0),
            Some(Err(TransferError::NotLeader(leader))) => {
                Outcome::NotLeader(leader.map_or(0, |node| node.0))
            }
            Some(Err(error @ TransferError::Stopped)) => Outcome::Unknown(error.to_string()),
            Some(Err(error)) => Outcome::Refused(error.to_string()),
            None => Outcome::Unknown("nobody was seen to lead within the time given".to_owned()),
        };
        Ok(Response::new(admin::TransferReply { outcome: Some(outcome) }))
    }
}

fn accepted(id: u64, result: done::Result, index: u64) -> pb::Reply {
    pb::Reply { id, outcome: Some(reply::Outcome::Done(pb::Done { result: Some(result), index })) }
}

fn refusal(id: u64, reason: RefusedReason, detail: impl Into<String>, leader: u64) -> pb::Reply {
    let refused = pb::Refused { reason: reason.into(), detail: detail.into(), leader, config: 0 };
    pb::Reply { id, outcome: Some(reply::Outcome::Refused(refused)) }
}

fn refusal_of(id: u64, Refusal { reason, detail, config }: Refusal) -> pb::Reply {
    let refused = pb::Refused { reason: reason.into(), detail, leader: 0, config: config.0 };
    pb::Reply { id, outcome: Some(reply::Outcome::Refused(refused)) }
}

fn unknown(id: u64, detail: &str, leader: u64) -> pb::Reply {
    let unknown = pb::Unknown { detail: detail.to_owned(), leader };
    pb::Reply { id, outcome: Some(reply::Outcome::Unknown(unknown)) }
}

fn denied(id: u64, denial: &Denial) -> pb::Reply {
    match denial {
        Denial::NotLeader(leader) => refusal(
            id,
            RefusedReason::RefusedNotLeader,
            "this node does not lead",
            leader.map_or(0, |node| node.0),
        ),
        Denial::Transferring(to) => {
            refusal(id, RefusedReason::RefusedNotLeader, format!("leadership is on its way to {to}"), to.0)
        }
        Denial::Overloaded => refusal(id, RefusedReason::RefusedOverloaded, "too much is waiting", 0),
        Denial::Deadline => refusal(id, RefusedReason::RefusedDeadline, "the deadline has passed", 0),
        Denial::Unhealthy => refusal(id, RefusedReason::RefusedUnhealthy, "this node has stopped", 0),
    }
}
