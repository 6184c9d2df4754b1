//! What the clients asked and were told, and what must therefore be there.
//!
//! Every operation has a token of its own, 16 bytes that occur nowhere else. Puts go to a key of their own, appends
//! add their token to a shared key. So: what was acknowledged is there, once; what was refused is not; what is
//! unknown is there at most once; and each worker's tokens are in its own order, because it asks for the next
//! operation only after the one before has ended, and an operation that was given up is never executed after the
//! next one of its session.

use std::collections::{BTreeMap, BTreeSet};

/// Bytes of a token.
pub const TOKEN_BYTES: usize = 16;

/// The token of the `number`-th operation of `worker`.
pub fn token(worker: u64, number: u64) -> String {
    format!("[{worker:04}-{number:09}]")
}

/// All tokens in `bytes`, whatever is between them.
pub fn tokens_in(bytes: &[u8]) -> impl Iterator<Item = &str> {
    bytes.windows(TOKEN_BYTES).filter_map(|window| {
        let is_token = |(at, byte): (usize, &u8)| match at {
            0 => *byte == b'[',
            5 => *byte == b'-',
            15 => *byte == b']',
            _ => byte.is_ascii_digit(),
        };
        let found = window.iter().enumerate().all(is_token);
        found.then(|| std::str::from_utf8(window).expect("digits are text"))
    })
}

/// What became of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Acknowledged {
        at_ns: u64,
    },
    Refused,
    /// Told so, or not over yet.
    Unknown,
}

/// One put or append.
#[derive(Clone, Debug)]
pub struct Asked {
    pub key: String,
    pub is_append: bool,
    pub fate: Fate,
}

/// All operations, by worker and number.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    pub asked: BTreeMap<(u64, u64), Asked>,
}

impl Ledger {
    /// How many were acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.asked.values().filter(|asked| matches!(asked.fate, Fate::Acknowledged { .. })).count()
    }

    /// The keys that were put or appended to.
    pub fn keys(&self) -> BTreeSet<String> {
        self.asked.values().map(|asked| asked.key.clone()).collect()
    }

    /// The operations on the keys that were asked for since `earlier`, or were not over then.
    pub fn news(&self, earlier: &Ledger) -> Ledger {
        let is_old = |id| earlier.asked.get(id).is_some_and(|asked| asked.fate != Fate::Unknown);
        let new = self.asked.iter().filter(|(id, _)| !is_old(*id));
        let keys: BTreeSet<&String> = new.map(|(_, asked)| &asked.key).collect();
        let asked = self.asked.iter().filter(|(_, asked)| keys.contains(&asked.key));
        Ledger { asked: asked.map(|(id, asked)| (*id, asked.clone())).collect() }
    }

    /// What must hold of values that were read after this ledger and before `later`: what was acknowledged here is
    /// there, and what was asked for meanwhile may be.
    pub fn until(&self, later: &Ledger) -> Ledger {
        let keys = self.keys();
        let asked = later.asked.iter().filter(|(_, asked)| keys.contains(&asked.key)).map(|(id, asked)| {
            let is_sure =
                asked.fate == Fate::Refused || self.asked.get(id).is_some_and(|own| own.fate == asked.fate);
            let fate = if is_sure { asked.fate } else { Fate::Unknown };
            (*id, Asked { fate, ..asked.clone() })
        });
        Ledger { asked: asked.collect() }
    }

    /// What is wrong with `found`, the values of all keys of this ledger (those that are there).
    pub fn flaws(&self, found: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
        let mut flaws = Vec::new();
        let mut appended: BTreeMap<&str, BTreeMap<String, Fate>> = BTreeMap::new();
        for ((worker, number), asked) in &self.asked {
            let token = token(*worker, *number);
            if asked.is_append {
                appended.entry(&asked.key).or_default().insert(token, asked.fate);
                continue;
            }
            match (found.get(&asked.key), asked.fate) {
                (None, Fate::Acknowledged { .. }) => flaws.push(format!("{token}: the put is lost")),
                (Some(_), Fate::Refused) => flaws.push(format!("{token}: was refused, and is there")),
                (Some(value), _) if !value.starts_with(token.as_bytes()) => {
                    flaws.push(format!("{token}: another value: {}", value.escape_ascii()));
                }
                _ => {}
            }
        }
        for (key, fates) in appended {
            let value = found.get(key).map_or(&[][..], Vec::as_slice);
            check_appended(key, value, &fates, &mut flaws);
        }
        flaws
    }
}

