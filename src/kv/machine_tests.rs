//! The machine, command by command: what it replies, what it writes, what it refuses, whom it evicts.

use std::collections::BTreeMap;

use prost::Message as _;

use super::*;
use crate::machine::StateMachine;
use crate::mutants::Mutants;
use crate::proto::kv::mutation::Operation;
use crate::proto::kv::mutation_result::Result as Did;
use crate::proto::kv::{
    Append, ClientId, CloseSession, Command, Execute, Limits, Mutation, MutationResult, OpenSession, Put,
    RefusedReason, Session, SessionReply, SessionTable, command,
};
use crate::raft::Position;
use crate::session::{CLOSED_KEPT_ENTRIES, CLOSED_KEPT_MS, SWEEP_SESSIONS};
use crate::types::{Index, Term};
use crate::view::{Batch, KeyRange, PageLimit, Pair, View, ViewError};

pub(super) type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// A state store in memory and the machine that writes it.
pub(super) struct Group {
    pub machine: KvMachine,
    pub map: Map,
    pub index: u64,
}

impl Group {
    pub fn new(limits: KvLimits) -> Self {
        Self::with(limits, Mutants::default())
    }

    pub fn with(limits: KvLimits, mutants: Mutants) -> Self {
        Self { machine: KvMachine::new(limits, mutants).unwrap(), map: Map::new(), index: 0 }
    }

    /// Applies the next entry; returns what it wrote and what its proposer was told.
    pub fn apply(&mut self, command: &[u8]) -> (Batch, KvReply) {
        self.index += 1;
        let at = Position { index: Index(self.index), term: Term(1) };
        let (batch, reply) = self.machine.apply(&self.map, at, command).unwrap();
        write(&mut self.map, &batch);
        (batch, reply)
    }

    fn open(&mut self, client: u64, time_ms: u64) -> KvReply {
        self.apply(&open(client, time_ms)).1
    }

    fn append(&mut self, client: u64, sequence: u64, below: u64, value: &'static str) -> KvReply {
        self.apply(&execute(client, sequence, below, append("k", value), 0)).1
    }

    pub fn get(&self, key: &'static str) -> Option<Vec<u8>> {
        match self.machine.read(&self.map, &KvQuery::Get { key: key.into() }).unwrap() {
            KvAnswer::Value { value } => value,
            other => panic!("{other:?} does not answer a get"),
        }
    }

    pub fn status(&self) -> KvStatus {
        match self.machine.read(&self.map, &KvQuery::Status).unwrap() {
            KvAnswer::Status(status) => status,
            other => panic!("{other:?} does not answer a status query"),
        }
    }

    pub fn sessions_in_store(&self) -> u64 {
        let sessions = self.map.iter().filter(|(key, _)| key.starts_with(b"s/"));
        let is_open = |record: &[u8]| !Session::decode(record).unwrap().closed;
        sessions.filter(|(_, record)| is_open(record)).count() as u64
    }
}

pub(super) fn write(map: &mut Map, batch: &Batch) {
    for (key, value) in &batch.writes {
        match value {
            Some(value) => map.insert(key.clone(), value.clone()),
            None => map.remove(key),
        };
    }
}

pub(super) fn id(client: u64) -> ClientId {
    ClientId { high: client, low: !client }
}

pub(super) fn open(client: u64, time_ms: u64) -> Vec<u8> {
    let open = OpenSession { client: Some(id(client)) };
    Command { time_ms, limits: None, operation: Some(command::Operation::OpenSession(open)) }.encode_to_vec()
}

pub(super) fn execute(client: u64, sequence: u64, below: u64, operation: Operation, time_ms: u64) -> Vec<u8> {
    let mutation = Some(Mutation { operation: Some(operation) });
    let execute = Execute { client: Some(id(client)), sequence, acknowledged_below: below, mutation };
    Command { time_ms, limits: None, operation: Some(command::Operation::Execute(execute)) }.encode_to_vec()
}

pub(super) fn close(client: u64, time_ms: u64) -> Vec<u8> {
    let close = CloseSession { client: Some(id(client)) };
    Command { time_ms, limits: None, operation: Some(command::Operation::CloseSession(close)) }
        .encode_to_vec()
}

