//! Streams to the peers: one long-lived gRPC stream per direction and pair, carrying batches of Raft messages.
//!
//! - The queue to a peer is bounded and never blocks: what does not fit is lost, and Raft sends it again. A dead
//!   peer costs one attempt to connect per backoff (eRaft span at 90% of a core: B5).
//! - A stream opens when there is something to send. It is opened anew, with jittered backoff, when it breaks or
//!   when something was sent and the peer was not heard for `peer_silence_ms`.
//! - The first frame says who speaks to whom, in which cluster; the receiver refuses anything that is not for it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use tokio::sync::mpsc;

use super::frames::Splitter;
use super::link::{Channel, Link, Party, Route};
use super::options::{Options, ms};
use super::timers::{Clock, Moment};
use crate::proto::raft as pb;
use crate::proto::raft::raft_client::RaftClient;
use crate::raft::Message;
use crate::random::{Draws, Site};
use crate::storage::BoxFuture;
use crate::types::{GroupId, NodeId};

/// The version of everything that peers exchange and disks hold.
pub const FORMAT_VERSION: u32 = 1;

/// Messages in one frame at most.
const MESSAGES_PER_FRAME_MAX: usize = 128;

/// Frames that wait for a stream to take them; beyond that they wait in the peer's queue.
const FRAMES_PER_STREAM_MAX: usize = 8;

/// What the Raft group of a node is for. Groups of one cluster have nodes with the same numbers; this tells them
/// apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// It keeps all keys.
    Kv,
    /// It says which group keeps which shard.
    Ctrler,
    /// It keeps some of the shards.
    Shard(GroupId),
}

impl std::fmt::Display for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Service::Kv => f.write_str("kv"),
            Service::Ctrler => f.write_str("ctrler"),
            Service::Shard(group) => write!(f, "shard {group}"),
        }
    }
}

/// Who we are and where our peers are.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The name of the cluster; nodes of another one are refused.
    pub cluster_id: String,
    /// The group's purpose; nodes with another one are refused.
    pub service: Service,
    /// This node.
    pub id: NodeId,
    /// All members, with this one.
    pub nodes: BTreeMap<NodeId, SocketAddr>,
}

impl Identity {
    /// The first frame of a stream to `to`.
    pub fn hello(&self, to: NodeId) -> pb::Hello {
        pb::Hello {
            format_version: FORMAT_VERSION,
            cluster_id: self.cluster_id.clone(),
            service: self.service.to_string(),
            from: self.id.0,
            to: to.0,
        }
    }

    /// The peer that says `hello`, or why we do not talk to it.
    pub fn check(&self, hello: &pb::Hello) -> Result<NodeId, String> {
        let from = NodeId(hello.from);
        if hello.format_version != FORMAT_VERSION {
            Err(format!("format {} of {from}, this node speaks {FORMAT_VERSION}", hello.format_version))
        } else if hello.cluster_id != self.cluster_id {
            Err(format!("{from} is of cluster {:?}, this node of {:?}", hello.cluster_id, self.cluster_id))
        } else if hello.service != self.service.to_string() {
            Err(format!("{from} is of service {:?}, this node of \"{}\"", hello.service, self.service))
        } else if hello.to != self.id.0 {
            Err(format!("{from} looks for n{}, this is {}", hello.to, self.id))
        } else if from == self.id || !self.nodes.contains_key(&from) {
            Err(format!("{from} is not a peer of {}", self.id))
        } else {
            Ok(from)
        }
    }
}

/// What every task of the shell needs to reach the world.
#[derive(Clone)]
pub struct Surroundings {
    /// The faults of the network, in the simulator.
    pub link: Link,
    /// This node's clock.
    pub clock: Clock,
    /// This node's randomness.
    pub draws: Draws,
}

/// The sending side of all peers' streams.
pub struct Transport {
    peers: BTreeMap<NodeId, Peer>,
    clock: Clock,
}

struct Peer {
    queue: mpsc::Sender<Message>,
    /// When the peer was last heard, in milliseconds of our clock.
    heard_ms: Arc<AtomicU64>,
}

impl Transport {
    /// Starts one task per peer; they end when the transport is dropped.
    pub fn start(identity: &Identity, options: &Options, surroundings: &Surroundings) -> Self {
        let mut peers = BTreeMap::new();
        for (to, address) in identity.nodes.iter().filter(|(node, _)| **node != identity.id) {
            let (sender, queue) = mpsc::channel(options.peer_queue_capacity);
            let heard_ms = Arc::new(AtomicU64::new(0));
            let outbound = Outbound {
                hello: identity.hello(*to),
                route: Route { from: Party::Node(identity.id), to: Party::Node(*to), channel: Channel::Peer },
                address: *address,
                options: options.clone(),
                jitter: surroundings.draws.site("reconnect", to.0),
                surroundings: surroundings.clone(),
                heard_ms: heard_ms.clone(),
                queue,
            };
            tokio::spawn(outbound.run());
            peers.insert(*to, Peer { queue: sender, heard_ms });
        }
        Self { peers, clock: surroundings.clock.clone() }
    }

    /// Queues `message` for `to`; it is lost if the queue is full or there is no such peer.
    pub fn send(&self, to: NodeId, message: Message) {
        if let Some(peer) = self.peers.get(&to) {
            let _ = peer.queue.try_send(message);
        }
    }

    /// Something came from `peer`.
    pub fn heard(&self, peer: NodeId) {
        if let Some(peer) = self.peers.get(&peer) {
            peer.heard_ms.store(millis(self.clock.now()), Ordering::Relaxed);
        }
    }
}

