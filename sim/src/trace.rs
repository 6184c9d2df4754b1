//! The event trace of a run: what the digest is made of, a tail for reports, and the whole as a file.
//!
//! A trace file is a magic, a version, and bincode records up to its end. Besides the canonical bytes a record holds
//! words for people; they are no part of the digest, so a run with `--trace` has the same digest as one without.

use std::collections::VecDeque;
use std::fmt;
use std::io::{BufRead, BufWriter, Read, Write};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// The version of the canonical records; it is the first thing in every digest.
pub const TRACE_VERSION: u32 = 1;
const MAGIC: &[u8; 8] = b"eraft-tr";
/// Records kept for reports.
const TAIL_RECORDS_MAX: usize = 300;
/// A record of a file that claims more bytes than this is damaged.
const RECORD_BYTES_MAX: u64 = 64 << 20;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Simulated time.
    pub at_ns: u64,
    /// Where: `n1`, `c2`, `world`.
    pub node: String,
    /// What, as a dotted word.
    pub kind: String,
    /// The canonical bytes.
    #[serde(with = "payload")]
    pub payload: Vec<u8>,
    /// For people; not in the digest.
    pub text: String,
}

/// Hexadecimal digits in JSON, bytes in a trace file.
mod payload {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        if !serializer.is_human_readable() {
            return bytes.serialize(serializer);
        }
        serializer.serialize_str(&bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        if !deserializer.is_human_readable() {
            return Vec::deserialize(deserializer);
        }
        let text = String::deserialize(deserializer)?;
        let pair = |at: usize| text.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
        let bytes: Option<Vec<u8>> = (0..text.len()).step_by(2).map(pair).collect();
        bytes.ok_or_else(|| serde::de::Error::custom("expected pairs of hexadecimal digits"))
    }
}

impl Record {
    /// The same event? The words for people do not count.
    pub fn same(&self, other: &Record) -> bool {
        (self.at_ns, &self.node, &self.kind, &self.payload)
            == (other.at_ns, &other.node, &other.kind, &other.payload)
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.at_ns / 1_000_000;
        let rest = self.at_ns % 1_000_000;
        write!(
            f,
            "{:>6}.{:03}{:06} {:<5} {:<22} {}",
            ms / 1000,
            ms % 1000,
            rest,
            self.node,
            self.kind,
            self.text
        )?;
        if self.text.is_empty() {
            self.payload.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        }
        Ok(())
    }
}

/// Where a recorder writes the whole trace.
pub type Sink = Box<dyn Write + Send>;

/// Takes the events of a run.
pub struct Recorder {
    digest: Digest,
    tail: VecDeque<Record>,
    file: Option<BufWriter<Sink>>,
    file_error: Option<String>,
}

impl Recorder {
    /// A recorder; `sink` takes the whole trace if there is one.
    pub fn new(sink: Option<Sink>) -> Self {
        let mut recorder = Self {
            digest: Digest::default(),
            tail: VecDeque::with_capacity(TAIL_RECORDS_MAX),
            file: sink.map(BufWriter::new),
            file_error: None,
        };
        recorder.write_bytes(&[MAGIC.as_slice(), &TRACE_VERSION.to_le_bytes()].concat());
        recorder
    }

    /// Does someone read the words for people of every record?
    pub fn is_tracing(&self) -> bool {
        self.file.is_some()
    }

    /// Takes one event. `text` is asked for only when a file is written: it costs more than all the rest.
    pub fn record(
        &mut self,
        at_ns: u64,
        node: &str,
        kind: &str,
        payload: &[u8],
        text: impl FnOnce() -> String,
    ) {
        self.digest.update(at_ns, node, kind, payload);
        let text = if self.is_tracing() { text() } else { String::new() };
        // The record that falls off the tail lends its memory to the new one.
        let mut record = if self.tail.len() < TAIL_RECORDS_MAX { None } else { self.tail.pop_front() }
            .unwrap_or_else(|| Record {
                at_ns: 0,
                node: String::new(),
                kind: String::new(),
                payload: Vec::new(),
                text: String::new(),
            });
        record.at_ns = at_ns;
        node.clone_into(&mut record.node);
        kind.clone_into(&mut record.kind);
        payload.clone_into(&mut record.payload);
        record.text = text;
        if self.file.is_some() {
            match bincode::serialize(&record) {
                Ok(bytes) => self.write_bytes(&bytes),
                Err(error) => self.file_error = Some(error.to_string()),
            }
        }
        self.tail.push_back(record);
    }

