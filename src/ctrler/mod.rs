//! The configuration service: which group serves which shard.
//!
//! A [`Config`] is one version of the placement. A [`Change`] makes the next one, by a pure function: every replica,
//! and everybody who asks "what if", finds the same.

mod change;
mod codec;
mod config;
mod rebalance;

#[cfg(test)]
mod change_tests;
#[cfg(test)]
mod rebalance_tests;

pub use change::{Change, Refusal};
pub use codec::{decode_groups, encode_groups};
pub use config::{Config, Placement, SHARDS_DEFAULT, SHARDS_MAX, Source, shard_of};
