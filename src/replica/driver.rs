//! The loop that runs a core: one task per replica, the only one that touches it.
//!
//! - Events are drained in bounded batches, stepped, and all their writes go to the log store as one synced batch
//!   while the next events are stepped (group commit). Sends leave when the write that they name is durable.
//! - Timers fire after the events of the same moment, so that a heartbeat that arrived re-arms the election timer
//!   before it is looked at.
//! - A failed write ends the replica: nothing is acknowledged any more, and the error is its last word.
//! - Whoever waits is answered: with a result, with a refusal if it was certainly not executed, else with unknown.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::log_store::LogStore;
use super::options::{Options, ms};
use super::snapshots::{self, Sending, Staged};
use super::state::{State, Summary};
use super::timers::{Moment, Wheel};
use super::transport::{Identity, Surroundings, Transport};
use crate::machine::StateMachine;
use crate::mutants::MutantId;
use crate::observe::{Event as Observed, Observer};
use crate::proto::admin::Status;
use crate::raft::{
    Base, Effect, Entry, Input, Message, Payload, Persist, Position, Raft, Refusal, RequestId, Timer, WriteId,
};
use crate::random::Site;
use crate::storage::{BoxFuture, StorageError, Store, Volume};
use crate::types::{Index, NodeId, Term};
use crate::view::ViewError;

/// How a proposal or a query ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision<T> {
    /// It took effect (or was read) at this index.
    Done(T, Index),
    /// It was certainly not executed.
    Refused(Denial),
    /// It may have been executed, or may still be; the leader if one is known.
    Unknown(Option<NodeId>),
}

/// Why nothing was executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denial {
    /// Ask the leader, if one is known.
    NotLeader(Option<NodeId>),
    /// Too much is waiting.
    Overloaded,
    /// The request's time was up before it was taken.
    Deadline,
    /// The node has stopped acknowledging.
    Unhealthy,
}

impl From<Refusal> for Denial {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotLeader(leader) => Denial::NotLeader(leader),
            Refusal::Overloaded => Denial::Overloaded,
        }
    }
}

/// What the driver is told.
pub(super) enum Event<M: StateMachine> {
    Messages {
        from: NodeId,
        messages: Vec<Message>,
    },
    Propose {
        command: Bytes,
        deadline: Moment,
        reply: oneshot::Sender<Decision<M::Reply>>,
    },
    Query {
        query: M::Query,
        stale: bool,
        deadline: Moment,
        reply: oneshot::Sender<Decision<M::Answer>>,
    },
    Status {
        reply: oneshot::Sender<Status>,
    },
    SnapshotOffered {
        from: NodeId,
        term: Term,
        position: Position,
        decision: oneshot::Sender<Result<String, String>>,
    },
    SnapshotReceived {
        from: NodeId,
        staged: Result<Staged, String>,
        installed: oneshot::Sender<Result<(), String>>,
    },
    SnapshotSent {
        to: NodeId,
        installed: Option<Index>,
    },
}

/// Why a replica ended.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReplicaError {
    /// The disk refused or is damaged; nothing is acknowledged any more.
    #[error("{0}")]
    Storage(#[from] StorageError),
    /// The state could not be read; nothing is acknowledged any more.
    #[error("reading the state: {0}")]
    View(#[from] ViewError),
    /// What is on disk contradicts itself.
    #[error("{0}")]
    Inconsistent(String),
}

/// What wakes the driver, besides its inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Alarm {
    Raft(Timer),
    Flush,
}

type Completion = Pin<Box<dyn Future<Output = Result<(), StorageError>> + Send>>;

/// Everything that a driver starts from; `open` makes it.
pub(super) struct Opened {
    pub raft: Raft,
    pub armed: Vec<Effect>,
    pub log_store: LogStore,
    pub state: State,
    pub state_number: u64,
}

pub(super) struct Driver<M: StateMachine> {
    machine: M,
    identity: Identity,
    options: Options,
    surroundings: Surroundings,
    observer: Arc<dyn Observer>,
    volume: Arc<dyn Volume>,
    inbox: mpsc::Receiver<Event<M>>,
    /// For the tasks that report back.
    events: mpsc::WeakSender<Event<M>>,
    transport: Transport,

