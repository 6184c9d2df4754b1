//! What a disk does wrong on request, and the count of what it did.

use std::collections::BTreeMap;

use eraft::random::Draw;

/// When operations fail.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Failure {
    /// Not at all.
    #[default]
    Never,
    /// The next so many.
    Next(u32),
    /// Each with this probability.
    Chance(f64),
}

impl Failure {
    /// Does the operation of this `draw` fail? Takes one value from the draw, whatever the answer.
    pub(super) fn strikes(&mut self, draw: &mut Draw) -> bool {
        let probability = if let Self::Chance(probability) = self { *probability } else { 0.0 };
        let by_chance = draw.chance(probability);
        match self {
            Self::Next(left) if *left > 0 => {
                *left -= 1;
                true
            }
            _ => by_chance,
        }
    }
}

/// What is wrong with one store or file, or with everything on the device.
#[derive(Clone, Debug, Default)]
pub(super) struct Wrong {
    pub(super) writes: Failure,
    pub(super) reads: Failure,
    pub(super) full: bool,
}

/// All that is wrong with a device: by store or file, and under `None` with the whole device.
pub(super) type Wrongs = BTreeMap<Option<String>, Wrong>;

/// How often each fault was *met by an operation*, and what deaths did to the operations in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskCounters {
    /// Writes that completed.
    pub writes: u64,
    /// Operations that a slow device served.
    pub slow: u64,
    /// Operations that a stalled device kept waiting.
    pub stalled: u64,
    /// Writes that failed with an I/O error.
    pub write_errors: u64,
    /// Writes that found the device full.
    pub full: u64,
    /// Reads that failed.
    pub read_errors: u64,
    /// Stores that were found damaged when they were opened.
    pub damaged: u64,
    /// Reads of values that had rotted.
    pub rotten: u64,
    /// Unacknowledged writes that a death lost whole.
    pub lost: u64,
    /// Unacknowledged writes that a power loss tore; the next open dropped them.
    pub torn: u64,
    /// Unacknowledged writes that outlived a death.
    pub survived: u64,
    /// Deaths of the process.
    pub process_deaths: u64,
    /// Losses of power.
    pub power_losses: u64,
}

impl DiskCounters {
    /// Adds `other`'s counts, for the sum over several devices.
    pub fn add(&mut self, other: &Self) {
        self.writes += other.writes;
        self.slow += other.slow;
        self.stalled += other.stalled;
        self.write_errors += other.write_errors;
        self.full += other.full;
        self.read_errors += other.read_errors;
        self.damaged += other.damaged;
        self.rotten += other.rotten;
        self.lost += other.lost;
        self.torn += other.torn;
        self.survived += other.survived;
        self.process_deaths += other.process_deaths;
        self.power_losses += other.power_losses;
    }
}
