//! Work on several threads whose result does not depend on how many there are.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// So many threads as there are processors.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
}

/// `of` every number below `count`, in order.
pub fn map<R: Send>(count: usize, jobs: usize, of: impl Fn(usize) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<Option<R>>> = Mutex::new((0..count).map(|_| None).collect());
    let work = || {
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            if place >= count {
                return;
            }
            let result = of(place);
            results.lock().unwrap_or_else(PoisonError::into_inner)[place] = Some(result);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, count.max(1)) {
            scope.spawn(work);
        }
    });
    results.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().flatten().collect()
}

/// The first of `candidates` of which `fails` says something, with its place and what it says.
///
/// Candidates are begun in order. Once one has failed, later ones are not begun, and earlier ones are finished.
pub fn first<C: Sync, F: Send, E: Send>(
    candidates: &[C],
    jobs: usize,
    fails: impl Fn(&C) -> Result<Option<F>, E> + Sync,
) -> Result<Option<(usize, F)>, E> {
    let next = AtomicUsize::new(0);
    let best = AtomicUsize::new(usize::MAX);
    let found: Mutex<Option<(usize, Result<F, E>)>> = Mutex::new(None);
    let work = || {
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            if place >= candidates.len() || place > best.load(Ordering::Relaxed) {
                return;
            }
            let Some(result) = fails(&candidates[place]).transpose() else { continue };
            best.fetch_min(place, Ordering::Relaxed);
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            if found.as_ref().is_none_or(|(other, _)| place < *other) {
                *found = Some((place, result));
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, candidates.len().max(1)) {
            scope.spawn(work);
        }
    });
    match found.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some((place, Ok(what))) => Ok(Some((place, what))),
        Some((_, Err(error))) => Err(error),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_lowest_failing_candidate_wins_whatever_the_threads_and_their_speed() {
        let candidates: Vec<u64> = (0..40).collect();
        for jobs in [1, 2, 8] {
            let found = first(&candidates, jobs, |number| {
                // Later ones are faster.
                std::thread::sleep(Duration::from_micros(50 * (40 - number)));
                Ok::<_, ()>((number % 10 == 7 || *number == 8).then_some(number * 2))
            });
            assert_eq!(found, Ok(Some((7, 14))));
            assert_eq!(first(&candidates, jobs, |_| Ok::<Option<()>, ()>(None)), Ok(None));
        }
        let stops = first(&candidates, 3, |number| if *number == 2 { Err("no") } else { Ok(None::<()>) });
        assert_eq!(stops, Err("no"));
    }

    #[test]
    fn results_are_in_the_order_of_their_numbers() {
        let slow_first = |number: usize| {
            std::thread::sleep(Duration::from_micros(20 * (30 - number as u64)));
            number * 3
        };
        assert_eq!(map(30, 4, slow_first), (0..30).map(|number| number * 3).collect::<Vec<_>>());
        assert_eq!(map(0, 4, slow_first), Vec::<usize>::new());
    }
}
