//! The form of porcupine's key-value test data: `{:process 2, :type :invoke, :f :append, :key "1", :value "x 2 0 y"}`.
//!
//! A key is the empty string at first. Strings are taken as they stand, without escapes: a value ends at the last quote.

use std::io::BufRead;

use crate::history::{History, HistoryBuilder};
use crate::models::kv::{KvOp, KvRet};
use crate::read::lines::{Line, Lines, Malformed};
use crate::value::Value;

/// Whether a line looks like one of this form, and not just like some EDN.
pub(crate) fn recognises(text: &str) -> bool {
    let request = text.strip_prefix("{:process ").and_then(|rest| rest.split_once(", :f "));
    let keyed = [":get, :key \"", ":put, :key \"", ":append, :key \""];
    request.is_some_and(|(_, request)| keyed.iter().any(|form| request.starts_with(form)))
}

struct Fields<'a> {
    process: u64,
    kind: &'a str,
    request: &'a str,
    key: Value,
    /// `None` for `nil`.
    value: Option<Value>,
}

pub(crate) fn read<R: BufRead>(lines: &mut Lines<R>) -> Result<History<KvOp, KvRet>, Malformed> {
    let mut builder = HistoryBuilder::new();
    while let Some(line) = lines.next()? {
        add(&mut builder, &line)?;
    }
    Ok(builder.finish())
}

fn add(builder: &mut HistoryBuilder<KvOp, KvRet>, line: &Line) -> Result<(), Malformed> {
    let Fields { process, kind, request, key, value } = fields(line)?;
    let misfit = |misfit: crate::history::Misfit| line.malformed(1, misfit.to_string());
    let must =
        |value: Option<Value>| value.ok_or_else(|| line.malformed(1, "expected a :value that is not nil"));
    match kind {
        ":invoke" => {
            let op = match request {
                ":get" => KvOp::Get { key },
                ":put" => KvOp::Put { key, value: must(value)? },
                ":append" => KvOp::Append { key, value: must(value)? },
                _ => return Err(line.malformed(1, "expected :f :get, :put or :append")),
            };
            builder.invoke(process, op, line.number, None).map_err(misfit)
        }
        ":ok" => {
            let (ret, fits) = match builder.open(process).map_err(misfit)? {
                KvOp::Get { key: asked } => {
                    (KvRet::Value(Some(must(value)?)), request == ":get" && *asked == key)
                }
                KvOp::Put { key: asked, .. } => (KvRet::Done, request == ":put" && *asked == key),
                KvOp::Append { key: asked, .. } => (KvRet::Done, request == ":append" && *asked == key),
                _ => (KvRet::Done, false),
            };
            if !fits {
                return Err(line.malformed(1, format!("not what process {process} asked for")));
            }
            builder.ok(process, ret, None, line.number, None).map_err(misfit)
        }
        ":fail" => builder.fail(process).map_err(misfit),
        ":info" => builder.info(process).map_err(misfit),
        _ => Err(line.malformed(1, "expected :type :invoke, :ok, :fail or :info")),
    }
}

fn fields(line: &Line) -> Result<Fields<'_>, Malformed> {
    let mut rest = line.text.as_str();
    let mut until = |before: &str, after: &str| {
        let column = line.text.len() - rest.len() + 1;
        let expected = || line.malformed(column, format!("expected {before}…{after}"));
        let start = rest.strip_prefix(before).ok_or_else(expected)?;
        let (field, next) = start.split_once(after).ok_or_else(expected)?;
        rest = next;
        Ok(field)
    };
    let process = until("{:process ", ", :type ")?;
    let kind = until("", ", :f ")?;
    let request = until("", ", :key \"")?;
    let key = until("", "\", :value ")?;
    let column = line.text.len() - rest.len() + 1;
    let expected = |message: &str| line.malformed(column, message);
    let value = rest.strip_suffix('}').ok_or_else(|| expected("expected a value and }"))?;
    let value = match value {
        "nil" => None,
        _ => {
            let text = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
            Some(Value::from(text.ok_or_else(|| expected("expected nil or a string"))?))
        }
    };
    let process = process.parse().map_err(|_| line.malformed(11, "expected the number of a process"))?;
    Ok(Fields { process, kind, request, key: Value::from(key), value })
}
