//! What one run is like: its size, its rates and its bounds, all drawn from the seed. A run in which everything may
//! happen hides what only happens when something else does not (swarm testing).

use eraft::mutants::Mutants;
use eraft::raft::{Config, Membership, Window};
use eraft::types::NodeId;

use super::dice::Dice;

/// What the scheduler may do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A packet arrives.
    Deliver,
    /// A node's writes complete.
    Persist,
    /// An election timer fires.
    ElectionTimeout,
    /// A leader's heartbeat timer fires.
    HeartbeatTimeout,
    /// Clients propose.
    Propose,
    /// A client reads.
    Read,
    /// An operator wants another leader.
    Transfer,
    /// A node makes its state durable.
    Flush,
    /// A node drops old entries.
    Compact,
    /// A node loses power.
    Crash,
    /// A node comes back.
    Restart,
    /// The network splits.
    Partition,
    /// It is whole again.
    Heal,
}

/// Slots of the table from which actions are drawn.
const SLOTS: usize = 512;

/// One run's character.
#[derive(Clone, Debug)]
pub struct Swarm {
    /// How many nodes there are.
    pub nodes: usize,
    /// Who has a vote.
    pub membership: Membership,
    /// How many actions are drawn.
    pub actions: usize,
    /// Packets that are lost, in percent.
    pub drop_percent: usize,
    /// Packets that arrive more than once, in percent.
    pub duplicate_percent: usize,
    /// Packets that overtake others, in percent.
    pub reorder_percent: usize,
    /// Crashed nodes come back at once, in percent.
    pub restart_at_once_percent: usize,
    table: Vec<Action>,
    append_entries_max: usize,
    append_bytes_max: usize,
    window: Window,
    uncommitted_bytes_max: usize,
    uncommitted_entries_max: u64,
    reads_max: usize,
}

impl Swarm {
    /// Draws a run.
    pub fn draw(dice: &mut Dice) -> Self {
        let nodes = dice.pick(&[1, 2, 3, 3, 3, 3, 3, 4, 5, 5, 5]);
        let weights = [
            (Action::Persist, dice.pick(&[20, 60, 120])),
            (Action::ElectionTimeout, dice.pick(&[1, 2, 5, 20])),
            (Action::HeartbeatTimeout, dice.pick(&[2, 10, 30])),
            (Action::Propose, dice.pick(&[4, 15, 40])),
            (Action::Read, dice.pick(&[0, 4, 20])),
            (Action::Flush, dice.pick(&[0, 10, 40])),
            (Action::Compact, dice.pick(&[0, 5, 30])),
            (Action::Crash, dice.pick(&[0, 1, 1, 4])),
            (Action::Restart, dice.pick(&[1, 4, 10])),
            (Action::Partition, dice.pick(&[0, 1, 2, 4])),
            (Action::Heal, dice.pick(&[1, 2, 4])),
            (Action::Transfer, dice.pick(&[0, 0, 1, 4])),
        ];
        let mut table = vec![Action::Deliver; SLOTS];
        let chosen = weights.iter().flat_map(|(action, weight)| std::iter::repeat_n(*action, *weight));
        table.iter_mut().zip(chosen).for_each(|(slot, action)| *slot = action);
        Self {
            nodes,
            membership: membership(nodes, dice),
            actions: dice.pick(&[300, 1000, 2000, 4000]),
            drop_percent: dice.pick(&[0, 1, 5, 20]),
            duplicate_percent: dice.pick(&[0, 0, 2, 10, 30]),
            reorder_percent: dice.pick(&[0, 10, 50, 100]),
            restart_at_once_percent: dice.pick(&[0, 50, 100]),
            table,
            append_entries_max: dice.pick(&[1, 2, 4, 1024]),
            append_bytes_max: dice.pick(&[1, 100, 1 << 20]),
            window: Window {
                appends_max: dice.pick(&[1, 2, 4, 64]),
                bytes_max: dice.pick(&[1, 100, 1000, 8 << 20]),
            },
            uncommitted_bytes_max: dice.pick(&[40, 1000, 64 << 20]),
            reads_max: dice.pick(&[1, 3, 1000]),
            uncommitted_entries_max: dice.pick(&[1, 8, 1000, 1000]),
        }
    }

    /// What is tried next.
    pub fn action(&self, dice: &mut Dice) -> Action {
        self.table[dice.below(SLOTS)]
    }

    /// The configuration of node `id`.
    pub fn config(&self, id: NodeId, mutants: Mutants) -> Config {
        Config {
            append_entries_max: self.append_entries_max,
            append_bytes_max: self.append_bytes_max,
            window: self.window,
            uncommitted_bytes_max: self.uncommitted_bytes_max,
            reads_max: self.reads_max,
            uncommitted_entries_max: self.uncommitted_entries_max,
            mutants,
            ..Config::new(id)
        }
    }
}

/// Mostly plain voters; sometimes a learner, sometimes two sets of voters.
fn membership(nodes: usize, dice: &mut Dice) -> Membership {
    let all = || (1..=nodes as u64).map(NodeId);
    match dice.below(10) {
        0 | 1 if nodes > 1 => {
            let voters = nodes as u64 - 1;
            Membership {
                learners: all().filter(|node| node.0 > voters).collect(),
                ..Membership::of(all().filter(|node| node.0 <= voters))
            }
        }
        2 if nodes > 2 => {
            let in_first = dice.bits() | 1;
            let in_second = dice.bits() | 2;
            let member = |set: u64| all().filter(move |node| set >> (node.0 - 1) & 1 == 1);
            let both = in_first | in_second;
            Membership {
                voters: member(in_first).collect(),
                outgoing: member(in_second).collect(),
                learners: all().filter(|node| both >> (node.0 - 1) & 1 == 0).collect(),
            }
        }
        _ => Membership::of(all()),
    }
}
