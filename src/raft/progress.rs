//! What a leader knows about one member's log, and how much it sends ahead of the answers.
//!
//! Invariants: `matched < next`; `matched` never goes back within a term (eRaft let a reordered reply take it
//! back: B14); what is in flight is bounded in entries and bytes, so a slow member costs a bounded amount.

use std::collections::VecDeque;

use crate::types::Index;

/// How a leader feeds a member.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Flow {
    /// Looking for the place where the logs agree: one append at a time.
    Probe {
        /// An append is out; wait for its answer or the next heartbeat's.
        waiting: bool,
    },
    /// The logs agree up to `matched`; appends go out ahead of their answers.
    Replicate(Inflight),
    /// It needs entries that the leader no longer holds; a snapshot is on its way.
    Snapshot,
}

/// Appends sent and not yet answered: the last index and the bytes of each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Inflight {
    appends: VecDeque<(Index, usize)>,
    bytes: usize,
}

impl Inflight {
    fn add(&mut self, last: Index, bytes: usize) {
        self.appends.push_back((last, bytes));
        self.bytes += bytes;
    }

    fn release(&mut self, matched: Index) {
        while let Some((last, bytes)) = self.appends.front().copied() {
            if last > matched {
                break;
            }
            self.bytes -= bytes;
            self.appends.pop_front();
        }
    }
}

/// The bounds of the in-flight window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// At most this many unanswered appends.
    pub appends_max: usize,
    /// No further append once this many bytes are unanswered.
    pub bytes_max: usize,
}

/// A leader's view of one member.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Progress {
    /// The last index known to match, durable there.
    pub matched: Index,
    /// The next index to send.
    pub next: Index,
    /// How it is fed.
    pub flow: Flow,
    /// It answered since the last check of the quorum.
    pub active: bool,
    /// It acknowledged something new since the last heartbeat; if not, the heartbeat's answer prompts a probe.
    pub moved: bool,
}

impl Progress {
    /// A member of whose log nothing is known but that it may end where the leader's does.
    pub fn new(next: Index) -> Self {
        Self { matched: Index(0), next, flow: Flow::Probe { waiting: false }, active: true, moved: false }
    }

    /// Whether an append may go out now.
    pub fn may_send(&self, window: Window) -> bool {
        match &self.flow {
            Flow::Probe { waiting } => !waiting,
            Flow::Replicate(inflight) => {
                inflight.appends.len() < window.appends_max && inflight.bytes < window.bytes_max
            }
            Flow::Snapshot => false,
        }
    }

    /// An append that ends at `last` and carries `bytes` went out.
    pub fn sent(&mut self, last: Index, bytes: usize) {
        match &mut self.flow {
            Flow::Probe { waiting } => *waiting = true,
            Flow::Replicate(inflight) => {
                if last >= self.next {
                    inflight.add(last, bytes);
                    self.next = last.next();
                }
            }
            Flow::Snapshot => {}
        }
    }

    /// The member's log matches up to `matched`. True if that is news.
    pub fn accepted(&mut self, matched: Index) -> bool {
        let news = matched > self.matched;
        self.matched = self.matched.max(matched);
        self.next = self.next.max(self.matched.next());
        self.moved |= news;
        match &mut self.flow {
            // The log it was sent a snapshot for may not reach up to there yet: only news ends a snapshot.
            Flow::Snapshot if !news => {}
            Flow::Probe { .. } | Flow::Snapshot => {
                self.flow = Flow::Replicate(Inflight::default());
                self.next = self.matched.next();
            }
            Flow::Replicate(inflight) => inflight.release(matched),
        }
        news
    }

    /// The member does not hold `previous`; `next` is where to try again. False if the reply is stale.
    pub fn rejected(&mut self, previous: Index, next: Index) -> bool {
        let stale = match self.flow {
            Flow::Probe { .. } => self.next != previous.next(),
            Flow::Replicate(_) => false,
            Flow::Snapshot => true,
        };
        // What it acknowledged it cannot lack: an old reply, or a damaged member, which must not be probed in a loop.
        if stale || previous <= self.matched {
            return false;
        }
        self.next = next.min(previous).max(self.matched.next());
        self.flow = Flow::Probe { waiting: false };
        true
    }

