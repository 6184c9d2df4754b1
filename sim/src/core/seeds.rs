//! Seeds one after the other on several threads, until one fails or a bound is reached. For every scheduler whose run
//! is a function of its seed.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::quiet;
use super::{CoreViolation, Options};
use crate::invariants::Violation;
use crate::runner::thread_core_seconds;

/// What one or more runs did.
pub(crate) trait Tally: Default + Send {
    /// Another run's, added.
    fn add(&mut self, other: &Self);

    /// Of a run of which only the steps are known.
    fn of_steps(steps: u64) -> Self;
}

/// What came of a search.
pub(crate) struct Searched<T> {
    /// Runs.
    pub seeds: u64,
    /// What they did. Of a failing search only the seeds up to the failing one count, so it does not depend on timing.
    pub total: T,
    /// The smallest seed that failed.
    pub violation: Option<CoreViolation>,
    /// Wall-clock time.
    pub elapsed: Duration,
    /// What all threads took of their processors, in seconds.
    pub core_seconds: f64,
}

thread_local! {
    /// The step that this thread is at, for the report of a panic.
    static STEP: Cell<u64> = const { Cell::new(0) };
}

/// The run on this thread is at `step`.
pub(crate) fn note_step(step: u64) {
    STEP.set(step);
}

/// One seed's run; its panic is a finding.
pub(crate) fn caught<T: Tally>(
    seed: u64,
    run: impl FnOnce() -> (T, Result<(), Violation>),
) -> (T, Option<CoreViolation>) {
    note_step(0);
    let (total, result) = quiet::catch(run).unwrap_or_else(|message| {
        let violation = Violation {
            oracle: "sim.panic".into(),
            fingerprint: format!("sim.panic: {}", without_numbers(&message)),
            message,
        };
        (T::of_steps(STEP.get()), Err(violation))
    });
    (total, result.err().map(|violation| CoreViolation { seed, step: STEP.get(), violation }))
}

/// `text` with every number replaced by `#`.
fn without_numbers(text: &str) -> String {
    let mut words = String::with_capacity(text.len());
    for letter in text.chars() {
        if !letter.is_ascii_digit() {
            words.push(letter);
        } else if !words.ends_with('#') {
            words.push('#');
        }
    }
    words
}

/// Results that a thread keeps apart: far more than seeds can be under way at once.
const UNSURE_MAX: usize = 4096;

/// Runs seeds until one fails or a bound is reached. Seeds are begun in order, so the one reported is the smallest.
pub(crate) fn search<T: Tally>(
    options: &Options,
    run_seed: impl Fn(u64) -> (T, Option<CoreViolation>) + Sync,
) -> Searched<T> {
    let started = Instant::now();
    let next = AtomicU64::new(0);
    let failed = AtomicU64::new(u64::MAX);
    let core_nanos = AtomicU64::new(0);
    let search = || {
        let (mut total, mut unsure, mut violation) = (T::default(), Vec::new(), None::<CoreViolation>);
        let mut seeds = 0;
        loop {
            let late = options.time_max.is_some_and(|time_max| started.elapsed() >= time_max);
            let offset = next.fetch_add(1, Ordering::Relaxed);
            if late || offset >= options.seeds_max || offset > failed.load(Ordering::Relaxed) {
                return (seeds, total, unsure, violation);
            }
            let (stats, found) = run_seed(options.seed.wrapping_add(offset));
            if let Some(found) = found {
                failed.fetch_min(offset, Ordering::Relaxed);
                violation.get_or_insert(found);
            }
            // The last few may lie beyond a failing seed that another thread is still running.
            unsure.push((offset, stats));
            if unsure.len() > UNSURE_MAX {
                for (_, stats) in unsure.drain(..UNSURE_MAX / 2) {
                    seeds += 1;
                    total.add(&stats);
                }
            }
        }
    };
    let work = || {
        let result = search();
        let core_seconds = thread_core_seconds().unwrap_or_else(|| started.elapsed().as_secs_f64());
        core_nanos.fetch_add((core_seconds * 1e9) as u64, Ordering::Relaxed);
        result
    };
    let jobs = options.jobs.max(1);
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().expect("a run's panic is caught inside")).collect()
    });
    let last = failed.load(Ordering::Relaxed);
    let (mut seeds, mut total) = (0, T::default());
    let mut violation = None::<CoreViolation>;
    for (sure, stats, unsure, found) in results {
        seeds += sure;
        total.add(&stats);
        for (_, stats) in unsure.iter().filter(|(offset, _)| *offset <= last) {
            seeds += 1;
            total.add(stats);
        }
        if let Some(found) = found
            && found.seed.wrapping_sub(options.seed) == last
        {
            violation = Some(found);
        }
    }
    let core_seconds = core_nanos.into_inner() as f64 / 1e9;
    Searched { seeds, total, violation, elapsed: started.elapsed(), core_seconds }
}
