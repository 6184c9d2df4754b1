//! A pure scan of LevelDB's log format, which its write-ahead logs and its MANIFEST share.
//!
//! A file is a row of 32 KiB blocks; a block holds physical records: a header of 7 bytes (masked CRC32C of type and
//! payload, length, type) and a payload that stays inside its block. A logical record is one `full` record, or a
//! `first`, any number of `middle` and a `last`. LevelDB syncs each logical record before it writes the next one, so
//! at most the last one can be torn. Hence the verdict on a bad spot:
//!
//! - if a logical record *starts* after it (a valid `full` or `first`), the bad one had been complete: corruption;
//! - otherwise the bad spot is in the last logical record, which is a torn write: the file ends where that begins.
//!   Its own `middle` and `last` parts may well be valid behind the bad spot, because a device may write the parts
//!   of one unsynced write in any order.
//!
//! A length field may be the bad part, so what follows is looked for at every byte of its block, not by following lengths.
//! LevelDB itself only goes on at the next block, and takes a length that points behind the end of the file for a
//! torn write whatever is there: that is how it loses synced records without a word.
//!
//! What stays undetectable: damage inside the very last logical record, and the loss of whole records from the end
//! of the file, look exactly like torn writes. What is refused although nothing is lost: a torn write whose payload
//! contains, in the block of the tear, bytes that are themselves a valid log record.

use std::fmt;

/// Records do not cross a multiple of this.
pub const BLOCK_BYTES: usize = 32 << 10;

/// Checksum, length and type.
pub const HEADER_BYTES: usize = 7;

/// LevelDB stores `rotate(crc) + MASK_DELTA`, so that the checksum of data that contains checksums stays good.
const MASK_DELTA: u32 = 0xa282_ead8;

/// How a scanned file ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every record is whole.
    Whole,
    /// The last record is not whole; every record before it is.
    Torn {
        /// Where that record begins: what should be cut off.
        offset: usize,
        /// What is wrong with it.
        flaw: Flaw,
    },
    /// A record is bad and another one follows it.
    Corrupt {
        /// The bad spot.
        offset: usize,
        /// What is wrong there.
        flaw: Flaw,
        /// Where the next valid record begins.
        next: usize,
    },
}

/// What is wrong with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// The file ends inside its header or payload.
    CutShort,
    /// Its length reaches beyond its block.
    TooLong,
    /// It is all zeros, as a preallocated or a lost block is.
    Zeroed,
    /// Its checksum does not match.
    Checksum,
    /// Its type is none that LevelDB writes.
    UnknownType,
    /// It continues a record that has not begun.
    NoBeginning,
    /// It begins a record of which no end follows.
    NoEnd,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Flaw::CutShort => "the file ends inside the record",
            Flaw::TooLong => "the record's length reaches beyond its block",
            Flaw::Zeroed => "there are zeros instead of a record",
            Flaw::Checksum => "the record's checksum does not match",
            Flaw::UnknownType => "the record's type is unknown",
            Flaw::NoBeginning => "the record continues one that has not begun",
            Flaw::NoEnd => "the record has no end",
        })
    }
}

/// The types of physical records that LevelDB writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Full,
    First,
    Middle,
    Last,
}

/// What is at one place of a file.
enum Found<'a> {
    End,
    /// The rest of a block, too small for a header.
    Padding {
        next: usize,
    },
    Record {
        kind: Kind,
        payload: &'a [u8],
        next: usize,
    },
    Bad(Flaw),
}

