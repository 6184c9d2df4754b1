//! The deterministic simulator of eraft: a whole cluster in one thread, with seeded faults.
//!
//! A [`scenario`] says what runs are made of; with a seed it becomes a [`schedule::Plan`]; the world runs the plan
//! inside madsim, and its oracles judge it. One (plan, seed) gives one digest, bit for bit.

pub mod artifact;
#[cfg(madsim)]
pub mod cli;
pub mod digest;
pub mod fuzz;
pub mod oracles;
pub mod outcome;
pub mod runner;
pub mod scenario;
pub mod schedule;
pub mod trace;
#[cfg(madsim)]
pub mod world;