    fn write_bytes(&mut self, bytes: &[u8]) {
        if let Some(file) = &mut self.file
            && let Err(error) = file.write_all(bytes)
        {
            self.file_error.get_or_insert(error.to_string());
        }
    }

    /// Ends the trace. The error is that of the trace's file: the run itself is not touched by it.
    pub fn finish(&mut self) -> Result<(), String> {
        if let Some(mut file) = self.file.take()
            && let Err(error) = file.flush()
        {
            self.file_error.get_or_insert(error.to_string());
        }
        self.file_error.take().map_or(Ok(()), Err)
    }

    /// The digest so far.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The last records.
    pub fn tail(&self) -> impl Iterator<Item = &Record> {
        self.tail.iter()
    }
}

/// Why a trace file cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TraceError {
    /// It does not start like one.
    #[error("not a trace of eraft-sim")]
    NotATrace,
    /// Another version wrote it.
    #[error("trace version {found}, this eraft-sim reads version {TRACE_VERSION}: record it again")]
    Version {
        /// The file's version.
        found: u32,
    },
    /// It breaks off or is damaged.
    #[error("damaged after record {records}: {reason}")]
    Damaged {
        /// Readable records before that.
        records: u64,
        /// What was found.
        reason: String,
    },
}

/// Reads a trace file record by record.
pub struct Reader<R> {
    source: R,
    records: u64,
}

impl<R: BufRead> Reader<R> {
    /// Reads the header.
    pub fn new(mut source: R) -> Result<Self, TraceError> {
        let mut header = [0; MAGIC.len() + 4];
        source.read_exact(&mut header).map_err(|_| TraceError::NotATrace)?;
        if &header[..MAGIC.len()] != MAGIC {
            return Err(TraceError::NotATrace);
        }
        let found = u32::from_le_bytes(header[MAGIC.len()..].try_into().expect("four bytes"));
        if found != TRACE_VERSION {
            return Err(TraceError::Version { found });
        }
        Ok(Self { source, records: 0 })
    }

    /// The next record; `None` at the end.
    pub fn read(&mut self) -> Result<Option<Record>, TraceError> {
        let damaged = |reason: String| TraceError::Damaged { records: self.records, reason };
        if self.source.fill_buf().map_err(|error| damaged(error.to_string()))?.is_empty() {
            return Ok(None);
        }
        // The limit bounds what a damaged length makes bincode allocate.
        let limited = self.source.by_ref().take(RECORD_BYTES_MAX);
        let record = bincode::deserialize_from(limited).map_err(|error| damaged(error.to_string()))?;
        self.records += 1;
        Ok(Some(record))
    }
}

/// The first difference between two traces.
#[derive(Clone, Debug, PartialEq)]
pub struct Divergence {
    /// Its number, counted from 1.
    pub record: u64,
    /// The last records that are the same in both.
    pub before: Vec<Record>,
    /// What the first trace has from there on; empty if it ends there.
    pub left: Vec<Record>,
    /// What the second trace has from there on.
    pub right: Vec<Record>,
}

/// Compares two traces; `Ok(Err(records))`: the same, so many records.
pub fn diff<L: BufRead, R: BufRead>(
    left: &mut Reader<L>,
    right: &mut Reader<R>,
    context: usize,
) -> Result<Result<Divergence, u64>, (usize, TraceError)> {
    let mut before = VecDeque::new();
    let mut record = 0;
    loop {
        let (one, other) = (left.read().map_err(|e| (0, e))?, right.read().map_err(|e| (1, e))?);
        record += 1;
        match (&one, &other) {
            (None, None) => return Ok(Err(record - 1)),
            (Some(a), Some(b)) if a.same(b) => {
                if before.len() == context {
                    before.pop_front();
                }
                before.extend(one);
            }
            _ => {
                let left = following(left, one, context).map_err(|e| (0, e))?;
                let right = following(right, other, context).map_err(|e| (1, e))?;
                return Ok(Ok(Divergence { record, before: before.into(), left, right }));
            }
        }
    }
}

