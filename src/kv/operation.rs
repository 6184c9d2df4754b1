//! Mutations of byte strings: put, append, delete, compare-and-set.
//!
//! Invariants:
//! - a missing key and an empty value are different things everywhere;
//! - a mutation writes its one key or nothing; what it refuses, it refuses by the view, the mutation and the limits
//!   alone, so every replica refuses it alike and nothing is written.

use super::KvLimits;
use crate::proto::kv::mutation::Operation;
use crate::proto::kv::mutation_result::Result as Did;
use crate::proto::kv::{Append, Cas, Delete, Put};
use crate::session::Whole;
use crate::view::{Batch, View, ViewError};

/// User keys live under this prefix.
pub(crate) const USER_PREFIX: &[u8] = b"k/";

/// Where the user's `key` is in the state store.
pub(super) fn user_key(key: &[u8]) -> Vec<u8> {
    [USER_PREFIX, key].concat()
}

/// Executes `operation` over `view`; what it writes goes to `batch`.
pub(super) fn execute(
    view: &dyn View,
    limits: &KvLimits,
    operation: &Operation,
    batch: &mut Batch,
) -> Result<Did, ViewError> {
    let Some(key) = key_of(operation) else {
        return Ok(Did::Refused("this group keeps keys; configs are made by the controllers".to_owned()));
    };
    if key.len() > limits.key_bytes_max {
        return Ok(refused("key", key.len(), limits.key_bytes_max));
    }
    let stored = user_key(key);
    let value_bytes_max = limits.value_bytes_max;
    let mut write = |value: Vec<u8>| {
        if value.len() > value_bytes_max {
            return refused("value", value.len(), value_bytes_max);
        }
        batch.put(stored.clone(), value);
        Did::Done(true)
    };
    Ok(match operation {
        Operation::Put(Put { value, .. }) => write(value.to_vec()),
        Operation::Append(Append { value, .. }) => {
            let mut whole = view.get(&stored)?.unwrap_or_default();
            whole.extend_from_slice(value);
            write(whole)
        }
        Operation::Delete(Delete { .. }) => match view.get(&stored)? {
            None => Did::DeleteMissing(true),
            Some(_) => {
                batch.delete(stored);
                Did::Done(true)
            }
        },
        Operation::Cas(Cas { expected, new, .. }) => {
            if view.get(&stored)?.as_deref() == expected.as_deref() {
                write(new.to_vec())
            } else {
                Did::CasMismatch(true)
            }
        }
        Operation::Change(_) => unreachable!("it has no key"),
    })
}

impl Whole {
    /// The key that the command changes; `None` if it opens a session or is of another service.
    pub(crate) fn key(&self) -> Option<&[u8]> {
        self.operation().and_then(key_of)
    }
}

/// `None`: it is of another service.
fn key_of(operation: &Operation) -> Option<&[u8]> {
    match operation {
        Operation::Put(Put { key, .. })
        | Operation::Append(Append { key, .. })
        | Operation::Delete(Delete { key })
        | Operation::Cas(Cas { key, .. }) => Some(key),
        Operation::Change(_) => None,
    }
}

