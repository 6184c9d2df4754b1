//! The gRPC side of the peers' streams: what arrives goes into the driver's inbox.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use prost::Message as _;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

use super::Handle;
use super::driver::Event;
use super::frames::Joiner;
use super::link::{Channel, Frames, Party, Route};
use super::options::Options;
use super::snapshots::{Receiving, Travelled, answer_frame, receive};
use super::transport::{Identity, Surroundings, channel_frames};
use crate::machine::StateMachine;
use crate::mutants::Mutants;
use crate::proto::raft as pb;
use crate::proto::raft::raft_server::Raft;
use crate::raft::Message;
use crate::storage::Volume;
use crate::types::NodeId;

/// Answers of a snapshot stream that wait: there are two.
const ANSWERS_MAX: usize = 2;

/// What the service knows besides the driver.
pub(super) struct Context {
    pub identity: Identity,
    pub options: Options,
    pub surroundings: Surroundings,
    pub volume: Arc<dyn Volume>,
    /// Planted bugs; of size zero without the feature `mutants`.
    pub mutants: Mutants,
    pub travelled: Arc<Travelled>,
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

    type SnapshotStream = Answers;

    async fn snapshot(&self, request: Request<Streaming<pb::Frame>>) -> Result<Response<Answers>, Status> {
        let handle = self.handle.clone();
        let mut frames = request.into_inner();
        let answers = async_stream::stream! {
            let from = match handle.service.snapshot_hello(&mut frames).await {
                Ok(from) => from,
                Err(reason) => {
                    yield Err(Status::failed_precondition(reason));
                    return;
                }
            };
            let (answers, receiver) = mpsc::channel(ANSWERS_MAX);
            let route = handle.service.route(from, Channel::Snapshot);
            let mut outbound = handle.service.surroundings.link.outbound(route.back(), channel_frames(receiver));
            // A task of its own: gRPC drops this call when the sender goes away, and the driver waits for an ending.
            tokio::spawn(handle.receive_snapshot(from, frames, answers));
            while let Some(payload) = outbound.next().await {
                yield payload.map(|payload| pb::Frame { payload }).map_err(Status::unavailable);
            }
        };
        Ok(Response::new(Box::pin(answers)))
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

impl<M: StateMachine> Handle<M> {
    async fn receive_snapshot(
        self,
        from: NodeId,
        frames: Streaming<pb::Frame>,
        answers: mpsc::Sender<Bytes>,
    ) {
        let context = &*self.service;
        let frames = context.inbound(from, Channel::Snapshot, frames);
        let receiving = Receiving { from, frames, answers: &answers, context };
        let result = receive(receiving, &self.events).await;
        if let Err(reason) = &result {
            tracing::debug!(%from, reason, "snapshot not installed");
        }
        let installed = result.is_ok();
        let result = pb::SnapshotResult { installed, reason: result.err().unwrap_or_default() };
        // If the sender is gone, it learns the result otherwise: from our log.
        let _ = answers.send(answer_frame(pb::snapshot_answer::Content::Result(result))).await;
    }
}

impl Context {
    fn route(&self, from: NodeId, channel: Channel) -> Route {
        Route { from: Party::Node(from), to: Party::Node(self.identity.id), channel }
    }

    async fn snapshot_hello(&self, frames: &mut Streaming<pb::Frame>) -> Result<NodeId, String> {
        let hello = first(frames).await?;
        let content = pb::SnapshotFrame::decode(hello).map_err(|error| error.to_string())?.content;
        let Some(pb::snapshot_frame::Content::Hello(hello)) = content else {
            return Err("no hello came first".to_owned());
        };
        self.identity.check(&hello)
    }

    fn inbound(&self, from: NodeId, channel: Channel, frames: Streaming<pb::Frame>) -> Frames {
        let route = self.route(from, channel);
        let frames = frames.map(|frame| match frame {
            Ok(frame) => Ok(frame.payload),
            Err(status) => Err(status.message().to_owned()),
        });
        self.surroundings.link.inbound(route, frames.boxed())
    }
}

/// The first message of a stream, which the hook does not judge: it belongs to connecting.
async fn first(frames: &mut Streaming<pb::Frame>) -> Result<Bytes, String> {
    let frame = frames.message().await.map_err(|status| status.message().to_owned())?;
    let frame = frame.ok_or("the stream ended before its first message")?;
    Joiner::default().join(frame.payload)?.ok_or_else(|| "a first message of several frames".to_owned())
}
