//! The engine: decides one partition.
//!
//! Invariants:
//! - an order is handed out only after it was replayed against the model as its author wrote it ([`witness`]), so
//!   "linearizable" does not rest on the search, on any reduction or on any hint;
//! - what costs least is tried first: the order that the system told ([`hinted`]), the fast paths ([`fast`]), the search
//!   ([`search`]); each may decline, none may guess a verdict;
//! - a wrong hint that shows itself starts the search again without hints, and in debug builds, or if asked, a violation is
//!   searched again without hints, so that a hint that hid a linearization shows itself.

pub(crate) mod budget;
mod config;
mod fast;
mod hinted;
mod plan;
mod search;
mod slots;
mod states;
mod trail;
pub(crate) mod witness;

use crate::engine::budget::{Budget, Exhausted};
use crate::engine::fast::{Fast, Proof, View};
use crate::engine::plan::{Event, Hints, Plan};
use crate::engine::search::{Found, Search, Stop};
use crate::engine::states::WrongHint;
use crate::engine::trail::Step;
use crate::history::Operation;
use crate::model::{Class, Model};

/// A violation is confirmed without hints, if so many steps suffice.
const CONFIRM_STEPS_MAX: u64 = 50_000;

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
    /// Nobody knows; this is why.
    Undecided(String),
}

impl<M: Model> Answer<'_, M> {
    pub(crate) fn is_violation(&self) -> bool {
        matches!(self, Answer::Contradiction(_) | Answer::Violation(_))
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
}

/// A state that explains everything before the return, but not the return.
pub(crate) struct DeadEnd<'a, M: Model> {
    pub(crate) state: M::State,
    /// The operation that made that state, `None` if it is the initial state.
    pub(crate) made_by: Option<&'a OperationOf<M>>,
}

/// Decides whether `operations`, all of one partition and in the order of their invocations, are linearizable.
pub(crate) fn decide<'a, M: Model>(
    model: &'a M,
    operations: &[&'a OperationOf<M>],
    budget: &mut Budget,
) -> Answer<'a, M> {
    let count = operations.len();
    if let Err(exhausted) = budget.spend(count as u64, count * fast::BYTES_PER_OPERATION) {
        return Answer::Undecided(exhausted.to_string());
    }
    let replays = |order: &[u32]| witness::replay(model, operations, order).is_ok();
    if let Some(order) = hinted::order(model, operations).filter(|order| replays(order)) {
        return Answer::Linearizable(order);
    }
    let view = View::new(model, operations, usize::MAX);
    let answer = match view.decide() {
        Fast::Order(order) if replays(&order) => return Answer::Linearizable(order),
        Fast::Illegal(proof) => Answer::Contradiction(proof),
        // What was revealed was wrong, or too little.
        Fast::Order(_) | Fast::Silent => by_search(model, operations, budget),
    };
    match answer {
        Answer::Contradiction(_) | Answer::Violation(_) if budget.confirm => {
            // Unless that takes too long. A witness against the violation would be proof that a hint is wrong.
            let mut small = Budget::new(CONFIRM_STEPS_MAX, budget.memory_bytes_max, budget.deadline);
            match attempt(model, operations, Hints::Ignored, &mut small) {
                Ok(Answer::Linearizable(order)) => Answer::Linearizable(order),
                _ => answer,
            }
        }
        answer => answer,
    }
}

fn by_search<'a, M: Model>(
    model: &'a M,
    operations: &[&'a OperationOf<M>],
    budget: &mut Budget,
) -> Answer<'a, M> {
    match attempt(model, operations, Hints::Trusted, budget) {
        Ok(answer) => answer,
        Err(WrongHint) => attempt(model, operations, Hints::Ignored, budget).unwrap_or_else(|_| {
            let reason = "the model contradicts itself: its steps are not a function of their arguments";
            Answer::Undecided(reason.to_owned())
        }),
    }
}

