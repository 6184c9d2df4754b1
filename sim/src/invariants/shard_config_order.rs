//! shard.config_order: configs are adopted one by one, in order, as the controllers made them.
//!
//! Source: MIT 6.824 lab 4B ("process re-configurations one at a time, in order"), TestMissChange. A group to which the
//! configs in between gave nothing, and which holds nothing, may do without them.

use eraft::ctrler::Config;
use eraft::proto::ctrler;
use eraft::proto::shardkv::command::Operation;
use eraft::types::ConfigNum;
use prost::Message as _;

use super::shards::Step;

/// The invariant.
#[derive(Default)]
pub struct ConfigOrder {
    pub(super) judged: u64,
}

impl ConfigOrder {
    pub(super) fn step(&mut self, step: &Step<'_>) -> Result<(), String> {
        let (before, after) = (step.before.adopted, step.after.adopted);
        if before == after {
            return Ok(());
        }
        self.judged += 1;
        let group = step.group;
        let Operation::Adopt(adopt) = step.operation else {
            return Err(format!(
                "g{group} goes from config {before} to config {after} without having been told to"
            ));
        };
        if after < before {
            return Err(format!("g{group} goes back from config {before} to config {after}"));
        }
        let skipped = (before.0 + 1..after.0).map(ConfigNum);
        let holds = step.before.tenures.values().any(|tenures| !tenures.is_empty());
        let missed = skipped
            .filter_map(|num| step.kept.get(&num))
            .find(|config| holds || config.shards.iter().any(|placement| placement.owner == Some(group)));
        if let Some(missed) = missed {
            return Err(format!(
                "g{group} goes from config {before} to config {after} without config {}",
                missed.num
            ));
        }
        let config = ctrler::Config::decode(adopt.config.as_ref()).map_err(|error| error.to_string())?;
        let config = Config::try_from(config)?;
        match step.kept.get(&after) {
            Some(made) if *made == config => Ok(()),
            _ => Err(format!("g{group} adopts another config {after} than was made")),
        }
    }
}
