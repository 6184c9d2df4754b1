//! `member`: who belongs to the group, and who leads it.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;

use super::client::{GroupArgs, surroundings};
use super::failure::{Code, Failure};
use super::output::Output;
use super::status;
use crate::proto::admin::TransferRequest;
use crate::proto::admin::admin_client::AdminClient;
use crate::proto::admin::transfer_reply::Outcome;
use crate::replica::{Surroundings, dial};
use crate::types::NodeId;

/// Between two looks at a group that has no leader.
const LOOK_EVERY: Duration = Duration::from_millis(100);

#[derive(Clone, Debug, clap::Subcommand)]
pub(super) enum Member {
    /// Hand the leadership over to a member, without an outage.
    #[command(after_help = "Examples:
  eraft member transfer --to 2

The leader brings the member up to date, which takes no new writes for that long, and has it elected. If that does not
happen within an election timeout, the leader goes on. Clients retry by themselves.
Exit codes: 0 it leads, 1 it does not (no voting member, too far behind, not reachable, or another one was elected),
3 nobody leads, 4 unknown: look at `eraft status`.")]
    Transfer(Transfer),
}

#[derive(Clone, Debug, clap::Args)]
pub(super) struct Transfer {
    /// The id of the member that is to lead.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    to: u64,
    #[command(flatten)]
    group: GroupArgs,
}

/// What one node said.
enum Said {
    Leads(NodeId),
    /// It does not lead.
    NotLeader,
    Refused(String),
    Unknown(String),
}

impl Member {
    pub(super) async fn run(self, output: Output) -> Result<(), Failure> {
        match self {
            Member::Transfer(transfer) => transfer.run(output).await,
        }
    }
}

impl Transfer {
    async fn run(self, output: Output) -> Result<(), Failure> {
        let (nodes, around) = (self.group.cluster.resolve()?, surroundings()?);
        let to = NodeId(self.to);
        if !nodes.contains_key(&to) {
            let known = nodes.len();
            return Err(Failure::usage(format!(
                "--to {}: --cluster names {known} nodes, from 1 on",
                self.to
            )));
        }
        let deadline = around.clock.now().after(self.group.reach.timeout);
        let mut last = "nobody leads".to_owned();
        loop {
            let left = deadline.since(around.clock.now());
            if left.is_zero() {
                return Err(Failure::new(
                    Code::Unavailable,
                    format!("member transfer: {last}; try `eraft status`"),
                ));
            }
            let within = left.min(status::ANSWER_MAX);
            let answers =
                join_all(nodes.values().map(|address| status::ask(*address, within, &around))).await;
            let Some(leader) = status::leader(answers.iter().flatten()).map(NodeId) else {
                if let Some(Err(reason)) = answers.iter().find(|answer| answer.is_err()) {
                    last = format!("nobody leads; a node says: {reason}");
                }
                around.clock.sleep(LOOK_EVERY.min(left)).await;
                continue;
            };
            let said =
                if leader == to { Said::Leads(to) } else { self.ask(nodes[&leader], left, &around).await };
            match said {
                Said::Leads(now) if now == to => {
                    let moved = leader != to;
                    if output.is_json() {
                        return output.json(&json!({ "leader": now.0, "transferred": moved }));
                    }
                    return output.line(&format!("{now} leads{}", if moved { "" } else { " already" }));
                }
                Said::Leads(other) => {
                    let message = format!("member transfer: {other} was elected, not {to}; try again");
                    return Err(Failure::new(Code::Refused, message));
                }
                Said::Refused(why) => {
                    return Err(Failure::new(Code::Refused, format!("member transfer: to {to}: {why}")));
                }
                Said::Unknown(why) => {
                    let message =
                        format!("member transfer: outcome unknown: {leader}: {why}; see `eraft status`");
                    return Err(Failure::new(Code::Unknown, message));
                }
                Said::NotLeader => {
                    last = format!("{leader} leads no more");
                    around.clock.sleep(LOOK_EVERY.min(left)).await;
                }
            }
        }
    }

    /// Asks the node at `address`, which leads as far as is known.
    async fn ask(&self, address: std::net::SocketAddr, within: Duration, around: &Surroundings) -> Said {
        let Ok(channel) = dial(address).await else { return Said::NotLeader };
        let request = TransferRequest {
            to: self.to,
            wait_ms: u64::try_from(within.as_millis()).unwrap_or(u64::MAX),
            cluster_id: self.group.reach.cluster_id.clone().unwrap_or_default(),
        };
        let mut client = AdminClient::new(channel);
        let Some(answer) = around.clock.timeout(within, client.transfer_leadership(request)).await else {
            return Said::Unknown(format!("no answer within {}", humantime::format_duration(within)));
        };
        match answer.map(|answer| answer.into_inner().outcome) {
            Ok(Some(Outcome::Leader(leader))) => Said::Leads(NodeId(leader)),
            Ok(Some(Outcome::NotLeader(_))) => Said::NotLeader,
            Ok(Some(Outcome::Refused(why))) => Said::Refused(why),
            Ok(Some(Outcome::Unknown(why))) => Said::Unknown(why),
            Ok(None) => Said::Unknown("an answer without an outcome".to_owned()),
            Err(status) if status.code() == tonic::Code::FailedPrecondition => {
                Said::Refused(status.message().to_owned())
            }
            Err(status) => Said::Unknown(status.message().to_owned()),
        }
    }
}
