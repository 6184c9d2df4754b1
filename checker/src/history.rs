//! A history: what every process asked, when, and what it was told.
//!
//! Invariants:
//! - time is the order of the events: one operation precedes another if it returned at an earlier event than the other
//!   was invoked. Intervals are closed, times in nanoseconds are only shown;
//! - a process has at most one open operation, except that one whose outcome stays unknown is left behind, open for ever;
//! - an operation that certainly was not executed is not in the history.

use std::collections::BTreeMap;

/// Where an event stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The number of the event in the history; no two events have the same.
    pub event: usize,
    /// The line that the event was read from, counted from 1; 0 if it was not read from a file.
    pub line: usize,
    /// The recorder's clock, in nanoseconds.
    pub time_ns: Option<u64>,
}

/// What is known of an operation's result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<R> {
    /// It returned this.
    Ok {
        /// The answer.
        ret: R,
        /// When the answer came.
        returned: Position,
    },
    /// It may take effect at any time after its invocation, or never.
    Unknown,
}

/// One operation of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation<O, R> {
    /// Who asked.
    pub process: u64,
    /// What was asked.
    pub op: O,
    /// When it was asked.
    pub invoked: Position,
    /// What came back.
    pub outcome: Outcome<R>,
    /// The log index at which it took effect, if the system told: a hint, never trusted. An operation whose outcome
    /// no client learned may have one too, if somebody looked into the log.
    pub index: Option<u64>,
}

impl<O, R> Operation<O, R> {
    /// The answer, if there is one.
    pub fn ret(&self) -> Option<&R> {
        match &self.outcome {
            Outcome::Ok { ret, .. } => Some(ret),
            Outcome::Unknown => None,
        }
    }

    /// When the answer came, if it came.
    pub fn returned(&self) -> Option<Position> {
        match &self.outcome {
            Outcome::Ok { returned, .. } => Some(*returned),
            Outcome::Unknown => None,
        }
    }
}

/// A line of the file that is not an operation, kept for whoever draws the history.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    /// The number of events before it.
    pub event: usize,
    /// The line that it was read from.
    pub line: usize,
    /// The whole note.
    pub content: serde_json::Value,
}

/// A complete history, operations in the order of their invocations.
#[derive(Clone, Debug, PartialEq)]
pub struct History<O, R> {
    /// The operations that were executed or may have been.
    pub operations: Vec<Operation<O, R>>,
    /// How many operations certainly were not executed.
    pub failed: usize,
    /// The annotations.
    pub notes: Vec<Note>,
}

/// An event that does not fit the events before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// The process has an open operation already.
    #[error(
        "process {process} invokes an operation, but the one that it invoked at line {line} is still open"
    )]
    StillOpen {
        /// The process.
        process: u64,
        /// Where it invoked the open operation.
        line: usize,
    },
    /// The process has no open operation.
    #[error("process {process} completes an operation, but it has none open")]
    NothingOpen {
        /// The process.
        process: u64,
    },
}

/// Puts a history together, event by event.
#[derive(Debug)]
pub struct HistoryBuilder<O, R> {
    /// `None` in the place of an operation that failed.
    operations: Vec<Option<Operation<O, R>>>,
    /// The open operation of each process.
    open: BTreeMap<u64, usize>,
    events: usize,
    failed: usize,
    notes: Vec<Note>,
}

impl<O, R> Default for HistoryBuilder<O, R> {
    fn default() -> Self {
        HistoryBuilder {
            operations: Vec::new(),
            open: BTreeMap::new(),
            events: 0,
            failed: 0,
            notes: Vec::new(),
        }
    }
}

impl<O, R> HistoryBuilder<O, R> {
    /// A history without events.
    pub fn new() -> Self {
        Self::default()
    }

    fn position(&mut self, line: usize, time_ns: Option<u64>) -> Position {
        self.events += 1;
        Position { event: self.events - 1, line, time_ns }
    }

    fn close(&mut self, process: u64) -> Result<usize, Misfit> {
        self.open.remove(&process).ok_or(Misfit::NothingOpen { process })
    }

