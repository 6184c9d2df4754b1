//! Drawn durations and one-shot alarms: what the simulated disk and the simulated network share.
//!
//! Time here is the time since the start of the run ([`TimeHandle::elapsed`]), a plain [`Duration`].

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use eraft::random::Draw;
use madsim::time::TimeHandle;

/// How long something takes: never less than `min`, `mean` as a rule, seldom much more, never more than `max`.
///
/// The part above `min` is close to exponential, computed in integers: no `ln`, whose last bit is a library's
/// business.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread {
    /// The shortest duration.
    pub min: Duration,
    /// The mean, up to the cut at `max`.
    pub mean: Duration,
    /// The longest duration.
    pub max: Duration,
}

impl Spread {
    /// A spread in microseconds.
    pub const fn micros(min: u64, mean: u64, max: u64) -> Self {
        Self {
            min: Duration::from_micros(min),
            mean: Duration::from_micros(mean),
            max: Duration::from_micros(max),
        }
    }

    /// A spread in milliseconds.
    pub const fn millis(min: u64, mean: u64, max: u64) -> Self {
        Self::micros(min * 1_000, mean * 1_000, max * 1_000)
    }

    /// Always `millis`.
    pub const fn exactly_millis(millis: u64) -> Self {
        Self::millis(millis, millis, millis)
    }

    /// One duration; always takes exactly one value from `draw`.
    pub fn sample(&self, draw: &mut Draw) -> Duration {
        // -log2 of a uniform number is its leading zeros plus one minus its fraction, roughly; the mean of that is
        // 3/2.
        const FRACTION_BITS: u32 = 20;
        let bits = draw.bits() | 1;
        let zeros = bits.leading_zeros();
        let fraction = (bits << zeros << 1) >> (64 - FRACTION_BITS);
        let logarithm = (u64::from(zeros + 1) << FRACTION_BITS) - fraction;
        let scale = self.mean.saturating_sub(self.min).as_nanos();
        let above = (scale * u128::from(logarithm) * 2 / 3) >> FRACTION_BITS;
        let above = Duration::from_nanos(u64::try_from(above).unwrap_or(u64::MAX));
        self.min.saturating_add(above).min(self.max.max(self.min))
    }
}

/// Wakes one task at a time to come, with as few timers as possible: madsim never cancels a timer.
#[derive(Debug, Default)]
pub struct Alarm {
    armed: Option<(Duration, Waker)>,
}

impl Alarm {
    /// Sees to it that `waker` is woken at `due` *or before*; whoever is woken looks at the clock and arms again.
    ///
    /// madsim rounds every new sleep up to a millisecond; resetting a sleep does not, so that a disk may be faster.
    pub fn arm(&mut self, time: &TimeHandle, due: Duration, waker: &Waker) {
        let now = time.elapsed();
        if let Some((at, armed)) = &self.armed
            && (now < *at && *at <= due)
            && armed.will_wake(waker)
        {
            return;
        }
        let deadline = time.now_instant() + due.saturating_sub(now);
        let mut sleep = pin!(time.sleep_until(deadline));
        sleep.as_mut().reset(deadline);
        if sleep.poll(&mut Context::from_waker(waker)).is_ready() {
            waker.wake_by_ref();
        }
        self.armed = Some((due, waker.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eraft::random::Draws;

    #[test]
    fn a_spread_keeps_its_bounds_and_roughly_its_mean() {
        let spread = Spread::micros(100, 1_000, 50_000);
        let mut site = Draws::new(3, "test").site("spread", 0);
        let samples: Vec<_> = (0..20_000).map(|_| spread.sample(&mut site.next())).collect();
        assert!(samples.iter().all(|sample| (spread.min..=spread.max).contains(sample)));
        let mean = samples.iter().sum::<Duration>() / samples.len() as u32;
        assert!((900..1_100).contains(&mean.as_micros()), "the mean is {mean:?}");
        assert!(samples.iter().any(|sample| *sample > 4 * spread.mean), "no tail");
        assert_eq!(Spread::exactly_millis(7).sample(&mut site.next()), Duration::from_millis(7));
    }
}
