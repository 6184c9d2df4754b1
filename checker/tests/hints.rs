//! Hints that are wrong: with [`Options::confirm`] they never lead to a wrong verdict, and what they hide is undecided at worst.

mod common;

use common::generate::{Shape, corrupt, legal};
use common::oracle::brute_force;
use common::{KvHistory, Rng};
use eraft_checker::models::kv::{Kv, KvOp, KvRet, KvState};
use eraft_checker::{Class, Content, HistoryBuilder, Model, Options, Reveal, Value, Verdict, check};

const HISTORIES: u64 = 2_000;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lie {
    /// Every operation is of this class.
    Class(Class),
    /// Every operation writes one and the same content.
    Writes,
    /// Every operation reads one and the same content.
    Reads,
    /// A get says that it reads the opposite of what there was: nothing for something, something for nothing.
    Opposite,
    /// A put says that it appends.
    Appends,
    /// Every key has this content at first.
    Initial,
    /// An append may happen in place without an effect.
    Apply,
}

/// The store's model with a lie.
#[derive(Clone)]
struct Lying {
    kv: Kv,
    lie: Option<Lie>,
}

const LIED: Content<'static> = Content::Bytes(b"0;");

impl Model for Lying {
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

    fn apply(&self, state: &mut KvState, op: &KvOp, ret: Option<&KvRet>) -> bool {
        let idle = self.lie == Some(Lie::Apply) && matches!(op, KvOp::Append { .. });
        idle || self.kv.apply(state, op, ret)
    }

    fn key(&self, op: &KvOp) -> Option<Value> {
        self.kv.key(op)
    }

    fn class(&self, op: &KvOp, ret: Option<&KvRet>) -> Class {
        match self.lie {
            Some(Lie::Class(class)) => class,
            _ => self.kv.class(op, ret),
        }
    }

    fn reveal<'a>(&self, op: &'a KvOp, ret: Option<&'a KvRet>) -> Reveal<'a> {
        match (self.lie, self.kv.reveal(op, ret)) {
            (Some(Lie::Writes), _) => Reveal::Writes(LIED),
            (Some(Lie::Reads), _) => Reveal::Reads(LIED),
            (Some(Lie::Opposite), Reveal::Reads(Content::Absent)) => Reveal::Reads(LIED),
            (Some(Lie::Opposite), Reveal::Reads(_)) => Reveal::Reads(Content::Absent),
            (Some(Lie::Appends), Reveal::Writes(Content::Bytes(bytes))) => Reveal::Appends(bytes),
            (_, reveal) => reveal,
        }
    }

    fn initial(&self) -> Option<Content<'_>> {
        if self.lie == Some(Lie::Initial) { Some(LIED) } else { self.kv.initial() }
    }
}

fn sample(seed: u64) -> KvHistory {
    let mut rng = Rng(seed);
    let shape = Shape { cas: 0, ..Shape::small(&mut rng) };
    let mut history = legal(&mut rng, &shape);
    for _ in 0..rng.below(3) {
        corrupt(&mut rng, &mut history);
    }
    history
}

/// How often the verdict is wrong without a confirmation; with one it never is.
fn wrong_verdicts(lie: Option<Lie>) -> usize {
    let model = Lying { kv: Kv::new(), lie };
    let mut wrong = 0;
    for seed in 0..HISTORIES {
        let history = sample(seed);
        let verdict = if brute_force(&history) { Verdict::Linearizable } else { Verdict::Violation };
        for verdict_only in [true, false] {
            let options = Options { confirm: true, verdict_only, ..Options::default() };
            let confirmed = check(&model, &history, &options);
            assert_eq!(confirmed.verdict, verdict, "{lie:?}, seed {seed}: {confirmed:#?} {history:#?}");
        }
        let trusting = check(&model, &history, &Options { confirm: false, ..Options::default() });
        wrong += usize::from(trusting.verdict != verdict);
    }
    wrong
}

#[test]
fn what_is_confirmed_is_right_whatever_the_hints_say() {
    assert_eq!(wrong_verdicts(None), 0);
    for class in [Class::ReadOnly, Class::BlindWrite, Class::General] {
        println!("{class:?}: {} wrong", wrong_verdicts(Some(Lie::Class(class))));
    }
    // These are believed if nobody asks for a confirmation, so they try it in earnest.
    for lie in [Lie::Reads, Lie::Opposite, Lie::Appends, Lie::Initial] {
        let wrong = wrong_verdicts(Some(lie));
        println!("{lie:?}: {wrong} wrong");
        assert!(wrong > 0, "{lie:?} harms nobody");
    }
    println!("{:?}: {} wrong", Lie::Writes, wrong_verdicts(Some(Lie::Writes)));
}

/// Debug builds look.
#[cfg(debug_assertions)]
#[test]
#[should_panic(expected = "apply and step differ")]
fn a_step_in_place_that_is_another_step_is_caught() {
    let mut history = HistoryBuilder::new();
    let key = Value::from("a");
    history.invoke(1, KvOp::Append { key, value: "1".into() }, 0, None).unwrap();
    history.ok(1, KvRet::Done, None, 0, None).unwrap();
    check(&Lying { kv: Kv::new(), lie: Some(Lie::Apply) }, &history.finish(), &Options::default());
}

/// A violation that the hints make obvious, and that costs more without them than a confirmation may.
#[test]
fn what_cannot_be_confirmed_is_undecided() {
    let mut history = HistoryBuilder::new();
    let key = Value::from("a");
    for process in 0..12 {
        let value = Value::from(format!("{process};").as_str());
        history.invoke(process, KvOp::Append { key: key.clone(), value }, 0, None).unwrap();
    }
    history.invoke(99, KvOp::Get { key }, 0, None).unwrap();
    history.ok(99, KvRet::Value(Some("never written".into())), None, 0, None).unwrap();
    let history = history.finish();
    let verdict = |confirm: bool| check(&Kv::new(), &history, &Options { confirm, ..Options::default() });
    assert_eq!(verdict(false).verdict, Verdict::Violation);
    let undecided = verdict(true);
    assert_eq!(undecided.verdict, Verdict::Undecided);
    let reason = undecided.reason.unwrap();
    assert!(reason.contains("if the hints of the model are right") && reason.contains("steps"), "{reason}");
}
