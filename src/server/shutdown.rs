//! SIGTERM and SIGINT: the first asks the process to stop in order, the second ends it at once.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::panics::exit_now;

/// Both signals, caught from the moment this exists.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Starts to catch the signals. Needs a runtime.
    pub fn catch() -> io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        Ok(Self { terminate, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next signal; its number.
    pub async fn next(&mut self) -> i32 {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => libc::SIGTERM,
            _ = self.interrupt.recv() => libc::SIGINT,
        }
    }

    /// Waits for the first signal. From then on, the next one ends the process as if it had not been caught.
    pub async fn first(mut self) -> i32 {
        let first = self.next().await;
        self.end_at_next();
        first
    }

    /// The next signal ends the process as if it had not been caught. Needs a runtime.
    pub fn end_at_next(mut self) {
        tokio::spawn(async move {
            let signal = self.next().await;
            exit_now(128 + signal);
        });
    }
}
