//! The recorder of operation histories: what clients asked, when, and what they were told, as JSON Lines.
//!
//! The first line is a header, each other line one event; a checker takes the order of the lines for the order of
//! the events. So an invocation is recorded *before* its request leaves and a completion *after* its reply came.
//!
//! ```json
//! {"format":"eraft-history","version":1,"model":"kv"}
//! {"process":0,"type":"invoke","f":"cas","key":"a","expected":null,"value":"1","time":12345}
//! {"process":0,"type":"ok","f":"cas","swapped":true,"index":7,"time":12399}
//! {"type":"note","text":"the leader was killed","time":12400}
//! ```
//!
//! Invariants:
//! - a process has at most one open operation: each concurrent operation is a logical process of its own;
//! - a process is used again after `ok` and `fail`, never after `info` (its operation may still take effect at any
//!   time) and never if its handle was dropped (the outcome is as unknown);
//! - times of one process never go back; times are nanoseconds of the world's clock, given by the caller;
//! - bytes that are UTF-8 are a JSON string, any others `{"hex":"ff00"}`;
//! - an error of the sink stops the recording and is told by [`Recorder::flush`]: an incomplete history must not be
//!   judged as if it were whole.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde::{Serialize, Serializer};

/// The name of the format, in the header.
pub const FORMAT_NAME: &str = "eraft-history";

/// The version of the format, in the header.
pub const FORMAT_VERSION: u64 = 1;

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Reads a key.
    Get {
        /// The key.
        key: Bytes,
    },
    /// Sets a key.
    Put {
        /// The key.
        key: Bytes,
        /// Its new value.
        value: Bytes,
    },
    /// Adds to the end of a key's value; creates the key if it is missing.
    Append {
        /// The key.
        key: Bytes,
        /// What is added.
        value: Bytes,
    },
    /// Removes a key.
    Delete {
        /// The key.
        key: Bytes,
    },
    /// Sets a key if it holds what is expected.
    Cas {
        /// The key.
        key: Bytes,
        /// `None`: the key must be missing.
        expected: Option<Bytes>,
        /// The new value.
        value: Bytes,
    },
}

/// What a client was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OperationResult {
    /// To a put or an append.
    Done,
    /// To a get; `None`: there is no such key.
    Value(Option<Bytes>),
    /// To a delete: whether there was such a key.
    Deleted(bool),
    /// To a cas: whether the key held what was expected.
    Swapped(bool),
}

/// How an operation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It took effect between invocation and completion.
    Ok {
        /// The answer.
        result: OperationResult,
        /// The log index at which it took effect or that it reflects, if the system told.
        index: Option<u64>,
    },
    /// It certainly was not executed and never will be.
    Fail {
        /// Why.
        error: String,
    },
    /// It may have been executed, or may still be.
    Info {
        /// What is known.
        error: String,
    },
}

/// An operation under way. If it is dropped, the operation stays open in the history for ever, which is the truth
/// about a client that went away.
#[must_use = "complete the operation, or its outcome is recorded as unknown"]
#[derive(Debug)]
pub struct OperationHandle {
    process: u64,
    name: &'static str,
    invoked_ns: u64,
}

impl OperationHandle {
    /// The logical process that the operation runs on.
    pub fn process(&self) -> u64 {
        self.process
    }
}

/// Why a history is not complete.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the history ends before its line {line}: {reason}; what was recorded is not complete, do not judge it"
)]
pub struct HistoryError {
    /// The first line that was not recorded, counted from 1.
    pub line: u64,
    /// The sink's own words, or what was wrong with the event.
    pub reason: String,
}

/// Records the operations of many clients; share it in an `Arc`.
pub struct Recorder {
    state: Mutex<State>,
}

struct State {
    sink: Sink,
    lines: u64,
    error: Option<HistoryError>,
    processes: u64,
    /// Processes without an open operation, and when each completed its last one.
    free: BTreeMap<u64, u64>,
}

enum Sink {
    Memory(Vec<u8>),
    Writer(BufWriter<Box<dyn Write + Send>>),
}

impl Recorder {
    /// Records into memory; [`Recorder::memory`] gives the history.
    pub fn in_memory() -> Self {
        Self::new(Sink::Memory(Vec::new()))
    }

    /// Records into `sink`, such as a file, through a buffer; call [`Recorder::flush`] at the end.
    pub fn to(sink: impl Write + Send + 'static) -> Self {
        Self::new(Sink::Writer(BufWriter::new(Box::new(sink))))
    }

    fn new(sink: Sink) -> Self {
        let mut state = State { sink, lines: 0, error: None, processes: 0, free: BTreeMap::new() };
        state.write(&Header { format: FORMAT_NAME, version: FORMAT_VERSION, model: "kv" });
        Self { state: Mutex::new(state) }
    }

    /// Records that `operation` is asked for at `time_ns`. Call it before anything of the request is sent.
    pub fn invoke(&self, operation: &Operation, time_ns: u64) -> OperationHandle {
        let mut state = self.lock();
        let process = state.take_process(time_ns);
        let event = operation.event(process, time_ns);
        state.write(&event);
        OperationHandle { process, name: operation.name(), invoked_ns: time_ns }
    }

    /// Records how the operation ended, at `time_ns`. Call it after the whole reply came.
    pub fn complete(&self, handle: OperationHandle, outcome: &Outcome, time_ns: u64) {
        let OperationHandle { process, name, invoked_ns } = handle;
        // A clock that went back must not make an operation end before it began.
        let time_ns = time_ns.max(invoked_ns);
        let mut state = self.lock();
        match outcome.event(process, name, time_ns) {
            Ok(event) => state.write(&event),
            Err(reason) => state.fail(reason),
        }
        if !matches!(outcome, Outcome::Info { .. }) {
            state.free.insert(process, time_ns);
        }
    }

