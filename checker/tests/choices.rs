//! Models whose operations may end in several ways.

mod common;

use common::{Rng, assert_engines_agree};
use eraft_checker::models::controller::{Configuration, Controller, ControllerOp, ControllerRet};
use eraft_checker::models::nondeterministic::{Choices, Nondeterministic};
use eraft_checker::models::stateright::FromStateright;
use eraft_checker::{History, HistoryBuilder, Operation, Options, Verdict, check};
use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};

const SHARDS: usize = 3;

#[test]
fn a_controller_spreads_evenly_and_remembers() {
    let config = |number: u64, groups: &[u32], shards: [u32; SHARDS]| {
        let groups = groups.iter().copied().collect();
        ControllerRet::Config(Configuration { number, groups, shards: shards.to_vec() })
    };
    let join = |groups: &[u32]| ControllerOp::Join(groups.iter().copied().collect());
    let verdict = |events: &[(ControllerOp, ControllerRet)]| {
        let mut builder = HistoryBuilder::new();
        for (op, ret) in events {
            builder.invoke(1, op.clone(), 0, None).unwrap();
            builder.ok(1, ret.clone(), None, 0, None).unwrap();
        }
        check(&Controller::new(SHARDS), &builder.finish(), &Options::default()).verdict
    };
    let both = (join(&[1, 2]), ControllerRet::Done);
    let query = |ret| (ControllerOp::Query(None), ret);
    let seen = config(1, &[1, 2], [1, 2, 1]);
    assert_eq!(verdict(&[both.clone(), query(seen.clone())]), Verdict::Linearizable);
    assert_eq!(verdict(&[both.clone(), query(config(1, &[1, 2], [2, 2, 1]))]), Verdict::Linearizable);
    // Three shards of one group, a group that is not there, a number that is not, another placement than before.
    for wrong in [
        config(1, &[1, 2], [1, 1, 1]),
        config(1, &[1, 2], [1, 2, 3]),
        config(2, &[1, 2], [1, 2, 1]),
        config(1, &[1], [1, 1, 1]),
    ] {
        assert_eq!(verdict(&[both.clone(), query(wrong)]), Verdict::Violation);
    }
    let other = config(1, &[1, 2], [2, 1, 1]);
    assert_eq!(verdict(&[both.clone(), query(seen.clone()), query(other)]), Verdict::Violation);
    let moved = (ControllerOp::Move { shard: 1, group: 1 }, ControllerRet::Done);
    let after = query(config(2, &[1, 2], [1, 1, 1]));
    assert_eq!(verdict(&[both.clone(), moved.clone(), after.clone()]), Verdict::Linearizable);
    assert_eq!(verdict(&[both, query(seen), moved, after]), Verdict::Linearizable);
}

/// A die: a roll may show any face, a look must show the face that was rolled last.
#[derive(Clone)]
struct Die;

impl Choices for Die {
    type State = u8;
    type Op = bool;
    type Ret = u8;
    type Key = ();

    fn init(&self) -> Vec<u8> {
        (1..=6).collect()
    }

    fn step(&self, state: &u8, roll: &bool, ret: Option<&u8>) -> Vec<u8> {
        match (roll, ret) {
            (true, _) => (1..=6).collect(),
            (false, None) => vec![*state],
            (false, Some(face)) => Vec::from_iter((face == state).then_some(*face)),
        }
    }
}

#[test]
fn a_die_may_fall_anyhow_but_lies_still() {
    let verdict = |events: &[(bool, u8)]| {
        let mut builder = HistoryBuilder::new();
        for (roll, face) in events {
            builder.invoke(1, *roll, 0, None).unwrap();
            builder.ok(1, *face, None, 0, None).unwrap();
        }
        check(&Nondeterministic(Die), &builder.finish(), &Options::default()).verdict
    };
    assert_eq!(verdict(&[(false, 3), (false, 3), (true, 0), (false, 5)]), Verdict::Linearizable);
    assert_eq!(verdict(&[(false, 3), (false, 4)]), Verdict::Violation);
    assert_eq!(verdict(&[(true, 0), (false, 7)]), Verdict::Violation);
}

/// A register that may lose a write, and forget that it was ever written. Nobody is told.
#[derive(Clone)]
struct Forgetful;

/// A write of a number, or a read.
type ForgetfulOp = Option<u8>;

impl Choices for Forgetful {
    type State = u8;
    type Op = ForgetfulOp;
    type Ret = u8;
    type Key = ();

    fn init(&self) -> Vec<u8> {
        vec![0]
    }

    fn step(&self, state: &u8, write: &ForgetfulOp, ret: Option<&u8>) -> Vec<u8> {
        match write {
            Some(written) => vec![*written, *state, 0],
            None => Vec::from_iter(ret.is_none_or(|read| read == state).then_some(*state)),
        }
    }
}

