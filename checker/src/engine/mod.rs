//! The engine: decides one partition.
//!
//! Invariants:
//! - an order is handed out only after it was replayed against the model as its author wrote it ([`witness`], [`greedy`]), so
//!   "linearizable" does not rest on the search, on any reduction or on any hint;
//! - what costs least is tried first: the order that the system told ([`hinted`]), a guess ([`greedy`]), the fast paths
//!   ([`fast`]), the search ([`search`]); each may decline, none may guess a verdict;
//! - a wrong hint that shows itself starts the search again without hints, and if that is asked for, a violation is searched
//!   again without hints, so that a hint that hid a linearization shows itself; what cannot be confirmed is undecided;
//! - debug builds compare every step in place with the step.

pub(crate) mod breadth;
pub(crate) mod budget;
mod config;
mod depth;
mod fast;
pub(crate) mod greedy;
mod hinted;
pub(crate) mod part;
mod search;
mod slots;
pub(crate) mod states;
mod trail;
pub(crate) mod width;
pub(crate) mod window;
pub(crate) mod witness;

use crate::check::Engine;
use crate::engine::budget::{Budget, Wanted};
use crate::engine::fast::{Fast, Proof, View};
use crate::engine::greedy::{Care, Guessed, Scratch};
use crate::engine::part::Part;
use crate::engine::search::{Failure, Found, search};
use crate::engine::states::{Hints, WrongHint};
use crate::history::{Operation, Outcome, Position};
use crate::model::{Class, Model};

/// A violation is confirmed without hints, if so many steps suffice; otherwise it is undecided.
const CONFIRM_STEPS_MAX: u64 = 50_000;

/// Why there is no answer although no hint was used.
const CONTRADICTORY: &str = "the model contradicts itself: its steps are not a function of their arguments";

/// An operation of a model.
pub(crate) type OperationOf<M> = Operation<<M as Model>::Op, <M as Model>::Ret>;

/// What became of a partition.
pub(crate) enum Answer<'a, M: Model> {
    /// This order, by place in the partition, explains it; operations of unknown outcome that are not in it had no effect.
    Linearizable(Vec<u32>),
    /// Nothing explains it, for a reason that these few operations tell.
    Contradiction(Proof),
    /// Nothing explains it: the search tried everything.
    Violation(Violation<'a, M>),
    /// Nothing explains it, and nobody asked why.
    Impossible,
    /// Nobody knows; this is why.
    Undecided(String),
}

impl<M: Model> Answer<'_, M> {
    pub(crate) fn is_violation(&self) -> bool {
        matches!(self, Answer::Contradiction(_) | Answer::Violation(_) | Answer::Impossible)
    }
}

/// A contradiction that the fast paths found, with all that is to be told of it.
pub(crate) struct Contradiction<'a, M: Model> {
    /// The operations that it is about, in the order of their invocations.
    pub(crate) core: Vec<&'a OperationOf<M>>,
    /// What wrote the contents that the core is about: with it the core is a contradiction for the reason told.
    pub(crate) support: Vec<&'a OperationOf<M>>,
    /// What it is, in words.
    pub(crate) sentence: String,
    /// The return that makes it one, as far as the fast paths see.
    pub(crate) event: usize,
    /// How many operations of the partition had returned by then, and a state that explains them; `None` if the fast
    /// paths could not tell.
    pub(crate) before: Option<(usize, M::State)>,
}

/// The first return that nothing explains.
pub(crate) struct Violation<'a, M: Model> {
    /// The operation that returned.
    pub(crate) operation: &'a OperationOf<M>,
    /// The operations that were open then, except reads. Their answers, if they came later, were taken into account.
    pub(crate) concurrent: Vec<&'a OperationOf<M>>,
    /// What it was tried after, each with a different state.
    pub(crate) dead_ends: Vec<DeadEnd<'a, M>>,
    /// Whether there were more.
    pub(crate) more: bool,
    /// How many operations of the partition had returned by then.
    pub(crate) prefix: usize,
    /// Operations that are a violation by themselves; empty if that is not known.
    pub(crate) core: Vec<&'a OperationOf<M>>,
}

