//! The deterministic simulator of eraft: a whole cluster in one thread, with seeded faults.
//!
//! A [`scenario`] says what runs are made of; with a seed it becomes a [`schedule::Plan`]; the world runs the plan
//! inside madsim, and its oracles judge it. One (plan, seed) gives one digest, bit for bit.

pub mod artifact;
#[cfg(madsim)]
pub mod buggify;
#[cfg(madsim)]
pub mod cli;
pub mod core;
pub mod corpus;
pub mod coverage;
pub mod digest;
#[cfg(madsim)]
pub mod disk;
pub mod explain;
pub mod fuzz;
#[cfg(madsim)]
mod hints;
pub mod invariants;
#[cfg(madsim)]
mod judge;
pub mod model;
pub mod mutants;
#[cfg(madsim)]
pub mod net;
#[cfg(madsim)]
pub mod observer;
pub mod oracles;
pub mod outcome;
pub mod parallel;
#[cfg(madsim)]
mod phases;
pub mod places;
pub mod runner;
pub mod scenario;
pub mod schedule;
#[cfg(madsim)]
mod script;
pub mod shards;
pub mod shrink;
#[cfg(madsim)]
pub mod timing;
pub mod trace;
pub mod words;
#[cfg(madsim)]
pub mod workload;
#[cfg(madsim)]
pub mod world;
