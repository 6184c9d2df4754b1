//! Runs one run in a thread of its own, and tells a panic of a node from one of the simulator.
//!
//! A fresh thread per run is part of determinism: thread-local state (hash seeds among it) starts anew each time.

use std::cell::RefCell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Once};

use crate::artifact::RunRequest;
use crate::explain::Stage;
use crate::outcome::Outcome;

/// The stack of a run's thread; deep futures of several nodes live on it.
const STACK_BYTES: usize = 8 << 20;
/// Panics in files below this are the simulator's own.
const OWN_SOURCES: &str = "sim/src/";

/// What a run is asked for besides its plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunOptions {
    /// Write the whole trace here.
    pub trace: Option<PathBuf>,
    /// Stop at this simulated time, in milliseconds; nothing is judged then that needs the end.
    pub until_ms: Option<u64>,
    /// Something that the seed does not decide, for the tests of the digest.
    pub leak: Option<Leak>,
    /// Filled with what happens, to explain it.
    pub stage: Option<Stage>,
}

/// A number from outside of the simulation. The clients of a run that has one wait for so many milliseconds before
/// they begin, as code would that iterates a hash map, reads a clock or draws a number behind the simulator's back.
#[derive(Clone)]
pub struct Leak(pub Arc<dyn Fn() -> u64 + Send + Sync>);

impl fmt::Debug for Leak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Leak")
    }
}

impl PartialEq for Leak {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Leak {}

/// A panic, as the hook saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Panicked {
    /// `file:line:column`.
    pub location: String,
    /// What it said.
    pub message: String,
}

/// The simulator itself failed. Never a finding about what was simulated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("internal error: {0}")]
pub struct Internal(pub String);

/// Runs a plan on the current thread. The world inside madsim is one; tests bring smaller ones.
pub type Simulate = fn(&RunRequest, &RunOptions) -> Result<Outcome, Internal>;

thread_local! {
    /// `Some(_)` while this thread runs code whose panics are caught here.
    static CAUGHT: RefCell<Option<Option<Panicked>>> = const { RefCell::new(None) };
}

/// What the current thread has used of a processor, in seconds; `None` where the system does not say.
///
/// Read from /proc: the simulator forbids the clock of a thread.
pub fn thread_core_seconds() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanos: u64 = text.split_whitespace().next()?.parse().ok()?;
    Some(nanos as f64 / 1e9)
}

/// The most memory that this process has had resident; `None` where the system does not say.
pub fn peak_memory_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes << 10)
}

/// Runs `request` in a new thread.
pub fn run(simulate: Simulate, request: &RunRequest, options: &RunOptions) -> Result<Outcome, Internal> {
    std::thread::scope(|scope| {
        let body = || {
            catch(|| simulate(request, options))
                .unwrap_or_else(|panic| Err(Internal(format!("{} at {}", panic.message, panic.location))))
        };
        let thread =
            std::thread::Builder::new().name(format!("seed {}", request.seed)).stack_size(STACK_BYTES);
        match thread.spawn_scoped(scope, body) {
            Ok(handle) => handle.join().unwrap_or_else(|_| Err(Internal("a run's thread died".to_owned()))),
            Err(error) => Err(Internal(format!("no thread for a run: {error}"))),
        }
    })
}

/// Runs `body`; a panic in it is not printed but returned.
pub fn catch<T>(body: impl FnOnce() -> T) -> Result<T, Panicked> {
    install_hook();
    let outer = CAUGHT.replace(Some(None));
    let result = catch_unwind(AssertUnwindSafe(body));
    let caught = CAUGHT.replace(outer).flatten();
    result.map_err(|_| {
        caught.unwrap_or(Panicked {
            location: "unknown".to_owned(),
            message: "a panic without a message".to_owned(),
        })
    })
}

impl Panicked {
    /// Did the simulator itself panic, and not what it simulates?
    pub fn is_own(&self) -> bool {
        self.location.starts_with(OWN_SOURCES) || self.location.contains(&format!("/{OWN_SOURCES}"))
    }
}

fn install_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let is_caught = CAUGHT.with_borrow_mut(|caught| match caught {
                None => false,
                Some(first) => {
                    // The first panic is the finding; others come from tearing the world down.
                    first.get_or_insert_with(|| Panicked {
                        location: info.location().map_or_else(|| "unknown".to_owned(), location_of),
                        message: message_of(info.payload()),
                    });
                    true
                }
            });
            if !is_caught {
                before(info);
            }
        }));
    });
}

/// The place of a panic, and if that is in the standard library (a thread that is refused) the place in other code that
/// led to it.
fn location_of(location: &std::panic::Location<'_>) -> String {
    let is_foreign = |place: &str| place.starts_with("/rustc/") || place.contains("/library/");
    let place = location.to_string();
    if !is_foreign(&place) {
        return place;
    }
    let trace = std::backtrace::Backtrace::force_capture().to_string();
    let mut frames = trace.lines().filter_map(|line| line.trim().strip_prefix("at "));
    match frames.find(|frame| !is_foreign(frame) && !frame.contains("src/runner.rs:")) {
        Some(caller) => format!("{place}, called from {caller}"),
        None => place,
    }
}

fn message_of(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without words".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_comes_back_with_its_words_and_place_and_the_next_one_too() {
        for number in 0..2 {
            let panic = catch(|| panic!("number {number}")).unwrap_err();
            assert_eq!(panic.message, format!("number {number}"));
            assert!(panic.location.contains("runner.rs"), "{}", panic.location);
            assert!(panic.is_own());
        }
        assert_eq!(catch(|| 7), Ok(7));
        assert!(!Panicked { location: "src/raft/log.rs:3:4".into(), message: String::new() }.is_own());
    }
}
