//! `status`: every node in its own words, the offline ones too.
//!
//! Of a sharded cluster: the controllers, then the groups of the latest config, also those that left and still have
//! shards to give away.

mod node;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use serde::Serialize;

use self::node::{HEADER, Node, SHARDS_HEADER};
use super::client::{Reach, surroundings};
use super::failure::{Code, Failure, outcome};
use super::output::Output;
use super::target::Target;
use super::values::Cluster;
use crate::client::{Client, Found, Which};
use crate::ctrler::Config;
use crate::proto::admin::admin_client::AdminClient;
use crate::proto::admin::{Status, StatusRequest};
use crate::replica::{Service, Surroundings, dial};
use crate::types::{ConfigNum, NodeId};

/// A node that has not answered by then counts as offline; less if --timeout is.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(2);

#[derive(Clone, Debug, clap::Args)]
pub(super) struct StatusArgs {
    /// Also list the shards that each leader has: state, keys and size.
    #[arg(long)]
    list_shards: bool,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    reach: Reach,
}

/// What the JSON shows; fields are added, never renamed.
#[derive(Serialize)]
struct Report {
    /// The node that leads the one group, or the controllers.
    leader: Option<u64>,
    /// The number of the latest config, if there are controllers and they answer.
    config: Option<ConfigNum>,
    nodes: Vec<Node>,
}

/// The nodes of one Raft group.
struct Members {
    service: Service,
    nodes: BTreeMap<NodeId, SocketAddr>,
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

/// The node that leads in the highest term.
pub(super) fn leader<'a>(answers: impl Iterator<Item = &'a Status>) -> Option<u64> {
    let leaders = answers.filter(|status| status.role == "leader");
    leaders.max_by_key(|status| status.term).map(|status| status.node_id)
}

impl StatusArgs {
    pub(super) async fn run(self, output: Output) -> Result<(), Failure> {
        let around = surroundings()?;
        let (groups, config) = match &self.target {
            Target::Group(cluster) => {
                (vec![Members { service: Service::Kv, nodes: cluster.resolve()? }], Ok(None))
            }
            Target::Ctrlers(ctrlers) => {
                let nodes = ctrlers.resolve_flag("--ctrlers")?;
                let config = self.latest(&nodes, &around).await;
                let mut groups = vec![Members { service: Service::Ctrler, nodes }];
                if let Ok(config) = &config {
                    groups.extend(members(config)?);
                }
                (groups, config.map(|config| Some(config.num)))
            }
        };
        let asked = groups.iter().map(|group| self.ask_all(group, &around));
        let answers: Vec<Vec<Node>> = join_all(asked).await;
        let leader = answers.first().and_then(|nodes| Node::leader(nodes));
        let nodes: Vec<Node> = answers.into_iter().flatten().collect();
        let report = Report { leader, config: config.as_ref().ok().copied().flatten(), nodes };
        self.print(&report, output)?;
        config?;
        let Some(first) = report.nodes.first().filter(|_| report.nodes.iter().all(|node| !node.online()))
        else {
            return Ok(());
        };
        Err(Failure::new(Code::Unavailable, format!("status: no node answers; {}", first.in_words())))
    }

    fn print(&self, report: &Report, output: Output) -> Result<(), Failure> {
        if output.is_json() {
            return output.json(report);
        }
        let is_sharded = matches!(self.target, Target::Ctrlers(_));
        let columns = if is_sharded { HEADER.len() } else { HEADER.len() - SHARDED_COLUMNS };
        let cut = |mut row: Vec<String>| {
            row.truncate(columns);
            row
        };
        if let Some(config) = report.config {
            output.line(&format!("config {config}"))?;
        }
        output.rows(&HEADER[..columns], report.nodes.iter().map(Node::row).map(cut).collect())?;
        match self.list_shards {
            true => output.rows(&SHARDS_HEADER, report.nodes.iter().flat_map(Node::shard_rows).collect()),
            false => Ok(()),
        }
    }

    /// The latest config.
    async fn latest(
        &self,
        ctrlers: &BTreeMap<NodeId, SocketAddr>,
        around: &Surroundings,
    ) -> Result<Config, Failure> {
        let client = Client::new(self.reach.options(ctrlers.clone()), around.clone(), None);
        let Found { config, .. } = outcome("status", client.query(Which::Latest).await, "ask")?;
        config.ok_or_else(|| Failure::new(Code::Internal, "status: the controllers have no latest config"))
    }

    /// Asks all nodes, and takes no other node's answer for that of one.
    async fn ask_all(&self, group: &Members, around: &Surroundings) -> Vec<Node> {
        let within = ANSWER_MAX.min(self.reach.timeout);
        let asked = group.nodes.iter().map(|(id, address)| async move {
            let answer = ask(*address, within, around).await;
            let answer = answer.and_then(|status| self.check(group.service, *id, status));
            (*id, *address, answer)
        });
        let answers = join_all(asked).await;
        let commit = answers.iter().flat_map(|(.., answer)| answer).map(|status| status.commit).max();
        let commit = commit.unwrap_or_default();
        answers.into_iter().map(|(id, at, answer)| Node::new(group.service, id, at, answer, commit)).collect()
    }

    fn check(&self, service: Service, id: NodeId, status: Status) -> Result<Status, String> {
        let group = match service {
            Service::Shard(group) => group.0,
            Service::Kv | Service::Ctrler => 0,
        };
        if status.node_id != id.0 {
            return Err(format!(
                "it says that it is {}; check the order of the addresses",
                NodeId(status.node_id)
            ));
        }
        if status.group != group {
            return Err(match status.group {
                0 => "it says that it is of no group of a sharded cluster".to_owned(),
                other => format!("it says that it is of group {other}"),
            });
        }
        match &self.reach.cluster_id {
            Some(wanted) if *wanted != status.cluster_id => {
                Err(format!("it says that it is of cluster {:?}", status.cluster_id))
            }
            _ => Ok(status),
        }
    }
}

/// The groups of a config, those that left included.
fn members(config: &Config) -> Result<Vec<Members>, Failure> {
    let groups = config.groups.iter().chain(&config.left);
    let members = groups.map(|(group, addresses)| {
        let nodes = Cluster::from(addresses.clone()).resolve_flag(&format!("group {group}"))?;
        Ok(Members { service: Service::Shard(*group), nodes })
    });
    members.collect()
}

/// How many of the columns there are for sharded clusters only; they are the last ones.
const SHARDED_COLUMNS: usize = 2;
