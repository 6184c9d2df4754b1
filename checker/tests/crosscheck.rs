//! The checker against brute force and against stateright's tester, on random small histories; and its reductions
//! against the same search without them, on larger ones.

mod common;

use common::generate::{Shape, corrupt, legal};
use common::oracle::{brute_force, stateright};
use common::{KvHistory, Rng, Store, assert_engines_agree};
use eraft_checker::models::kv::{Kv, KvOp, KvRet, KvState};
use eraft_checker::models::whole::Whole;
use eraft_checker::{Class, Model, Options, Value, Verdict, check, linearize};
use stateright::semantics::SequentialSpec;

/// Unless `ERAFT_CROSSCHECK` asks for more.
const SMALL_HISTORIES: u64 = 8_000;
const LARGER_HISTORIES: u64 = 1_500;

/// The store's model with another `class`, and with or without `focus`.
#[derive(Clone)]
struct Hinted {
    kv: Kv,
    class: Option<Class>,
    focused: bool,
}

impl Hinted {
    fn new(class: Option<Class>, focused: bool) -> Hinted {
        Hinted { kv: Kv::new(), class, focused }
    }
}

impl Model for Hinted {
    type State = KvState;
    type Op = KvOp;
    type Ret = KvRet;
    type Key = Value;

    fn init(&self) -> KvState {
        self.kv.init()
    }

    fn step(&self, state: &KvState, op: &KvOp, ret: Option<&KvRet>) -> Option<KvState> {
        self.kv.step(state, op, ret)
    }

    fn key(&self, op: &KvOp) -> Option<Value> {
        self.kv.key(op)
    }

    fn class(&self, op: &KvOp, ret: Option<&KvRet>) -> Class {
        self.class.unwrap_or_else(|| self.kv.class(op, ret))
    }

    fn focus<'a>(&self, operations: impl Iterator<Item = (&'a KvOp, Option<&'a KvRet>)>) -> Hinted {
        let kv = if self.focused { self.kv.focus(operations) } else { self.kv.clone() };
        Hinted { kv, ..self.clone() }
    }
}

fn is_linearizable<M: Model<Op = KvOp, Ret = KvRet>>(model: &M, history: &KvHistory) -> bool {
    match check(model, history, &Options { confirm: false, ..Options::default() }).verdict {
        Verdict::Linearizable => true,
        Verdict::Violation => false,
        Verdict::Undecided => panic!("undecided: {history:?}"),
    }
}

fn sample(seed: u64, shape: impl FnOnce(&mut Rng) -> Shape) -> KvHistory {
    let mut rng = Rng(seed);
    let shape = shape(&mut rng);
    let mut history = legal(&mut rng, &shape);
    for _ in 0..[0, 1, 1, 2][rng.below(4)] {
        corrupt(&mut rng, &mut history);
    }
    history
}

#[test]
fn equal_to_brute_force_and_to_stateright() {
    // Verdicts, of all histories and of those with unknown outcomes: [illegal, legal].
    let (mut seen, mut seen_unknown) = ([0; 2], [0; 2]);
    let asked = std::env::var("ERAFT_CROSSCHECK").ok().and_then(|count| count.parse().ok());
    for seed in 0..asked.unwrap_or(SMALL_HISTORIES).max(SMALL_HISTORIES) {
        let history = sample(seed, Shape::small);
        let expected = brute_force(&history);
        assert_eq!(stateright(&history), expected, "the oracles differ, seed {seed}: {history:#?}");
        // Not confirmed by another search, which would hide mistakes.
        let verdict = check(&Kv::new(), &history, &Options { confirm: false, ..Options::default() }).verdict;
        assert_eq!(verdict == Verdict::Linearizable, expected, "seed {seed}: {history:#?}");
        let whole =
            check(&Whole::new(Kv::new()), &history, &Options { confirm: false, ..Options::default() });
        assert_eq!(whole.verdict, verdict, "in one piece, seed {seed}: {history:#?}");
        assert_engines_agree("the store", &Kv::new(), &history, verdict);
        seen[usize::from(expected)] += 1;
        if history.operations.iter().any(|operation| operation.ret().is_none()) {
            seen_unknown[usize::from(expected)] += 1;
        }
    }
    println!("illegal, legal: {seen:?}; of these with unknown outcomes: {seen_unknown:?}");
    assert!(seen.iter().all(|count| *count > 1_500), "{seen:?}");
    assert!(seen_unknown.iter().all(|count| *count > 1_000), "{seen_unknown:?}");
}

#[test]
fn reductions_change_no_verdict_of_larger_histories() {
    let mut seen = [0; 2];
    for seed in 0..LARGER_HISTORIES {
        let history = sample(seed, |rng| Shape {
            operations: 12 + rng.below(30),
            clients: 2 + rng.below(4),
            keys: 1,
            values: rng.below(4),
            unknown: rng.below(4),
            gets: 45,
            appends: [0, 10, 25][rng.below(3)],
            deletes: 5,
            cas: [0, 15][rng.below(2)],
        });
        let expected = is_linearizable(&Hinted::new(Some(Class::General), false), &history);
        let models =
            [Hinted::new(None, true), Hinted::new(None, false), Hinted::new(Some(Class::General), true)];
        for (number, model) in models.iter().enumerate() {
            assert_eq!(is_linearizable(model, &history), expected, "seed {seed}, {number}: {history:#?}");
        }
        seen[usize::from(expected)] += 1;
    }
    println!("illegal, legal: {seen:?}");
    assert!(seen.iter().all(|count| *count > 200), "{seen:?}");
}

#[test]
fn every_order_that_is_handed_out_explains_the_answers() {
    for seed in 0..SMALL_HISTORIES / 4 {
        let history = sample(seed, Shape::small);
        let Some(orders) = linearize(&Kv::new(), &history, &Options::default()) else {
            assert!(!brute_force(&history));
            continue;
        };
        let mut store = Store::default();
        for order in &orders {
            for (place, number) in order.iter().enumerate() {
                let operation = &history.operations[*number];
                let ret = store.invoke(&operation.op);
                assert!(operation.ret().is_none_or(|expected| *expected == ret), "seed {seed}");
                let late = order[..place].iter().any(|before| {
                    let before = history.operations[*before].invoked.event;
                    operation.returned().is_some_and(|returned| returned.event < before)
                });
                assert!(!late, "seed {seed}: {order:?} contradicts real time");
            }
        }
        let returned = history.operations.iter().filter(|operation| operation.ret().is_some()).count();
        assert!(orders.iter().map(Vec::len).sum::<usize>() >= returned);
    }
}
