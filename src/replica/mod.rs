//! The async shell round the core: the loop, its timers, the streams to the peers, the stores.
//!
//! A [`Replica`] is one member of a Raft group with its state machine. It runs on tokio with LevelDB and inside the
//! simulator without a change: what differs comes in as a [`Volume`], a [`link::Link`], a [`timers::Clock`] and
//! [`crate::random::Draws`].

mod driver;
pub mod frames;
mod leadership;
pub mod link;
mod log_store;
mod options;
mod pointer;
mod service;
mod snapshots;
mod state;
pub mod timers;
mod transport;
pub mod wire;

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, mpsc, oneshot};

pub use driver::{Decision, Denial, ReplicaError, TransferError};
pub use leadership::Leadership;
pub use options::Options;
pub use service::RaftService;
pub use state::APPLIED_KEY;
pub use transport::{FORMAT_VERSION, Identity, Service, Surroundings};
pub(crate) use transport::{Outgoing, channel_frames, dial};

use crate::buggify::Point;
use crate::machine::StateMachine;
use crate::observe::Observer;
use crate::proto::admin::Status;
use crate::raft::{Config, Membership};
use crate::storage::{StorageError, Volume};
use crate::types::NodeId;
use driver::{Driver, Event, Opened};
use timers::Moment;

/// The store of the log.
const LOG_STORE: &str = "log";

/// Everything that a replica is opened with.
pub struct Setup<M: StateMachine> {
    /// What the entries are applied to.
    pub machine: M,
    /// The core's configuration; `config.id` and `identity.id` are the same node.
    pub config: Config,
    /// Who it is, and with whom: the group starts with all of `identity.nodes` as voters.
    pub identity: Identity,
    /// Timings and bounds.
    pub options: Options,
    /// How it reaches the world.
    pub surroundings: Surroundings,
    /// Who watches.
    pub observer: Arc<dyn Observer>,
    /// Where its data is.
    pub volume: Arc<dyn Volume>,
}

/// A replica that is open and waits to run.
pub struct Replica<M: StateMachine> {
    driver: Driver<M>,
    handle: Handle<M>,
}

impl<M: StateMachine> Replica<M> {
    /// Opens the stores in `setup.volume`, repairs what a crash may have left, and prepares to run.
    pub async fn open(setup: Setup<M>) -> Result<Self, ReplicaError> {
        let members = Membership::of(setup.identity.nodes.keys().copied());
        let opened: Opened = driver::open(&*setup.volume, setup.config.clone(), &members).await?;
        let (events, inbox) = mpsc::channel(setup.options.inbox_capacity);
        let service = Arc::new(service::Context {
            identity: setup.identity.clone(),
            options: setup.options.clone(),
            surroundings: setup.surroundings.clone(),
            volume: setup.volume.clone(),
            mutants: setup.config.mutants,
            travelled: Arc::default(),
        });
        let driver = Driver::new(setup, inbox, events.downgrade(), service.travelled.clone(), opened);
        let (applied, leadership) = (driver.applied(), driver.leadership());
        Ok(Self { driver, handle: Handle { events, service, applied, leadership } })
    }

    /// How others reach the replica. It stops when the last handle is dropped.
    pub fn handle(&self) -> Handle<M> {
        self.handle.clone()
    }

    /// Runs until `shutdown` resolves or something fails.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), ReplicaError> {
        drop(self.handle);
        self.driver.run(shutdown).await
    }
}

/// Reaches a replica from other tasks.
pub struct Handle<M: StateMachine> {
    events: mpsc::Sender<Event<M>>,
    service: Arc<service::Context>,
    applied: Arc<Notify>,
    leadership: Arc<Leadership>,
}

impl<M: StateMachine> Clone for Handle<M> {
    fn clone(&self) -> Self {
        Self {
            events: self.events.clone(),
            service: self.service.clone(),
            applied: self.applied.clone(),
            leadership: self.leadership.clone(),
        }
    }
}

impl<M: StateMachine> Handle<M> {
    /// Proposes `command`, unless `deadline` (of this node's clock) passes before it is taken.
    pub async fn propose(&self, command: Bytes, deadline: Moment) -> Decision<M::Reply> {
        if self.service.surroundings.buggify.forces(Point::FullInbox) {
            return Decision::Refused(Denial::Overloaded);
        }
        let (reply, decided) = oneshot::channel();
        match self.events.try_send(Event::Propose { command, deadline, reply }) {
            Ok(()) => decided.await.unwrap_or(Decision::Unknown(None)),
            Err(full) => Decision::Refused(denial(&full)),
        }
    }

    /// Reads, linearizably, or from whatever is applied here if `stale`.
    pub async fn query(&self, query: M::Query, stale: bool, deadline: Moment) -> Decision<M::Answer> {
        if self.service.surroundings.buggify.forces(Point::FullInbox) {
            return Decision::Refused(Denial::Overloaded);
        }
        let (reply, decided) = oneshot::channel();
        match self.events.try_send(Event::Query { query, stale, deadline, reply }) {
            Ok(()) => decided.await.unwrap_or(Decision::Refused(Denial::Unhealthy)),
            Err(full) => Decision::Refused(denial(&full)),
        }
    }

    /// Wants `to` to lead. Who leads afterwards: mostly `to`, as elections go. Dropped, it goes on all the same.
    pub async fn transfer(&self, to: NodeId) -> Result<NodeId, TransferError> {
        let (reply, transferred) = oneshot::channel();
        match self.events.try_send(Event::Transfer { to, reply }) {
            Ok(()) => transferred.await.unwrap_or(Err(TransferError::Stopped)),
            Err(mpsc::error::TrySendError::Full(_)) => Err(TransferError::Overloaded),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(TransferError::NotLeader(None)),
        }
    }

    /// Resolves when entries were applied after this was called, or rather after it was enabled.
    pub fn applied(&self) -> Notified<'_> {
        self.applied.notified()
    }

    /// Whether this replica leads.
    pub fn leadership(&self) -> &Leadership {
        &self.leadership
    }

    /// What the replica says of itself; `None` if it has stopped.
    pub async fn status(&self) -> Option<Status> {
        let (reply, status) = oneshot::channel();
        self.events.send(Event::Status { reply }).await.ok()?;
        status.await.ok()
    }

    /// The replica's timings and bounds.
    pub fn options(&self) -> &Options {
        &self.service.options
    }

    /// Bytes that the data directory uses, an estimate.
    pub async fn disk_bytes(&self) -> Result<u64, StorageError> {
        self.service.volume.bytes_used().await
    }

    /// The gRPC service for the peers.
    pub fn raft_service(&self) -> RaftService<M> {
        RaftService::new(self.clone())
    }
}

fn denial<T>(error: &mpsc::error::TrySendError<T>) -> Denial {
    match error {
        mpsc::error::TrySendError::Full(_) => Denial::Overloaded,
        mpsc::error::TrySendError::Closed(_) => Denial::Unhealthy,
    }
}
