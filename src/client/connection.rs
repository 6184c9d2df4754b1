//! One session stream to one node: requests out, replies matched by id.
//!
//! A task owns the stream; it opens with the first request and again, after a failure, with the next one. When it
//! breaks, everybody who waits is told that the request was sent and has no answer.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use prost::Message as _;
use tokio::sync::{mpsc, oneshot};

use super::ClientOptions;
use crate::mutants::{MutantId, Mutants};
use crate::proto::kv as pb;
use crate::proto::kv::kv_client::KvClient;
use crate::replica::frames::{Joiner, Splitter};
use crate::replica::link::{Channel, Frames, Party, Route};
use crate::replica::{FORMAT_VERSION, Outgoing, Surroundings, channel_frames, dial};
use crate::types::NodeId;

/// Requests that wait for the connection's task.
const QUEUE_CAPACITY: usize = 256;
/// Frames that wait for the stream.
const FRAMES_PER_STREAM_MAX: usize = 64;

/// Why there is no reply.
#[derive(Clone, Debug)]
pub(super) enum Lost {
    /// The request never left.
    NotSent(String),
    /// It left; what became of it is not known.
    Sent(String),
    /// The node does not talk to this client, and took nothing on this stream.
    TurnedAway(String),
}

type Waiter = oneshot::Sender<Result<pb::Reply, Lost>>;

/// A handle on the task.
pub(super) struct Connection {
    requests: mpsc::Sender<(pb::Request, Waiter)>,
    surroundings: Surroundings,
    mutants: Mutants,
}

impl Connection {
    pub(super) fn new(
        node: NodeId,
        address: SocketAddr,
        options: &ClientOptions,
        surroundings: Surroundings,
    ) -> Self {
        let (requests, queue) = mpsc::channel(QUEUE_CAPACITY);
        let from = options.node.map_or(Party::Client(options.number), Party::Node);
        let route = Route { from, to: Party::Node(node), channel: Channel::Client };
        let hello = pb::ClientHello {
            format_version: FORMAT_VERSION,
            cluster_id: options.cluster_id.clone(),
            party: options.number,
            node: options.node.map_or(0, |node| node.0),
        };
        let connect_timeout = Duration::from_millis(options.attempt_ms);
        let mutants = options.mutants;
        let task = Task {
            route,
            address,
            hello,
            connect_timeout,
            surroundings: surroundings.clone(),
            mutants,
            queue,
        };
        tokio::spawn(task.run());
        Self { requests, surroundings, mutants }
    }

    /// Sends `request` and waits for its reply, at most for `left`.
    pub(super) async fn call(&self, request: pb::Request, left: Duration) -> Result<pb::Reply, Lost> {
        let (waiter, reply) = oneshot::channel();
        self.requests
            .try_send((request, waiter))
            .map_err(|_| Lost::NotSent("too many requests wait for the connection".to_owned()))?;
        let answered = if self.mutants.is(MutantId::AsyncDeadlineWithoutTimer) {
            Some(reply.await)
        } else {
            self.surroundings.clock.timeout(left, reply).await
        };
        match answered {
            Some(Ok(reply)) => reply,
            Some(Err(_)) => Err(Lost::Sent("the connection's task ended".to_owned())),
            None => Err(Lost::Sent(format!("no answer within {left:?}"))),
        }
    }
}

/// An open stream.
struct Stream {
    frames: mpsc::Sender<Bytes>,
    replies: Frames,
    /// Why the node does not talk to us, if it said so.
    turned_away: Arc<OnceLock<String>>,
}

struct Task {
    route: Route,
    address: SocketAddr,
    hello: pb::ClientHello,
    connect_timeout: Duration,
    surroundings: Surroundings,
    mutants: Mutants,
    queue: mpsc::Receiver<(pb::Request, Waiter)>,
}

impl Task {
    async fn run(mut self) {
        while let Some(first) = self.queue.recv().await {
            match self.open().await {
                Ok(stream) => self.converse(first, stream).await,
                Err(detail) => {
                    let lost = Lost::NotSent(detail);
                    let _ = first.1.send(Err(lost.clone()));
                    while let Ok((_, waiter)) = self.queue.try_recv() {
                        let _ = waiter.send(Err(lost.clone()));
                    }
                }
            }
        }
    }

