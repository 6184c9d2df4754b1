//! What the clients never learned and the simulator saw: the log index at which an operation of unknown outcome took
//! effect, written into the history as a hint.
//!
//! The checker trusts no hint, so nothing here can make a wrong history pass: it replays the order that the indexes
//! give, which costs one pass where a search among a dozen unknown outcomes on one key may cost all its steps.
//!
//! An entry of the log is matched to an operation by what was asked. Of equal operations the one invoked first gets the
//! entry applied first: if any way to match them fits their invocations, this one does.

use std::collections::{BTreeMap, VecDeque};

use eraft::proto::kv::mutation::Operation;
use eraft::proto::kv::{Append, Cas, Delete, Mutation, Put};
use eraft::types::Index;
use serde::Deserialize;
use serde_json::Value;

/// One line of a history.
#[derive(Deserialize)]
struct Line {
    process: Option<u64>,
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    f: String,
    #[serde(default)]
    key: Value,
    #[serde(default)]
    value: Value,
    #[serde(default)]
    expected: Value,
    index: Option<u64>,
}

/// What was asked: request, key, value, expected value; as the history writes them.
type Asked = (String, String, String, String);

impl Line {
    fn asked(&self) -> Asked {
        (self.f.clone(), self.key.to_string(), self.value.to_string(), self.expected.to_string())
    }
}

fn written(bytes: &[u8]) -> String {
    Value::from(String::from_utf8_lossy(bytes).as_ref()).to_string()
}

fn asked(mutation: Mutation) -> Option<Asked> {
    let none = || Value::Null.to_string();
    Some(match mutation.operation? {
        Operation::Put(Put { key, value }) => ("put".to_owned(), written(&key), written(&value), none()),
        Operation::Append(Append { key, value }) => {
            ("append".to_owned(), written(&key), written(&value), none())
        }
        Operation::Delete(Delete { key }) => ("delete".to_owned(), written(&key), none(), none()),
        Operation::Cas(Cas { key, expected, new }) => {
            let expected = expected.map_or_else(none, |expected| written(&expected));
            ("cas".to_owned(), written(&key), written(&new), expected)
        }
        Operation::Change(_) => return None, // no history of keys has it
    })
}

/// The history with an end for every operation: of what a client had under way when its process died, nobody knows.
fn closed(mut history: Vec<u8>) -> Vec<u8> {
    let mut open: BTreeMap<u64, String> = BTreeMap::new();
    for line in history.split(|byte| *byte == b'\n') {
        let Ok(line) = serde_json::from_slice::<Line>(line) else { continue };
        let Some(process) = line.process else { continue };
        if line.kind == "invoke" {
            open.insert(process, line.f);
        } else {
            open.remove(&process);
        }
    }
    for (process, f) in open {
        if history.last().is_some_and(|byte| *byte != b'\n') {
            history.push(b'\n');
        }
        let error = "its client went away";
        let end = serde_json::json!({"process": process, "type": "info", "f": f, "error": error});
        history.extend_from_slice(end.to_string().as_bytes());
    }
    history
}