    /// What `process` has open.
    pub fn open(&self, process: u64) -> Result<&O, Misfit> {
        let slot = self.open.get(&process).ok_or(Misfit::NothingOpen { process })?;
        let operation = self.operations[*slot].as_ref().expect("an open operation has not failed");
        Ok(&operation.op)
    }

    /// `process` asks for `op`.
    pub fn invoke(&mut self, process: u64, op: O, line: usize, time_ns: Option<u64>) -> Result<(), Misfit> {
        if let Some(slot) = self.open.get(&process) {
            let line = self.operations[*slot].as_ref().map_or(0, |operation| operation.invoked.line);
            return Err(Misfit::StillOpen { process, line });
        }
        let invoked = self.position(line, time_ns);
        self.open.insert(process, self.operations.len());
        self.operations.push(Some(Operation {
            process,
            op,
            invoked,
            outcome: Outcome::Unknown,
            index: None,
        }));
        Ok(())
    }

    /// `process` is answered; `index` is the log index at which the operation took effect, if that is known.
    pub fn ok(
        &mut self,
        process: u64,
        ret: R,
        index: Option<u64>,
        line: usize,
        time_ns: Option<u64>,
    ) -> Result<(), Misfit> {
        let slot = self.close(process)?;
        let returned = self.position(line, time_ns);
        if let Some(operation) = &mut self.operations[slot] {
            operation.outcome = Outcome::Ok { ret, returned };
            operation.index = index;
        }
        Ok(())
    }

    /// The open operation of `process` certainly was not executed.
    pub fn fail(&mut self, process: u64) -> Result<(), Misfit> {
        let slot = self.close(process)?;
        self.operations[slot] = None;
        self.events += 1;
        self.failed += 1;
        Ok(())
    }

    /// The system says that the open operation of `process`, whatever its outcome, took effect at this log index.
    pub fn took_effect_at(&mut self, process: u64, index: u64) -> Result<(), Misfit> {
        let slot = self.open.get(&process).ok_or(Misfit::NothingOpen { process })?;
        if let Some(operation) = &mut self.operations[*slot] {
            operation.index = Some(index);
        }
        Ok(())
    }

    /// Nobody will ever know the outcome of the open operation of `process`, which is free for another one.
    pub fn info(&mut self, process: u64) -> Result<(), Misfit> {
        self.close(process)?;
        self.events += 1;
        Ok(())
    }

    /// An annotation.
    pub fn note(&mut self, line: usize, content: serde_json::Value) {
        self.notes.push(Note { event: self.events, line, content });
    }

    /// The history. What is still open has an unknown outcome.
    pub fn finish(self) -> History<O, R> {
        History {
            operations: self.operations.into_iter().flatten().collect(),
            failed: self.failed,
            notes: self.notes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_may_go_on_after_an_unknown_outcome_only() {
        let mut builder = HistoryBuilder::<&str, u8>::new();
        builder.invoke(1, "a", 1, None).unwrap();
        assert_eq!(builder.invoke(1, "b", 2, None), Err(Misfit::StillOpen { process: 1, line: 1 }));
        builder.info(1).unwrap();
        builder.invoke(1, "b", 3, None).unwrap();
        builder.ok(1, 7, None, 4, None).unwrap();
        assert_eq!(builder.ok(1, 7, None, 5, None), Err(Misfit::NothingOpen { process: 1 }));
        let history = builder.finish();
        assert_eq!(history.operations[0].outcome, Outcome::Unknown);
        assert_eq!(history.operations[1].ret(), Some(&7));
    }

    #[test]
    fn what_failed_is_not_there_and_what_is_open_is_unknown() {
        let mut builder = HistoryBuilder::<&str, u8>::new();
        builder.invoke(1, "a", 1, None).unwrap();
        builder.invoke(2, "b", 2, None).unwrap();
        builder.fail(1).unwrap();
        let history = builder.finish();
        assert_eq!((history.operations.len(), history.failed), (1, 1));
        assert_eq!(history.operations[0].outcome, Outcome::Unknown);
        assert_eq!(history.operations[0].invoked.event, 1);
    }
}
