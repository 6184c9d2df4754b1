//! eraft: a sharded, strongly consistent key-value store whose code runs in two worlds.
//!
//! The pure modules ([`raft`], [`kv`]'s machine and sessions) know neither clock, nor randomness, nor disk. The
//! shell round them ([`replica`]) runs on tokio with LevelDB, or inside madsim with a seeded network, clock and disk.

pub mod addresses;
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
pub mod shardkv;
pub mod storage;
pub mod types;
pub mod view;

/// Generated from `proto/`: messages and services.
#[allow(missing_docs, clippy::all, rust_2018_idioms)]
pub mod proto {
    /// Raft's wire and disk formats.
    pub mod raft {
        tonic::include_proto!("eraft.raft.v1");
    }
    /// The key-value store's commands, records and client protocol.
    pub mod kv {
        tonic::include_proto!("eraft.kv.v1");
    }
    /// The configuration service's records.
    pub mod ctrler {
        tonic::include_proto!("eraft.ctrler.v1");
    }
    /// The sharded store's commands, records and what groups say to each other.
    pub mod shardkv {
        tonic::include_proto!("eraft.shardkv.v1");
    }
    /// What operators ask a node.
    pub mod admin {
        tonic::include_proto!("eraft.admin.v1");
    }
}
