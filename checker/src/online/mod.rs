//! Checking while the system runs, in bounded memory.
//!
//! Events are fed one by one, and the first answer that makes the history impossible is told: after
//! [`OnlineOptions::probe_every`] more operations at most, with the exact return. What is kept is a frontier for every
//! partition, the operations that are open, and those that are concurrent with them; it does not grow with the history,
//! except for writes of unknown outcome that nobody has seen: these may take effect at any later time.
//!
//! # How
//!
//! The search wants to know at an invocation how the operation will end: which open reads are legal, which twin returns
//! first. So events wait until every operation that was invoked before them has ended (they are *settled* then). To know
//! whether what has been seen so far is possible, the events that wait are handled too, what is open taken for an operation
//! of unknown outcome, and then all that is undone (a *probe*). If a probe fails, the first return that makes it fail is
//! found by halving, from what was settled at the last probe that did not fail: up to there no answer was used that came
//! later.
//!
//! A clone is a snapshot: it goes on from where the original stood, and does not touch it.

mod stream;

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use crate::check::MEMORY_BYTES_MAX_DEFAULT;
use crate::engine::breadth::Stop;
use crate::engine::budget::Budget;
use crate::history::{Misfit, Operation, Outcome, Position};
use crate::model::Model;
use crate::report::{Report, Verdict};
use stream::Stream;

/// Steps between two probes unless the caller says otherwise.
const STEPS_MAX_DEFAULT: u64 = 5_000_000;

/// Operations of a partition that end between two probes unless the caller says otherwise.
const PROBE_EVERY_DEFAULT: usize = 64;

/// So many events of a partition may wait for an operation that does not end.
const WAITING_EVENTS_MAX_DEFAULT: usize = 1 << 16;

/// What checking while the system runs may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnlineOptions {
    /// Steps of the search in each partition from one probe to the next.
    pub steps_max: u64,
    /// Memory of the search in each partition, estimated.
    pub memory_bytes_max: usize,
    /// Operations of a partition that end, after which it is known whether they are possible. 1 tells a violation at the very return;
    /// more costs less.
    pub probe_every: usize,
    /// Events of a partition that may wait for an operation that does not end: whoever records should give up on it
    /// ([`Online::info`]) long before.
    pub waiting_events_max: usize,
}

impl Default for OnlineOptions {
    fn default() -> OnlineOptions {
        OnlineOptions {
            steps_max: STEPS_MAX_DEFAULT,
            memory_bytes_max: MEMORY_BYTES_MAX_DEFAULT,
            probe_every: PROBE_EVERY_DEFAULT,
            waiting_events_max: WAITING_EVENTS_MAX_DEFAULT,
        }
    }
}

/// A check of a history that is still being recorded.
#[derive(Clone)]
pub struct Online<M: Model> {
    model: M,
    options: OnlineOptions,
    streams: Vec<Stream<M>>,
    numbers: FxHashMap<Option<M::Key>, usize>,
    /// What each process has open: the stream, the place there, and the line.
    open: BTreeMap<u64, (usize, u32, usize)>,
    events: usize,
    /// The streams in which something ended since [`Online::probe_all`], each once.
    unprobed: Vec<usize>,
    /// What is known so far.
    report: Report,
}

impl<M: Model> Online<M> {
    /// Nothing has happened yet.
    pub fn new(model: M, options: OnlineOptions) -> Self {
        Online {
            model,
            options,
            streams: Vec::new(),
            numbers: FxHashMap::default(),
            open: BTreeMap::new(),
            events: 0,
            unprobed: Vec::new(),
            report: Report::linearizable(0, 0, 0, 0),
        }
    }

    /// `process` asks for `op`; see [`HistoryBuilder::invoke`](crate::HistoryBuilder::invoke).
    pub fn invoke(
        &mut self,
        process: u64,
        op: M::Op,
        line: usize,
        time_ns: Option<u64>,
    ) -> Result<(), Misfit> {
        if let Some((.., line)) = self.open.get(&process) {
            return Err(Misfit::StillOpen { process, line: *line });
        }
        let key = self.model.key(&op);
        let number = match self.numbers.get(&key) {
            Some(number) => *number,
            None => self.add_stream(key),
        };
        let invoked = Position { event: self.next_event(), line, time_ns };
        let place = self.streams[number].invoke(Operation {
            process,
            op,
            invoked,
            outcome: Outcome::Unknown,
            index: None,
        });
        self.open.insert(process, (number, place, line));
        self.report.operations += 1;
        self.report.unknown += 1;
        Ok(())
    }

