//! The flags that every client command has, and the client that they make.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::failure::{Code, Failure};
use super::values::{Cluster, duration};
use crate::client::{Client, ClientOptions};
use crate::history::Recorder;
use crate::server;

/// How to reach the cluster.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ClientArgs {
    /// The nodes' addresses in the order of their ids, as HOST:PORT,HOST:PORT,…
    #[arg(long, value_name = "A,B,C")]
    pub cluster: Cluster,
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

impl ClientArgs {
    pub(super) fn options(&self) -> Result<ClientOptions, Failure> {
        let mut options = ClientOptions::new(self.cluster.resolve()?);
        options.cluster_id = self.cluster_id.clone().unwrap_or_default();
        options.deadline_ms = u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX).max(1);
        options.attempt_ms = options.attempt_ms.min(options.deadline_ms);
        Ok(options)
    }

    /// A client; it connects when it is used. Needs a runtime.
    pub(super) fn client(&self, recorder: Option<Arc<Recorder>>) -> Result<Client, Failure> {
        Ok(Client::new(self.options()?, surroundings()?, recorder))
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
