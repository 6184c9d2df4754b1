//! How each configuration came about: the operations that were placed, as a tree whose branches share their beginnings.
//!
//! Most branches die, and those that live have all but their last steps in common. From time to time the trail forgets the
//! dead branches and moves what is common to a plain list, so that its size does not depend on how much was tried.
//!
//! Invariants: a step comes after the step before it; every [`StepId`] that a configuration holds is among those given to
//! [`Trail::prune`].

/// Pruning takes time in the size of the trail, so it is done when the trail is twice as large as after the last time.
const PRUNE_STEPS_MIN: usize = 1 << 12;

const GONE: u32 = u32::MAX;

/// The number of a step in what keeps the steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StepId(u32);

impl StepId {
    /// Nothing has been placed since what is settled.
    pub(crate) const ROOT: StepId = StepId(0);
}

/// What remembers the order in which operations are placed.
pub(crate) trait Record {
    /// The operation at `place` of the partition comes after the order that `before` stands for.
    fn push(&mut self, before: StepId, place: u32) -> StepId;
}

/// Many orders.
#[derive(Clone)]
pub(crate) struct Trail {
    /// What all configurations have in common; `None` if nobody will ask.
    settled: Option<Vec<u32>>,
    /// The rest, each step with the one before it. The first entry is the root and not a step.
    steps: Vec<(StepId, u32)>,
    prune_at: usize,
}

impl Record for Trail {
    fn push(&mut self, before: StepId, place: u32) -> StepId {
        let id = StepId(u32::try_from(self.steps.len()).expect("memory ends before the numbers do"));
        self.steps.push((before, place));
        id
    }
}

impl Trail {
    /// A trail that keeps everything, or only the steps in which configurations differ.
    pub(crate) fn new(keep: bool) -> Trail {
        Trail { settled: keep.then(Vec::new), steps: vec![(StepId::ROOT, GONE)], prune_at: PRUNE_STEPS_MIN }
    }

    /// The steps to `last` that are not settled.
    pub(crate) fn recent(&self, last: StepId) -> Vec<u32> {
        let mut order = Vec::new();
        let mut at = last;
        while at != StepId::ROOT {
            let (before, place) = self.steps[at.0 as usize];
            order.push(place);
            at = before;
        }
        order.reverse();
        order
    }

    /// The order that `last` stands for.
    pub(crate) fn order(&self, last: StepId) -> Vec<u32> {
        [self.settled.as_deref().unwrap_or_default(), &self.recent(last)].concat()
    }

    /// The order that `last` stands for; the trail is not needed any more.
    pub(crate) fn into_order(self, last: StepId) -> Vec<u32> {
        let recent = self.recent(last);
        let mut order = self.settled.unwrap_or_default();
        order.extend_from_slice(&recent);
        order
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
            let (before, place) = self.steps[at];
            let only = born[base] == 1 && !ends.contains(&(base as u32)) && before.0 as usize == base;
            if only && kept.len() == 1 {
                if let Some(settled) = &mut self.settled {
                    settled.push(place);
                }
                base = at;
            } else {
                number[at] = kept.len() as u32;
                kept.push((StepId(number[before.0 as usize]), place));
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
        self.steps.len() * size_of::<(StepId, u32)>()
            + self.settled.as_ref().map_or(0, |settled| settled.len() * size_of::<u32>())
    }
}

/// One order: a step behind an earlier one takes the place of all that came behind it.
#[derive(Default)]
pub(crate) struct Path(Vec<u32>);

impl Record for Path {
    fn push(&mut self, before: StepId, place: u32) -> StepId {
        self.0.truncate(before.0 as usize);
        self.0.push(place);
        StepId(self.0.len() as u32)
    }
}

impl Path {
    /// The order that `last` stands for.
    pub(crate) fn order(&self, last: StepId) -> Vec<u32> {
        self.0[..last.0 as usize].to_vec()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.0.len() * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pruning_changes_no_order() {
        let mut trail = Trail::new(true);
        let mut common = StepId::ROOT;
        for place in 0..5 {
            trail.push(common, 100 + place);
            common = trail.push(common, place);
        }
        let mut one = trail.push(common, 5);
        let dead = trail.push(common, 6);
        let mut other = trail.push(common, 7);
        trail.push(dead, 8);
        for round in 0..3 {
            trail.prune(&mut [&mut one, &mut other]);
            let expected: Vec<u32> = (0..5).chain([5]).chain(10..10 + round).collect();
            assert_eq!(trail.order(one), expected);
            assert_eq!(trail.order(other), [0, 1, 2, 3, 4, 7]);
            let settled = trail.settled.as_ref().map(Vec::len);
            assert_eq!((settled, trail.steps.len()), (Some(5), 3 + round as usize));
            one = trail.push(one, 10 + round);
        }
        // One that ends where the other goes on keeps both from settling.
        let mut early = other;
        other = trail.push(other, 9);
        trail.prune(&mut [&mut early, &mut other]);
        assert_eq!(trail.order(early), [0, 1, 2, 3, 4, 7]);
        assert_eq!(trail.order(other), [0, 1, 2, 3, 4, 7, 9]);
        trail.prune(&mut [&mut other]);
        assert_eq!((trail.order(other).len(), trail.steps.len()), (7, 1));
    }

    #[test]
    fn a_path_forgets_what_it_went_back_over() {
        let mut path = Path::default();
        let first = path.push(StepId::ROOT, 1);
        path.push(first, 2);
        let last = path.push(first, 3);
        assert_eq!((path.order(first), path.order(last)), (vec![1], vec![1, 3]));
    }
}
