//! The log store: hard state and entries as keys.
//!
//! Invariants: the hard state is rewritten in every batch; entries lie under their index without holes, from the
//! one after the base; both are checked at open.

use std::sync::Arc;

use prost::Message as _;

use super::wire::{self, Malformed};
use crate::proto::raft as pb;
use crate::raft::{Base, Entry, HardState, Log, Membership, Persist, Position};
use crate::storage::{BoxFuture, StorageError, Store};
use crate::types::Index;
use crate::view::{Batch, KeyRange, PageLimit};

const HARD_STATE_KEY: &[u8] = b"h";
const ENTRY_PREFIX: u8 = b'e';

/// How much of the log one read at open takes.
const OPEN_PAGE: PageLimit = PageLimit { pairs_max: 4096, bytes_max: 4 << 20 };

fn entry_key(index: Index) -> Vec<u8> {
    let mut key = vec![ENTRY_PREFIX];
    key.extend_from_slice(&index.0.to_be_bytes());
    key
}

/// Writes a core's [`Persist`]s and reads them back at open.
pub struct LogStore {
    store: Arc<dyn Store>,
    base: Base,
    /// The last entry that the submitted writes leave.
    last: Index,
}

impl LogStore {
    /// Opens the log in `store`; an empty store gives an empty log of `members` (the members that the group
    /// starts with).
    pub fn open(store: Arc<dyn Store>, members: &Membership) -> Result<(Self, HardState, Log), StorageError> {
        let corrupt = |key: &[u8], reason: String| StorageError::Corrupt {
            path: format!("the log store, key {}", key.escape_ascii()),
            offset: 0,
            reason,
        };
        let read = |error: crate::view::ViewError| StorageError::Io {
            action: "reading the log store".to_owned(),
            reason: error.to_string(),
        };
        let (hard, base) = match store.get(HARD_STATE_KEY).map_err(read)? {
            None => {
                let position = Position::default();
                (HardState::default(), Base { position, membership: members.clone() })
            }
            Some(record) => pb::HardState::decode(&record[..])
                .map_err(|error| Malformed(error.to_string()))
                .and_then(wire::from_hard_state_record)
                .map_err(|error| corrupt(HARD_STATE_KEY, error.to_string()))?,
        };
        let mut entries = Vec::new();
        let mut range = KeyRange::prefix(&[ENTRY_PREFIX]);
        loop {
            let page = store.page(&range, OPEN_PAGE).map_err(read)?;
            let Some((last, _)) = page.last() else { break };
            range = range.after(last);
            for (key, value) in page {
                let entry = pb::Entry::decode(&value[..])
                    .map_err(|error| Malformed(error.to_string()))
                    .and_then(Entry::try_from)
                    .map_err(|error| corrupt(&key, error.to_string()))?;
                if entry_key(entry.index) != key {
                    return Err(corrupt(&key, format!("holds entry {}", entry.index)));
                }
                entries.push(entry);
            }
        }
        let log = Log::restore(base.clone(), entries)
            .map_err(|error| corrupt(&[ENTRY_PREFIX], format!("{error}; entries are missing")))?;
        if hard.term < log.last().term {
            let reason = format!("term {} below the last entry's {}", hard.term, log.last().term);
            return Err(corrupt(HARD_STATE_KEY, reason));
        }
        Ok((Self { store, base, last: log.last().index }, hard, log))
    }

    /// One synced batch for `persists`, which follow what was written before.
    pub fn write(&mut self, persists: &[Persist]) -> BoxFuture<Result<(), StorageError>> {
        let mut batch = Batch::new();
        for persist in persists {
            if let Some(base) = &persist.base {
                self.delete(&mut batch, self.base.position.index.next(), base.position.index);
                self.base = base.clone();
                self.last = self.last.max(base.position.index);
            }
            if let Some(from) = persist.truncate {
                self.delete(&mut batch, from, self.last);
                self.last = from.previous();
            }
            for entry in &persist.append {
                batch.put(entry_key(entry.index), pb::Entry::from(entry).encode_to_vec());
                self.last = entry.index;
            }
        }
        if let Some(last) = persists.last() {
            let record = wire::hard_state_record(last.hard, &self.base);
            batch.put(HARD_STATE_KEY, record.encode_to_vec());
        }
        self.store.write(batch)
    }

    fn delete(&self, batch: &mut Batch, from: Index, through: Index) {
        for index in from.0..=through.0.min(self.last.0) {
            batch.delete(entry_key(Index(index)));
        }
    }

    /// Replaces the log by an empty one above `base`, keeping the hard state: the open-time rule's repair.
    pub async fn reset(&mut self, hard: HardState, base: Base) -> Result<Log, StorageError> {
        let mut batch = Batch::new();
        self.delete(&mut batch, self.base.position.index.next(), self.last);
        batch.put(HARD_STATE_KEY, wire::hard_state_record(hard, &base).encode_to_vec());
        self.store.write(batch).await?;
        (self.base, self.last) = (base.clone(), base.position.index);
        Ok(Log::new(base))
    }
}