/// Tries all orders and all choices.
fn brute_force<C: Choices>(object: &C, left: &[Operation<C::Op, C::Ret>], state: &C::State) -> bool {
    if left.iter().all(|operation| operation.ret().is_none()) {
        return true;
    }
    let first_return = left.iter().filter_map(|operation| operation.returned()).map(|at| at.event).min();
    (0..left.len()).any(|number| {
        let operation = &left[number];
        if first_return.is_some_and(|first| operation.invoked.event > first) {
            return false;
        }
        let mut rest = left.to_vec();
        rest.remove(number);
        let next = object.step(state, &operation.op, operation.ret());
        next.iter().any(|next| brute_force(object, &rest, next))
    })
}

/// Operations that overlap at random, some of unknown outcome, with answers that are often possible.
fn random_history(rng: &mut Rng) -> History<ForgetfulOp, u8> {
    let mut builder = HistoryBuilder::new();
    let mut open: [Option<ForgetfulOp>; 3] = [None; 3];
    for _ in 0..4 + rng.below(14) {
        let process = rng.below(open.len());
        match open[process].take() {
            None => {
                let op = rng.percent(50).then(|| 1 + rng.below(3) as u8);
                builder.invoke(process as u64, op, 0, None).unwrap();
                open[process] = Some(op);
            }
            Some(_) if rng.percent(10) => builder.info(process as u64).unwrap(),
            Some(op) => {
                let ret = if op.is_some() { 0 } else { rng.below(4) as u8 };
                builder.ok(process as u64, ret, None, 0, None).unwrap();
            }
        }
    }
    builder.finish()
}

#[test]
fn choices_are_explored_as_brute_force_does() {
    let mut seen = [0; 2];
    for seed in 0..4_000 {
        let history = random_history(&mut Rng(seed));
        let initial = Forgetful.init();
        let possible = initial.iter().any(|state| brute_force(&Forgetful, &history.operations, state));
        let verdict = if possible { Verdict::Linearizable } else { Verdict::Violation };
        let model = Nondeterministic(Forgetful);
        let told = check(&model, &history, &Options { confirm: false, ..Options::default() }).verdict;
        assert_eq!(told, verdict, "seed {seed}: {history:#?}");
        assert_engines_agree("a forgetful register", &model, &history, verdict);
        seen[usize::from(possible)] += 1;
    }
    println!("illegal, legal: {seen:?}");
    assert!(seen.iter().all(|count| *count > 500), "{seen:?}");
}

/// A thermometer that may be read one degree too high or too low.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Thermometer(i32);

/// A degree to set, or a read.
type ThermometerOp = Option<i32>;

impl SequentialSpec for Thermometer {
    type Op = ThermometerOp;
    type Ret = i32;

    fn invoke(&mut self, set: &ThermometerOp) -> i32 {
        self.0 = set.unwrap_or(self.0);
        self.0
    }

    fn is_valid_step(&mut self, set: &ThermometerOp, read: &i32) -> bool {
        self.invoke(set).abs_diff(*read) <= 1
    }
}

#[test]
fn an_object_of_stateright_says_which_answers_are_right() {
    let mut seen = [0; 2];
    for seed in 0..2_000 {
        let mut rng = Rng(seed);
        let mut builder = HistoryBuilder::new();
        let mut tester = LinearizabilityTester::new(Thermometer(0));
        let mut open: [Option<ThermometerOp>; 3] = [None; 3];
        for _ in 0..4 + rng.below(10) {
            let process = rng.below(open.len());
            match open[process].take() {
                None => {
                    let op = rng.percent(40).then(|| rng.below(6) as i32);
                    builder.invoke(process as u64, op, 0, None).unwrap();
                    tester.on_invoke(process, op).unwrap();
                    open[process] = Some(op);
                }
                Some(op) => {
                    let ret = op.unwrap_or_else(|| rng.below(6) as i32);
                    builder.ok(process as u64, ret, None, 0, None).unwrap();
                    tester.on_return(process, ret).unwrap();
                }
            }
        }
        let verdict = if tester.is_consistent() { Verdict::Linearizable } else { Verdict::Violation };
        let model = FromStateright(Thermometer(0));
        let history = builder.finish();
        assert_eq!(
            check(&model, &history, &Options::default()).verdict,
            verdict,
            "seed {seed}: {history:#?}"
        );
        seen[usize::from(verdict == Verdict::Linearizable)] += 1;
    }
    println!("illegal, legal: {seen:?}");
    assert!(seen.iter().all(|count| *count > 300), "{seen:?}");
}
