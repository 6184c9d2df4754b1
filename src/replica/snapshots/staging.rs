//! A snapshot as far as it was received, in a store beside the current state.
//!
//! Invariants: a chunk is written in one synced batch with the progress that it makes, so after a crash the store holds
//! exactly what its progress says; keys only ascend, so nothing is there twice; the last batch takes the progress out
//! and puts the state's own record in, after everything was found to add up to what the sender summed up. A store
//! with pairs and without progress is no part of anything, and is thrown away.

use std::sync::Arc;

use prost::Message as _;

use super::super::state::{APPLIED_KEY, Summary};
use super::checksum;
use crate::machine::{Content, DRIVER_PREFIX};
use crate::mutants::{MutantId, Mutants};
use crate::proto::raft as pb;
use crate::session::SESSION_PREFIX;
use crate::storage::{StorageError, Store, Volume};
use crate::view::{Batch, KeyRange, PageLimit};

/// How far it has got; the driver's own record, like [`APPLIED_KEY`].
const PROGRESS_KEY: &[u8] = b"\0progress";

/// A store that is being filled.
pub(super) struct Staging {
    store: Arc<dyn Store>,
    summary: Summary,
    /// The last key; empty before the first.
    after: Vec<u8>,
    /// The sum of what is there.
    content: Content,
    mutants: Mutants,
}

impl Staging {
    /// Goes on with the store `name` if it holds a part of the state that `summary` sums up, else starts it anew.
    pub async fn open(
        volume: &dyn Volume,
        name: &str,
        summary: Summary,
        mutants: Mutants,
    ) -> Result<Self, StorageError> {
        let found = match volume.open(name).await {
            Ok(store) => Self::resume(store, &summary, mutants),
            Err(error) => {
                tracing::warn!(name, %error, "what was received of a snapshot cannot be used");
                None
            }
        };
        if let Some(staging) = found {
            return Ok(staging);
        }
        volume.remove(name).await?;
        let store = volume.open(name).await?;
        Ok(Self { store, summary, after: Vec::new(), content: Content::default(), mutants })
    }

    /// `None`: what is there does not fit, or cannot be read.
    fn resume(store: Arc<dyn Store>, summary: &Summary, mutants: Mutants) -> Option<Self> {
        let summary = summary.clone();
        let Some(record) = store.get(PROGRESS_KEY).ok()? else {
            let first = store.page(&KeyRange::all(), PageLimit { pairs_max: 1, bytes_max: 1 }).ok()?;
            let new = Self { store, summary, after: Vec::new(), content: Content::default(), mutants };
            return first.is_empty().then_some(new);
        };
        let progress = pb::SnapshotProgress::decode(&record[..]).ok()?;
        let content = Content { hash: progress.hash, keys: progress.pairs, bytes: progress.bytes };
        let fits = progress.state == Some(summary.record());
        fits.then(|| Self { store, summary, after: progress.after.into(), content, mutants })
    }

    /// Where the sender is to go on.
    pub fn wanted(&self) -> pb::SnapshotWanted {
        pb::SnapshotWanted { after: self.after.clone().into(), pairs: self.content.keys }
    }

    /// Writes the next chunk, durably.
    pub async fn add(&mut self, chunk: pb::SnapshotChunk) -> Result<(), String> {
        if checksum(&chunk.pairs) != chunk.checksum {
            return Err("a chunk's checksum does not match".to_owned());
        }
        if chunk.before != self.content.keys {
            return Err(format!("a chunk after {} pairs where {} are", chunk.before, self.content.keys));
        }
        let mut batch = Batch::new();
        for pair in chunk.pairs {
            let follows = pair.key[..] > self.after[..] || self.content.keys == 0;
            if !follows || pair.key.first() == Some(&DRIVER_PREFIX) {
                return Err(format!("a key out of place: {}", pair.key.escape_ascii()));
            }
            self.content = self.content.with(&pair.key, &pair.value);
            self.after = pair.key.to_vec();
            if self.mutants.is(MutantId::SnapshotSessionsMissing) && pair.key.starts_with(SESSION_PREFIX) {
                continue;
            }
            batch.put(pair.key, pair.value);
        }
        let progress = pb::SnapshotProgress {
            state: Some(self.summary.record()),
            after: self.after.clone().into(),
            hash: self.content.hash,
            pairs: self.content.keys,
            bytes: self.content.bytes,
        };
        batch.put(PROGRESS_KEY, progress.encode_to_vec());
        self.store.write(batch).await.map_err(|error| error.to_string())
    }