fn following<R: BufRead>(
    reader: &mut Reader<R>,
    first: Option<Record>,
    context: usize,
) -> Result<Vec<Record>, TraceError> {
    let mut records: Vec<Record> = first.into_iter().collect();
    while !records.is_empty() && records.len() <= context {
        match reader.read()? {
            Some(record) => records.push(record),
            None => break,
        }
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn trace(payloads: &[&str]) -> (Vec<u8>, u64) {
        let file = Shared::default();
        let mut recorder = Recorder::new(Some(Box::new(file.clone())));
        for (at, payload) in (0u64..).zip(payloads) {
            recorder.record(at, "n1", "step", payload.as_bytes(), || format!("took {payload}"));
        }
        recorder.finish().unwrap();
        let bytes = file.0.lock().unwrap().clone();
        (bytes, recorder.digest().value())
    }

    fn compare(left: &[&str], right: &[&str]) -> Result<Divergence, u64> {
        let (left, right) = (trace(left).0, trace(right).0);
        diff(&mut Reader::new(left.as_slice()).unwrap(), &mut Reader::new(right.as_slice()).unwrap(), 2)
            .unwrap()
    }

    #[test]
    fn a_trace_reads_back_and_its_words_do_not_change_the_digest() {
        let (bytes, digest) = trace(&["a", "b"]);
        let mut reader = Reader::new(bytes.as_slice()).unwrap();
        assert_eq!(reader.read().unwrap().unwrap().text, "took a");
        assert_eq!(reader.read().unwrap().unwrap().payload, b"b");
        assert_eq!(reader.read(), Ok(None));
        let mut silent = Recorder::new(None);
        silent.record(0, "n1", "step", b"a", || unreachable!("no file: nobody reads the words"));
        silent.record(1, "n1", "step", b"b", || unreachable!("no file: nobody reads the words"));
        assert_eq!(silent.digest().value(), digest);
    }

    #[test]
    fn diff_names_the_first_divergent_record_with_context_of_both() {
        assert_eq!(compare(&["a", "b"], &["a", "b"]), Err(2));
        let found = compare(&["a", "b", "c", "d", "e"], &["a", "b", "c", "x", "e"]).unwrap();
        let payloads = |records: &[Record]| {
            records.iter().map(|r| String::from_utf8(r.payload.clone()).unwrap()).collect::<Vec<_>>().join("")
        };
        assert_eq!(found.record, 4);
        assert_eq!(
            (payloads(&found.before), payloads(&found.left), payloads(&found.right)),
            ("bc".into(), "de".into(), "xe".into())
        );
        let shorter = compare(&["a"], &["a", "b"]).unwrap();
        assert_eq!((shorter.record, shorter.left.len(), shorter.right.len()), (2, 0, 1));
    }

    #[test]
    fn a_broken_file_is_named_and_never_taken_for_a_shorter_one() {
        let (bytes, _) = trace(&["a", "b"]);
        assert!(matches!(Reader::new(&b"hello, world"[..]), Err(TraceError::NotATrace)));
        let mut other = bytes.clone();
        other[8] = 9;
        assert!(matches!(Reader::new(other.as_slice()), Err(TraceError::Version { found: 9 })));
        let mut reader = Reader::new(&bytes[..bytes.len() - 1]).unwrap();
        assert!(reader.read().is_ok());
        assert!(matches!(reader.read(), Err(TraceError::Damaged { records: 1, .. })));
    }

    #[test]
    fn the_tail_holds_the_last_records_only() {
        let mut recorder = Recorder::new(None);
        for at in 0..1_000 {
            recorder.record(at, "n1", "step", b"", String::new);
        }
        assert_eq!(recorder.tail().count(), TAIL_RECORDS_MAX);
        assert_eq!(recorder.tail().last().unwrap().at_ns, 999);
    }
}
