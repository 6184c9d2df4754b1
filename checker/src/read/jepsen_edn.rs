//! The history that Jepsen stores (`history.edn`): maps, one after the other or in one vector.
//!
//! `{:type :invoke, :f :write, :process 0, :value 3, :time 123, :index 0}`, with or without the tag of a record. Requests
//! are those of a register (`:read`, `:write`, `:cas` of `[expected new]`) or of a store (`:get`, `:put`, `:append`,
//! `:delete`, `:cas`). A key is `:key`, or the value is the tuple `[key value]`, as independent workloads write it.
//!
//! Invariants:
//! - as in Jepsen, `:fail` says of every request, of a `:cas` too, that it did not happen;
//! - whether operations have keys, and whether values are strings, is the same in the whole history, so that a value that
//!   happens to look like a tuple, or `1` and `"1"`, are never mixed up without a word;
//! - what a process does that has no number, such as the nemesis, is a note.

use std::io::BufRead;

use crate::history::{History, HistoryBuilder, Misfit};
use crate::models::ModelKind;
use crate::models::kv::Kv;
use crate::models::register::Register;
use crate::read::AnyHistory;
use crate::read::edn::{Datum, Form, Place, Reader};
use crate::read::event::{Event, EventType, FieldError, Wire};
use crate::read::lines::{Lines, Malformed};
use crate::value::Value;

/// Requests that only a store has.
const STORE_REQUESTS: [&str; 4] = ["get", "put", "append", "delete"];

/// Whether a first line looks like EDN.
pub(crate) fn recognises(text: &str) -> bool {
    let text = text.trim_start();
    // A vector may have its first map on a later line.
    let vector = text.strip_prefix('[').map(str::trim_start);
    is_entry(text) || vector.is_some_and(|rest| rest.is_empty() || is_entry(rest))
}

/// Whether a text begins like a map, a record or a comment.
fn is_entry(text: &str) -> bool {
    let map = text.strip_prefix('{').is_some_and(|rest| rest.trim_start().starts_with(':'));
    let record = text.starts_with('#') && text.contains('{');
    map || record || text.starts_with(';')
}

/// Reads a history; `asked` is the model, or the requests tell.
pub(crate) fn read<R: BufRead>(
    lines: &mut Lines<R>,
    asked: Option<ModelKind>,
) -> Result<AnyHistory, Malformed> {
    let (text, line) = lines.rest()?;
    let mut entries = Vec::new();
    let mut checks = Checks::default();
    each_form(&text, line, |form| {
        entries.push(entry(&form, &mut checks)?);
        Ok(())
    })?;
    let of_store = |entry: &Entry| matches!(entry, Entry::Event(told) if STORE_REQUESTS.contains(&told.request.as_str()));
    let told = if entries.iter().any(of_store) { ModelKind::Kv } else { ModelKind::CasRegister };
    match asked.unwrap_or(told) {
        ModelKind::Kv => {
            let model = Kv::new();
            let history = build(&model, entries, checks, Names::Store)?;
            Ok(AnyHistory::Kv(model, history))
        }
        kind @ (ModelKind::Register | ModelKind::CasRegister) => {
            let model = if kind == ModelKind::Register { Register::plain() } else { Register::with_cas() };
            let history = build(&model, entries, checks, Names::Register)?;
            Ok(AnyHistory::Register(model, history))
        }
        other => {
            let message = format!("this format is of registers or a store, not of model {}", other.name());
            Err(Malformed::new(1, 1, message))
        }
    }
}

/// The forms of the file, or of the one vector or list that it consists of.
fn each_form(
    text: &str,
    line: usize,
    mut take: impl FnMut(Form) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let mut reader = Reader::new(text, line);
    reader.skip_blank()?;
    let opened = reader.place();
    let end = if reader.accept(b'[') {
        Some(b']')
    } else if reader.accept(b'(') {
        Some(b')')
    } else {
        None
    };
    loop {
        match (reader.skip_blank()?, end) {
            (Some(byte), Some(end)) if byte == end => {
                reader.accept(end);
                return match reader.skip_blank()? {
                    None => Ok(()),
                    Some(_) => Err(reader.place().malformed("expected nothing after the history")),
                };
            }
            (Some(_), _) => take(reader.form()?)?,
            (None, Some(end)) => {
                let message =
                    format!("the file ends here, expected {:?} for line {}", end as char, opened.line);
                return Err(reader.place().malformed(message));
            }
            (None, None) => return Ok(()),
        }
    }
}

