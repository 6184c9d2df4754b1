//! The sharded store: a group that serves some shards of the key space, and hands them over while it does.
//!
//! A config ([`crate::ctrler::Config`]) says which group owns which shard. A group adopts the configs one by one, each
//! as soon as it has the one before; what follows from a config is done **per shard** (`migrate.rs`): the new owner
//! pulls the data from the old one, chunk by chunk, and serves the shard once the last chunk is committed; then it
//! tells the old owner, which deletes its copy step by step. All of this goes through the logs of the two groups, so
//! crashes, new leaders, lost and repeated messages change nothing but the time it takes.
//!
//! [`ShardMachine`] runs [`crate::kv`]'s machine once per shard, over that shard's part of the keys. A shard's
//! sessions and their table are among its pairs, so they travel with it: a retry that lands on the new owner gets the
//! reply that the old one gave.
//!
//! # Keys in the state store
//!
//! | key | value |
//! |---|---|
//! | `0x00 …` | the driver's own records |
//! | `n` | [`proto::shardkv::Adopted`](crate::proto::shardkv::Adopted): the number of the adopted config, and of shards |
//! | `c` | the adopted config |
//! | `h/` shard | [`proto::shardkv::Tenures`](crate::proto::shardkv::Tenures) |
//! | `d/` shard, born, then a key of [`crate::kv`] | that shard's values, sessions and table |
//!
//! A shard is 2 bytes, the config that brought it here (`born`) 8, both big endian. So what a group has of one shard
//! from one time is exactly one range, and deleting it touches neither a neighbour (eRaft's did: B1) nor the same shard
//! that came back meanwhile.
//!
//! # Positions
//!
//! A shard's entries are counted on from owner to owner: a tenure's `offset` turns indexes of the group's log into
//! positions of the shard. Sessions, which are evicted by position and time, and the indexes that clients are told
//! thus grow monotonously wherever the shard goes.

mod adopt;
mod chunk;
mod errand;
mod follow;
mod machine;
mod migrate;
mod node;
mod query;
mod record;
mod service;
mod worker;

#[cfg(test)]
mod adopt_tests;
#[cfg(test)]
mod machine_tests;
#[cfg(test)]
mod migrate_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod service_tests;
#[cfg(test)]
mod testing;

pub use chunk::CHUNK_LIMIT;
pub use errand::{Answered, Chores, Errand, Question, due};
pub use follow::{Follow, adopt, follow};
pub use machine::{DELETE_BYTES_MAX, DELETE_PAIRS_MAX, ShardMachine, ShardReply};
pub use migrate::{Chore, Next, NotServed, Reign, ShardState, Stage, Tenure, Tenures};
pub use node::{GroupOptions, serve};
pub use query::{Held, Pulled, ShardAnswer, ShardQuery};
pub use record::data_of_key;
pub use worker::MigrationOptions;
