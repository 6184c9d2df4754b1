//! Every model against brute force over an independent implementation of the same object, on random small histories with
//! unknown outcomes; also through the adapter from stateright, and through a nondeterministic model.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::hash::Hash;

use common::Rng;
use common::oracle::brute_force_of;
use eraft_checker::models::bank::{Bank, BankOp, BankRet};
use eraft_checker::models::counter::{Counter, CounterOp};
use eraft_checker::models::list::{ListAppend, ListOp};
use eraft_checker::models::nondeterministic::{Choices, Nondeterministic};
use eraft_checker::models::register::{Register, RegisterOp, RegisterRet};
use eraft_checker::models::set::{Set, SetOp, WholeSet, WholeSetOp};
use eraft_checker::models::stateright::FromStateright;
use eraft_checker::{History, HistoryBuilder, Model, Options, Outcome, Value, Verdict, check, minimize};
use stateright::semantics::SequentialSpec;

/// For each model, unless `ERAFT_CROSSCHECK` asks for more.
const HISTORIES: u64 = 3_000;

/// A run of clients against `object`; then perhaps one answer is exchanged with another.
fn sample<S>(
    rng: &mut Rng,
    mut object: S,
    request: impl Fn(&mut Rng, usize) -> S::Op,
) -> History<S::Op, S::Ret>
where
    S: SequentialSpec,
    S::Op: Clone,
    S::Ret: Clone,
{
    let (operations, clients) = (2 + rng.below(7), 1 + rng.below(4));
    let mut builder = HistoryBuilder::new();
    let mut open = vec![None::<(S::Op, Option<S::Ret>)>; clients];
    let mut asked = 0;
    while asked < operations || open.iter().any(Option::is_some) {
        let client = rng.below(clients);
        open[client] = match open[client].take() {
            None if asked < operations => {
                let op = request(rng, asked);
                asked += 1;
                builder.invoke(client as u64, op.clone(), 0, None).unwrap();
                Some((op, None))
            }
            None => None,
            Some((op, None)) if rng.percent(12) => {
                builder.info(client as u64).unwrap();
                if rng.percent(50) {
                    object.invoke(&op);
                }
                None
            }
            Some((op, None)) => {
                let ret = object.invoke(&op);
                Some((op, Some(ret)))
            }
            Some((_, Some(ret))) => {
                builder.ok(client as u64, ret, None, 0, None).unwrap();
                None
            }
        };
    }
    let mut history = builder.finish();
    if rng.percent(60) && !history.operations.is_empty() {
        let (one, other) = (rng.below(history.operations.len()), rng.below(history.operations.len()));
        if let (Some(ret), Outcome::Ok { ret: changed, .. }) =
            (history.operations[other].ret().cloned(), &mut history.operations[one].outcome)
        {
            *changed = ret;
        }
    }
    history
}

fn compare<M, S>(name: &str, model: &M, object: &S, request: impl Fn(&mut Rng, usize) -> S::Op)
where
    M: Model<Op = S::Op, Ret = S::Ret>,
    S: SequentialSpec + Clone + Eq + Hash + Debug + Send + Sync,
    S::Op: Clone + Eq + Hash + Debug + Send + Sync,
    S::Ret: Clone + Eq + Hash + Debug + Send + Sync,
{
    let asked = std::env::var("ERAFT_CROSSCHECK").ok().and_then(|count| count.parse().ok());
    let options = Options { confirm: false, ..Options::default() };
    let mut seen = [0; 2];
    for seed in 0..asked.unwrap_or(HISTORIES).max(HISTORIES) {
        let history = sample(&mut Rng(seed), object.clone(), &request);
        let expected = brute_force_of(&history, object);
        let verdict = if expected { Verdict::Linearizable } else { Verdict::Violation };
        let report = check(model, &history, &options);
        assert_eq!(report.verdict, verdict, "{name}, seed {seed}: {report:#?} {history:#?}");
        let adapted = check(&FromStateright(object.clone()), &history, &options);
        assert_eq!(adapted.verdict, verdict, "{name}, seed {seed}, adapted: {history:#?}");
        if let Some(small) = minimize(model, &history, &options) {
            assert!(!brute_force_of(&small, object), "{name}, seed {seed}: {small:#?} of {history:#?}");
        }
        seen[usize::from(expected)] += 1;
    }
    println!("{name}: illegal, legal: {seen:?}");
    assert!(seen.iter().all(|count| *count > 300), "{name}: {seen:?}");
}