    /// `process` is answered. The report, if there is one, tells of the first violation, which this answer or one shortly
    /// before it is.
    pub fn ok(
        &mut self,
        process: u64,
        ret: M::Ret,
        line: usize,
        time_ns: Option<u64>,
    ) -> Result<Option<&Report>, Misfit> {
        let (number, place, _) = self.open.remove(&process).ok_or(Misfit::NothingOpen { process })?;
        let returned = Position { event: self.next_event(), line, time_ns };
        self.report.unknown -= 1;
        self.streams[number].end(place, Some(Outcome::Ok { ret, returned }), returned.event);
        self.probe_if_due(number);
        Ok(self.violation())
    }

    /// The open operation of `process` certainly was not executed. That may be a violation too: it may have been all that
    /// explained an answer.
    pub fn fail(&mut self, process: u64) -> Result<(), Misfit> {
        self.end(process, None)?;
        self.report.unknown -= 1;
        self.report.operations -= 1;
        self.report.failed += 1;
        Ok(())
    }

    /// Nobody will ever know the outcome of the open operation of `process`, which is free for another one.
    pub fn info(&mut self, process: u64) -> Result<(), Misfit> {
        self.end(process, Some(Outcome::Unknown))
    }

    fn end(&mut self, process: u64, outcome: Option<Outcome<M::Ret>>) -> Result<(), Misfit> {
        let (number, place, _) = self.open.remove(&process).ok_or(Misfit::NothingOpen { process })?;
        let event = self.next_event();
        self.streams[number].end(place, outcome, event);
        self.probe_if_due(number);
        Ok(())
    }

    fn probe_if_due(&mut self, number: usize) {
        if !std::mem::replace(&mut self.streams[number].queued, true) {
            self.unprobed.push(number);
        }
        if self.streams[number].ended >= self.options.probe_every.max(1) {
            self.probe(number);
        }
    }

    /// What `process` has open.
    pub fn open(&self, process: u64) -> Result<&M::Op, Misfit> {
        let (number, place, _) = self.open.get(&process).ok_or(Misfit::NothingOpen { process })?;
        self.streams[*number].open_op(*place).ok_or(Misfit::NothingOpen { process })
    }

    /// The violation, if one was found.
    pub fn violation(&self) -> Option<&Report> {
        Some(&self.report).filter(|report| report.verdict == Verdict::Violation)
    }

    /// What is known of everything that was fed. What is still open has an unknown outcome as yet.
    pub fn report(&mut self) -> &Report {
        for number in 0..self.streams.len() {
            self.probe(number);
        }
        &self.report
    }

    /// Asks now whether everything that was fed is possible, and says what is not.
    pub fn probe_all(&mut self) -> Option<&Report> {
        while let Some(number) = self.unprobed.pop() {
            let stream = &mut self.streams[number];
            stream.queued = false;
            if stream.ended > 0 {
                self.probe(number);
            }
        }
        self.violation()
    }

    fn next_event(&mut self) -> usize {
        self.events += 1;
        self.events - 1
    }

    fn add_stream(&mut self, key: Option<M::Key>) -> usize {
        let name =
            key.as_ref().map_or_else(|| "the whole history".to_owned(), |key| self.model.describe_key(key));
        if !self.numbers.is_empty() && (key.is_none() || self.numbers.contains_key(&None)) {
            self.give_up(
                &name,
                "an operation touches the whole object and others only a part: check the recorded history",
            );
        }
        self.streams.push(Stream::new(&self.model, name));
        self.numbers.insert(key, self.streams.len() - 1);
        self.report.partitions += 1;
        self.streams.len() - 1
    }

    fn give_up(&mut self, name: &str, reason: &str) {
        if self.report.verdict == Verdict::Linearizable {
            self.report.verdict = Verdict::Undecided;
            self.report.partition = Some(name.to_owned());
            self.report.reason = Some(format!("{name} is undecided: {reason}"));
        }
    }

    /// Whether what a stream has seen is possible. Once that is not known of one, nothing more is.
    fn probe(&mut self, number: usize) {
        if self.report.verdict == Verdict::Violation {
            return;
        }
        let mut budget = Budget::new(self.options.steps_max, self.options.memory_bytes_max, None);
        let stream = &mut self.streams[number];
        let probed = stream.probe(&mut budget);
        self.report.steps += budget.steps;
        if matches!(probed, Ok(None)) && stream.waits() <= self.options.waiting_events_max {
            return;
        }
        let name = stream.name.clone();
        match probed {
            Ok(None) => {
                let waiting = stream.waits();
                stream.frontier = None;
                self.give_up(&name, &format!("{waiting} events wait for an operation that does not end"));
            }
            Ok(Some(violation)) => violation.tell(&mut self.report, &self.model, name),
            Err(Stop::Exhausted(exhausted)) => self.give_up(&name, &exhausted.to_string()),
            Err(Stop::WrongHint | Stop::Full) => {
                self.give_up(&name, "a hint of the model is wrong: check the recorded history");
            }
        }
    }
}
