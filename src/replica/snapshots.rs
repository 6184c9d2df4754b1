//! Moving a state from one replica to another, in chunks.
//!
//! The sender streams the durable state from a store's snapshot, never a whole database in memory: hello, offer,
//! chunks in key order with a chained checksum, end. The receiver asks its core first, writes the chunks into a
//! store beside the current one, verifies, and hands the store to the driver, which switches a pointer file to it.
//! The state's own record is written last: a store without it was never complete.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use prost::Message as _;
use tokio::sync::{mpsc, oneshot};
use xxhash_rust::xxh3::Xxh3Default;

use super::driver::Event;
use super::frames::{Joiner, Splitter};
use super::link::{Channel, Frames, Party, Route};
use super::options::{Options, ms};
use super::state::{APPLIED_KEY, Summary};
use super::transport::{Identity, Outgoing, Surroundings, channel_frames, dial};
use crate::machine::StateMachine;
use crate::proto::raft as pb;
use crate::proto::raft::raft_client::RaftClient;
use crate::proto::raft::snapshot_frame::Content;
use crate::raft::Base;
use crate::storage::{StorageError, Store, Volume};
use crate::types::{Index, NodeId, Term};
use crate::view::{Batch, KeyRange, PageLimit, View};

/// Frames that wait for the stream to take them.
const FRAMES_PER_STREAM_MAX: usize = 2;

/// Pairs in one chunk at most.
const CHUNK_PAIRS_MAX: usize = 16 << 10;

/// A checksum over pairs, chained from chunk to chunk.
#[derive(Default)]
struct Checksum {
    hasher: Xxh3Default,
    pairs: u64,
}

impl Checksum {
    fn add(&mut self, pairs: &[pb::KeyValue]) -> u64 {
        for pair in pairs {
            for part in [&pair.key, &pair.value] {
                self.hasher.update(&(part.len() as u64).to_le_bytes());
                self.hasher.update(part);
            }
        }
        self.pairs += pairs.len() as u64;
        self.hasher.digest()
    }
}

// ---- sending ----

/// What a snapshot stream sends.
pub(super) struct Sending {
    pub to: NodeId,
    pub term: Term,
    pub summary: Summary,
    pub view: Arc<dyn View + Send + Sync>,
}

/// Streams `sending` to its receiver. `Ok(true)`: installed there; `Ok(false)`: it did not want it.
pub(super) async fn send(
    sending: Sending,
    identity: Identity,
    options: Options,
    surroundings: Surroundings,
) -> Result<bool, String> {
    let to = sending.to;
    let address = *identity.nodes.get(&to).ok_or_else(|| format!("{to} has no address"))?;
    let route = Route { from: Party::Node(identity.id), to: Party::Node(to), channel: Channel::Snapshot };
    let Surroundings { link, clock, .. } = surroundings;
    let (frames, receiver) = mpsc::channel::<Bytes>(FRAMES_PER_STREAM_MAX);
    let mut splitter = Splitter::default();
    let hello = splitter.split(&pb::SnapshotFrame { content: Some(Content::Hello(identity.hello(to))) });
    let body = link.outbound(route, channel_frames(receiver));
    let body = futures_util::stream::iter(hello).chain(body.filter_map(|frame| async move { frame.ok() }));
    let body = Outgoing(body.map(|payload| pb::Frame { payload }).boxed());

    let permitted = link.connect(route);
    let connect = async move {
        permitted.await?;
        dial(address).await
    };
    let timeout = ms(options.connect_timeout_ms);
    let channel = clock.timeout(timeout, connect).await.ok_or("no answer to the attempt to connect")??;
    let mut client = RaftClient::new(channel);

    let silence = ms(options.snapshot_silence_ms);
    let feeding = async {
        for content in contents(&sending, &options) {
            for frame in splitter.split(&pb::SnapshotFrame { content: Some(content?) }) {
                match clock.timeout(silence, frames.send(frame)).await {
                    Some(Ok(())) => {}
                    Some(Err(_)) => return Ok(()), // the receiver has answered already
                    None => return Err(format!("{to} took nothing for {silence:?}")),
                }
            }
        }
        drop(frames);
        Ok(())
    };
    let call = client.snapshot(body);
    let (fed, answer) = futures_util::future::join(feeding, async {
        // From the last chunk on the receiver verifies and installs; a stuck one is noticed by the feeding.
        clock.timeout(silence * 6, call).await.ok_or_else(|| format!("{to} never answered"))
    })
    .await;
    let answer = answer?.map_err(|status| status.message().to_owned())?;
    fed?;
    // The answer is one frame; the hook may judge it like any other.
    let answer: Frames = futures_util::stream::once(async { Ok(answer.into_inner().payload) }).boxed();
    let mut answer = link.inbound(route.back(), answer);
    let payload = answer.next().await.ok_or("the answer was lost")??;
    let result = pb::SnapshotResult::decode(payload).map_err(|error| error.to_string())?;
    if !result.installed {
        tracing::debug!(%to, reason = result.reason, "snapshot not installed");
    }
    Ok(result.installed)
}

