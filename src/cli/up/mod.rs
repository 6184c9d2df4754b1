//! `up`: a whole cluster on this machine, one process a node.
//!
//! The nodes are children of this process in process groups of their own: Ctrl-C reaches only us, and we stop them
//! one after the other. If we are killed, they are told by the kernel and stop too (on Linux).

mod child;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use self::child::{Children, Ended};
use super::client::surroundings;
use super::failure::{Code, Failure};
use super::output::Output;
use super::serve::{DEFAULT_CLUSTER_ID, DEFAULT_DB};
use super::status;
use super::values::Cluster;
use crate::client::{Client, ClientOptions, Outcome};
use crate::server::shutdown::Signals;
use crate::types::NodeId;

/// How long a new cluster may take until its leader answers.
const READY_MAX: Duration = Duration::from_secs(30);

/// One question whether it is ready; the next one follows at once.
const READY_ATTEMPT: Duration = Duration::from_millis(500);

#[derive(Clone, Debug, clap::Args)]
pub(super) struct Up {
    /// How many nodes.
    #[arg(long, value_name = "N", default_value = "3", value_parser = clap::value_parser!(u16).range(1..=9))]
    replicas: u16,
    /// Where data and logs go.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DB)]
    data: PathBuf,
    /// Node n listens on port P + n - 1 of 127.0.0.1.
    #[arg(long, value_name = "P", default_value = "5001", value_parser = clap::value_parser!(u16).range(1..))]
    port_base: u16,
    /// The name of the cluster.
    #[arg(long, value_name = "NAME", default_value = DEFAULT_CLUSTER_ID)]
    cluster_id: String,
}

impl Up {
    pub(super) async fn run(self, output: Output) -> Result<(), Failure> {
        let nodes = self.addresses()?;
        let cluster = Cluster::of(nodes.values().copied());
        let mut signals = Signals::catch()
            .map_err(|error| Failure::new(Code::Internal, format!("catching signals: {error}")))?;
        let around = surroundings()?;
        let mut children = Children::start(&nodes, &cluster, &self.data, &self.cluster_id)?;

        let started = around.clock.now();
        let mut options = ClientOptions::new(nodes.clone());
        options.deadline_ms = u64::try_from(READY_ATTEMPT.as_millis()).unwrap_or(u64::MAX);
        let client = Client::new(options, around.clone(), None);
        let mut is_ready = false;
        let stopped = loop {
            tokio::select! {
                biased;
                signal = signals.next() => break Ok(signal),
                ended = children.next_end() => {
                    report(&ended);
                    if children.running() == 0 {
                        let message = format!("all nodes have ended; see {}", children.logs());
                        break Err(Failure::new(Code::Unhealthy, message));
                    }
                }
                ready = client.get("".into()), if !is_ready => {
                    let took = around.clock.now().since(started);
                    if matches!(ready, Outcome::Ok(_)) {
                        is_ready = true;
                        self.announce(&nodes, &cluster, &children, took, output).await?;
                    } else if took > READY_MAX {
                        let message = format!("no leader answers after {} s; see {}", took.as_secs(), children.logs());
                        break Err(Failure::new(Code::Unavailable, message));
                    }
                }
            }
        };
        // The next signal ends this process at once, and with it the nodes.
        signals.end_at_next();
        for ended in children.stop_in_order().await {
            report(&ended);
        }
        stopped.map(drop)
    }

    /// One address a node, all of them free.
    fn addresses(&self) -> Result<BTreeMap<NodeId, SocketAddr>, Failure> {
        let mut nodes = BTreeMap::new();
        for place in 0..self.replicas {
            let port = self.port_base.checked_add(place).ok_or_else(|| {
                Failure::usage(format!("--port-base {}: there is no port 65536", self.port_base))
            })?;
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            // Closed again at once: this is only for the message, the node itself looks again.
            TcpListener::bind(address).map_err(|error| {
                let message = format!(
                    "cannot listen on {address}: {error}; nothing was started, try another --port-base"
                );
                Failure::new(Code::Unavailable, message)
            })?;
            nodes.insert(NodeId(u64::from(place) + 1), address);
        }
        Ok(nodes)
    }

    async fn announce(
        &self,
        nodes: &BTreeMap<NodeId, SocketAddr>,
        cluster: &Cluster,
        children: &Children,
        took: Duration,
        output: Output,
    ) -> Result<(), Failure> {
        let around = surroundings()?;
        let asked = nodes.values().map(|address| status::ask(*address, READY_ATTEMPT, &around));
        let answers = futures_util::future::join_all(asked).await;
        let leader = status::leader(answers.iter().flatten());
        if output.is_json() {
            let nodes: Vec<_> = children.list().collect();
            return output.json(&json!({
                "ready": true, "seconds": took.as_secs_f64(), "cluster": cluster.to_string(),
                "cluster_id": self.cluster_id, "leader": leader, "nodes": nodes,
            }));
        }
        let leader = leader.map_or_else(String::new, |leader| format!(", n{leader} leads"));
        let lines = [
            format!(
                "ready after {:.1} s: {} nodes{leader}, data and logs in {}",
                took.as_secs_f64(),
                nodes.len(),
                self.data.display()
            ),
            format!("export ERAFT_CLUSTER={cluster}"),
            "Ctrl-C stops it".to_owned(),
        ];
        output.line(&lines.join("\n"))
    }
}

/// Tells of a node's end on standard error, where nothing else of `up` is.
fn report(ended: &Ended) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{ended}");
}
