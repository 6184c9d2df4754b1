//! Everything that happened in a run, as a picture needs it.
//!
//! Times are simulated microseconds. Words are kept once and named by their numbers. Of a long run only the last part
//! keeps its messages and events; states, faults and what happened to processes are always whole.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use super::command::About;

/// Messages that a picture shows, at most; of more, the last ones.
const MESSAGES_MAX: usize = 30_000;
/// Events that a picture shows, at most.
const EVENTS_MAX: usize = 30_000;
/// Numbers of a state.
pub const STATE_NUMBERS: usize = 9;

/// Words by number.
#[derive(Clone, Debug, Default)]
pub struct Words {
    words: Vec<String>,
    places: BTreeMap<String, usize>,
}

impl Words {
    fn place(&mut self, word: &str) -> usize {
        if let Some(place) = self.places.get(word) {
            return *place;
        }
        self.words.push(word.to_owned());
        self.places.insert(word.to_owned(), self.words.len() - 1);
        self.words.len() - 1
    }

    /// All of them, by number.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.words.iter().map(String::as_str)
    }

    /// The word of this number.
    pub fn word(&self, place: usize) -> &str {
        self.words.get(place).map_or("", String::as_str)
    }
}

impl Serialize for Words {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.words.serialize(serializer)
    }
}

/// Something that happened in one place.
#[derive(Clone, Debug, Serialize)]
pub struct Happening {
    /// When.
    pub at: u64,
    /// Where: a number of `lanes`.
    pub lane: usize,
    /// A number of `kinds`.
    pub kind: usize,
    /// A number of `texts`.
    pub text: usize,
    /// The term that it is about, for the evidence.
    #[serde(skip)]
    pub term: u64,
    /// The first and last index that it is about.
    #[serde(skip)]
    pub indexes: (u64, u64),
    /// The shard and the config that it is about.
    #[serde(skip)]
    pub about: About,
}

/// A message.
#[derive(Clone, Debug, Serialize)]
pub struct Flight {
    /// When it left.
    pub sent: u64,
    /// When it arrived or was lost.
    pub ended: u64,
    /// From which lane.
    pub from: usize,
    /// To which lane.
    pub to: usize,
    /// A number of `kinds`: what it is.
    pub kind: usize,
    /// A number of `kinds`: what became of it.
    pub fate: usize,
    /// What it says.
    pub text: usize,
}

/// Something that lasts in some lanes.
#[derive(Clone, Debug, Serialize)]
pub struct Span {
    /// From.
    pub begin: u64,
    /// To; `None`: to the end.
    pub end: Option<u64>,
    /// Where.
    pub lanes: Vec<usize>,
    /// A number of `kinds`.
    pub kind: usize,
    /// What is written on it.
    pub text: usize,
    /// Its name among open ones.
    #[serde(skip)]
    name: String,
}

/// A node's numbers from a moment on: term, vote, role, leader, last index, last term, base, commit, applying.
pub type Sample = (u64, [u64; STATE_NUMBERS]);

/// Everything that happened.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Scene {
    /// Nodes and clients.
    pub lanes: Words,
    /// Kinds of things.
    pub kinds: Words,
    /// What things say.
    pub texts: Words,
    /// What happened in one place.
    pub happenings: Vec<Happening>,
    /// Messages, by the time they ended.
    pub flights: Vec<Flight>,
    /// Faults, downtimes, writes, operations: what lasts.
    pub spans: Vec<Span>,
    /// The states of each node.
    pub states: BTreeMap<usize, Vec<Sample>>,
    /// Messages and events before this are left out.
    pub whole_from: u64,
    /// The last moment.
    pub end: u64,
}

impl Scene {
    /// With these lanes first: nodes, then clients.
    pub fn new(lanes: impl IntoIterator<Item = String>) -> Self {
        let mut scene = Self::default();
        lanes.into_iter().for_each(|lane| _ = scene.lanes.place(&lane));
        scene
    }

    /// Something happened in `lane`.
    pub fn happened(&mut self, at: u64, lane: &str, kind: &str, text: &str, term: u64, indexes: (u64, u64)) {
        self.end = self.end.max(at);
        let happening = Happening {
            at,
            lane: self.lanes.place(lane),
            kind: self.kinds.place(kind),
            text: self.texts.place(text),
            term,
            indexes,
            about: About::default(),
        };
        self.happenings.push(happening);
    }

    /// What happened last is about this shard or config.
    pub fn is_about(&mut self, about: About) {
        if let Some(last) = self.happenings.last_mut() {
            last.about = about;
        }
    }

    /// A message ended.
    #[allow(clippy::too_many_arguments)] // what a message is
    pub fn message(
        &mut self,
        (sent, ended): (u64, u64),
        from: &str,
        to: &str,
        kind: &str,
        fate: &str,
        text: &str,
    ) {
        self.end = self.end.max(ended);
        let flight = Flight {
            sent,
            ended,
            from: self.lanes.place(from),
            to: self.lanes.place(to),
            kind: self.kinds.place(kind),
            fate: self.kinds.place(fate),
            text: self.texts.place(text),
        };
        self.flights.push(flight);
        // So far only the last ones are of interest, and a long run has millions.
        if self.flights.len() > 4 * MESSAGES_MAX {
            self.flights.drain(..2 * MESSAGES_MAX);
            self.whole_from = self.whole_from.max(self.flights.first().map_or(0, |flight| flight.ended));
        }
    }