/// The text is kept in sessions, so it is part of the replicated state: change it only with the format version.
fn refused(what: &str, bytes: usize, bytes_max: usize) -> Did {
    Did::Refused(format!("the {what} would have {bytes} bytes; at most {bytes_max} are allowed"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::SessionLimits;
    use std::collections::BTreeMap;

    const LIMITS: KvLimits = KvLimits {
        value_bytes_max: 4,
        key_bytes_max: 3,
        sessions: SessionLimits {
            session_window: 4,
            sessions_max: 4,
            session_idle_ms: 1,
            session_idle_entries: 1,
        },
    };

    /// Executes over a view that holds `before` at `key`; returns the result and the key's value afterwards.
    fn run(before: Option<&str>, operation: Operation) -> (Did, Option<Vec<u8>>) {
        let stored = user_key(key_of(&operation).unwrap());
        let mut map: BTreeMap<_, _> =
            before.map(|value| (stored.clone(), value.into())).into_iter().collect();
        let mut batch = Batch::new();
        let did = execute(&map, &LIMITS, &operation, &mut batch).unwrap();
        for (key, value) in batch.writes {
            assert_eq!(key, stored, "a mutation writes its own key only");
            match value {
                Some(value) => map.insert(key, value),
                None => map.remove(&key),
            };
        }
        (did, map.remove(&stored))
    }

    fn put(key: &'static str, value: &'static str) -> Operation {
        Operation::Put(Put { key: key.into(), value: value.into() })
    }

    fn append(value: &'static str) -> Operation {
        Operation::Append(Append { key: "k".into(), value: value.into() })
    }

    fn delete() -> Operation {
        Operation::Delete(Delete { key: "k".into() })
    }

    fn cas(expected: Option<&'static str>, new: &'static str) -> Operation {
        Operation::Cas(Cas { key: "k".into(), expected: expected.map(Into::into), new: new.into() })
    }

    fn some(value: &str) -> Option<Vec<u8>> {
        Some(value.into())
    }

    #[test]
    fn a_missing_key_and_an_empty_value_are_different() {
        assert_eq!(run(None, put("k", "")), (Did::Done(true), some("")));
        assert_eq!(run(None, delete()), (Did::DeleteMissing(true), None));
        assert_eq!(run(Some(""), delete()), (Did::Done(true), None));
        assert_eq!(run(None, cas(None, "1")), (Did::Done(true), some("1")));
        assert_eq!(run(Some(""), cas(None, "1")), (Did::CasMismatch(true), some("")));
        assert_eq!(run(None, cas(Some(""), "1")), (Did::CasMismatch(true), None));
        assert_eq!(run(Some(""), cas(Some(""), "1")), (Did::Done(true), some("1")));
    }

    #[test]
    fn append_creates_and_extends() {
        assert_eq!(run(None, append("ab")), (Did::Done(true), some("ab")));
        assert_eq!(run(Some("ab"), append("cd")), (Did::Done(true), some("abcd")));
        assert_eq!(run(None, append("")), (Did::Done(true), some("")));
    }

    #[test]
    fn cas_compares_the_whole_value() {
        assert_eq!(run(Some("ab"), cas(Some("a"), "x")), (Did::CasMismatch(true), some("ab")));
        assert_eq!(run(Some("ab"), cas(Some("ab"), "x")), (Did::Done(true), some("x")));
    }

    #[test]
    fn what_would_grow_over_a_limit_is_refused_and_nothing_is_written() {
        let too_large = Did::Refused("the value would have 5 bytes; at most 4 are allowed".into());
        assert_eq!(run(Some("old"), put("k", "12345")), (too_large.clone(), some("old")));
        assert_eq!(run(Some("123"), append("45")), (too_large.clone(), some("123")));
        assert_eq!(run(Some("1"), cas(Some("1"), "12345")), (too_large, some("1")));
        assert_eq!(run(None, put("k", "1234")), (Did::Done(true), some("1234")));
        let too_long = Did::Refused("the key would have 4 bytes; at most 3 are allowed".into());
        assert_eq!(run(None, put("long", "1")), (too_long, None));
        assert_eq!(run(None, put("lon", "1")), (Did::Done(true), some("1")));
    }

    #[test]
    fn any_bytes_are_a_key_and_none_leaves_the_users_prefix() {
        for key in [&b""[..], b"\0", b"/", b"\xff\xff", b"t"] {
            assert!(user_key(key).starts_with(b"k/"));
            let operation = Operation::Put(Put { key: key.to_vec().into(), value: vec![0, 0xff].into() });
            assert_eq!(run(None, operation), (Did::Done(true), Some(vec![0, 0xff])));
        }
    }
}
