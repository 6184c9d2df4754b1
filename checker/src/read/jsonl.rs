//! The JSON Lines format: read and written. `docs/HISTORIES.md` describes it.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};

use serde::Deserialize;

use crate::history::{History, HistoryBuilder, Misfit};
use crate::model::Model;
use crate::models::ModelKind;
use crate::models::controller::SHARDS_DEFAULT;
use crate::online::{Online, OnlineOptions};
use crate::read::event::{Event, EventType, FieldError, Wire};
use crate::read::lines::{Line, Lines, Malformed};
use crate::report::{Report, Verdict};
use crate::value::Value;

/// The name of the format in a header.
pub const FORMAT_NAME: &str = "eraft-history";

/// The version of the format.
pub const FORMAT_VERSION: u64 = 1;

/// More shards than any controller has; each costs memory in every state.
const SHARDS_MAX: usize = 1 << 16;

/// The first line of a file; other fields are ignored.
#[derive(Debug, Deserialize)]
struct Header {
    format: String,
    version: u64,
    #[serde(default)]
    model: Option<ModelKind>,
    /// Of a shard controller.
    #[serde(default)]
    shards: Option<usize>,
    /// Of a store.
    #[serde(default)]
    initial: Option<Value>,
}

/// What a file is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) model: ModelKind,
    /// The shards of a controller.
    pub(crate) shards: usize,
    /// What every key of a store has at first; `None`: nothing.
    pub(crate) initial: Option<Value>,
}

/// Enough of a line to know what it is.
#[derive(Debug, Deserialize)]
struct Probe {
    #[serde(default)]
    format: Option<serde::de::IgnoredAny>,
    #[serde(default, rename = "type")]
    kind: Option<serde_json::Value>,
}

fn parse<T: for<'de> Deserialize<'de>>(line: &Line) -> Result<T, Malformed> {
    // An array would do for the parser, as fields without names.
    if !line.text.trim_start().starts_with('{') {
        return Err(line.malformed(1, "expected a JSON object"));
    }
    serde_json::from_str(&line.text).map_err(|error| {
        // The parser's own words end with its position, in which the line is always 1.
        let message = error.to_string();
        let message = message.split(" at line 1 column").next().unwrap_or(&message);
        line.malformed(error.column(), message)
    })
}

/// Reads the header, if there is one, and says which model the events are of.
pub(crate) fn read_header<R: BufRead>(
    lines: &mut Lines<R>,
    asked: Option<ModelKind>,
) -> Result<Subject, Malformed> {
    let subject = |model| Subject { model, shards: SHARDS_DEFAULT, initial: None };
    let first = lines.peek()?.cloned();
    let Some(first) = first else {
        return asked.map(subject).ok_or_else(|| Malformed::new(1, 1, "empty: expected a header or events"));
    };
    let probe: Probe = parse(&first)?;
    if probe.format.is_none() {
        let message = "no header, so the model is not known: name it (--model), or expected \
                       {\"format\":\"eraft-history\",\"version\":1,\"model\":\"kv\"}";
        return asked.map(subject).ok_or_else(|| first.malformed(1, message));
    }
    let header: Header = parse(&first)?;
    lines.next()?;
    if header.format != FORMAT_NAME || header.version != FORMAT_VERSION {
        let message = format!(
            "format {:?} version {}, expected {FORMAT_NAME:?} version {FORMAT_VERSION}",
            header.format, header.version
        );
        return Err(first.malformed(column_of(&first.text, "format"), message));
    }
    if header.initial.is_some() && header.model.or(asked) != Some(ModelKind::Kv) {
        let message = "only a history of model kv says what every key has at first";
        return Err(first.malformed(column_of(&first.text, "initial"), message));
    }
    if header.shards.is_some_and(|shards| shards > SHARDS_MAX) {
        let message = format!("expected at most {SHARDS_MAX} shards");
        return Err(first.malformed(column_of(&first.text, "shards"), message));
    }
    let (shards, initial) = (header.shards.unwrap_or(SHARDS_DEFAULT), header.initial);
    match (header.model, asked) {
        (Some(model), Some(asked)) if model != asked => {
            let message =
                format!("the header says model {}, but {} was asked for", model.name(), asked.name());
            Err(first.malformed(column_of(&first.text, "model"), message))
        }
        (Some(model), _) | (None, Some(model)) => Ok(Subject { model, shards, initial }),
        (None, None) => Err(first.malformed(1, "the header names no model: name it (--model)")),
    }
}