pub(super) fn append(key: &'static str, value: &'static str) -> Operation {
    Operation::Append(Append { key: key.into(), value: value.into() })
}

fn did(reply: KvReply) -> Did {
    match reply {
        KvReply::Mutation(result) => result.result.expect("a mutation has a result"),
        other => panic!("{other:?} is not what a mutation did"),
    }
}

fn reason(reply: KvReply) -> RefusedReason {
    match reply {
        KvReply::Refused { reason, .. } => reason,
        other => panic!("{other:?} is not a refusal"),
    }
}

fn with_sessions_max(sessions_max: u64) -> KvLimits {
    KvLimits { sessions: SessionLimits { sessions_max, ..small().sessions }, ..small() }
}

fn small() -> KvLimits {
    KvLimits {
        value_bytes_max: 8,
        sessions: SessionLimits {
            session_window: 4,
            sessions_max: 3,
            session_idle_ms: 100,
            session_idle_entries: 10,
        },
        ..KvLimits::default()
    }
}

#[test]
fn opening_a_session_is_idempotent_and_keeps_its_replies() {
    let mut group = Group::new(small());
    assert_eq!(group.open(1, 5), KvReply::SessionOpened);
    let first = MutationResult { result: Some(Did::Done(true)), index: 2 };
    assert_eq!(group.append(1, 0, 0, "a"), KvReply::Mutation(first.clone()));
    assert_eq!(group.open(1, 6), KvReply::SessionOpened);
    assert_eq!(group.append(1, 0, 0, "a"), KvReply::Mutation(first), "the index of the first, too");
    assert_eq!(group.get("k"), Some(b"a".to_vec()));
    assert_eq!(group.status(), KvStatus { sessions: 1, time_ms: 6 });
}

#[test]
fn a_mutation_needs_an_open_session() {
    let mut group = Group::new(small());
    assert_eq!(reason(group.append(1, 0, 0, "a")), RefusedReason::RefusedSessionExpired);
    assert_eq!((group.get("k"), group.map.len()), (None, 0));
}

#[test]
fn eraft_b36_the_numbers_of_a_window_come_in_any_order_and_the_edges_are_exact() {
    let mut group = Group::new(small());
    group.open(1, 0);
    for (sequence, value) in [(3, "d"), (0, "a"), (2, "c"), (1, "b")] {
        assert_eq!(did(group.append(1, sequence, 0, value)), Did::Done(true));
    }
    assert_eq!(reason(group.append(1, 4, 0, "e")), RefusedReason::RefusedAboveWindow);
    assert_eq!(
        did(group.append(1, 4, 1, "e")),
        Did::Done(true),
        "acknowledging one number makes room for one"
    );
    assert_eq!(reason(group.append(1, 0, 0, "a")), RefusedReason::RefusedStaleSequence);
    assert_eq!(reason(group.append(1, 5, 0, "f")), RefusedReason::RefusedAboveWindow, "it never moves back");
    assert_eq!(group.get("k"), Some(b"dacbe".to_vec()));
}

#[test]
fn a_refused_number_is_not_used_up() {
    let mut group = Group::new(small());
    group.open(1, 0);
    assert_eq!(reason(group.append(1, 4, 0, "a")), RefusedReason::RefusedAboveWindow);
    assert_eq!(did(group.append(1, 4, 4, "a")), Did::Done(true));
    assert_eq!(group.get("k"), Some(b"a".to_vec()));
}

#[test]
fn a_refusal_in_the_log_is_a_reply_that_a_retry_gets_again() {
    let mut group = Group::new(small());
    group.open(1, 0);
    group.append(1, 0, 0, "12345678");
    let first = group.append(1, 1, 0, "9");
    assert_eq!(
        first,
        KvReply::Mutation(MutationResult {
            result: Some(Did::Refused("the value would have 9 bytes; at most 8 are allowed".into())),
            index: 3,
        })
    );
    let put = Operation::Put(Put { key: "k".into(), value: "".into() });
    group.apply(&execute(1, 2, 0, put, 0));
    assert_eq!(group.append(1, 1, 0, "9"), first, "although it would fit by now");
    assert_eq!(group.get("k"), Some(vec![]));
}

