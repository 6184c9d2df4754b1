//! `serve`: one node of a cluster.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::oneshot;

use super::failure::{Code, Failure, from_node};
use super::output::Output;
use super::values::{Cluster, byte_count, group_id, positive_ms, range_ms};
use crate::ctrler::CtrlerMachine;
use crate::kv::{KvLimits, KvMachine};
use crate::mutants::Mutants;
use crate::node::{NodeError, NodeOptions, serve};
use crate::observe::Observer;
use crate::replica::{Handle, Identity, Options, Service, Surroundings};
use crate::server::logging::LogObserver;
use crate::server::shutdown::Signals;
use crate::server::surroundings;
use crate::service::Served;
use crate::shardkv::{self, GroupOptions, MigrationOptions, ShardMachine};
use crate::storage::leveldb::LevelDbVolume;
use crate::storage::{BoxFuture, Volume};
use crate::types::{GroupId, NodeId};

/// The name of a cluster that nobody named.
pub(super) const DEFAULT_CLUSTER_ID: &str = "eraft";

/// Where data goes if nobody says so.
pub(super) const DEFAULT_DB: &str = "eraft-data";

#[derive(Clone, Debug, clap::Subcommand)]
pub(super) enum Serve {
    /// A node of a cluster with one Raft group that keeps all keys.
    #[command(after_help = "Examples:
  eraft serve kv --id 1 --cluster 10.0.0.1:5001,10.0.0.2:5001,10.0.0.3:5001 --db /var/lib/eraft
  eraft serve kv --id 1 --cluster 127.0.0.1:5001

When it is ready it prints one line to standard output: n1 listens on 127.0.0.1:5001 …
SIGTERM and SIGINT stop it in order (exit code 0), a second one ends it at once.
Exit codes: 2 the flags make no sense or do not fit the data directory, 3 the address is in use,
5 the data directory is damaged or cannot be written, 70 a bug.")]
    Kv(ServeKv),
    /// A controller: one of the nodes that say which group keeps which shard.
    #[command(after_help = "Examples:
  eraft serve ctrler --id 1 --cluster 10.0.0.1:5001,10.0.0.2:5001,10.0.0.3:5001 --db /var/lib/eraft

When it is ready it prints one line to standard output: n1 listens on 10.0.0.1:5001 …
SIGTERM and SIGINT stop it in order (exit code 0), a second one ends it at once.
Exit codes: as of eraft serve kv.")]
    Ctrler(ServeCtrler),
    /// A node of a group that keeps some of the shards.
    #[command(after_help = "Examples:
  eraft serve shard --id 1 --gid 100 --cluster 10.0.0.4:6001,10.0.0.5:6001,10.0.0.6:6001 \\
    --ctrlers 10.0.0.1:5001,10.0.0.2:5001,10.0.0.3:5001 --db /var/lib/eraft

A group keeps no shard until it has joined (eraft join).
When it is ready it prints one line to standard output: n1 listens on 10.0.0.4:6001 …
SIGTERM and SIGINT stop it in order (exit code 0), a second one ends it at once.
Exit codes: as of eraft serve kv.")]
    Shard(ServeShard),
}

#[derive(Clone, Debug, clap::Args)]
pub(super) struct ServeKv {
    #[command(flatten)]
    node: NodeArgs,
    #[command(flatten)]
    limits: LimitArgs,
}

#[derive(Clone, Debug, clap::Args)]
pub(super) struct ServeShard {
    /// The group's number, 1 or more; the same on all its nodes.
    #[arg(long, value_name = "G", value_parser = group_id)]
    gid: GroupId,
    /// The addresses of the controllers, in the order of their ids.
    #[arg(long, value_name = "X,Y,Z")]
    ctrlers: Cluster,
    #[command(flatten)]
    node: NodeArgs,
    #[command(flatten)]
    limits: LimitArgs,
    /// Bytes per second that the group takes over from others, of all shards together [default: 64MiB].
    #[arg(long, value_name = "BYTES", value_parser = byte_count)]
    pull_bytes_per_second_max: Option<usize>,
}

