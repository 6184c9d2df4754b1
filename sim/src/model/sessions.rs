//! A model of client sessions over the shipped key-value machine: requests are repeated, reordered and lost, replies
//! too, sessions are evicted while their clients still write.
//!
//! The log is a sequence of commands in the order in which requests arrive at it; that it is one sequence is the
//! business of the other models. A request that never arrives is lost; one that stays under way arrives again.

use std::collections::{BTreeMap, BTreeSet};

use eraft::kv::{KvLimits, KvMachine};
use eraft::machine::StateMachine;
use eraft::mutants::Mutants;
use eraft::proto::kv::mutation::Operation;
use eraft::proto::kv::{self as pb, RefusedReason};
use eraft::raft::Position;
use eraft::session::{Reply as Answer, SessionLimits};
use eraft::types::{Index, Term};
use prost::Message as _;
use stateright::{Model, Property};

use super::shared::Shared;
use super::{Brake, Spec};

/// The key that mutations append to.
const APPENDED: &[u8] = b"a";
/// The key that the first mutation of each client tries to take.
const TAKEN: &[u8] = b"c";

/// A model: its clients and how far they go.
#[derive(Clone, Debug)]
pub struct Sessions {
    /// Its name.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// Clients, each with a session of its own.
    pub clients: u64,
    /// Mutations of each client.
    pub sequences: u64,
    /// Requests that arrive and stay under way.
    pub duplicates: u8,
    /// How far the proposers' clocks go.
    pub time_max: u64,
    /// Bounds of the machine.
    pub limits: KvLimits,
    /// What has to be reached.
    pub reaches: &'static [&'static str],
    /// The planted bug, if any.
    pub mutants: Mutants,
    /// Ends it early.
    pub brake: Brake,
}

/// One client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Client {
    asked: bool,
    open: bool,
    expired: bool,
    /// The last number that it used.
    last: u64,
    answered: BTreeSet<u64>,
}

impl Client {
    fn acknowledged_below(&self) -> u64 {
        (1..=self.last).find(|sequence| !self.answered.contains(sequence)).unwrap_or(self.last + 1)
    }
}

/// A request under way; sequence 0 opens the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Request {
    client: u64,
    sequence: u64,
    acknowledged_below: u64,
}

/// What a reply says.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Says {
    Opened,
    /// The result, encoded.
    Result(Vec<u8>),
    Refused(i32),
}

/// A reply under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reply {
    client: u64,
    sequence: u64,
    says: Says,
    /// The request had been executed before.
    again: bool,
}

/// A state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    view: Shared<BTreeMap<Vec<u8>, Vec<u8>>>,
    applied: u64,
    time_ms: u64,
    clients: Vec<Client>,
    requests: BTreeSet<Request>,
    replies: BTreeSet<Reply>,
    duplicates: u8,
    /// The first result of each number.
    results: BTreeMap<(u64, u64), Vec<u8>>,
    broken: Option<(&'static str, String)>,
}

/// What may happen next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A client opens its session.
    Open(u64),
    /// A client sends its next mutation.
    Send(u64),
    /// A client sends an unanswered mutation again.
    Retry(u64, u64),
    /// A request is committed and applied; it may arrive once more if it `stays`.
    Apply {
        /// Which.
        request: Request,
        /// It stays under way.
        stays: bool,
    },
    /// A reply arrives.
    Receive(Reply),
    /// The proposers' clocks go on.
    Tick,
}

/// Does it hold in this state?
type Holds = fn(&Sessions, &State) -> bool;

/// What is judged.
const ORACLES: [(&str, Holds); 2] = [
    ("kv.exactly_once", |_, state| {
        state.broken.as_ref().is_none_or(|(oracle, _)| *oracle != "kv.exactly_once")
    }),
    ("kv.sessions_bounded", |_, state| {
        state.broken.as_ref().is_none_or(|(oracle, _)| *oracle != "kv.sessions_bounded")
    }),
];

/// What can be reached.
const REACHED: [(&str, Holds); 6] = [
    ("a retry gets the first reply", |_, state| {
        state.replies.iter().any(|reply| reply.again && matches!(reply.says, Says::Result(_)))
    }),
    ("a number is stale", |_, state| state.refuses(RefusedReason::RefusedStaleSequence)),
    ("a number is above the window", |_, state| state.refuses(RefusedReason::RefusedAboveWindow)),
    ("a session has expired", |_, state| state.refuses(RefusedReason::RefusedSessionExpired)),
    ("an evicted client's request comes again", |_, state| {
        let expired = Says::Refused(RefusedReason::RefusedSessionExpired.into());
        state.replies.iter().any(|reply| reply.again && reply.says == expired)
    }),
    ("no session is free", |_, state| state.refuses(RefusedReason::RefusedSessionsFull)),
];

