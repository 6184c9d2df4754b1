//! The state store behind its overlay.
//!
//! Applied entries collect in a bounded overlay that reads see; it is flushed, off the consensus path, as one
//! atomic batch together with the applied position. A crash loses exactly the overlay: a restart applies the log
//! again from the durable position, so nothing is applied twice (eRaft kept no applied index and doubled every
//! append at a restart: B2).
//!
//! Layers, newest first: `recent` (applied since the last flush began), `flushing` (on its way to the disk), the
//! store.

use std::collections::BTreeMap;
use std::sync::Arc;

use prost::Message as _;

use super::snapshots::Snapshot;
use super::wire::Malformed;
use crate::machine::{Content, DRIVER_PREFIX, hash_delta};
use crate::mutants::{MutantId, Mutants};
use crate::proto::raft as pb;
use crate::raft::{Base, Membership, Position};
use crate::storage::{BoxFuture, StorageError, Store};
use crate::view::{Batch, KeyRange, PageLimit, Pair, View, ViewError};

/// The driver's own record; machines' keys start with another byte.
pub const APPLIED_KEY: &[u8] = b"\0applied";

/// How much of the state one read of a verification takes.
const VERIFY_PAGE: PageLimit = PageLimit { pairs_max: 4096, bytes_max: 4 << 20 };

type Layer = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// What the state covers and sums up to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The last applied entry and the members there.
    pub base: Base,
    /// Hash, number and size of the machine's pairs.
    pub content: Content,
}

impl Summary {
    /// Of an empty state.
    pub fn empty(members: &Membership) -> Self {
        let base = Base { position: Position::default(), membership: members.clone() };
        Self { base, content: Content::default() }
    }

    /// As it is stored and sent.
    pub fn record(&self) -> pb::AppliedState {
        pb::AppliedState {
            applied: Some(self.base.position.into()),
            membership: Some((&self.base.membership).into()),
            replica_hash: self.content.hash,
            keys: self.content.keys,
            bytes: self.content.bytes,
        }
    }

    /// The reverse of [`Summary::record`].
    pub fn from_record(record: pb::AppliedState) -> Result<Self, Malformed> {
        let (Some(applied), Some(membership)) = (record.applied, record.membership) else {
            return Err(Malformed("an applied state without position or members".to_owned()));
        };
        Ok(Self {
            base: Base { position: applied.into(), membership: membership.try_into()? },
            content: Content { hash: record.replica_hash, keys: record.keys, bytes: record.bytes },
        })
    }
}

/// The applied state of one replica.
pub struct State {
    store: Arc<dyn Store>,
    recent: Layer,
    recent_bytes: usize,
    flushing: Arc<Layer>,
    /// Including the overlay.
    now: Summary,
    /// Of the last completed flush.
    durable: Summary,
    mutants: Mutants,
}

impl State {
    /// Opens the state in `store`; an empty store is the empty state of `members`.
    pub fn open(store: Arc<dyn Store>, members: &Membership, mutants: Mutants) -> Result<Self, StorageError> {
        let record = store.get(APPLIED_KEY).map_err(|error| StorageError::Io {
            action: "reading the state store".to_owned(),
            reason: error.to_string(),
        })?;
        let summary = match record {
            None => Summary::empty(members),
            Some(record) => pb::AppliedState::decode(&record[..])
                .map_err(|error| Malformed(error.to_string()))
                .and_then(Summary::from_record)
                .map_err(|error| StorageError::Corrupt {
                    path: format!("the state store, key {}", APPLIED_KEY.escape_ascii()),
                    offset: 0,
                    reason: error.to_string(),
                })?,
        };
        Ok(Self {
            store,
            recent: Layer::new(),
            recent_bytes: 0,
            flushing: Arc::default(),
            durable: summary.clone(),
            now: summary,
            mutants,
        })
    }

    /// Reads everything in the store: does it add up to what the state's own record says?
    pub fn verify(&self) -> Result<(), StorageError> {
        let bad =
            |reason: String| StorageError::Corrupt { path: "the state store".to_owned(), offset: 0, reason };
        let mut range = KeyRange { start: vec![DRIVER_PREFIX + 1], end: None };
        let mut content = Content::default();
        loop {
            let page = self.store.page(&range, VERIFY_PAGE).map_err(|error| bad(error.to_string()))?;
            let Some((last, _)) = page.last() else { break };
            range = range.after(last);
            content = page.iter().fold(content, |content, (key, value)| content.with(key, value));
        }
        if content == self.durable.content {
            return Ok(());
        }
        Err(bad(format!(
            "{} keys do not add up to the record of {}",
            content.keys, self.durable.content.keys
        )))
    }

