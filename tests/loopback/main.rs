//! Nodes of one process on loopback, most of them in memory: the shell end to end.
//!
//! - [`serve`]: three nodes serve and agree; calls by themselves.
//! - [`client`]: how a client treats the nodes.
//! - [`snapshot`]: a follower that has lost everything, with a crash at each step of getting it back.
//! - [`rebuild`]: a follower whose state is damaged, on LevelDB.
//! - [`quiet`]: what a cluster does that nobody uses, and what a dead peer costs.
#![cfg(not(madsim))]

mod client;
mod nodes;
mod quiet;
mod rebuild;
mod serve;
mod snapshot;
mod volume;