/// A state that explains everything before the return, but not the return.
pub(crate) struct DeadEnd<'a, M: Model> {
    pub(crate) state: M::State,
    /// The operation that made that state, `None` if it is the initial state.
    pub(crate) made_by: Option<&'a OperationOf<M>>,
}

/// Decides whether the operations of a partition are linearizable.
pub(crate) fn decide<'a, M: Model>(
    model: &'a M,
    part: Part<'_, 'a, M>,
    budget: &mut Budget,
) -> Answer<'a, M> {
    let mut scratch = Scratch::default();
    decide_fast(model, part, budget, &mut scratch).unwrap_or_else(|| decide_by_search(model, part, budget))
}

/// The answer, if it can be had in about linear time.
pub(crate) fn decide_fast<'a, M: Model>(
    model: &'a M,
    part: Part<'_, 'a, M>,
    budget: &mut Budget,
    scratch: &mut Scratch,
) -> Option<Answer<'a, M>> {
    if let Err(exhausted) = budget.spend(part.len() as u64, part.len() * fast::BYTES_PER_OPERATION) {
        return Some(Answer::Undecided(exhausted.to_string()));
    }
    if budget.engine != Engine::Portfolio {
        return None;
    }
    let replays = |order: &[u32]| witness::replay(model, part, order).is_ok();
    if let Some(order) = hinted::order(model, part).filter(|order| replays(order)) {
        return Some(Answer::Linearizable(order));
    }
    let mut guess = |care: Care, wanted: Wanted| match greedy::guess(model, part, care, scratch) {
        Guessed::Right => {
            let order = &scratch.order;
            debug_assert!(replays(order), "a guess that was made step by step is a linearization");
            let order = if wanted == Wanted::Order { order.clone() } else { Vec::new() };
            Some(Answer::Linearizable(order))
        }
        Guessed::Impossible if wanted == Wanted::Verdict => Some(Answer::Impossible),
        Guessed::Impossible | Guessed::Wrong => None,
    };
    if let Some(answer) = guess(Care::Quick, budget.wanted) {
        return Some(confirmed(model, part, answer, budget));
    }
    match View::new(model, part, usize::MAX).decide() {
        Fast::Order(order) if replays(&order) => Some(Answer::Linearizable(order)),
        Fast::Illegal(proof) => Some(confirmed(model, part, Answer::Contradiction(proof), budget)),
        // What was revealed was wrong, or too little.
        Fast::Order(_) | Fast::Silent => {
            guess(Care::Ahead, budget.wanted).map(|answer| confirmed(model, part, answer, budget))
        }
    }
}

/// The answer, whatever it costs within the budget.
pub(crate) fn decide_by_search<'a, M: Model>(
    model: &'a M,
    part: Part<'_, 'a, M>,
    budget: &mut Budget,
) -> Answer<'a, M> {
    let answer = match attempt(model, part, Hints::Trusted, budget) {
        Ok(answer) => answer,
        Err(WrongHint) => attempt(model, part, Hints::Ignored, budget)
            .unwrap_or_else(|WrongHint| Answer::Undecided(CONTRADICTORY.to_owned())),
    };
    confirmed(model, part, answer, budget)
}

/// A violation is searched again without hints, if that is asked for. A witness against it would be proof that a hint is
/// wrong; and without an answer nobody knows.
fn confirmed<'a, M: Model>(
    model: &'a M,
    part: Part<'_, 'a, M>,
    answer: Answer<'a, M>,
    budget: &Budget,
) -> Answer<'a, M> {
    if !budget.confirm || !answer.is_violation() {
        return answer;
    }
    let mut small = Budget::new(CONFIRM_STEPS_MAX, budget.memory_bytes_max, budget.deadline);
    small.engine = budget.engine;
    match attempt(model, part, Hints::Ignored, &mut small) {
        Ok(Answer::Linearizable(order)) => Answer::Linearizable(order),
        Ok(Answer::Undecided(reason)) => Answer::Undecided(format!(
            "it is a violation if the hints of the model are right, which could not be confirmed: {reason}"
        )),
        Ok(Answer::Contradiction(_) | Answer::Violation(_) | Answer::Impossible) => answer,
        Err(WrongHint) => Answer::Undecided(CONTRADICTORY.to_owned()),
    }
}

