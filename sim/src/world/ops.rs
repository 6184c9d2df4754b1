//! What operators do to a sharded store as a part of the schedule: groups join and leave, shards are moved.
//!
//! Which group or shard it is follows from the latest config when the fault fires, as roles do. A change counts as
//! delivered if the controllers made a config of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use eraft::ctrler::Config;
use eraft::random::Draw;
use eraft::types::{ConfigNum, GroupId};
use madsim::runtime::NodeHandle;

use super::operators::{Answer, Operator};
use super::{World, lock};
use crate::outcome::Hit;
use crate::places::{self, Place};
use crate::scenario::{Action, CommandKind, Target};
use crate::schedule::FaultEvent;
use crate::workload::AGAIN;

/// The number of the operator that the schedule's changes come from.
const STEWARD: u64 = places::OPERATORS + 99;
/// How long one change may take.
const DEADLINE_MS: u64 = 5_000;

/// An operator with a machine of its own.
#[derive(Clone)]
pub(crate) struct Steward {
    node: NodeHandle,
    operator: Arc<Operator>,
}

impl World {
    /// Sets the number of shards and lets the first groups join, before clients and faults begin.
    pub(crate) async fn bootstrap(self: &Arc<Self>) {
        let cluster = &self.plan.configuration.cluster;
        if cluster.groups == 0 {
            return;
        }
        let (node, operator) = self.script_operator(STEWARD, DEADLINE_MS).await;
        *lock(&self.steward) = Some(Steward { node, operator: operator.clone() });
        if cluster.shards != eraft::ctrler::SHARDS_DEFAULT as u64 {
            self.create(&operator).await;
        }
        let first: BTreeSet<GroupId> = (0..cluster.joined.min(cluster.groups)).map(places::group).collect();
        if !first.is_empty() {
            self.insist(CommandKind::Join(first)).await;
        }
    }

    /// A sharded store without a group could not serve anybody: somebody joins. Not once only: what an operator asked
    /// for while faults went on may be committed after them, and be the last group's leave.
    pub(crate) async fn keep_joined(self: Arc<Self>) {
        if self.plan.configuration.cluster.groups == 0 || !self.plan.steps.is_empty() {
            return;
        }
        loop {
            let has_groups = self.watcher.latest_config().is_some_and(|config| !config.groups.is_empty());
            if !has_groups {
                self.insist(CommandKind::Join(BTreeSet::from([places::group(0)]))).await;
            }
            madsim::time::sleep(AGAIN).await;
        }
    }

    /// One change, until it is made or refused.
    async fn insist(self: &Arc<Self>, command: CommandKind) {
        while matches!(self.change_by_steward(command.clone()).await, Some(Answer::Unknown(_))) {
            madsim::time::sleep(AGAIN).await;
        }
    }

    async fn change_by_steward(self: &Arc<Self>, command: CommandKind) -> Option<Answer> {
        let Steward { node, operator } = lock(&self.steward).clone()?;
        let world = self.clone();
        node.spawn(async move { world.command(&operator, &command).await }).await.ok()
    }

    /// A fault that is an operator's change.
    pub(super) async fn operate_as_planned(self: &Arc<Self>, fault: &FaultEvent) {
        let mut draw = self.draws.draw(&fault.id, 0, 0);
        let Some(command) = self.planned(fault, &mut draw) else { return };
        let (kind, words) = (fault.kind(), command.to_string());
        self.watcher.note("world", kind.id(), &format!("{} hits {words}", fault.id));
        let at_ms = u64::try_from(self.time.elapsed().as_millis()).unwrap_or(u64::MAX);
        lock(&self.hits).push(Hit { fault: fault.id.clone(), at_ms, parties: vec![words] });
        let answer = self.change_by_steward(command).await;
        self.count(kind, matches!(answer, Some(Answer::Made(_))));
        self.watcher.note("world", "fault.end", &fault.id);
    }

    /// The command that a fault means now, if there is one that makes sense.
    fn planned(&self, fault: &FaultEvent, draw: &mut Draw) -> Option<CommandKind> {
        let latest = self.watcher.latest_config()?;
        let named = match &fault.target {
            Target::Of(_, Place::Group(group)) => Some(*group),
            _ => None,
        };
        let groups = (0..self.plan.configuration.cluster.groups).map(places::group);
        let one = |draw: &mut Draw, groups: Vec<GroupId>| match named {
            Some(group) => groups.contains(&group).then_some(group),
            None => draw.pick(&groups).copied(),
        };
        let joined: Vec<GroupId> = latest.groups.keys().copied().collect();
        match fault.action {
            Action::OpsJoin => {
                let others = groups.filter(|group| !latest.groups.contains_key(group)).collect();
                one(draw, others).map(|group| CommandKind::Join(BTreeSet::from([group])))
            }
            // The last one stays: without a group nothing can be served.
            Action::OpsLeave if joined.len() > 1 => {
                one(draw, joined).map(|group| CommandKind::Leave(BTreeSet::from([group])))
            }
            Action::OpsMove => {
                let shard = draw.below(latest.shards.len() as u64);
                let owner = latest.shards.get(usize::try_from(shard).ok()?)?.owner;
                let others = joined.into_iter().filter(|group| Some(*group) != owner).collect();
                one(draw, others).map(|group| CommandKind::Move(shard, group))
            }
            Action::OpsUnpin => {
                let pinned = latest.placements().filter(|(_, placement)| placement.pinned);
                let pinned: Vec<u64> = pinned.map(|(shard, _)| shard.0).collect();
                draw.pick(&pinned).map(|shard| CommandKind::Unpin(*shard))
            }
            Action::OpsRollback => {
                let differs = |config: &Config| !config.groups.is_empty() && is_other(config, &latest);
                let earlier = (1..latest.num.0).filter(|num| {
                    self.watcher.config(ConfigNum(*num)).is_some_and(|config| differs(&config))
                });
                let earlier: Vec<u64> = earlier.collect();
                draw.pick(&earlier).map(|num| CommandKind::Rollback(*num))
            }
            _ => None,
        }
    }
}

/// Would going back to `earlier` change anything?
fn is_other(earlier: &Config, latest: &Config) -> bool {
    let places = |config: &Config| -> Vec<_> {
        config.shards.iter().map(|placement| (placement.owner, placement.pinned)).collect()
    };
    places(earlier) != places(latest) || !earlier.groups.keys().eq(latest.groups.keys())
}
