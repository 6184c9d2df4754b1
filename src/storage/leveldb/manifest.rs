//! What we read of LevelDB's MANIFEST: the number of its oldest live log.
//!
//! LevelDB replays the logs from that number on and deletes older ones; it does not notice if that log itself is
//! missing, or if the edit that named it is. Reading it here finds both, and tells which logs matter.

use std::path::{Path, PathBuf};

use super::super::StorageError;
use super::error::{corrupt, from_io};
use super::files::read_if_there;
use super::recovery::check_file;
use crate::mutants::Mutants;

/// The MANIFEST that a store is opened with.
pub(super) struct Manifest {
    /// The file.
    pub(super) path: PathBuf,
    /// Logs of lower numbers are obsolete.
    pub(super) log_number: u64,
}

/// Reads CURRENT in `directory` and the MANIFEST that it names, and cuts a torn edit off that.
pub(super) fn read(directory: &Path) -> Result<Manifest, StorageError> {
    let current = directory.join("CURRENT");
    // A store gets its name only when it is complete (see `volume`), so this is not one that was being made.
    let content = read_if_there(&current)?.ok_or_else(|| corrupt(&current, 0, "the file is missing"))?;
    let name = std::str::from_utf8(&content).ok().and_then(|text| text.strip_suffix('\n'));
    let Some(name) = name.filter(|name| name.starts_with("MANIFEST-") && !name.contains('/')) else {
        return Err(corrupt(&current, 0, "it should hold the name of a MANIFEST and a line end"));
    };
    let path = directory.join(name);
    if !path.try_exists().map_err(|error| from_io("looking for", &path, &error))? {
        return Err(corrupt(&path, 0, "CURRENT names it, but the file is missing"));
    }
    let mut log_number = None;
    let mut bad_edit = None;
    check_file(&path, true, Mutants::default(), |offset, edit| {
        let read = log_number_of(edit);
        match read {
            Ok(number) => log_number = number.or(log_number),
            Err(reason) => bad_edit = bad_edit.take().or(Some((offset, reason))),
        }
        Ok(())
    })?;
    if let Some((offset, reason)) = bad_edit {
        return Err(corrupt(&path, offset, reason));
    }
    let Some(log_number) = log_number else {
        return Err(corrupt(&path, 0, "no edit in it names a log"));
    };
    Ok(Manifest { path, log_number })
}

/// The log number in one version edit, if it has one.
fn log_number_of(edit: &[u8]) -> Result<Option<u64>, String> {
    let mut input = Input(edit);
    let mut log_number = None;
    while !input.0.is_empty() {
        match input.varint()? {
            // Comparator name.
            1 => input.skip_bytes()?,
            2 => log_number = Some(input.varint()?),
            // Next file number, last sequence number, previous log number.
            3 | 4 | 9 => drop(input.varint()?),
            // Compaction pointer: level and key.
            5 => {
                input.varint()?;
                input.skip_bytes()?;
            }
            // Deleted file: level and number.
            6 => {
                input.varint()?;
                input.varint()?;
            }
            // New file: level, number, size, smallest and largest key.
            7 => {
                for _ in 0..3 {
                    input.varint()?;
                }
                input.skip_bytes()?;
                input.skip_bytes()?;
            }
            tag => return Err(format!("an edit has the unknown tag {tag}")),
        }
    }
    Ok(log_number)
}

/// A cursor over an edit.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn varint(&mut self) -> Result<u64, String> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or("an edit ends inside a number")?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("an edit has a number of too many bytes".to_string())
    }

    fn skip_bytes(&mut self) -> Result<(), String> {
        let length = usize::try_from(self.varint()?).ok();
        self.0 = length.and_then(|length| self.0.get(length..)).ok_or("an edit ends inside a key")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::log_number_of;

    #[test]
    fn edits_are_read() {
        let new_file = [7, 0, 5, 0xff, 1, 2, b'a', b'b', 1, b'c'];
        let edit = [&[1, 3, b'x', b'y', b'z', 2, 0x80, 1, 9, 0, 3, 7, 4, 9][..], &new_file].concat();
        assert_eq!(log_number_of(&edit), Ok(Some(128)));
        assert_eq!(log_number_of(&[6, 0, 5, 5, 1, 1, b'k']), Ok(None));
    }

    #[test]
    fn bad_edits_are_refused() {
        for edit in [&[8][..], &[2], &[1, 5, b'x'], &[2, 0x80], &[2; 1], &[0x80; 11], &[7, 0, 5, 1, 9]] {
            assert!(log_number_of(edit).is_err(), "{edit:?} is no edit");
        }
    }
}
