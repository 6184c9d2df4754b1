//! eraft: a sharded, strongly consistent key-value store whose code runs in two worlds.
//!
//! The pure modules ([`raft`], [`kv`]'s machine and sessions) know neither clock, nor randomness, nor disk. The
//! shell round them ([`replica`]) runs on tokio with LevelDB, or inside madsim with a seeded network, clock and disk.

pub mod addresses;
pub mod buggify;
#[cfg(not(madsim))]
pub mod cli;
pub mod client;
pub mod ctrler;
pub mod history;
pub mod kv;
pub mod machine;
pub mod mutants;
pub mod node;
pub mod observe;
pub mod raft;
pub mod random;
pub mod replica;
#[cfg(not(madsim))]
pub mod server;
pub mod service;
pub mod session;
pub mod shardkv;
pub mod storage;
pub mod types;
pub mod view;

/// Generated from `proto/`: messages and services.
#[allow(missing_docs, clippy::all, rust_2018_idioms)]
pub mod proto {
    /// One package; the generated code names others by their path, so it has their depth.
    macro_rules! package {
        ($(#[$doc:meta])* $name:ident = $package:literal) => {
            $(#[$doc])*
            pub mod $name {
                pub use v1::*;
                pub mod v1 {
                    tonic::include_proto!($package);
                }
            }
        };
    }

    package!(
        /// Raft's wire and disk formats.
        raft = "eraft.raft.v1"
    );
    package!(
        /// The key-value store's commands and records, and the client protocol of all services.
        kv = "eraft.kv.v1"
    );
    package!(
        /// The configuration service's commands and records.
        ctrler = "eraft.ctrler.v1"
    );
    package!(
        /// The sharded store's commands, records and what groups say to each other.
        shardkv = "eraft.shardkv.v1"
    );
    package!(
        /// What operators ask a node.
        admin = "eraft.admin.v1"
    );
}
