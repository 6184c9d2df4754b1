//! The verdict on a history, with its evidence. The same history and options always give the same report, byte for byte,
//! unless a timeout is set.

use std::fmt;

use serde::Serialize;

/// Whether a history is linearizable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Some order of the operations explains all answers.
    Linearizable,
    /// No order does.
    Violation,
    /// The search gave up before it knew.
    Undecided,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Linearizable => "linearizable",
            Verdict::Violation => "violation",
            Verdict::Undecided => "undecided",
        })
    }
}

/// The part that an operation plays in the evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// No state explains its answer.
    Unplaceable,
    /// Together with the others it leaves no order.
    Conflict,
    /// It made a state that does not explain the answer.
    Before,
    /// It was open at the time: every order of these was tried, with the answers that came later.
    Concurrent,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Unplaceable => "unplaceable",
            Role::Conflict => "conflict",
            Role::Before => "before",
            Role::Concurrent => "concurrent",
        })
    }
}

/// An operation in the evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// Its part.
    pub role: Role,
    /// Who asked.
    pub process: u64,
    /// What was asked and answered, for people.
    pub operation: String,
    /// The line of its invocation; 0 if the history is not from a file.
    pub invoked_line: usize,
    /// The line of its return, unless its outcome is unknown.
    pub returned_line: Option<usize>,
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Evidence { role, process, operation, invoked_line, returned_line } = self;
        match returned_line {
            Some(returned) => {
                write!(f, "{role}: process {process}, {operation} (lines {invoked_line}-{returned})")
            }
            None => write!(f, "{role}: process {process}, {operation} (line {invoked_line}, never returned)"),
        }
    }
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The verdict.
    pub verdict: Verdict,
    /// Operations that were executed or may have been.
    pub operations: usize,
    /// How many of them have an unknown outcome.
    pub unknown: usize,
    /// Operations that certainly were not executed.
    pub failed: usize,
    /// Partitions, each checked by itself.
    pub partitions: usize,
    /// What the check cost, in steps of the search.
    pub steps: u64,
    /// The partition that the evidence is about, or that was not decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
    /// For a violation: so many operations of the partition returned before the first answer that nothing explains. Up to
    /// there the partition is linearizable. If finding it took too long it may be so a little longer, or this is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<usize>,
    /// For a violation: the states that explain everything before that answer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub states: Vec<String>,
    /// The operations that the reason is about.
    pub core: Vec<Evidence>,
    /// Why the verdict is not "linearizable".
    pub reason: Option<String>,
}

impl Report {
    /// Nothing is wrong with this.
    pub(crate) fn linearizable(
        operations: usize,
        unknown: usize,
        failed: usize,
        partitions: usize,
    ) -> Report {
        Report {
            verdict: Verdict::Linearizable,
            operations,
            unknown,
            failed,
            partitions,
            steps: 0,
            partition: None,
            prefix: None,
            states: Vec::new(),
            core: Vec::new(),
            reason: None,
        }
    }

    /// The reason and the evidence for people, each on a line of its own, with the line break before it; empty for a
    /// history that is linearizable.
    pub fn explanation(&self) -> String {
        let reason = self.reason.iter().cloned();
        let evidence = self.core.iter().map(Evidence::to_string);
        reason.chain(evidence).map(|line| format!("\n  {line}")).collect()
    }
}

/// The verdict and the numbers, on one line.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { verdict, operations, unknown, partitions, steps, .. } = self;
        write!(f, "{verdict}: {operations} operations ({unknown} of unknown outcome), ")?;
        write!(f, "{partitions} partitions, {steps} steps")
    }
}
