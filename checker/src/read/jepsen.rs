//! The log that Jepsen's etcd test prints: `INFO  jepsen.util - 2 :invoke :cas [3 0]`, with tabs.
//!
//! `:fail` of a cas means that the comparison failed; `:fail` of anything else that it was not executed. Lines of other
//! loggers, and of the nemesis, are not part of the history.
//!
//! Nothing closes a line but its end: `0 :ok :read 12` may have been cut from `0 :ok :read 123`. So a last line without one
//! is an error.

use std::io::BufRead;

use crate::history::{History, HistoryBuilder};
use crate::models::register::{RegisterOp, RegisterRet};
use crate::read::lines::{Line, Lines, Malformed};
use crate::value::Value;

type Builder = HistoryBuilder<RegisterOp, RegisterRet>;

const LEVELS: [&str; 5] = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR"];

/// Whether a line looks like one of a log.
pub(crate) fn recognises(text: &str) -> bool {
    let mut words = text.split_whitespace();
    words.next().is_some_and(|level| LEVELS.contains(&level)) && words.nth(1) == Some("-")
}

pub(crate) fn read<R: BufRead>(lines: &mut Lines<R>) -> Result<History<RegisterOp, RegisterRet>, Malformed> {
    let mut builder = Builder::new();
    while let Some(line) = lines.next()? {
        if !recognises(&line.text) {
            return Err(
                line.malformed(1, "expected a log line, as in INFO  jepsen.util - 0 :invoke :read nil")
            );
        }
        if !line.ended {
            let message =
                "the file ends in this line, so it may have been cut; expected a line break behind it";
            return Err(line.malformed(line.text.len() + 1, message));
        }
        let words: Vec<&str> = line.text.split_whitespace().collect();
        if words[1] != "jepsen.util" || words.get(3) == Some(&":nemesis") {
            continue;
        }
        add(&mut builder, &line, &words[3..])?;
    }
    Ok(builder.finish())
}

fn add(builder: &mut Builder, line: &Line, words: &[&str]) -> Result<(), Malformed> {
    let malformed = |word: usize, message: &str| {
        let column = words.get(word).map_or(line.text.len(), |word| offset(&line.text, word));
        line.malformed(column + 1, message)
    };
    let process = words.first().and_then(|word| word.parse::<u64>().ok());
    let process = process.ok_or_else(|| malformed(0, "expected the number of a process"))?;
    let number = line.number;
    let request = words.get(2).copied().unwrap_or_default();
    if !matches!(request, ":read" | ":write" | ":cas") {
        return Err(malformed(2, "expected :read, :write or :cas"));
    }
    let unknown = words.get(3) == Some(&":timed-out");
    let misfit = |misfit: crate::history::Misfit| malformed(0, &misfit.to_string());
    match words.get(1).copied().unwrap_or_default() {
        ":invoke" => {
            let op = op(words).ok_or_else(|| malformed(3, "expected nil, a value, or [expected new]"))?;
            builder.invoke(process, op, number, None).map_err(misfit)
        }
        ":ok" | ":fail" | ":info" if name(builder.open(process).map_err(misfit)?) != request => Err(
            malformed(2, &format!("the open operation is {}", name(builder.open(process).map_err(misfit)?))),
        ),
        ":info" => builder.info(process).map_err(misfit),
        ":fail" if unknown => builder.info(process).map_err(misfit),
        ":fail" if request == ":cas" => {
            builder.ok(process, RegisterRet::Swapped(false), None, number, None).map_err(misfit)
        }
        ":fail" => builder.fail(process).map_err(misfit),
        ":ok" => {
            let asked = op(words).ok_or_else(|| malformed(3, "expected nil, a value, or [expected new]"))?;
            if request != ":read" && builder.open(process).map_err(misfit)? != &asked {
                return Err(malformed(3, "not what the process asked for"));
            }
            let ret = match asked {
                RegisterOp::Read { .. } => RegisterRet::Value(value(words[3])),
                RegisterOp::Write { .. } => RegisterRet::Done,
                RegisterOp::Cas { .. } => RegisterRet::Swapped(true),
            };
            builder.ok(process, ret, None, number, None).map_err(misfit)
        }
        _ => Err(malformed(1, "expected :invoke, :ok, :fail or :info")),
    }
}

fn name(op: &RegisterOp) -> &'static str {
    match op {
        RegisterOp::Read { .. } => ":read",
        RegisterOp::Write { .. } => ":write",
        RegisterOp::Cas { .. } => ":cas",
    }
}

fn op(words: &[&str]) -> Option<RegisterOp> {
    match words {
        [_, _, ":read", _] => Some(RegisterOp::Read { key: None }),
        [_, _, ":write", new] => Some(RegisterOp::Write { key: None, value: value(new)? }),
        [_, _, ":cas", expected, new] => Some(RegisterOp::Cas {
            key: None,
            expected: value(expected.strip_prefix('[')?),
            new: value(new.strip_suffix(']')?)?,
        }),
        _ => None,
    }
}

fn value(word: &str) -> Option<Value> {
    (word != "nil").then(|| Value::from(word))
}

fn offset(text: &str, word: &str) -> usize {
    word.as_ptr() as usize - text.as_ptr() as usize
}