fn value(number: usize) -> Value {
    Value::from(number.to_string().as_str())
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct TestRegister(Option<Value>);

impl SequentialSpec for TestRegister {
    type Op = RegisterOp;
    type Ret = RegisterRet;

    fn invoke(&mut self, op: &RegisterOp) -> RegisterRet {
        match op {
            RegisterOp::Read { .. } => RegisterRet::Value(self.0.clone()),
            RegisterOp::Write { value, .. } => {
                self.0 = Some(value.clone());
                RegisterRet::Done
            }
            RegisterOp::Cas { expected, new, .. } => {
                let swapped = self.0 == *expected;
                if swapped {
                    self.0 = Some(new.clone());
                }
                RegisterRet::Swapped(swapped)
            }
        }
    }
}

#[test]
fn register() {
    let request = |values: usize, cas: usize| {
        move |rng: &mut Rng, asked: usize| {
            let new = if values == 0 { value(asked) } else { value(rng.below(values)) };
            match rng.below(100) {
                dice if dice < cas => RegisterOp::Cas { key: None, expected: Some(value(rng.below(4))), new },
                dice if dice < 50 + cas / 2 => RegisterOp::Read { key: None },
                _ => RegisterOp::Write { key: None, value: new },
            }
        }
    };
    let object = TestRegister::default();
    compare("register", &Register::plain(), &object, request(0, 0));
    compare("register, repeated", &Register::plain(), &object, request(3, 0));
    compare("cas-register", &Register::with_cas(), &object, request(3, 30));
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct TestCounter(i64);

impl SequentialSpec for TestCounter {
    type Op = CounterOp;
    type Ret = Option<i64>;

    fn invoke(&mut self, op: &CounterOp) -> Option<i64> {
        match op {
            CounterOp::Add(amount) => {
                self.0 += amount;
                None
            }
            CounterOp::Read => Some(self.0),
        }
    }
}

#[test]
fn counter() {
    compare("counter", &Counter, &TestCounter::default(), |rng, _| match rng.below(2) {
        0 => CounterOp::Read,
        _ => CounterOp::Add(rng.below(3) as i64 - 1),
    });
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct TestSet(BTreeSet<Value>);

impl SequentialSpec for TestSet {
    type Op = SetOp;
    type Ret = Option<bool>;

    fn invoke(&mut self, op: &SetOp) -> Option<bool> {
        match op {
            SetOp::Add(element) => Some(self.0.insert(element.clone())),
            SetOp::Remove(element) => Some(self.0.remove(element)),
            SetOp::Contains(element) => Some(self.0.contains(element)),
        }
    }
}

#[test]
fn set() {
    compare("set", &Set, &TestSet::default(), |rng, _| {
        let element = value(rng.below(2));
        match rng.below(3) {
            0 => SetOp::Add(element),
            1 => SetOp::Remove(element),
            _ => SetOp::Contains(element),
        }
    });
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct TestWholeSet(Vec<Value>);

impl SequentialSpec for TestWholeSet {
    type Op = WholeSetOp;
    type Ret = Option<BTreeSet<Value>>;

    fn invoke(&mut self, op: &WholeSetOp) -> Option<BTreeSet<Value>> {
        match op {
            WholeSetOp::Add(element) => {
                self.0.push(element.clone());
                None
            }
            WholeSetOp::Read => Some(self.0.iter().cloned().collect()),
        }
    }
}

#[test]
fn whole_set() {
    compare("whole set", &WholeSet, &TestWholeSet::default(), |rng, _| match rng.below(2) {
        0 => WholeSetOp::Add(value(rng.below(4))),
        _ => WholeSetOp::Read,
    });
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct TestLists(BTreeMap<Value, Vec<Value>>);

impl SequentialSpec for TestLists {
    type Op = ListOp;
    type Ret = Option<Vec<Value>>;

    fn invoke(&mut self, op: &ListOp) -> Option<Vec<Value>> {
        match op {
            ListOp::Append { key, element } => {
                self.0.entry(key.clone()).or_default().push(element.clone());
                None
            }
            ListOp::Read { key } => Some(self.0.get(key).cloned().unwrap_or_default()),
        }
    }
}

#[test]
fn list_append() {
    for elements in [0, 3] {
        compare("list-append", &ListAppend, &TestLists::default(), |rng, asked| {
            let key = value(rng.below(2));
            let element = value(if elements == 0 { asked } else { rng.below(elements) });
            if rng.percent(50) { ListOp::Append { key, element } } else { ListOp::Read { key } }
        });
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct TestBank([u64; 3]);

impl SequentialSpec for TestBank {
    type Op = BankOp;
    type Ret = BankRet;

    fn invoke(&mut self, op: &BankOp) -> BankRet {
        match op {
            BankOp::Transfer { from, to, amount } => {
                let (from, to) = (*from as usize, *to as usize);
                let enough = self.0[from] >= *amount;
                if enough {
                    self.0[from] -= amount;
                    self.0[to] += amount;
                }
                BankRet::Moved(enough)
            }
            BankOp::Read => BankRet::Balances((0..).zip(self.0).collect()),
        }
    }
}

#[test]
fn bank() {
    let balances = [3, 1, 0];
    let model = Bank::new((0..).zip(balances).collect());
    compare("bank", &model, &TestBank(balances), |rng, _| match rng.below(2) {
        0 => BankOp::Read,
        _ => BankOp::Transfer {
            from: rng.below(3) as u32,
            to: rng.below(3) as u32,
            amount: 1 + rng.below(2) as u64,
        },
    });
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
