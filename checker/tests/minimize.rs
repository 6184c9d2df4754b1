//! What is told of a violation is a violation by itself, and what proves a history linearizable is verified.

mod common;

use common::generate::{Shape, corrupt, legal};
use common::oracle::brute_force;
use common::{KvHistory, Rng};
use eraft_checker::models::kv::{Kv, KvOp};
use eraft_checker::{Flaw, Options, Outcome, Report, Role, Verdict, check, linearize, minimize, verify};

const HISTORIES: u64 = 2_000;

/// Operations in a core, and in most of them.
const CORE_MAX: usize = 13;
const USUAL_CORE_MAX: usize = 6;

/// Without the second search, which would hide mistakes of the first.
fn options() -> Options {
    Options { confirm: false, ..Options::default() }
}

fn sample(seed: u64) -> KvHistory {
    let mut rng = Rng(seed);
    let operations = 3 + rng.below(8);
    let shape = Shape {
        operations,
        clients: 1 + rng.below(4),
        keys: 1 + rng.below(2),
        values: [0, 0, 3][rng.below(3)],
        unknown: rng.below(3),
        gets: 45,
        appends: [0, 20, 55][rng.below(3)],
        deletes: [0, 0, 8][rng.below(3)],
        cas: [0, 0, 15][rng.below(3)],
    };
    let mut history = legal(&mut rng, &shape);
    for _ in 0..1 + rng.below(2) {
        corrupt(&mut rng, &mut history);
    }
    history
}

/// The operations of the core alone.
fn core_of(history: &KvHistory, report: &Report) -> KvHistory {
    let mut core = history.clone();
    core.operations.retain(|operation| {
        let invoked = operation.invoked.line;
        report
            .core
            .iter()
            .any(|evidence| evidence.invoked_line == invoked && evidence.process == operation.process)
    });
    core
}

/// What was known right before the answer that the report calls impossible.
fn before_answer(history: &KvHistory, report: &Report) -> KvHistory {
    let line = report.core[0].returned_line;
    let mut returns = history.operations.iter().filter_map(|operation| operation.returned());
    let event =
        returns.find(|returned| Some(returned.line) == line).expect("the core is of the history").event;
    let mut before = history.clone();
    before.operations.retain(|operation| operation.invoked.event < event);
    for operation in &mut before.operations {
        if operation.returned().is_some_and(|returned| returned.event >= event) {
            operation.outcome = Outcome::Unknown;
        }
    }
    before
}

#[test]
fn every_core_is_a_violation_by_itself() {
    let (mut contradictions, mut usual, mut prefixes, mut minimized, mut smaller) = (0, 0, 0, 0, 0);
    for seed in 0..HISTORIES {
        let history = sample(seed);
        let report = check(&Kv::new(), &history, &options());
        if report.verdict != Verdict::Violation {
            assert_eq!(minimize(&Kv::new(), &history, &options()), None);
            continue;
        }
        if report.core.iter().any(|evidence| evidence.role == Role::Conflict) || report.core.len() == 1 {
            contradictions += 1;
            usual += usize::from(report.core.len() <= USUAL_CORE_MAX);
            assert!(report.core.len() <= CORE_MAX, "seed {seed}: {report:#?}");
            let core = core_of(&history, &report);
            assert!(!brute_force(&core), "seed {seed}: {report:#?} {history:#?}");
        }
        if report.prefix.is_some() {
            prefixes += 1;
            assert!(brute_force(&before_answer(&history, &report)), "seed {seed}: {report:#?} {history:#?}");
        }
        let small = minimize(&Kv::new(), &history, &options()).expect("a violation can be made small");
        assert!(!brute_force(&small), "seed {seed}: {small:#?} of {history:#?}");
        minimized += 1;
        smaller += usize::from(small.operations.len() * 2 <= history.operations.len());
        // Nothing but what was recorded, except that answers may be missing.
        for operation in &small.operations {
            let same = |whole: &&eraft_checker::Operation<_, _>| whole.invoked == operation.invoked;
            let whole = history.operations.iter().find(same).unwrap();
            assert_eq!(whole.op, operation.op);
            assert!(operation.ret().is_none() || operation.outcome == whole.outcome);
        }
    }
    println!(
        "{contradictions} cores, {usual} of them small, {minimized} made small, {smaller} to half or less"
    );
    assert!(usual * 10 > contradictions * 9, "{usual} of {contradictions}");
    assert!(contradictions * 10 > minimized * 9, "{contradictions} of {minimized}");
    assert!(contradictions > 200 && minimized > 500 && smaller * 2 > minimized);
    assert!(prefixes * 10 > minimized * 9, "{prefixes} of {minimized}");
}

/// If the whole history were linearizable, so would be what is left: so where it is linearizable but for one answer, that
/// answer, that of a read, must be left.
#[test]
fn what_is_left_holds_the_wrong_answer() {
    for seed in 0..HISTORIES {
        let mut rng = Rng(seed);
        let whole = legal(&mut rng, &Shape { values: 0, ..Shape::small(&mut Rng(seed)) });
        let mut history = whole.clone();
        corrupt(&mut rng, &mut history);
        let Some(small) = minimize(&Kv::new(), &history, &options()) else { continue };
        let wrong = history.operations.iter().zip(&whole.operations).find(|(wrong, right)| wrong != right);
        let (wrong, _) = wrong.expect("a violation is not the legal history");
        if !matches!(wrong.op, KvOp::Get { .. }) {
            // Its answer decides what may be left out.
            continue;
        }
        assert!(small.operations.contains(wrong), "seed {seed}: {small:#?} without {wrong:#?}");
    }
}

#[test]
fn a_witness_is_verified_and_a_wrong_one_is_not() {
    for seed in 0..HISTORIES / 4 {
        let mut rng = Rng(seed);
        let shape = Shape::small(&mut rng);
        let history = legal(&mut rng, &shape);
        let orders = linearize(&Kv::new(), &history, &options()).expect("it is linearizable");
        assert_eq!(verify(&Kv::new(), &history, &orders), Ok(()), "seed {seed}");
        let mut missing = orders.clone();
        let Some(removed) = missing.iter_mut().find_map(Vec::pop) else { continue };
        if history.operations[removed].ret().is_some() {
            assert_eq!(verify(&Kv::new(), &history, &missing), Err(Flaw::Missing(removed)));
        }
        let mut twice = orders.clone();
        let order = twice.iter_mut().find(|order| !order.is_empty()).unwrap();
        let again = order[0];
        order.push(again);
        assert_eq!(verify(&Kv::new(), &history, &twice), Err(Flaw::Twice(again)));
        let mut absent = orders.clone();
        absent[0].insert(0, 1_000);
        assert_eq!(verify(&Kv::new(), &history, &absent), Err(Flaw::Absent(1_000)));
        if orders.len() > 1 {
            let mixed = vec![orders.concat(), Vec::new()];
            let several = orders.iter().all(|order| !order.is_empty());
            assert!(
                !several || matches!(verify(&Kv::new(), &history, &mixed), Err(Flaw::Partition(_))),
                "seed {seed}"
            );
        }
    }
}
