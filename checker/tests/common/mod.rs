//! Shared by the tests: a seeded generator of histories, an independent key-value store, and two slow oracles.
#![allow(dead_code, reason = "no test uses all of it")]

pub mod generate;
pub mod oracle;

use std::collections::BTreeMap;

use eraft_checker::check::{Engine, check_by};
use eraft_checker::models::kv::{KvOp, KvRet};
use eraft_checker::{History, Model, Options, Value, Verdict};
use stateright::semantics::SequentialSpec;

pub type KvHistory = History<KvOp, KvRet>;

/// Every part of the engine comes to the verdict, without the others: small histories would never get as far as some of them.
pub fn assert_engines_agree<M: Model>(
    name: &str,
    model: &M,
    history: &History<M::Op, M::Ret>,
    verdict: Verdict,
) {
    for engine in [Engine::Search, Engine::Breadth, Engine::Depth] {
        for verdict_only in [true, false] {
            let options = Options { confirm: false, verdict_only, ..Options::default() };
            let report = check_by(engine, model, history, &options);
            assert_eq!(report.verdict, verdict, "{name}, {engine:?}: {report:#?} {history:#?}");
        }
    }
}

/// A small generator of random numbers (splitmix64), so that a seed always gives the same test.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }
}

/// A key-value store, written without looking at the model.
#[derive(Clone, Debug, Default)]
pub struct Store(pub BTreeMap<Value, Vec<u8>>);

impl SequentialSpec for Store {
    type Op = KvOp;
    type Ret = KvRet;

    fn invoke(&mut self, op: &KvOp) -> KvRet {
        match op {
            KvOp::Get { key } => KvRet::Value(self.0.get(key).map(|bytes| Value::new(bytes))),
            KvOp::Put { key, value } => {
                self.0.insert(key.clone(), value.as_bytes().to_vec());
                KvRet::Done
            }
            KvOp::Append { key, value } => {
                self.0.entry(key.clone()).or_default().extend_from_slice(value.as_bytes());
                KvRet::Done
            }
            KvOp::Delete { key } => KvRet::Deleted(self.0.remove(key).is_some()),
            KvOp::Cas { key, expected, new } => {
                let swapped = self.0.get(key).map(Vec::as_slice) == expected.as_ref().map(Value::as_bytes);
                if swapped {
                    self.0.insert(key.clone(), new.as_bytes().to_vec());
                }
                KvRet::Swapped(swapped)
            }
        }
    }
}
