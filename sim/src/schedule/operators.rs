//! Draws what the operators do.
//!
//! Nobody knows the placement when a plan is made: commands that will be refused are a part of it.

use std::collections::BTreeSet;

use eraft::random::{Draw, Draws};
use eraft::types::GroupId;

use super::Configuration;
use crate::places;
use crate::scenario::{Command, CommandKind, Operators};

/// Of so many commands one names what does not exist.
const STRAY_ONE_OF: u64 = 20;
/// Groups of one join or leave, at most.
const GROUPS_MAX: u64 = 3;

/// `count` commands of each operator.
pub(super) fn generate(
    configuration: &Configuration,
    count: u64,
    phase: &str,
    seed: u64,
) -> Vec<Vec<Command>> {
    let (operators, cluster) = (&configuration.operators, &configuration.cluster);
    let names = if cluster.groups > 0 { cluster.groups } else { operators.names };
    let draws = Draws::new(seed, "operators");
    let one = |operator: u64, number: u64| {
        let mut draw = draws.draw(phase, operator, number);
        let kind = kind(operators, names, cluster.shards, number, &mut draw);
        Command { kind, think_ms: draw.between(0, operators.think_ms * 2) }
    };
    let of_operator = |operator| (1..=count).map(|number| one(operator, number)).collect();
    (1..=operators.operators).map(of_operator).collect()
}

fn kind(operators: &Operators, names: u64, shards: u64, number: u64, draw: &mut Draw) -> CommandKind {
    let Operators { joins, leaves, moves, unpins, rollbacks, queries, .. } = *operators;
    let mut left = draw.below(joins + leaves + moves + unpins + rollbacks + queries);
    let mut is_next = |weight: u64| {
        let is_it = left < weight;
        left = left.saturating_sub(weight);
        is_it
    };
    if is_next(joins) {
        CommandKind::Join(groups(names, draw))
    } else if is_next(leaves) {
        CommandKind::Leave(groups(names, draw))
    } else if is_next(moves) {
        CommandKind::Move(shard(shards, draw), group(names, draw))
    } else if is_next(unpins) {
        CommandKind::Unpin(shard(shards, draw))
    } else if is_next(rollbacks) {
        // The later in a run, the more configs there are.
        CommandKind::Rollback(draw.between(0, number))
    } else {
        let is_old = draw.chance(0.5);
        CommandKind::Query(is_old.then(|| draw.between(0, number)))
    }
}

/// One to three of the groups; seldom more than there are.
fn groups(names: u64, draw: &mut Draw) -> BTreeSet<GroupId> {
    // Rather one than several.
    let count = draw.between(1, GROUPS_MAX).min(draw.between(1, GROUPS_MAX));
    (0..count).map(|_| group(names, draw)).collect()
}

fn group(names: u64, draw: &mut Draw) -> GroupId {
    let is_stray = draw.below(STRAY_ONE_OF) == 0;
    let number = draw.below(names);
    places::group(if is_stray && names < places::GROUPS_MAX { names } else { number })
}

fn shard(shards: u64, draw: &mut Draw) -> u64 {
    let is_stray = draw.below(STRAY_ONE_OF) == 0;
    let number = draw.below(shards);
    if is_stray { shards } else { number }
}
