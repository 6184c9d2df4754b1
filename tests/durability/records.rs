//! What the shim recorded, as it lies in its file; see `tests/shim/shim.c`.

use std::path::{Path, PathBuf};

/// The fixed part of a record.
const HEADER_BYTES: usize = 64;

/// One call of the recorded process, complete when it was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub begin_ns: u64,
    pub end_ns: u64,
    pub call: Call,
}

/// What was called. Everything succeeded, but for a write or sync with an `error`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    Open { descriptor: i32, path: PathBuf, creates: bool, truncates: bool },
    Write { descriptor: i32, offset: u64, data: Vec<u8>, error: i32 },
    Sync { descriptor: i32, call: SyncCall, error: i32 },
    Rename { from: PathBuf, to: PathBuf },
    Unlink { path: PathBuf },
    Truncate { descriptor: i32, length: u64 },
    Close { descriptor: i32 },
    MakeDirectory { path: PathBuf },
    RemoveDirectory { path: PathBuf },
}

/// How a file is synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncCall {
    /// What LevelDB uses.
    Fdatasync,
    /// What everything else uses.
    Fsync,
}

impl Call {
    /// A sync of a file as LevelDB does it.
    pub fn sync(descriptor: i32, error: i32) -> Self {
        Call::Sync { descriptor, call: SyncCall::Fdatasync, error }
    }
}

/// Reads the records in `file`. The process may have been killed while it wrote the last one, which is then left out:
/// its call had not returned.
pub fn read(file: &Path) -> Vec<Record> {
    let bytes = std::fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let (mut rest, mut records) = (&bytes[..], Vec::new());
    while let Some(length) = rest.first_chunk().map(|length| u32::from_le_bytes(*length) as usize) {
        assert!(length >= HEADER_BYTES, "a record of {length} bytes");
        let Some((record, after)) = rest.split_at_checked(length) else { break };
        records.push(parse(record));
        rest = after;
    }
    records
}

fn parse(record: &[u8]) -> Record {
    let u32_at = |at: usize| u32::from_le_bytes(record[at..at + 4].try_into().expect("four bytes"));
    let u64_at = |at: usize| u64::from_le_bytes(record[at..at + 8].try_into().expect("eight bytes"));
    let (descriptor, error) = (u32_at(24).cast_signed(), u32_at(28).cast_signed());
    let (offset, length, flags) = (u64_at(32), u64_at(40), u32_at(48));
    let (path, rest) = record[HEADER_BYTES..].split_at(u32_at(52) as usize);
    let (other, data) = rest.split_at(u32_at(56) as usize);
    assert_eq!(data.len(), u32_at(60) as usize, "a record's parts add up");
    let [path, other] = [path, other].map(|text| PathBuf::from(std::str::from_utf8(text).expect("a path")));
    let call = match u32_at(4) {
        1 => Call::Open { descriptor, path, creates: flags & 1 != 0, truncates: flags & 2 != 0 },
        2 => Call::Write { descriptor, offset, data: data.to_vec(), error },
        3 => {
            let call = if flags == 0 { SyncCall::Fsync } else { SyncCall::Fdatasync };
            Call::Sync { descriptor, call, error }
        }
        4 => Call::Rename { from: path, to: other },
        5 => Call::Unlink { path },
        6 => Call::Truncate { descriptor, length },
        7 => Call::Close { descriptor },
        8 => Call::MakeDirectory { path },
        9 => Call::RemoveDirectory { path },
        kind => panic!("a record of kind {kind}"),
    };
    Record { begin_ns: u64_at(8), end_ns: u64_at(16), call }
}

/// Made-up records, one call a nanosecond unless told otherwise.
#[derive(Clone, Default)]
pub struct Script {
    pub records: Vec<Record>,
    now_ns: u64,
}

impl Script {
    /// The next call; gives the time of its end.
    pub fn call(&mut self, call: Call) -> u64 {
        self.long_call(self.now_ns + 1, call)
    }

    /// A call that began at `begin_ns` and ends now.
    pub fn long_call(&mut self, begin_ns: u64, call: Call) -> u64 {
        self.now_ns += 2;
        self.records.push(Record { begin_ns, end_ns: self.now_ns, call });
        self.now_ns
    }

    pub fn open(&mut self, descriptor: i32, path: &str) -> u64 {
        self.call(Call::Open { descriptor, path: path.into(), creates: true, truncates: true })
    }

    pub fn open_directory(&mut self, descriptor: i32, path: &str) -> u64 {
        self.call(Call::Open { descriptor, path: path.into(), creates: false, truncates: false })
    }

    pub fn write(&mut self, descriptor: i32, offset: usize, data: &[u8]) -> u64 {
        self.call(Call::Write { descriptor, offset: offset as u64, data: data.to_vec(), error: 0 })
    }

    pub fn sync(&mut self, descriptor: i32) -> u64 {
        self.call(Call::sync(descriptor, 0))
    }
}
