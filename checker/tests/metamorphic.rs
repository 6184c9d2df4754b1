//! What must not change a verdict: a history that is linearizable stays so when less is known of it, and one that is not
//! stays so when more is.

mod common;

use common::generate::{Shape, corrupt, legal};
use common::{KvHistory, Rng};
use eraft_checker::models::kv::{Kv, KvOp, KvRet};
use eraft_checker::{Options, Outcome, Value, Verdict, check};

const HISTORIES: u64 = 300;

fn verdict(history: &KvHistory) -> Verdict {
    check(&Kv::new(), history, &Options::default()).verdict
}

fn medium(rng: &mut Rng) -> Shape {
    Shape {
        operations: 20 + rng.below(80),
        clients: 2 + rng.below(4),
        keys: 1 + rng.below(3),
        values: rng.below(4),
        unknown: rng.below(6),
        gets: 45,
        appends: [0, 10, 30][rng.below(3)],
        deletes: [0, 5][rng.below(2)],
        cas: [0, 15][rng.below(2)],
    }
}

/// Another name for a value, of the same length, so that what begins another value still does.
fn renamed(value: &Value) -> Value {
    let bytes: Vec<u8> = value.as_bytes().iter().map(|byte| byte ^ 0x40).collect();
    Value::new(&bytes)
}

fn rename(history: &KvHistory) -> KvHistory {
    let mut history = history.clone();
    for operation in &mut history.operations {
        operation.process = 1_000 - operation.process;
        match &mut operation.op {
            KvOp::Get { .. } | KvOp::Delete { .. } => {}
            KvOp::Put { value, .. } | KvOp::Append { value, .. } => *value = renamed(value),
            KvOp::Cas { expected, new, .. } => {
                (*expected, *new) = (expected.as_ref().map(renamed), renamed(new));
            }
        }
        if let Outcome::Ok { ret: KvRet::Value(value), .. } = &mut operation.outcome {
            *value = value.as_ref().map(renamed);
        }
    }
    history
}

/// Lets an operation begin before the event that came before its invocation, if that was another's.
fn widen(rng: &mut Rng, history: &mut KvHistory) {
    let chosen = rng.below(history.operations.len());
    let at = history.operations[chosen].invoked.event;
    let Some(before) = at.checked_sub(1) else { return };
    let process = history.operations[chosen].process;
    for other in &mut history.operations {
        if let Outcome::Ok { returned, .. } = &mut other.outcome
            && returned.event == before
            && other.process != process
        {
            returned.event = at;
            history.operations[chosen].invoked.event = before;
            return;
        }
    }
}

/// What was known when `event` was about to happen.
fn prefix(history: &KvHistory, event: usize) -> KvHistory {
    let mut prefix = history.clone();
    prefix.operations.retain(|operation| operation.invoked.event < event);
    for operation in &mut prefix.operations {
        if operation.returned().is_some_and(|returned| returned.event >= event) {
            operation.outcome = Outcome::Unknown;
        }
    }
    prefix
}

fn last_event(history: &KvHistory) -> usize {
    let ends = history.operations.iter().filter_map(|operation| operation.returned());
    ends.map(|returned| returned.event).max().unwrap_or(0)
}

#[test]
fn knowing_less_keeps_a_history_linearizable() {
    for seed in 0..HISTORIES {
        let mut rng = Rng(seed);
        let shape = medium(&mut rng);
        let history = legal(&mut rng, &shape);
        assert_eq!(verdict(&history), Verdict::Linearizable, "seed {seed}");

        let cut = prefix(&history, rng.below(last_event(&history) + 1));
        assert_eq!(verdict(&cut), Verdict::Linearizable, "seed {seed}: a prefix");

        let mut fewer_reads = history.clone();
        fewer_reads
            .operations
            .retain(|operation| !matches!(operation.op, KvOp::Get { .. }) || rng.percent(50));
        assert_eq!(verdict(&fewer_reads), Verdict::Linearizable, "seed {seed}: without some reads");

        let mut less_known = history.clone();
        for _ in 0..5 {
            let chosen = rng.below(less_known.operations.len());
            less_known.operations[chosen].outcome = Outcome::Unknown;
        }
        assert_eq!(verdict(&less_known), Verdict::Linearizable, "seed {seed}: with unknown outcomes");

        let mut wider = history.clone();
        for _ in 0..10 {
            widen(&mut rng, &mut wider);
        }
        assert_eq!(verdict(&wider), Verdict::Linearizable, "seed {seed}: with wider intervals");
    }
}

#[test]
fn names_do_not_matter() {
    let mut violations = 0;
    for seed in 0..HISTORIES {
        let mut rng = Rng(seed);
        let shape = medium(&mut rng);
        let mut history = legal(&mut rng, &shape);
        corrupt(&mut rng, &mut history);
        let told = |history: &KvHistory| {
            let report = check(&Kv::new(), history, &Options::default());
            (report.verdict, report.prefix, report.steps)
        };
        let (one, other) = (told(&history), told(&rename(&history)));
        assert_eq!((one.0, one.1), (other.0, other.1), "seed {seed}");
        violations += usize::from(one.0 == Verdict::Violation);
    }
    assert!(violations > 50, "{violations}");
}

#[test]
fn a_violation_begins_at_one_return_and_stays_and_is_told_no_later() {
    let (mut violations, mut exact) = (0, 0);
    for seed in 0..HISTORIES {
        let mut rng = Rng(seed);
        let shape = medium(&mut rng);
        let mut history = legal(&mut rng, &shape);
        corrupt(&mut rng, &mut history);
        if verdict(&history) != Verdict::Violation {
            continue;
        }
        violations += 1;
        let begins = (0..=last_event(&history) + 1)
            .find(|event| verdict(&prefix(&history, *event)) == Verdict::Violation)
            .expect("the whole history is a violation");
        // The report may be ahead of the first prefix that is a violation: it knows all answers.
        let report = check(&Kv::new(), &history, &Options::default());
        let unplaceable = history.operations.iter().find(|operation| {
            let line = operation.returned().map(|returned| returned.event + 1);
            line.is_some() && line == report.core[0].returned_line
        });
        let told = unplaceable.and_then(|operation| operation.returned()).unwrap().event;
        assert!(told < begins, "seed {seed}");
        exact += usize::from(told + 1 == begins);
        for event in begins..last_event(&history) {
            assert_eq!(verdict(&prefix(&history, event)), Verdict::Violation, "seed {seed}, event {event}");
        }
    }
    assert!(violations > 100 && exact * 10 > violations * 8, "{violations}, {exact}");
}

#[test]
fn a_search_without_means_is_undecided_and_says_why() {
    let shape = Shape { operations: 200, clients: 5, keys: 3, values: 0, ..medium(&mut Rng(1)) };
    let history = legal(&mut Rng(1), &shape);
    let poor = [
        (Options { steps_max: 10, ..Options::default() }, "steps"),
        (Options { memory_bytes_max: 1000, ..Options::default() }, "memory"),
    ];
    for (options, word) in poor {
        let report = check(&Kv::new(), &history, &options);
        assert_eq!(report.verdict, Verdict::Undecided);
        assert!(report.reason.as_ref().is_some_and(|reason| reason.contains(word)), "{report:?}");
        assert_eq!(report.partition.as_deref(), Some("\"k0\""));
        assert_eq!(report, check(&Kv::new(), &history, &options), "budgets are deterministic");
    }
}
