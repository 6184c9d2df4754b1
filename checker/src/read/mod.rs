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

use std::io::{self, BufRead, Write};

use clap::ValueEnum;

use crate::check::{Options, check, linearize};
use crate::history::History;
use crate::minimize::minimize;
use crate::models::ModelKind;
use crate::models::kv::{Kv, KvOp, KvRet};
use crate::models::register::{Register, RegisterOp, RegisterRet};
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
pub enum AnyHistory {
    /// Of a key-value store.
    Kv(Kv, History<KvOp, KvRet>),
    /// Of registers.
    Register(Register, History<RegisterOp, RegisterRet>),
}

impl AnyHistory {
    /// Says whether it is linearizable.
    pub fn check(&self, options: &Options) -> Report {
        match self {
            AnyHistory::Kv(model, history) => check(model, history, options),
            AnyHistory::Register(model, history) => check(model, history, options),
        }
    }

    /// Draws it, with what a check found; see [`picture()`].
    pub fn picture(&self, report: &Report, title: &str, options: &Options) -> String {
        match self {
            AnyHistory::Kv(model, history) => picture(model, history, report, title, options),
            AnyHistory::Register(model, history) => picture(model, history, report, title, options),
        }
    }

    /// Its operations as intervals, with what a check found; see [`Interval`].
    pub fn intervals(&self, report: &Report, options: &Options) -> Vec<Interval> {
        match self {
            AnyHistory::Kv(model, history) => intervals(model, history, report, options),
            AnyHistory::Register(model, history) => intervals(model, history, report, options),
        }
    }

    /// A small part that is a violation by itself; `None` unless this is one.
    pub fn minimize(&self, options: &Options) -> Option<AnyHistory> {
        match self {
            AnyHistory::Kv(model, history) => {
                minimize(model, history, options).map(|small| AnyHistory::Kv(model.clone(), small))
            }
            AnyHistory::Register(model, history) => {
                minimize(model, history, options).map(|small| AnyHistory::Register(*model, small))
            }
        }
    }

    /// Writes the order that proves the history linearizable; false if there is none or it was not found.
    pub fn write_witness(&self, options: &Options, out: &mut impl Write) -> io::Result<bool> {
        let orders = match self {
            AnyHistory::Kv(model, history) => linearize(model, history, options),
            AnyHistory::Register(model, history) => linearize(model, history, options),
        };
        orders.map_or(Ok(false), |orders| witness::write(&orders, out).map(|()| true))
    }

    /// Verifies what [`AnyHistory::write_witness`] wrote. An error says what is wrong with it.
    pub fn verify_witness(&self, reader: impl BufRead) -> Result<(), String> {
        let orders = witness::read(reader).map_err(|malformed| malformed.to_string())?;
        let verified = match self {
            AnyHistory::Kv(model, history) => verify(model, history, &orders),
            AnyHistory::Register(model, history) => verify(model, history, &orders),
        };
        verified.map_err(|flaw| flaw.to_string())
    }

    /// Writes the history as JSON Lines. These know no content at first but nothing, so any other is put first.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        match self {
            AnyHistory::Kv(model, history) => {
                write_jsonl(model, ModelKind::Kv, &model.with_initial_puts(history), out)
            }
            AnyHistory::Register(model, history) => {
                let kind = if model.has_cas() { ModelKind::CasRegister } else { ModelKind::Register };
                write_jsonl(model, kind, history, out)
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
            Ok(AnyHistory::Kv(Kv::with_initial(Value::from("")), porcupine::read(&mut lines)?))
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

fn read_jsonl<R: BufRead>(lines: &mut Lines<R>, asked: Option<ModelKind>) -> Result<AnyHistory, Malformed> {
    let register = |model: Register, lines: &mut Lines<R>| {
        Ok(AnyHistory::Register(model, jsonl::read_events(&model, lines)?))
    };
    match jsonl::read_header(lines, asked)? {
        ModelKind::Kv => Ok(AnyHistory::Kv(Kv::new(), jsonl::read_events(&Kv::new(), lines)?)),
        ModelKind::Register => register(Register::plain(), lines),
        ModelKind::CasRegister => register(Register::with_cas(), lines),
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
