//! What a benchmark asks: which operations, on which keys, with which values.

use std::str::FromStr;

use bytes::Bytes;

use crate::history::Operation;
use crate::random::{Draw, Site};

/// Kinds of operations, in the order of reports.
pub(super) const KINDS: [&str; 5] = ["get", "put", "append", "delete", "cas"];

/// The share of each kind, `get=50,put=50`; they need not add up to 100.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mix {
    weights: [u64; KINDS.len()],
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut weights = [0; KINDS.len()];
        for part in text.split(',') {
            let (kind, weight) = part.split_once('=').ok_or("write it like get=50,put=50")?;
            let place = KINDS.iter().position(|known| *known == kind.trim());
            let place = place.ok_or_else(|| format!("{kind:?} is none of {}", KINDS.join(", ")))?;
            let weight: u32 =
                weight.trim().parse().map_err(|_| format!("{weight:?} is not a whole number"))?;
            weights[place] = u64::from(weight);
        }
        if weights.iter().sum::<u64>() == 0 {
            return Err("all shares are zero".to_owned());
        }
        Ok(Self { weights })
    }
}

impl Mix {
    fn pick(&self, draw: &mut Draw) -> &'static str {
        let mut left = draw.below(self.weights.iter().sum());
        for (kind, weight) in KINDS.iter().zip(self.weights) {
            if left < weight {
                return kind;
            }
            left -= weight;
        }
        KINDS[0]
    }
}

/// Chooses keys: all alike, or by Zipf's law, where the n-th key is chosen 1/n^s as often as the first.
#[derive(Debug)]
pub(super) struct Keys {
    prefix: String,
    count: u64,
    /// Shares of the keys, added up; empty if all are alike.
    cumulated: Vec<f64>,
}

impl Keys {
    pub(super) fn new(prefix: String, count: u64, zipf: Option<f64>) -> Self {
        let mut sum = 0.0;
        let cumulated = zipf.map_or_else(Vec::new, |exponent| {
            let shares = (1..=count).map(|rank| {
                sum += (rank as f64).powf(-exponent);
                sum
            });
            shares.collect()
        });
        Self { prefix, count, cumulated }
    }

    fn pick(&self, draw: &mut Draw) -> Bytes {
        let number = match self.cumulated.last() {
            None => draw.below(self.count),
            Some(sum) => {
                let at = (draw.bits() >> 11) as f64 / (1u64 << 53) as f64 * sum;
                (self.cumulated.partition_point(|share| *share <= at) as u64).min(self.count - 1)
            }
        };
        format!("{}{number}", self.prefix).into()
    }
}

/// The operations of one worker. No two values of a benchmark are alike, if they are long enough: a checker can then
/// tell which write a read saw.
pub(super) struct Worker<'a> {
    pub mix: &'a Mix,
    pub keys: &'a Keys,
    pub value_bytes: usize,
    pub name: String,
    pub draws: Site,
    written: u64,
    /// What the worker saw or wrote last; a cas expects that.
    last: Option<(Bytes, Option<Bytes>)>,
}

impl<'a> Worker<'a> {
    pub(super) fn new(mix: &'a Mix, keys: &'a Keys, value_bytes: usize, name: String, draws: Site) -> Self {
        Self { mix, keys, value_bytes, name, draws, written: 0, last: None }
    }

    pub(super) fn next(&mut self) -> Operation {
        let mut draw = self.draws.next();
        let kind = self.mix.pick(&mut draw);
        let key = self.keys.pick(&mut draw);
        match kind {
            "put" => {
                let value = self.value();
                self.last = Some((key.clone(), Some(value.clone())));
                Operation::Put { key, value }
            }
            "append" => Operation::Append { key, value: self.value() },
            "delete" => Operation::Delete { key },
            "cas" => {
                let (key, expected) = self.last.take().unwrap_or((key, None));
                let value = self.value();
                self.last = Some((key.clone(), Some(value.clone())));
                Operation::Cas { key, expected, value }
            }
            _ => Operation::Get { key },
        }
    }

    /// The worker read `value` under `key`.
    pub(super) fn saw(&mut self, key: Bytes, value: Option<Bytes>) {
        self.last = Some((key, value));
    }

    fn value(&mut self) -> Bytes {
        self.written += 1;
        let mut value = format!("{}.{}.", self.name, self.written).into_bytes();
        value.resize(self.value_bytes, b'x');
        value.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Draws;

    #[test]
    fn a_mix_is_read_and_kept() {
        let mix: Mix = "get=1, put=3".parse().unwrap();
        let mut site = Draws::new(1, "test").site("mix", 0);
        let puts = (0..4000).filter(|_| mix.pick(&mut site.next()) == "put").count();
        assert!((2800..3200).contains(&puts), "{puts}");
        for bad in ["get", "got=1", "get=-1", "get=0", ""] {
            assert!(bad.parse::<Mix>().is_err(), "{bad}");
        }
    }

    #[test]
    fn zipf_prefers_the_first_keys_and_uniform_does_not() {
        let share_of_first = |zipf| {
            let keys = Keys::new("k".to_owned(), 100, zipf);
            let mut site = Draws::new(1, "test").site("keys", 0);
            (0..10_000).filter(|_| keys.pick(&mut site.next()) == "k0").count()
        };
        let (uniform, zipf) = (share_of_first(None), share_of_first(Some(1.0)));
        assert!((50..200).contains(&uniform), "1 in 100: {uniform}");
        assert!((1700..2200).contains(&zipf), "1 in the 100th harmonic number, 5.19: {zipf}");
    }
}
