//! What comes into the driver: events in batches, timers, and the core's steps.

use super::super::timers::Moment;
use super::{Alarm, Decision, Denial, Driver, Event, ReplicaError};
use crate::buggify::Point;
use crate::machine::StateMachine;
use crate::mutants::MutantId;
use crate::observe::Event as Observed;
use crate::raft::{Effect, Input, RequestId};
use bytes::Bytes;
use tokio::sync::oneshot;

impl<M: StateMachine> Driver<M> {
    /// Steps `event` and what else is in the inbox, up to a bound; proposals that follow each other go together.
    pub(super) async fn take(&mut self, event: Event<M>) -> Result<(), ReplicaError> {
        let mut proposals = Vec::new();
        let mut next = Some(event);
        let is_short = self.surroundings.buggify.forces(Point::ShortBatch);
        for _ in 0..if is_short { 1 } else { self.options.inbox_batch_max } {
            let Some(event) = next.take().or_else(|| self.inbox.try_recv().ok()) else { break };
            let Event::Propose { command, deadline, reply } = event else {
                self.propose(&mut proposals);
                self.handle(event);
                self.execute().await?;
                continue;
            };
            proposals.extend(self.admit(command, deadline, reply));
        }
        self.propose(&mut proposals);
        Ok(())
    }

    pub(super) fn propose(&mut self, proposals: &mut Vec<(RequestId, Bytes)>) {
        if !proposals.is_empty() {
            self.step(Input::Propose(std::mem::take(proposals)));
        }
    }

    /// A proposal for the core, unless it is refused at the door: too late, or applying cannot keep up.
    fn admit(
        &mut self,
        command: Bytes,
        deadline: Moment,
        reply: oneshot::Sender<Decision<M::Reply>>,
    ) -> Option<(RequestId, Bytes)> {
        let denial = if self.surroundings.clock.now() >= deadline {
            Denial::Deadline
        } else if !self.unapplied.is_empty() {
            Denial::Overloaded
        } else {
            let id = self.request_id();
            let reply = self.or_planted_reply(&command, reply);
            self.proposing.insert(id, reply);
            return Some((id, command));
        };
        let _ = reply.send(Decision::Refused(denial));
        None
    }

    /// Who is told how a proposal ended. The planted bug `kv.reply_before_log` computes the reply now, and tells it then.
    fn or_planted_reply(
        &self,
        command: &Bytes,
        reply: oneshot::Sender<Decision<M::Reply>>,
    ) -> oneshot::Sender<Decision<M::Reply>> {
        if !self.raft.config().mutants.is(MutantId::KvReplyBeforeLog) {
            return reply;
        }
        let at = self.raft.log().last();
        let Ok((_, early)) = self.machine.apply(&self.state, at, command) else { return reply };
        let (late, decided) = oneshot::channel();
        tokio::spawn(async move {
            let decision = match decided.await {
                Ok(Decision::Done(_, index)) => Decision::Done(early, index),
                Ok(other) => other,
                Err(_) => return,
            };
            let _ = reply.send(decision);
        });
        late
    }

    pub(super) fn request_id(&mut self) -> RequestId {
        self.next_request += 1;
        RequestId(self.next_request)
    }

    pub(super) fn handle(&mut self, event: Event<M>) {
        match event {
            Event::PeerOpened { from } => self.transport.peer_opened(from),
            Event::Messages { from, messages } => {
                if messages.iter().any(|message| !message.body.is_request()) {
                    self.transport.answered(from);
                }
                for message in messages {
                    self.step(Input::Message { from, message });
                }
            }
            Event::Propose { command, deadline, reply } => {
                let mut proposals = self.admit(command, deadline, reply).into_iter().collect();
                self.propose(&mut proposals);
            }
            Event::Query { stale: true, reply, .. } if self.raft.lacks_state() => {
                let _ = reply.send(Decision::Refused(Denial::Unhealthy));
            }
            Event::Query { query, stale: true, reply, .. } => self.serve(&query, reply),
            Event::Query { query, deadline, reply, .. } => {
                if self.surroundings.clock.now() >= deadline {
                    let _ = reply.send(Decision::Refused(Denial::Deadline));
                    return;
                }
                if self.reads.len() >= self.options.reads_max {
                    let _ = reply.send(Decision::Refused(Denial::Overloaded));
                    return;
                }
                let id = self.request_id();
                self.confirming.insert(id, (query, reply));
                self.step(Input::Read(id));
            }
            Event::Status { reply } => {
                let _ = reply.send(self.status());
            }
            Event::Transfer { to, reply } => {
                let id = self.request_id();
                self.transferring.insert(id, reply);
                self.step(Input::Transfer { id, to });
            }
            Event::SnapshotOffered { from, term, position, decision } => {
                if self.receiving || self.offer.is_some() {
                    let _ = decision.send(Err("another snapshot is being received".to_owned()));
                    return;
                }
                self.offer = Some(decision);
                self.step(Input::SnapshotOffered { from, term, position });
            }
            Event::SnapshotReceived { from, staged, installed } => {
                self.receiving = false;
                let staged = match staged {
                    Ok(staged) => staged,
                    Err(reason) => {
                        self.keep_leftover();
                        let _ = installed.send(Err(reason));
                        return;
                    }
                };
                let (term, base) = (staged.term, staged.base.clone());
                self.staged = Some(staged);
                self.step(Input::SnapshotReceived { from, term, base });
                let refused =
                    self.effects.iter().any(|effect| matches!(effect, Effect::RefuseSnapshot { .. }));
                if refused {
                    self.staged = None;
                    self.keep_leftover();
                }
                let outcome = if refused { Err("not newer than what is here".to_owned()) } else { Ok(()) };
                let _ = installed.send(outcome);
            }
            Event::SnapshotSent { to, index, result } => self.snapshot_sent(to, index, result),
        }
    }

    pub(super) async fn fire_timers(&mut self) -> Result<(), ReplicaError> {
        while let Some(alarm) = self.wheel.pop(self.surroundings.clock.now()) {
            match alarm {
                Alarm::Raft(timer) => self.step(Input::Timeout(timer)),
                // What is put off is armed again after the next event.
                Alarm::Flush if self.surroundings.buggify.forces(Point::SlowFlush) => {}
                Alarm::Flush => self.start_flush(),
                Alarm::ReleaseSnapshot => self.release_snapshot(),
                Alarm::DropLeftover => self.drop_leftover(),
            }
            self.execute().await?;
        }
        Ok(())
    }

    pub(super) fn step(&mut self, input: Input) {
        let before = self.effects.len();
        let led = self.raft.is_leader();
        let copy = self.observer.wants_inputs().then(|| input.clone());
        self.raft.step(input, &mut self.effects);
        let (input, effects) = (copy.as_ref(), &self.effects[before..]);
        self.observer.observe(self.identity.id, &Observed::Stepped { input, effects, raft: &self.raft });
        let wait = self.raft.config().mutants.is(MutantId::KvReplyOfAnother);
        if led && !self.raft.is_leader() && !wait {
            // They may be committed by the next leader or overwritten; the clients' retries find out.
            let leader = self.raft.leader();
            for (_, reply) in std::mem::take(&mut self.proposed).into_values() {
                let _ = reply.send(Decision::Unknown(leader));
            }
        }
    }
}