/// Walks through `file` and calls `each` with offset and payload of every whole logical record before the first
/// flaw.
pub fn scan(file: &[u8], mut each: impl FnMut(usize, &[u8])) -> Verdict {
    let mut position = 0;
    // The fragmented record that we are in: where it began and what there is of it.
    let mut open: Option<(usize, Vec<u8>)> = None;
    loop {
        let (kind, payload, next) = match physical(file, position) {
            Found::End => {
                return match open {
                    Some((offset, _)) => Verdict::Torn { offset, flaw: Flaw::NoEnd },
                    None => Verdict::Whole,
                };
            }
            Found::Padding { next } => {
                position = next;
                continue;
            }
            Found::Bad(flaw) => return judge(file, position, flaw, open.map(|(start, _)| start)),
            Found::Record { kind, payload, next } => (kind, payload, next),
        };
        open = match (kind, open) {
            (Kind::Full | Kind::First, Some((offset, _))) => {
                return Verdict::Corrupt { offset, flaw: Flaw::NoEnd, next: position };
            }
            (Kind::Middle | Kind::Last, None) => return judge(file, position, Flaw::NoBeginning, None),
            (Kind::Full, None) => {
                each(position, payload);
                None
            }
            (Kind::First, None) => Some((position, payload.to_vec())),
            (Kind::Middle, Some((start, mut record))) => {
                record.extend_from_slice(payload);
                Some((start, record))
            }
            (Kind::Last, Some((start, mut record))) => {
                record.extend_from_slice(payload);
                each(start, &record);
                None
            }
        };
        position = next;
    }
}

/// Decides between a torn write and corruption; `start` is where the fragmented record around `position` begins.
fn judge(file: &[u8], position: usize, flaw: Flaw, start: Option<usize>) -> Verdict {
    match next_start(file, position) {
        Some(next) => Verdict::Corrupt { offset: position, flaw, next },
        None => Verdict::Torn { offset: start.unwrap_or(position), flaw },
    }
}

/// Where the next logical record starts after the bad spot. A block begins with a record, and whole records lead to
/// the next one; behind a bad one, lengths mean nothing and every byte may be a beginning until the block ends.
fn next_start(file: &[u8], bad: usize) -> Option<usize> {
    let (mut position, mut lost) = (bad + 1, true);
    while position < file.len() {
        lost &= position % BLOCK_BYTES != 0;
        position = match physical(file, position) {
            Found::Record { kind: Kind::Full | Kind::First, .. } => return Some(position),
            Found::Record { next, .. } if !lost => next,
            Found::Padding { next } => next,
            _ => {
                lost = true;
                position + 1
            }
        };
    }
    None
}

/// What is at `position`.
fn physical(file: &[u8], position: usize) -> Found<'_> {
    let block_end = (position / BLOCK_BYTES + 1) * BLOCK_BYTES;
    if position >= file.len() {
        return Found::End;
    }
    if block_end - position < HEADER_BYTES {
        return Found::Padding { next: block_end };
    }
    let rest = &file[position..file.len().min(block_end)];
    let Some((header, rest)) = rest.split_first_chunk::<HEADER_BYTES>() else {
        return Found::Bad(Flaw::CutShort);
    };
    let [c0, c1, c2, c3, l0, l1, kind] = *header;
    let length = usize::from(u16::from_le_bytes([l0, l1]));
    if kind == 0 && length == 0 {
        return Found::Bad(Flaw::Zeroed);
    }
    if position + HEADER_BYTES + length > block_end {
        return Found::Bad(Flaw::TooLong);
    }
    let Some(payload) = rest.get(..length) else { return Found::Bad(Flaw::CutShort) };
    let kind_known = match kind {
        1 => Kind::Full,
        2 => Kind::First,
        3 => Kind::Middle,
        4 => Kind::Last,
        _ => return Found::Bad(Flaw::UnknownType),
    };
    if u32::from_le_bytes([c0, c1, c2, c3]) != masked_checksum(kind, payload) {
        return Found::Bad(Flaw::Checksum);
    }
    Found::Record { kind: kind_known, payload, next: position + HEADER_BYTES + length }
}

/// The checksum as LevelDB stores it.
fn masked_checksum(kind: u8, payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&[kind]), payload).rotate_right(15).wrapping_add(MASK_DELTA)
}

#[cfg(test)]
mod tests;
