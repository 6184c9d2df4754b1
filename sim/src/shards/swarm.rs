//! What one run is like: its size, its rates and its bounds, all drawn from the seed.

use crate::core::dice::Dice;

/// What the scheduler may do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Something under way arrives.
    Deliver,
    /// A group's leader starts a chore.
    Work,
    /// A group asks for its next config.
    Follow,
    /// A group reports how far it is.
    Report,
    /// An operator changes the config.
    Change,
    /// A client sends something.
    Client,
    /// A group has another leader, which knows of nothing that is under way.
    Lead,
    /// A group stops, or comes back.
    Stop,
    /// The replica of a group that others may ask falls behind, or catches up.
    Lag,
    /// A config that is not due comes into a group's log.
    Stray,
}

/// Slots of the table from which actions are drawn.
const SLOTS: usize = 256;

/// One run's character.
#[derive(Clone, Debug)]
pub(super) struct Swarm {
    pub groups: u64,
    pub shards: u64,
    pub clients: u64,
    /// How many actions are drawn.
    pub actions: usize,
    /// What is lost, in percent.
    pub drop_percent: usize,
    /// What arrives more than once, in percent.
    pub duplicate_percent: usize,
    /// What overtakes others, in percent.
    pub reorder_percent: usize,
    /// Changes that are typing errors, in percent.
    pub error_percent: usize,
    /// Clients that ask any group, in percent.
    pub astray_percent: usize,
    /// Pairs in one chunk.
    pub pairs_max: usize,
    /// Chores that a worker has under way for one source.
    pub per_source_max: usize,
    /// Configs that are kept for operators.
    pub history_configs: u64,
    table: Vec<Action>,
}

impl Swarm {
    /// Draws a run.
    pub fn draw(dice: &mut Dice) -> Self {
        let weights = [
            (Action::Work, dice.pick(&[20, 40, 60])),
            (Action::Follow, dice.pick(&[8, 16, 30])),
            (Action::Report, dice.pick(&[0, 4, 10])),
            (Action::Change, dice.pick(&[1, 2, 4, 12])),
            (Action::Client, dice.pick(&[10, 30, 60])),
            (Action::Lead, dice.pick(&[0, 2, 8])),
            (Action::Stop, dice.pick(&[0, 0, 1, 2])),
            (Action::Lag, dice.pick(&[0, 2, 6])),
            (Action::Stray, dice.pick(&[0, 1, 2])),
        ];
        let mut table = vec![Action::Deliver; SLOTS];
        let chosen = weights.iter().flat_map(|(action, weight)| std::iter::repeat_n(*action, *weight));
        table.iter_mut().zip(chosen).for_each(|(slot, action)| *slot = action);
        Self {
            groups: dice.pick(&[2, 2, 3, 3, 4]),
            shards: dice.pick(&[1, 1, 2, 3, 5]),
            clients: dice.pick(&[1, 2, 3]),
            actions: dice.pick(&[150, 400, 1000, 2000]),
            drop_percent: dice.pick(&[0, 2, 10, 30]),
            duplicate_percent: dice.pick(&[0, 5, 20, 40]),
            reorder_percent: dice.pick(&[0, 20, 100]),
            error_percent: dice.pick(&[0, 10, 30]),
            astray_percent: dice.pick(&[0, 20, 60]),
            pairs_max: dice.pick(&[1, 1, 2, 100]),
            per_source_max: dice.pick(&[1, 2, 8]),
            history_configs: dice.pick(&[0, 0, 2, 100]),
            table,
        }
    }

    /// What is tried next.
    pub fn action(&self, dice: &mut Dice) -> Action {
        self.table[dice.below(SLOTS)]
    }
}
