//! What a process needs round a node in the real world: signals, logs, the end at a panic, randomness.

pub mod logging;
pub mod panics;
pub mod shutdown;

use std::io;

use crate::buggify::Buggify;
use crate::random::Draws;
use crate::replica::Surroundings;
use crate::replica::link::Link;
use crate::replica::timers::Clock;

/// No faults, true time, and draws from the operating system's randomness: 128 bits of it, because client ids are
/// drawn from these and must never meet.
pub fn surroundings(purpose: &str) -> io::Result<Surroundings> {
    let word = || getrandom::u64().map_err(io::Error::from);
    let draws = Draws::new(word()?, &format!("{purpose} {:016x}", word()?));
    Ok(Surroundings { link: Link, clock: Clock::default(), draws, buggify: Buggify })
}
