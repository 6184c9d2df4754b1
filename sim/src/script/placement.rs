//! What a script asks of the controllers, and what it claims about their configs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use eraft::ctrler::Config;
use eraft::types::{ConfigNum, GroupId, ShardId};
use futures_util::future::join_all;
use madsim::runtime::NodeHandle;
use madsim::time::timeout;

use super::{Held, Script};
use crate::places;
use crate::scenario::{CommandKind, Step};
use crate::world::{Answer, Operator, World};

/// Numbers of a script's operators begin after this; those of the scenario's stay below.
const NUMBER_BASE: u64 = places::OPERATORS + 50;
/// A script's operators hardly ever give up: the script has bounds of its own.
const DEADLINE_MS: u64 = 60_000;
/// A question is answered within this.
const ANSWER_WITHIN_MS: u64 = 10_000;

/// An operator on a machine of its own.
#[derive(Clone)]
struct Desk {
    node: NodeHandle,
    operator: Arc<Operator>,
}

/// What the script knows of placements.
#[derive(Default)]
pub(super) struct Placements {
    desks: Vec<Desk>,
    /// The config at the last claim about it.
    claimed: Option<Config>,
    /// Every config that was seen.
    seen: BTreeMap<ConfigNum, Config>,
}

impl Script {
    pub(super) async fn placement_step(&mut self, step: &Step) -> Held {
        match step {
            Step::Operate { commands, at_once, refused, within_ms } => {
                let mut desks = Vec::new();
                for number in 0..commands.len() {
                    desks.push(self.desk(if *at_once { number } else { 0 }).await);
                }
                let all = desks.into_iter().zip(commands);
                let work = all
                    .map(|(desk, list)| obeyed(self.world.clone(), desk, list.clone(), *refused, *within_ms));
                if *at_once {
                    return join_all(work).await.into_iter().collect();
                }
                for one in work {
                    one.await?;
                }
                Ok(())
            }
            Step::Placement { groups, moved, configs } => {
                let latest = self.latest().await?;
                let before = self.placements.claimed.replace(latest.clone());
                check(&self.world, &latest, groups)?;
                let before = before.unwrap_or_else(|| Config::empty(latest.shards.len()));
                if let Some(wanted) = moved {
                    let owners = latest.shards.iter().zip(&before.shards);
                    let found = owners.filter(|(now, then)| now.owner != then.owner).count() as u64;
                    if found != *wanted {
                        return Err(format!("{found} shards changed their group, {wanted} have to"));
                    }
                }
                match configs {
                    Some(wanted) if latest.num.0 - before.num.0 != *wanted => {
                        Err(format!("config {} followed on config {}", latest.num, before.num))
                    }
                    _ => Ok(()),
                }
            }
            Step::Placed { shards: (first, last), group } => {
                let latest = self.latest().await?;
                for shard in *first..=*last {
                    let owner = latest.placement(ShardId(shard)).and_then(|placement| placement.owner);
                    if owner != Some(*group) {
                        return Err(format!("shard {shard} is at {owner:?}"));
                    }
                }
                Ok(())
            }
            Step::History => {
                let latest = self.latest().await?;
                for num in 0..=latest.num.0 {
                    let config = self.query(Some(num)).await?;
                    if config.num != ConfigNum(num) {
                        return Err(format!("config {num} was asked for, and config {} came", config.num));
                    }
                    let before = self.placements.seen.entry(config.num).or_insert_with(|| config.clone());
                    if *before != config {
                        return Err(format!("config {num} was {before:?} and is {config:?}"));
                    }
                }
                Ok(())
            }
            _ => Err("is about no placement".to_owned()),
        }
    }

    /// Was the shard at this group at the last claim about the placement?
    pub(super) fn was_at(&self, shard: ShardId, group: GroupId) -> bool {
        let placement = self.placements.claimed.as_ref().and_then(|config| config.placement(shard));
        placement.is_some_and(|placement| placement.owner == Some(group))
    }

    async fn latest(&mut self) -> Result<Config, String> {
        self.query(None).await
    }

    async fn query(&mut self, number: Option<u64>) -> Result<Config, String> {
        let (world, desk) = (self.world.clone(), self.desk(0).await);
        match ask(world, desk, CommandKind::Query(number), ANSWER_WITHIN_MS).await? {
            Answer::Found(found) => found.config.ok_or_else(|| format!("config {number:?} is not there")),
            other => Err(format!("a question was answered with {other:?}")),
        }
    }

    /// The script's operator of that number.
    async fn desk(&mut self, number: usize) -> Desk {
        while self.placements.desks.len() <= number {
            let party = NUMBER_BASE + self.placements.desks.len() as u64;
            let (node, operator) = self.world.script_operator(party, DEADLINE_MS).await;
            self.placements.desks.push(Desk { node, operator });
        }
        self.placements.desks[number].clone()
    }
}

/// One command of one operator.
async fn ask(world: Arc<World>, desk: Desk, command: CommandKind, within_ms: u64) -> Result<Answer, String> {
    let words = command.to_string();
    let asking = desk.node.spawn(async move { world.command(&desk.operator, &command).await });
    match timeout(Duration::from_millis(within_ms), asking).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(format!("`{words}`: {error}")),
        Err(_) => Err(format!("`{words}` was not answered within {within_ms} ms")),
    }
}

/// One operator's commands, in order; each is obeyed, or refused if it has to be.
async fn obeyed(
    world: Arc<World>,
    desk: Desk,
    commands: Vec<CommandKind>,
    refused: bool,
    within_ms: u64,
) -> Held {
    for command in commands {
        let words = command.to_string();
        match (ask(world.clone(), desk.clone(), command, within_ms).await?, refused) {
            (Answer::Made(_) | Answer::Found(_), false) | (Answer::Refused(_), true) => {}
            (Answer::Made(num), true) => {
                return Err(format!("`{words}` was not refused; it made config {num}"));
            }
            (Answer::Refused(why), false) => return Err(format!("`{words}` was refused: {why}")),
            (other, _) => return Err(format!("`{words}` has no outcome: {other:?}")),
        }
    }
    Ok(())
}

/// The groups and their addresses are these, and no group has two shards more than another, but for pins.
fn check(world: &World, config: &Config, groups: &BTreeSet<GroupId>) -> Held {
    let found: BTreeSet<GroupId> = config.groups.keys().copied().collect();
    if found != *groups {
        return Err(format!("config {} has the groups {found:?}", config.num));
    }
    for (group, addresses) in &config.groups {
        if addresses.as_slice() != world.addresses_of(*group) {
            return Err(format!("config {} has g{group} at {addresses:?}", config.num));
        }
    }
    let mut shares: BTreeMap<GroupId, usize> = groups.iter().map(|group| (*group, 0)).collect();
    for (shard, placement) in config.placements() {
        let share = placement.owner.and_then(|owner| shares.get_mut(&owner));
        match share {
            Some(share) => *share += 1,
            None if groups.is_empty() && placement.owner.is_none() => {}
            None => return Err(format!("shard {shard} is at {:?}", placement.owner)),
        }
    }
    let (least, most) = (shares.values().min(), shares.values().max());
    match least.zip(most) {
        Some((least, most)) if most > &(least + 1) => Err(format!("the shares are {shares:?}")),
        _ => Ok(()),
    }
}
