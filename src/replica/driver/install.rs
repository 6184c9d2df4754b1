//! Snapshots, as far as they touch the driver: starting a stream and switching to a received state.

use std::sync::Arc;

use super::super::options::ms;
use super::super::pointer::{self, StatePointer};
use super::super::snapshots::{self, SendError, Sending};
use super::{Alarm, Driver, Event, ReplicaError};
use crate::machine::StateMachine;
use crate::observe::Event as Observed;
use crate::raft::{Base, Input};
use crate::storage::BoxFuture;
use crate::types::{Index, NodeId, Term};

impl<M: StateMachine> Driver<M> {
    pub(super) fn send_snapshot(&mut self, to: NodeId, term: Term) -> Result<(), ReplicaError> {
        if self.sending.contains_key(&to) {
            return Ok(());
        }
        let first_index = self.raft.log().first_index();
        let snapshot = match self.held.take() {
            // The receiver may have a part of it; it is of use while the log goes on from there.
            Some(held) if held.summary.base.position.index.next() >= first_index => held,
            _ => Arc::new(self.state.snapshot()?),
        };
        self.held = Some(snapshot.clone());
        self.wheel.disarm(&Alarm::ReleaseSnapshot);
        let index = snapshot.summary.base.position.index;
        self.sending.insert(to, index);
        let sending = Sending { to, term, snapshot, travelled: self.travelled.clone() };
        let streaming: BoxFuture<Result<bool, SendError>> = Box::pin(snapshots::send(
            sending,
            self.identity.clone(),
            self.options.clone(),
            self.surroundings.clone(),
        ));
        let events = self.events.clone();
        tokio::spawn(async move {
            let result = streaming.await;
            if let Err(error) = &result {
                tracing::debug!(%to, %error, "snapshot not delivered");
            }
            if let Some(events) = events.upgrade() {
                let _ = events.send(Event::SnapshotSent { to, index, result }).await;
            }
        });
        Ok(())
    }

    /// A stream has ended; whether its receiver has the state at `index` now.
    pub(super) fn snapshot_sent(&mut self, to: NodeId, index: Index, result: Result<bool, SendError>) {
        self.sending.remove(&to);
        match &result {
            Err(SendError::Unreadable(error)) => self.failure = Some(error.clone().into()),
            // Whoever did not want it will want a later one.
            Ok(_) if self.sending.is_empty() => self.held = None,
            Err(_) if self.sending.is_empty() => self.arm_hold(Alarm::ReleaseSnapshot),
            _ => {}
        }
        let installed = matches!(result, Ok(true)).then_some(index);
        self.step(Input::SnapshotSent { to, installed });
    }

    pub(super) fn release_snapshot(&mut self) {
        if self.sending.is_empty() {
            self.held = None;
        }
    }

    /// What was received is of no use before its sender offers it again, and of none at all after a while.
    pub(super) fn keep_leftover(&mut self) {
        self.arm_hold(Alarm::DropLeftover);
    }

    pub(super) fn drop_leftover(&mut self) {
        if !self.receiving && self.staged.is_none() {
            self.remove_store(pointer::store_name(self.state_number + 1));
        }
    }

    fn arm_hold(&mut self, alarm: Alarm) {
        let at = self.surroundings.clock.now().after(ms(self.options.snapshot_hold_ms));
        self.wheel.arm(alarm, at);
    }

    /// Off the loop: it takes as long as there are files.
    fn remove_store(&self, name: String) {
        let removing = self.volume.remove(&name);
        tokio::spawn(async move {
            // A snapshot that is being streamed out of it may hold it open; then the next start removes it.
            if let Err(error) = removing.await {
                tracing::debug!(name, %error, "a store that nobody needs is still there");
            }
        });
    }

    /// Switches to the staged state, durably. A crash before the switch leaves the old state, one after it the new
    /// one with a log that the open-time rule puts right.
    pub(super) async fn install(&mut self, base: Base) -> Result<(), ReplicaError> {
        let Some(staged) = self.staged.take().filter(|staged| staged.base == base) else {
            return Err(ReplicaError::Inconsistent("a snapshot to install that was not received".to_owned()));
        };
        if let Some((_, flush)) = self.flushing.take() {
            flush.await?; // into the old store, which is about to go
        }
        let old = pointer::store_name(self.state_number);
        self.state_number = pointer::store_number(&staged.name).unwrap_or(self.state_number + 1);
        StatePointer::whole(self.state_number).write(&*self.volume).await?;
        self.state.replace(staged.store, &base.membership)?;
        self.wheel.disarm(&Alarm::Flush);
        self.unapplied.clear();
        self.held = None;
        self.remove_store(old);
        let applied = self.state.now().base.position;
        let replica_hash = self.state.now().content.hash;
        self.observer.observe(self.identity.id, &Observed::SnapshotInstalled { applied, replica_hash });
        self.applied.notify_waiters();
        Ok(())
    }
}