/// A map of the history.
enum Entry {
    Event(Told),
    Note { content: serde_json::Value, line: usize },
}

/// What a client's map says.
struct Told {
    kind: EventType,
    request: String,
    process: u64,
    key: Option<Value>,
    value: Payload,
    time: Option<u64>,
    places: Places,
}

/// What `:value` says.
enum Payload {
    Absent,
    One(Option<Value>),
    /// Of a cas: expected and new.
    Two(Option<Value>, Option<Value>),
}

/// Where the parts of an event are, for errors.
#[derive(Clone, Copy)]
struct Places {
    whole: Place,
    request: Place,
    process: Place,
    value: Place,
}

/// What must be the same in the whole history.
#[derive(Default)]
struct Checks {
    index: Option<u64>,
    values_are_text: Option<bool>,
    keys_are_text: Option<bool>,
    keyed: Option<bool>,
}

fn entry(form: &Form, checks: &mut Checks) -> Result<Entry, Malformed> {
    let place = form.place;
    let fields = match &form.datum {
        Datum::Map(fields) => fields,
        Datum::Tagged(_, inner) => match &inner.datum {
            Datum::Map(fields) => fields,
            _ => return Err(place.malformed("expected a map after the tag")),
        },
        _ => {
            return Err(
                place.malformed("expected a map, as in {:type :invoke, :f :read, :process 0, :value nil}")
            );
        }
    };
    let field = |name: &str| -> Result<Option<&Form>, Malformed> {
        let is_it = |pair: &&[Form]| pair[0].datum == Datum::Keyword(name.to_owned());
        let mut pairs = fields.chunks_exact(2).filter(is_it);
        let found = pairs.next();
        match pairs.next() {
            Some(again) => Err(again[0].place.malformed(format!("a second :{name} in one map"))),
            None => Ok(found.map(|pair| &pair[1])),
        }
    };
    let must = |name: &str| field(name)?.ok_or_else(|| place.malformed(format!("the map has no :{name}")));
    if let Some(index) = field("index")? {
        let number =
            natural(index).ok_or_else(|| index.place.malformed("expected the number of the event"))?;
        if checks.index.is_some_and(|last| number <= last) {
            let message = format!(":index {number} does not follow; events must be in their order");
            return Err(index.place.malformed(message));
        }
        checks.index = Some(number);
    }
    let kind = must("type")?;
    let kind_of = match &kind.datum {
        Datum::Keyword(name) if name == "invoke" => EventType::Invoke,
        Datum::Keyword(name) if name == "ok" => EventType::Ok,
        Datum::Keyword(name) if name == "fail" => EventType::Fail,
        Datum::Keyword(name) if name == "info" => EventType::Info,
        _ => return Err(kind.place.malformed("expected :invoke, :ok, :fail or :info")),
    };
    let process = must("process")?;
    let request = must("f")?;
    let value = field("value")?;
    let time = match field("time")?.filter(|time| time.datum != Datum::Nil) {
        Some(time) => Some(natural(time).ok_or_else(|| time.place.malformed("expected nanoseconds"))?),
        None => None,
    };
    if let Datum::Keyword(name) = &process.datum {
        return Ok(note(name, request, value, time, place));
    }
    let message = "expected the number of a process, or a keyword such as :nemesis";
    let number = natural(process).ok_or_else(|| process.place.malformed(message))?;
    let Datum::Keyword(name) = &request.datum else {
        return Err(request.place.malformed("expected a request, as in :read"));
    };
    let places = Places {
        whole: place,
        request: request.place,
        process: process.place,
        value: value.map_or(place, |value| value.place),
    };
    // What did not happen, or may not have, has a value that says why at most.
    let (key, value) = match kind_of {
        EventType::Fail | EventType::Info => (None, Payload::Absent),
        EventType::Invoke | EventType::Ok => payload(name == "cas", field("key")?, value, checks)?,
    };
    Ok(Entry::Event(Told { kind: kind_of, request: name.clone(), process: number, key, value, time, places }))
}

