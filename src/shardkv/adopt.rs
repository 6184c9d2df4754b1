//! How a group takes over a config.
//!
//! Invariants:
//! - the configs are adopted one by one, in order, and one that contradicts those before is refused;
//! - a config is left out only if the controllers have dropped it and the group holds nothing. They drop a config only
//!   when every group that was joined since it last said, at the latest config, that it was not joined and held nothing
//!   has reported a later one (see [`crate::ctrler`]); so what they dropped before this group was there concerned no
//!   shard of it. Either half alone is not enough: a group that holds nothing may have been given a shard in the next
//!   config, and one that holds something is needed by others. What the config itself says is looked at besides.

use super::machine::{ShardMachine, ShardReply};
use super::migrate::ShardState;
use super::record::{
    Adopted, decode_config, load_adopted, load_config, load_tenures, save_config, save_tenures,
};
use crate::ctrler::Config;
use crate::mutants::MutantId;
use crate::proto::shardkv as pb;
use crate::raft::Position;
use crate::types::ConfigNum;
use crate::view::{Batch, View, ViewError};

impl ShardMachine {
    pub(super) fn adopt(
        &self,
        view: &dyn View,
        at: Position,
        adopt: &pb::Adopt,
        batch: &mut Batch,
    ) -> Result<ShardReply, ViewError> {
        let config = match decode_config(&adopt.config) {
            Ok(config) => config,
            Err(detail) => return Ok(ShardReply::Refused(detail)),
        };
        let adopted = load_adopted(view)?;
        if config.num <= adopted.config {
            return Ok(ShardReply::Adopted(adopted.config));
        }
        if config.num != adopted.config.next()
            && !self.mutants.is(MutantId::ShardkvSkipConfig)
            && let Err(detail) = self.may_skip_to(view, &adopted, &config, ConfigNum(adopt.oldest))?
        {
            return Ok(ShardReply::Refused(detail));
        }
        if adopted.shards != 0 && adopted.shards != config.shards.len() {
            let detail = format!("config {} is of another number of shards", config.num);
            return Ok(ShardReply::Refused(detail));
        }
        let mut changes = Batch::new();
        for (shard, placement) in config.placements() {
            let before = load_tenures(view, shard)?;
            if self.mutants.is(MutantId::ShardkvUnaffectedBlocked)
                && before.0.values().any(|tenure| tenure.state() != ShardState::Serving)
            {
                return Ok(ShardReply::Refused(format!("shard {shard} is on its way")));
            }
            let mut tenures = before.clone();
            if let Err(refusal) = tenures.adopt(shard, self.group, config.num, placement, at.index.0) {
                if self.mutants.is(MutantId::ShardkvSkipConfig) {
                    continue;
                }
                return Ok(ShardReply::Refused(refusal.0));
            }
            tenures.locate(&config);
            save_tenures(shard, &before, &tenures, &mut changes);
        }
        save_config(&config, &adopt.config, &mut changes);
        *batch = changes;
        Ok(ShardReply::Adopted(config.num))
    }

    /// Whether `config` may follow on the adopted one although others are in between; `oldest` is the oldest config
    /// that the controllers keep.
    fn may_skip_to(
        &self,
        view: &dyn View,
        adopted: &Adopted,
        config: &Config,
        oldest: ConfigNum,
    ) -> Result<Result<(), String>, ViewError> {
        let me = self.group;
        let (from, to) = (adopted.config, config.num);
        let detail = if to > oldest {
            "those in between are kept"
        } else if self.holds(view)? {
            "the group holds shards"
        } else if load_config(view)?.is_some_and(|before| before.groups.contains_key(&me)) {
            "the group was joined"
        } else if config.groups.contains_key(&me) {
            "the group was joined in between"
        } else if config.placements().any(|(_, placement)| {
            placement.source.is_some_and(|source| source.group == me && source.epoch > from)
        }) {
            "the group had a shard in between"
        } else {
            return Ok(Ok(()));
        };
        Ok(Err(format!("config {to} does not follow on config {from}, and {detail}")))
    }

    /// Whether the group owns a shard, or keeps data that another group has yet to fetch.
    pub(super) fn holds(&self, view: &dyn View) -> Result<bool, ViewError> {
        let mut holds = false;
        self.each_shard(view, |_, tenures| holds |= tenures.holds())?;
        Ok(holds)
    }
}