/// Everything about the first contradiction in a partition, if there is one before event `limit`. `proof` is any.
pub(crate) fn explain<'a, M: Model>(
    model: &'a M,
    operations: &[&'a OperationOf<M>],
    proof: Proof,
    limit: usize,
) -> Option<Contradiction<'a, M>> {
    let view = View::new(model, operations, limit);
    let proof = match limit {
        usize::MAX => proof,
        _ => match view.decide() {
            Fast::Illegal(proof) => proof,
            Fast::Order(_) | Fast::Silent => return None,
        },
    };
    let (proof, event) = view.first_violation(proof);
    let state = match View::new(model, operations, event).decide() {
        Fast::Order(order) => witness::replay_until(model, operations, &order, event).ok(),
        Fast::Illegal(_) | Fast::Silent => None,
    };
    let mut support = proof.support;
    support.sort_unstable();
    support.dedup();
    let named = |numbers: Vec<u32>| numbers.iter().map(|number| operations[*number as usize]).collect();
    let returns = operations.iter().filter_map(|operation| operation.returned());
    Some(Contradiction {
        sentence: proof.why.sentence(model, operations),
        core: named(proof.why.core()),
        support: named(support),
        event,
        before: state.map(|state| (returns.filter(|returned| returned.event < event).count(), state)),
    })
}

fn attempt<'a, M: Model>(
    model: &'a M,
    operations: &[&'a OperationOf<M>],
    hints: Hints,
    budget: &mut Budget,
) -> Result<Answer<'a, M>, WrongHint> {
    let plan = Plan::new(model, operations, hints);
    match search(&plan, budget) {
        Ok(found) => conclude(&plan, operations, found),
        Err(Stop::Exhausted(exhausted)) => Ok(Answer::Undecided(exhausted.to_string())),
        Err(Stop::WrongHint) => Err(WrongHint),
    }
}

/// Searches with sets that are just large enough.
fn search<M: Model>(plan: &Plan<'_, M>, budget: &mut Budget) -> Result<Found, Stop> {
    const OPEN_MAX: usize = 64 * 128;
    match plan.open_max() {
        0..=64 => Search::<M, 1>::new(plan, budget).run(),
        65..=128 => Search::<M, 2>::new(plan, budget).run(),
        129..=256 => Search::<M, 4>::new(plan, budget).run(),
        257..=1024 => Search::<M, 16>::new(plan, budget).run(),
        1025..=OPEN_MAX => Search::<M, 128>::new(plan, budget).run(),
        open => Err(Stop::Exhausted(Exhausted::Open { open, open_max: OPEN_MAX })),
    }
}

fn conclude<'a, M: Model>(
    plan: &Plan<'a, M>,
    partition: &[&'a OperationOf<M>],
    found: Found,
) -> Result<Answer<'a, M>, WrongHint> {
    match found {
        Found::Order(steps) => {
            let order = witness::complete(plan, &steps).ok_or(WrongHint)?;
            match witness::replay(plan.model, partition, &order) {
                Ok(_) => Ok(Answer::Linearizable(order)),
                Err(_) => Err(WrongHint),
            }
        }
        Found::DeadEnd { operation, event, orders, more } => {
            let dead_ends: Option<Vec<_>> = orders.iter().map(|order| dead_end(plan, order)).collect();
            let open = |number: &usize| {
                *number != operation
                    && (plan.invoked_at[*number] as usize) < event
                    && plan.returned_at[*number] as usize > event
                    && plan.model.class(&plan.operations[*number].op, None) != Class::ReadOnly
            };
            let returned = plan.events[..event].iter().filter(|event| matches!(event, Event::Return(_)));
            Ok(Answer::Violation(Violation {
                operation: plan.operations[operation],
                concurrent: (0..plan.operations.len())
                    .filter(open)
                    .map(|number| plan.operations[number])
                    .collect(),
                dead_ends: dead_ends.ok_or(WrongHint)?,
                more,
                prefix: returned.count(),
            }))
        }
    }
}

/// Replays an order: the search's own states may stand for several of the model's.
fn dead_end<'a, M: Model>(plan: &Plan<'a, M>, order: &[Step]) -> Option<DeadEnd<'a, M>> {
    let mut state = plan.model.init();
    let mut made_by = None;
    for step in order {
        let operation = plan.operations[step.operation as usize];
        let next = plan.model.step(&state, &operation.op, operation.ret())?;
        if next != state {
            made_by = Some(operation);
        }
        state = next;
    }
    Some(DeadEnd { state, made_by })
}