impl State {
    fn refuses(&self, reason: RefusedReason) -> bool {
        self.replies.iter().any(|reply| reply.says == Says::Refused(reason.into()))
    }

    fn break_with(&mut self, oracle: &'static str, message: String) {
        self.broken.get_or_insert((oracle, message));
    }
}

impl Sessions {
    fn command(&self, request: &Request, time_ms: u64) -> Vec<u8> {
        let client = Some(pb::ClientId { high: 0, low: request.client });
        let token = vec![token(request.client, request.sequence)];
        let operation = match request.sequence {
            0 => pb::command::Operation::OpenSession(pb::OpenSession { client }),
            sequence => {
                let operation = if sequence == 1 {
                    Operation::Cas(pb::Cas { key: TAKEN.into(), expected: None, new: token.into() })
                } else {
                    Operation::Append(pb::Append { key: APPENDED.into(), value: token.into() })
                };
                pb::command::Operation::Execute(pb::Execute {
                    client,
                    sequence,
                    acknowledged_below: request.acknowledged_below,
                    mutation: Some(pb::Mutation { operation: Some(operation) }),
                })
            }
        };
        pb::Command { time_ms, limits: None, operation: Some(operation) }.encode_to_vec()
    }

    fn apply(&self, state: &mut State, request: Request) {
        let machine = KvMachine::new(self.limits, self.mutants).expect("the model's limits are valid");
        state.applied += 1;
        let at = Position { index: Index(state.applied), term: Term(1) };
        let command = self.command(&request, state.time_ms);
        let (batch, reply) = match machine.apply(&*state.view, at, &command) {
            Ok(applied) => applied,
            Err(error) => return state.break_with("kv.exactly_once", error.to_string()),
        };
        let mut view = BTreeMap::clone(&state.view);
        for (key, value) in batch.writes {
            match value {
                Some(value) => drop(view.insert(key, value)),
                None => drop(view.remove(&key)),
            }
        }
        state.view = Shared::new(view);
        let key = (request.client, request.sequence);
        let first = state.results.get(&key).cloned();
        let says = match reply {
            Answer::SessionOpened => Says::Opened,
            Answer::SessionClosed => {
                let message = format!("{request:?} closes a session that nobody asked to close");
                return state.break_with("kv.exactly_once", message);
            }
            Answer::Refused { reason, .. } => Says::Refused(reason.into()),
            Answer::Mutation(result) => {
                let result = result.encode_to_vec();
                if first.as_ref().is_some_and(|first| *first != result) {
                    state.break_with(
                        "kv.exactly_once",
                        format!("{request:?} gets another result than at first"),
                    );
                }
                state.results.entry(key).or_insert_with(|| result.clone());
                Says::Result(result)
            }
        };
        let Request { client, sequence, .. } = request;
        state.replies.insert(Reply { client, sequence, says, again: first.is_some() });
        self.judge(state);
    }

    /// Every mutation is in its key at most once, and the table of sessions keeps its bounds.
    fn judge(&self, state: &mut State) {
        let appended = state.view.get([b"k/", APPENDED].concat().as_slice()).cloned().unwrap_or_default();
        if let Some(twice) = (1..appended.len()).find(|at| appended[..*at].contains(&appended[*at])) {
            let message = format!("mutation {:#x} was executed twice: {appended:x?}", appended[twice]);
            return state.break_with("kv.exactly_once", message);
        }
        let sessions: Vec<_> = state.view.iter().filter(|(key, _)| key.starts_with(b"s/")).collect();
        let kept =
            |record: &Vec<u8>| pb::Session::decode(record.as_slice()).map(|session| session.replies.len());
        let most = sessions.iter().map(|(_, record)| kept(record).unwrap_or(usize::MAX)).max().unwrap_or(0);
        let count = sessions.len() as u64;
        if count > self.limits.sessions.sessions_max || most as u64 > self.limits.sessions.session_window {
            let message = format!("{count} sessions are open, and one keeps {most} replies");
            state.break_with("kv.sessions_bounded", message);
        }
    }

    fn receive(state: &mut State, reply: &Reply) {
        let client = &mut state.clients[reply.client as usize - 1];
        match &reply.says {
            Says::Opened => client.open = true,
            Says::Result(_) => drop(client.answered.insert(reply.sequence)),
            Says::Refused(reason) if *reason == i32::from(RefusedReason::RefusedSessionExpired) => {
                client.expired = true;
            }
            Says::Refused(reason) => {
                let stale = *reason == i32::from(RefusedReason::RefusedStaleSequence);
                if stale && !client.answered.contains(&reply.sequence) {
                    let message = format!("the reply of {reply:?} was forgotten before it was received");
                    state.break_with("kv.exactly_once", message);
                }
            }
        }
    }
}

