//! Random histories. A run of clients against a [`Store`] gives a history that is linearizable for certain; `corrupt`
//! changes an answer, after which it may be or not.

use eraft_checker::models::kv::{KvOp, KvRet};
use eraft_checker::{HistoryBuilder, Outcome, Value};
use stateright::semantics::SequentialSpec;

use super::{KvHistory, Rng, Store};

/// What a run looks like.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub operations: usize,
    pub clients: usize,
    pub keys: usize,
    /// Different values to write; 0 makes every value unique.
    pub values: usize,
    /// So many operations get no answer.
    pub unknown: usize,
    /// Percent of the operations.
    pub gets: usize,
    pub appends: usize,
    pub deletes: usize,
    pub cas: usize,
}

impl Shape {
    /// A history that the slow oracles can judge.
    pub fn small(rng: &mut Rng) -> Shape {
        let operations = 2 + rng.below(7);
        Shape {
            operations,
            clients: 1 + rng.below(4),
            keys: 1 + rng.below(2),
            values: 1 + rng.below(3),
            unknown: rng.below(operations.min(4)),
            gets: 40,
            appends: 15,
            deletes: 10,
            cas: 15,
        }
    }
}

enum Client {
    Idle,
    Asked(KvOp),
    Executed(KvRet),
}

/// A run of clients against one store: linearizable.
pub fn legal(rng: &mut Rng, shape: &Shape) -> KvHistory {
    let mut builder = HistoryBuilder::new();
    let mut store = Store::default();
    let mut clients: Vec<Client> = (0..shape.clients).map(|_| Client::Idle).collect();
    // Requests whose client has given up, but which may still be executed.
    let mut adrift: Vec<KvOp> = Vec::new();
    let (mut asked, mut unknown_left) = (0, shape.unknown);
    // As if every event had a line of its own.
    let mut line = 0;
    while asked < shape.operations || clients.iter().any(|client| !matches!(client, Client::Idle)) {
        if !adrift.is_empty() && rng.percent(10) {
            let late = adrift.swap_remove(rng.below(adrift.len()));
            store.invoke(&late);
        }
        let number = rng.below(clients.len());
        let process = number as u64;
        let remaining = shape.operations - asked + 1;
        clients[number] = match std::mem::replace(&mut clients[number], Client::Idle) {
            Client::Idle if asked == shape.operations => Client::Idle,
            Client::Idle => {
                let op = request(rng, shape, &store, asked);
                asked += 1;
                line += 1;
                builder.invoke(process, op.clone(), line, None).unwrap();
                Client::Asked(op)
            }
            Client::Asked(op) if unknown_left > 0 && rng.below(remaining) < unknown_left => {
                unknown_left -= 1;
                line += 1;
                builder.info(process).unwrap();
                if rng.percent(60) {
                    adrift.push(op);
                }
                Client::Idle
            }
            Client::Asked(op) => Client::Executed(store.invoke(&op)),
            Client::Executed(ret) => {
                line += 1;
                builder.ok(process, ret, None, line, None).unwrap();
                Client::Idle
            }
        };
    }
    builder.finish()
}

fn request(rng: &mut Rng, shape: &Shape, store: &Store, number: usize) -> KvOp {
    let key = Value::from(format!("k{}", rng.below(shape.keys)).as_str());
    let value = |rng: &mut Rng| {
        let number = if shape.values == 0 { number } else { rng.below(shape.values) };
        Value::from(format!("{number};").as_str())
    };
    let held = store.0.get(&key).map(|bytes| Value::new(bytes));
    match rng.below(100) {
        dice if dice < shape.gets => KvOp::Get { key },
        dice if dice < shape.gets + shape.appends => KvOp::Append { key, value: value(rng) },
        dice if dice < shape.gets + shape.appends + shape.deletes => KvOp::Delete { key },
        dice if dice < shape.gets + shape.appends + shape.deletes + shape.cas => {
            let expected = if rng.percent(50) { held } else { Some(value(rng)) };
            KvOp::Cas { key, expected, new: value(rng) }
        }
        _ => KvOp::Put { key, value: value(rng) },
    }
}

/// Changes one answer, or exchanges the answers of two gets.
pub fn corrupt(rng: &mut Rng, history: &mut KvHistory) {
    let read: Vec<usize> = (0..history.operations.len())
        .filter(|number| history.operations[*number].ret().is_some_and(|ret| !matches!(ret, KvRet::Done)))
        .collect();
    if read.is_empty() {
        return;
    }
    let other = history.operations[read[rng.below(read.len())]].ret().cloned();
    let chosen = &mut history.operations[read[rng.below(read.len())]];
    let Outcome::Ok { ret, .. } = &mut chosen.outcome else { return };
    *ret = match (&*ret, other) {
        (KvRet::Value(_), Some(KvRet::Value(other))) if rng.percent(70) => KvRet::Value(other),
        (KvRet::Value(Some(value)), _) if rng.percent(50) => KvRet::Value(Some(value.concat(value))),
        (KvRet::Value(_), _) => KvRet::Value(rng.percent(50).then(|| Value::from("0;"))),
        (KvRet::Deleted(deleted), _) => KvRet::Deleted(!deleted),
        (KvRet::Swapped(swapped), _) => KvRet::Swapped(!swapped),
        (KvRet::Done, _) => KvRet::Done,
    };
}

/// Makes a get return what another get of its key returned long before, although a third one in between returned
/// something else; with unique values that is never linearizable. Says which operation it changed.
pub fn plant_stale_read(rng: &mut Rng, history: &mut KvHistory) -> usize {
    let gets: Vec<usize> = (0..history.operations.len())
        .filter(|number| matches!(history.operations[*number].ret(), Some(KvRet::Value(Some(_)))))
        .collect();
    loop {
        let mut chosen = [(); 3].map(|()| gets[rng.below(gets.len())]);
        chosen.sort_unstable();
        let [old, between, stale] = chosen.map(|number| &history.operations[number]);
        let after = |first: &eraft_checker::Operation<KvOp, KvRet>,
                     second: &eraft_checker::Operation<KvOp, KvRet>| {
            first.returned().is_some_and(|returned| returned.event < second.invoked.event)
        };
        let same_key = old.op == between.op && between.op == stale.op;
        if same_key && old.ret() != between.ret() && after(old, between) && after(between, stale) {
            let old_ret = old.ret().cloned();
            if let (Outcome::Ok { ret, .. }, Some(old_ret)) =
                (&mut history.operations[chosen[2]].outcome, old_ret)
            {
                *ret = old_ret;
                return chosen[2];
            }
        }
    }
}
