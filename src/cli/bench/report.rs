//! What a benchmark found: throughput, latencies, errors by kind.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::workload::KINDS;
use crate::client::Outcome;

/// Digits of a latency that are kept.
const DIGITS: u8 = 3;

/// Counts while the benchmark runs.
pub(super) struct Counts {
    kinds: BTreeMap<&'static str, Kind>,
    /// The first operation that went wrong, in words.
    pub first_error: Option<String>,
}

struct Kind {
    latency_us: Histogram<u64>,
    refused: u64,
    unavailable: u64,
    unknown: u64,
}

impl Default for Counts {
    fn default() -> Self {
        let kind = || Kind {
            latency_us: Histogram::new(DIGITS).expect("1 to 5 digits are allowed"),
            refused: 0,
            unavailable: 0,
            unknown: 0,
        };
        Self { kinds: KINDS.iter().map(|name| (*name, kind())).collect(), first_error: None }
    }
}

impl Counts {
    /// One operation of `kind` ended after `took`.
    pub(super) fn add<T>(&mut self, kind: &'static str, took: Duration, outcome: &Outcome<T>) {
        let Some(counts) = self.kinds.get_mut(kind) else { return };
        let error = match outcome {
            Outcome::Ok(_) => {
                let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
                // `record` lets the histogram grow (`saturating_record` does not); it can hold any u64.
                counts.latency_us.record(us.max(1)).expect("the histogram grows");
                return;
            }
            Outcome::Refused(refused) if refused.unavailable => {
                counts.unavailable += 1;
                format!("unavailable: {}", refused.detail)
            }
            Outcome::Refused(refused) => {
                counts.refused += 1;
                format!("refused: {}", refused.detail)
            }
            Outcome::Unknown(detail) => {
                counts.unknown += 1;
                format!("outcome unknown: {detail}")
            }
        };
        self.first_error.get_or_insert_with(|| format!("{kind}: {error}"));
    }

    /// Operations that were answered so far.
    pub(super) fn answered(&self) -> u64 {
        self.kinds.values().map(|kind| kind.latency_us.len()).sum()
    }

    pub(super) fn report(&self, took: Duration) -> Report {
        let seconds = took.as_secs_f64();
        let per_second = |count: u64| if seconds > 0.0 { (count as f64 / seconds).round() } else { 0.0 };
        let used = self.kinds.iter().filter(|(_, kind)| kind.latency_us.len() + kind.errors() > 0);
        let kinds = used.map(|(name, kind)| {
            let errors =
                Errors { refused: kind.refused, unavailable: kind.unavailable, unknown: kind.unknown };
            let operations = kind.latency_us.len();
            let latency_us = Latency::of(&kind.latency_us);
            let operations_per_second = per_second(operations);
            (*name, KindReport { operations, operations_per_second, errors, latency_us })
        });
        let operations = self.answered();
        let operations_per_second = per_second(operations);
        let kinds: BTreeMap<_, _> = kinds.collect();
        let errors = self.kinds.values().map(Kind::errors).sum();
        Report { seconds, operations, operations_per_second, errors, kinds }
    }
}

impl Kind {
    fn errors(&self) -> u64 {
        self.refused + self.unavailable + self.unknown
    }
}

/// What the JSON shows; fields are added, never renamed.
#[derive(Serialize)]
pub(super) struct Report {
    pub seconds: f64,
    pub operations: u64,
    pub operations_per_second: f64,
    pub errors: u64,
    pub kinds: BTreeMap<&'static str, KindReport>,
}

#[derive(Serialize)]
pub(super) struct KindReport {
    pub operations: u64,
    pub operations_per_second: f64,
    pub errors: Errors,
    pub latency_us: Latency,
}

#[derive(Serialize)]
pub(super) struct Errors {
    pub refused: u64,
    pub unavailable: u64,
    pub unknown: u64,
}

#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Latency {
    pub mean: f64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p999: u64,
    pub max: u64,
}

impl Latency {
    fn of(latencies: &Histogram<u64>) -> Self {
        Self {
            mean: latencies.mean().round(),
            p50: latencies.value_at_quantile(0.5),
            p90: latencies.value_at_quantile(0.9),
            p99: latencies.value_at_quantile(0.99),
            p999: latencies.value_at_quantile(0.999),
            max: latencies.max(),
        }
    }
}

/// The columns for people.
pub(super) const HEADER: [&str; 11] =
    ["KIND", "OPS", "OPS/S", "P50", "P90", "P99", "P99.9", "MAX", "REFUSED", "UNAVAILABLE", "UNKNOWN"];

impl Report {
    pub(super) fn rows(&self) -> Vec<Vec<String>> {
        let ms = |us: u64| format!("{:.2}ms", us as f64 / 1000.0);
        let row = |(name, kind): (&&str, &KindReport)| {
            let KindReport { operations, operations_per_second, errors, latency_us } = kind;
            let Latency { p50, p90, p99, p999, max, .. } = *latency_us;
            let mut row = vec![(*name).to_owned(), operations.to_string(), operations_per_second.to_string()];
            row.extend([p50, p90, p99, p999, max].map(ms));
            row.extend([errors.refused, errors.unavailable, errors.unknown].map(|count| count.to_string()));
            row
        };
        self.kinds.iter().map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Refused;

    #[test]
    fn latencies_of_all_sizes_are_kept_and_errors_are_told_apart() {
        let mut counts = Counts::default();
        for us in [1, 100, 10_000, 5_000_000] {
            counts.add("put", Duration::from_micros(us), &Outcome::Ok(()));
        }
        let refused = |unavailable| Outcome::<()>::Refused(Refused { unavailable, detail: "no".to_owned() });
        counts.add("put", Duration::ZERO, &refused(true));
        counts.add("put", Duration::ZERO, &refused(false));
        counts.add("get", Duration::ZERO, &Outcome::<()>::Unknown("lost".to_owned()));
        let report = counts.report(Duration::from_secs(2));
        assert_eq!((report.operations, report.operations_per_second, report.errors), (4, 2.0, 3));
        let put = &report.kinds["put"];
        assert_eq!((put.errors.refused, put.errors.unavailable, put.errors.unknown), (1, 1, 0));
        assert_eq!(put.latency_us.p50, 100);
        assert!((4_990_000..=5_010_000).contains(&put.latency_us.max), "{:?}", put.latency_us);
        assert_eq!(report.kinds["get"].errors.unknown, 1);
        assert_eq!(counts.first_error.as_deref(), Some("put: unavailable: no"));
    }
}
