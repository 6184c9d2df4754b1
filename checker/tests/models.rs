//! Every model against brute force over an independent implementation of the same object, on random small histories with
//! unknown outcomes; also through the adapter from stateright.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::hash::Hash;

use common::oracle::brute_force_of;
use common::{Rng, assert_engines_agree};
use eraft_checker::models::bank::{Bank, BankOp, BankRet};
use eraft_checker::models::controller::{Configuration, Controller, ControllerOp, ControllerRet};
use eraft_checker::models::counter::{Counter, CounterOp};
use eraft_checker::models::list::{ListAppend, ListOp};
use eraft_checker::models::register::{Register, RegisterOp, RegisterRet};
use eraft_checker::models::set::{Set, SetOp, WholeSet, WholeSetOp};
use eraft_checker::models::stateright::FromStateright;
use eraft_checker::models::whole::Whole;
use eraft_checker::{
    History, HistoryBuilder, Model, Online, OnlineOptions, Operation, Options, Outcome, Report, Value,
    Verdict, check, minimize,
};
use stateright::semantics::SequentialSpec;

/// For each model, unless `ERAFT_CROSSCHECK` asks for more.
const HISTORIES: u64 = 3_000;

fn histories() -> u64 {
    let asked = std::env::var("ERAFT_CROSSCHECK").ok().and_then(|count| count.parse().ok());
    asked.unwrap_or(HISTORIES).max(HISTORIES)
}

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

/// What is known of a history after it was fed event by event.
fn followed<M: Model>(model: &M, history: &History<M::Op, M::Ret>) -> Report {
    let mut events: Vec<(usize, usize)> = Vec::new();
    for (number, operation) in history.operations.iter().enumerate() {
        events.push((operation.invoked.event, number));
        events.extend(operation.returned().map(|returned| (returned.event, number)));
    }
    events.sort_unstable();
    let mut online = Online::new(model.clone(), OnlineOptions { probe_every: 3, ..OnlineOptions::default() });
    for (event, number) in events {
        // A process for each operation, so that those of unknown outcome can stay open.
        let (process, operation) = (number as u64, &history.operations[number]);
        if event == operation.invoked.event {
            online.invoke(process, operation.op.clone(), 0, None).unwrap();
        } else if let Some(ret) = operation.ret() {
            online.ok(process, ret.clone(), 0, None).unwrap();
        }
    }
    online.report().clone()
}

/// In place, a step leads to the same state.
fn assert_applies_as_it_steps<M: Model>(model: &M, history: &History<M::Op, M::Ret>) {
    let mut state = model.init();
    for operation in &history.operations {
        for ret in [operation.ret(), None] {
            let stepped = model.step(&state, &operation.op, ret);
            let mut applied = state.clone();
            let possible = model.apply(&mut applied, &operation.op, ret);
            assert_eq!(possible.then_some(applied), stepped, "{:?} -> {ret:?} in {state:?}", operation.op);
            state = stepped.unwrap_or(state);
            model.with_key(&operation.op, |key| assert_eq!(key, model.key(&operation.op).as_ref()));
        }
    }
}