    /// A snapshot is to be sent.
    pub fn needs_snapshot(&mut self) {
        self.flow = Flow::Snapshot;
    }

    /// The snapshot has ended; `installed` is the index of the state that the member now holds.
    pub fn snapshot_ended(&mut self, installed: Option<Index>) {
        if self.flow == Flow::Snapshot {
            self.flow = Flow::Probe { waiting: false };
            self.next = installed.unwrap_or_default().max(self.matched).next();
        }
    }

    /// A heartbeat was answered: a probe that got no answer may be repeated.
    pub fn heartbeat_answered(&mut self) {
        self.active = true;
        if let Flow::Probe { waiting } = &mut self.flow {
            *waiting = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WINDOW: Window = Window { appends_max: 3, bytes_max: 100 };

    #[derive(Clone, Debug)]
    enum Happening {
        Send { entries: u64, bytes: usize },
        Accept(u64),
        Reject { previous: u64, next: u64 },
        Heartbeat,
        NeedSnapshot,
        SnapshotEnded(Option<u64>),
    }

    fn happenings() -> impl Strategy<Value = Vec<Happening>> {
        let happening = prop_oneof![
            4 => (1..4u64, 0..60usize).prop_map(|(entries, bytes)| Happening::Send { entries, bytes }),
            3 => (0..40u64).prop_map(Happening::Accept),
            1 => (0..40u64, 0..40u64).prop_map(|(previous, next)| Happening::Reject { previous, next }),
            1 => Just(Happening::Heartbeat),
            1 => Just(Happening::NeedSnapshot),
            1 => proptest::option::of(0..40u64).prop_map(Happening::SnapshotEnded),
        ];
        proptest::collection::vec(happening, 0..80)
    }

    proptest! {
        #[test]
        fn eraft_b14_whatever_arrives_in_whatever_order_the_invariants_hold(happenings in happenings()) {
            let mut progress = Progress::new(Index(20));
            for happening in happenings {
                let (matched, flow) = (progress.matched, progress.flow.clone());
                match happening {
                    Happening::Send { entries, bytes } if progress.may_send(WINDOW) => {
                        progress.sent(Index(progress.next.0 + entries - 1), bytes);
                        if matches!(flow, Flow::Probe { .. }) {
                            prop_assert!(!progress.may_send(WINDOW), "a probe waits for its answer");
                        }
                    }
                    Happening::Send { .. } => {}
                    Happening::Accept(index) => {
                        prop_assert_eq!(progress.accepted(Index(index)), Index(index) > matched);
                    }
                    Happening::Reject { previous, next } => {
                        if !progress.rejected(Index(previous), Index(next)) {
                            prop_assert_eq!(&progress.flow, &flow, "a stale rejection changes nothing");
                        }
                    }
                    Happening::Heartbeat => progress.heartbeat_answered(),
                    Happening::NeedSnapshot => progress.needs_snapshot(),
                    Happening::SnapshotEnded(index) => progress.snapshot_ended(index.map(Index)),
                }
                prop_assert!(progress.matched < progress.next, "{:?}", progress);
                prop_assert!(progress.matched >= matched, "matched went back");
                if let Flow::Replicate(inflight) = &progress.flow {
                    prop_assert!(inflight.appends.len() <= WINDOW.appends_max);
                    prop_assert_eq!(inflight.bytes, inflight.appends.iter().map(|(_, b)| b).sum::<usize>());
                }
            }
        }
    }

    #[test]
    fn the_window_closes_and_opens() {
        let mut progress = Progress::new(Index(1));
        progress.accepted(Index(0));
        for last in [1, 2, 3] {
            assert!(progress.may_send(WINDOW));
            progress.sent(Index(last), 10);
        }
        assert!(!progress.may_send(WINDOW), "three appends are out");
        progress.accepted(Index(2));
        assert!(progress.may_send(WINDOW));
        progress.sent(Index(4), 90);
        assert!(!progress.may_send(WINDOW), "100 bytes are out");
    }
}
