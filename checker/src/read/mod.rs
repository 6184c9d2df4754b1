//! Reading histories: four formats, told apart by their first line.
//!
//! Invariant: whatever cannot be understood is an error with a place. Nothing is guessed, skipped or repaired, since a
//! history that lost a line may look linearizable, or not, when the recorded one was the opposite.

mod edn;
pub(crate) mod event;
mod jepsen;
mod jepsen_edn;
pub(crate) mod jsonl;
pub(crate) mod lines;
mod porcupine;

use std::io::{self, BufRead, Read, Write};

use clap::ValueEnum;

use crate::check::{Options, check, linearize};
use crate::history::History;
use crate::minimize::minimize;
use crate::models::ModelKind;
use crate::models::controller::{Controller, ControllerOp, ControllerRet};
use crate::models::counter::{Counter, CounterOp};
use crate::models::kv::{Kv, KvOp, KvRet};
use crate::models::list::{ListAppend, ListOp};
use crate::models::register::{Register, RegisterOp, RegisterRet};
use crate::online::OnlineOptions;
use crate::picture::{Interval, intervals, picture};
use crate::read::jsonl::write_jsonl;
use crate::read::lines::{Lines, Malformed};
use crate::report::Report;
use crate::value::Value;
use crate::verify::verify;
use crate::witness;

/// How a history is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// Whichever the first line looks like.
    #[default]
    Auto,
    /// JSON Lines, as in docs/HISTORIES.md.
    Jsonl,
    /// The log of Jepsen's etcd test; a cas-register.
    JepsenLog,
    /// The history that Jepsen stores, history.edn: a register with cas, or a store.
    JepsenEdn,
    /// The form of porcupine's key-value test data.
    PorcupineKv,
}

/// A history together with its model.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum AnyHistory {
    /// Of a key-value store.
    Kv(Kv, History<KvOp, KvRet>),
    /// Of registers.
    Register(Register, History<RegisterOp, RegisterRet>),
    /// Of a counter.
    Counter(Counter, History<CounterOp, Option<i64>>),
    /// Of lists.
    List(ListAppend, History<ListOp, Option<Vec<Value>>>),
    /// Of a shard controller.
    Controller(Controller, History<ControllerOp, ControllerRet>),
}

/// The same for every model.
macro_rules! each {
    ($any:expr, $model:ident, $history:ident => $body:expr) => {
        match $any {
            AnyHistory::Kv($model, $history) => $body,
            AnyHistory::Register($model, $history) => $body,
            AnyHistory::Counter($model, $history) => $body,
            AnyHistory::List($model, $history) => $body,
            AnyHistory::Controller($model, $history) => $body,
        }
    };
}

impl AnyHistory {
    /// Says whether it is linearizable.
    pub fn check(&self, options: &Options) -> Report {
        each!(self, model, history => check(model, history, options))
    }

    /// Draws it, with what a check found; see [`picture()`].
    pub fn picture(&self, report: &Report, title: &str, options: &Options) -> String {
        each!(self, model, history => picture(model, history, report, title, options))
    }

    /// Its operations as intervals, with what a check found; see [`Interval`].
    pub fn intervals(&self, report: &Report, options: &Options) -> Vec<Interval> {
        each!(self, model, history => intervals(model, history, report, options))
    }

    /// A small part that is a violation by itself; `None` unless this is one.
    pub fn minimize(&self, options: &Options) -> Option<AnyHistory> {
        Some(match self {
            AnyHistory::Kv(model, history) => {
                AnyHistory::Kv(model.clone(), minimize(model, history, options)?)
            }
            AnyHistory::Register(model, history) => {
                AnyHistory::Register(*model, minimize(model, history, options)?)
            }
            AnyHistory::Counter(model, history) => {
                AnyHistory::Counter(*model, minimize(model, history, options)?)
            }
            AnyHistory::List(model, history) => AnyHistory::List(*model, minimize(model, history, options)?),
            AnyHistory::Controller(model, history) => {
                AnyHistory::Controller(*model, minimize(model, history, options)?)
            }
        })
    }

    /// Writes the order that proves the history linearizable; false if there is none or it was not found.
    pub fn write_witness(&self, options: &Options, out: &mut impl Write) -> io::Result<bool> {
        let orders = each!(self, model, history => linearize(model, history, options));
        orders.map_or(Ok(false), |orders| witness::write(&orders, out).map(|()| true))
    }

    /// Verifies what [`AnyHistory::write_witness`] wrote. An error says what is wrong with it.
    pub fn verify_witness(&self, reader: impl BufRead) -> Result<(), String> {
        let orders = witness::read(reader).map_err(|malformed| malformed.to_string())?;
        let verified = each!(self, model, history => verify(model, history, &orders));
        verified.map_err(|flaw| flaw.to_string())
    }

