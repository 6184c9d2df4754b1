//! `status`: every node in its own words, the offline ones too.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytesize::ByteSize;
use futures_util::future::join_all;
use serde::Serialize;

use super::client::{ClientArgs, surroundings};
use super::failure::{Code, Failure};
use super::output::Output;
use crate::proto::admin::admin_client::AdminClient;
use crate::proto::admin::{Status, StatusRequest};
use crate::replica::{Surroundings, dial};
use crate::types::NodeId;

/// A node that has not answered by then counts as offline; less if --timeout is.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(2);

const HEADER: [&str; 13] = [
    "ID", "ADDRESS", "ROLE", "TERM", "LEADER", "COMMIT", "APPLIED", "LAG", "LOG", "KEYS", "SIZE", "DISK",
    "VERSION",
];

#[derive(Clone, Debug, clap::Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    client: ClientArgs,
}

/// What the JSON shows; fields are added, never renamed.
#[derive(Serialize)]
struct Report {
    leader: Option<u64>,
    nodes: Vec<Node>,
}

#[derive(Serialize)]
struct Node {
    id: u64,
    address: String,
    online: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(flatten)]
    answer: Option<Answer>,
}

#[derive(Serialize)]
struct Answer {
    cluster_id: String,
    role: String,
    term: u64,
    leader: Option<u64>,
    commit: u64,
    applied: u64,
    durable_applied: u64,
    lag: u64,
    log_first: u64,
    log_last: u64,
    keys: u64,
    bytes: u64,
    disk_bytes: u64,
    sessions: u64,
    replica_hash: String,
    version: String,
}

/// Asks the node at `address`, once.
pub(super) async fn ask(
    address: SocketAddr,
    within: Duration,
    around: &Surroundings,
) -> Result<Status, String> {
    let asking = async move {
        let status = AdminClient::new(dial(address).await?).get_status(StatusRequest {}).await;
        status.map(|answer| answer.into_inner()).map_err(|status| status.message().to_owned())
    };
    let answer = around.clock.timeout(within, asking).await;
    answer.unwrap_or_else(|| Err(format!("no answer within {}", humantime::format_duration(within))))
}

/// Asks, and does not take another node's answer for this one's.
async fn ask_member(
    id: NodeId,
    address: SocketAddr,
    cluster_id: Option<&str>,
    within: Duration,
    around: &Surroundings,
) -> Result<Status, String> {
    let status = ask(address, within, around).await?;
    if status.node_id != id.0 {
        return Err(format!("it says that it is {}; check the order in --cluster", NodeId(status.node_id)));
    }
    match cluster_id {
        Some(wanted) if wanted != status.cluster_id => {
            Err(format!("it says that it is of cluster {:?}", status.cluster_id))
        }
        _ => Ok(status),
    }
}

/// Asks every one of `nodes`, at the same time; the answers are in their order.
pub(super) async fn ask_all(
    nodes: &BTreeMap<NodeId, SocketAddr>,
    cluster_id: Option<&str>,
    within: Duration,
    around: &Surroundings,
) -> Vec<Result<Status, String>> {
    join_all(nodes.iter().map(|(id, address)| ask_member(*id, *address, cluster_id, within, around))).await
}

impl StatusArgs {
    pub(super) async fn run(self, output: Output) -> Result<(), Failure> {
        let (nodes, around) = (self.client.cluster.resolve()?, surroundings()?);
        let (within, cluster_id) = (ANSWER_MAX.min(self.client.timeout), self.client.cluster_id.as_deref());
        let answers = ask_all(&nodes, cluster_id, within, &around).await;
        let commit = answers.iter().flatten().map(|status| status.commit).max().unwrap_or_default();
        let report = Report {
            leader: leader(answers.iter().flatten()),
            nodes: nodes
                .iter()
                .zip(answers)
                .map(|((id, address), answer)| Node::new(*id, *address, answer, commit))
                .collect(),
        };
        if output.is_json() {
            output.json(&report)?;
        } else {
            output.rows(&HEADER, report.nodes.iter().map(Node::row).collect())?;
        }
        let Some(first) = report.nodes.first().filter(|_| report.nodes.iter().all(|node| !node.online))
        else {
            return Ok(());
        };
        let reason = first.error.as_deref().unwrap_or_default();
        let message = format!("status: no node answers; n{} at {}: {reason}", first.id, first.address);
        Err(Failure::new(Code::Unavailable, message))
    }
}

/// The node that leads in the highest term.
pub(super) fn leader<'a>(answers: impl Iterator<Item = &'a Status>) -> Option<u64> {
    let leaders = answers.filter(|status| status.role == "leader");
    leaders.max_by_key(|status| status.term).map(|status| status.node_id)
}

impl Node {
    fn new(id: NodeId, address: SocketAddr, answer: Result<Status, String>, commit: u64) -> Self {
        let (answer, error) = match answer {
            Ok(status) => (Some(Answer::new(status, commit)), None),
            Err(error) => (None, Some(error)),
        };
        Self { id: id.0, address: address.to_string(), online: answer.is_some(), error, answer }
    }

    fn row(&self) -> Vec<String> {
        let mut row = vec![format!("n{}", self.id), self.address.clone()];
        let Some(answer) = &self.answer else {
            row.push(format!("offline: {}", self.error.as_deref().unwrap_or_default()));
            row.resize(HEADER.len(), "-".to_owned());
            return row;
        };
        row.extend([
            answer.role.clone(),
            answer.term.to_string(),
            answer.leader.map_or_else(|| "-".to_owned(), |leader| format!("n{leader}")),
            answer.commit.to_string(),
            answer.applied.to_string(),
            answer.lag.to_string(),
            format!("{}..{}", answer.log_first, answer.log_last),
            answer.keys.to_string(),
            ByteSize(answer.bytes).to_string(),
            ByteSize(answer.disk_bytes).to_string(),
            answer.version.clone(),
        ]);
        row
    }
}

impl Answer {
    fn new(status: Status, commit: u64) -> Self {
        Self {
            cluster_id: status.cluster_id,
            role: status.role,
            term: status.term,
            leader: (status.leader != 0).then_some(status.leader),
            commit: status.commit,
            applied: status.applied,
            durable_applied: status.durable_applied,
            lag: commit.saturating_sub(status.applied),
            log_first: status.log_first,
            log_last: status.log_last,
            keys: status.keys,
            bytes: status.bytes,
            disk_bytes: status.disk_bytes,
            sessions: status.sessions,
            replica_hash: format!("{:016x}", status.replica_hash),
            version: status.version,
        }
    }
}