/// What clients may do.
#[derive(Clone, Debug, clap::Args)]
struct LimitArgs {
    /// Larger values are refused; what the leader is given counts for all [default: 1MiB, at most 8MiB].
    #[arg(long, value_name = "BYTES", value_parser = byte_count)]
    value_bytes_max: Option<usize>,
}

impl LimitArgs {
    fn limits(&self) -> KvLimits {
        let mut limits = KvLimits::default();
        limits.value_bytes_max = self.value_bytes_max.unwrap_or(limits.value_bytes_max);
        limits
    }
}

#[derive(Clone, Debug, clap::Args)]
pub(super) struct ServeCtrler {
    #[command(flatten)]
    node: NodeArgs,
}

/// What every node is told.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct NodeArgs {
    /// Which of the addresses in --cluster this node is, counted from 1.
    #[arg(long, value_name = "N")]
    id: u64,
    /// The addresses of all nodes as HOST:PORT,HOST:PORT,…; the same list on all of them.
    #[arg(long, value_name = "A,B,C")]
    cluster: Cluster,
    /// The name of the cluster; nodes and data directories of another one are refused.
    #[arg(long, value_name = "NAME", default_value = DEFAULT_CLUSTER_ID)]
    cluster_id: String,
    /// Data goes to DIR/n<ID> (of a controller: DIR/ctrler/n<ID>, of a group: DIR/g<GID>/n<ID>), so nodes may share
    /// DIR.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DB)]
    db: PathBuf,
    #[command(flatten)]
    tuning: Tuning,
}

/// Timings and bounds. The defaults are the library's.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Tuning {
    /// A leader sends a heartbeat this often [default: 50ms].
    #[arg(long, value_name = "TIME", value_parser = positive_ms)]
    heartbeat: Option<u64>,
    /// A follower that hears of no leader for a time drawn from this range stands for election [default:
    /// 300ms..600ms].
    #[arg(long, value_name = "LOW..HIGH", value_parser = range_ms)]
    election_timeout: Option<(u64, u64)>,
    /// Applied entries are written to the state store at the latest after this long [default: 200ms].
    #[arg(long, value_name = "TIME", value_parser = positive_ms)]
    apply_flush: Option<u64>,
    /// The log is compacted above this size [default: 64MiB].
    #[arg(long, value_name = "BYTES", value_parser = byte_count)]
    log_bytes_max: Option<usize>,
}

impl Tuning {
    fn apply(&self, options: &mut NodeOptions) {
        let Options { heartbeat_ms, election_timeout_ms, apply_flush_ms, log_bytes_max, .. } =
            &mut options.replica;
        *heartbeat_ms = self.heartbeat.unwrap_or(*heartbeat_ms);
        *election_timeout_ms = self.election_timeout.unwrap_or(*election_timeout_ms);
        *apply_flush_ms = self.apply_flush.unwrap_or(*apply_flush_ms);
        *log_bytes_max = self.log_bytes_max.unwrap_or(*log_bytes_max);
    }
}

impl ServeKv {
    pub(super) async fn run(self, output: Output) -> Result<(), Failure> {
        let machine = KvMachine::new(self.limits.limits(), Mutants::default());
        let machine = machine.map_err(|error| Failure::usage(error.to_string()))?;
        self.node.run(Service::Kv, output, |start| serve_machine(machine, start)).await
    }
}

impl ServeShard {
    pub(super) async fn run(self, output: Output) -> Result<(), Failure> {
        let ctrlers = self.ctrlers.resolve_flag("--ctrlers")?;
        let limits = self.limits.limits();
        limits.validate().map_err(|error| Failure::usage(error.to_string()))?;
        let mut migration = MigrationOptions::default();
        if let Some(bytes) = self.pull_bytes_per_second_max {
            migration.pull_bytes_per_second_max = bytes as u64;
        }
        migration.check().map_err(Failure::usage)?;
        let serve_group = |start: Start<ShardMachine>| {
            let Start { options: node, volume, around, observer, ready, shutdown } = start;
            let options = GroupOptions { node, limits, ctrlers, migration };
            shardkv::serve(options, volume, around, observer, Some(ready), shutdown)
        };
        self.node.run(Service::Shard(self.gid), output, serve_group).await
    }
}