    raft: Raft,
    effects: Vec<Effect>,
    log_store: LogStore,
    state: State,
    state_number: u64,
    wheel: Wheel<Alarm>,
    election_draws: Site,

    /// Waiting to be written.
    persists: Vec<Persist>,
    /// Being written, up to this id.
    writing: Option<(WriteId, Completion)>,
    written: WriteId,
    /// Sends that wait for a write, by id.
    waiting_sends: VecDeque<(WriteId, NodeId, Message)>,
    flushing: Option<(Summary, Completion)>,
    /// Committed entries that the overlay has no room for yet.
    unapplied: VecDeque<Entry>,

    next_request: u64,
    /// Proposals handed to the core in this step, until it says where they went.
    proposing: BTreeMap<RequestId, oneshot::Sender<Decision<M::Reply>>>,
    /// Proposals in the log, by index.
    proposed: BTreeMap<Index, (Term, oneshot::Sender<Decision<M::Reply>>)>,
    /// Reads that the core is confirming.
    confirming: BTreeMap<RequestId, (M::Query, oneshot::Sender<Decision<M::Answer>>)>,
    /// Confirmed reads that wait for the state to get there.
    reads: BTreeMap<(Index, RequestId), (M::Query, oneshot::Sender<Decision<M::Answer>>)>,

    offer: Option<(NodeId, Position, oneshot::Sender<Result<String, String>>)>,
    receiving: Option<NodeId>,
    staged: Option<Staged>,
    refused_install: bool,
    /// Snapshots on their way out, with the index from which their receivers will need the log.
    sending: BTreeMap<NodeId, Index>,
    failure: Option<ReplicaError>,
}

impl<M: StateMachine> Driver<M> {
    #[allow(clippy::too_many_arguments)]
    pub(super) fn new(
        machine: M,
        identity: Identity,
        options: Options,
        surroundings: Surroundings,
        observer: Arc<dyn Observer>,
        volume: Arc<dyn Volume>,
        inbox: mpsc::Receiver<Event<M>>,
        events: mpsc::WeakSender<Event<M>>,
        opened: Opened,
    ) -> Self {
        let transport = Transport::start(&identity, &options, &surroundings);
        let election_draws = surroundings.draws.site("election", identity.id.0);
        Self {
            machine,
            identity,
            options,
            surroundings,
            observer,
            volume,
            inbox,
            events,
            transport,
            raft: opened.raft,
            effects: opened.armed,
            log_store: opened.log_store,
            state: opened.state,
            state_number: opened.state_number,
            wheel: Wheel::default(),
            election_draws,
            persists: Vec::new(),
            writing: None,
            written: WriteId(0),
            waiting_sends: VecDeque::new(),
            flushing: None,
            unapplied: VecDeque::new(),
            next_request: 0,
            proposing: BTreeMap::new(),
            proposed: BTreeMap::new(),
            confirming: BTreeMap::new(),
            reads: BTreeMap::new(),
            offer: None,
            receiving: None,
            staged: None,
            refused_install: false,
            sending: BTreeMap::new(),
            failure: None,
        }
    }

    /// Runs until `shutdown` resolves, every handle is dropped, or something fails.
    pub(super) async fn run(mut self, shutdown: impl Future<Output = ()>) -> Result<(), ReplicaError> {
        let result = self.run_until(shutdown).await;
        let unhealthy = result.as_ref().err().map(ToString::to_string);
        self.observer.observe(self.identity.id, &Observed::Stopped { unhealthy: unhealthy.as_deref() });
        result
    }