fn note(process: &str, request: &Form, value: Option<&Form>, time: Option<u64>, place: Place) -> Entry {
    let mut text = shown(request);
    if let Some(value) = value.filter(|value| value.datum != Datum::Nil) {
        text = format!("{text} {}", shown(value));
    }
    let mut content = serde_json::json!({ "type": "note", "lane": process, "text": text });
    if let Some(time) = time {
        content["time"] = time.into();
    }
    Entry::Note { content, line: place.line }
}

/// The key and the value of an operation.
fn payload(
    is_cas: bool,
    key: Option<&Form>,
    value: Option<&Form>,
    checks: &mut Checks,
) -> Result<(Option<Value>, Payload), Malformed> {
    let Some(value) = value else {
        let key = key.map(|key| checks.key(key)).transpose()?;
        return Ok((key, Payload::Absent));
    };
    let pair = |form: &Form| match &form.datum {
        Datum::Vector(forms) if forms.len() == 2 => Some((forms[0].clone(), forms[1].clone())),
        Datum::Tagged(_, inner) => match &inner.datum {
            Datum::Vector(forms) if forms.len() == 2 => Some((forms[0].clone(), forms[1].clone())),
            _ => None,
        },
        _ => None,
    };
    let tuple = match (pair(value), key) {
        (Some((first, second)), None) if !is_cas || pair(&second).is_some() => Some((first, second)),
        _ => None,
    };
    let key = match (&tuple, key) {
        (Some((key, _)), None) => Some(checks.key(key)?),
        (_, Some(key)) => Some(checks.key(key)?),
        (None, None) => None,
    };
    let value = tuple.map_or_else(|| value.clone(), |(_, value)| value);
    let payload = match pair(&value) {
        Some((expected, new)) if is_cas => Payload::Two(checks.value(&expected)?, checks.value(&new)?),
        _ => Payload::One(checks.value(&value)?),
    };
    Ok((key, payload))
}

impl Checks {
    fn key(&mut self, form: &Form) -> Result<Value, Malformed> {
        let key = scalar(form, &mut self.keys_are_text, "keys")?;
        key.ok_or_else(|| form.place.malformed("a key must not be nil"))
    }

    fn value(&mut self, form: &Form) -> Result<Option<Value>, Malformed> {
        scalar(form, &mut self.values_are_text, "values")
    }

    /// Either all operations of a history have keys or none has.
    fn keyed(&mut self, keyed: bool, place: Place) -> Result<(), Malformed> {
        match self.keyed.replace(keyed) {
            Some(before) if before != keyed => {
                let (this, others) = if keyed { ("a", "have none") } else { ("no", "have one") };
                Err(place.malformed(format!(
                    "an operation with {this} key, but the operations before it {others}"
                )))
            }
            _ => Ok(()),
        }
    }
}

fn scalar(form: &Form, are_text: &mut Option<bool>, what: &str) -> Result<Option<Value>, Malformed> {
    let (text, is_text) = match &form.datum {
        Datum::Nil => return Ok(None),
        Datum::Text(text) => (text.clone(), true),
        Datum::Keyword(name) => (format!(":{name}"), false),
        Datum::Atom(atom) => (atom.strip_suffix('N').unwrap_or(atom).to_owned(), false),
        _ => return Err(form.place.malformed("expected nil, a number, a string or a keyword")),
    };
    if are_text.replace(is_text).is_some_and(|before| before != is_text) {
        let message =
            format!("strings and other {what} in one history; they are not told apart, so use one kind");
        return Err(form.place.malformed(message));
    }
    Ok(Some(Value::from(text.as_str())))
}

fn natural(form: &Form) -> Option<u64> {
    match &form.datum {
        Datum::Atom(atom) => atom.strip_suffix('N').unwrap_or(atom).parse().ok(),
        _ => None,
    }
}

