//! How each configuration came about: the operations that were placed, as a tree whose branches share their beginnings.

/// The number of a step in the trail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StepId(u32);

impl StepId {
    /// Nothing has been placed.
    pub(crate) const ROOT: StepId = StepId(0);
}

/// An operation was placed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    before: StepId,
    /// Which operation.
    pub(crate) operation: usize,
    /// While this event was handled. It took effect at or before it, and after all earlier events.
    pub(crate) event: usize,
}

pub(crate) struct Trail {
    steps: Vec<Step>,
}

impl Trail {
    pub(crate) fn new() -> Trail {
        Trail { steps: vec![Step { before: StepId::ROOT, operation: usize::MAX, event: 0 }] }
    }

    /// `operation` is placed after the order that `before` stands for.
    pub(crate) fn push(&mut self, before: StepId, operation: usize, event: usize) -> StepId {
        let id = StepId(u32::try_from(self.steps.len()).expect("memory ends before the numbers do"));
        self.steps.push(Step { before, operation, event });
        id
    }

    /// The order that `last` stands for.
    pub(crate) fn order(&self, last: StepId) -> Vec<Step> {
        let mut order = Vec::new();
        let mut at = last;
        while at != StepId::ROOT {
            let step = self.steps[at.0 as usize];
            order.push(step);
            at = step.before;
        }
        order.reverse();
        order
    }

    /// About how much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.steps.len() * size_of::<Step>()
    }
}
