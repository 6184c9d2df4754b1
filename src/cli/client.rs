//! The flags that every client command has, and the client that they make.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::failure::{Code, Failure};
use super::target::Target;
use super::values::{Cluster, duration};
use crate::client::{Client, ClientOptions};
use crate::history::Recorder;
use crate::server;
use crate::types::NodeId;

/// How to reach the cluster.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ClientArgs {
    #[command(flatten)]
    pub target: Target,
    #[command(flatten)]
    pub reach: Reach,
}

/// How to reach the controllers.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct CtrlersArgs {
    /// The controllers' addresses in the order of their ids, as HOST:PORT,HOST:PORT,…
    #[arg(long, value_name = "A,B,C")]
    pub ctrlers: Cluster,
    #[command(flatten)]
    pub reach: Reach,
}

/// How to reach one group by its own nodes.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct GroupArgs {
    /// The addresses of the group's nodes in the order of their ids, as HOST:PORT,HOST:PORT,…
    #[arg(long, value_name = "A,B,C")]
    pub cluster: Cluster,
    #[command(flatten)]
    pub reach: Reach,
}

/// What holds of everybody who is asked.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Reach {
    /// Talk only to nodes of the cluster with this name.
    #[arg(long, value_name = "NAME")]
    pub cluster_id: Option<String>,
    /// Give up after this long.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub timeout: Duration,
}

/// Where to record what was asked and answered.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct HistoryArgs {
    /// Record the operations into this file (it is replaced), as JSON Lines for eraft-check.
    #[arg(long, value_name = "PATH")]
    pub history: Option<PathBuf>,
}

impl Reach {
    pub(super) fn options(&self, nodes: BTreeMap<NodeId, SocketAddr>) -> ClientOptions {
        let mut options = ClientOptions::new(nodes);
        options.cluster_id = self.cluster_id.clone().unwrap_or_default();
        options.deadline_ms = u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX).max(1);
        options.attempt_ms = options.attempt_ms.min(options.deadline_ms);
        options
    }
}

impl ClientArgs {
    /// A client; it connects when it is used. Needs a runtime.
    pub(super) fn client(&self, recorder: Option<Arc<Recorder>>) -> Result<Client, Failure> {
        Ok(match &self.target {
            Target::Ctrlers(ctrlers) => {
                let options = self.reach.options(ctrlers.resolve_flag("--ctrlers")?);
                Client::sharded(options, surroundings()?, recorder)
            }
            Target::Group(cluster) => {
                let options = self.reach.options(cluster.resolve()?);
                Client::new(options, surroundings()?, recorder)
            }
        })
    }
}

impl CtrlersArgs {
    /// A client of the controllers; it connects when it is used. Needs a runtime.
    pub(super) fn client(&self) -> Result<Client, Failure> {
        let nodes = self.ctrlers.resolve_flag("--ctrlers")?;
        Ok(Client::new(self.reach.options(nodes), surroundings()?, None))
    }
}

pub(super) fn surroundings() -> Result<crate::replica::Surroundings, Failure> {
    server::surroundings("client")
        .map_err(|error| Failure::new(Code::Internal, format!("no randomness from the system: {error}")))
}

impl HistoryArgs {
    pub(super) fn recorder(&self) -> Result<Option<Arc<Recorder>>, Failure> {
        let Some(path) = &self.history else { return Ok(None) };
        let file = File::create(path)
            .map_err(|error| Failure::from_io(format_args!("--history {}", path.display()), &error))?;
        Ok(Some(Arc::new(Recorder::to(file))))
    }

    /// Writes the rest of the history; an incomplete one is a failure, because it would be judged wrongly.
    pub(super) fn finish(&self, recorder: Option<&Recorder>) -> Result<(), Failure> {
        let (Some(path), Some(recorder)) = (&self.history, recorder) else { return Ok(()) };
        recorder
            .flush()
            .map_err(|error| Failure::new(Code::Unhealthy, format!("--history {}: {error}", path.display())))
    }
}
