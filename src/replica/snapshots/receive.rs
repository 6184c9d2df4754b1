//! The receiving side: from the offer to a complete, verified and durable store that the driver can switch to.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::StreamExt as _;
use prost::Message as _;
use tokio::sync::{mpsc, oneshot};

use super::super::driver::Event;
use super::super::frames::{Joiner, Splitter};
use super::super::link::Frames;
use super::super::options::ms;
use super::super::service::Context;
use super::super::state::Summary;
use super::bytes_of;
use super::staging::Staging;
use crate::machine::StateMachine;
use crate::mutants::MutantId;
use crate::proto::raft as pb;
use crate::proto::raft::snapshot_answer::Content as Answer;
use crate::proto::raft::snapshot_frame::Content;
use crate::raft::Base;
use crate::storage::Store;
use crate::types::{NodeId, Term};

/// A complete, verified and durable snapshot beside the current state.
pub(in crate::replica) struct Staged {
    /// The sender's term in its offer.
    pub term: Term,
    /// What it covers.
    pub base: Base,
    /// The name of the store that holds it.
    pub name: String,
    /// The store.
    pub store: Arc<dyn Store>,
}

/// One stream, after its hello.
pub(in crate::replica) struct Receiving<'a> {
    pub from: NodeId,
    pub frames: Frames,
    /// What goes back, as frames.
    pub answers: &'a mpsc::Sender<Bytes>,
    pub context: &'a Context,
}

/// Receives one snapshot; the driver decides before and after.
pub(in crate::replica) async fn receive<M: StateMachine>(
    mut receiving: Receiving<'_>,
    inbox: &mpsc::Sender<Event<M>>,
) -> Result<(), String> {
    let stopping = "the node is stopping";
    let (from, context) = (receiving.from, receiving.context);
    let mut joiner = Joiner::default();
    let Content::Offer(offer) = receiving.next(&mut joiner).await? else {
        return Err("no offer came first".to_owned());
    };
    let summary = offer.state.ok_or("an offer without a state")?;
    let summary = Summary::from_record(summary).map_err(|error| error.to_string())?;
    let term = Term(offer.term);

    let (decision, decided) = oneshot::channel();
    let offered = Event::SnapshotOffered { from, term, position: summary.base.position, decision };
    inbox.send(offered).await.map_err(|_| stopping)?;
    let name = decided.await.map_err(|_| stopping)??;

    let staged = async {
        let staging = Staging::open(&*context.volume, &name, summary.clone(), context.mutants).await;
        let mut staging = staging.map_err(|error| error.to_string())?;
        let wanted = staging.wanted();
        tracing::debug!(%from, pairs = wanted.pairs, "receiving a snapshot, from after so many pairs");
        // If the sender is gone, its frames end.
        let _ = receiving.answers.send(answer_frame(Answer::Wanted(wanted))).await;
        loop {
            match receiving.next(&mut joiner).await? {
                Content::Chunk(chunk) => {
                    let bytes = bytes_of(&chunk.pairs);
                    staging.add(chunk).await?;
                    context.travelled.received_bytes.fetch_add(bytes, Ordering::Relaxed);
                }
                Content::End(end) => return staging.finish(&end).await,
                _ => return Err("an offer or a hello in the middle".to_owned()),
            }
        }
    }
    .await;
    let staged = staged.map(|store| Staged { term, base: summary.base, name, store });
    if staged.is_err() && context.mutants.is(MutantId::AsyncPanicSwallowed) {
        return Err("it ended without a word".to_owned());
    }
    let (installed, answer) = oneshot::channel();
    let received = Event::SnapshotReceived { from, staged, installed };
    inbox.send(received).await.map_err(|_| stopping)?;
    answer.await.map_err(|_| stopping)?
}

impl Receiving<'_> {
    async fn next(&mut self, joiner: &mut Joiner) -> Result<Content, String> {
        let silence = ms(self.context.options.snapshot_silence_ms);
        loop {
            let frame = self.context.surroundings.clock.timeout(silence, self.frames.next()).await;
            let frame = frame.ok_or("the sender fell silent")?.ok_or("the stream ended early")??;
            if let Some(message) = joiner.join(frame)? {
                let frame = pb::SnapshotFrame::decode(message).map_err(|error| error.to_string())?;
                return frame.content.ok_or_else(|| "an empty frame".to_owned());
            }
        }
    }
}

/// An answer on its way to the sender: small, so one frame.
pub(in crate::replica) fn answer_frame(content: Answer) -> Bytes {
    let answer = pb::SnapshotAnswer { content: Some(content) };
    Splitter::default().split(&answer).swap_remove(0)
}