    /// Everything is there: verifies it and writes the state's own record. The store is then complete and durable.
    pub async fn finish(self, end: &pb::SnapshotEnd) -> Result<Arc<dyn Store>, String> {
        let complete = end.pairs == self.content.keys && self.content == self.summary.content;
        let mut batch = Batch::new();
        batch.delete(PROGRESS_KEY);
        if complete {
            batch.put(APPLIED_KEY, self.summary.record().encode_to_vec());
        }
        // If it does not add up, no later attempt may go on from here.
        let writing = self.store.write(batch);
        if complete && self.mutants.is(MutantId::DiskRenameBeforeSync) {
            tokio::spawn(writing);
            return Ok(self.store);
        }
        writing.await.map_err(|error| error.to_string())?;
        if complete {
            Ok(self.store)
        } else {
            Err("what came does not add up to the state that was offered".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::{Base, Membership, Position};
    use crate::storage::memory::MemoryVolume;
    use crate::types::{Index, NodeId, Term};

    const NAME: &str = "state.1";

    fn pair(key: &'static str, value: &'static str) -> pb::KeyValue {
        pb::KeyValue { key: key.into(), value: value.into() }
    }

    fn chunk(before: u64, pairs: &[pb::KeyValue]) -> pb::SnapshotChunk {
        pb::SnapshotChunk { checksum: checksum(pairs), before, pairs: pairs.to_vec() }
    }

    fn summary(index: u64, pairs: &[pb::KeyValue]) -> Summary {
        let position = Position { index: Index(index), term: Term(1) };
        let base = Base { position, membership: Membership::of([NodeId(1)]) };
        let content = pairs.iter().fold(Content::default(), |sum, pair| sum.with(&pair.key, &pair.value));
        Summary { base, content }
    }

    fn pairs() -> [pb::KeyValue; 3] {
        [pair("k/a", "1"), pair("k/b", ""), pair("k/c", "3")]
    }

    async fn open(volume: &MemoryVolume, summary: &Summary) -> Staging {
        Staging::open(volume, NAME, summary.clone(), Mutants::default()).await.expect("it opens")
    }

    #[tokio::test]
    async fn an_interrupted_transfer_goes_on_after_its_last_chunk() {
        let (volume, pairs) = (MemoryVolume::default(), pairs());
        let summary = summary(9, &pairs);
        let mut staging = open(&volume, &summary).await;
        assert_eq!(staging.wanted(), pb::SnapshotWanted::default());
        staging.add(chunk(0, &pairs[..2])).await.expect("it fits");
        drop(staging);
        let mut staging = open(&volume, &summary).await;
        assert_eq!(staging.wanted(), pb::SnapshotWanted { after: "k/b".into(), pairs: 2 });
        staging.add(chunk(2, &pairs[2..])).await.expect("it fits");
        let store = staging.finish(&pb::SnapshotEnd { pairs: 3 }).await.expect("it is complete");
        let all = store.page(&KeyRange::all(), PageLimit { pairs_max: 9, bytes_max: 999 }).expect("readable");
        let keys: Vec<_> = all.iter().map(|(key, _)| &key[..]).collect();
        assert_eq!(keys, [APPLIED_KEY, b"k/a", b"k/b", b"k/c"], "and nothing else");
    }

    #[tokio::test]
    async fn a_part_of_another_state_is_thrown_away() {
        let (volume, pairs) = (MemoryVolume::default(), pairs());
        let mut staging = open(&volume, &summary(9, &pairs)).await;
        staging.add(chunk(0, &pairs[..2])).await.expect("it fits");
        drop(staging);
        let other = summary(10, &pairs);
        let staging = open(&volume, &other).await;
        assert_eq!(staging.wanted().pairs, 0);
        assert_eq!(staging.store.get(b"k/a"), Ok(None));
    }

    #[tokio::test]
    async fn what_does_not_add_up_is_refused_and_never_gone_on_with() {
        let (volume, pairs) = (MemoryVolume::default(), pairs());
        let offered = summary(9, &pairs);
        let mut staging = open(&volume, &offered).await;
        let flipped = pb::SnapshotChunk { checksum: 1, ..chunk(0, &pairs) };
        assert!(staging.add(flipped).await.is_err_and(|error| error.contains("checksum")));
        assert!(staging.add(chunk(1, &pairs)).await.is_err_and(|error| error.contains("after 1 pairs")));
        let twice = chunk(0, &[pairs[0].clone(), pairs[0].clone()]);
        assert!(staging.add(twice).await.is_err_and(|error| error.contains("out of place")));
        drop(staging);

        let mut staging = open(&volume, &offered).await;
        let own = chunk(0, &[pair("\0applied", "x")]);
        assert!(staging.add(own).await.is_err_and(|error| error.contains("out of place")));
        drop(staging);

        // Each chunk is what was sent, but the sender's store does not hold what its summary says.
        let mut staging = open(&volume, &offered).await;
        staging
            .add(chunk(0, &[pair("k/a", "1"), pair("k/b", "x"), pair("k/c", "3")]))
            .await
            .expect("it fits");
        assert!(
            staging.finish(&pb::SnapshotEnd { pairs: 3 }).await.is_err_and(|error| error.contains("add up"))
        );
        assert_eq!(open(&volume, &offered).await.wanted().pairs, 0);
    }
}
