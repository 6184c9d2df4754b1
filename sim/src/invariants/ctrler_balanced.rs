//! ctrler.balanced: every shard is at a joined group, and shares are as level as pins allow.
//!
//! Source: MIT 6.824 lab 4A ("divide the shards as evenly as possible"), with pins as `eraft::ctrler` says. eRaft gave
//! shards to groups that do not exist (B10).

use std::collections::BTreeMap;

use eraft::types::GroupId;

use super::configs::{Made, level_shares};

/// The invariant.
#[derive(Default)]
pub struct Balanced {
    pub(super) judged: u64,
}

impl Balanced {
    pub(super) fn made(&mut self, made: &Made<'_>) -> Result<(), String> {
        let config = made.config;
        config.check().map_err(|why| format!("config {}: {why}", config.num))?;
        if config.groups.is_empty() {
            return Ok(());
        }
        self.judged += 1;
        let mut shares: BTreeMap<GroupId, usize> = config.groups.keys().map(|group| (*group, 0)).collect();
        for owner in config.shards.iter().filter_map(|placement| placement.owner) {
            *shares.entry(owner).or_default() += 1;
        }
        let mut found: Vec<usize> = shares.values().copied().collect();
        found.sort_unstable();
        let wanted = level_shares(config);
        if found == wanted {
            return Ok(());
        }
        Err(format!(
            "config {} deals shards out as {shares:?}, which is not as level as {wanted:?}",
            config.num
        ))
    }
}
