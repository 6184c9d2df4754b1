//! Places in the product where the simulator may force a rare but legal behaviour, so that runs meet it often.
//!
//! Code asks `buggify.forces(Point::…)` where a busy, slow or unlucky node might act so by itself: a queue is full, a
//! batch is short, a timer fires early. Whatever is forced must be right; what it finds is code that is wrong when it
//! happens. Not in the pure modules: they take no decision by chance.
//!
//! In real builds [`Buggify`] has no size, `forces` is the constant `false`, and a release holds no name of a point. In
//! the simulator each run switches points on by its plan, and each draws whether it fires.

/// One list makes the points, their names and what they do.
macro_rules! points {
    ($($point:ident = $name:literal, $about:literal;)+) => {
        /// A place where something may be forced.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Point {
            $(#[doc = $about] $point,)+
        }

        #[cfg(any(madsim, feature = "mutants"))]
        impl Point {
            /// Every point.
            pub const ALL: &[Point] = &[$(Point::$point),+];

            /// Its stable name.
            pub fn id(self) -> &'static str {
                match self {
                    $(Point::$point => $name,)+
                }
            }

            /// What is forced.
            pub fn about(self) -> &'static str {
                match self {
                    $(Point::$point => $about,)+
                }
            }
        }
    };
}

points! {
    ShortBatch = "driver.short_batch", "The driver turns to its disk and timers after a single event.";
    FullInbox = "driver.full_inbox", "A request finds the driver's inbox full.";
    EarlyElection = "driver.early_election", "An election timeout is as short as a heartbeat interval.";
    ShortWrite = "log.short_write", "Of the writes that wait for the log only the first one goes.";
    EagerCompaction = "log.eager_compaction",
        "The log is cut as far as the state is durable: who lacks an entry gets a snapshot instead.";
    EagerFlush = "state.eager_flush", "The applied state is flushed at once.";
    SlowFlush = "state.slow_flush", "A flush of the applied state that is due is put off.";
    SlowApply = "state.slow_apply", "Committed entries wait for another turn before they are applied.";
    FullPeerQueue = "transport.full_queue", "A message finds the queue to its peer full, and is lost.";
    ShortAppend = "transport.short_append", "An append takes only the first of its entries along.";
    ReopenedStream = "transport.reopened_stream", "A stream to a peer is opened anew although it works.";
    TinyChunk = "snapshot.tiny_chunk", "A chunk of a snapshot holds a single pair.";
    AbandonedSnapshot = "snapshot.abandoned", "The sender of a snapshot gives up in the middle.";
    ShortPull = "shards.short_pull", "A group fetches a shard in parts of a single pair.";
    LostPart = "shards.lost_part", "A part of a shard that a group has fetched is lost, and fetched again later.";
    FullPulls = "shards.full_pulls", "Every place for fetching from a group but one is taken.";
    RepeatedArrival = "shards.repeated_arrival", "A group tells twice that a shard has arrived.";
    LateConfig = "shards.late_config", "A group looks for the next config later.";
    StaleRoute = "router.stale_config", "A client goes on with the config that it knows although it needs a newer one.";
    ForgottenGroup = "router.forgotten_group", "A client opens new connections to the group that owns a shard.";
    HastyClient = "client.hasty", "A client does not wait for an answer that may still come, and asks again.";
    ForgetfulClient = "client.forgetful", "A client forgets who leads.";
}

#[cfg(madsim)]
pub use simulated::{Buggify, Switchboard};

#[cfg(not(madsim))]
pub use real::Buggify;

#[cfg(not(madsim))]
mod real {
    use super::Point;

    /// Forces nothing.
    // Not `Copy`, because the simulator's is not and the code is the same.
    #[derive(Clone, Debug, Default)]
    pub struct Buggify;

    impl Buggify {
        /// Is `point` forced this time? Never.
        #[inline]
        pub const fn forces(&self, _: Point) -> bool {
            false
        }
    }
}

#[cfg(madsim)]
mod simulated {
    use std::sync::Arc;

    use super::Point;
    use crate::replica::link::Party;

    /// The simulator's side.
    pub trait Switchboard: Send + Sync + 'static {
        /// Is `point` forced at `party` this time?
        fn forces(&self, party: Party, point: Point) -> bool;
    }

    /// What one party asks; by default nothing is forced.
    #[derive(Clone, Default)]
    pub struct Buggify(Option<(Arc<dyn Switchboard>, Party)>);

    impl Buggify {
        /// For the code of `party`.
        pub fn new(switchboard: Arc<dyn Switchboard>, party: Party) -> Self {
            Self(Some((switchboard, party)))
        }

        /// Is `point` forced this time?
        pub fn forces(&self, point: Point) -> bool {
            self.0.as_ref().is_some_and(|(switchboard, party)| switchboard.forces(*party, point))
        }
    }

    impl std::fmt::Debug for Buggify {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("Buggify")
        }
    }
}

#[cfg(all(test, not(madsim)))]
mod tests {
    use super::*;

    #[test]
    fn in_real_builds_it_takes_no_space_and_is_a_constant() {
        const NEVER: bool = Buggify.forces(Point::FullInbox);
        assert_eq!((std::mem::size_of::<Buggify>(), NEVER), (0, false));
    }
}

#[cfg(all(test, madsim))]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_unique_and_says_where_and_what() {
        let names: std::collections::BTreeSet<&str> = Point::ALL.iter().map(|point| point.id()).collect();
        assert_eq!(names.len(), Point::ALL.len());
        assert!(names.iter().all(|name| name.split_once('.').is_some()));
        assert!(!Buggify::default().forces(Point::FullInbox));
    }
}