/// The history with the indexes of `effects` (mutations in the order in which they took effect) in its `info` lines. A
/// line that is not understood stays as it is: the checker says what is wrong with it.
pub(crate) fn resolve(history: Vec<u8>, effects: Vec<(Index, Mutation)>) -> Vec<u8> {
    let history = closed(history);
    let lines: Vec<&[u8]> = history.split(|byte| *byte == b'\n').collect();
    // By process: what it asked, and when (the number of the line).
    let mut open: BTreeMap<u64, (usize, Asked)> = BTreeMap::new();
    // By number of the invocation: what was asked, and the line that says that nobody knows.
    let mut unknown: BTreeMap<usize, (Asked, usize)> = BTreeMap::new();
    let mut claimed = std::collections::BTreeSet::new();
    for (number, line) in lines.iter().enumerate() {
        let Ok(line) = serde_json::from_slice::<Line>(line) else { continue };
        let Some(process) = line.process else { continue };
        match line.kind.as_str() {
            "invoke" => {
                open.insert(process, (number, line.asked()));
            }
            "info" => {
                if let Some((invoked, asked)) = open.remove(&process) {
                    unknown.insert(invoked, (asked, number));
                }
            }
            // A read only reflects the index that it tells.
            _ => {
                let asked = open.remove(&process);
                claimed.extend(line.index.filter(|_| asked.is_some_and(|(_, (f, ..))| f != "get")));
            }
        }
    }
    if unknown.is_empty() {
        return history;
    }
    let mut unclaimed: BTreeMap<Asked, VecDeque<Index>> = BTreeMap::new();
    for (index, mutation) in effects {
        if !claimed.contains(&index.0)
            && let Some(asked) = asked(mutation)
        {
            unclaimed.entry(asked).or_default().push_back(index);
        }
    }
    let mut hints: BTreeMap<usize, Index> = BTreeMap::new();
    for (asked, number) in unknown.into_values() {
        if let Some(index) = unclaimed.get_mut(&asked).and_then(VecDeque::pop_front) {
            hints.insert(number, index);
        }
    }
    let mut resolved = Vec::with_capacity(history.len() + 16 * hints.len());
    for (number, line) in lines.iter().enumerate() {
        if number > 0 {
            resolved.push(b'\n');
        }
        match (hints.get(&number), line.strip_suffix(b"}")) {
            (Some(index), Some(object)) => {
                resolved.extend_from_slice(object);
                resolved.extend_from_slice(format!(",\"index\":{index}}}").as_bytes());
            }
            _ => resolved.extend_from_slice(line),
        }
    }
    resolved
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(index: u64, value: &str) -> (Index, Mutation) {
        let put = Put { key: b"k".to_vec().into(), value: value.as_bytes().to_vec().into() };
        (Index(index), Mutation { operation: Some(Operation::Put(put)) })
    }

    #[test]
    fn an_operation_whose_client_died_gets_an_end_and_the_index_of_its_entry() {
        let history = [
            r#"{"format":"eraft-history","version":1,"model":"kv"}"#,
            r#"{"process":0,"type":"invoke","f":"put","key":"k","value":"1"}"#,
            "",
        ];
        let resolved = resolve(history.join("\n").into_bytes(), vec![put(4, "1")]);
        let resolved = String::from_utf8(resolved).unwrap();
        let end: Value = serde_json::from_str(resolved.lines().last().unwrap()).unwrap();
        let expected = serde_json::json!({
            "process": 0, "type": "info", "f": "put", "error": "its client went away", "index": 4
        });
        assert_eq!((resolved.lines().count(), end), (3, expected));
    }

    #[test]
    fn an_unknown_outcome_gets_the_index_of_its_entry_and_nothing_else_changes() {
        let history = [
            r#"{"format":"eraft-history","version":1,"model":"kv"}"#,
            r#"{"process":0,"type":"invoke","f":"put","key":"k","value":"1"}"#,
            r#"{"process":1,"type":"invoke","f":"put","key":"k","value":"1"}"#,
            r#"{"process":2,"type":"invoke","f":"put","key":"k","value":"1"}"#,
            r#"{"process":3,"type":"invoke","f":"put","key":"k","value":"3"}"#,
            r#"{"process":1,"type":"ok","f":"put","index":5}"#,
            r#"{"process":2,"type":"info","f":"put","error":"no answer"}"#,
            r#"{"process":0,"type":"info","f":"put","error":"no answer"}"#,
            r#"{"process":3,"type":"info","f":"put","error":"no answer"}"#,
            r#"{"process":1,"type":"invoke","f":"get","key":"k"}"#,
            r#"{"process":1,"type":"ok","f":"get","value":"1","index":9}"#,
        ];
        let resolved = resolve(history.join("\n").into_bytes(), vec![put(4, "1"), put(5, "1"), put(9, "1")]);
        let resolved = String::from_utf8(resolved).unwrap();
        let lines: Vec<&str> = resolved.lines().collect();
        assert_eq!(lines[6], r#"{"process":2,"type":"info","f":"put","error":"no answer","index":9}"#);
        assert_eq!(lines[7], r#"{"process":0,"type":"info","f":"put","error":"no answer","index":4}"#);
        assert_eq!(lines[8], history[8], "it never took effect");
        assert_eq!(lines[..6], history[..6]);
    }
}