    /// What is applied.
    pub fn now(&self) -> &Summary {
        &self.now
    }

    /// What is applied and durable.
    pub fn durable(&self) -> &Summary {
        &self.durable
    }

    /// Bytes that a flush would write.
    pub fn unflushed_bytes(&self) -> usize {
        self.recent_bytes
    }

    /// True while the durable state is behind the applied one and no flush is under way.
    pub fn needs_flush(&self) -> bool {
        self.flushing.is_empty() && self.now.base.position > self.durable.base.position
    }

    /// Takes over what applying an entry wrote.
    pub fn apply(&mut self, base: Base, batch: &Batch) -> Result<(), ViewError> {
        let delta = hash_delta(self, batch)?;
        for (key, value) in &batch.writes {
            self.recent_bytes += key.len() + value.as_ref().map_or(0, Vec::len);
            self.recent.insert(key.clone(), value.clone());
        }
        self.now = Summary { base, content: self.now.content.after(delta) };
        Ok(())
    }

    /// Starts a flush of everything applied so far; [`State::flushed`] ends it. One at a time.
    pub fn flush(&mut self) -> (Summary, BoxFuture<Result<(), StorageError>>) {
        let summary = self.now.clone();
        let layer = Arc::new(std::mem::take(&mut self.recent));
        self.recent_bytes = 0;
        let mut batch = Batch { writes: Vec::with_capacity(layer.len() + 1) };
        for (key, value) in layer.iter() {
            batch.writes.push((key.clone(), value.clone()));
        }
        let record = summary.record().encode_to_vec();
        self.flushing = layer;
        if self.mutants.is(MutantId::DiskStateAndIndexInTwoBatches) {
            let mut index = Batch::new();
            index.put(APPLIED_KEY, record);
            let (first, second) = (self.store.write(index), self.store.write(batch));
            return (
                summary,
                Box::pin(async move {
                    first.await?;
                    second.await
                }),
            );
        }
        batch.put(APPLIED_KEY, record);
        (summary, self.store.write(batch))
    }

    /// The flush of `summary` is durable.
    pub fn flushed(&mut self, summary: Summary) {
        self.flushing = Arc::default();
        self.durable = summary;
    }

    /// Goes over to a snapshot that was installed in `store`; whatever was applied before is behind it.
    pub fn replace(&mut self, store: Arc<dyn Store>, members: &Membership) -> Result<(), StorageError> {
        *self = Self::open(store, members, self.mutants)?;
        Ok(())
    }

    /// The durable state as it is now, for a snapshot stream.
    pub fn snapshot(&self) -> Result<Snapshot, StorageError> {
        let view = self.store.snapshot()?;
        let corrupt = |reason: String| StorageError::Io { action: "reading a snapshot".to_owned(), reason };
        let record = view.get(APPLIED_KEY).map_err(|error| corrupt(error.to_string()))?;
        let summary = match record {
            Some(record) => pb::AppliedState::decode(&record[..])
                .map_err(|error| Malformed(error.to_string()))
                .and_then(Summary::from_record)
                .map_err(|error| corrupt(error.to_string()))?,
            None => Summary { base: self.durable.base.clone(), ..Summary::empty(&Membership::default()) },
        };
        Ok(Snapshot { summary, view })
    }
}

impl View for State {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        match self.recent.get(key).or_else(|| self.flushing.get(key)) {
            Some(value) => Ok(value.clone()),
            None => self.store.get(key),
        }
    }

    /// Merges the three layers. The store's page bounds how far the layers may be trusted to be complete.
    fn page(&self, range: &KeyRange, limit: PageLimit) -> Result<Vec<Pair>, ViewError> {
        let mut range = range.clone();
        let (mut page, mut bytes) = (Vec::new(), 0);
        loop {
            let below = self.store.page(&range, limit)?;
            let complete_to = below.last().map(|(key, _)| key.clone());
            let span = match &complete_to {
                Some(last) => KeyRange { start: range.start.clone(), end: Some([last, &[0u8][..]].concat()) },
                None => range.clone(),
            };
            let mut merged: Layer = below.into_iter().map(|(key, value)| (key, Some(value))).collect();
            for layer in [&*self.flushing, &self.recent] {
                if let Some(bounds) = span.bounds() {
                    let over = layer.range::<[u8], _>(bounds);
                    merged.extend(over.map(|(key, value)| (key.clone(), value.clone())));
                }
            }
            for (key, value) in merged {
                let Some(value) = value else { continue };
                if !limit.has_room(page.len(), bytes) {
                    return Ok(page);
                }
                bytes += key.len() + value.len();
                page.push((key, value));
            }
            let Some(last) = complete_to else { return Ok(page) };
            range = range.after(&last);
        }
    }
}
