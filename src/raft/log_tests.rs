//! Properties of the log, against a plain vector of entries that forgets nothing.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::types::NodeId;

fn members(seed: u64) -> Membership {
    Membership::of((1..=3).map(|n| NodeId(n + seed % 3)))
}

fn empty() -> Log {
    Log::new(Base { position: Position::default(), membership: members(0) })
}

fn entry(index: u64, term: u64, membership: bool) -> Entry {
    let payload = if membership { Payload::Membership(members(index)) } else { Payload::Noop };
    Entry { index: Index(index), term: Term(term), payload }
}

#[derive(Clone, Debug)]
enum Change {
    Push { term_up: bool, membership: bool },
    Truncate(u64),
    Compact(u64),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let change = prop_oneof![
        5 => (any::<bool>(), any::<bool>()).prop_map(|(term_up, membership)| Change::Push { term_up, membership }),
        1 => (0..30u64).prop_map(Change::Truncate),
        1 => (0..30u64).prop_map(Change::Compact),
    ];
    proptest::collection::vec(change, 0..60)
}

/// Runs the changes on a log and on a model: all entries that were not truncated, and the base.
fn run(changes: &[Change]) -> (Log, Vec<Entry>) {
    let (mut log, mut model) = (empty(), Vec::<Entry>::new());
    for change in changes {
        match *change {
            Change::Push { term_up, membership } => {
                let term = log.last().term.0.max(1) + u64::from(term_up);
                let next = entry(log.last().index.0 + 1, term, membership);
                log.push(next.clone());
                model.push(next);
            }
            Change::Truncate(from) => {
                let from = from.max(log.first_index().0);
                log.truncate(Index(from));
                model.retain(|entry| entry.index.0 < from);
            }
            Change::Compact(through) => {
                let through = through.clamp(log.base().index.0, log.last().index.0);
                log.compact(Index(through));
            }
        }
    }
    (log, model)
}

proptest! {
    #[test]
    fn a_log_is_its_history_above_the_base(changes in changes()) {
        let (log, model) = run(&changes);
        let held: Vec<Entry> = log.range(log.first_index(), log.last().index).cloned().collect();
        let expected: Vec<Entry> = model.iter().filter(|e| e.index > log.base().index).cloned().collect();
        prop_assert_eq!(&held, &expected);
        prop_assert_eq!(log.bytes(), held.iter().map(Entry::bytes).sum::<usize>());
        prop_assert_eq!(log.last().index.0, model.len() as u64);
        for index in 0..=model.len() as u64 + 2 {
            let term = if index == 0 { Some(Term(0)) } else { model.get(index as usize - 1).map(|e| e.term) };
            let visible = if Index(index) < log.base().index { None } else { term };
            prop_assert_eq!(log.term_at(Index(index)), visible, "term at {}", index);
        }
    }

    #[test]
    fn the_membership_in_force_is_that_of_the_last_entry_that_names_one(changes in changes()) {
        let (log, model) = run(&changes);
        let at = |index: u64| {
            model.iter().filter(|e| e.index.0 <= index).rev().find_map(|e| match &e.payload {
                Payload::Membership(membership) => Some(membership.clone()),
                _ => None,
            }).unwrap_or_else(|| members(0))
        };
        prop_assert_eq!(log.membership(), &at(u64::MAX));
        for index in log.base().index.0..=log.last().index.0 {
            prop_assert_eq!(log.membership_at(Index(index)), &at(index), "membership at {}", index);
        }
    }

    #[test]
    fn a_stored_log_is_restored(changes in changes()) {
        let (log, _) = run(&changes);
        let entries: Vec<Entry> = log.range(log.first_index(), log.last().index).cloned().collect();
        prop_assert_eq!(Log::restore(log.base_with_membership(), entries.clone()), Ok(log.clone()));
        if entries.len() > 1 {
            let mut holed = entries;
            holed.remove(0);
            let refused = matches!(Log::restore(log.base_with_membership(), holed), Err(LogError::Hole { .. }));
            prop_assert!(refused);
        }
    }

    #[test]
    fn backtracking_hints_are_runs_of_terms(changes in changes(), through in 0..40u64, term in 0..10u64) {
        let (log, model) = run(&changes);
        let through = through.clamp(log.base().index.0, log.last().index.0);
        let last = model.iter().filter(|e| e.index.0 <= through && e.term.0 <= term).map(|e| e.index.0).max();
        prop_assert_eq!(
            log.last_up_to_term(Index(through), Term(term)).0,
            last.unwrap_or(0).max(log.base().index.0)
        );
        if through > log.base().index.0 {
            let its_term = model[through as usize - 1].term;
            let first = model.iter().filter(|e| e.term == its_term).map(|e| e.index.0).min().unwrap();
            prop_assert_eq!(log.first_of_term_at(Index(through)).0, first.max(log.first_index().0));
        }
    }

    #[test]
    fn a_batch_is_bounded_but_never_empty(changes in changes(), from in 1..40u64, count in 1..5usize, bytes in 0..200usize) {
        let (log, _) = run(&changes);
        let batch = log.batch(Index(from), count, bytes);
        prop_assert!(batch.len() <= count);
        prop_assert!(batch.len() <= 1 || batch.iter().map(Entry::bytes).sum::<usize>() <= bytes);
        let held = log.entry(Index(from)).is_some();
        prop_assert_eq!(batch.first().map(|e| e.index), held.then_some(Index(from)));
    }
}

#[test]
fn a_term_that_goes_back_is_refused() {
    let base = Base { position: Position::default(), membership: Membership::of(BTreeSet::new()) };
    let error = Log::restore(base, [entry(1, 2, false), entry(2, 1, false)]).unwrap_err();
    assert_eq!(error.to_string(), "entry 2 has term 1 after term 2");
}
