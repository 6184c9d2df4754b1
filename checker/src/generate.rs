//! Random histories for tests and benchmarks: clients against one object that is linearizable for certain, so that every
//! history is, unless one stale read is planted.
//!
//! Invariant: the same shape and seed give the same history, on every machine.

use std::collections::BTreeMap;

use crate::history::{History, HistoryBuilder, Outcome};
use crate::models::kv::{Kv, KvOp, KvRet};
use crate::models::register::{Register, RegisterOp, RegisterRet};
use crate::read::AnyHistory;
use crate::value::Value;

/// Of the operations whose client gives up, so many percent take effect, at some later time.
const LATE_EFFECT_PERCENT: u64 = 50;

/// Once in so many steps an operation whose client gave up takes effect.
const LATE_EFFECT_PERIOD: u64 = 20;

/// What a history looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// How many operations.
    pub operations: usize,
    /// How many clients ask at the same time.
    pub clients: u64,
    /// How many keys; 0 makes it a single register.
    pub keys: u64,
    /// How many different values are written; 0 makes every value unique.
    pub values: u64,
    /// Percent of the operations that read.
    pub reads: u64,
    /// Percent that append; not for a register.
    pub appends: u64,
    /// Percent that delete; not for a register.
    pub deletes: u64,
    /// Percent that compare and set.
    pub cas: u64,
    /// Of a thousand operations, so many get no answer.
    pub unknown_permille: u64,
    /// Whether there is a read near the end with an old value. If values are unique, it is given the value of a read long
    /// before, and that is a violation. If they repeat and every outcome is known, the last two operations are a write and a
    /// read of another value, which is one too; with unknown outcomes it may not be.
    pub stale: bool,
    /// Whether answers carry the order in which the operations took effect, as a system with a log can tell it.
    pub index: bool,
}

impl Default for Shape {
    fn default() -> Shape {
        Shape {
            operations: 1_000,
            clients: 5,
            keys: 10,
            values: 0,
            reads: 50,
            appends: 0,
            deletes: 0,
            cas: 0,
            unknown_permille: 0,
            stale: false,
            index: false,
        }
    }
}

/// A small generator of random numbers (splitmix64).
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }
}

enum Client {
    Idle,
    Asked(KvOp),
    Executed(KvRet, u64),
}

/// A history of this shape.
pub fn generate(shape: &Shape, seed: u64) -> AnyHistory {
    let known_and_repeated = shape.values > 1 && shape.unknown_permille == 0;
    let history = if shape.stale && known_and_repeated {
        let operations = shape.operations.saturating_sub(CONTRADICTION_OPERATIONS);
        run(&Shape { operations, ..*shape }, &mut Rng(seed), end_in_contradiction)
    } else {
        let mut history = run(shape, &mut Rng(seed), |_| {});
        if shape.stale {
            plant_stale_read(&mut history);
        }
        history
    };
    if shape.keys > 0 {
        return AnyHistory::Kv(Kv::new(), history);
    }
    let register = if shape.cas > 0 { Register::with_cas() } else { Register::plain() };
    AnyHistory::Register(register, as_register(history))
}

/// The operations of [`end_in_contradiction`].
const CONTRADICTION_OPERATIONS: usize = 2;

/// When everything else has returned, one value is written and then another one read.
fn end_in_contradiction(builder: &mut HistoryBuilder<KvOp, KvRet>) {
    let (key, value) = (Value::from("k0"), |number: u64| Value::from(format!("p{number} ").as_str()));
    let put = (KvOp::Put { key: key.clone(), value: value(0) }, KvRet::Done);
    for (op, ret) in [put, (KvOp::Get { key }, KvRet::Value(Some(value(1))))] {
        let answered = builder.invoke(0, op, 0, None).and_then(|()| builder.ok(0, ret, None, 0, None));
        answered.expect("no client is busy");
    }
}

fn run(
    shape: &Shape,
    rng: &mut Rng,
    end: impl FnOnce(&mut HistoryBuilder<KvOp, KvRet>),
) -> History<KvOp, KvRet> {
    let keys: Vec<Value> =
        (0..shape.keys.max(1)).map(|key| Value::from(format!("k{key}").as_str())).collect();
    let mut store: BTreeMap<Value, Value> = BTreeMap::new();
    let mut builder = HistoryBuilder::new();
    let mut clients: Vec<Client> = (0..shape.clients.max(1)).map(|_| Client::Idle).collect();
    let mut late: Vec<KvOp> = Vec::new();
    let (mut asked, mut busy, mut index) = (0, 0, 0);
    let fits = "the generator keeps to the order of events";
    while asked < shape.operations || busy > 0 {
        if !late.is_empty() && rng.below(LATE_EFFECT_PERIOD) == 0 {
            let chosen = rng.below(late.len() as u64) as usize;
            execute(&mut store, &late.swap_remove(chosen));
        }
        let process = rng.below(clients.len() as u64);
        let client = &mut clients[process as usize];
        *client = match std::mem::replace(client, Client::Idle) {
            Client::Idle if asked == shape.operations => Client::Idle,
            Client::Idle => {
                let op = request(shape, rng, &keys, &store, asked);
                (asked, busy) = (asked + 1, busy + 1);
                builder.invoke(process, op.clone(), 0, None).expect(fits);
                Client::Asked(op)
            }
            Client::Asked(op) if rng.below(1_000) < shape.unknown_permille => {
                builder.info(process).expect(fits);
                busy -= 1;
                if rng.below(100) < LATE_EFFECT_PERCENT {
                    late.push(op);
                }
                Client::Idle
            }
            Client::Asked(op) => {
                index += 1;
                Client::Executed(execute(&mut store, &op), index)
            }
            Client::Executed(ret, index) => {
                busy -= 1;
                builder.ok(process, ret, shape.index.then_some(index), 0, None).expect(fits);
                Client::Idle
            }
        };
    }
    end(&mut builder);
    builder.finish()
}