/// A form as text, for notes.
fn shown(form: &Form) -> String {
    let all = |forms: &[Form]| forms.iter().map(shown).collect::<Vec<_>>().join(" ");
    match &form.datum {
        Datum::Nil => "nil".to_owned(),
        Datum::Text(text) => text.clone(),
        Datum::Keyword(name) => name.clone(),
        Datum::Atom(atom) => atom.clone(),
        Datum::Vector(forms) => format!("[{}]", all(forms)),
        Datum::List(forms) => format!("({})", all(forms)),
        Datum::Set(forms) => format!("#{{{}}}", all(forms)),
        Datum::Map(forms) => format!("{{{}}}", all(forms)),
        Datum::Tagged(tag, inner) => format!("#{tag} {}", shown(inner)),
    }
}

/// How a model's read and write are called.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Names {
    Store,
    Register,
}

impl Names {
    fn of(self, request: &str) -> &str {
        match (self, request) {
            (Names::Store, "read") => "get",
            (Names::Store, "write") => "put",
            _ => request,
        }
    }
}

fn build<M: Wire>(
    model: &M,
    entries: Vec<Entry>,
    mut checks: Checks,
    names: Names,
) -> Result<History<M::Op, M::Ret>, Malformed> {
    let mut builder = HistoryBuilder::new();
    for entry in entries {
        match entry {
            Entry::Note { content, line } => builder.note(line, content),
            Entry::Event(asked) => add(model, &mut builder, asked, &mut checks, names)?,
        }
    }
    Ok(builder.finish())
}

fn add<M: Wire>(
    model: &M,
    builder: &mut HistoryBuilder<M::Op, M::Ret>,
    told: Told,
    checks: &mut Checks,
    names: Names,
) -> Result<(), Malformed> {
    let Told { kind, process, places, time, .. } = told;
    let line = places.whole.line;
    let misfit = |misfit: Misfit| places.process.malformed(misfit.to_string());
    let misfield = |error: FieldError| {
        let place = match error.field {
            "f" => places.request,
            "value" | "expected" => places.value,
            _ => places.whole,
        };
        place.malformed(error.message)
    };
    let event = event_of(told, names);
    if kind == EventType::Invoke {
        checks.keyed(event.key.is_some(), places.value)?;
        let op = model.decode_op(&event).map_err(misfield)?;
        return builder.invoke(process, op, line, time).map_err(misfit);
    }
    let op = builder.open(process).map_err(misfit)?;
    same_request(model, op, &event, places)?;
    match kind {
        EventType::Fail => builder.fail(process).map_err(misfit),
        EventType::Info => builder.info(process).map_err(misfit),
        EventType::Ok | EventType::Invoke => {
            let ret = model.decode_ret(op, &event).map_err(misfield)?;
            builder.ok(process, ret, None, line, time).map_err(misfit)
        }
    }
}

fn event_of(told: Told, names: Names) -> Event {
    let name = names.of(&told.request);
    let mut event = Event::new(told.process, told.kind);
    (event.f, event.key) = (Some(name.to_owned()), told.key);
    let reads = matches!(name, "read" | "get");
    match told.value {
        // What a read returns is in its completion only; a delete has nothing to say.
        Payload::One(None) if name == "delete" || (reads && told.kind == EventType::Invoke) => {}
        Payload::Absent => {}
        Payload::One(value) => event.value = Some(value),
        Payload::Two(expected, new) => (event.expected, event.value) = (Some(expected), Some(new)),
    }
    // A cas that did not match is a :fail.
    event.swapped = (name == "cas" && told.kind == EventType::Ok).then_some(true);
    event
}

/// A completion must name the request that is open, and may repeat what was asked, but not ask for something else.
fn same_request<M: Wire>(model: &M, op: &M::Op, event: &Event, places: Places) -> Result<(), Malformed> {
    let mut asked = Event::new(event.process, EventType::Invoke);
    model.encode_op(op, &mut asked);
    let name = asked.f.unwrap_or_default();
    if event.f.as_ref() != Some(&name) {
        let message = format!("the open operation of process {} is :{name}", event.process);
        return Err(places.request.malformed(message));
    }
    if event.key.is_some() && event.key != asked.key {
        let key = asked.key.map_or_else(|| "without a key".to_owned(), |key| format!("on key {key}"));
        let message = format!("the open operation of process {} is {key}", event.process);
        return Err(places.value.malformed(message));
    }
    Ok(())
}
