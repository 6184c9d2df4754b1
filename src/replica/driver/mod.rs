//! The loop that runs a core: one task per replica, the only one that touches it.
//!
//! - Events are drained in bounded batches, stepped, and all their writes go to the log store as one synced batch
//!   while the next events are stepped (group commit). Sends leave when the write that they name is durable.
//! - Timers fire after the events of the same moment, so that a heartbeat that arrived re-arms the election timer
//!   before it is looked at.
//! - A failed write ends the replica: nothing is acknowledged any more, and the error is its last word.
//! - Whoever waits is answered: with a result, with a refusal if it was certainly not executed, else with unknown.

mod apply;
mod effects;
mod events;
mod install;
mod open;

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, oneshot};

use super::Setup;
use super::leadership::Leadership;
use super::log_store::LogStore;
use super::options::{Options, ms};
use super::pointer::{StatePointer, Trust};
use super::snapshots::{SendError, Snapshot, Staged, Travelled};
use super::state::{State, Summary};
use super::timers::{Moment, Wheel};
use super::transport::{Identity, Surroundings, Transport};
use crate::machine::StateMachine;
use crate::mutants::MutantId;
use crate::observe::{Event as Observed, Observer};
use crate::proto::admin::Status;
use crate::raft::{Effect, Entry, Message, Persist, Position, Raft, Refusal, RequestId, Timer, WriteId};
use crate::random::Site;
use crate::storage::{BoxFuture, StorageError, Volume};
use crate::types::{Index, NodeId, Term};
use crate::view::ViewError;

pub(super) use open::open;

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
    /// Leadership is on its way to this node.
    Transferring(NodeId),
    /// The request's time was up before it was taken.
    Deadline,
    /// The node has stopped acknowledging.
    Unhealthy,
}

impl From<Refusal> for Denial {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotLeader(leader) => Denial::NotLeader(leader),
            Refusal::Transferring(to) => Denial::Transferring(to),
            // Only a transfer asks for a voter, and its refusals go another way.
            Refusal::Overloaded | Refusal::NotVoter => Denial::Overloaded,
        }
    }
}

/// Why leadership did not go where it was to go. But for `Stopped`, nothing of the transfer is under way any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// Ask the leader, if one is known.
    #[error("this node does not lead")]
    NotLeader(Option<NodeId>),
    /// Leadership is already on its way.
    #[error("leadership is already on its way to {0}")]
    UnderWay(NodeId),
    /// The member has no vote.
    #[error("it is no voting member of the group")]
    NotVoter,
    /// Too much is waiting.
    #[error("too much is waiting")]
    Overloaded,
    /// The member did not take over within an election timeout, and this node leads on.
    #[error("it did not take over within an election timeout; the leader is still the same")]
    GivenUp,
    /// This node stopped while it waited.
    #[error("the node stopped")]
    Stopped,
}

impl From<Refusal> for TransferError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotLeader(leader) => TransferError::NotLeader(leader),
            Refusal::Overloaded => TransferError::Overloaded,
            Refusal::Transferring(to) => TransferError::UnderWay(to),
            Refusal::NotVoter => TransferError::NotVoter,
        }
    }
}

/// What the driver is told.
pub(super) enum Event<M: StateMachine> {
    /// A peer opened its stream to us.
    PeerOpened {
        from: NodeId,
    },
    Messages {
        from: NodeId,
        messages: Vec<Message>,
    },
    Propose {
        command: Bytes,
        deadline: Moment,
        reply: Answer<M::Reply>,
    },
    Query {
        query: M::Query,
        stale: bool,
        deadline: Moment,
        reply: Answer<M::Answer>,
    },
    Status {
        reply: oneshot::Sender<Status>,
    },
    Transfer {
        to: NodeId,
        reply: Transferred,
    },
    SnapshotOffered {
        from: NodeId,
        term: Term,
        position: Position,
        decision: Offer,
    },
    SnapshotReceived {
        from: NodeId,
        staged: Result<Staged, String>,
        installed: oneshot::Sender<Result<(), String>>,
    },
    /// A stream that carried our state at `index` has ended; `Ok(true)`: it is installed there.
    SnapshotSent {
        to: NodeId,
        index: Index,
        result: Result<bool, SendError>,
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
    /// Nobody asked for the held snapshot again.
    ReleaseSnapshot,
    /// Nobody offered again what was received in part.
    DropLeftover,
}

type Answer<T> = oneshot::Sender<Decision<T>>;
/// Who leads after a transfer, or why it was none.
type Transferred = oneshot::Sender<Result<NodeId, TransferError>>;
/// A read with its question.
type Read<M> = (<M as StateMachine>::Query, Answer<<M as StateMachine>::Answer>);
/// Asks whether a snapshot is wanted; the answer is the name of the store to write, or why not.
type Offer = oneshot::Sender<Result<String, String>>;

type Completion = Pin<Box<dyn Future<Output = Result<(), StorageError>> + Send>>;

/// Everything that a driver starts from; `open` makes it.
pub(super) struct Opened {
    pub raft: Raft,
    pub armed: Vec<Effect>,
    pub log_store: LogStore,
    pub state: State,
    pub state_number: u64,
    /// There is a part of a snapshot beside the state.
    pub has_leftover: bool,
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
    /// Wakes those who wait for entries to be applied.
    applied: Arc<Notify>,
    leadership: Arc<Leadership>,

