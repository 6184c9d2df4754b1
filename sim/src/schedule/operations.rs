//! Draws what the clients do.
//!
//! A value is not part of the plan: it is made of the client's and the operation's number, so every write of a run
//! is unique, which is what makes a lost or a doubled one visible.

use std::fmt;

use eraft::random::{Draw, Draws};
use serde::{Deserialize, Serialize};

use crate::scenario::Workload;

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum OperationKind {
    Get,
    Put,
    Append,
    Delete,
    Cas,
}

impl OperationKind {
    const WORDS: [(&'static str, OperationKind); 5] = [
        ("get", OperationKind::Get),
        ("put", OperationKind::Put),
        ("append", OperationKind::Append),
        ("delete", OperationKind::Delete),
        ("cas", OperationKind::Cas),
    ];
}

/// One operation of a client; written `put k7 after 12ms`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Operation {
    /// What.
    pub kind: OperationKind,
    /// On which key.
    pub key: u64,
    /// The pause before it.
    pub think_ms: u64,
}

impl Operation {
    /// The key's name.
    pub fn key_name(&self) -> String {
        key_name(self.key)
    }
}

/// The name of key `number`.
pub fn key_name(number: u64) -> String {
    format!("k{number}")
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = OperationKind::WORDS;
        let word = words.iter().find(|(_, kind)| *kind == self.kind).map_or("", |(word, _)| word);
        write!(f, "{word} k{} after {}ms", self.key, self.think_ms)
    }
}

impl From<Operation> for String {
    fn from(operation: Operation) -> Self {
        operation.to_string()
    }
}

impl TryFrom<String> for Operation {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parse = || -> Option<Operation> {
            let mut words = text.split(' ');
            let word = words.next()?;
            let kind = OperationKind::WORDS.iter().find(|(known, _)| *known == word)?.1;
            let key = words.next()?.strip_prefix('k')?.parse().ok()?;
            let think_ms = match (words.next()?, words.next()?) {
                ("after", pause) => pause.strip_suffix("ms")?.parse().ok()?,
                _ => return None,
            };
            words.next().is_none().then_some(Operation { kind, key, think_ms })
        };
        parse().ok_or_else(|| format!("`{text}` is no operation; one reads `put k7 after 12ms`"))
    }
}

/// `count` operations of each client.
pub(super) fn generate(workload: &Workload, count: u64, phase: &str, draws: &Draws) -> Vec<Vec<Operation>> {
    let own = workload.own_keys;
    let popularity = Popularity::new(if own > 0 { own } else { workload.keys }, workload.skew);
    let one = |client: u64, number: u64| {
        let mut draw = draws.draw(phase, client, number);
        let kind = kind(workload, &mut draw);
        let key = popularity.pick(&mut draw) + (client - 1) * own;
        Operation { kind, key, think_ms: draw.between(0, workload.think_ms * 2) }
    };
    let of_client = |client| (1..=count).map(|number| one(client, number)).collect();
    (1..=workload.clients).map(of_client).collect()
}

fn kind(workload: &Workload, draw: &mut Draw) -> OperationKind {
    let weights = [workload.get, workload.put, workload.append, workload.delete, workload.cas];
    let mut left = draw.below(weights.iter().sum());
    for ((_, kind), weight) in OperationKind::WORDS.iter().zip(weights) {
        if left < weight {
            return *kind;
        }
        left -= weight;
    }
    OperationKind::Get
}

/// Key `n` is as popular as `1 / (n + 1)^skew`.
struct Popularity {
    cumulated: Vec<f64>,
}

impl Popularity {
    fn new(keys: u64, skew: f64) -> Self {
        let mut total = 0.0;
        let mut cumulated = Vec::new();
        for key in 0..keys {
            total += ((key + 1) as f64).powf(-skew);
            cumulated.push(total);
        }
        Self { cumulated }
    }

    fn pick(&self, draw: &mut Draw) -> u64 {
        let total = self.cumulated.last().copied().unwrap_or(0.0);
        let point = (draw.bits() >> 11) as f64 / (1u64 << 53) as f64 * total;
        let key = self.cumulated.partition_point(|bound| *bound <= point);
        (key as u64).min(self.cumulated.len() as u64 - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_reads_back_as_it_was_written() {
        let operation = Operation { kind: OperationKind::Append, key: 7, think_ms: 12 };
        assert_eq!(operation.to_string(), "append k7 after 12ms");
        assert_eq!(Operation::try_from(operation.to_string()), Ok(operation));
        assert!(Operation::try_from("append k7".to_owned()).is_err());
        assert!(Operation::try_from("appendix k7 after 12ms".to_owned()).is_err());
    }

    #[test]
    fn skew_makes_the_first_keys_popular() {
        let draws = Draws::new(1, "test");
        let count = |skew: f64| {
            let popularity = Popularity::new(100, skew);
            (0..1_000).filter(|n| popularity.pick(&mut draws.draw("key", 0, *n)) == 0).count()
        };
        assert!(count(0.0) < 30, "uniform");
        assert!(count(2.0) > 400, "skewed");
    }
}