#[test]
fn two_sessions_use_the_same_numbers_apart() {
    let mut group = Group::new(small());
    group.open(1, 0);
    group.open(2, 0);
    assert_eq!(did(group.append(1, 0, 0, "a")), Did::Done(true));
    assert_eq!(did(group.append(2, 0, 0, "b")), Did::Done(true));
    assert_eq!(group.get("k"), Some(b"ab".to_vec()));
}

#[test]
fn the_records_are_as_documented_and_nothing_collides() {
    let mut group = Group::new(small());
    group.open(1, 7);
    let (batch, _) = group.apply(&execute(1, 3, 2, append("t", "x"), 9));
    let result = MutationResult { result: Some(Did::Done(true)), index: 2 };
    let session = Session {
        acknowledged_below: 2,
        replies: vec![SessionReply { sequence: 3, result: Some(result) }],
        active_index: 2,
        active_time_ms: 9,
        closed: false,
    };
    let key = [b"s/".as_slice(), &1u64.to_be_bytes(), &(!1u64).to_be_bytes()].concat();
    let table = SessionTable { sessions: 1, time_ms: 9, ..SessionTable::default() };
    let writes = vec![
        (b"k/t".to_vec(), Some(b"x".to_vec())),
        (key, Some(session.encode_to_vec())),
        (b"t".to_vec(), Some(table.encode_to_vec())),
    ];
    assert_eq!(batch, Batch { writes }, "one batch: the key, the reply, the table");
}

#[test]
fn time_in_the_table_never_goes_back() {
    let mut group = Group::new(small());
    group.open(1, 50);
    group.apply(&execute(1, 0, 0, append("k", "a"), 20));
    assert_eq!(group.status().time_ms, 50);
    group.apply(&execute(1, 1, 0, append("k", "b"), 51));
    assert_eq!(group.status().time_ms, 51);
}

/// Applies entries of client 1 that let log positions pass, all stamped `time_ms`.
fn pass_entries(group: &mut Group, entries: u64, time_ms: u64) {
    for _ in 0..entries {
        group.apply(&execute(1, u64::MAX, 0, append("k", "a"), time_ms));
    }
}

#[test]
fn a_session_is_evicted_only_when_idle_by_time_and_by_entries() {
    // Clients 1, 2 and 3 open at index 1, 2 and 3; 1 stays active; 4 opens at index 4 + entries.
    for (entries, time_ms, sessions_left) in [(8, 99, 3), (9, 99, 3), (7, 200, 3), (8, 100, 2), (9, 100, 1)] {
        let mut group = Group::new(small());
        for client in 1..=3 {
            group.open(client, 0);
        }
        pass_entries(&mut group, entries, time_ms);
        let reply = group.open(4, time_ms);
        let case = format!("{entries} entries, {time_ms} ms");
        if sessions_left == 3 {
            assert_eq!(reason(reply), RefusedReason::RefusedSessionsFull, "{case}");
            assert_eq!(group.status().sessions, 3, "{case}");
        } else {
            assert_eq!(reply, KvReply::SessionOpened, "{case}");
            assert_eq!(group.status().sessions, sessions_left + 1, "{case}");
            assert_eq!(reason(group.append(2, 0, 0, "x")), RefusedReason::RefusedSessionExpired, "{case}");
        }
        assert_eq!(group.status().sessions, group.sessions_in_store(), "{case}");
        assert_eq!(did(group.append(1, 0, 0, "x")), Did::Done(true), "{case}");
    }
}

#[test]
fn a_full_table_refuses_a_new_client_but_not_one_that_it_knows() {
    let mut group = Group::new(small());
    for client in 1..=3 {
        assert_eq!(group.open(client, 0), KvReply::SessionOpened);
    }
    assert_eq!(reason(group.open(4, 0)), RefusedReason::RefusedSessionsFull);
    assert_eq!(group.open(2, 0), KvReply::SessionOpened);
    assert_eq!((group.status().sessions, group.sessions_in_store()), (3, 3));
}

#[test]
fn reopening_an_idle_session_keeps_it() {
    let mut group = Group::new(small());
    group.open(1, 0);
    group.open(2, 0);
    assert_eq!(did(group.append(2, 0, 0, "a")), Did::Done(true));
    pass_entries(&mut group, 20, 500);
    assert_eq!(group.open(2, 500), KvReply::SessionOpened);
    assert_eq!(did(group.append(2, 0, 0, "a")), Did::Done(true));
    assert_eq!(group.get("k"), Some(b"a".to_vec()), "its replies are still there");
    assert_eq!((group.status().sessions, group.sessions_in_store()), (2, 2));
}