    async fn run_until(&mut self, shutdown: impl Future<Output = ()>) -> Result<(), ReplicaError> {
        let mut shutdown = std::pin::pin!(shutdown);
        let mut alarm: Option<(Moment, BoxFuture<()>)> = None;
        let link = self.surroundings.link.clone();
        self.observer.observe(
            self.identity.id,
            &Observed::Opened {
                raft: &self.raft,
                applied: self.state.now().base.position,
                replica_hash: self.state.now().content.hash,
            },
        );
        self.execute().await?;
        loop {
            self.submit_writes();
            self.submit_flush();
            let due = self.wheel.next().expect("the election timer or the heartbeat is always armed");
            // A sleep that ends early costs a turn; one per event would pile up in the simulator's heap.
            if alarm.as_ref().is_none_or(|(at, _)| *at > due) {
                let clock = self.surroundings.clock.clone();
                alarm = Some((due, Box::pin(async move { clock.sleep_until(due).await })));
            }
            let (_, sleep) = alarm.as_mut().expect("just set");
            let event = tokio::select! {
                biased;
                () = &mut shutdown => return Ok(()),
                result = completion(&mut self.writing) => {
                    let id = self.writing.take().expect("it completed").0;
                    result?;
                    self.persisted(id);
                    None
                }
                result = completion(&mut self.flushing) => {
                    let summary = self.flushing.take().expect("it completed").0;
                    result?;
                    self.flushed(summary)?;
                    None
                }
                event = self.inbox.recv() => match event {
                    Some(event) => Some(event),
                    None => return Ok(()),
                },
                () = sleep => {
                    alarm = None;
                    None
                }
            };
            link.gate(self.identity.id).await;
            if let Some(event) = event {
                self.take(event).await?;
            }
            self.fire_timers().await?;
            self.execute().await?;
        }
    }

    // ---- in ----

    /// Steps `event` and what else is in the inbox, up to a bound; proposals that follow each other go together.
    async fn take(&mut self, event: Event<M>) -> Result<(), ReplicaError> {
        let mut proposals = Vec::new();
        let mut next = Some(event);
        for _ in 0..self.options.inbox_batch_max {
            let Some(event) = next.take().or_else(|| self.inbox.try_recv().ok()) else { break };
            let Event::Propose { command, deadline, reply } = event else {
                self.propose(&mut proposals);
                self.handle(event);
                self.execute().await?;
                continue;
            };
            if self.surroundings.clock.now() >= deadline {
                let _ = reply.send(Decision::Refused(Denial::Deadline));
            } else if self.is_overloaded() {
                let _ = reply.send(Decision::Refused(Denial::Overloaded));
            } else {
                let id = self.request_id();
                self.proposing.insert(id, reply);
                proposals.push((id, command));
            }
        }
        self.propose(&mut proposals);
        Ok(())
    }

    fn propose(&mut self, proposals: &mut Vec<(RequestId, Bytes)>) {
        if !proposals.is_empty() {
            self.step(Input::Propose(std::mem::take(proposals)));
        }
    }

    fn is_overloaded(&self) -> bool {
        !self.unapplied.is_empty()
    }

    fn request_id(&mut self) -> RequestId {
        self.next_request += 1;
        RequestId(self.next_request)
    }

    fn handle(&mut self, event: Event<M>) {
        match event {
            Event::Messages { from, messages } => {
                self.transport.heard(from);
                for message in messages {
                    self.step(Input::Message { from, message });
                }
            }
            Event::Propose { reply, .. } => {
                // `take` keeps these together; alone it would be a proposal of its own.
                let _ = reply.send(Decision::Refused(Denial::Overloaded));
            }
            Event::Query { query, stale: true, reply, .. } => self.serve(&query, reply),
            Event::Query { query, deadline, reply, .. } => {
                if self.surroundings.clock.now() >= deadline {
                    let _ = reply.send(Decision::Refused(Denial::Deadline));
                    return;
                }
                let id = self.request_id();
                self.confirming.insert(id, (query, reply));
                self.step(Input::Read(id));
            }
            Event::Status { reply } => {
                let _ = reply.send(self.status());
            }
            Event::SnapshotOffered { from, term, position, decision } => {
                if self.receiving.is_some() || self.offer.is_some() {
                    let _ = decision.send(Err("another snapshot is being received".to_owned()));
                    return;
                }
                self.offer = Some((from, position, decision));
                self.step(Input::SnapshotOffered { from, term, position });
            }
            Event::SnapshotReceived { from, staged, installed } => {
                self.receiving = None;
                let staged = match staged {
                    Ok(staged) => staged,
                    Err(reason) => {
                        let _ = installed.send(Err(reason));
                        return;
                    }
                };
                let (term, base) = (staged.term, staged.base.clone());
                self.staged = Some(staged);
                self.refused_install = false;
                self.step(Input::SnapshotReceived { from, term, base });
                let refused =
                    self.effects.iter().any(|effect| matches!(effect, Effect::RefuseSnapshot { .. }));
                if refused {
                    self.staged = None;
                }
                let outcome = if refused { Err("not newer than what is here".to_owned()) } else { Ok(()) };
                let _ = installed.send(outcome);
            }
            Event::SnapshotSent { to, installed } => {
                self.sending.remove(&to);
                self.step(Input::SnapshotSent { to, installed });
            }
        }
    }