/// Reads the events after the header.
pub(crate) fn read_events<M: Wire, R: BufRead>(
    model: &M,
    lines: &mut Lines<R>,
) -> Result<History<M::Op, M::Ret>, Malformed> {
    let mut builder = HistoryBuilder::new();
    while let Some(line) = lines.next()? {
        add_line(model, &mut builder, &line)?;
    }
    Ok(builder.finish())
}

/// Follows the events after the header, up to the first violation.
///
/// Whenever nothing more is there to be read as yet, it is asked whether what was read is possible; otherwise that is asked
/// now and then, because each time costs as much as several events. So whoever writes line by line learns of a violation at
/// the very return, and a file is read fast.
pub(crate) fn follow<M: Wire, R: Read>(
    model: M,
    lines: &mut Lines<BufReader<R>>,
    options: OnlineOptions,
) -> Result<Report, Malformed> {
    let mut online = Online::new(model.clone(), options);
    let mut end = Ok(());
    loop {
        if !lines.has_line() {
            online.probe_all();
        }
        if let Some(violation) = online.violation() {
            return Ok(violation.clone());
        }
        match lines.next().and_then(|line| line.map(|line| add_line(&model, &mut online, &line)).transpose())
        {
            Ok(Some(())) => {}
            Ok(None) => break,
            Err(malformed) => {
                end = Err(malformed);
                break;
            }
        }
    }
    // A violation before a broken line is one all the same.
    let report = online.report();
    if report.verdict == Verdict::Violation { Ok(report.clone()) } else { end.map(|()| report.clone()) }
}

/// What events are fed to.
trait Sink<M: Model> {
    fn open(&self, process: u64) -> Result<&M::Op, Misfit>;
    fn invoke(&mut self, process: u64, op: M::Op, line: usize, time_ns: Option<u64>) -> Result<(), Misfit>;
    fn ok(
        &mut self,
        process: u64,
        ret: M::Ret,
        index: Option<u64>,
        at: (usize, Option<u64>),
    ) -> Result<(), Misfit>;
    fn fail(&mut self, process: u64) -> Result<(), Misfit>;
    fn info(&mut self, process: u64) -> Result<(), Misfit>;
    fn took_effect_at(&mut self, process: u64, index: u64) -> Result<(), Misfit>;
    fn note(&mut self, line: usize, content: serde_json::Value);
}

impl<M: Model> Sink<M> for HistoryBuilder<M::Op, M::Ret> {
    fn open(&self, process: u64) -> Result<&M::Op, Misfit> {
        self.open(process)
    }

    fn invoke(&mut self, process: u64, op: M::Op, line: usize, time_ns: Option<u64>) -> Result<(), Misfit> {
        self.invoke(process, op, line, time_ns)
    }

    fn ok(
        &mut self,
        process: u64,
        ret: M::Ret,
        index: Option<u64>,
        (line, time_ns): (usize, Option<u64>),
    ) -> Result<(), Misfit> {
        self.ok(process, ret, index, line, time_ns)
    }

    fn fail(&mut self, process: u64) -> Result<(), Misfit> {
        self.fail(process)
    }

    fn info(&mut self, process: u64) -> Result<(), Misfit> {
        self.info(process)
    }

    fn took_effect_at(&mut self, process: u64, index: u64) -> Result<(), Misfit> {
        self.took_effect_at(process, index)
    }