fn compare<M, S>(name: &str, model: &M, object: &S, request: impl Fn(&mut Rng, usize) -> S::Op)
where
    M: Model<Op = S::Op, Ret = S::Ret>,
    S: SequentialSpec + Clone + Eq + Hash + Debug + Send + Sync,
    S::Op: Clone + Eq + Hash + Debug + Send + Sync,
    S::Ret: Clone + Eq + Hash + Debug + Send + Sync,
{
    let options = Options { confirm: false, ..Options::default() };
    let mut seen = [0; 2];
    for seed in 0..histories() {
        let history = sample(&mut Rng(seed), object.clone(), &request);
        let expected = brute_force_of(&history, object);
        let verdict = if expected { Verdict::Linearizable } else { Verdict::Violation };
        let report = check(model, &history, &options);
        assert_eq!(report.verdict, verdict, "{name}, seed {seed}: {report:#?} {history:#?}");
        let online = followed(model, &history);
        assert_eq!(online.verdict, verdict, "{name}, seed {seed}, online: {online:#?} {history:#?}");
        let adapted = check(&FromStateright(object.clone()), &history, &options);
        assert_eq!(adapted.verdict, verdict, "{name}, seed {seed}, adapted: {history:#?}");
        let whole = check(&Whole::new(model.clone()), &history, &options);
        assert_eq!(whole.verdict, verdict, "{name}, seed {seed}, in one piece: {history:#?}");
        assert_engines_agree(name, model, &history, verdict);
        assert_engines_agree(name, &Whole::new(model.clone()), &history, verdict);
        assert_applies_as_it_steps(model, &history);
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

/// A controller that spreads the shards in turn, which is one of the ways that the model permits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct TestController(Vec<Configuration>);

const SHARDS: usize = 3;

impl TestController {
    fn new() -> Self {
        let shards = vec![0; SHARDS];
        TestController(vec![Configuration { number: 0, groups: BTreeSet::new(), shards }])
    }

    fn spread(next: &mut Configuration) {
        let groups: Vec<u32> = next.groups.iter().copied().collect();
        let group = |shard: usize| if groups.is_empty() { 0 } else { groups[shard % groups.len()] };
        next.shards = (0..SHARDS).map(group).collect();
    }
}

impl SequentialSpec for TestController {
    type Op = ControllerOp;
    type Ret = ControllerRet;

    fn invoke(&mut self, op: &ControllerOp) -> ControllerRet {
        let mut next = self.0.last().cloned().unwrap();
        next.number += 1;
        let made = match op {
            ControllerOp::Query(number) => {
                let last = self.0.len() - 1;
                let asked = number.map_or(last, |number| last.min(number as usize));
                return ControllerRet::Config(self.0[asked].clone());
            }
            ControllerOp::Join(groups) => {
                let fresh = next.groups.is_disjoint(groups);
                next.groups.extend(groups);
                TestController::spread(&mut next);
                fresh
            }
            ControllerOp::Leave(groups) => {
                let there = groups.is_subset(&next.groups);
                next.groups.retain(|group| !groups.contains(group));
                TestController::spread(&mut next);
                there
            }
            ControllerOp::Move { shard, group } => {
                next.shards[*shard] = *group;
                next.groups.contains(group)
            }
        };
        if made {
            self.0.push(next);
            ControllerRet::Done
        } else {
            ControllerRet::Refused
        }
    }
}

fn controller_request(rng: &mut Rng, _: usize) -> ControllerOp {
    let some = |rng: &mut Rng| BTreeSet::from([1 + rng.below(2) as u32]);
    match rng.below(7) {
        0 | 1 => ControllerOp::Join(some(rng)),
        2 => ControllerOp::Leave(some(rng)),
        3 => ControllerOp::Move { shard: rng.below(SHARDS), group: 1 + rng.below(2) as u32 },
        4 => ControllerOp::Query(Some(rng.below(3) as u64)),
        _ => ControllerOp::Query(None),
    }
}

/// The model permits any even placement, so it is compared with brute force over itself; what one controller did must be
/// permitted.
#[test]
fn controller() {
    let model = Controller::new(SHARDS);
    let options = Options { confirm: false, ..Options::default() };
    let mut seen = [0; 2];
    for seed in 0..histories() {
        let history = sample(&mut Rng(seed), TestController::new(), controller_request);
        let verdict = check(&model, &history, &options).verdict;
        let permitted = brute_force_over(&model, &history.operations, &model.init());
        assert_eq!(verdict == Verdict::Linearizable, permitted, "seed {seed}: {history:#?}");
        assert_engines_agree("controller", &model, &history, verdict);
        if brute_force_of(&history, &TestController::new()) {
            assert_eq!(verdict, Verdict::Linearizable, "seed {seed}: {history:#?}");
        }
        if let Some(small) = minimize(&model, &history, &options) {
            assert!(!brute_force_over(&model, &small.operations, &model.init()), "seed {seed}: {small:#?}");
        }
        seen[usize::from(permitted)] += 1;
    }
    println!("controller: illegal, legal: {seen:?}");
    assert!(seen.iter().all(|count| *count > 300), "{seen:?}");
}

/// Tries all orders, asking the model.
fn brute_force_over<M: Model>(model: &M, left: &[Operation<M::Op, M::Ret>], state: &M::State) -> bool {
    if left.iter().all(|operation| operation.ret().is_none()) {
        return true;
    }
    let first_return = left.iter().filter_map(|operation| operation.returned()).map(|at| at.event).min();
    (0..left.len()).any(|number| {
        let operation = &left[number];
        if first_return.is_some_and(|first| operation.invoked.event > first) {
            return false;
        }
        let Some(next) = model.step(state, &operation.op, operation.ret()) else { return false };
        let mut rest = left.to_vec();
        rest.remove(number);
        brute_force_over(model, &rest, &next)
    })
}
