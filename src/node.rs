//! One node of a Raft group with any machine that clients can reach: its replica and its gRPC server, in either
//! world.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use prost::Message as _;
use tokio::sync::oneshot;

use crate::kv::LimitError;
use crate::observe::Observer;
use crate::proto::admin::admin_server::AdminServer;
use crate::proto::kv::kv_server::KvServer;
use crate::proto::raft as pb;
use crate::proto::raft::raft_server::RaftServer;
use crate::raft;
use crate::replica::{FORMAT_VERSION, Handle, Identity, Options, Replica, ReplicaError, Setup, Surroundings};
use crate::service::{ClientService, Served};
use crate::storage::{BoxFuture, StorageError, Volume};
use crate::types::NodeId;

/// The small file that says whose data directory it is.
const IDENTITY_FILE: &str = "identity";

/// gRPC messages are at most this large, in both directions; larger ones are cut into frames.
pub const GRPC_MESSAGE_BYTES_MAX: usize = 4 << 20;

/// What a node needs to know.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// Who it is, with whom, and where.
    pub identity: Identity,
    /// The core's bounds, and its mutant if it has one.
    pub raft: raft::Config,
    /// The shell's timings and bounds.
    pub replica: Options,
}

impl NodeOptions {
    /// The defaults for the node that `identity` names.
    pub fn new(identity: Identity) -> Self {
        let raft = raft::Config::new(identity.id);
        Self { identity, raft, replica: Options::default() }
    }
}

/// Why a node did not start or did not go on.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NodeError {
    /// The options make no sense.
    #[error("{0}")]
    Options(String),
    /// The machine's limits make no sense.
    #[error("{0}")]
    Limits(#[from] LimitError),
    /// The data directory belongs to another node.
    #[error("{0}")]
    Identity(String),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The operating system's words.
        reason: String,
    },
    /// The replica failed.
    #[error("{0}")]
    Replica(#[from] ReplicaError),
}

impl From<StorageError> for NodeError {
    fn from(error: StorageError) -> Self {
        NodeError::Replica(error.into())
    }
}

/// Runs a node with `machine`, which must be the same on all nodes of its group, until `shutdown` resolves or
/// something fails. `ready` gets the replica's handle once it listens; whoever keeps it can propose and read without
/// the network.
pub async fn serve<M: Served>(
    machine: M,
    options: NodeOptions,
    volume: Arc<dyn Volume>,
    surroundings: Surroundings,
    observer: Arc<dyn Observer>,
    ready: Option<oneshot::Sender<Handle<M>>>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), NodeError> {
    let node = Node { machine, options, volume, surroundings, observer, ready };
    serve_with(node, |_| None, shutdown).await
}

/// What a node is made of.
pub(crate) struct Node<M: Served> {
    pub machine: M,
    pub options: NodeOptions,
    pub volume: Arc<dyn Volume>,
    pub surroundings: Surroundings,
    pub observer: Arc<dyn Observer>,
    pub ready: Option<oneshot::Sender<Handle<M>>>,
}