    fn note(&mut self, line: usize, content: serde_json::Value) {
        self.note(line, content);
    }
}

impl<M: Model> Sink<M> for Online<M> {
    fn open(&self, process: u64) -> Result<&M::Op, Misfit> {
        self.open(process)
    }

    fn invoke(&mut self, process: u64, op: M::Op, line: usize, time_ns: Option<u64>) -> Result<(), Misfit> {
        self.invoke(process, op, line, time_ns)
    }

    fn ok(
        &mut self,
        process: u64,
        ret: M::Ret,
        _index: Option<u64>,
        (line, time_ns): (usize, Option<u64>),
    ) -> Result<(), Misfit> {
        self.ok(process, ret, line, time_ns).map(|_| ())
    }

    fn fail(&mut self, process: u64) -> Result<(), Misfit> {
        self.fail(process)
    }

    fn info(&mut self, process: u64) -> Result<(), Misfit> {
        self.info(process)
    }

    /// The order is searched as it goes on, without the hint.
    fn took_effect_at(&mut self, _process: u64, _index: u64) -> Result<(), Misfit> {
        Ok(())
    }

    /// There is no picture of a history that is not kept.
    fn note(&mut self, _line: usize, _content: serde_json::Value) {}
}

fn add_line<M: Wire>(model: &M, sink: &mut impl Sink<M>, line: &Line) -> Result<(), Malformed> {
    // Nearly all lines are events, so what else one may be is only asked if it is none.
    let event: Event = match parse(line) {
        Ok(event) => event,
        Err(no_event) => return add_other(sink, line, no_event),
    };
    add(model, sink, &event, line.number).map_err(|problem| match problem {
        Problem::Field(error) => line.malformed(column_of(&line.text, error.field), error.message),
        Problem::Misfit(misfit) => line.malformed(column_of(&line.text, "process"), misfit.to_string()),
    })
}

/// A line that is no event, for the reason `no_event`: an annotation, or a mistake.
fn add_other<M: Wire>(sink: &mut impl Sink<M>, line: &Line, no_event: Malformed) -> Result<(), Malformed> {
    let probe: Probe = parse(line)?;
    if probe.format.is_some() {
        return Err(line.malformed(column_of(&line.text, "format"), "a header that is not the first line"));
    }
    if probe.kind.as_ref().is_some_and(|kind| kind == "note") {
        sink.note(line.number, parse(line)?);
        return Ok(());
    }
    Err(no_event)
}

enum Problem {
    Field(FieldError),
    Misfit(Misfit),
}

impl From<FieldError> for Problem {
    fn from(error: FieldError) -> Problem {
        Problem::Field(error)
    }
}

impl From<Misfit> for Problem {
    fn from(misfit: Misfit) -> Problem {
        Problem::Misfit(misfit)
    }
}

fn add<M: Wire>(model: &M, sink: &mut impl Sink<M>, event: &Event, line: usize) -> Result<(), Problem> {
    let process = event.process;
    if matches!(event.kind, EventType::Invoke | EventType::Fail) && event.index.is_some() {
        return Err(FieldError::new("index", "only an ok or an info has an index").into());
    }
    if matches!(event.kind, EventType::Invoke | EventType::Ok) && event.error.is_some() {
        return Err(FieldError::new("error", "only a fail or an info has an error").into());
    }
    match event.kind {
        EventType::Invoke => {
            let op = model.decode_op(event)?;
            sink.invoke(process, op, line, event.time)?;
        }
        EventType::Ok => {
            let op = sink.open(process)?;
            same_request(model, op, event)?;
            let ret = model.decode_ret(op, event)?;
            sink.ok(process, ret, event.index, (line, event.time))?;
        }
        EventType::Fail | EventType::Info => {
            same_request(model, sink.open(process)?, event)?;
            event.allow(&[])?;
            if let Some(index) = event.index {
                sink.took_effect_at(process, index)?;
            }
            if event.kind == EventType::Fail { sink.fail(process)? } else { sink.info(process)? }
        }
    }
    Ok(())
}