fn check_appended(key: &str, value: &[u8], fates: &BTreeMap<String, Fate>, flaws: &mut Vec<String>) {
    let (mut seen, mut last_of_worker) = (BTreeSet::new(), BTreeMap::new());
    for piece in value.chunks(TOKEN_BYTES) {
        let Some(token) = tokens_in(piece).next() else {
            return flaws.push(format!("{key}: holds {}, which is no token", piece.escape_ascii()));
        };
        match fates.get(token) {
            None => flaws.push(format!("{key}: holds {token}, which nobody appended to it")),
            Some(Fate::Refused) => flaws.push(format!("{key}: holds {token}, which was refused")),
            Some(_) => {}
        }
        if !seen.insert(token) {
            flaws.push(format!("{key}: holds {token} twice"));
        }
        // Tokens of one worker sort by number.
        match last_of_worker.insert(&token[..5], token) {
            Some(before) if before > token => flaws.push(format!("{key}: holds {token} after {before}")),
            _ => {}
        }
    }
    for (token, fate) in fates {
        if matches!(fate, Fate::Acknowledged { .. }) && !seen.contains(&token[..]) {
            flaws.push(format!("{key}: the append of {token} is lost"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DONE: Fate = Fate::Acknowledged { at_ns: 1 };

    fn flaws(asked: &[(u64, u64, &str, bool, Fate)], found: &[(&str, String)]) -> Vec<String> {
        let mut ledger = Ledger::default();
        for (worker, number, key, is_append, fate) in asked {
            let asked = Asked { key: (*key).to_owned(), is_append: *is_append, fate: *fate };
            ledger.asked.insert((*worker, *number), asked);
        }
        let found = found.iter().map(|(key, value)| ((*key).to_owned(), value.clone().into_bytes()));
        ledger.flaws(&found.collect())
    }

    fn one(asked: &[(u64, u64, &str, bool, Fate)], found: &[(&str, String)], words: &str) {
        let flaws = flaws(asked, found);
        assert!(flaws.len() == 1 && flaws[0].contains(words), "{words:?} in {flaws:?}");
    }

    #[test]
    fn what_is_right_has_no_flaw() {
        let asked = [
            (1, 1, "p", false, DONE),
            (1, 2, "a", true, DONE),
            (2, 1, "a", true, Fate::Unknown),
            (2, 2, "a", true, Fate::Unknown),
            (2, 3, "a", true, DONE),
            (2, 4, "q", false, Fate::Refused),
            (2, 5, "r", false, Fate::Unknown),
        ];
        let value = [token(2, 1), token(1, 2), token(2, 3)].concat();
        assert_eq!(flaws(&asked, &[("p", token(1, 1)), ("a", value)]), Vec::<String>::new());
    }

    #[test]
    fn every_flaw_is_found() {
        let append = |fate| [(1, 1, "a", true, fate), (1, 2, "a", true, fate)];
        one(&[(1, 1, "p", false, DONE)], &[], "the put is lost");
        one(&[(1, 1, "p", false, DONE)], &[("p", token(1, 2))], "another value");
        one(&[(1, 1, "p", false, Fate::Refused)], &[("p", token(1, 1))], "was refused, and is there");
        one(&append(DONE), &[("a", token(1, 1))], "the append of [0001-000000002] is lost");
        one(&append(DONE), &[("a", [token(1, 1), token(1, 2), token(1, 2)].concat())], "twice");
        one(&append(Fate::Unknown), &[("a", token(1, 1).repeat(2))], "twice");
        one(&append(DONE), &[("a", [token(1, 2), token(1, 1)].concat())], "after");
        one(&append(Fate::Unknown), &[("a", token(1, 3))], "nobody appended");
        one(&append(Fate::Refused), &[("a", token(1, 1))], "was refused");
        one(&append(Fate::Unknown), &[("a", token(1, 1)[1..].to_owned())], "no token");
    }

    #[test]
    fn tokens_are_found_between_other_bytes() {
        let bytes = format!("x[[0001-00000000{}y{}", token(3, 4), token(5, 6));
        assert_eq!(tokens_in(bytes.as_bytes()).collect::<Vec<_>>(), [token(3, 4), token(5, 6)]);
    }
}