fn with(sessions: SessionLimits) -> KvLimits {
    KvLimits { sessions, ..KvLimits::default() }
}

#[test]
fn a_closed_session_is_out_of_the_count_and_a_late_duplicate_cannot_bring_it_back() {
    let mut group = Group::new(with(SessionLimits {
        session_idle_ms: 1 << 30,
        session_idle_entries: 1 << 30,
        ..small().sessions
    }));
    group.open(1, 0);
    assert_eq!(did(group.append(1, 0, 0, "a")), Did::Done(true));
    for _ in 0..2 {
        assert_eq!(group.apply(&close(1, 0)).1, KvReply::SessionClosed);
        assert_eq!((group.status().sessions, group.sessions_in_store()), (0, 0));
    }
    assert_eq!(reason(group.open(1, 0)), RefusedReason::RefusedSessionExpired);
    assert_eq!(reason(group.append(1, 0, 0, "a")), RefusedReason::RefusedSessionExpired);
    assert_eq!(reason(group.append(1, 1, 1, "b")), RefusedReason::RefusedSessionExpired);
    assert_eq!(group.get("k"), Some(b"a".to_vec()));
    let records = |group: &Group| group.map.keys().filter(|key| key.starts_with(b"s/")).count();
    for (passed, left) in [(0, 2), (CLOSED_KEPT_ENTRIES, 1)] {
        group.index += passed;
        group.open(2, CLOSED_KEPT_MS);
        assert_eq!(records(&group), left, "after {passed} entries more");
    }
    assert_eq!(group.apply(&close(9, 0)).1, KvReply::SessionClosed, "one that never was");
}

#[test]
fn a_loop_of_one_shot_clients_never_fills_the_table() {
    let mut group = Group::new(with(SessionLimits { sessions_max: 3, ..SessionLimits::default() }));
    let clients = CLOSED_KEPT_ENTRIES * 2;
    for client in 0..clients {
        let time_ms = client * 100;
        assert_eq!(group.open(client, time_ms), KvReply::SessionOpened, "client {client}");
        assert_eq!(did(group.append(client, 0, 0, "a")), Did::Done(true));
        group.apply(&close(client, time_ms));
    }
    let records = group.map.keys().filter(|key| key.starts_with(b"s/")).count() as u64;
    assert!(records < 1300, "{records} records of closed sessions are kept");
}

/// Two replicas that were configured differently hold the same, whoever led.
#[test]
fn the_limits_travel_with_the_command() {
    let (mut strict, mut lax) = (Group::new(small()), Group::new(KvLimits::default()));
    let led_by = |limits: KvLimits, command: Vec<u8>| {
        let command = Command::decode(&command[..]).expect("our own");
        Command { limits: Some(limits.into()), ..command }.encode_to_vec()
    };
    for (leader, number) in [(small(), 0), (KvLimits::default(), 1)] {
        for command in [open(1, 0), execute(1, number, 0, append("k", "longer than eight"), 0)] {
            let command = led_by(leader, command);
            assert_eq!(strict.apply(&command), lax.apply(&command));
        }
    }
    assert_eq!(strict.map, lax.map);
    assert_eq!(strict.get("k"), Some(b"longer than eight".to_vec()), "the second leader allowed it");
}

#[test]
fn the_sweep_is_bounded_and_goes_round() {
    let sessions = SWEEP_SESSIONS as u64 * 2 + 5;
    let limits = with_sessions_max(1000);
    let mut group = Group::new(limits);
    for client in 0..sessions {
        group.open(client, 0);
    }
    // All of them are idle from here on but the openers, which come first in key order.
    group.index += 100;
    let mut left = vec![];
    for opener in 0..4 {
        let (batch, _) = group.apply(&open(opener, 1000));
        let deletes = batch.writes.iter().filter(|(_, value)| value.is_none()).count();
        assert!(deletes <= SWEEP_SESSIONS, "{deletes} evictions by one entry");
        left.push(group.status().sessions);
        assert_eq!(group.status().sessions, group.sessions_in_store());
    }
    assert!(left[0] > 4 && left[0] < sessions, "one sweep evicts a part: {left:?}");
    assert_eq!(left[3], 4, "a few sweeps come round: {left:?}");
}

