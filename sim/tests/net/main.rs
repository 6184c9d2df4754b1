//! The simulated network: each fault does what it says, nothing queues without bound, and a seed decides all of it.
#![cfg(madsim)]

mod breaks;
mod grpc;
mod messages;
mod support;
