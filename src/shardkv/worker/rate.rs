//! A bound on bytes per second, for all shards that arrive together.
//!
//! What has arrived is paid for afterwards: the next part may come once the time that it takes at the rate is over.

use std::time::Duration;

use crate::replica::timers::Moment;

/// See the module.
#[derive(Debug)]
pub(super) struct Rate {
    bytes_per_second_max: u64,
    /// When everything so far is paid for.
    free: Moment,
}

impl Rate {
    pub(super) fn new(bytes_per_second_max: u64) -> Self {
        Self { bytes_per_second_max: bytes_per_second_max.max(1), free: Moment::default() }
    }

    /// When the next part may be asked for.
    pub(super) fn free(&self) -> Moment {
        self.free
    }

    /// So many bytes arrived.
    pub(super) fn arrived(&mut self, bytes: usize, now: Moment) {
        let nanos = bytes as u128 * 1_000_000_000 / u128::from(self.bytes_per_second_max);
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
        self.free = self.free.max(now).after(Duration::from_nanos(nanos));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_arrives_is_paid_for_and_time_without_is_not_saved_up() {
        let at = |ms| Moment(Duration::from_millis(ms));
        let mut rate = Rate::new(1000);
        assert_eq!(rate.free(), at(0));
        rate.arrived(500, at(100));
        assert_eq!(rate.free(), at(600));
        rate.arrived(100, at(200));
        assert_eq!(rate.free(), at(700), "two at the same time share the rate");
        rate.arrived(1, at(5000));
        assert_eq!(rate.free(), at(5001));
    }
}
