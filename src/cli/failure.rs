//! How a command fails: an exit code that scripts rely on, and one line that says what, where and what to do.

use std::process::ExitCode;

use crate::client::{Outcome, Refused};
use crate::node::NodeError;
use crate::replica::ReplicaError;
use crate::storage::StorageError;

/// The exit codes; the contract of every command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Code {
    /// Refused, or not found.
    Refused = 1,
    /// Wrong usage or malformed input.
    Usage = 2,
    /// Not available; certainly not executed.
    Unavailable = 3,
    /// It may have been executed, or may still be.
    Unknown = 4,
    /// Something is damaged or broken.
    Unhealthy = 5,
    /// An error of the tool itself.
    Internal = 70,
}

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(super) struct Failure {
    pub code: Code,
    /// One line; empty if everything has been said.
    pub message: String,
}

impl Failure {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::new(Code::Usage, message)
    }

    /// Prints the line and gives the exit code.
    pub(super) fn report(&self) -> ExitCode {
        use std::io::Write as _;
        if !self.message.is_empty() {
            // There is nobody to tell if standard error is closed.
            let _ = writeln!(std::io::stderr(), "eraft: {}", self.message.replace('\n', " "));
        }
        ExitCode::from(self.code as u8)
    }

    /// A usage error in clap's words, on one line.
    pub(super) fn from_clap(error: &clap::Error) -> Self {
        let text = error.render().to_string();
        let is_told = |line: &&str| !line.starts_with("Usage:") && !line.starts_with("For more information");
        let told = text.lines().take_while(is_told).map(str::trim);
        let told: Vec<_> = told.filter(|line| !line.is_empty()).collect();
        let told = told.join(" ").replace(" tip: ", "; ");
        let told = told.strip_prefix("error: ").unwrap_or(&told);
        Self::usage(format!("{told}; see --help"))
    }

    /// `action` on the system failed, such as reading a file.
    pub(super) fn from_io(action: impl std::fmt::Display, error: &std::io::Error) -> Self {
        Self::usage(format!("{action}: {error}"))
    }
}

/// What an operation gave, or how it failed; `what` names the operation, `look` says how to find out whether it was
/// executed.
pub(super) fn outcome<T>(what: &str, outcome: Outcome<T>, look: &str) -> Result<T, Failure> {
    match outcome {
        Outcome::Ok(value) => Ok(value),
        Outcome::Refused(Refused { unavailable: false, detail }) => {
            Err(Failure::new(Code::Refused, format!("{what}: refused: {detail}")))
        }
        Outcome::Refused(Refused { unavailable: true, detail }) => Err(Failure::new(
            Code::Unavailable,
            format!("{what}: not executed: {detail}; try `eraft status`, or a longer --timeout"),
        )),
        Outcome::Unknown(detail) => Err(Failure::new(
            Code::Unknown,
            format!(
                "{what}: outcome unknown: {detail}; it may have been executed, {look} before trying again"
            ),
        )),
    }
}

/// Why a node ended, in terms of its command line.
pub(super) fn from_node(error: &NodeError, directory: &std::path::Path) -> Failure {
    let directory = directory.display();
    match error {
        NodeError::Options(_) | NodeError::Limits(_) => Failure::usage(error.to_string()),
        NodeError::Identity(reason) => Failure::usage(format!(
            "data directory {directory}: {reason}; give the --id and --cluster-id that it was made with, or another --db"
        )),
        NodeError::Listen { .. } => Failure::new(
            Code::Unavailable,
            format!("{error}; stop what uses the address, or give another one in --cluster on all nodes"),
        ),
        NodeError::Replica(ReplicaError::Storage(StorageError::InUse { .. })) => Failure::new(
            Code::Unavailable,
            format!("data directory {directory}: {error}; stop that process or give another --db"),
        ),
        NodeError::Replica(reason) => Failure::new(
            Code::Unhealthy,
            format!("data directory {directory}: {reason}; this node acknowledges nothing any more"),
        ),
    }
}
