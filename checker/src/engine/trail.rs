//! How each configuration came about: the operations that were placed, as a tree whose branches share their beginnings.
//!
//! Most branches die, and those that live have all but their last steps in common. From time to time the trail forgets the
//! dead branches and moves what is common to a plain list, so that its size does not depend on how much was tried.
//!
//! Invariants: a step comes after the step before it; every `StepId` that a configuration holds is among those given to
//! [`Trail::prune`].

/// Pruning takes time in the size of the trail, so it is done when the trail is twice as large as after the last time.
const PRUNE_STEPS_MIN: usize = 1 << 14;

const GONE: u32 = u32::MAX;

/// The number of a step in the trail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StepId(u32);

impl StepId {
    /// Nothing has been placed since what is settled.
    pub(crate) const ROOT: StepId = StepId(0);
}

/// An operation was placed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    /// Which operation.
    pub(crate) operation: u32,
    /// While this event was handled. It took effect at or before it, and after all earlier events.
    pub(crate) event: u32,
}

pub(crate) struct Trail {
    /// What all configurations have in common.
    settled: Vec<Step>,
    /// The rest, each step with the one before it. The first entry is the root and not a step.
    steps: Vec<(StepId, Step)>,
    prune_at: usize,
}

impl Trail {
    pub(crate) fn new() -> Trail {
        let root = (StepId::ROOT, Step { operation: GONE, event: 0 });
        Trail { settled: Vec::new(), steps: vec![root], prune_at: PRUNE_STEPS_MIN }
    }

    /// `operation` is placed after the order that `before` stands for.
    pub(crate) fn push(&mut self, before: StepId, operation: usize, event: usize) -> StepId {
        let id = StepId(u32::try_from(self.steps.len()).expect("memory ends before the numbers do"));
        self.steps.push((before, Step { operation: operation as u32, event: event as u32 }));
        id
    }

    /// The order that `last` stands for.
    pub(crate) fn order(&self, last: StepId) -> Vec<Step> {
        let mut order = Vec::new();
        let mut at = last;
        while at != StepId::ROOT {
            let (before, step) = self.steps[at.0 as usize];
            order.push(step);
            at = before;
        }
        order.reverse();
        [&self.settled[..], &order[..]].concat()
    }

    pub(crate) fn wants_pruning(&self) -> bool {
        self.steps.len() >= self.prune_at
    }

    /// Forgets what none of `lasts` stands on, and gives them their new numbers.
    pub(crate) fn prune(&mut self, lasts: &mut [&mut StepId]) {
        // How many living steps stand right on each step.
        let mut born = vec![0_u32; self.steps.len()];
        let mut alive = vec![false; self.steps.len()];
        lasts.iter().for_each(|last| alive[last.0 as usize] = true);
        for at in (1..self.steps.len()).rev() {
            if alive[at] || born[at] > 0 {
                alive[at] = true;
                born[self.steps[at].0.0 as usize] += 1;
            }
        }
        // From the root on, as long as there is one way only and nobody ends on it, the steps are common to all.
        let ends: std::collections::BTreeSet<u32> = lasts.iter().map(|last| last.0).collect();
        let mut number = vec![0_u32; self.steps.len()];
        let mut kept = vec![self.steps[0]];
        let mut base = 0;
        for at in (1..self.steps.len()).filter(|at| alive[*at]) {
            let (before, step) = self.steps[at];
            let only = born[base] == 1 && !ends.contains(&(base as u32)) && before.0 as usize == base;
            if only && kept.len() == 1 {
                self.settled.push(step);
                base = at;
            } else {
                number[at] = kept.len() as u32;
                kept.push((StepId(number[before.0 as usize]), step));
            }
        }
        for last in lasts {
            **last = StepId(number[last.0 as usize]);
        }
        self.steps = kept;
        self.prune_at = (2 * self.steps.len()).max(PRUNE_STEPS_MIN);
    }

    /// About how much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.steps.len() * size_of::<(StepId, Step)>() + self.settled.len() * size_of::<Step>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operations(trail: &Trail, last: StepId) -> Vec<u32> {
        trail.order(last).iter().map(|step| step.operation).collect()
    }

    #[test]
    fn pruning_changes_no_order() {
        let mut trail = Trail::new();
        let mut common = StepId::ROOT;
        for operation in 0..5 {
            trail.push(common, 100 + operation, 0);
            common = trail.push(common, operation, 0);
        }
        let mut one = trail.push(common, 5, 0);
        let dead = trail.push(common, 6, 0);
        let mut other = trail.push(common, 7, 0);
        trail.push(dead, 8, 0);
        for round in 0..3 {
            trail.prune(&mut [&mut one, &mut other]);
            let expected: Vec<u32> = (0..5).chain([5]).chain(10..10 + round).collect();
            assert_eq!(operations(&trail, one), expected);
            assert_eq!(operations(&trail, other), [0, 1, 2, 3, 4, 7]);
            assert_eq!((trail.settled.len(), trail.steps.len()), (5, 3 + round as usize));
            one = trail.push(one, 10 + round as usize, 0);
        }
        // One that ends where the other goes on keeps both from settling.
        let mut early = other;
        other = trail.push(other, 9, 0);
        trail.prune(&mut [&mut early, &mut other]);
        assert_eq!(operations(&trail, early), [0, 1, 2, 3, 4, 7]);
        assert_eq!(operations(&trail, other), [0, 1, 2, 3, 4, 7, 9]);
        trail.prune(&mut [&mut other]);
        assert_eq!((operations(&trail, other).len(), trail.steps.len()), (7, 1));
    }
}