    async fn fire_timers(&mut self) -> Result<(), ReplicaError> {
        while let Some(alarm) = self.wheel.pop(self.surroundings.clock.now()) {
            match alarm {
                Alarm::Raft(timer) => self.step(Input::Timeout(timer)),
                Alarm::Flush => self.start_flush(),
            }
            self.execute().await?;
        }
        Ok(())
    }

    fn step(&mut self, input: Input) {
        let before = self.effects.len();
        let led = self.raft.is_leader();
        let copy = input.clone();
        self.raft.step(input, &mut self.effects);
        let (input, effects) = (&copy, &self.effects[before..]);
        self.observer.observe(self.identity.id, &Observed::Stepped { input, effects, raft: &self.raft });
        if led && !self.raft.is_leader() {
            // They may be committed by the next leader or overwritten; the clients' retries find out.
            let leader = self.raft.leader();
            for (_, reply) in std::mem::take(&mut self.proposed).into_values() {
                let _ = reply.send(Decision::Unknown(leader));
            }
        }
    }

    // ---- out ----

    async fn execute(&mut self) -> Result<(), ReplicaError> {
        while !self.effects.is_empty() {
            for effect in std::mem::take(&mut self.effects) {
                if let Effect::InstallSnapshot { base } = effect {
                    self.install(base).await?;
                } else {
                    self.perform(effect)?;
                }
            }
        }
        self.apply_some()
    }