/// The first contradiction in a partition, if there is one before event `limit`. `proof` is any, if one is known.
pub(crate) fn explain<'a, M: Model>(
    model: &'a M,
    part: Part<'_, 'a, M>,
    proof: Option<Proof>,
    limit: usize,
) -> Option<Contradiction<'a, M>> {
    let view = View::new(model, part, limit);
    let proof = match proof {
        Some(proof) if limit == usize::MAX => proof,
        _ => match view.decide() {
            Fast::Illegal(proof) => proof,
            Fast::Order(_) | Fast::Silent => return None,
        },
    };
    let (proof, event) = view.first_violation(proof);
    let state = match View::new(model, part, event).decide() {
        Fast::Order(order) => witness::replay_until(model, part, &order, event).ok(),
        Fast::Illegal(_) | Fast::Silent => None,
    };
    let mut support = proof.support;
    support.sort_unstable();
    support.dedup();
    let named = |places: Vec<u32>| places.iter().map(|place| part.get(*place as usize)).collect();
    let returns = part.iter().filter_map(|operation| operation.returned());
    Some(Contradiction {
        sentence: proof.why.sentence(model, part),
        core: named(proof.why.core()),
        support: named(support),
        event,
        before: state.map(|state| (returns.filter(|returned| returned.event < event).count(), state)),
    })
}

fn attempt<'a, M: Model>(
    model: &'a M,
    part: Part<'_, 'a, M>,
    hints: Hints,
    budget: &mut Budget,
) -> Result<Answer<'a, M>, WrongHint> {
    let focused = match hints {
        Hints::Ignored => model.clone(),
        Hints::Trusted => model.focus(part.iter().map(|operation| (&operation.op, operation.ret()))),
    };
    match search(part, &focused, hints, budget) {
        Ok(found) => conclude(model, &focused, part, hints, found),
        Err(Failure::Exhausted { exhausted, returned }) => {
            let asked = part.iter().filter(|operation| operation.ret().is_some()).count();
            let place = format!("the first {returned} of its {asked} returns are explained");
            Ok(Answer::Undecided(format!("{exhausted}; {place}")))
        }
        Err(Failure::WrongHint) => Err(WrongHint),
    }
}

fn conclude<'a, M: Model>(
    model: &'a M,
    focused: &M,
    part: Part<'_, 'a, M>,
    hints: Hints,
    found: Found,
) -> Result<Answer<'a, M>, WrongHint> {
    match found {
        Found::Order(order) => {
            let is_blind = |operation: &OperationOf<M>| {
                hints == Hints::Trusted && focused.class(&operation.op, operation.ret()) == Class::BlindWrite
            };
            let order = witness::complete(part, order, is_blind).ok_or(WrongHint)?;
            match witness::replay(model, part, &order) {
                Ok(_) => Ok(Answer::Linearizable(order)),
                Err(_) => Err(WrongHint),
            }
        }
        Found::DeadEnd { place, event, orders, more } => {
            let dead_ends: Option<Vec<_>> = orders.iter().map(|order| dead_end(model, part, order)).collect();
            let operation = part.get(place as usize);
            let was_open = |other: &&OperationOf<M>| {
                other.invoked != operation.invoked
                    && other.invoked.event < event
                    && other.returned().is_none_or(|returned| returned.event > event)
                    && model.class(&other.op, None) != Class::ReadOnly
            };
            let returned = part.iter().filter_map(|operation| operation.returned());
            Ok(Answer::Violation(Violation {
                operation,
                concurrent: part.iter().filter(was_open).collect(),
                dead_ends: dead_ends.ok_or(WrongHint)?,
                more,
                prefix: returned.filter(|returned| returned.event < event).count(),
                core: Vec::new(),
            }))
        }
    }
}

/// What was known after event `event`: what had not returned by then has an unknown outcome.
pub(crate) fn known_after<O: Clone, R: Clone>(
    operations: impl Iterator<Item = Operation<O, R>>,
    event: usize,
) -> Vec<Operation<O, R>> {
    let mut known: Vec<_> = operations.take_while(|operation| operation.invoked.event <= event).collect();
    for operation in &mut known {
        if operation.returned().is_some_and(|returned| returned.event > event) {
            operation.outcome = Outcome::Unknown;
        }
    }
    known
}

