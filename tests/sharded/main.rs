//! A sharded store of one process on loopback, in memory: three controllers and groups of three.
//!
//! - [`moves`]: shards go from group to group under load, with their sessions, and leave nothing behind.
//! - `transfer`: a large shard moves between processes, in bounded memory.
//! - [`hung`]: whoever is asked and never answers costs its own shards alone, and no CPU.
//! - [`faults`]: a source that is gone, a group that comes back, a store that nobody uses.
#![cfg(not(madsim))]

mod cluster;
mod faults;
mod hung;
mod load;
mod moves;
#[cfg(target_os = "linux")]
mod transfer;
