//! The sending side: one attempt to bring a follower to a snapshot's state.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use prost::Message as _;
use tokio::sync::mpsc;

use super::super::frames::{Joiner, Splitter};
use super::super::link::{Channel, Frames, Party, Route};
use super::super::options::{Options, ms};
use super::super::timers::Clock;
use super::super::transport::{Identity, Outgoing, Surroundings, channel_frames, dial};
use super::{Snapshot, Travelled, bytes_of, checksum};
use crate::buggify::{Buggify, Point};
use crate::machine::DRIVER_PREFIX;
use crate::proto::raft as pb;
use crate::proto::raft::raft_client::RaftClient;
use crate::proto::raft::snapshot_answer::Content as Answer;
use crate::proto::raft::snapshot_frame::Content;
use crate::types::{NodeId, Term};
use crate::view::{KeyRange, PageLimit, ViewError};

/// Frames that wait for the stream to take them.
const FRAMES_PER_STREAM_MAX: usize = 2;

/// Pairs in one chunk at most.
const CHUNK_PAIRS_MAX: usize = 16 << 10;

/// After the end the receiver may take so many times `snapshot_silence_ms` to install what it has.
const INSTALL_SILENCES: u32 = 6;

/// What a snapshot stream sends.
pub(in crate::replica) struct Sending {
    pub to: NodeId,
    pub term: Term,
    pub snapshot: Arc<Snapshot>,
    pub travelled: Arc<Travelled>,
}

/// Why a snapshot was not delivered.
#[derive(Clone, Debug, thiserror::Error)]
pub(in crate::replica) enum SendError {
    /// The receiver or the way to it failed.
    #[error("{0}")]
    Stream(String),
    /// Our own state cannot be read.
    #[error("reading the state: {0}")]
    Unreadable(ViewError),
}

impl From<String> for SendError {
    fn from(reason: String) -> Self {
        Self::Stream(reason)
    }
}

