//! What the core asks for: writes, sends, timers, answers.

use super::super::options::ms;
use super::super::pointer;
use super::{Alarm, Decision, Driver, ReplicaError, TransferError};
use crate::buggify::Point;
use crate::machine::StateMachine;
use crate::mutants::MutantId;
use crate::raft::{Body, Effect, Input, Message, Role, Timer, WriteId};
use crate::types::{Index, NodeId};

impl<M: StateMachine> Driver<M> {
    pub(super) async fn execute(&mut self) -> Result<(), ReplicaError> {
        while !self.effects.is_empty() {
            let mut installed = None;
            for effect in std::mem::take(&mut self.effects) {
                if let Effect::InstallSnapshot { base } = effect {
                    if self.raft.config().mutants.is(MutantId::SnapshotLogResetFirst) {
                        installed = Some(base);
                        continue;
                    }
                    self.install(base).await?;
                } else {
                    self.perform(effect)?;
                }
            }
            if let Some(base) = installed {
                self.reset_log_first().await?;
                self.install(base).await?;
            }
        }
        let leads = matches!(self.raft.role(), Role::Leader(_));
        self.leadership.set(leads.then_some(self.raft.hard().term));
        if let Some(leader) = self.raft.leader() {
            for reply in self.transferred.drain(..) {
                let _ = reply.send(Ok(leader));
            }
        }
        self.apply_some()
    }

    pub(super) fn perform(&mut self, effect: Effect) -> Result<(), ReplicaError> {
        let mutants = self.raft.config().mutants;
        match effect {
            Effect::Persist(persist) => self.persists.push(persist),
            Effect::Send { to, message, after } => {
                let early = mutants.is(MutantId::DiskReplyBeforeSync);
                match after.filter(|id| *id > self.written && !early) {
                    Some(id) => self.waiting_sends.push_back((id, to, message)),
                    None => self.send(to, message),
                }
            }
            Effect::Apply(entries) => self.unapplied.extend(entries),
            Effect::Proposed { id, position } => {
                if let Some(reply) = self.proposing.remove(&id) {
                    self.proposed.insert(position.index, (position.term, reply));
                }
            }
            Effect::ReadReady { id, index } => {
                if let Some(read) = self.confirming.remove(&id) {
                    self.reads.insert((index, id), read);
                }
            }
            Effect::Refused { id, reason } => {
                if let Some(reply) = self.proposing.remove(&id) {
                    let _ = reply.send(Decision::Refused(reason.into()));
                } else if let Some((_, reply)) = self.confirming.remove(&id) {
                    let _ = reply.send(Decision::Refused(reason.into()));
                } else if let Some(reply) = self.transferring.remove(&id) {
                    let _ = reply.send(Err(reason.into()));
                }
            }
            Effect::TransferEnded { id, given_up } => match self.transferring.remove(&id) {
                Some(reply) if given_up => drop(reply.send(Err(TransferError::GivenUp))),
                waiting => self.transferred.extend(waiting),
            },
            Effect::Arm(timer) => {
                let delay_ms = match timer {
                    Timer::Heartbeat => self.options.heartbeat_ms,
                    Timer::Election if self.surroundings.buggify.forces(Point::EarlyElection) => {
                        self.options.heartbeat_ms
                    }
                    Timer::Election => {
                        let (low, mut high) = self.options.election_timeout_ms;
                        if mutants.is(MutantId::ElectionTimerNotRandomised) {
                            high = low;
                        }
                        self.election_draws.next().between(low, high)
                    }
                };
                let at = self.surroundings.clock.now().after(ms(delay_ms));
                let stale = mutants.is(MutantId::AsyncStaleTimeout) && timer == Timer::Election;
                if !(stale && self.wheel.is_armed(&Alarm::Raft(timer))) {
                    self.wheel.arm(Alarm::Raft(timer), at);
                }
            }
            Effect::Disarm(timer) => self.wheel.disarm(&Alarm::Raft(timer)),
            Effect::SendSnapshot { to, term } => self.send_snapshot(to, term)?,
            Effect::AcceptSnapshot { .. } => {
                if let Some(decision) = self.offer.take() {
                    let name = pointer::store_name(self.state_number + 1);
                    self.receiving = decision.send(Ok(name)).is_ok();
                    if self.receiving {
                        self.wheel.disarm(&Alarm::DropLeftover);
                    }
                }
            }
            Effect::RefuseSnapshot { .. } => {
                if let Some(decision) = self.offer.take() {
                    let _ =
                        decision.send(Err("not newer than what is here, or not from our leader".to_owned()));
                }
            }
            Effect::InstallSnapshot { .. } => {} // `execute` awaits it
        }
        Ok(())
    }

    fn send(&mut self, to: NodeId, message: Message) {
        let delivered = match (&message.body, self.raft.config().mutants.is(MutantId::AsyncDropIsDelivery)) {
            (Body::Append { previous, entries, .. }, true) => {
                Some(Index(previous.index.0 + entries.len() as u64))
            }
            _ => None,
        };
        let term = message.term;
        let is_queued = self.transport.send(to, message);
        if let Some(matched) = delivered.filter(|_| !is_queued) {
            let message = Message { term, body: Body::AppendAccepted { matched } };
            self.raft.step(Input::Message { from: to, message }, &mut self.effects);
        }
    }

    /// The planted bug `snapshot.log_reset_first`: what is to be written after the switch is written before it.
    async fn reset_log_first(&mut self) -> Result<(), ReplicaError> {
        if let Some((id, writing)) = self.writing.take() {
            writing.await?;
            self.persisted(id);
        }
        self.submit_writes();
        if let Some((id, writing)) = self.writing.take() {
            writing.await?;
            self.persisted(id);
        }
        Ok(())
    }

    pub(super) fn submit_writes(&mut self) {
        if self.writing.is_some() || self.persists.is_empty() {
            return;
        }
        let is_short = self.persists.len() > 1 && self.surroundings.buggify.forces(Point::ShortWrite);
        let count = if is_short { 1 } else { self.persists.len() };
        let id = self.persists[count - 1].id;
        let write = self.log_store.write(&self.persists[..count]);
        self.persists.drain(..count);
        self.writing = Some((id, write));
    }

    pub(super) fn persisted(&mut self, id: WriteId) {
        self.written = id;
        while let Some((after, ..)) = self.waiting_sends.front()
            && *after <= id
        {
            let (_, to, message) = self.waiting_sends.pop_front().expect("there is a first one");
            self.send(to, message);
        }
        self.step(Input::Persisted(id));
    }
}
