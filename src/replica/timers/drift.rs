//! What makes a simulated clock wrong: it runs fast or slow, and it jumps forward.
//!
//! Own time is a line over true time that is bent now and then; it never goes back. Whoever sleeps by the clock is
//! told of each bend and looks anew when the sleep ends.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// The rate of a true clock.
pub const TRUE_RATE_PPM: u64 = 1_000_000;

/// The difference between a clock and true time, both since the clock's start.
#[derive(Debug)]
pub struct Drift {
    line: Mutex<Line>,
    changed: Notify,
}

#[derive(Debug)]
struct Line {
    /// Where it was bent last: true time, own time.
    from: (Duration, Duration),
    rate_ppm: u64,
    /// How often it was read while it ran too fast or too slow.
    misread: u64,
}

impl Default for Drift {
    fn default() -> Self {
        let line = Line { from: (Duration::ZERO, Duration::ZERO), rate_ppm: TRUE_RATE_PPM, misread: 0 };
        Self { line: Mutex::new(line), changed: Notify::new() }
    }
}

impl Drift {
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Own time at `elapsed` true time; counts the reading.
    pub(super) fn own(&self, elapsed: Duration) -> Duration {
        let mut line = self.line();
        line.misread += u64::from(line.rate_ppm != TRUE_RATE_PPM);
        line.own(elapsed)
    }

    /// The true time at which it will be `own` on this clock, as things stand; never too early.
    pub(super) fn true_time(&self, own: Duration) -> Duration {
        let line = self.line();
        let (true_from, own_from) = line.from;
        true_from + scaled(own.saturating_sub(own_from), TRUE_RATE_PPM, line.rate_ppm, true)
    }

    /// From `elapsed` on the clock is `by` further and runs at `rate_ppm`.
    pub(super) fn bend(&self, elapsed: Duration, by: Duration, rate_ppm: u64) {
        let mut line = self.line();
        line.from = (elapsed, line.own(elapsed) + by);
        line.rate_ppm = rate_ppm.max(1);
        drop(line);
        self.changed.notify_waiters();
    }

    pub(super) fn rate_ppm(&self) -> u64 {
        self.line().rate_ppm
    }

    pub(super) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    pub(super) fn misread(&self) -> u64 {
        self.line().misread
    }
}

impl Line {
    fn own(&self, elapsed: Duration) -> Duration {
        let (true_from, own_from) = self.from;
        own_from + scaled(elapsed.saturating_sub(true_from), self.rate_ppm, TRUE_RATE_PPM, false)
    }
}

fn scaled(duration: Duration, by: u64, of: u64, rounds_up: bool) -> Duration {
    if by == of {
        return duration;
    }
    let (nanos, of) = (duration.as_nanos() * u128::from(by), u128::from(of));
    let nanos = if rounds_up { nanos.div_ceil(of) } else { nanos / of };
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_clock_runs_at_its_rate_jumps_forward_and_never_goes_back() {
        let drift = Drift::default();
        assert_eq!(drift.own(SECOND), SECOND);
        drift.bend(SECOND, Duration::ZERO, 1_200_000);
        assert_eq!(drift.own(2 * SECOND), Duration::from_millis(2_200));
        assert_eq!(drift.true_time(Duration::from_millis(2_200)), 2 * SECOND);
        drift.bend(2 * SECOND, SECOND, TRUE_RATE_PPM);
        assert_eq!(drift.own(2 * SECOND), Duration::from_millis(3_200));
        assert_eq!(drift.own(3 * SECOND), Duration::from_millis(4_200));
        assert_eq!(drift.misread(), 1);
    }

    #[test]
    fn whoever_sleeps_until_a_moment_wakes_when_the_clock_is_there() {
        let drift = Drift::default();
        for rate_ppm in [800_000, 999_999, 1_000_001, 1_199_999] {
            drift.bend(SECOND, Duration::ZERO, rate_ppm);
            for millis in [1_001, 1_333, 77_777] {
                let moment = Duration::from_millis(millis);
                assert!(drift.own(drift.true_time(moment)) >= moment, "{rate_ppm} {millis}");
            }
        }
    }
}