    next_request: u64,
    /// Proposals handed to the core in this step, until it says where they went.
    proposing: BTreeMap<RequestId, Answer<M::Reply>>,
    /// Proposals in the log, by index.
    proposed: BTreeMap<Index, (Term, Answer<M::Reply>)>,
    /// Reads that the core is confirming.
    confirming: BTreeMap<RequestId, Read<M>>,
    /// Confirmed reads that wait for the state to get there.
    reads: BTreeMap<(Index, RequestId), Read<M>>,
    /// Transfers of leadership that the core was asked for.
    transferring: BTreeMap<RequestId, Transferred>,
    /// Those of them that are over, until it is known who leads.
    transferred: Vec<Transferred>,

    /// A snapshot that the core is being asked about.
    offer: Option<Offer>,
    /// A snapshot is being received.
    receiving: bool,
    staged: Option<Staged>,
    /// Snapshots on their way out, with the index from which their receivers will need the log.
    sending: BTreeMap<NodeId, Index>,
    /// What is being sent, or was when its stream failed: the next receiver is offered the same.
    held: Option<Arc<Snapshot>>,
    travelled: Arc<Travelled>,
    failure: Option<ReplicaError>,
}

impl<M: StateMachine> Driver<M> {
    pub(super) fn new(
        setup: Setup<M>,
        inbox: mpsc::Receiver<Event<M>>,
        events: mpsc::WeakSender<Event<M>>,
        travelled: Arc<Travelled>,
        opened: Opened,
    ) -> Self {
        // The core has taken its configuration over when it was opened.
        let Setup { machine, config: _, identity, options, surroundings, observer, volume } = setup;
        let transport = Transport::start(&identity, &options, &surroundings);
        let election_draws = surroundings.draws.site("election", identity.id.0);
        let mut wheel = Wheel::default();
        if opened.has_leftover {
            wheel.arm(Alarm::DropLeftover, surroundings.clock.now().after(ms(options.snapshot_hold_ms)));
        }
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
            wheel,
            election_draws,
            persists: Vec::new(),
            writing: None,
            written: WriteId(0),
            waiting_sends: VecDeque::new(),
            flushing: None,
            unapplied: VecDeque::new(),
            applied: Arc::default(),
            leadership: Arc::default(),
            next_request: 0,
            proposing: BTreeMap::new(),
            proposed: BTreeMap::new(),
            confirming: BTreeMap::new(),
            reads: BTreeMap::new(),
            transferring: BTreeMap::new(),
            transferred: Vec::new(),
            offer: None,
            receiving: false,
            staged: None,
            sending: BTreeMap::new(),
            held: None,
            travelled,
            failure: None,
        }
    }

    /// Notified whenever entries were applied.
    pub(super) fn applied(&self) -> Arc<Notify> {
        self.applied.clone()
    }

    /// Says whether this replica leads.
    pub(super) fn leadership(&self) -> Arc<Leadership> {
        self.leadership.clone()
    }

    /// Runs until `shutdown` resolves, every handle is dropped, or something fails.
    pub(super) async fn run(mut self, shutdown: impl Future<Output = ()>) -> Result<(), ReplicaError> {
        let result = self.run_until(shutdown).await;
        if let Err(ReplicaError::View(_)) = &result {
            let suspect = StatePointer { number: self.state_number, trust: Trust::Suspect };
            if let Err(error) = suspect.write(&*self.volume).await {
                tracing::warn!(%error, "the state store is not marked as suspect");
            }
        }
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
                () = &mut shutdown => return self.stop().await,
                result = completion(&mut self.writing) => {
                    let id = self.writing.take().expect("it completed").0;
                    self.or_planted(result)?;
                    self.persisted(id);
                    None
                }
                result = completion(&mut self.flushing) => {
                    let summary = self.flushing.take().expect("it completed").0;
                    self.or_planted(result).map_err(state_error)?;
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

    /// The result of a write, as the planted bugs see it.
    fn or_planted(&self, result: Result<(), StorageError>) -> Result<(), StorageError> {
        let mutants = self.raft.config().mutants;
        match result {
            Err(StorageError::Full { .. }) if mutants.is(MutantId::DiskFullIsSuccess) => Ok(()),
            Err(_) if mutants.is(MutantId::AsyncPersistErrorIgnored) => Ok(()),
            result => result,
        }
    }

    /// Completes what is being written and flushes the state, so that the next start has nothing to apply again.
    /// Nothing that arrives meanwhile is taken.
    async fn stop(&mut self) -> Result<(), ReplicaError> {
        if self.writing.is_some() {
            completion(&mut self.writing).await?;
        }
        if let Some((summary, flush)) = self.flushing.take() {
            flush.await?;
            self.state.flushed(summary);
        }
        if self.state.needs_flush() {
            let (summary, flush) = self.state.flush();
            flush.await?;
            self.state.flushed(summary);
        }
        Ok(())
    }
}

/// A state store that says it is damaged is as bad as one that cannot be read.
fn state_error(error: StorageError) -> ReplicaError {
    match error {
        StorageError::Corrupt { .. } => ViewError(error.to_string()).into(),
        other => other.into(),
    }
}

/// The result of what is under way; never, if nothing is.
async fn completion<T>(work: &mut Option<(T, Completion)>) -> Result<(), StorageError> {
    match work {
        Some((_, future)) => future.await,
        None => std::future::pending().await,
    }
}

#[cfg(all(test, not(madsim)))]
mod tests;
