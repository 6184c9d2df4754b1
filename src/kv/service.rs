//! The gRPC service of the key-value store: decodes requests, asks the replica, encodes replies.
//!
//! - A session stream is pipelined: requests are answered as they are decided, matched by id; at most
//!   [`REQUESTS_PER_STREAM_MAX`] are under way, further ones wait in the stream.
//! - A request whose deadline has passed is refused before it is proposed.
//! - `Refused` is said only of what certainly was not executed by this request.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::FuturesUnordered;
use futures_util::{Stream, StreamExt as _};
use prost::Message as _;
use tonic::{Request, Response, Status, Streaming};

use super::in_flight::{Entry, InFlight};
use super::{KvAnswer, KvLimits, KvMachine, KvQuery, KvReply};
use crate::proto::admin::admin_server::Admin;
use crate::proto::admin::{self};
use crate::proto::kv::kv_server::Kv;
use crate::proto::kv::mutation::Operation;
use crate::proto::kv::{self as pb, RefusedReason, done, reply, request};
use crate::replica::frames::{Joiner, Splitter};
use crate::replica::link::{Channel, Party, Route};
use crate::replica::timers::Moment;
use crate::replica::{Decision, Denial, FORMAT_VERSION, Handle, Identity, Surroundings};

/// Requests of one stream that are under way at most.
pub const REQUESTS_PER_STREAM_MAX: usize = 256;

/// The longest deadline that a request may ask for.
pub const DEADLINE_MS_MAX: u64 = 60_000;

/// Serves one replica.
#[derive(Clone)]
pub struct KvService {
    handle: Handle<KvMachine>,
    identity: Identity,
    surroundings: Surroundings,
    limits: KvLimits,
    in_flight: InFlight,
}

type Replies = Pin<Box<dyn Stream<Item = Result<pb::Frame, Status>> + Send>>;

impl KvService {
    /// A service in front of `handle`.
    pub fn new(
        handle: Handle<KvMachine>,
        identity: Identity,
        surroundings: Surroundings,
        limits: KvLimits,
    ) -> Self {
        Self { handle, identity, surroundings, limits, in_flight: InFlight::default() }
    }

    async fn answer(&self, bytes: Bytes) -> pb::Reply {
        let request = match pb::Request::decode(bytes) {
            Ok(request) => request,
            Err(error) => return refusal(0, RefusedReason::RefusedMalformed, error.to_string(), 0),
        };
        let id = request.id;
        if request.deadline_ms == 0 {
            return refusal(id, RefusedReason::RefusedDeadline, "the deadline has passed", 0);
        }
        let left = Duration::from_millis(request.deadline_ms.min(DEADLINE_MS_MAX));
        let deadline = self.surroundings.clock.now().after(left);
        let operation = match request.operation {
            None => return refusal(id, RefusedReason::RefusedMalformed, "a request without an operation", 0),
            Some(request::Operation::Get(get)) => return self.get(id, get, deadline).await,
            Some(request::Operation::OpenSession(open)) => pb::command::Operation::OpenSession(open),
            Some(request::Operation::Execute(execute)) => return self.execute(id, execute, deadline).await,
        };
        self.propose(id, operation, deadline).await
    }

    async fn execute(&self, id: u64, execute: pb::Execute, deadline: Moment) -> pb::Reply {
        if let Some((reason, detail)) = self.refuse_early(&execute) {
            return refusal(id, reason, detail, 0);
        }
        match self.in_flight.enter(&execute) {
            Entry::First(first) => {
                let reply = self.propose(id, pb::command::Operation::Execute(execute), deadline).await;
                first.finish(reply.outcome.as_ref());
                reply
            }
            Entry::Joined(outcome) => match outcome.await {
                Ok(outcome) => pb::Reply { id, outcome: Some(outcome) },
                Err(_) => unknown(id, "the request that this one joined went away", 0),
            },
        }
    }

    async fn propose(&self, id: u64, operation: pb::command::Operation, deadline: Moment) -> pb::Reply {
        let command = pb::Command { time_ms: self.surroundings.clock.wall_ms(), operation: Some(operation) };
        match self.handle.propose(command.encode_to_vec().into(), deadline).await {
            Decision::Done(KvReply::SessionOpened, index) => {
                accepted(id, done::Result::SessionOpened(true), index.0)
            }
            Decision::Done(KvReply::Mutation(result), index) => {
                accepted(id, done::Result::Mutation(result), index.0)
            }
            Decision::Done(KvReply::Refused { reason, detail }, _) => refusal(id, reason, detail, 0),
            Decision::Refused(denial) => denied(id, &denial),
            Decision::Unknown(leader) => {
                let leader = leader.map_or(0, |node| node.0);
                unknown(id, "this node stopped leading before the entry was applied", leader)
            }
        }
    }