/// A completion need not repeat the request, but must not name another one.
fn same_request<M: Wire>(model: &M, op: &M::Op, event: &Event) -> Result<(), FieldError> {
    if event.f.is_none() && event.key.is_none() {
        return Ok(());
    }
    let mut asked = Event::new(event.process, EventType::Invoke);
    model.encode_op(op, &mut asked);
    if event.f.is_some() && event.f != asked.f {
        let name = asked.f.unwrap_or_default();
        return Err(FieldError::new(
            "f",
            format!("the open operation of process {} is {name:?}", event.process),
        ));
    }
    if event.key.is_some() && event.key != asked.key {
        let key = asked.key.map_or_else(|| "without a key".to_owned(), |key| format!("on key {key}"));
        return Err(FieldError::new(
            "key",
            format!("the open operation of process {} is {key}", event.process),
        ));
    }
    Ok(())
}

/// Where a field's name is in a line. A quote inside a string is escaped, so only a name is followed by a colon like this.
fn column_of(text: &str, field: &str) -> usize {
    let name = format!("\"{field}\"");
    text.match_indices(&name)
        .find(|(at, _)| text[at + name.len()..].trim_start().starts_with(':'))
        .map_or(1, |(at, _)| at + 1)
}

/// Writes a history. What failed is not in it any more; the rest reads back as it was, with other line numbers.
pub fn write_jsonl<M: Wire>(
    model: &M,
    kind: ModelKind,
    history: &History<M::Op, M::Ret>,
    out: &mut impl Write,
) -> io::Result<()> {
    write_header(kind, "", out)?;
    write_events(model, history, out)
}

/// `more`: further fields, each behind a comma.
pub(crate) fn write_header(kind: ModelKind, more: &str, out: &mut impl Write) -> io::Result<()> {
    let name = kind.name();
    writeln!(out, "{{\"format\":\"{FORMAT_NAME}\",\"version\":{FORMAT_VERSION},\"model\":\"{name}\"{more}}}")
}

/// Everything but the header.
pub(crate) fn write_events<M: Wire>(
    model: &M,
    history: &History<M::Op, M::Ret>,
    out: &mut impl Write,
) -> io::Result<()> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    // What each process left behind, by the index at which it took effect: closed if the process goes on or to say so.
    let mut left_open: BTreeMap<u64, Option<u64>> = BTreeMap::new();
    let info =
        |process, index| serde_json::to_string(&Event { index, ..Event::new(process, EventType::Info) });
    for operation in &history.operations {
        let process = operation.process;
        if let Some(index) = left_open.remove(&process) {
            lines.push((operation.invoked.event, info(process, index)?));
        }
        let mut invoke = Event::new(process, EventType::Invoke);
        model.encode_op(&operation.op, &mut invoke);
        invoke.time = operation.invoked.time_ns;
        lines.push((operation.invoked.event, serde_json::to_string(&invoke)?));
        match &operation.outcome {
            crate::history::Outcome::Unknown => {
                left_open.insert(process, operation.index);
            }
            crate::history::Outcome::Ok { ret, returned } => {
                let mut ok = Event::new(process, EventType::Ok);
                (ok.f, ok.index, ok.time) = (invoke.f, operation.index, returned.time_ns);
                model.encode_ret(ret, &mut ok);
                lines.push((returned.event, serde_json::to_string(&ok)?));
            }
        }
    }
    for (process, index) in left_open.into_iter().filter(|(_, index)| index.is_some()) {
        lines.push((usize::MAX, info(process, index)?));
    }
    for note in &history.notes {
        lines.push((note.event, note.content.to_string()));
    }
    lines.sort_by_key(|(event, _)| *event);
    lines.iter().try_for_each(|(_, line)| writeln!(out, "{line}"))
}
