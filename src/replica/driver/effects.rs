//! What the core asks for: writes, sends, timers, answers.

use super::super::options::ms;
use super::super::snapshots;
use super::{Alarm, Decision, Driver, ReplicaError};
use crate::machine::StateMachine;
use crate::mutants::MutantId;
use crate::raft::{Effect, Input, Role, Timer, WriteId};

impl<M: StateMachine> Driver<M> {
    pub(super) async fn execute(&mut self) -> Result<(), ReplicaError> {
        while !self.effects.is_empty() {
            for effect in std::mem::take(&mut self.effects) {
                if let Effect::InstallSnapshot { base } = effect {
                    self.install(base).await?;
                } else {
                    self.perform(effect)?;
                }
            }
        }
        let leads = matches!(self.raft.role(), Role::Leader(_));
        self.leadership.set(leads.then_some(self.raft.hard().term));
        self.apply_some()
    }

    pub(super) fn perform(&mut self, effect: Effect) -> Result<(), ReplicaError> {
        match effect {
            Effect::Persist(persist) => self.persists.push(persist),
            Effect::Send { to, message, after } => {
                let early = self.raft.config().mutants.is(MutantId::DiskReplyBeforeSync);
                match after.filter(|id| *id > self.written && !early) {
                    Some(id) => self.waiting_sends.push_back((id, to, message)),
                    None => self.transport.send(to, message),
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
                }
            }
            Effect::Arm(timer) => {
                let delay_ms = match timer {
                    Timer::Heartbeat => self.options.heartbeat_ms,
                    Timer::Election => {
                        let (low, high) = self.options.election_timeout_ms;
                        self.election_draws.next().between(low, high)
                    }
                };
                let at = self.surroundings.clock.now().after(ms(delay_ms));
                self.wheel.arm(Alarm::Raft(timer), at);
            }
            Effect::Disarm(timer) => self.wheel.disarm(&Alarm::Raft(timer)),
            Effect::SendSnapshot { to, term } => self.send_snapshot(to, term)?,
            Effect::AcceptSnapshot { .. } => {
                if let Some(decision) = self.offer.take() {
                    let name = snapshots::state_store_name(self.state_number + 1);
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

    pub(super) fn submit_writes(&mut self) {
        if self.writing.is_none()
            && let Some(last) = self.persists.last()
        {
            let id = last.id;
            let write = self.log_store.write(&self.persists);
            self.persists.clear();
            self.writing = Some((id, write));
        }
    }

    pub(super) fn persisted(&mut self, id: WriteId) {
        self.written = id;
        while let Some((after, ..)) = self.waiting_sends.front()
            && *after <= id
        {
            let (_, to, message) = self.waiting_sends.pop_front().expect("there is a first one");
            self.transport.send(to, message);
        }
        self.step(Input::Persisted(id));
    }
}
