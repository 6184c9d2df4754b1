//! Logs on standard error, as text or as JSON Lines, and the lines that a node writes about itself.

use std::io::IsTerminal as _;
use std::sync::{Mutex, PoisonError};

use tracing_subscriber::EnvFilter;

use crate::observe::{Event, Observer};
use crate::types::NodeId;

/// Where a node's lines about itself come from, for filters such as `warn,eraft::node=info`.
const TARGET: &str = "eraft::node";

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    #[default]
    #[allow(missing_docs, reason = "the command line's help would show it for every command")]
    Text,
    #[allow(missing_docs, reason = "as above")]
    Json,
}

/// Colours are for terminals, and for people who did not turn them off (<https://no-color.org>).
pub fn wants_color(stream: &impl std::io::IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Starts logging. `level` is `error`, `warn`, `info`, `debug`, `trace` or `off`, or per module as in
/// `info,eraft::replica=debug`.
pub fn start(level: &str, format: LogFormat) -> Result<(), String> {
    let filter = EnvFilter::try_new(level).map_err(|error| error.to_string())?;
    let stderr = std::io::stderr();
    let ansi = stderr.is_terminal() && wants_color(&stderr);
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(ansi);
    let started = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    started.map_err(|error| error.to_string())
}

/// Logs what an operator wants to know of a node: its roles, leaders, snapshots and its end.
#[derive(Default)]
pub struct LogObserver {
    last: Mutex<Option<Standing>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Standing {
    role: &'static str,
    term: u64,
    leader: Option<NodeId>,
}

impl Observer for LogObserver {
    fn observe(&self, node: NodeId, event: &Event<'_>) {
        match event {
            Event::Opened { raft, applied, .. } => {
                let last = raft.log().last();
                let term = raft.hard().term.0;
                tracing::info!(target: TARGET, %node, term, last = last.index.0, applied = applied.index.0, "opened");
            }
            Event::Stepped { raft, .. } => {
                let leader = raft.leader();
                let now = Standing { role: raft.role().name(), term: raft.hard().term.0, leader };
                let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
                if *last != Some(now) {
                    *last = Some(now);
                    let leader = leader.map_or_else(|| "none".to_owned(), |leader| leader.to_string());
                    let Standing { role, term, .. } = now;
                    tracing::info!(target: TARGET, %node, role, term, leader, "role or leader changed");
                }
            }
            Event::SnapshotInstalled { applied, .. } => {
                tracing::info!(target: TARGET, %node, applied = applied.index.0, "a snapshot was installed");
            }
            Event::Stopped { unhealthy: Some(error) } => {
                tracing::error!(target: TARGET, %node, error, "stopped")
            }
            Event::Stopped { unhealthy: None } => tracing::info!(target: TARGET, %node, "stopped"),
            Event::Applied { .. } | Event::Flushed { .. } | Event::ReadServed { .. } => {}
        }
    }
}