    /// Something begins that lasts; `name` ends it.
    pub fn begin(&mut self, at: u64, lanes: &[&str], kind: &str, name: &str, text: &str) {
        self.end = self.end.max(at);
        let span = Span {
            begin: at,
            end: None,
            lanes: lanes.iter().map(|lane| self.lanes.place(lane)).collect(),
            kind: self.kinds.place(kind),
            text: self.texts.place(text),
            name: name.to_owned(),
        };
        self.spans.push(span);
    }

    /// Ends the last open span of this name.
    pub fn finish(&mut self, at: u64, name: &str, more: &str) {
        self.end = self.end.max(at);
        let Some(place) = self.spans.iter().rposition(|span| span.end.is_none() && span.name == name) else {
            return;
        };
        self.spans[place].end = Some(at);
        if !more.is_empty() {
            let text = format!("{}: {more}", self.texts.word(self.spans[place].text));
            self.spans[place].text = self.texts.place(&text);
        }
    }

    /// Is there an open span of this name?
    pub fn is_open(&self, name: &str) -> bool {
        self.spans.iter().rev().any(|span| span.end.is_none() && span.name == name)
    }

    /// The process of `lane` is gone, and with it the writes that nobody will hear of.
    pub fn lose_writes(&mut self, at: u64, lane: &str) {
        let (lane, kind) = (self.lanes.place(lane), self.kinds.place("write"));
        for span in self.spans.iter_mut().filter(|span| span.end.is_none() && span.kind == kind) {
            if span.lanes == [lane] {
                span.end = Some(at);
                let text = format!("{} (not completed)", self.texts.words[span.text]);
                span.text = self.texts.place(&text);
            }
        }
    }

    /// The state of `lane` from now on.
    pub fn state(&mut self, at: u64, lane: &str, numbers: [u64; STATE_NUMBERS]) {
        self.end = self.end.max(at);
        let lane = self.lanes.place(lane);
        let samples = self.states.entry(lane).or_default();
        match samples.last_mut() {
            Some((_, last)) if *last == numbers => {}
            Some((then, last)) if *then == at => *last = numbers,
            _ => samples.push((at, numbers)),
        }
    }

    /// The last state of `lane`.
    pub fn last_state(&mut self, lane: &str) -> Option<[u64; STATE_NUMBERS]> {
        let lane = self.lanes.place(lane);
        self.states.get(&lane)?.last().map(|(_, numbers)| *numbers)
    }

    /// Leaves out what is too much for a picture.
    pub fn trim(&mut self) {
        let mut from = self.whole_from;
        if self.flights.len() > MESSAGES_MAX {
            from = from.max(self.flights[self.flights.len() - MESSAGES_MAX].ended);
        }
        if self.happenings.len() > EVENTS_MAX {
            from = from.max(self.happenings[self.happenings.len() - EVENTS_MAX].at);
        }
        self.whole_from = from;
        self.flights.retain(|flight| flight.ended >= from);
        self.happenings.retain(|happening| happening.at >= from);
    }
}

/// A scene that a run fills and its caller reads.
#[derive(Clone, Debug, Default)]
pub struct Stage(Arc<Mutex<Scene>>);

impl Stage {
    /// An empty one.
    pub fn new(scene: Scene) -> Self {
        Self(Arc::new(Mutex::new(scene)))
    }

    /// The scene.
    pub fn lock(&self) -> MutexGuard<'_, Scene> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PartialEq for Stage {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Stage {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_end_by_name_and_states_are_kept_when_they_change() {
        let mut scene = Scene::new(["n1", "n2", "c1"].map(str::to_owned));
        scene.begin(5, &["n2"], "write", "n2 write 1", "entries 1..2");
        scene.begin(6, &["n2"], "write", "n2 write 2", "entries 3..3");
        scene.finish(9, "n2 write 1", "");
        scene.finish(9, "nothing of this name", "");
        assert_eq!((scene.spans[0].end, scene.spans[1].end), (Some(9), None));
        for at in [1, 2, 3] {
            scene.state(at, "n1", [1; STATE_NUMBERS]);
        }
        scene.state(4, "n1", [2; STATE_NUMBERS]);
        assert_eq!(scene.states[&0].len(), 2);
        assert_eq!(scene.last_state("n1"), Some([2; STATE_NUMBERS]));
        assert_eq!(
            (0..3).map(|lane| scene.lanes.word(lane).to_owned()).collect::<Vec<_>>(),
            ["n1", "n2", "c1"]
        );
    }

    #[test]
    fn a_long_run_keeps_its_end_and_says_from_when() {
        let mut scene = Scene::new(["n1", "n2"].map(str::to_owned));
        for at in 0..200_000 {
            scene.message((at, at + 1), "n1", "n2", "append", "delivered", "x");
            scene.happened(at, "n1", "commit", "x", 0, (0, 0));
        }
        scene.trim();
        assert!(scene.flights.len() <= MESSAGES_MAX && scene.happenings.len() <= EVENTS_MAX);
        assert!(scene.flights.iter().all(|flight| flight.ended >= scene.whole_from) && scene.whole_from > 0);
        assert_eq!(scene.flights.last().map(|flight| flight.ended), Some(200_000));
    }
}