/// The same violation, told of the first return that makes the partition impossible.
///
/// The search knows the answers of what is open, so it may stop at a return that is impossible only because of an answer
/// that came later. The first impossible return is that one or another of what was open.
pub(crate) fn sharpen<'a, M: Model>(
    model: &M,
    part: Part<'_, 'a, M>,
    violation: Violation<'a, M>,
    budget: &mut Budget,
) -> Violation<'a, M> {
    let Some(event) = violation.operation.returned().map(|returned| returned.event) else { return violation };
    let known = |event: usize| known_after(part.iter().cloned(), event);
    let mut verdict = |event: usize| {
        let operations = known(event);
        match decide(model, Part::whole(&operations), budget) {
            Answer::Linearizable(order) => Some(Ok(order)),
            Answer::Undecided(_) => None,
            Answer::Contradiction(_) | Answer::Violation(_) | Answer::Impossible => Some(Err(())),
        }
    };
    let open = part.iter().take_while(|operation| operation.invoked.event < event);
    let returns = open.filter_map(|operation| operation.returned()).map(|returned| returned.event);
    let mut candidates: Vec<usize> = returns.filter(|returned| *returned >= event).collect();
    candidates.sort_unstable();
    let (mut low, mut high) = (0, candidates.len() - 1);
    // Most often it is the very one.
    let mut middle = 0;
    while low < high {
        match verdict(candidates[middle]) {
            Some(Err(())) => high = middle,
            Some(Ok(_)) => low = middle + 1,
            None => return violation,
        }
        middle = low + (high - low) / 2;
    }
    if candidates[high] == event {
        return violation;
    }
    let event = candidates[high];
    let Some(Ok(order)) = verdict(event - 1) else { return violation };
    let operations = known(event - 1);
    let Some(end) = dead_end(model, Part::whole(&operations), &order) else { return violation };
    let of = |at: Position| part.iter().find(|operation| operation.invoked == at);
    let made_by = end.made_by.and_then(|operation| of(operation.invoked));
    let first =
        |operation: &&OperationOf<M>| operation.returned().is_some_and(|returned| returned.event == event);
    let Some(operation) = part.iter().find(first) else { return violation };
    let was_open = |other: &&OperationOf<M>| {
        other.invoked != operation.invoked
            && other.invoked.event < event
            && other.returned().is_none_or(|returned| returned.event > event)
            && model.class(&other.op, None) != Class::ReadOnly
    };
    Violation {
        operation,
        concurrent: part.iter().filter(was_open).collect(),
        dead_ends: vec![DeadEnd { state: end.state, made_by }],
        more: true,
        prefix: part.iter().filter_map(|other| other.returned()).filter(|at| at.event < event).count(),
        core: Vec::new(),
    }
}

/// An operation's step in place. Debug builds compare it with the step.
pub(crate) fn apply<M: Model>(model: &M, state: &mut M::State, operation: &OperationOf<M>) -> bool {
    apply_step(model, state, &operation.op, operation.ret())
}

/// The same with an answer that need not be the operation's.
pub(crate) fn apply_step<M: Model>(
    model: &M,
    state: &mut M::State,
    op: &M::Op,
    ret: Option<&M::Ret>,
) -> bool {
    if !cfg!(debug_assertions) {
        return model.apply(state, op, ret);
    }
    let (before, stepped) = (state.clone(), model.step(state, op, ret));
    let possible = model.apply(state, op, ret);
    assert_eq!(possible, stepped.is_some(), "apply and step differ: {op:?} -> {ret:?} in {before:?}");
    let expected = stepped.as_ref().unwrap_or(&before);
    assert!(state == expected, "apply and step differ: {op:?} -> {ret:?} in {before:?} leaves {state:?}");
    possible
}

/// Replays an order: the search's own states may stand for several of the model's.
fn dead_end<'a, M: Model>(model: &M, part: Part<'_, 'a, M>, order: &[u32]) -> Option<DeadEnd<'a, M>> {
    let mut state = model.init();
    let mut made_by = None;
    for place in order {
        let operation = part.get(*place as usize);
        let next = model.step(&state, &operation.op, operation.ret())?;
        if next != state {
            made_by = Some(operation);
        }
        state = next;
    }
    Some(DeadEnd { state, made_by })
}
