//! Property tests: the machine against a reference model under duplicated, reordered and retried commands.
//!
//! The model is what sessions promise, written down without them: each (client, number) runs the first time that it
//! is allowed to, on a plain map; every other time it gets the first reply.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::machine_tests::{Group, Map, close, execute, open};
use super::*;
use crate::machine::StateMachine;
use crate::proto::kv::mutation::Operation;
use crate::proto::kv::mutation_result::Result as Did;
use crate::proto::kv::{Append, Cas, Delete, MutationResult, Put, RefusedReason};
use crate::raft::Position;
use crate::types::{Index, Term};

const CLIENTS: u64 = 3;
const WINDOW: u64 = 4;
const VALUE_BYTES_MAX: usize = 6;

/// What a client sends once; the network repeats and reorders it.
#[derive(Clone, Debug)]
struct Sent {
    client: u64,
    sequence: u64,
    acknowledged_below: u64,
    operation: Operation,
}

#[derive(Default)]
struct Model {
    values: BTreeMap<Vec<u8>, Vec<u8>>,
    acknowledged_below: BTreeMap<u64, u64>,
    /// Replies of all time, never forgotten.
    replies: BTreeMap<(u64, u64), KvReply>,
}

impl Model {
    /// At this index. `Ok`: the mutation's reply, `Err`: the reason of the refusal.
    fn apply(&mut self, sent: &Sent, index: u64) -> Result<KvReply, RefusedReason> {
        let below = self.acknowledged_below.entry(sent.client).or_default();
        *below = (*below).max(sent.acknowledged_below);
        if sent.sequence < *below {
            return Err(RefusedReason::RefusedStaleSequence);
        }
        if sent.sequence - *below >= WINDOW {
            return Err(RefusedReason::RefusedAboveWindow);
        }
        let name = (sent.client, sent.sequence);
        if let Some(reply) = self.replies.get(&name) {
            return Ok(reply.clone());
        }
        let result = Some(self.execute(&sent.operation));
        let reply = KvReply::Mutation(MutationResult { result, index });
        self.replies.insert(name, reply.clone());
        Ok(reply)
    }

    fn execute(&mut self, operation: &Operation) -> Did {
        let (key, value) = match operation {
            Operation::Change(_) => panic!("it is of another service"),
            Operation::Put(put) => (&put.key, put.value.to_vec()),
            Operation::Append(append) => {
                let old = self.values.get(&append.key[..]).cloned().unwrap_or_default();
                (&append.key, [old, append.value.to_vec()].concat())
            }
            Operation::Cas(cas) => {
                let old = self.values.get(&cas.key[..]).map(|value| &value[..]);
                if old != cas.expected.as_deref() {
                    return Did::CasMismatch(true);
                }
                (&cas.key, cas.new.to_vec())
            }
            Operation::Delete(delete) => {
                return match self.values.remove(&delete.key[..]) {
                    Some(_) => Did::Done(true),
                    None => Did::DeleteMissing(true),
                };
            }
        };
        if value.len() > VALUE_BYTES_MAX {
            let bytes = value.len();
            return Did::Refused(format!(
                "the value would have {bytes} bytes; at most {VALUE_BYTES_MAX} are allowed"
            ));
        }
        self.values.insert(key.to_vec(), value);
        Did::Done(true)
    }
}

fn limits() -> KvLimits {
    let sessions = SessionLimits { session_window: WINDOW, ..SessionLimits::default() };
    KvLimits { value_bytes_max: VALUE_BYTES_MAX, sessions, ..KvLimits::default() }
}

fn operation() -> impl Strategy<Value = Operation> {
    let key = || prop_oneof![Just(&b""[..]), Just(&b"\0"[..]), Just(&b"a"[..])].prop_map(bytes::Bytes::from);
    let value = || vec(any::<u8>(), 0..4).prop_map(bytes::Bytes::from);
    // Few values, so that a cas may meet the value that it expects.
    let short = || prop_oneof![Just(&b""[..]), Just(&b"x"[..])].prop_map(bytes::Bytes::from);
    prop_oneof![
        3 => (key(), value()).prop_map(|(key, value)| Operation::Append(Append { key, value })),
        2 => (key(), short()).prop_map(|(key, value)| Operation::Put(Put { key, value })),
        1 => key().prop_map(|key| Operation::Delete(Delete { key })),
        2 => (key(), proptest::option::of(short()), short())
            .prop_map(|(key, expected, new)| Operation::Cas(Cas { key, expected, new })),
    ]
}

fn sent() -> impl Strategy<Value = Sent> {
    (0..CLIENTS, 0..12u64, 0..12u64, operation()).prop_map(|(client, sequence, ack, operation)| Sent {
        client,
        sequence,
        acknowledged_below: ack.min(sequence),
        operation,
    })
}

/// Requests of clients that follow the protocol to begin with; the order of arrival repeats and reorders them.
fn arrivals() -> impl Strategy<Value = Vec<Sent>> {
    (vec(sent(), 1..24), vec(any::<prop::sample::Index>(), 0..72)).prop_map(|(mut sent, order)| {
        // One number stands for one mutation: a retry repeats it, it does not send another one.
        let mut first = BTreeMap::new();
        for sent in &mut sent {
            let name = (sent.client, sent.sequence);
            sent.operation = first.entry(name).or_insert_with(|| sent.operation.clone()).clone();
        }
        order.iter().map(|index| index.get(&sent).clone()).collect()
    })
}

