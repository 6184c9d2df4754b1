//! One node of a group, in either world.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::ShardMachine;
use super::worker::{MigrationOptions, Worker};
use crate::kv::KvLimits;
use crate::node::{Node, NodeError, NodeOptions, serve_with};
use crate::observe::Observer;
use crate::replica::{Handle, Identity, Service, Surroundings};
use crate::storage::{BoxFuture, Volume};
use crate::types::{GroupId, NodeId};

/// What a node of a group needs to know.
#[derive(Clone, Debug)]
pub struct GroupOptions {
    /// Of any node. Its identity's service says which group it is of.
    pub node: NodeOptions,
    /// What clients may do.
    pub limits: KvLimits,
    /// The controllers, whose configs the group follows.
    pub ctrlers: BTreeMap<NodeId, SocketAddr>,
    /// How fast shards move.
    pub migration: MigrationOptions,
}

impl GroupOptions {
    /// The defaults for the node that `identity` names.
    pub fn new(identity: Identity, ctrlers: BTreeMap<NodeId, SocketAddr>) -> Self {
        let (limits, migration) = (KvLimits::default(), MigrationOptions::default());
        Self { node: NodeOptions::new(identity), limits, ctrlers, migration }
    }

    /// The group; an error if it is none.
    fn group(&self) -> Result<GroupId, NodeError> {
        match self.node.identity.service {
            Service::Shard(GroupId(0)) => Err(NodeError::Options("group 0 is nobody".to_owned())),
            Service::Shard(group) => Ok(group),
            other => Err(NodeError::Options(format!("a node of the service \"{other}\" is of no group"))),
        }
    }
}

/// Runs a node of a group until `shutdown` resolves or something fails. It serves the group's shards and, while it
/// leads, follows the controllers' configs and moves shards. `ready` gets the replica's handle once it listens.
pub async fn serve(
    options: GroupOptions,
    volume: Arc<dyn Volume>,
    surroundings: Surroundings,
    observer: Arc<dyn Observer>,
    ready: Option<oneshot::Sender<Handle<ShardMachine>>>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), NodeError> {
    let group = options.group()?;
    options.migration.check().map_err(NodeError::Options)?;
    if options.ctrlers.is_empty() {
        return Err(NodeError::Options("there are no controllers".to_owned()));
    }
    let GroupOptions { node, limits, ctrlers, migration } = options;
    let machine = ShardMachine::new(group, limits, node.raft.mutants)?;
    let (identity, around) = (node.identity.clone(), surroundings.clone());
    let node = Node { machine, options: node, volume, surroundings, observer, ready };
    let work = |handle| -> BoxFuture<()> {
        Box::pin(Worker::new(group, &identity, ctrlers, migration, around, handle).run())
    };
    serve_with(node, |handle| Some(work(handle)), shutdown).await
}
