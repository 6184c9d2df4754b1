//! What a run leaves behind when asked: its events, and what its clients saw.

use std::path::PathBuf;

use clap::Args;

use super::Failure;
use crate::outcome::Outcome;

#[derive(Debug, Args)]
pub(super) struct Records {
    /// Write every event to this file.
    #[arg(long, value_name = "FILE", env = "ERAFT_TRACE")]
    pub(super) trace: Option<PathBuf>,
    /// Write what the clients asked and were told to this file, for eraft-check.
    #[arg(long, value_name = "FILE", env = "ERAFT_HISTORY")]
    history: Option<PathBuf>,
}

impl Records {
    /// Writes the history of a run that is over.
    pub(super) fn write_history(&self, outcome: &Outcome) -> Result<(), Failure> {
        let Some(path) = &self.history else { return Ok(()) };
        std::fs::write(path, &outcome.history)
            .map_err(|error| Failure::usage(format!("{}: cannot be written: {error}", path.display())))
    }
}
