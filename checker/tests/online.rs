//! Checking while events arrive: the first impossible return is told, exactly, and a snapshot is a fork.

mod common;

use common::generate::{Shape, corrupt, legal};
use common::oracle::brute_force;
use common::{KvHistory, Rng};
use eraft_checker::generate::{Shape as Family, generate};
use eraft_checker::models::kv::{Kv, KvOp, KvRet};
use eraft_checker::models::register::{Register, RegisterOp, RegisterRet};
use eraft_checker::{AnyHistory, History, Model, Online, OnlineOptions, Outcome, Report, Verdict};

const HISTORIES: u64 = 3_000;

/// What happens to the operation with this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Invoke(usize),
    Ok(usize),
    Fail(usize),
    Info(usize),
}

/// The events in order. Operations of unknown outcome are given up right before their process goes on, and those in
/// `failed` fail at the event that is told.
fn events<O, R>(history: &History<O, R>, failed: &[(usize, usize)]) -> Vec<Event> {
    let mut events = Vec::new();
    let mut left_open = std::collections::BTreeMap::new();
    for (number, operation) in history.operations.iter().enumerate() {
        if let Some(before) = left_open.remove(&operation.process) {
            events.push((operation.invoked.event, 0, Event::Info(before)));
        }
        events.push((operation.invoked.event, 1, Event::Invoke(number)));
        match (failed.iter().find(|(failed, _)| *failed == number), operation.returned()) {
            (Some((_, event)), _) => events.push((*event, 0, Event::Fail(number))),
            (None, Some(returned)) => events.push((returned.event, 1, Event::Ok(number))),
            (None, None) => {
                left_open.insert(operation.process, number);
            }
        }
    }
    events.sort_by_key(|(event, order, _)| (*event, *order));
    events.into_iter().map(|(.., event)| event).collect()
}

/// Feeds one event; says whether a violation is known after it.
fn feed<M: Model>(online: &mut Online<M>, history: &History<M::Op, M::Ret>, event: Event) -> bool {
    let (Event::Invoke(number) | Event::Ok(number) | Event::Fail(number) | Event::Info(number)) = event;
    let operation = &history.operations[number];
    let process = operation.process;
    match event {
        Event::Invoke(_) => {
            online.invoke(process, operation.op.clone(), operation.invoked.line, None).unwrap()
        }
        Event::Ok(_) => {
            let (ret, line) = (operation.ret().unwrap().clone(), operation.returned().unwrap().line);
            online.ok(process, ret, line, None).unwrap();
        }
        Event::Fail(_) => online.fail(process).unwrap(),
        Event::Info(_) => online.info(process).unwrap(),
    }
    online.violation().is_some()
}

/// What is known after the first `count` events.
fn known(history: &KvHistory, events: &[Event]) -> KvHistory {
    let mut known = history.clone();
    let seen = |event: Event| events.contains(&event);
    for (number, operation) in known.operations.iter_mut().enumerate() {
        if !seen(Event::Ok(number)) {
            operation.outcome = Outcome::Unknown;
        }
    }
    let mut number = 0;
    known.operations.retain(|_| {
        number += 1;
        seen(Event::Invoke(number - 1)) && !seen(Event::Fail(number - 1))
    });
    known
}

fn sample(seed: u64) -> (KvHistory, Vec<Event>) {
    let mut rng = Rng(seed);
    let shape = Shape { keys: 1, values: rng.below(4), ..Shape::small(&mut rng) };
    let mut history = legal(&mut rng, &shape);
    for _ in 0..[0, 1, 1, 2][rng.below(4)] {
        corrupt(&mut rng, &mut history);
    }
    // Some that are said to have failed, rightly or not.
    let mut failed = Vec::new();
    for (number, operation) in history.operations.iter().enumerate() {
        if let Some(returned) = operation.returned().filter(|_| rng.percent(8)) {
            failed.push((number, returned.event));
        }
    }
    let events = events(&history, &failed);
    (history, events)
}

fn exact() -> OnlineOptions {
    OnlineOptions { probe_every: 1, ..OnlineOptions::default() }
}

/// The number of events after which a violation is known, and what is told of it then.
fn first_violation(history: &KvHistory, events: &[Event], options: OnlineOptions) -> Option<(usize, Report)> {
    let mut online = Online::new(Kv::new(), options);
    for (number, event) in events.iter().enumerate() {
        if feed(&mut online, history, *event) {
            return Some((number + 1, online.violation().unwrap().clone()));
        }
    }
    let report = online.report();
    assert_ne!(report.verdict, Verdict::Undecided, "{report:#?}");
    (report.verdict == Verdict::Violation).then(|| (events.len(), report.clone()))
}