fn millis(moment: Moment) -> u64 {
    u64::try_from(moment.0.as_millis()).unwrap_or(u64::MAX)
}

/// The task that feeds one peer.
struct Outbound {
    hello: pb::Hello,
    route: Route,
    address: SocketAddr,
    options: Options,
    surroundings: Surroundings,
    jitter: Site,
    heard_ms: Arc<AtomicU64>,
    queue: mpsc::Receiver<Message>,
}

impl Outbound {
    async fn run(mut self) {
        let (backoff_min, backoff_max) = self.options.reconnect_backoff_ms;
        let mut backoff_ms = backoff_min;
        loop {
            // Nothing to say, no stream: a peer that nobody needs costs nothing.
            let Some(first) = self.queue.recv().await else { return };
            let started = self.surroundings.clock.now();
            match self.stream(first).await {
                Ok(()) => return,
                Err(error) => {
                    tracing::debug!(to = %self.hello.to, error, "peer stream ended");
                }
            }
            // A stream that held for a while was a good one.
            let held = self.surroundings.clock.now().since(started);
            backoff_ms = if held > ms(backoff_max) { backoff_min } else { backoff_max.min(backoff_ms * 2) };
            let pause_ms = self.jitter.next().between(backoff_ms / 2, backoff_ms);
            self.surroundings.clock.sleep(ms(pause_ms)).await;
            while self.queue.try_recv().is_ok() {} // stale by now
        }
    }

    /// Opens a stream and feeds it until it breaks; `Ok` when the transport was dropped.
    async fn stream(&mut self, first: Message) -> Result<(), String> {
        let Surroundings { link, clock, .. } = self.surroundings.clone();
        let timeout = ms(self.options.connect_timeout_ms);
        let (frames, receiver) = mpsc::channel::<Bytes>(FRAMES_PER_STREAM_MAX);
        let mut splitter = Splitter::default();
        let hello = pb::Batch { content: Some(pb::batch::Content::Hello(self.hello.clone())) };
        let hello = futures_util::stream::iter(splitter.split(&hello));
        let outbound = link.outbound(self.route, channel_frames(receiver));
        let outbound = hello.chain(outbound.filter_map(|frame| async move { frame.ok() }));
        let outbound = Outgoing(outbound.map(|payload| pb::Frame { payload }).boxed());
        let address = self.address;
        let permitted = link.connect(self.route);
        let opening = async move {
            permitted.await?;
            let channel = dial(address).await?;
            RaftClient::new(channel).messages(outbound).await.map_err(|error| error.to_string())
        };
        let opened = clock.timeout(timeout, opening).await.ok_or("no answer to the attempt to connect")?;
        let mut answers = opened?.into_inner();
        self.heard_ms.store(millis(clock.now()), Ordering::Relaxed);

        let mut buffer = vec![first];
        let mut unanswered_since: Option<Moment> = None;
        let mut check_at = clock.now().after(ms(self.options.peer_silence_ms));
        let mut alarm = Box::pin(clock.sleep_until(check_at));
        loop {
            if !buffer.is_empty() {
                let messages = buffer.drain(..).map(|message| (&message).into()).collect();
                let content = pb::batch::Content::Messages(pb::Messages { messages });
                for frame in splitter.split(&pb::Batch { content: Some(content) }) {
                    tokio::select! {
                        biased;
                        sent = frames.send(frame) => sent.map_err(|_| "the stream broke")?,
                        // A full stream is not taking anything: the peer or the way to it is stuck.
                        () = clock.sleep(ms(self.options.peer_silence_ms)) => return Err("stuck".into()),
                    }
                }
                unanswered_since.get_or_insert(clock.now());
            }
            tokio::select! {
                biased;
                ended = answers.message() => {
                    return Err(ended.err().map_or("closed by the peer".into(), |status| status.message().into()));
                }
                () = &mut alarm => {
                    let now = clock.now();
                    let heard = Moment(ms(self.heard_ms.load(Ordering::Relaxed)));
                    if unanswered_since.is_some_and(|since| heard <= since) && now.since(heard) >= ms(self.options.peer_silence_ms) {
                        return Err("not heard".into());
                    }
                    if unanswered_since.is_some_and(|since| heard > since) {
                        unanswered_since = None;
                    }
                    check_at = now.after(ms(self.options.peer_silence_ms));
                    alarm = Box::pin(clock.sleep_until(check_at));
                }
                taken = self.queue.recv_many(&mut buffer, MESSAGES_PER_FRAME_MAX) => {
                    if taken == 0 {
                        return Ok(());
                    }
                }
            }
        }
    }
}

/// Opens a connection. Boxed: the compiler cannot see that the future inside may move between threads.
pub(crate) fn dial(address: SocketAddr) -> BoxFuture<Result<tonic::transport::Channel, String>> {
    Box::pin(async move {
        let endpoint = tonic::transport::Endpoint::new(format!("http://{address}"))
            .map_err(|error| error.to_string())?
            .tcp_nodelay(true);
        endpoint.connect().await.map_err(|error| root_cause(&error))
    })
}

/// The words of what is at the bottom of `error`: tonic's own are only "transport error".
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// A stream as gRPC takes it; a type with a name, because the compiler loses track of the boxed one.
pub(crate) struct Outgoing<T>(pub BoxStream<'static, T>);

impl<T> futures_util::Stream for Outgoing<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        self.0.as_mut().poll_next(context)
    }
}

/// What arrives on `receiver`, as frames.
pub(crate) fn channel_frames(mut receiver: mpsc::Receiver<Bytes>) -> super::link::Frames {
    futures_util::stream::poll_fn(move |context| receiver.poll_recv(context).map(|frame| frame.map(Ok)))
        .boxed()
}
