//! Retries of a request that is still under way here join it instead of going through the log again.
//!
//! A client that has no answer asks again, and a slow group would otherwise get slower with every question: each
//! retry another entry in the log, each entry another wait, each wait another retry. Whoever joins gets the answer of
//! the first, which the session would have given it anyway.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;

use crate::proto::kv::{self as pb, reply};
use crate::types::ShardId;

/// A session's number, in the shard that the session is of: what makes two requests the same.
type Key = (Option<ShardId>, u64, u64, u64);

/// The requests under way on this node.
#[derive(Clone, Default)]
pub(super) struct InFlight {
    waiters: Arc<Mutex<BTreeMap<Key, Vec<oneshot::Sender<reply::Outcome>>>>>,
}

/// What a request finds.
pub(super) enum Entry {
    /// It is the first: it goes on, and tells the others.
    First(First),
    /// It has company.
    Joined(oneshot::Receiver<reply::Outcome>),
}

/// The request that goes through the log. If it is dropped, those who joined learn nothing and are told so.
pub(super) struct First {
    /// `None` once it has left.
    key: Option<Key>,
    in_flight: InFlight,
}

impl InFlight {
    /// Enters a request.
    pub(super) fn enter(&self, shard: Option<ShardId>, execute: &pb::Execute) -> Entry {
        let client = execute.client.unwrap_or_default();
        let key = (shard, client.high, client.low, execute.sequence);
        let mut waiters = self.waiters.lock().expect("nothing panics while it holds the waiters");
        match waiters.get_mut(&key) {
            Some(joined) => {
                let (waiter, outcome) = oneshot::channel();
                joined.push(waiter);
                Entry::Joined(outcome)
            }
            None => {
                waiters.insert(key, Vec::new());
                Entry::First(First { key: Some(key), in_flight: self.clone() })
            }
        }
    }
}

impl First {
    /// Tells everybody who joined.
    pub(super) fn finish(mut self, outcome: Option<&reply::Outcome>) {
        for waiter in self.leave() {
            if let Some(outcome) = outcome {
                let _ = waiter.send(outcome.clone());
            }
        }
    }

    /// Once only: the next request with this number may be there already.
    fn leave(&mut self) -> Vec<oneshot::Sender<reply::Outcome>> {
        let Some(key) = self.key.take() else { return Vec::new() };
        let mut waiters = self.in_flight.waiters.lock().expect("nothing panics while it holds the waiters");
        waiters.remove(&key).unwrap_or_default()
    }
}

impl Drop for First {
    fn drop(&mut self) {
        drop(self.leave());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn execute(sequence: u64) -> pb::Execute {
        let client = Some(pb::ClientId { high: 1, low: 2 });
        pb::Execute { client, sequence, ..pb::Execute::default() }
    }

    fn unknown() -> reply::Outcome {
        reply::Outcome::Unknown(pb::Unknown { detail: "test".into(), leader: 3 })
    }

    #[test]
    fn retries_join_the_first_and_get_its_answer() {
        let in_flight = InFlight::default();
        let Entry::First(first) = in_flight.enter(None, &execute(7)) else { panic!("the first is first") };
        let Entry::Joined(mut joined) = in_flight.enter(None, &execute(7)) else {
            panic!("the second joins")
        };
        let Entry::First(_other) = in_flight.enter(None, &execute(8)) else {
            panic!("another number is another")
        };
        let elsewhere = in_flight.enter(Some(ShardId(1)), &execute(7));
        assert!(matches!(elsewhere, Entry::First(_)), "another shard's session is another");
        first.finish(Some(&unknown()));
        assert_eq!(joined.try_recv(), Ok(unknown()));
        assert!(matches!(in_flight.enter(None, &execute(7)), Entry::First(_)), "the next one is first again");
    }

    #[test]
    fn those_who_joined_a_request_that_went_away_are_told() {
        let in_flight = InFlight::default();
        let Entry::First(first) = in_flight.enter(None, &execute(7)) else { panic!("the first is first") };
        let Entry::Joined(mut joined) = in_flight.enter(None, &execute(7)) else {
            panic!("the second joins")
        };
        drop(first);
        assert_eq!(joined.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    }
}