#[test]
fn a_violation_is_told_at_the_very_return() {
    let mut seen = [0; 2];
    for seed in 0..HISTORIES {
        let (history, events) = sample(seed);
        let impossible = (1..=events.len()).find(|count| !brute_force(&known(&history, &events[..*count])));
        let found = first_violation(&history, &events, exact());
        let at = found.as_ref().map(|(at, _)| *at);
        assert_eq!(at, impossible, "seed {seed}: {events:?} {history:#?}");
        seen[usize::from(impossible.is_none())] += 1;
        // Told later, it is the same.
        let later = first_violation(&history, &events, OnlineOptions::default());
        let told = |found: Option<(usize, Report)>| {
            found.map(|(_, report)| (report.prefix, report.core.into_iter().next()))
        };
        let returns =
            |count: usize| events[..count].iter().filter(|event| matches!(event, Event::Ok(_))).count();
        if let Some((at, report)) = found.as_ref().filter(|(at, _)| matches!(events[at - 1], Event::Ok(_))) {
            assert_eq!(report.prefix, Some(returns(*at) - 1), "seed {seed}: {report:#?}");
        }
        // Unless something that failed later would have explained it, nobody knows that at the end.
        if !events.iter().any(|event| matches!(event, Event::Fail(_))) {
            assert_eq!(told(later), told(found), "seed {seed}: {events:?} {history:#?}");
        }
    }
    println!("illegal, legal: {seen:?}");
    assert!(seen.iter().all(|count| *count > 500), "{seen:?}");
}

#[test]
fn a_snapshot_goes_on_by_itself() {
    for seed in 0..HISTORIES / 10 {
        let (history, events) = sample(seed);
        let (first, second) = events.split_at(events.len() / 2);
        let mut online = Online::new(Kv::new(), exact());
        first.iter().for_each(|event| {
            feed(&mut online, &history, *event);
        });
        let snapshot = online.clone();
        let finish = |mut online: Online<Kv>| {
            let known: Vec<bool> = second.iter().map(|event| feed(&mut online, &history, *event)).collect();
            (known, online.report().clone())
        };
        let once = finish(snapshot.clone());
        assert_eq!(finish(online), once, "seed {seed}");
        assert_eq!(finish(snapshot), once, "seed {seed}");
    }
}

#[test]
fn long_histories_of_all_kinds_are_followed() {
    let family = Family { operations: 20_000, ..Family::default() };
    let families = [
        Family { keys: 0, ..family },
        Family { keys: 0, values: 5, ..family },
        Family { keys: 0, values: 5, cas: 20, unknown_permille: 1, ..family },
        Family { keys: 20, appends: 30, clients: 10, ..family },
        Family { keys: 0, clients: 100, values: 3, operations: 3_000, ..family },
    ];
    for (family, stale) in families.into_iter().flat_map(|family| [(family, false), (family, true)]) {
        let family = Family { stale: stale && family.values == 0, ..family };
        let expected = if family.stale { Verdict::Violation } else { Verdict::Linearizable };
        let report = match generate(&family, 7) {
            AnyHistory::Register(model, history) => follow(model, &history),
            AnyHistory::Kv(model, history) => follow(model, &history),
            other => panic!("{other:?} is not generated"),
        };
        assert_eq!(report.verdict, expected, "{family:?}: {report:#?}");
        assert!(expected == Verdict::Violation || report.operations == family.operations);
    }
}

fn follow<M: Model>(model: M, history: &History<M::Op, M::Ret>) -> Report {
    let mut online = Online::new(model, OnlineOptions::default());
    for event in events(history, &[]) {
        if feed(&mut online, history, event) {
            break;
        }
    }
    online.report().clone()
}

#[test]
fn what_does_not_end_is_told() {
    let options = OnlineOptions { waiting_events_max: 100, probe_every: 10, ..OnlineOptions::default() };
    let mut online = Online::new(Register::plain(), options);
    online.invoke(0, RegisterOp::Read { key: None }, 1, None).unwrap();
    for _ in 0..100 {
        online.invoke(1, RegisterOp::Read { key: None }, 0, None).unwrap();
        online.ok(1, RegisterRet::Value(None), 0, None).unwrap();
    }
    let report = online.report();
    assert_eq!(report.verdict, Verdict::Undecided);
    assert!(report.reason.as_ref().is_some_and(|reason| reason.contains("does not end")), "{report:#?}");
}

#[test]
fn processes_keep_to_the_rules() {
    let mut online = Online::new(Kv::new(), OnlineOptions::default());
    let get = || KvOp::Get { key: "a".into() };
    online.invoke(1, get(), 5, None).unwrap();
    assert_eq!(
        online.invoke(1, get(), 6, None),
        Err(eraft_checker::history::Misfit::StillOpen { process: 1, line: 5 })
    );
    assert_eq!(online.open(1), Ok(&get()));
    online.ok(1, KvRet::Value(None), 7, None).unwrap();
    assert!(online.fail(1).is_err() && online.info(1).is_err() && online.open(1).is_err());
}
