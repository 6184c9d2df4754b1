//! Operators' commands to the controllers: which groups there are, and which of them has which shard.
//!
//! Each command that changes something is one entry in the controllers' log, and makes one new config or none. What the
//! command line alone can tell is wrong (exit code 2) is never sent; everything else is judged by the controllers,
//! which refuse it with a sentence (exit code 1).

mod advice;
mod groups;
mod plan;
mod query;

use serde_json::json;

pub(super) use self::groups::ranges;
use self::groups::{GroupAt, encode};
use super::client::CtrlersArgs;
use super::failure::{Failure, outcome};
use super::output::Output;
use crate::client::Outcome;
use crate::proto::ctrler::change::Change;
use crate::proto::ctrler::{Create, GroupIds, Move};

#[derive(Clone, Debug, clap::Subcommand)]
pub(super) enum Placement {
    /// Let groups join the cluster: shards go to them until all groups have the same number.
    #[command(after_help = "Examples:
  eraft join 100=10.0.1.1:6001,10.0.1.2:6001,10.0.1.3:6001
  eraft join 100=127.0.0.1:6001 101=127.0.0.1:6002     both at once: one config, fewest moves

GID is a number of your choice from 1 on, the --gid of the group's nodes; the addresses are their --cluster.
Exit code 1 if a group is joined already (see eraft update) or an address is another group's.")]
    Join(Join),
    /// Let groups leave: their shards go to those that stay.
    #[command(after_help = "Examples:
  eraft leave 101
  eraft leave 101 102

Keep the nodes running until `eraft status` shows no shard at them: the others fetch the data from there.")]
    Leave(Leave),
    /// Move a shard to a group and pin it there: rebalancing leaves it alone.
    #[command(after_help = "Examples:
  eraft move 3 101
  eraft unpin 3                          rebalancing may move it again")]
    Move(MoveTo),
    /// Unpin a shard that was moved by hand, and rebalance.
    #[command(after_help = "Examples:
  eraft unpin 3")]
    Unpin(Unpin),
    /// Change the addresses of groups that are joined; no shard moves.
    #[command(after_help = "Examples:
  eraft update 100=10.0.2.1:6001,10.0.2.2:6001,10.0.2.3:6001")]
    Update(Update),
    /// Show a config: which group has which shards.
    #[command(after_help = "Examples:
  eraft query                            the latest
  eraft query 3
  eraft query -o json | jq '.shards[] | select(.pinned)'

Exit code 1 if there is no such config, or it is not kept any more.")]
    Query(query::Query),
    /// Bring back the groups, owners and pins of an earlier config, as a new config.
    #[command(after_help = "Examples:
  eraft query 3 && eraft rollback 3

Groups that are joined now keep their present addresses.")]
    Rollback(Rollback),
    /// Set the number of shards, once, before the first group joins.
    #[command(after_help = "Examples:
  eraft create --shards 256

Without this a cluster has 10 shards. Exit code 1 if anything was done before.")]
    Create(CreateCluster),
    /// How shards are shared out.
    #[command(subcommand)]
    Rebalance(Rebalance),
}

#[derive(Clone, Debug, clap::Subcommand)]
pub(super) enum Rebalance {
    /// Show what a change would move, without doing it; without one, each group's share.
    #[command(after_help = "Examples:
  eraft rebalance plan
  eraft rebalance plan --join 102=10.0.3.1:6001,10.0.3.2:6001,10.0.3.3:6001
  eraft rebalance plan --leave 100 --move 3=101

Shards are always shared out as evenly as the pins allow, so without a change nothing moves. Changes count in this
order: join, leave, move, unpin. Exit code 1 if the controllers would refuse one of them.")]
    Plan(plan::Plan),
}

#[derive(Clone, Debug, clap::Args)]
pub(super) struct Join {
    /// The groups, with the addresses of their nodes in the order of their ids.
    #[arg(value_name = "GID=A,B,C", required = true)]
    groups: Vec<GroupAt>,
    #[command(flatten)]
    ctrlers: CtrlersArgs,
}

#[derive(Clone, Debug, clap::Args)]
pub(super) struct Leave {
    /// The groups.
    #[arg(value_name = "GID", required = true)]
    groups: Vec<u64>,
    #[command(flatten)]
    ctrlers: CtrlersArgs,
}

#[derive(Clone, Debug, clap::Args)]
pub(super) struct MoveTo {
    /// The shard, counted from 0.
    shard: u64,
    /// The group that gets it.
    #[arg(value_name = "GID")]
    group: u64,
    #[command(flatten)]
    ctrlers: CtrlersArgs,
}

#[derive(Clone, Debug, clap::Args)]
pub(super) struct Unpin {
    /// The shard, counted from 0.
    shard: u64,
    #[command(flatten)]
    ctrlers: CtrlersArgs,
}

#[derive(Clone, Debug, clap::Args)]
pub(super) struct Update {
    /// The groups, with the addresses of their nodes in the order of their ids.
    #[arg(value_name = "GID=A,B,C", required = true)]
    groups: Vec<GroupAt>,
    #[command(flatten)]
    ctrlers: CtrlersArgs,
}

#[derive(Clone, Debug, clap::Args)]
pub(super) struct Rollback {
    /// The config to go back to.
    num: u64,
    #[command(flatten)]
    ctrlers: CtrlersArgs,
}

#[derive(Clone, Debug, clap::Args)]
pub(super) struct CreateCluster {
    /// How many shards, for good.
    #[arg(long, value_name = "N")]
    shards: u64,
    #[command(flatten)]
    ctrlers: CtrlersArgs,
}

impl Placement {
    pub(super) async fn run(self, output: Output) -> Result<(), Failure> {
        let (what, change, ctrlers) = match self {
            Self::Join(Join { groups, ctrlers }) => {
                (format!("join {}", groups::ids(&groups)), Change::Join(encode(&groups)), ctrlers)
            }
            Self::Leave(Leave { groups, ctrlers }) => {
                let ids: Vec<_> = groups.iter().map(u64::to_string).collect();
                (format!("leave {}", ids.join(" ")), Change::Leave(GroupIds { groups }), ctrlers)
            }
            Self::Move(MoveTo { shard, group, ctrlers }) => {
                (format!("move {shard} {group}"), Change::Move(Move { shard, group }), ctrlers)
            }
            Self::Unpin(Unpin { shard, ctrlers }) => {
                (format!("unpin {shard}"), Change::Unpin(shard), ctrlers)
            }
            Self::Update(Update { groups, ctrlers }) => {
                (format!("update {}", groups::ids(&groups)), Change::Update(encode(&groups)), ctrlers)
            }
            Self::Rollback(Rollback { num, ctrlers }) => {
                (format!("rollback {num}"), Change::Rollback(num), ctrlers)
            }
            Self::Create(CreateCluster { shards, ctrlers }) => {
                ("create".to_owned(), Change::Create(Create { shards }), ctrlers)
            }
            Self::Query(query) => return query.run(output).await,
            Self::Rebalance(Rebalance::Plan(plan)) => return plan.run(output).await,
        };
        let client = ctrlers.client()?;
        let answer = client.change(change).await;
        if !matches!(answer, Outcome::Unknown(_)) {
            client.close().await; // a loop of one-shot commands must not fill the table of sessions
        }
        let num = outcome(&what, advice::advised(answer), "look with `eraft query`")?;
        match output.is_json() {
            true => output.json(&json!({ "config": num })),
            false => output.line(&format!("OK: config {num}")),
        }
    }
}
