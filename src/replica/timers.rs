//! The only place in node code with a clock.
//!
//! [`Clock`] reads the node's time, [`Wheel`] holds its deadlines: one sleep per node, however many operations
//! wait, because madsim keeps a dropped sleep in its heap until it is due. The simulator's clock faults act here
//! (`drift.rs`): a node's clock runs at its own rate, and jumps.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

#[cfg(madsim)]
pub mod drift;

/// A node's clock: monotonic time since an arbitrary start, and wall time for time stamps.
///
/// Its clones are the same clock. In real builds it runs true; in the simulator `Drift` makes it run
/// fast or slow and jump forward, for everything that reads it or sleeps by it.
#[derive(Clone, Debug)]
pub struct Clock {
    start: Instant,
    #[cfg(madsim)]
    drift: std::sync::Arc<drift::Drift>,
}

/// A moment of a node's own clock, since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub Duration);

impl Moment {
    /// The moment `duration` later.
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }

    /// The time from `earlier` to here; zero if it is later.
    pub fn since(self, earlier: Moment) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Default for Clock {
    /// A clock that starts now and runs true.
    fn default() -> Self {
        Self {
            start: Instant::now(),
            #[cfg(madsim)]
            drift: std::sync::Arc::default(),
        }
    }
}

impl Clock {
    /// Now, on this clock.
    pub fn now(&self) -> Moment {
        Moment(self.own(self.start.elapsed()))
    }

    /// Nanoseconds since the Unix epoch; never trusted to be right or monotonic.
    pub fn wall_ns(&self) -> u64 {
        let elapsed = self.start.elapsed();
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let off = self.own(elapsed).as_nanos() as i128 - elapsed.as_nanos() as i128;
        u64::try_from((since.as_nanos() as i128 + off).max(0)).unwrap_or(u64::MAX)
    }

    /// Milliseconds since the Unix epoch, for time stamps in entries.
    pub fn wall_ms(&self) -> u64 {
        self.wall_ns() / 1_000_000
    }

    #[cfg(not(madsim))]
    fn own(&self, elapsed: Duration) -> Duration {
        elapsed
    }

    /// Sleeps until `moment` of this clock.
    #[cfg(not(madsim))]
    pub fn sleep_until(&self, moment: Moment) -> impl Future<Output = ()> + Send + use<> {
        tokio::time::sleep_until(self.start + moment.0)
    }

    #[cfg(madsim)]
    fn own(&self, elapsed: Duration) -> Duration {
        self.drift.own(elapsed)
    }

    /// From now on the clock runs at `rate_ppm` millionths of true time.
    #[cfg(madsim)]
    pub fn set_rate(&self, rate_ppm: u64) {
        self.drift.bend(self.start.elapsed(), Duration::ZERO, rate_ppm);
    }

    /// The clock jumps forward, and goes on at its pace.
    #[cfg(madsim)]
    pub fn jump(&self, by: Duration) {
        self.drift.bend(self.start.elapsed(), by, self.drift.rate_ppm());
    }

    /// How often the clock was read while it ran too fast or too slow.
    #[cfg(madsim)]
    pub fn misread(&self) -> u64 {
        self.drift.misread()
    }

    /// Sleeps until `moment` of this clock, also if its pace changes meanwhile.
    #[cfg(madsim)]
    pub fn sleep_until(&self, moment: Moment) -> impl Future<Output = ()> + Send + use<> {
        let clock = self.clone();
        async move {
            loop {
                let mut changed = std::pin::pin!(clock.drift.changed());
                changed.as_mut().enable();
                let due = clock.start + clock.drift.true_time(moment.0);
                tokio::select! {
                    biased;
                    () = &mut changed => {}
                    () = tokio::time::sleep_until(due) => return,
                }
            }
        }
    }

    /// Sleeps for `duration` of this clock.
    pub fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send + use<> {
        self.sleep_until(self.now().after(duration))
    }

    /// `future`'s output, or `None` if it takes longer than `duration` of this clock. Not for the hot path.
    pub fn timeout<'a, T>(
        &self,
        duration: Duration,
        future: impl Future<Output = T> + Send + 'a,
    ) -> Timeout<'a, T> {
        Timeout { future: Box::pin(future), sleep: Box::pin(self.sleep(duration)) }
    }
}

/// See [`Clock::timeout`].
pub struct Timeout<'a, T> {
    future: Pin<Box<dyn Future<Output = T> + Send + 'a>>,
    sleep: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl<T> Future for Timeout<'_, T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(output) = self.future.as_mut().poll(context) {
            return Poll::Ready(Some(output));
        }
        self.sleep.as_mut().poll(context).map(|()| None)
    }
}

/// Deadlines by key; each key has at most one. Ties fire in the order of their keys.
#[derive(Clone, Debug)]
pub struct Wheel<K> {
    by_key: BTreeMap<K, Moment>,
    by_moment: BTreeMap<(Moment, K), ()>,
}

impl<K: Ord + Clone> Default for Wheel<K> {
    fn default() -> Self {
        Self { by_key: BTreeMap::new(), by_moment: BTreeMap::new() }
    }
}

impl<K: Ord + Clone> Wheel<K> {
    /// Sets the deadline of `key`; an earlier one is forgotten.
    pub fn arm(&mut self, key: K, at: Moment) {
        self.disarm(&key);
        self.by_key.insert(key.clone(), at);
        self.by_moment.insert((at, key), ());
    }

    /// Forgets the deadline of `key`.
    pub fn disarm(&mut self, key: &K) {
        if let Some(at) = self.by_key.remove(key) {
            self.by_moment.remove(&(at, key.clone()));
        }
    }

    /// Whether `key` has a deadline.
    pub fn is_armed(&self, key: &K) -> bool {
        self.by_key.contains_key(key)
    }

    /// The next deadline.
    pub fn next(&self) -> Option<Moment> {
        self.by_moment.keys().next().map(|(at, _)| *at)
    }

    /// Takes out one key whose deadline is not after `now`. One at a time: what firing it does may disarm others.
    pub fn pop(&mut self, now: Moment) -> Option<K> {
        let (at, key) = self.by_moment.keys().next()?.clone();
        if at > now {
            return None;
        }
        self.disarm(&key);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment(Duration::from_millis(ms))
    }

    #[test]
    fn a_rearmed_or_disarmed_deadline_never_fires() {
        let mut wheel = Wheel::default();
        wheel.arm("election", at(10));
        wheel.arm("heartbeat", at(5));
        wheel.arm("election", at(20));
        assert_eq!(wheel.next(), Some(at(5)));
        assert_eq!(wheel.pop(at(15)), Some("heartbeat"));
        assert_eq!(wheel.pop(at(15)), None, "the first deadline of the election was replaced");
        wheel.disarm(&"election");
        assert_eq!((wheel.pop(at(99)), wheel.next()), (None, None));
    }

    #[test]
    fn deadlines_of_one_moment_fire_in_key_order() {
        let mut wheel = Wheel::default();
        for key in ["c", "a", "b"] {
            wheel.arm(key, at(7));
        }
        assert_eq!((wheel.pop(at(7)), wheel.pop(at(7)), wheel.pop(at(7))), (Some("a"), Some("b"), Some("c")));
    }
}
