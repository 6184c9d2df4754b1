//! Streams to the peers: one long-lived gRPC stream per direction and pair, carrying batches of Raft messages.
//!
//! - The queue to a peer is bounded and never blocks: what does not fit is lost, and Raft sends it again. A dead
//!   peer costs one attempt to connect per backoff (eRaft span at 90% of a core: B5).
//! - A stream opens when there is something to send. It is opened anew, with jittered backoff, when it breaks, or
//!   when it may lead nowhere: requests were sent and not answered for `peer_silence_ms`, or the peer opened its own
//!   anew, as it does if it hears no answers, and nothing was answered since. What a peer says of its own accord
//!   proves nothing: it comes on the peer's stream, and ours may be dead all the same.
//! - The first frame says who speaks to whom, in which cluster; the receiver refuses anything that is not for it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use tokio::sync::mpsc;

use super::frames::Splitter;
use super::link::{Channel, Link, Party, Route};
use super::options::{Options, ms};
use super::timers::{Clock, Moment};
use crate::buggify::{Buggify, Point};
use crate::proto::raft as pb;
use crate::proto::raft::raft_client::RaftClient;
use crate::raft::{Body, Message};
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
    /// What is forced here, in the simulator.
    pub buggify: Buggify,
}

/// The sending side of all peers' streams.
pub struct Transport {
    peers: BTreeMap<NodeId, Peer>,
    clock: Clock,
    buggify: Buggify,
}

struct Peer {
    queue: mpsc::Sender<Message>,
    signs: Arc<Signs>,
}

/// What a peer's messages say about our stream to it; microseconds of our clock.
#[derive(Default)]
struct Signs {
    /// When it last answered a request.
    answered_us: AtomicU64,
    /// When it last opened its stream to us.
    opened_us: AtomicU64,
}

impl Signs {
    fn answered(&self) -> Moment {
        Moment(Duration::from_micros(self.answered_us.load(Ordering::Relaxed)))
    }

    fn opened(&self) -> Moment {
        Moment(Duration::from_micros(self.opened_us.load(Ordering::Relaxed)))
    }
}

impl Transport {
    /// Starts one task per peer; they end when the transport is dropped.
    pub fn start(identity: &Identity, options: &Options, surroundings: &Surroundings) -> Self {
        let mut peers = BTreeMap::new();
        for (to, address) in identity.nodes.iter().filter(|(node, _)| **node != identity.id) {
            let (sender, queue) = mpsc::channel(options.peer_queue_capacity);
            let signs = Arc::<Signs>::default();
            let outbound = Outbound {
                hello: identity.hello(*to),
                route: Route { from: Party::Node(identity.id), to: Party::Node(*to), channel: Channel::Peer },
                address: *address,
                options: options.clone(),
                jitter: surroundings.draws.site("reconnect", to.0),
                surroundings: surroundings.clone(),
                signs: signs.clone(),
                queue,
            };
            tokio::spawn(outbound.run());
            peers.insert(*to, Peer { queue: sender, signs });
        }
        let Surroundings { clock, buggify, .. } = surroundings.clone();
        Self { peers, clock, buggify }
    }

    /// Queues `message` for `to`; it is lost if the queue is full or there is no such peer, and that is false.
    pub fn send(&self, to: NodeId, mut message: Message) -> bool {
        let Some(peer) = self.peers.get(&to) else { return false };
        if self.buggify.forces(Point::FullPeerQueue) {
            return false;
        }
        if let Body::Append { entries, .. } = &mut message.body
            && entries.len() > 1
            && self.buggify.forces(Point::ShortAppend)
        {
            entries.truncate(1);
        }
        peer.queue.try_send(message).is_ok()
    }

    /// `peer` answered a request: it hears us.
    pub fn answered(&self, peer: NodeId) {
        if let Some(peer) = self.peers.get(&peer) {
            peer.signs.answered_us.store(micros(self.clock.now()), Ordering::Relaxed);
        }
    }

    /// `peer` opened its stream to us.
    pub fn peer_opened(&self, peer: NodeId) {
        if let Some(peer) = self.peers.get(&peer) {
            peer.signs.opened_us.store(micros(self.clock.now()), Ordering::Relaxed);
        }
    }
}

fn micros(moment: Moment) -> u64 {
    u64::try_from(moment.0.as_micros()).unwrap_or(u64::MAX)
}

/// The task that feeds one peer.
struct Outbound {
    hello: pb::Hello,
    route: Route,
    address: SocketAddr,
    options: Options,
    surroundings: Surroundings,
    jitter: Site,
    signs: Arc<Signs>,
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
            // A stream that held for a while was a good one, also if it ended because the peer did not answer in time:
            // what is queued during a pause is lost, and if both sides' answers are, both find the other silent for ever.
            let held = self.surroundings.clock.now().since(started);
            let is_good = held > ms(backoff_max.min(self.options.peer_silence_ms));
            backoff_ms = if is_good { backoff_min } else { backoff_max.min(backoff_ms * 2) };
            let pause_ms = self.jitter.next().between(backoff_ms / 2, backoff_ms);
            self.surroundings.clock.sleep(ms(pause_ms)).await;
            while self.queue.try_recv().is_ok() {} // stale by now
        }
    }

    /// Opens a stream and feeds it until it breaks; `Ok` when the transport was dropped.
    async fn stream(&mut self, first: Message) -> Result<(), String> {
        let Surroundings { link, clock, buggify, .. } = self.surroundings.clone();
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
        let opened_at = clock.now();

        let mut buffer = vec![first];
        let mut asked_at: Option<Moment> = None;
        let silence = ms(self.options.peer_silence_ms);
        let mut alarm = Box::pin(clock.sleep(silence / 2));
        loop {
            if !buffer.is_empty() {
                let asks = buffer.iter().any(|message| message.body.is_request());
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
                // The first request since the last answer.
                if asks && asked_at.is_none_or(|asked| asked < self.signs.answered()) {
                    asked_at = Some(clock.now());
                }
            }
            tokio::select! {
                biased;
                ended = answers.message() => {
                    return Err(ended.err().map_or("closed by the peer".into(), |status| status.message().into()));
                }
                () = &mut alarm => {
                    if buggify.forces(Point::ReopenedStream) {
                        return Err("opened anew without a reason".into());
                    }
                    let now = clock.now();
                    let (answered, peer_opened) = (self.signs.answered(), self.signs.opened());
                    if asked_at.is_some_and(|asked| answered <= asked && now.since(asked) >= silence) {
                        return Err("not answered".into());
                    }
                    // The peer had time to answer on its new stream.
                    if peer_opened > opened_at.max(answered) && now.since(peer_opened) >= silence / 2 {
                        return Err("the peer opened its own anew".into());
                    }
                    alarm = Box::pin(clock.sleep(silence / 2));
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
