//! The configuration service: which group serves which shard.
//!
//! A [`Config`] is one version of the placement. A [`Change`] makes the next one, by a pure function: every replica,
//! and everybody who asks "what if", finds the same. [`CtrlerMachine`] keeps the configs in a replicated log, which
//! only changes and reports enter: questions are answered by ReadIndex, so an idle cluster's log does not grow (eRaft's
//! grew with each question: B11).
//!
//! # How a group follows
//!
//! A group asks for the config after its own, and waits for it. It adopts every config in turn, and reports the number
//! that it has reached, and whether it holds anything: owns a shard, or keeps data that another group has yet to fetch.
//! Configs are kept for it from the one that joined it until it reports, at the latest config, that it is not joined
//! and holds nothing. So a group that is told that the next config is not kept any more held nothing when it said so
//! and got nothing since: it goes on with the oldest config that is kept. The same goes for a group that is new. The
//! group's machine takes neither the controllers' word alone nor its own (`shardkv/adopt.rs`).
//!
//! Groups that hold configs back cost memory only: a config has at most [`CONFIG_BYTES_MAX`] bytes.

mod change;
mod codec;
mod config;
mod machine;
mod rebalance;
mod records;
mod service;

#[cfg(test)]
mod change_tests;
#[cfg(test)]
mod machine_tests;
#[cfg(test)]
mod rebalance_tests;

pub use change::{Change, Refusal};
pub use codec::{decode_groups, encode_groups};
pub use config::{Config, Placement, SHARDS_DEFAULT, SHARDS_MAX, Source, shard_of};
pub use machine::{CtrlerAnswer, CtrlerMachine, CtrlerQuery, CtrlerReply};
pub use records::config_of_pair;

use crate::session::SessionLimits;

/// The largest config, encoded. It goes through the log of every group and is sent in one message.
pub const CONFIG_BYTES_MAX: usize = 1 << 20;

/// Configs that one entry may forget, so that none takes long.
pub const COMPACTED_PER_ENTRY_MAX: u64 = 64;

/// Part of the replicated function: the same on all members of the group, as [`crate::kv`] explains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CtrlerLimits {
    /// What holds of operators' sessions.
    pub sessions: SessionLimits,
    /// This many configs before the latest are kept for operators, even if no group needs them.
    pub history_configs: u64,
}

impl Default for CtrlerLimits {
    fn default() -> Self {
        Self { sessions: SessionLimits::default(), history_configs: 100 }
    }
}
