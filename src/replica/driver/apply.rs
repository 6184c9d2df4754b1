//! Applying committed entries, flushing the state, serving reads, compacting the log.

use tokio::sync::oneshot;

use super::super::options::ms;
use super::super::state::Summary;
use super::{Alarm, Decision, Denial, Driver, ReplicaError};
use crate::buggify::Point;
use crate::machine::StateMachine;
use crate::mutants::MutantId;
use crate::observe::Event as Observed;
use crate::proto::admin::Status;
use crate::raft::{Base, Entry, Input, Payload};

/// While a snapshot is sent or held, the log may grow to so many times its bound.
const SNAPSHOT_LOG_FACTOR: usize = 2;

impl<M: StateMachine> Driver<M> {
    /// Applies committed entries while the overlay has room, then serves the reads that waited for them.
    pub(super) fn apply_some(&mut self) -> Result<(), ReplicaError> {
        let overlay_bytes_max = 2 * self.options.apply_overlay_bytes_max;
        let waits = !self.unapplied.is_empty() && self.surroundings.buggify.forces(Point::SlowApply);
        while !waits
            && self.state.unflushed_bytes() < overlay_bytes_max
            && let Some(entry) = self.unapplied.pop_front()
        {
            self.apply(entry)?;
            self.applied.notify_waiters();
        }
        if self.state.needs_flush() && self.surroundings.buggify.forces(Point::EagerFlush) {
            self.start_flush();
        }
        if self.state.needs_flush() {
            let now = self.surroundings.clock.now();
            if !self.wheel.is_armed(&Alarm::Flush) {
                self.wheel.arm(Alarm::Flush, now.after(ms(self.options.apply_flush_ms)));
            }
        }
        let applied = self.state.now().base.position.index;
        while let Some(((index, _), _)) = self.reads.first_key_value()
            && *index <= applied
        {
            let (_, (query, reply)) = self.reads.pop_first().expect("there is a first one");
            self.serve(&query, reply);
        }
        match self.failure.take() {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }

    pub(super) fn apply(&mut self, entry: Entry) -> Result<(), ReplicaError> {
        let position = entry.position();
        if position.index != self.state.now().base.position.index.next() {
            return Ok(()); // a snapshot went past it
        }
        let membership = self.raft.log().membership_at(position.index).clone();
        let base = Base { position, membership };
        let (batch, reply) = match &entry.payload {
            Payload::Command(command) => {
                let (batch, reply) = self.machine.apply(&self.state, position, command)?;
                (batch, Some(reply))
            }
            Payload::Noop | Payload::Membership(_) => Default::default(),
        };
        self.state.apply(base, &batch)?;
        let replica_hash = self.state.now().content.hash;
        let applied = Observed::Applied { entry: &entry, batch: &batch, replica_hash };
        self.observer.observe(self.identity.id, &applied);
        if let Some((term, waiter)) = self.proposed.remove(&position.index) {
            // Another term's entry took the place: ours can never be committed (and never get its reply: B21).
            let any = self.raft.config().mutants.is(MutantId::KvReplyOfAnother);
            let decision = match reply {
                Some(reply) if term == position.term || any => Decision::Done(reply, position.index),
                _ => Decision::Refused(Denial::NotLeader(self.raft.leader())),
            };
            let _ = waiter.send(decision);
        }
        Ok(())
    }

    pub(super) fn serve(&mut self, query: &M::Query, reply: oneshot::Sender<Decision<M::Answer>>) {
        let applied = self.state.now().base.position;
        match self.machine.read(&self.state, query) {
            Ok(answer) => {
                self.observer.observe(self.identity.id, &Observed::ReadServed { applied });
                let _ = reply.send(Decision::Done(answer, applied.index));
            }
            Err(error) => {
                self.failure = Some(error.into());
                let _ = reply.send(Decision::Refused(Denial::Unhealthy));
            }
        }
    }

    pub(super) fn submit_flush(&mut self) {
        if self.state.unflushed_bytes() >= self.options.apply_overlay_bytes_max {
            self.start_flush();
        }
    }

    pub(super) fn start_flush(&mut self) {
        if self.flushing.is_none() && self.state.needs_flush() {
            self.wheel.disarm(&Alarm::Flush);
            let (summary, write) = self.state.flush();
            self.flushing = Some((summary, write));
        }
    }

    pub(super) fn flushed(&mut self, summary: Summary) -> Result<(), ReplicaError> {
        let applied = summary.base.position;
        if applied.index >= self.state.durable().base.position.index {
            self.state.flushed(summary);
        }
        self.observer.observe(self.identity.id, &Observed::Flushed { applied });
        self.compact();
        Ok(())
    }

    /// Keeps the log below its bound, but never drops what the durable state still needs; and what the receiver of a
    /// snapshot will need only up to [`SNAPSHOT_LOG_FACTOR`]: beyond, it will get another snapshot.
    pub(super) fn compact(&mut self) {
        let log = self.raft.log();
        let is_eager = self.surroundings.buggify.forces(Point::EagerCompaction);
        if log.bytes() <= self.options.log_bytes_max && !is_eager {
            return;
        }
        let durable = self.state.durable().base.position.index;
        let held = self.held.iter().map(|held| held.summary.base.position.index);
        let needed = self.sending.values().copied().chain(held).min();
        let mutants = self.raft.config().mutants;
        let bytes_left_max = if is_eager { 0 } else { self.options.log_bytes_max / 2 };
        let mut through = log.last_to_drop(bytes_left_max);
        if !mutants.is(MutantId::SnapshotLogCutTooFar) {
            through = through.min(durable);
        }
        if let Some(needed) = needed {
            if log.bytes() <= SNAPSHOT_LOG_FACTOR * self.options.log_bytes_max {
                through = through.min(needed);
            } else {
                self.held = None; // nobody can go on from it
            }
        }
        if through > log.base().index {
            self.step(Input::Compact { through });
        }
    }

    pub(super) fn status(&self) -> Status {
        let (now, log) = (self.state.now(), self.raft.log());
        Status {
            node_id: self.identity.id.0,
            cluster_id: self.identity.cluster_id.clone(),
            role: self.raft.role().name().to_owned(),
            term: self.raft.hard().term.0,
            leader: self.raft.leader().map_or(0, |node| node.0),
            commit: self.raft.commit().0,
            applied: now.base.position.index.0,
            durable_applied: self.state.durable().base.position.index.0,
            log_first: log.first_index().0,
            log_last: log.last().index.0,
            keys: now.content.keys,
            bytes: now.content.bytes,
            replica_hash: now.content.hash,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            log_bytes: log.bytes() as u64,
            snapshot_sent_bytes: self.travelled.sent_bytes(),
            snapshot_received_bytes: self.travelled.received_bytes(),
            ..Status::default()
        }
    }
}
