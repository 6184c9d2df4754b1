//! Snapshots, as far as they touch the driver: starting a stream and switching to a received state.

use super::super::snapshots::{self, Sending};
use super::{Alarm, Driver, Event, ReplicaError};
use crate::machine::StateMachine;
use crate::observe::Event as Observed;
use crate::raft::Base;
use crate::storage::BoxFuture;
use crate::types::{NodeId, Term};

impl<M: StateMachine> Driver<M> {
    pub(super) fn send_snapshot(&mut self, to: NodeId, term: Term) -> Result<(), ReplicaError> {
        if self.sending.contains_key(&to) {
            return Ok(());
        }
        let (summary, view) = self.state.snapshot()?;
        self.sending.insert(to, summary.base.position.index);
        let sending = Sending { to, term, summary: summary.clone(), view };
        let streaming: BoxFuture<Result<bool, String>> = Box::pin(snapshots::send(
            sending,
            self.identity.clone(),
            self.options.clone(),
            self.surroundings.clone(),
        ));
        let events = self.events.clone();
        tokio::spawn(async move {
            let result = streaming.await;
            if let Err(error) = &result {
                tracing::debug!(%to, error, "snapshot not delivered");
            }
            let installed = snapshots::installed_index(&result, &summary);
            if let Some(events) = events.upgrade() {
                let _ = events.send(Event::SnapshotSent { to, installed }).await;
            }
        });
        Ok(())
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
        self.volume.replace_file(super::super::STATE_POINTER, staged.name.clone().into_bytes()).await?;
        let old = snapshots::state_store_name(self.state_number);
        self.state.replace(staged.store, &base.membership)?;
        self.state_number = snapshots::state_store_number(&staged.name).unwrap_or(self.state_number + 1);
        self.wheel.disarm(&Alarm::Flush);
        self.unapplied.clear();
        // A snapshot that is being streamed out of it may hold the old store open; the next open removes it then.
        if let Err(error) = self.volume.remove(&old).await {
            tracing::debug!(%error, "the old state is removed at the next start");
        }
        let applied = self.state.now().base.position;
        let replica_hash = self.state.now().content.hash;
        self.observer.observe(self.identity.id, &Observed::SnapshotInstalled { applied, replica_hash });
        self.applied.notify_waiters();
        Ok(())
    }
}