/// A view that gives one pair a page, as a view may.
struct OnePairPages<'a>(&'a Map);

impl View for OnePairPages<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        View::get(self.0, key)
    }

    fn page(&self, range: &KeyRange, limit: PageLimit) -> Result<Vec<Pair>, ViewError> {
        self.0.page(range, PageLimit { pairs_max: limit.pairs_max.min(1), ..limit })
    }
}

#[test]
fn how_a_view_cuts_its_pages_does_not_show() {
    let mut group = Group::new(with_sessions_max(1000));
    for client in 0..70 {
        group.open(client, 0);
    }
    group.index += 100;
    for client in [3, 200, 68, 201] {
        let at = Position { index: Index(group.index + 1), term: Term(1) };
        let command = open(client, 1000);
        let cut = group.machine.apply(&OnePairPages(&group.map), at, &command).unwrap();
        assert_eq!(group.apply(&command), cut);
    }
}

#[test]
fn what_does_not_decode_or_lacks_a_part_is_refused_and_writes_nothing() {
    let mut group = Group::new(small());
    group.open(1, 0);
    let before = group.map.clone();
    let execute =
        |client, mutation| command::Operation::Execute(Execute { client, mutation, ..Execute::default() });
    let operations = [
        None,
        Some(command::Operation::OpenSession(OpenSession { client: None })),
        Some(command::Operation::CloseSession(CloseSession { client: None })),
        Some(execute(None, None)),
        Some(execute(Some(id(1)), None)),
        Some(execute(Some(id(1)), Some(Mutation { operation: None }))),
    ];
    let mut commands: Vec<_> =
        operations.map(|operation| Command { time_ms: 99, limits: None, operation }.encode_to_vec()).into();
    commands.push(vec![0xff; 20]);
    let limits = Some(Limits { session_window: 0, ..KvLimits::default().into() });
    let operation = Some(command::Operation::OpenSession(OpenSession { client: Some(id(2)) }));
    commands.push(Command { time_ms: 99, limits, operation }.encode_to_vec());
    for command in commands {
        let (batch, reply) = group.apply(&command);
        assert_eq!(reason(reply), RefusedReason::RefusedMalformed);
        assert!(batch.is_empty());
    }
    assert_eq!(group.map, before);
}

#[test]
fn a_count_that_contradicts_the_sessions_is_an_error_that_names_the_record() {
    let mut group = Group::new(small());
    group.open(1, 0);
    group.map.remove(b"t".as_slice());
    let at = Position { index: Index(1000), term: Term(1) };
    let error = group.machine.apply(&group.map, at, &open(2, 1000)).unwrap_err().to_string();
    assert!(error.contains("key `t`") && error.contains("counts fewer sessions"), "{error}");
}

#[cfg(feature = "mutants")]
#[test]
fn the_mutant_no_dedup_executes_a_retry_again() {
    let mut group = Group::with(small(), Mutants::with(crate::mutants::MutantId::KvNoDedup));
    group.open(1, 0);
    group.append(1, 0, 0, "a");
    group.append(1, 0, 0, "a");
    assert_eq!(group.get("k"), Some(b"aa".to_vec()));
}

#[cfg(feature = "mutants")]
#[test]
fn the_mutant_dedup_without_session_answers_one_client_with_the_reply_of_another() {
    let mut group = Group::with(small(), Mutants::with(crate::mutants::MutantId::KvDedupWithoutSession));
    group.open(1, 0);
    group.open(2, 0);
    group.append(1, 0, 0, "a");
    group.append(2, 0, 0, "b");
    assert_eq!(group.get("k"), Some(b"a".to_vec()));
}

#[cfg(feature = "mutants")]
#[test]
fn the_mutant_evicted_executed_runs_what_no_session_asked_for() {
    let mut group = Group::with(small(), Mutants::with(crate::mutants::MutantId::KvEvictedExecuted));
    group.append(1, 0, 0, "a");
    assert_eq!(group.get("k"), Some(b"a".to_vec()));
}
