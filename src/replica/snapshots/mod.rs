//! Moving a state from one replica to another, in chunks, and on from where it was interrupted.
//!
//! One stream, both ways. The sender says hello and offers the durable state as it is in a store's snapshot, never a
//! whole database in memory. The receiver asks its core, looks at what it has of that very state already, and says
//! after which key it wants the rest. Then come chunks in key order, and an end; the answer is the result.
//!
//! - The receiver writes each chunk, synced and together with how far it has got, into a store beside the current one
//!   ([`staging`]). An interrupted stream, a crash of either side included, costs the chunk that was under way.
//! - What is received must add up to the sender's own summary of its state: the replica hash, the number and the size
//!   of all pairs. That holds however often it was interrupted, and whoever sent which part: replicas that have applied
//!   the same entries hold the same pairs.
//! - The state's own record is written last: a store without it was never complete. Then the driver switches a pointer
//!   file to that store.
//! - The sender keeps its store snapshot for `snapshot_hold_ms` after a failure, so that the next attempt offers the
//!   same state; the receiver keeps its part as long.

mod receive;
mod send;
mod staging;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use xxhash_rust::xxh3::Xxh3Default;

pub(super) use receive::{Receiving, Staged, answer_frame, receive};
pub(super) use send::{SendError, Sending, send};

use super::state::Summary;
use crate::proto::raft as pb;
use crate::view::View;

/// A durable state that is being sent, or may be asked for again.
pub(super) struct Snapshot {
    /// What it covers and sums up to.
    pub summary: Summary,
    /// Its pairs.
    pub view: Arc<dyn View + Send + Sync>,
}

/// How much of other replicas' states, and of ours, has travelled since the process started.
#[derive(Debug, Default)]
pub(super) struct Travelled {
    sent_bytes: AtomicU64,
    received_bytes: AtomicU64,
}

impl Travelled {
    /// Bytes of keys and values that were handed to streams.
    pub fn sent_bytes(&self) -> u64 {
        self.sent_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of keys and values that were received and are durable.
    pub fn received_bytes(&self) -> u64 {
        self.received_bytes.load(Ordering::Relaxed)
    }
}

/// The checksum of one chunk.
fn checksum(pairs: &[pb::KeyValue]) -> u64 {
    let mut hasher = Xxh3Default::new();
    for part in pairs.iter().flat_map(|pair| [&pair.key, &pair.value]) {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.digest()
}

fn bytes_of(pairs: &[pb::KeyValue]) -> u64 {
    pairs.iter().map(|pair| (pair.key.len() + pair.value.len()) as u64).sum()
}