/// The frames of a snapshot after the hello, produced one by one.
fn contents<'a>(
    sending: &'a Sending,
    options: &Options,
) -> impl Iterator<Item = Result<Content, String>> + use<'a> {
    let limit = PageLimit { pairs_max: CHUNK_PAIRS_MAX, bytes_max: options.snapshot_chunk_bytes_max };
    let offer = pb::SnapshotOffer { term: sending.term.0, state: Some(sending.summary.record()) };
    let mut checksum = Checksum::default();
    let mut range = Some(KeyRange::all());
    let chunks = std::iter::from_fn(move || {
        let current = range.take()?;
        let page = match sending.view.page(&current, limit) {
            Ok(page) => page,
            Err(error) => return Some(Err(error.to_string())),
        };
        let Some((last, _)) = page.last() else {
            let end = pb::SnapshotEnd { pairs: checksum.pairs, checksum: checksum.hasher.digest() };
            return Some(Ok(Content::End(end)));
        };
        range = Some(current.after(last));
        let own = |(key, _): &(Vec<u8>, Vec<u8>)| key != APPLIED_KEY;
        let pairs: Vec<pb::KeyValue> = page
            .into_iter()
            .filter(own)
            .map(|(key, value)| pb::KeyValue { key: key.into(), value: value.into() })
            .collect();
        let sum = checksum.add(&pairs);
        Some(Ok(Content::Chunk(pb::SnapshotChunk { pairs, checksum: sum })))
    });
    std::iter::once(Ok(Content::Offer(offer))).chain(chunks)
}

// ---- receiving ----

/// A complete, verified and durable snapshot beside the current state.
pub struct Staged {
    /// The sender's term in its offer.
    pub term: Term,
    /// What it covers.
    pub base: Base,
    /// The name of the store that holds it.
    pub name: String,
    /// The store.
    pub store: Arc<dyn Store>,
}

/// Receives one snapshot from the frames after the hello; the driver decides before and after.
pub(super) async fn receive<M: StateMachine>(
    from: NodeId,
    mut frames: Frames,
    inbox: &mpsc::Sender<Event<M>>,
    volume: &dyn Volume,
    options: &Options,
    surroundings: &Surroundings,
) -> Result<(), String> {
    let mut joiner = Joiner::default();
    let silence = ms(options.snapshot_silence_ms);
    let mut next = async || -> Result<Content, String> {
        loop {
            let frame = surroundings.clock.timeout(silence, frames.next()).await;
            let frame = frame.ok_or("the sender fell silent")?.ok_or("the stream ended early")??;
            if let Some(message) = joiner.join(frame)? {
                let frame = pb::SnapshotFrame::decode(message).map_err(|error| error.to_string())?;
                return frame.content.ok_or_else(|| "an empty frame".to_owned());
            }
        }
    };
    let Content::Offer(offer) = next().await? else { return Err("no offer came first".to_owned()) };
    let summary = offer.state.ok_or("an offer without a state")?;
    let summary = Summary::from_record(summary).map_err(|error| error.to_string())?;
    let term = Term(offer.term);

    let (decision, decided) = oneshot::channel();
    let offered = Event::SnapshotOffered { from, term, position: summary.base.position, decision };
    inbox.send(offered).await.map_err(|_| "the node is stopping")?;
    let name = decided.await.map_err(|_| "the node is stopping")??;

    let staged = async {
        let store = fresh_store(volume, &name).await.map_err(|error| error.to_string())?;
        let mut checksum = Checksum::default();
        loop {
            match next().await? {
                Content::Chunk(chunk) => {
                    if checksum.add(&chunk.pairs) != chunk.checksum {
                        return Err("a chunk's checksum does not match".to_owned());
                    }
                    let mut batch = Batch::new();
                    for pair in chunk.pairs {
                        batch.put(pair.key, pair.value);
                    }
                    store.write(batch).await.map_err(|error| error.to_string())?;
                }
                Content::End(end) => {
                    let complete = end.pairs == checksum.pairs && end.checksum == checksum.hasher.digest();
                    if !complete {
                        return Err("the end does not match what came before".to_owned());
                    }
                    let mut batch = Batch::new();
                    batch.put(APPLIED_KEY, summary.record().encode_to_vec());
                    store.write(batch).await.map_err(|error| error.to_string())?;
                    return Ok(store);
                }
                _ => return Err("an offer or a hello in the middle".to_owned()),
            }
        }
    }
    .await;
    let staged = staged.map(|store| Staged { term, base: summary.base, name, store });
    let (installed, answer) = oneshot::channel();
    let received = Event::SnapshotReceived { from, staged, installed };
    inbox.send(received).await.map_err(|_| "the node is stopping")?;
    answer.await.map_err(|_| "the node is stopping")?
}

async fn fresh_store(volume: &dyn Volume, name: &str) -> Result<Arc<dyn Store>, StorageError> {
    volume.remove(name).await?;
    volume.open(name).await
}

/// The name of the `number`-th state store.
pub fn state_store_name(number: u64) -> String {
    format!("state.{number}")
}

/// The number in the name of a state store.
pub fn state_store_number(name: &str) -> Option<u64> {
    name.strip_prefix("state.")?.parse().ok()
}

/// The result that goes back to the sender.
pub(super) fn result_frame(result: Result<(), String>) -> pb::Frame {
    let reason = result.as_ref().err().cloned().unwrap_or_default();
    let result = pb::SnapshotResult { installed: result.is_ok(), reason };
    pb::Frame { payload: result.encode_to_vec().into() }
}

/// The index that an installed snapshot covers, as the core wants to know it.
pub(super) fn installed_index(result: &Result<bool, String>, summary: &Summary) -> Option<Index> {
    matches!(result, Ok(true)).then_some(summary.base.position.index)
}