    /// What the machine would refuse anyway need not go through the log.
    fn refuse_early(&self, execute: &pb::Execute) -> Option<(RefusedReason, String)> {
        let operation = execute.mutation.as_ref().and_then(|mutation| mutation.operation.as_ref());
        let (key, value) = match operation {
            None => return Some((RefusedReason::RefusedMalformed, "a request without a mutation".into())),
            Some(Operation::Put(put)) => (&put.key, put.value.len()),
            Some(Operation::Append(append)) => (&append.key, append.value.len()),
            Some(Operation::Delete(delete)) => (&delete.key, 0),
            Some(Operation::Cas(cas)) => (&cas.key, cas.new.len()),
        };
        let checks =
            [("key", key.len(), self.limits.key_bytes_max), ("value", value, self.limits.value_bytes_max)];
        let (what, bytes, bytes_max) = checks.into_iter().find(|(_, bytes, bytes_max)| bytes > bytes_max)?;
        let detail = format!("the {what} has {bytes} bytes; at most {bytes_max} are allowed");
        Some((RefusedReason::RefusedTooLarge, detail))
    }

    async fn get(&self, id: u64, get: pb::Get, deadline: Moment) -> pb::Reply {
        match self.handle.query(KvQuery::Get { key: get.key }, get.stale, deadline).await {
            Decision::Done(KvAnswer::Value { value }, index) => {
                let value = value.map(Into::into);
                accepted(id, done::Result::Get(pb::GetResult { value }), index.0)
            }
            Decision::Done(KvAnswer::Status(_) | KvAnswer::Pairs(_), _) => {
                refusal(id, RefusedReason::RefusedMalformed, "an answer to another question", 0)
            }
            Decision::Refused(denial) => denied(id, &denial),
            Decision::Unknown(_) => denied(id, &Denial::Unhealthy),
        }
    }

    async fn hello(&self, requests: &mut Streaming<pb::Frame>) -> Result<Party, String> {
        let frame = requests.message().await.map_err(|status| status.message().to_owned())?;
        let frame = frame.ok_or("the stream ended before its first message")?;
        let hello = Joiner::default().join(frame.payload)?.ok_or("a first message of several frames")?;
        let hello = pb::ClientHello::decode(hello).map_err(|error| error.to_string())?;
        if hello.format_version != FORMAT_VERSION {
            return Err(format!("format {}, this node speaks {FORMAT_VERSION}", hello.format_version));
        }
        if !hello.cluster_id.is_empty() && hello.cluster_id != self.identity.cluster_id {
            return Err(format!(
                "this is cluster {:?}, not {:?}",
                self.identity.cluster_id, hello.cluster_id
            ));
        }
        Ok(Party::Client(hello.party))
    }
}

#[tonic::async_trait]
impl Kv for KvService {
    type SessionStream = Replies;

    async fn session(&self, request: Request<Streaming<pb::Frame>>) -> Result<Response<Replies>, Status> {
        let service = self.clone();
        let mut requests = request.into_inner();
        let replies = async_stream::stream! {
            let party = match service.hello(&mut requests).await {
                Ok(party) => party,
                Err(reason) => {
                    yield Err(reason);
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
                                Some(Ok(Some(message))) => under_way.push(service.answer(message)),
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
                yield frame;
            }
        };
        let replies = replies.map(|frame| match frame {
            Ok(payload) => Ok(pb::Frame { payload }),
            Err(reason) => Err(Status::failed_precondition(reason)),
        });
        Ok(Response::new(Box::pin(replies)))
    }

    async fn call(&self, request: Request<pb::Frame>) -> Result<Response<pb::Frame>, Status> {
        let reply = self.answer(request.into_inner().payload).await;
        Ok(Response::new(pb::Frame { payload: reply.encode_to_vec().into() }))
    }
}

#[tonic::async_trait]
impl Admin for KvService {
    async fn get_status(&self, _: Request<admin::StatusRequest>) -> Result<Response<admin::Status>, Status> {
        let Some(mut status) = self.handle.status().await else {
            return Err(Status::unavailable("the replica has stopped"));
        };
        let now = self.surroundings.clock.now().after(Duration::from_secs(1));
        if let Decision::Done(KvAnswer::Status(kv), _) = self.handle.query(KvQuery::Status, true, now).await {
            status.sessions = kv.sessions;
        }
        status.disk_bytes = self.handle.disk_bytes().await.unwrap_or_default();
        Ok(Response::new(status))
    }
}

fn accepted(id: u64, result: done::Result, index: u64) -> pb::Reply {
    pb::Reply { id, outcome: Some(reply::Outcome::Done(pb::Done { result: Some(result), index })) }
}

fn refusal(id: u64, reason: RefusedReason, detail: impl Into<String>, leader: u64) -> pb::Reply {
    let refused = pb::Refused { reason: reason.into(), detail: detail.into(), leader };
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
        Denial::Overloaded => refusal(id, RefusedReason::RefusedOverloaded, "too much is waiting", 0),
        Denial::Deadline => refusal(id, RefusedReason::RefusedDeadline, "the deadline has passed", 0),
        Denial::Unhealthy => refusal(id, RefusedReason::RefusedUnhealthy, "this node has stopped", 0),
    }
}