/// One byte for each mutation.
fn token(client: u64, sequence: u64) -> u8 {
    (client * 16 + sequence) as u8
}

impl Model for Sessions {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            view: Shared::new(BTreeMap::new()),
            applied: 0,
            time_ms: 0,
            clients: vec![Client::default(); self.clients as usize],
            requests: BTreeSet::new(),
            replies: BTreeSet::new(),
            duplicates: 0,
            results: BTreeMap::new(),
            broken: None,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.broken.is_some() || self.brake.is_on() {
            return;
        }
        for (id, client) in (1..).zip(&state.clients) {
            // They differ in nothing but their names, so they begin in that order.
            let in_turn = id == 1 || state.clients[id as usize - 2].asked;
            if !client.asked && in_turn {
                actions.push(Action::Open(id));
            }
            if client.open && !client.expired {
                if client.last < self.sequences {
                    actions.push(Action::Send(id));
                }
                let unanswered = (1..=client.last).filter(|sequence| !client.answered.contains(sequence));
                actions.extend(unanswered.map(|sequence| Action::Retry(id, sequence)));
            }
        }
        for request in &state.requests {
            actions.push(Action::Apply { request: *request, stays: false });
            if state.duplicates < self.duplicates {
                actions.push(Action::Apply { request: *request, stays: true });
            }
        }
        actions.extend(state.replies.iter().cloned().map(Action::Receive));
        if state.time_ms < self.time_max {
            actions.push(Action::Tick);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Open(id) => {
                state.clients[id as usize - 1].asked = true;
                state.requests.insert(Request { client: id, sequence: 0, acknowledged_below: 0 });
            }
            Action::Send(id) => {
                let client = &mut state.clients[id as usize - 1];
                client.last += 1;
                let (sequence, acknowledged_below) = (client.last, client.acknowledged_below());
                state.requests.insert(Request { client: id, sequence, acknowledged_below });
            }
            Action::Retry(id, sequence) => {
                let acknowledged_below = state.clients[id as usize - 1].acknowledged_below();
                if !state.requests.insert(Request { client: id, sequence, acknowledged_below }) {
                    return None;
                }
                state.duplicates += 1;
                if state.duplicates > self.duplicates {
                    return None;
                }
            }
            Action::Apply { request, stays } => {
                if stays {
                    state.duplicates += 1;
                } else {
                    state.requests.remove(&request);
                }
                self.apply(&mut state, request);
            }
            Action::Receive(reply) => {
                state.replies.remove(&reply);
                Self::receive(&mut state, &reply);
            }
            Action::Tick => state.time_ms += 1,
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let always = ORACLES.into_iter().map(|(name, holds)| Property::always(name, holds));
        let reached = REACHED.into_iter().filter(|(name, _)| self.reaches.contains(name));
        always.chain(reached.map(|(name, holds)| Property::sometimes(name, holds))).collect()
    }
}

/// What the report says of a model.
pub(super) fn spec(model: Sessions) -> Spec<Sessions> {
    let bounds = [
        ("clients", model.clients),
        ("sequences", model.sequences),
        ("duplicates", model.duplicates.into()),
        ("time_max", model.time_max),
        ("session_window", model.limits.sessions.session_window),
        ("sessions_max", model.limits.sessions.sessions_max),
    ];
    let explain = |_: &Sessions, state: &State| {
        state.broken.as_ref().map_or_else(String::new, |(_, message)| message.clone())
    };
    Spec {
        name: model.name,
        about: model.about,
        bounds: bounds.map(|(name, bound)| (name.to_owned(), bound)).into(),
        depth_max: 0,
        explain,
        model,
    }
}

/// The models of sessions.
pub(super) fn all() -> Vec<Sessions> {
    let sessions =
        SessionLimits { session_window: 2, sessions_max: 2, session_idle_ms: 1, session_idle_entries: 2 };
    let limits = KvLimits { sessions, ..KvLimits::default() };
    vec![
        Sessions {
            name: "sessions.window",
            about: "one client whose requests and replies are repeated, reordered and lost",
            clients: 1,
            sequences: 3,
            duplicates: 3,
            time_max: 0,
            limits,
            reaches: &["a retry gets the first reply", "a number is stale", "a number is above the window"],
            mutants: Mutants::default(),
            brake: Brake::default(),
        },
        Sessions {
            name: "sessions.eviction",
            about: "three clients for two sessions: who was idle is evicted, and its requests still arrive",
            clients: 3,
            sequences: 1,
            duplicates: 1,
            time_max: 1,
            limits,
            reaches: &[
                "a retry gets the first reply",
                "a session has expired",
                "an evicted client's request comes again",
                "no session is free",
            ],
            mutants: Mutants::default(),
            brake: Brake::default(),
        },
    ]
}
