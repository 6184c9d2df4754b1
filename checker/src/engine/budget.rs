//! What a search may cost. The number of steps and the memory are counted, not measured, so that the same history with
//! the same budget always ends the same way; only the deadline depends on the machine.

use std::time::Instant;

use crate::check::Engine;

/// The clock is read at the first of so many calls.
const CLOCK_PERIOD: u64 = 1024;

/// Why a search gave up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exhausted {
    Steps(u64),
    Memory(usize),
    Time,
    Open { open_max: usize },
}

impl std::fmt::Display for Exhausted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Exhausted::Steps(steps_max) => write!(f, "the budget of {steps_max} steps is spent"),
            Exhausted::Memory(bytes_max) => {
                write!(f, "the memory budget of {} MiB is spent", bytes_max >> 20)
            }
            Exhausted::Time => f.write_str("the time is up"),
            Exhausted::Open { open_max } => {
                write!(f, "more than {open_max} operations are open at the same time")
            }
        }
    }
}

/// What is asked of a partition, each with all before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wanted {
    Verdict,
    /// What makes it a violation.
    Reason,
    /// The order that explains it.
    Order,
}

pub(crate) struct Budget {
    pub(crate) steps: u64,
    pub(crate) steps_max: u64,
    pub(crate) memory_bytes_max: usize,
    pub(crate) deadline: Option<Instant>,
    /// Whether violations are confirmed without hints.
    pub(crate) confirm: bool,
    /// What is asked for; what is not asked for need not be paid.
    pub(crate) wanted: Wanted,
    pub(crate) engine: Engine,
    /// Whoever spends lets another search go on when so many steps are spent.
    pub(crate) pause_at: u64,
    /// What a search that waits keeps in memory.
    pub(crate) waiting_bytes: usize,
    calls: u64,
}

impl Budget {
    pub(crate) fn new(steps_max: u64, memory_bytes_max: usize, deadline: Option<Instant>) -> Budget {
        Budget {
            steps: 0,
            steps_max,
            memory_bytes_max,
            deadline,
            confirm: false,
            wanted: Wanted::Order,
            engine: Engine::Portfolio,
            pause_at: u64::MAX,
            waiting_bytes: 0,
            calls: 0,
        }
    }

    /// Accounts for `steps` more, with `bytes` of memory in use.
    pub(crate) fn spend(&mut self, steps: u64, bytes: usize) -> Result<(), Exhausted> {
        self.steps += steps;
        if self.steps > self.steps_max {
            return Err(Exhausted::Steps(self.steps_max));
        }
        if bytes.saturating_add(self.waiting_bytes) > self.memory_bytes_max {
            return Err(Exhausted::Memory(self.memory_bytes_max));
        }
        let look = self.calls.is_multiple_of(CLOCK_PERIOD);
        self.calls += 1;
        if look && self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(Exhausted::Time);
        }
        Ok(())
    }

    /// Whether it is another search's turn.
    pub(crate) fn is_others_turn(&self) -> bool {
        self.steps >= self.pause_at
    }
}