/// Streams `sending` to its receiver. `Ok(true)`: installed there; `Ok(false)`: it did not want it.
pub(in crate::replica) async fn send(
    sending: Sending,
    identity: Identity,
    options: Options,
    surroundings: Surroundings,
) -> Result<bool, SendError> {
    let to = sending.to;
    let address = *identity.nodes.get(&to).ok_or_else(|| format!("{to} has no address"))?;
    let route = Route { from: Party::Node(identity.id), to: Party::Node(to), channel: Channel::Snapshot };
    let Surroundings { link, clock, buggify, .. } = surroundings;
    let (frames, receiver) = mpsc::channel::<Bytes>(FRAMES_PER_STREAM_MAX);
    let mut splitter = Splitter::default();
    let hello = splitter.split(&pb::SnapshotFrame { content: Some(Content::Hello(identity.hello(to))) });
    let body = link.outbound(route, channel_frames(receiver));
    let body = futures_util::stream::iter(hello).chain(body.filter_map(|frame| async move { frame.ok() }));
    let body = Outgoing(body.map(|payload| pb::Frame { payload }).boxed());

    let permitted = link.connect(route);
    let opening = async move {
        permitted.await?;
        let channel = dial(address).await?;
        RaftClient::new(channel).snapshot(body).await.map_err(|status| status.message().to_owned())
    };
    let timeout = ms(options.connect_timeout_ms);
    let opened = clock
        .timeout(timeout, opening)
        .await
        .ok_or_else(|| "no answer to the attempt to connect".to_owned())??;
    let answers = opened.into_inner().map(|frame| match frame {
        Ok(frame) => Ok(frame.payload),
        Err(status) => Err(status.message().to_owned()),
    });
    let silence = ms(options.snapshot_silence_ms);
    let answers = link.inbound(route.back(), answers.boxed());
    let mut stream = Stream { to, frames: Some(frames), splitter, answers, clock, silence };

    let offer = pb::SnapshotOffer { term: sending.term.0, state: Some(sending.snapshot.summary.record()) };
    stream.send(Content::Offer(offer)).await?;
    let wanted = match stream.answer(silence).await? {
        Answer::Wanted(wanted) => wanted,
        Answer::Result(result) => return Ok(stream.ended(&result)),
    };
    for content in contents(&sending, &options, &buggify, wanted) {
        let content = content?;
        if buggify.forces(Point::AbandonedSnapshot) {
            return Err(SendError::Stream("given up without a reason".to_owned()));
        }
        let bytes = if let Content::Chunk(chunk) = &content { bytes_of(&chunk.pairs) } else { 0 };
        if !stream.send(content).await? {
            break; // the receiver has answered already
        }
        sending.travelled.sent_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
    stream.frames = None;
    match stream.answer(silence * INSTALL_SILENCES).await? {
        Answer::Result(result) => Ok(stream.ended(&result)),
        Answer::Wanted(_) => Err(format!("{to} asked twice where to go on").into()),
    }
}

/// An open stream.
struct Stream {
    to: NodeId,
    /// `None` once everything was sent.
    frames: Option<mpsc::Sender<Bytes>>,
    splitter: Splitter,
    answers: Frames,
    clock: Clock,
    silence: Duration,
}

impl Stream {
    /// False: the receiver takes no more.
    async fn send(&mut self, content: Content) -> Result<bool, String> {
        let Self { to, clock, silence, .. } = self;
        let Some(frames) = &self.frames else { return Ok(false) };
        for frame in self.splitter.split(&pb::SnapshotFrame { content: Some(content) }) {
            match clock.timeout(*silence, frames.send(frame)).await {
                Some(Ok(())) => {}
                Some(Err(_)) => return Ok(false),
                None => return Err(format!("{to} took nothing for {silence:?}")),
            }
        }
        Ok(true)
    }

    async fn answer(&mut self, wait: Duration) -> Result<Answer, String> {
        let Self { to, clock, answers, .. } = self;
        let mut joiner = Joiner::default();
        loop {
            let frame = clock.timeout(wait, answers.next()).await;
            let frame = frame.ok_or_else(|| format!("{to} did not answer within {wait:?}"))?;
            let Some(answer) = joiner.join(frame.ok_or("the stream ended without an answer")??)? else {
                continue;
            };
            let answer = pb::SnapshotAnswer::decode(answer).map_err(|error| error.to_string())?;
            return answer.content.ok_or_else(|| "an empty answer".to_owned());
        }
    }

    fn ended(&self, result: &pb::SnapshotResult) -> bool {
        if !result.installed {
            tracing::debug!(to = %self.to, reason = result.reason, "snapshot not installed");
        }
        result.installed
    }
}

/// The chunks from where they are `wanted`, produced one by one, and the end.
fn contents<'a>(
    sending: &'a Sending,
    options: &Options,
    buggify: &'a Buggify,
    wanted: pb::SnapshotWanted,
) -> impl Iterator<Item = Result<Content, SendError>> + use<'a> {
    let limit = PageLimit { pairs_max: CHUNK_PAIRS_MAX, bytes_max: options.snapshot_chunk_bytes_max };
    // The driver's own records come first.
    let machine = KeyRange { start: vec![DRIVER_PREFIX + 1], end: None };
    let mut range = Some(if wanted.pairs == 0 { machine } else { machine.after(&wanted.after) });
    let mut before = wanted.pairs;
    std::iter::from_fn(move || {
        let current = range.take()?;
        let pairs_max = if buggify.forces(Point::TinyChunk) { 1 } else { limit.pairs_max };
        let limit = PageLimit { pairs_max, ..limit };
        let page = match sending.snapshot.view.page(&current, limit) {
            Ok(page) => page,
            Err(error) => return Some(Err(SendError::Unreadable(error))),
        };
        let Some((last, _)) = page.last() else {
            return Some(Ok(Content::End(pb::SnapshotEnd { pairs: before })));
        };
        range = Some(current.after(last));
        let pairs: Vec<pb::KeyValue> = page
            .into_iter()
            .map(|(key, value)| pb::KeyValue { key: key.into(), value: value.into() })
            .collect();
        let chunk = pb::SnapshotChunk { checksum: checksum(&pairs), before, pairs };
        before += chunk.pairs.len() as u64;
        Some(Ok(Content::Chunk(chunk)))
    })
}
