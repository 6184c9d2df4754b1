//! The gRPC side of the peers' streams: what arrives goes into the driver's inbox.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use prost::Message as _;
use tonic::{Request, Response, Status, Streaming};

use super::driver::Event;
use super::frames::Joiner;
use super::link::{Channel, Frames, Party, Route};
use super::options::Options;
use super::transport::{Identity, Surroundings};
use super::{Handle, snapshots};
use crate::machine::StateMachine;
use crate::proto::raft as pb;
use crate::proto::raft::raft_server::Raft;
use crate::raft::Message;
use crate::storage::Volume;
use crate::types::NodeId;

/// What the service knows besides the driver.
pub(super) struct Context {
    pub identity: Identity,
    pub options: Options,
    pub surroundings: Surroundings,
    pub volume: Arc<dyn Volume>,
}

/// Receives the peers' streams for one replica.
pub struct RaftService<M: StateMachine> {
    handle: Handle<M>,
}

impl<M: StateMachine> Clone for RaftService<M> {
    fn clone(&self) -> Self {
        Self { handle: self.handle.clone() }
    }
}

type Answers = std::pin::Pin<Box<dyn Stream<Item = Result<pb::Frame, Status>> + Send>>;

#[tonic::async_trait]
impl<M: StateMachine> Raft for RaftService<M> {
    type MessagesStream = Answers;

    async fn messages(&self, request: Request<Streaming<pb::Frame>>) -> Result<Response<Answers>, Status> {
        let handle = self.handle.clone();
        let frames = request.into_inner();
        let answers = async_stream::stream! {
            // The stream of answers stays empty; its end tells the peer why it was closed.
            match handle.receive_messages(frames).await {
                Ok(()) => {}
                Err(reason) => yield Err(Status::failed_precondition(reason)),
            }
        };
        Ok(Response::new(Box::pin(answers)))
    }

    async fn snapshot(&self, request: Request<Streaming<pb::Frame>>) -> Result<Response<pb::Frame>, Status> {
        let mut frames = request.into_inner();
        let handle = self.handle.clone();
        // A task of its own: gRPC drops this call when the sender goes away, and the driver waits for an ending.
        let context = handle.service.clone();
        let answering = context.clone();
        let (named, sender) = tokio::sync::oneshot::channel();
        let received = tokio::spawn(async move {
            let hello = first(&mut frames).await?;
            let content = pb::SnapshotFrame::decode(hello).map_err(|error| error.to_string())?.content;
            let Some(pb::snapshot_frame::Content::Hello(hello)) = content else {
                return Err("no hello came first".to_owned());
            };
            let from = context.identity.check(&hello)?;
            let _ = named.send(from);
            let frames = context.inbound(from, Channel::Snapshot, frames);
            let (inbox, volume) = (&handle.events, &*context.volume);
            snapshots::receive(from, frames, inbox, volume, &context.options, &context.surroundings).await
        });
        let result = received.await.map_err(|error| Status::internal(error.to_string()))?;
        if let Err(reason) = &result {
            tracing::debug!(reason, "snapshot refused");
        }
        let answer = snapshots::result_frame(result);
        // Who has not said its name gets its refusal without the hook.
        let Ok(to) = sender.await else { return Ok(Response::new(answer)) };
        let payload = answering.outbound_one(to, Channel::Snapshot, answer.payload).await;
        Ok(Response::new(pb::Frame { payload: payload.map_err(Status::unavailable)? }))
    }
}

impl<M: StateMachine> RaftService<M> {
    pub(super) fn new(handle: Handle<M>) -> Self {
        Self { handle }
    }
}

impl<M: StateMachine> Handle<M> {
    async fn receive_messages(&self, mut frames: Streaming<pb::Frame>) -> Result<(), String> {
        let hello = first(&mut frames).await?;
        let content = pb::Batch::decode(hello).map_err(|error| error.to_string())?.content;
        let Some(pb::batch::Content::Hello(hello)) = content else {
            return Err("no hello came first".to_owned());
        };
        let from = self.service.identity.check(&hello)?;
        self.events.send(Event::PeerOpened { from }).await.map_err(|_| "the node is stopping")?;
        let mut frames = self.service.inbound(from, Channel::Peer, frames);
        let mut joiner = Joiner::default();
        while let Some(frame) = frames.next().await {
            let Some(batch) = joiner.join(frame?)? else { continue };
            let batch = pb::Batch::decode(batch).map_err(|error| error.to_string())?;
            let Some(pb::batch::Content::Messages(batch)) = batch.content else {
                return Err("something else than messages".to_owned());
            };
            let messages = batch.messages.into_iter().map(Message::try_from).collect::<Result<Vec<_>, _>>();
            let messages = messages.map_err(|error| error.to_string())?;
            // Waiting here is the back-pressure: the stream is not read meanwhile.
            let event = Event::Messages { from, messages };
            self.events.send(event).await.map_err(|_| "the node is stopping")?;
        }
        Ok(())
    }
}

impl Context {
    fn inbound(&self, from: NodeId, channel: Channel, frames: Streaming<pb::Frame>) -> Frames {
        let route = Route { from: Party::Node(from), to: Party::Node(self.identity.id), channel };
        let frames = frames.map(|frame| match frame {
            Ok(frame) => Ok(frame.payload),
            Err(status) => Err(status.message().to_owned()),
        });
        self.surroundings.link.inbound(route, frames.boxed())
    }

    /// The one message of a reply, through the hook.
    async fn outbound_one(&self, to: NodeId, channel: Channel, payload: Bytes) -> Result<Bytes, String> {
        let route = Route { from: Party::Node(self.identity.id), to: Party::Node(to), channel };
        let one = futures_util::stream::once(async { Ok(payload) }).boxed();
        let mut sent = self.surroundings.link.outbound(route, one);
        sent.next().await.unwrap_or_else(|| Err("the stream was closed".to_owned()))
    }
}

/// The first message of a stream, which the hook does not judge: it belongs to connecting.
async fn first(frames: &mut Streaming<pb::Frame>) -> Result<Bytes, String> {
    let frame = frames.message().await.map_err(|status| status.message().to_owned())?;
    let frame = frame.ok_or("the stream ended before its first message")?;
    Joiner::default().join(frame.payload)?.ok_or_else(|| "a first message of several frames".to_owned())
}