fn command_of(sent: &Sent) -> Vec<u8> {
    execute(sent.client, sent.sequence, sent.acknowledged_below, sent.operation.clone(), 0)
}

fn opened(limits: KvLimits) -> Group {
    let mut group = Group::new(limits);
    for client in 0..CLIENTS {
        assert_eq!(group.apply(&open(client, 0)).1, KvReply::SessionOpened);
    }
    group
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_number_runs_at_most_once_and_a_retry_gets_the_first_reply(arrivals in arrivals()) {
        let (mut group, mut model) = (opened(limits()), Model::default());
        for sent in &arrivals {
            let reply = group.apply(&command_of(sent)).1;
            match model.apply(sent, group.index) {
                Ok(expected) => prop_assert_eq!(reply, expected),
                Err(expected) => {
                    let refused = matches!(&reply, KvReply::Refused { reason, .. } if *reason == expected);
                    prop_assert!(refused, "{:?} is not {:?}", reply, expected);
                }
            }
        }
        let values: Map = group.map.iter()
            .filter_map(|(key, value)| Some((key.strip_prefix(b"k/")?.to_vec(), value.clone()))).collect();
        prop_assert_eq!(values, model.values);
    }

    #[test]
    fn the_same_commands_give_the_same_batches_and_a_replay_of_a_suffix_too(
        arrivals in arrivals(), cut in any::<prop::sample::Index>(),
    ) {
        let mut commands: Vec<_> = (0..CLIENTS).map(|client| open(client, 0)).collect();
        commands.extend(arrivals.iter().map(command_of));
        let cut = cut.index(commands.len());
        let mut group = Group::new(limits());
        let mut applied = vec![];
        let mut at_cut = None;
        for (at, command) in commands.iter().enumerate() {
            if at == cut {
                at_cut = Some((group.map.clone(), group.index));
            }
            applied.push(group.apply(command));
        }
        let (map, index) = at_cut.expect("the cut is one of the commands");
        let mut restarted = Group { machine: group.machine.clone(), map, index };
        for (command, expected) in commands.iter().zip(&applied).skip(cut) {
            prop_assert_eq!(&restarted.apply(command), expected);
        }
        prop_assert_eq!(restarted.map, group.map);
    }

    #[test]
    fn any_bytes_are_a_command_or_a_refusal_and_never_a_panic(commands in vec(vec(any::<u8>(), 0..40), 0..8)) {
        let mut group = opened(limits());
        for command in commands {
            group.apply(&command);
        }
    }

    #[test]
    fn a_damaged_command_never_panics_and_keeps_the_records_readable(
        sent in sent(), at in any::<prop::sample::Index>(), byte in any::<u8>(), then in sent(),
    ) {
        let mut group = opened(limits());
        let mut command = command_of(&sent);
        let at = at.index(command.len());
        command[at] = byte;
        group.apply(&command);
        group.apply(&command_of(&then));
    }

    #[test]
    fn a_damaged_store_is_an_error_or_a_reply_and_never_a_panic(
        key in prop_oneof![Just(b"t".to_vec()), Just([&b"s/"[..], &[0; 8], &[0xff; 8]].concat())],
        record in vec(any::<u8>(), 0..40), sent in sent(),
    ) {
        let mut group = opened(limits());
        group.map.insert(key, record);
        let at = Position { index: Index(10), term: Term(1) };
        for command in [command_of(&sent), open(0, 7), open(9, 7)] {
            let _either = group.machine.apply(&group.map, at, &command);
        }
    }

    #[test]
    fn the_table_counts_the_sessions_and_a_session_keeps_at_most_a_window(
        steps in vec((0..6u64, 0..40u64, 0..4u64), 0..60),
    ) {
        let sessions = SessionLimits { sessions_max: 4, session_idle_ms: 30, session_idle_entries: 3, ..limits().sessions };
        let small = KvLimits { sessions, ..limits() };
        let mut group = Group::new(small);
        let mut time_ms = 0;
        for (client, passed_ms, kind) in steps {
            time_ms += passed_ms;
            let put = Operation::Put(Put { key: "a".into(), value: "x".into() });
            match kind {
                0 => group.apply(&open(client, time_ms)),
                1 => group.apply(&close(client, time_ms)),
                _ => group.apply(&execute(client, group.index % WINDOW, 0, put, time_ms)),
            };
            prop_assert_eq!(group.status().sessions, group.sessions_in_store());
            prop_assert!(group.status().sessions <= sessions.sessions_max);
        }
        for (key, record) in group.map.iter().filter(|(key, _)| key.starts_with(b"s/")) {
            let session = <crate::proto::kv::Session as prost::Message>::decode(record.as_slice()).unwrap();
            prop_assert!(session.replies.len() as u64 <= WINDOW, "{:?}", key);
        }
    }
}
