//! What is checked before LevelDB opens a store, and what is cut off.
//!
//! The caller holds the data directory's lock. In this order: the MANIFEST that CURRENT names, then every log that
//! LevelDB would replay. Only the newest file of a kind may end in a torn write; that is cut off, so that LevelDB,
//! which is paranoid, does not refuse it. Everything else that is not as it was written refuses the store, with file
//! and offset. Each record's sequence number must follow from the one before, across logs too: whole records that
//! are missing between others are found as well.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::super::StorageError;
use super::error::{corrupt, from_io};
use super::files::{cut, names_in, sync_file};
use super::manifest;
use super::wal::{self, Verdict};
use crate::mutants::{MutantId, Mutants};

/// Sequence number and count, at the beginning of every record of a log.
const BATCH_HEADER_BYTES: usize = 12;

/// Checks the store in `directory` and makes it ready for LevelDB.
pub(super) fn prepare(directory: &Path, mutants: Mutants) -> Result<(), StorageError> {
    let manifest = manifest::read(directory)?;
    let mut logs = logs_in(directory)?;
    let live = logs.split_off(&manifest.log_number);
    if !live.contains_key(&manifest.log_number) {
        let named = manifest.path.display();
        let missing = directory.join(format!("{:06}.log", manifest.log_number));
        return Err(corrupt(&missing, 0, format!("{named} names it as a live log, but the file is missing")));
    }
    let mut sequence = None;
    let newest = live.keys().next_back().copied();
    for (number, path) in &live {
        check_file(path, Some(*number) == newest, mutants, |offset, record| {
            check_batch(path, offset, record, &mut sequence)
        })?;
        // LevelDB begins a new log now. If a killed process had written its last record without a sync, a loss of power
        // before the next MANIFEST would leave a torn record with a newer log after it, which is taken for damage.
        sync_file(path)?;
    }
    Ok(())
}

/// The logs in a store's directory by number, as LevelDB parses their names.
pub(super) fn logs_in(directory: &Path) -> Result<BTreeMap<u64, PathBuf>, StorageError> {
    let number = |name: &str| name.strip_suffix(".log").and_then(|digits| digits.parse().ok());
    let names = names_in(directory)?;
    Ok(names.iter().filter_map(|name| Some((number(name)?, directory.join(name)))).collect())
}

/// Checks that a log's record continues the one before: `sequence` is the number that it should begin with.
fn check_batch(
    path: &Path,
    offset: usize,
    record: &[u8],
    sequence: &mut Option<u64>,
) -> Result<(), StorageError> {
    let Some((&[s0, s1, s2, s3, s4, s5, s6, s7, c0, c1, c2, c3], _)) =
        record.split_first_chunk::<BATCH_HEADER_BYTES>()
    else {
        return Err(corrupt(path, offset, "the record is too short for a batch"));
    };
    let found = u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
    if let Some(expected) = sequence.filter(|expected| *expected != found) {
        let reason = format!("the record begins at sequence number {found} where {expected} should follow");
        return Err(corrupt(path, offset, reason));
    }
    *sequence = Some(found.saturating_add(u32::from_le_bytes([c0, c1, c2, c3]).into()));
    Ok(())
}

/// Scans the file at `path`, calls `each` with every whole record, and cuts off a torn one if `may_be_torn`.
///
/// A file is read as a whole: a log is bounded by the write buffer and one group of writes.
pub(super) fn check_file(
    path: &Path,
    may_be_torn: bool,
    mutants: Mutants,
    mut each: impl FnMut(usize, &[u8]) -> Result<(), StorageError>,
) -> Result<(), StorageError> {
    let content = fs::read(path).map_err(|error| from_io("reading", path, &error))?;
    let mut result = Ok(());
    let verdict = wal::scan(&content, |offset, record| {
        if result.is_ok() {
            result = each(offset, record);
        }
    });
    result?;
    match verdict {
        Verdict::Corrupt { .. } if mutants.is(MutantId::DiskChecksumIgnored) => Ok(()),
        Verdict::Torn { .. } if mutants.is(MutantId::DiskTornTailAccepted) => Ok(()),
        Verdict::Whole => Ok(()),
        Verdict::Corrupt { offset, flaw, next } => {
            Err(corrupt(path, offset, format!("{flaw}, and a valid record follows at byte {next}")))
        }
        Verdict::Torn { offset, flaw } if !may_be_torn => {
            Err(corrupt(path, offset, format!("{flaw}, and a newer log follows")))
        }
        Verdict::Torn { offset, flaw } => {
            let (path_shown, bytes) = (path.display(), content.len() - offset);
            tracing::warn!(path = %path_shown, offset, bytes, %flaw, "cutting off a torn write");
            cut(path, offset as u64)
        }
    }
}
