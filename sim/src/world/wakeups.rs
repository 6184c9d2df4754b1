//! Does everything that waits come to an end? What a lost wakeup looks like from outside, with simulated time that goes on.
//!
//! - An operation of a client is over by its deadline, whoever answers and whoever is dead: its own timer wakes it. One
//!   that is still open long after that was never woken.
//! - Nodes that run do something all the time: a leader has heartbeats, and who hears nothing stands for election. If
//!   none does anything for long, all of them wait for ever.
//!
//! Both are judged once the faults are over: before that a party may stand still because it is paused.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::World;
use crate::outcome::Violation;
use crate::places;
use crate::workload::Phase;

/// An operation is open for so long after its deadline: it was not woken.
const LATE: Duration = Duration::from_secs(10);
/// No node does anything for so long, while clients wait.
const SILENCE: Duration = Duration::from_secs(20);

/// An operation under way.
#[derive(Clone, Debug)]
struct Open {
    client: u64,
    what: String,
    due: Duration,
}

/// The operations under way.
#[derive(Debug, Default)]
pub struct Outstanding(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    next: u64,
    open: BTreeMap<u64, Open>,
    ended: u64,
}

/// An operation under way; it ends with this.
pub struct Entry<'a> {
    table: &'a Outstanding,
    number: u64,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        let mut table = self.table.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.ended += u64::from(table.open.remove(&self.number).is_some());
    }
}

impl Outstanding {
    /// `client` begins `what`, which is over by `due`.
    pub fn begin(&self, client: u64, what: String, due: Duration) -> Entry<'_> {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.next += 1;
        let number = table.next;
        table.open.insert(number, Open { client, what, due });
        Entry { table: self, number }
    }

    /// The process of `client` is gone: nobody waits there any more.
    pub fn forget(&self, client: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).open.retain(|_, open| open.client != client);
    }

    /// Operations that came to an end.
    pub fn ended(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).ended
    }

    fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).open.is_empty()
    }

    /// One that should have been over by `now`, in words.
    fn late(&self, now: Duration) -> Option<String> {
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let late = table.open.values().find(|open| now > open.due + LATE)?;
        let after_ms = (now - late.due).as_millis();
        Some(format!(
            "{} still waits for `{}`, {after_ms} ms after its deadline",
            places::client_name(late.client),
            late.what
        ))
    }
}

/// What was seen of the nodes so far.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    events: u64,
    since: Duration,
    healed_at: Option<Duration>,
}

impl Pulse {
    /// Nodes have had so many events by `now`: who waits for ever, in words.
    fn waits_for_ever(&mut self, now: Duration, events: u64, outstanding: &Outstanding) -> Option<String> {
        let healed_at = *self.healed_at.get_or_insert(now);
        if events != self.events || self.since < healed_at {
            (self.events, self.since) = (events, now);
        }
        // A pause that has just ended may have kept an operation from its deadline.
        let late = outstanding.late(now).filter(|_| now - healed_at > LATE);
        let silent = now - self.since > SILENCE && !outstanding.is_empty();
        let ms = (now - self.since).as_millis();
        late.or_else(|| silent.then(|| format!("no node has done anything for {ms} ms while clients wait")))
    }
}

impl World {
    /// Looks whether somebody waits for ever; called every now and then.
    pub(crate) fn look_for_lost_wakeups(&self, pulse: &mut Pulse) {
        if self.phases.now() == Phase::Safety || !self.watcher.checks("sim.no_lost_wakeup") {
            return;
        }
        let (now, events) = (self.time.elapsed(), self.watcher.events());
        if let Some(what) = pulse.waits_for_ever(now, events, &self.outstanding) {
            self.watcher.violate(Violation::new("sim.no_lost_wakeup", what));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_late_well_after_its_deadline_unless_it_has_ended_or_its_process_has() {
        let outstanding = Outstanding::default();
        let at = Duration::from_secs;
        let first = outstanding.begin(1, "get k1".to_owned(), at(5));
        let second = outstanding.begin(2, "put k2".to_owned(), at(6));
        assert_eq!(outstanding.late(at(15)), None);
        let late = outstanding.late(at(16)).unwrap();
        assert_eq!(late, "c1 still waits for `get k1`, 11000 ms after its deadline");
        drop(first);
        assert_eq!((outstanding.late(at(16)), outstanding.ended()), (None, 1));
        assert!(outstanding.late(at(17)).unwrap().starts_with("c2 "));
        outstanding.forget(2);
        drop(second);
        assert_eq!((outstanding.late(at(99)), outstanding.ended()), (None, 1));
    }

    #[test]
    fn nodes_that_do_nothing_while_somebody_waits_are_noticed_and_those_that_nobody_needs_are_not() {
        let outstanding = Outstanding::default();
        let at = Duration::from_secs;
        let mut pulse = Pulse::default();
        assert_eq!(pulse.waits_for_ever(at(100), 7, &outstanding), None);
        assert_eq!(pulse.waits_for_ever(at(130), 7, &outstanding), None, "nobody waits");
        let _open = outstanding.begin(1, "get k1".to_owned(), at(900));
        let found = pulse.waits_for_ever(at(132), 7, &outstanding).unwrap();
        assert_eq!(found, "no node has done anything for 32000 ms while clients wait");
        assert_eq!(pulse.waits_for_ever(at(134), 8, &outstanding), None, "one did something");
        assert_eq!(pulse.waits_for_ever(at(154), 8, &outstanding), None);
        assert!(pulse.waits_for_ever(at(155), 8, &outstanding).is_some());
    }

    #[test]
    fn an_operation_that_a_pause_has_just_released_is_not_late_yet() {
        let outstanding = Outstanding::default();
        let at = Duration::from_secs;
        let mut pulse = Pulse::default();
        let _open = outstanding.begin(1, "get k1".to_owned(), at(5));
        assert_eq!(pulse.waits_for_ever(at(100), 1, &outstanding), None);
        assert_eq!(pulse.waits_for_ever(at(110), 2, &outstanding), None);
        assert!(pulse.waits_for_ever(at(111), 3, &outstanding).unwrap().starts_with("c1 still waits"));
    }
}