    async fn open(&self) -> Result<Stream, String> {
        let (frames, receiver) = mpsc::channel::<Bytes>(FRAMES_PER_STREAM_MAX);
        let link = self.surroundings.link.clone();
        let hello = futures_util::stream::iter(Splitter::default().split(&self.hello));
        let outbound = link.outbound(self.route, channel_frames(receiver));
        let outbound = hello.chain(outbound.filter_map(|frame| async move { frame.ok() }));
        let outbound = Outgoing(outbound.map(|payload| pb::Frame { payload }).boxed());
        let permitted = link.connect(self.route);
        let address = self.address;
        let opening = async move {
            permitted.await?;
            let channel =
                dial(address).await.map_err(|error| format!("cannot connect to {address}: {error}"))?;
            KvClient::new(channel).session(outbound).await.map_err(|status| status.message().to_owned())
        };
        let opened = self.surroundings.clock.timeout(self.connect_timeout, opening).await;
        let replies = opened.ok_or_else(|| format!("no answer from {address}"))??.into_inner();
        let turned_away = Arc::new(OnceLock::new());
        let refusal = turned_away.clone();
        let replies = replies.map(move |frame| match frame {
            Ok(frame) => Ok(frame.payload),
            Err(status) => {
                if status.code() == tonic::Code::FailedPrecondition {
                    let _ = refusal.set(status.message().to_owned());
                }
                Err(status.message().to_owned())
            }
        });
        Ok(Stream { frames, replies: link.inbound(self.route.back(), replies.boxed()), turned_away })
    }

    /// Sends the frames of one request, or says why the stream took no more.
    async fn send(
        &self,
        frames: &mpsc::Sender<Bytes>,
        request: Vec<Bytes>,
        is_alone: bool,
        replies: &mut Frames,
    ) -> Result<(), String> {
        let clock = &self.surroundings.clock;
        for frame in request {
            match clock.timeout(self.connect_timeout, frames.send(frame)).await {
                Some(Ok(())) => {}
                // The node closed the stream, and its reason, such as being of another cluster, is on the way. What
                // else may come is for requests that were sent before.
                Some(Err(_)) if is_alone => {
                    return Err(match clock.timeout(self.connect_timeout, replies.next()).await {
                        Some(Some(Err(reason))) => reason,
                        _ => "the node closed the stream".to_owned(),
                    });
                }
                Some(Err(_)) => return Err("the node closed the stream".to_owned()),
                // A full stream is not taking anything; whoever waits gives up at their own time.
                None => return Err("the stream took nothing more".to_owned()),
            }
        }
        Ok(())
    }

    /// Until the stream breaks or the client goes away.
    async fn converse(
        &mut self,
        first: (pb::Request, Waiter),
        Stream { frames, mut replies, turned_away }: Stream,
    ) {
        let mut waiting: BTreeMap<u64, Waiter> = BTreeMap::new();
        let mut splitter = Splitter::default();
        let mut joiner = Joiner::default();
        let mut next_id = 0;
        let mut request = Some(first);
        let reason = loop {
            if let Some((mut request, waiter)) = request.take() {
                waiting.retain(|_, waiter| !waiter.is_closed());
                next_id += 1;
                if self.mutants.is(MutantId::AsyncCancelledAnswersAnother) {
                    next_id = (1..).find(|id| !waiting.contains_key(id)).unwrap_or(next_id);
                }
                request.id = next_id;
                waiting.insert(next_id, waiter);
                if let Err(reason) =
                    self.send(&frames, splitter.split(&request), waiting.len() == 1, &mut replies).await
                {
                    break reason;
                }
            }
            tokio::select! {
                biased;
                reply = replies.next() => {
                    let reply = match reply {
                        Some(Ok(frame)) => joiner.join(frame),
                        Some(Err(reason)) => break reason,
                        None => break "the node closed the stream".to_owned(),
                    };
                    match reply.map(|reply| reply.map(pb::Reply::decode)) {
                        Ok(None) => {}
                        Ok(Some(Ok(reply))) => {
                            if let Some(waiter) = waiting.remove(&reply.id) {
                                let _ = waiter.send(Ok(reply));
                            }
                        }
                        Ok(Some(Err(error))) => break format!("a reply that does not decode: {error}"),
                        Err(reason) => break reason,
                    }
                }
                next = self.queue.recv() => match next {
                    Some(next) => request = Some(next),
                    None => return,
                },
            }
        };
        let lost = match turned_away.get() {
            Some(detail) => Lost::TurnedAway(detail.clone()),
            None => Lost::Sent(reason),
        };
        for waiter in waiting.into_values() {
            let _ = waiter.send(Err(lost.clone()));
        }
    }
}
