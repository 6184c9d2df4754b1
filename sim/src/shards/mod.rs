//! The random scheduler over the pure machines of the sharded store: controllers, groups, clients and everything
//! between them, without a task, a clock or Raft, so hundreds of thousands of entries a second.
//!
//! Each seed is one run: its size and rates are drawn, what is under way is lost, repeated, late and out of order,
//! workers lose their memory, groups stop and come back, replicas that are asked are behind, operators change the
//! config and make mistakes. What a leader does is the shipped pure code ([`eraft::shardkv::due`], `Chore::question`,
//! `Chore::command`, [`eraft::shardkv::follow`]). After every entry the invariants are judged (`judge.rs`,
//! `placement.rs`, `clients.rs`); at the end everything heals, once with a group dead, and must be where it belongs.
//!
//! An entry is a step, so the order of the steps is the one order in which answers have to make sense: why comparing them
//! with a map is as good as a linearizability tester is said in [`crate::model::shards`].

pub mod clients;
pub mod cluster;
pub mod controllers;
pub mod group;
pub mod judge;
pub mod placement;
mod stats;
mod swarm;
mod world;

use std::collections::BTreeMap;

use serde::Serialize;

pub use stats::Stats;

use crate::core::seeds::{self, Searched};
use crate::core::{CoreViolation, Options, Verdict, verdict};
use crate::invariants::Violation;
use world::World;

/// What was run and what came of it.
#[derive(Clone, Debug, Serialize)]
pub struct ShardsReport {
    /// Runs.
    pub seeds: u64,
    /// Entries and reads, each judged by all invariants.
    pub steps: u64,
    /// Steps per wall-clock second, over all threads.
    pub steps_per_second: u64,
    /// What all threads took of their processors, in seconds.
    pub core_seconds: f64,
    /// What else happened, by name.
    pub counts: BTreeMap<&'static str, u64>,
    /// The smallest seed that failed.
    pub violation: Option<CoreViolation>,
    /// The outcome. Vacuous: something that should happen never did.
    pub verdict: Verdict,
}

/// Runs seeds until one fails or a bound is reached; `options.oracles` are of no concern here.
pub fn run(options: &Options) -> ShardsReport {
    let searched = seeds::search(options, |seed| {
        seeds::caught(seed, || {
            let mut world = World::new(seed, options.mutants);
            let result = world.run().and_then(|()| world.prove_liveness());
            let violation = result.map_err(|(oracle, message)| Violation {
                oracle: oracle.to_owned(),
                fingerprint: oracle.to_owned(),
                message,
            });
            (world.stats, violation)
        })
    });
    report(searched)
}

fn report(searched: Searched<Stats>) -> ShardsReport {
    let Searched { seeds, total, violation, elapsed, core_seconds } = searched;
    let mut counts = total.named();
    let verdict = verdict(violation.is_some(), seeds, &counts);
    counts.remove("steps");
    ShardsReport {
        seeds,
        steps: total.steps,
        steps_per_second: (total.steps as f64 / elapsed.as_secs_f64().max(1e-9)) as u64,
        core_seconds,
        counts,
        violation,
        verdict,
    }
}
