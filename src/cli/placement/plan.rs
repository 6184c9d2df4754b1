//! `rebalance plan`: what a change would do, by the same pure function that the controllers use. Nothing is sent but a
//! question.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use serde::Serialize;

use super::super::client::CtrlersArgs;
use super::super::failure::{Code, Failure};
use super::super::output::Output;
use super::advice::with_advice;
use super::groups::{GroupAt, ids};
use super::query::ask;
use crate::client::Which;
use crate::ctrler::{Change, Config, Refusal};
use crate::types::{ConfigNum, GroupId, ShardId};

#[derive(Clone, Debug, clap::Args)]
pub(in crate::cli) struct Plan {
    /// If this group joined; may be given several times.
    #[arg(long, value_name = "GID=A,B,C")]
    join: Vec<GroupAt>,
    /// If this group left; may be given several times.
    #[arg(long, value_name = "GID")]
    leave: Vec<u64>,
    /// If this shard were moved to this group; may be given several times.
    #[arg(long = "move", value_name = "SHARD=GID")]
    moves: Vec<Pin>,
    /// If this shard were unpinned; may be given several times.
    #[arg(long, value_name = "SHARD")]
    unpin: Vec<u64>,
    #[command(flatten)]
    ctrlers: CtrlersArgs,
}

/// `SHARD=GID`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pin {
    shard: ShardId,
    group: GroupId,
}

impl FromStr for Pin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (shard, group) = text.split_once('=').ok_or("write it like 3=100")?;
        let number = |text: &str| text.parse().map_err(|_| format!("{text:?} is not a number"));
        Ok(Self { shard: ShardId(number(shard)?), group: GroupId(number(group)?) })
    }
}

/// What the JSON shows; fields are added, never renamed.
#[derive(Debug, PartialEq, Serialize)]
struct Report {
    /// What the plan starts from.
    config: ConfigNum,
    /// Shards whose data would go from one group to another.
    moves: Vec<Moved>,
    groups: Vec<Share>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Moved {
    shard: ShardId,
    from: GroupId,
    to: GroupId,
}

#[derive(Debug, PartialEq, Serialize)]
struct Share {
    group: GroupId,
    shards: usize,
    shards_after: usize,
    pinned_after: usize,
}

impl Plan {
    pub(super) async fn run(self, output: Output) -> Result<(), Failure> {
        let (config, ..) = ask(&self.ctrlers.client()?, "rebalance plan", Which::Latest).await?;
        let report = Report::new(&config, &self.after(&config)?);
        if output.is_json() {
            return output.json(&report);
        }
        let title = match report.moves.len() {
            0 => format!("config {}: nothing would move", report.config),
            moves => {
                format!("config {}: {moves} of {} shards would move", report.config, config.shards.len())
            }
        };
        output.line(&title)?;
        output
            .rows(&["GROUP", "SHARDS", "AFTER", "PINNED"], report.groups.iter().map(Share::row).collect())?;
        if report.moves.is_empty() {
            return Ok(());
        }
        output.rows(&["SHARD", "FROM", "TO"], report.moves.iter().map(Moved::row).collect())
    }

    /// The config after the changes that were asked for. Without any it is the same: every config is as level as its
    /// pins allow, so rebalancing alone moves nothing.
    fn after(&self, config: &Config) -> Result<Config, Failure> {
        let mut changes = Vec::new();
        if !self.join.is_empty() {
            let groups: BTreeMap<_, _> =
                self.join.iter().map(|at| (at.group, at.addresses.clone())).collect();
            if groups.len() < self.join.len() {
                return Err(Failure::usage(format!("--join: a group is named twice: {}", ids(&self.join))));
            }
            changes.push(Change::Join(groups));
        }
        if !self.leave.is_empty() {
            let groups: BTreeSet<_> = self.leave.iter().copied().map(GroupId).collect();
            changes.push(Change::Leave(groups));
        }
        changes.extend(self.moves.iter().map(|pin| Change::Move { shard: pin.shard, group: pin.group }));
        changes.extend(self.unpin.iter().map(|shard| Change::Unpin { shard: ShardId(*shard) }));
        let refused = |refusal: Refusal| {
            let why = with_advice(refusal.to_string());
            Failure::new(Code::Refused, format!("rebalance plan: refused: {why}"))
        };
        changes.iter().try_fold(config.clone(), |config, change| change.apply(&config).map_err(refused))
    }
}

impl Report {
    fn new(before: &Config, after: &Config) -> Self {
        let places = before.placements().zip(&after.shards);
        let moves = places.filter_map(|((shard, before), after)| {
            let (from, to) = (before.home()?, after.owner?);
            (from != to).then_some(Moved { shard, from, to })
        });
        let share = |group: &GroupId| {
            let pins = after.placements().filter(|(_, at)| at.pinned && at.owner == Some(*group));
            Share {
                group: *group,
                shards: before.shards_of(*group).count(),
                shards_after: after.shards_of(*group).count(),
                pinned_after: pins.count(),
            }
        };
        let groups: BTreeSet<_> = before.groups.keys().chain(after.groups.keys()).collect();
        Self { config: before.num, moves: moves.collect(), groups: groups.into_iter().map(share).collect() }
    }
}

impl Share {
    fn row(&self) -> Vec<String> {
        let Self { group, shards, shards_after, pinned_after } = self;
        vec![group.to_string(), shards.to_string(), shards_after.to_string(), pinned_after.to_string()]
    }
}

impl Moved {
    fn row(&self) -> Vec<String> {
        vec![self.shard.to_string(), self.from.to_string(), self.to.to_string()]
    }
}