    /// Writes the history as JSON Lines.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        match self {
            AnyHistory::Kv(model, history) => {
                let initial = model.initial_value().map(serde_json::to_string).transpose()?;
                let initial = initial.map(|initial| format!(",\"initial\":{initial}"));
                jsonl::write_header(ModelKind::Kv, &initial.unwrap_or_default(), out)?;
                jsonl::write_events(model, history, out)
            }
            AnyHistory::Register(model, history) => {
                let kind = if model.has_cas() { ModelKind::CasRegister } else { ModelKind::Register };
                write_jsonl(model, kind, history, out)
            }
            AnyHistory::Counter(model, history) => write_jsonl(model, ModelKind::Counter, history, out),
            AnyHistory::List(model, history) => write_jsonl(model, ModelKind::ListAppend, history, out),
            AnyHistory::Controller(model, history) => {
                let shards = format!(",\"shards\":{}", model.shards());
                jsonl::write_header(ModelKind::Ctrler, &shards, out)?;
                jsonl::write_events(model, history, out)
            }
        }
    }
}

/// Reads a history in the given format. `model` is needed if the file does not name one, and must agree if it does.
pub fn read_history(
    reader: impl BufRead,
    format: Format,
    model: Option<ModelKind>,
) -> Result<AnyHistory, Malformed> {
    let mut lines = Lines::new(reader);
    match if format == Format::Auto { detect(&mut lines)? } else { format } {
        Format::Auto | Format::Jsonl => read_jsonl(&mut lines, model),
        Format::JepsenLog => {
            agrees(model, ModelKind::CasRegister)?;
            Ok(AnyHistory::Register(Register::with_cas(), jepsen::read(&mut lines)?))
        }
        Format::JepsenEdn => jepsen_edn::read(&mut lines, model),
        Format::PorcupineKv => {
            agrees(model, ModelKind::Kv)?;
            Ok(AnyHistory::Kv(Kv::starting_with(Some(Value::from(""))), porcupine::read(&mut lines)?))
        }
    }
}

/// Reads a history in the JSON Lines format and checks it.
pub fn check_jsonl(
    reader: impl BufRead,
    model: Option<ModelKind>,
    options: &Options,
) -> Result<Report, Malformed> {
    Ok(read_history(reader, Format::Jsonl, model)?.check(options))
}

/// Follows a history in the JSON Lines format as it is written, in bounded memory, up to the first violation; see
/// [`Online`](crate::Online). A violation is told at the very return, as soon as nothing more is there to be read.
pub fn follow_jsonl(
    reader: impl Read,
    model: Option<ModelKind>,
    options: OnlineOptions,
) -> Result<Report, Malformed> {
    let mut lines = Lines::followed(reader);
    let jsonl::Subject { model, shards, initial } = jsonl::read_header(&mut lines, model)?;
    match model {
        ModelKind::Kv => jsonl::follow(Kv::starting_with(initial), &mut lines, options),
        ModelKind::Register => jsonl::follow(Register::plain(), &mut lines, options),
        ModelKind::CasRegister => jsonl::follow(Register::with_cas(), &mut lines, options),
        ModelKind::Counter => jsonl::follow(Counter, &mut lines, options),
        ModelKind::ListAppend => jsonl::follow(ListAppend, &mut lines, options),
        ModelKind::Ctrler => jsonl::follow(Controller::new(shards), &mut lines, options),
    }
}

fn read_jsonl<R: BufRead>(lines: &mut Lines<R>, asked: Option<ModelKind>) -> Result<AnyHistory, Malformed> {
    let register = |model: Register, lines: &mut Lines<R>| {
        Ok(AnyHistory::Register(model, jsonl::read_events(&model, lines)?))
    };
    let jsonl::Subject { model, shards, initial } = jsonl::read_header(lines, asked)?;
    match model {
        ModelKind::Kv => {
            let model = Kv::starting_with(initial);
            let history = jsonl::read_events(&model, lines)?;
            Ok(AnyHistory::Kv(model, history))
        }
        ModelKind::Register => register(Register::plain(), lines),
        ModelKind::CasRegister => register(Register::with_cas(), lines),
        ModelKind::Counter => Ok(AnyHistory::Counter(Counter, jsonl::read_events(&Counter, lines)?)),
        ModelKind::ListAppend => Ok(AnyHistory::List(ListAppend, jsonl::read_events(&ListAppend, lines)?)),
        ModelKind::Ctrler => {
            let model = Controller::new(shards);
            Ok(AnyHistory::Controller(model, jsonl::read_events(&model, lines)?))
        }
    }
}

fn detect<R: BufRead>(lines: &mut Lines<R>) -> Result<Format, Malformed> {
    let Some(first) = lines.peek()? else {
        let message = "empty, so the format is not known: name it (--format) if nothing was recorded";
        return Err(Malformed::new(1, 1, message));
    };
    if porcupine::recognises(&first.text) {
        Ok(Format::PorcupineKv)
    } else if jepsen::recognises(&first.text) {
        Ok(Format::JepsenLog)
    } else if jepsen_edn::recognises(&first.text) {
        Ok(Format::JepsenEdn)
    } else if first.text.trim_start().starts_with('{') {
        Ok(Format::Jsonl)
    } else {
        let message = "not a known format: expected a JSON object, an EDN map or a log line (see --format)";
        Err(first.malformed(1, message))
    }
}

fn agrees(asked: Option<ModelKind>, format: ModelKind) -> Result<(), Malformed> {
    match asked {
        Some(asked) if asked != format => {
            let message = format!("this format is of model {}, not {}", format.name(), asked.name());
            Err(Malformed::new(1, 1, message))
        }
        _ => Ok(()),
    }
}
