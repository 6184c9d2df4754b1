//! A sharded store of one process on loopback, in memory: three controllers and groups of three.
//!
//! - [`moves`]: shards go from group to group under load, with their sessions, and leave nothing behind.
#![cfg(not(madsim))]

mod cluster;
mod moves;