fn request(
    shape: &Shape,
    rng: &mut Rng,
    keys: &[Value],
    store: &BTreeMap<Value, Value>,
    asked: usize,
) -> KvOp {
    let key = keys[rng.below(keys.len() as u64) as usize].clone();
    let mut value = |tag: char| {
        let number = if shape.values == 0 { asked as u64 } else { rng.below(shape.values) };
        Value::from(format!("{tag}{number} ").as_str())
    };
    let (put, appended) = (value('p'), value('a'));
    match rng.below(100) {
        dice if dice < shape.reads => KvOp::Get { key },
        dice if dice < shape.reads + shape.appends && shape.keys > 0 => KvOp::Append { key, value: appended },
        dice if dice < shape.reads + shape.appends + shape.deletes && shape.keys > 0 => KvOp::Delete { key },
        dice if dice >= 100 - shape.cas.min(100) => {
            let expected = store.get(&key).cloned().filter(|_| rng.below(2) == 0).or(Some(appended));
            KvOp::Cas { key, expected, new: put }
        }
        _ => KvOp::Put { key, value: put },
    }
}

fn execute(store: &mut BTreeMap<Value, Value>, op: &KvOp) -> KvRet {
    match op {
        KvOp::Get { key } => KvRet::Value(store.get(key).cloned()),
        KvOp::Put { key, value } => {
            store.insert(key.clone(), value.clone());
            KvRet::Done
        }
        KvOp::Append { key, value } => {
            let longer = store.get(key).map_or_else(|| value.clone(), |held| held.concat(value));
            store.insert(key.clone(), longer);
            KvRet::Done
        }
        KvOp::Delete { key } => KvRet::Deleted(store.remove(key).is_some()),
        KvOp::Cas { key, expected, new } => {
            let swapped = store.get(key) == expected.as_ref();
            if swapped {
                store.insert(key.clone(), new.clone());
            }
            KvRet::Swapped(swapped)
        }
    }
}

/// The last read of some key is answered like the first read of that key that had returned something else before.
fn plant_stale_read(history: &mut History<KvOp, KvRet>) {
    let is_read = |number: &usize| matches!(history.operations[*number].ret(), Some(KvRet::Value(Some(_))));
    let reads: Vec<usize> = (0..history.operations.len()).filter(is_read).collect();
    for stale in reads.iter().rev() {
        let operation = &history.operations[*stale];
        let before = reads.iter().map(|number| &history.operations[*number]);
        let old = before
            .filter(|other| other.op == operation.op && other.ret() != operation.ret())
            .find(|other| other.returned().is_some_and(|returned| returned.event < operation.invoked.event));
        let Some(old_ret) = old.and_then(|old| old.ret().cloned()) else { continue };
        if let Outcome::Ok { ret, .. } = &mut history.operations[*stale].outcome {
            *ret = old_ret;
        }
        return;
    }
}

fn as_register(history: History<KvOp, KvRet>) -> History<RegisterOp, RegisterRet> {
    let op = |op: KvOp| match op {
        KvOp::Put { value, .. } | KvOp::Append { value, .. } => RegisterOp::Write { key: None, value },
        KvOp::Cas { expected, new, .. } => RegisterOp::Cas { key: None, expected, new },
        KvOp::Get { .. } | KvOp::Delete { .. } => RegisterOp::Read { key: None },
    };
    let ret = |ret: KvRet| match ret {
        KvRet::Value(value) => RegisterRet::Value(value),
        KvRet::Swapped(swapped) => RegisterRet::Swapped(swapped),
        KvRet::Done | KvRet::Deleted(_) => RegisterRet::Done,
    };
    let operations = history.operations.into_iter().map(|operation| crate::history::Operation {
        process: operation.process,
        op: op(operation.op),
        invoked: operation.invoked,
        outcome: match operation.outcome {
            Outcome::Ok { ret: answer, returned } => Outcome::Ok { ret: ret(answer), returned },
            Outcome::Unknown => Outcome::Unknown,
        },
        index: operation.index,
    });
    History { operations: operations.collect(), failed: history.failed, notes: history.notes }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Options;
    use crate::report::Verdict;

    #[test]
    fn what_is_generated_is_what_it_says() {
        let options = Options { confirm: false, ..Options::default() };
        for seed in 0..20 {
            for keys in [0, 3] {
                let good = Shape { operations: 300, keys, unknown_permille: 10, ..Shape::default() };
                let shapes = [
                    good,
                    Shape { cas: 10, values: 4, ..good },
                    Shape { appends: 20, deletes: 10, index: true, ..good },
                ];
                for shape in shapes {
                    let report = generate(&shape, seed).check(&options);
                    assert_eq!(
                        report.verdict,
                        Verdict::Linearizable,
                        "{shape:?}, {seed}: {:?}",
                        report.reason
                    );
                    assert_eq!(report.operations, 300);
                }
                let known = Shape { unknown_permille: 0, ..good };
                for values in [0, 2, 5] {
                    let shape = Shape { stale: true, values, ..if values == 0 { good } else { known } };
                    let bad = generate(&shape, seed).check(&options);
                    assert_eq!(
                        (bad.verdict, bad.operations),
                        (Verdict::Violation, 300),
                        "seed {seed}, {values} values"
                    );
                }
            }
        }
    }
}