/// As [`serve`], with work that is done beside the replica for as long as it runs.
pub(crate) async fn serve_with<M: Served>(
    node: Node<M>,
    beside: impl FnOnce(Handle<M>) -> Option<BoxFuture<()>> + Send,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), NodeError> {
    let Node { machine, options, volume, surroundings, observer, ready } = node;
    let NodeOptions { identity, raft, replica: replica_options } = options;
    replica_options.check().map_err(NodeError::Options)?;
    let address = *identity.nodes.get(&identity.id).ok_or_else(|| {
        NodeError::Options(format!("{} is not one of the {} nodes", identity.id, identity.nodes.len()))
    })?;
    let listener = listen(address).await?;
    check_identity(&*volume, &identity).await?;

    let replica = Replica::open(Setup {
        machine: machine.clone(),
        config: raft,
        identity: identity.clone(),
        options: replica_options,
        surroundings: surroundings.clone(),
        observer,
        volume,
    })
    .await?;
    let handle = replica.handle();
    let (stop, stopped) = oneshot::channel::<()>();
    let raft_server = RaftServer::new(handle.raft_service())
        .max_decoding_message_size(GRPC_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(GRPC_MESSAGE_BYTES_MAX);
    let service = ClientService::new(machine, handle.clone(), identity, surroundings);
    let kv_server = KvServer::new(service.clone())
        .max_decoding_message_size(GRPC_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(GRPC_MESSAGE_BYTES_MAX);
    let router = tonic::transport::Server::builder()
        .add_service(raft_server)
        .add_service(kv_server)
        .add_service(AdminServer::new(service));
    let server = tokio::spawn(serve_router(router, listener, address, async move {
        let _ = stopped.await;
    }));
    let work = beside(handle.clone()).map(tokio::spawn);
    if let Some(ready) = ready {
        let _ = ready.send(handle);
    }
    let result = replica.run(shutdown).await;
    // The replica has stopped; connections end with it, so the server need not wait for its clients.
    let _ = stop.send(());
    if let Some(work) = work {
        work.abort();
    }
    server.abort();
    Ok(result?)
}

/// A new data directory gets this node's identity; an old one must have it.
async fn check_identity(volume: &dyn Volume, identity: &Identity) -> Result<(), NodeError> {
    let own = pb::Identity {
        format_version: FORMAT_VERSION,
        cluster_id: identity.cluster_id.clone(),
        node_id: identity.id.0,
        service: identity.service.to_string(),
    };
    let Some(bytes) = volume.read_file(IDENTITY_FILE).await? else {
        if let Some(store) = volume.list().await?.first() {
            let reason =
                format!("there is a store {store:?} but no file {IDENTITY_FILE:?} that says whose it is");
            return Err(ReplicaError::Inconsistent(reason).into());
        }
        return Ok(volume.replace_file(IDENTITY_FILE, own.encode_to_vec()).await?);
    };
    let found = pb::Identity::decode(&bytes[..]).map_err(|error| {
        ReplicaError::Inconsistent(format!("the file {IDENTITY_FILE:?} is damaged: {error}"))
    })?;
    let differs = |what: &str, found: &dyn std::fmt::Display, own: &dyn std::fmt::Display| {
        Err(NodeError::Identity(format!("it is of {what} {found}, but this is {what} {own}")))
    };
    let quoted = |name: &str| format!("{name:?}");
    if found.format_version != own.format_version {
        differs("format", &found.format_version, &own.format_version)
    } else if found.cluster_id != own.cluster_id {
        differs("cluster", &quoted(&found.cluster_id), &quoted(&own.cluster_id))
    } else if found.service != own.service {
        differs("service", &quoted(&found.service), &quoted(&own.service))
    } else if found.node_id != own.node_id {
        differs("node", &NodeId(found.node_id), &identity.id)
    } else {
        Ok(())
    }
}

#[cfg(not(madsim))]
type Listener = tokio::net::TcpListener;
/// The simulator's server binds by itself.
#[cfg(madsim)]
struct Listener;

#[cfg(not(madsim))]
async fn listen(address: SocketAddr) -> Result<Listener, NodeError> {
    Listener::bind(address).await.map_err(|error| NodeError::Listen { address, reason: error.to_string() })
}

#[cfg(madsim)]
async fn listen(_: SocketAddr) -> Result<Listener, NodeError> {
    Ok(Listener)
}

#[cfg(not(madsim))]
async fn serve_router(
    router: tonic::transport::server::Router,
    listener: Listener,
    _: SocketAddr,
    stopped: impl Future<Output = ()> + Send,
) {
    let incoming = tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
    if let Err(error) = router.serve_with_incoming_shutdown(incoming, stopped).await {
        tracing::error!(%error, "the server stopped");
    }
}

#[cfg(madsim)]
async fn serve_router(
    router: tonic::transport::server::Router,
    Listener: Listener,
    address: SocketAddr,
    stopped: impl Future<Output = ()> + Send,
) {
    if let Err(error) = router.serve_with_shutdown(address, stopped).await {
        tracing::error!(%error, "the server stopped");
    }
}