    fn perform(&mut self, effect: Effect) -> Result<(), ReplicaError> {
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
            Effect::AcceptSnapshot { from, .. } => {
                if let Some((_, _, decision)) = self.offer.take() {
                    let name = snapshots::state_store_name(self.state_number + 1);
                    if decision.send(Ok(name)).is_ok() {
                        self.receiving = Some(from);
                    }
                }
            }
            Effect::RefuseSnapshot { .. } => {
                if let Some((_, _, decision)) = self.offer.take() {
                    let _ =
                        decision.send(Err("not newer than what is here, or not from our leader".to_owned()));
                }
            }
            Effect::InstallSnapshot { .. } => {} // `execute` awaits it
        }
        Ok(())
    }

    fn submit_writes(&mut self) {
        if self.writing.is_none()
            && let Some(last) = self.persists.last()
        {
            let id = last.id;
            let write = self.log_store.write(&self.persists);
            self.persists.clear();
            self.writing = Some((id, write));
        }
    }

    fn persisted(&mut self, id: WriteId) {
        self.written = id;
        while let Some((after, ..)) = self.waiting_sends.front()
            && *after <= id
        {
            let (_, to, message) = self.waiting_sends.pop_front().expect("there is a first one");
            self.transport.send(to, message);
        }
        self.step(Input::Persisted(id));
    }

    // ---- the state ----

    /// Applies committed entries while the overlay has room, then serves the reads that waited for them.
    fn apply_some(&mut self) -> Result<(), ReplicaError> {
        let overlay_bytes_max = 2 * self.options.apply_overlay_bytes_max;
        while self.state.unflushed_bytes() < overlay_bytes_max
            && let Some(entry) = self.unapplied.pop_front()
        {
            self.apply(entry)?;
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

    fn apply(&mut self, entry: Entry) -> Result<(), ReplicaError> {
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
            let decision = match reply {
                Some(reply) if term == position.term => Decision::Done(reply, position.index),
                _ => Decision::Refused(Denial::NotLeader(self.raft.leader())),
            };
            let _ = waiter.send(decision);
        }
        Ok(())
    }

    fn serve(&mut self, query: &M::Query, reply: oneshot::Sender<Decision<M::Answer>>) {
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

    fn submit_flush(&mut self) {
        if self.state.unflushed_bytes() >= self.options.apply_overlay_bytes_max {
            self.start_flush();
        }
    }

    fn start_flush(&mut self) {
        if self.flushing.is_none() && self.state.needs_flush() {
            self.wheel.disarm(&Alarm::Flush);
            let (summary, write) = self.state.flush();
            self.flushing = Some((summary, write));
        }
    }

    fn flushed(&mut self, summary: Summary) -> Result<(), ReplicaError> {
        let applied = summary.base.position;
        if applied.index >= self.state.durable().base.position.index {
            self.state.flushed(summary);
        }
        self.observer.observe(self.identity.id, &Observed::Flushed { applied });
        self.compact();
        Ok(())
    }

    /// Keeps the log below its bound, but never drops what the durable state or a snapshot under way still needs.
    fn compact(&mut self) {
        let log = self.raft.log();
        if log.bytes() <= self.options.log_bytes_max {
            return;
        }
        let durable = self.state.durable().base.position.index;
        let needed = self.sending.values().min().copied().unwrap_or(durable);
        let through = log.last_to_drop(self.options.log_bytes_max / 2).min(durable).min(needed);
        if through > log.base().index {
            self.step(Input::Compact { through });
        }
    }

    fn status(&self) -> Status {
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
            ..Status::default()
        }
    }

    // ---- snapshots ----

    fn send_snapshot(&mut self, to: NodeId, term: Term) -> Result<(), ReplicaError> {
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
    async fn install(&mut self, base: Base) -> Result<(), ReplicaError> {
        let Some(staged) = self.staged.take().filter(|staged| staged.base == base) else {
            return Err(ReplicaError::Inconsistent("a snapshot to install that was not received".to_owned()));
        };
        if let Some((_, flush)) = self.flushing.take() {
            flush.await?; // into the old store, which is about to go
        }
        self.volume.replace_file(super::STATE_POINTER, staged.name.clone().into_bytes()).await?;
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
        Ok(())
    }
}

/// The result of what is under way; never, if nothing is.
async fn completion<T>(work: &mut Option<(T, Completion)>) -> Result<(), StorageError> {
    match work {
        Some((_, future)) => future.await,
        None => std::future::pending().await,
    }
}

/// Opens the stores of a replica and applies the open-time rule: the state decides what the log may start with.
pub(super) async fn open(
    volume: &dyn Volume,
    config: crate::raft::Config,
    members: &crate::raft::Membership,
) -> Result<Opened, ReplicaError> {
    let pointer = volume.read_file(super::STATE_POINTER).await?;
    let name = match pointer {
        None => snapshots::state_store_name(0),
        Some(bytes) => String::from_utf8(bytes)
            .map_err(|_| ReplicaError::Inconsistent("the state pointer is not text".to_owned()))?,
    };
    let state_number = snapshots::state_store_number(&name)
        .ok_or_else(|| ReplicaError::Inconsistent(format!("the state pointer names {name:?}")))?;
    for stray in volume.list().await? {
        if snapshots::state_store_number(&stray).is_some_and(|number| number != state_number) {
            volume.remove(&stray).await?; // a snapshot that was never finished, or the state before the last one
        }
    }
    let state_store: Arc<dyn Store> = volume.open(&name).await?;
    let state = State::open(state_store, members, config.mutants)?;
    let (mut log_store, hard, mut log) = LogStore::open(volume.open(super::LOG_STORE).await?, members)?;

    let applied = state.now().base.clone();
    let position = applied.position;
    if log.first_index() > position.index.next() {
        return Err(ReplicaError::Inconsistent(format!(
            "the log starts at {} but the state ends at {}: the entries between are missing; \
             this data directory cannot be used any more",
            log.first_index(),
            position.index
        )));
    }
    let behind = position.index > log.last().index;
    if behind || log.term_at(position.index).is_some_and(|term| term != position.term) {
        let hard = crate::raft::HardState {
            term: hard.term.max(position.term),
            vote: hard.vote.filter(|_| hard.term >= position.term),
        };
        log = log_store.reset(hard, applied).await?;
        let mut armed = Vec::new();
        let raft = Raft::new(config, hard, log, position.index, &mut armed);
        return Ok(Opened { raft, armed, log_store, state, state_number });
    }
    let mut armed = Vec::new();
    let raft = Raft::new(config, hard, log, position.index, &mut armed);
    Ok(Opened { raft, armed, log_store, state, state_number })
}
