//! What was acknowledged is durable: the built binary on real files, killed, cut off from power, and with a disk that
//! fails a sync.
//!
//! - [`kill`]: `kill -9` of all nodes under load, again and again.
//! - [`acknowledged`]: no acknowledgement before the sync of what it acknowledges.
//! - [`power`]: everything that no sync covered is lost.
//! - [`failure`]: a failed sync ends the node.
//! - [`damage`]: a damaged log is refused, a torn one is not.
//! - [`stream`]: a follower gets a large state back in bounded memory, and goes on where it was interrupted.
//!
//! A C shim that is preloaded into the nodes tells what they do to their files ([`shim`]); what follows from that is
//! judged by pure functions ([`disk`], [`cover`], [`ledger`]) that have tests of their own on made-up records.
//!
//! `DURABILITY_SEED` and `DURABILITY_ROUNDS` change the seed and the number of rounds of each test.
#![cfg(all(not(madsim), target_os = "linux"))]

mod acknowledged;
mod cluster;
mod cover;
mod damage;
mod disk;
mod failure;
mod kill;
mod ledger;
mod power;
mod records;
mod shim;
mod stream;
mod workload;

use std::future::Future;
use std::sync::{Mutex, PoisonError};

use eraft::random::Draws;

/// Delays and cuts are drawn from this unless the environment has another one.
const SEED: u64 = 20;

/// One cluster at a time: they are slow enough on a small machine.
static ONE: Mutex<()> = Mutex::new(());

/// Runs a test that starts processes. They are started by this thread, with whose end they end.
fn alone<T>(test: impl Future<Output = T>) -> T {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(test)
}

fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text}: not a number")))
}

/// The draws of one test; the seed is printed, and shown if the test fails.
fn draws(test: &str) -> Draws {
    let seed = from_environment("DURABILITY_SEED").unwrap_or(SEED);
    println!("{test}: DURABILITY_SEED={seed}");
    Draws::new(seed, test)
}

/// How many rounds a test makes: the environment's number, at most `default`.
fn rounds(default: u64) -> u64 {
    from_environment("DURABILITY_ROUNDS").map_or(default, |rounds| rounds.clamp(1, default))
}

/// CLOCK_MONOTONIC, which all processes of a machine share.
fn now_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is writable; the clock exists on every Linux.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    assert_eq!(result, 0, "the monotonic clock");
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}