    /// Records a remark for whoever reads the history, such as a fault.
    pub fn note(&self, text: &str, time_ns: u64) {
        self.lock().write(&Note { kind: "note", text, time: time_ns });
    }

    /// Hands everything to the sink, and tells the first error since the beginning, if there was one.
    pub fn flush(&self) -> Result<(), HistoryError> {
        let mut state = self.lock();
        if state.error.is_none() {
            state.flush();
        }
        state.error.clone().map_or(Ok(()), Err)
    }

    /// The history so far, if it is recorded in memory.
    pub fn memory(&self) -> Option<Vec<u8>> {
        match &self.lock().sink {
            Sink::Memory(bytes) => Some(bytes.clone()),
            Sink::Writer(_) => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock; if a panic there were possible, the lines would still be whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The lowest free process whose last operation was over by `time_ns`: with clients on several threads, a
    /// completion can be recorded between taking a time and recording the invocation.
    fn take_process(&mut self, time_ns: u64) -> u64 {
        let free = self.free.iter().find(|(_, completed_ns)| **completed_ns <= time_ns);
        if let Some(process) = free.map(|(process, _)| *process) {
            self.free.remove(&process);
            return process;
        }
        self.processes += 1;
        self.processes - 1
    }

    fn write(&mut self, event: &impl Serialize) {
        if self.error.is_some() {
            return;
        }
        let result = serde_json::to_vec(event).map_err(std::io::Error::from).and_then(|mut line| {
            line.push(b'\n');
            match &mut self.sink {
                Sink::Memory(bytes) => bytes.write_all(&line),
                Sink::Writer(writer) => writer.write_all(&line),
            }
        });
        match result {
            Ok(()) => self.lines += 1,
            Err(error) => self.fail(error.to_string()),
        }
    }

    fn flush(&mut self) {
        if let Sink::Writer(writer) = &mut self.sink
            && let Err(error) = writer.flush()
        {
            self.fail(error.to_string());
        }
    }

    fn fail(&mut self, reason: String) {
        let line = self.lines + 1;
        self.error.get_or_insert(HistoryError { line, reason });
    }
}

impl Operation {
    /// The key that it is about.
    pub fn key(&self) -> &Bytes {
        match self {
            Operation::Get { key }
            | Operation::Put { key, .. }
            | Operation::Append { key, .. }
            | Operation::Delete { key }
            | Operation::Cas { key, .. } => key,
        }
    }

    /// The name in the format.
    pub fn name(&self) -> &'static str {
        match self {
            Operation::Get { .. } => "get",
            Operation::Put { .. } => "put",
            Operation::Append { .. } => "append",
            Operation::Delete { .. } => "delete",
            Operation::Cas { .. } => "cas",
        }
    }

    fn event(&self, process: u64, time_ns: u64) -> Event<'_> {
        let mut event = Event::new(process, "invoke", self.name(), time_ns);
        match self {
            Operation::Get { key } | Operation::Delete { key } => event.key = Some(Text(key)),
            Operation::Put { key, value } | Operation::Append { key, value } => {
                (event.key, event.value) = (Some(Text(key)), Some(Some(Text(value))));
            }
            Operation::Cas { key, expected, value } => {
                (event.key, event.value) = (Some(Text(key)), Some(Some(Text(value))));
                event.expected = Some(expected.as_deref().map(Text));
            }
        }
        event
    }
}

impl Outcome {
    /// An error if the result is not one of the operation `name`: such a history would be judged wrongly.
    fn event(&self, process: u64, name: &'static str, time_ns: u64) -> Result<Event<'_>, String> {
        let mut event = Event::new(process, "ok", name, time_ns);
        match self {
            Outcome::Ok { result, index } => {
                event.index = *index;
                match (name, result) {
                    ("put" | "append", OperationResult::Done) => {}
                    ("get", OperationResult::Value(value)) => event.value = Some(value.as_deref().map(Text)),
                    ("delete", OperationResult::Deleted(deleted)) => event.deleted = Some(*deleted),
                    ("cas", OperationResult::Swapped(swapped)) => event.swapped = Some(*swapped),
                    _ => return Err(format!("the {name} of process {process} was answered with {result:?}")),
                }
            }
            Outcome::Fail { error } => (event.kind, event.error) = ("fail", Some(error.as_str())),
            Outcome::Info { error } => (event.kind, event.error) = ("info", Some(error.as_str())),
        }
        Ok(event)
    }
}

#[derive(Serialize)]
struct Header {
    format: &'static str,
    version: u64,
    model: &'static str,
}

#[derive(Serialize)]
struct Note<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    text: &'a str,
    time: u64,
}

/// One line; the order of the fields is the order in the file.
#[derive(Serialize)]
struct Event<'a> {
    process: u64,
    #[serde(rename = "type")]
    kind: &'static str,
    f: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<Text<'a>>,
    /// Outer `None`: no such field; inner `None`: `null`, a missing key.
    #[serde(skip_serializing_if = "Option::is_none")]
    expected: Option<Option<Text<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Option<Text<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    swapped: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u64>,
    time: u64,
}

impl Event<'_> {
    fn new(process: u64, kind: &'static str, f: &'static str, time: u64) -> Self {
        Event {
            process,
            kind,
            f,
            key: None,
            expected: None,
            value: None,
            swapped: None,
            deleted: None,
            error: None,
            index: None,
            time,
        }
    }
}

/// Any bytes, as a string if they are one.
struct Text<'a>(&'a [u8]);

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => {
                let hex: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
                serializer.collect_map([("hex", hex)])
            }
        }
    }
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
