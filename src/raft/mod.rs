//! The Raft core: a pure state machine.

mod effect;
mod election;
mod log;
mod membership;
mod message;
mod progress;
pub mod quorum;
mod raft;
mod read;
mod replication;
#[cfg(test)]
mod script;
mod snapshot;
mod writes;

pub use effect::{Base, Effect, HardState, Input, Persist, Refusal, RequestId, Timer, WriteId};
pub use log::{Log, LogError};
pub use membership::Membership;
pub use message::{Body, ENTRY_OVERHEAD_BYTES, Entry, Message, Payload, Position};
pub use progress::{Flow, Inflight, Progress, Window};
pub use raft::{Config, Leader, Raft, Role};
pub use read::Reads;
