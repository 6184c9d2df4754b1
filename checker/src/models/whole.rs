//! A model whose parts are checked one by one, as one object: the search then orders the operations of all parts together.
//!
//! That is never needed, since the parts do not touch each other's state, and costs much more. It is a test of just that,
//! of the search, and a measure for objects that cannot be split.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{Class, Model};

/// The models of parts that were focused, by key.
type Focused<M> = BTreeMap<Option<<M as Model>::Key>, M>;

/// All parts of the object of another model.
#[derive(Clone, Debug)]
pub struct Whole<M: Model> {
    model: M,
    focused: Arc<Focused<M>>,
}

impl<M: Model> Whole<M> {
    /// The same object, in one piece.
    pub fn new(model: M) -> Whole<M> {
        Whole { model, focused: Arc::default() }
    }

    fn of_part(&self, key: &Option<M::Key>) -> &M {
        self.focused.get(key).unwrap_or(&self.model)
    }
}

impl<M: Model> Model for Whole<M> {
    /// The state of each part that is not as it was at first.
    type State = BTreeMap<Option<M::Key>, M::State>;
    type Op = M::Op;
    type Ret = M::Ret;
    type Key = ();

    fn init(&self) -> Self::State {
        BTreeMap::new()
    }

    fn step(&self, state: &Self::State, op: &M::Op, ret: Option<&M::Ret>) -> Option<Self::State> {
        let key = self.model.key(op);
        let model = self.of_part(&key);
        let initial = model.init();
        let before = state.get(&key).unwrap_or(&initial);
        let after = model.step(before, op, ret)?;
        let mut next = state.clone();
        if after == initial {
            next.remove(&key);
        } else if after != *before {
            next.insert(key, after);
        }
        Some(next)
    }

    /// What is blind on a part is not on the whole: the other parts stay as they were.
    fn class(&self, op: &M::Op, ret: Option<&M::Ret>) -> Class {
        match self.of_part(&self.model.key(op)).class(op, ret) {
            Class::ReadOnly => Class::ReadOnly,
            Class::BlindWrite | Class::General => Class::General,
        }
    }

    fn focus<'a>(&self, operations: impl Iterator<Item = (&'a M::Op, Option<&'a M::Ret>)>) -> Self
    where
        Self: 'a,
    {
        let mut parts: BTreeMap<Option<M::Key>, Vec<_>> = BTreeMap::new();
        for (op, ret) in operations {
            parts.entry(self.model.key(op)).or_default().push((op, ret));
        }
        let focus = |(key, part): (_, Vec<_>)| (key, self.model.focus(part.into_iter()));
        Whole { model: self.model.clone(), focused: Arc::new(parts.into_iter().map(focus).collect()) }
    }

    fn describe(&self, op: &M::Op, ret: Option<&M::Ret>) -> String {
        self.model.describe(op, ret)
    }

    fn describe_state(&self, state: &Self::State) -> String {
        let part = |(key, state): (&Option<M::Key>, &M::State)| {
            let name = key.as_ref().map(|key| format!("{}: ", self.model.describe_key(key)));
            name.unwrap_or_default() + &self.model.describe_state(state)
        };
        format!("{{{}}}", state.iter().map(part).collect::<Vec<_>>().join(", "))
    }

    fn state_bytes(&self, state: &Self::State) -> usize {
        let part = |(_, part)| size_of::<Option<M::Key>>() + self.model.state_bytes(part);
        state.iter().map(part).sum()
    }
}