impl ServeCtrler {
    pub(super) async fn run(self, output: Output) -> Result<(), Failure> {
        self.node.run(Service::Ctrler, output, |start| serve_machine(CtrlerMachine::default(), start)).await
    }
}

/// Where the nodes of a group have their data directories, below `db`.
pub(super) fn group_directory(db: &Path, group: GroupId) -> PathBuf {
    db.join(format!("g{group}"))
}

/// The data directory of a node below `db`.
pub(super) fn node_directory(db: &Path, service: Service, id: NodeId) -> PathBuf {
    match service {
        Service::Kv => db.join(id.to_string()),
        Service::Ctrler => db.join("ctrler").join(id.to_string()),
        Service::Shard(group) => group_directory(db, group).join(id.to_string()),
    }
}

/// What a node is started with, whatever its service.
struct Start<M: Served> {
    options: NodeOptions,
    volume: Arc<dyn Volume>,
    around: Surroundings,
    observer: Arc<dyn Observer>,
    ready: oneshot::Sender<Handle<M>>,
    shutdown: BoxFuture<()>,
}

/// A node that has nothing to do beside serving.
async fn serve_machine<M: Served>(machine: M, start: Start<M>) -> Result<(), NodeError> {
    let Start { options, volume, around, observer, ready, shutdown } = start;
    serve(machine, options, volume, around, observer, Some(ready), shutdown).await
}

impl NodeArgs {
    async fn run<M, N>(
        self,
        service: Service,
        output: Output,
        serve: impl FnOnce(Start<M>) -> N,
    ) -> Result<(), Failure>
    where
        M: Served,
        N: Future<Output = Result<(), NodeError>> + Send + 'static,
    {
        let nodes = self.cluster.resolve()?;
        let id = NodeId(self.id);
        let Some(address) = nodes.get(&id).copied() else {
            let message = format!("--id {}: --cluster has nodes 1 to {}", self.id, nodes.len());
            return Err(Failure::usage(message));
        };
        let cluster_id = self.cluster_id.clone();
        let mut options =
            NodeOptions::new(Identity { cluster_id: cluster_id.clone(), service, id, nodes: nodes.clone() });
        self.tuning.apply(&mut options);
        let internal =
            |what: &str, error: std::io::Error| Failure::new(Code::Internal, format!("{what}: {error}"));
        let signals = Signals::catch().map_err(|error| internal("catching signals", error))?;
        let around = surroundings("node").map_err(|error| internal("randomness from the system", error))?;
        let directory = node_directory(&self.db, service, id);
        let volume = LevelDbVolume::open(&directory)
            .map_err(|error| from_node(&NodeError::from(error), &directory))?;

        let (ready, is_ready) = oneshot::channel();
        let line = format!(
            "{id} listens on {address} (cluster {cluster_id:?}, {} nodes, data in {})",
            nodes.len(),
            directory.display()
        );
        tokio::spawn(async move {
            if is_ready.await.is_ok() {
                // If nobody reads it, nobody waits for it.
                let _ = output.line(&line);
            }
        });
        let shutdown = async move {
            let signal = signals.first().await;
            tracing::info!(target: "eraft::node", node = %id, signal, "stopping");
        };
        // In a task: the main thread would be woken through the kernel for every event of the driver.
        let node = serve(Start {
            options,
            volume: Arc::new(volume),
            around,
            observer: Arc::new(LogObserver::default()),
            ready,
            shutdown: Box::pin(shutdown),
        });
        let ended = tokio::spawn(node).await;
        let ended = ended.map_err(|error| Failure::new(Code::Internal, error.to_string()))?;
        ended.map_err(|error| from_node(&error, &directory))
    }
}
