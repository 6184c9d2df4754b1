//! What a group's leader does about its chores: whom it asks, what it puts into its log then, and which it starts now.
//! Pure: a worker asks and proposes what it is told here, and so do the tests.
//!
//! Invariants:
//! - every chore ends in at most one command, which names its shard and its config, so losing it, repeating it or doing
//!   it under another leader changes nothing;
//! - one chore of a kind is under way per reign, and a bounded number per source: a source that does not answer takes
//!   the places of its own shards alone.

use std::collections::{BTreeMap, BTreeSet};

use super::migrate::{Chore, Reign};
use crate::addresses::Addresses;
use crate::proto::shardkv::{self as pb, command::Operation};
use crate::types::{ConfigNum, GroupId, ShardId};

/// Everything that there is to do, and where those are who are asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chores {
    /// What to do, by shard.
    pub todo: Vec<(ShardId, Chore)>,
    /// The sources that are named.
    pub addresses: BTreeMap<GroupId, Addresses>,
}

/// What another group is asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Question {
    /// A part of a shard.
    Pull {
        /// The shard.
        shard: ShardId,
        /// The config that gave it to the group that is asked.
        epoch: ConfigNum,
        /// Who takes it.
        by: Reign,
        /// The last key that arrived.
        after: Vec<u8>,
    },
    /// To put a confirmation into its log.
    Confirm(pb::Confirm),
}

/// What it answers, if it does what it is asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Answered {
    /// To [`Question::Pull`].
    Chunk(pb::Chunk),
    /// To [`Question::Confirm`]: it is in its log.
    Confirmed,
}

impl Chore {
    /// Whom to ask what first; `None`: nobody.
    pub fn question(&self, shard: ShardId) -> Option<(GroupId, Question)> {
        match self {
            Chore::Pull { by, source, after } => {
                let pull = Question::Pull { shard, epoch: source.epoch, by: *by, after: after.clone() };
                Some((source.group, pull))
            }
            Chore::Tell { by, source } => {
                let by = Some((*by).into());
                Some((
                    source.group,
                    Question::Confirm(pb::Confirm { shard: shard.0, epoch: source.epoch.0, by }),
                ))
            }
            Chore::Delete { .. } => None,
        }
    }

    /// What to put into the own log after `answer`; `None`: nothing, the chore is still to be done.
    pub fn command(&self, shard: ShardId, answer: Option<Answered>) -> Option<Operation> {
        match (self, answer) {
            (Chore::Pull { by, .. }, Some(Answered::Chunk(chunk))) => {
                Some(Operation::Insert(pb::Insert { shard: shard.0, born: by.epoch.0, chunk: Some(chunk) }))
            }
            (Chore::Tell { by, .. }, Some(Answered::Confirmed)) => {
                Some(Operation::Told(pb::Told { shard: shard.0, born: by.epoch.0 }))
            }
            (Chore::Delete { born }, None) => {
                Some(Operation::Delete(pb::Delete { shard: shard.0, born: born.0 }))
            }
            _ => None,
        }
    }

    /// What it has in common with the chore that it becomes while data arrives.
    pub fn errand(&self, shard: ShardId) -> Errand {
        match self {
            Chore::Pull { by, source, .. } => {
                Errand { source: Some(source.group), born: by.epoch, shard, tells: false }
            }
            Chore::Tell { by, source } => {
                Errand { source: Some(source.group), born: by.epoch, shard, tells: true }
            }
            Chore::Delete { born } => Errand { source: None, born: *born, shard, tells: false },
        }
    }
}

/// A chore that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Errand {
    /// The group that is asked; `None`: it is done here.
    pub source: Option<GroupId>,
    /// The config that brought the shard here.
    pub born: ConfigNum,
    /// The shard.
    pub shard: ShardId,
    /// The source is told, not asked.
    pub tells: bool,
}

/// The chores of `todo` to start beside those `under_way`, the oldest reigns first: at most `per_source_max` at a
/// time for one source, and as many that delete here. Who calls this leaves out of `todo` for a while what came to
/// nothing: a source that lives may itself wait for one that does not, and the oldest would take the place for ever.
pub fn due(
    todo: &[(ShardId, Chore)],
    under_way: &BTreeSet<Errand>,
    per_source_max: usize,
) -> Vec<(ShardId, Chore)> {
    let mut busy: BTreeMap<Option<GroupId>, usize> = BTreeMap::new();
    for errand in under_way {
        *busy.entry(errand.source).or_default() += 1;
    }
    let mut waiting: Vec<_> = todo.iter().map(|(shard, chore)| (chore.errand(*shard), chore)).collect();
    waiting.sort();
    let mut due = Vec::new();
    for (errand, chore) in waiting {
        let busy = busy.entry(errand.source).or_default();
        if *busy < per_source_max && !under_way.contains(&errand) {
            *busy += 1;
            due.push((errand.shard, chore.clone()));
        }
    }
    due
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reign(group: u64, epoch: u64) -> Reign {
        Reign { group: GroupId(group), epoch: ConfigNum(epoch) }
    }

    fn pull(from: u64, born: u64, after: &[u8]) -> Chore {
        Chore::Pull { by: reign(9, born), source: reign(from, 1), after: after.to_vec() }
    }

    fn tell(from: u64, born: u64) -> Chore {
        Chore::Tell { by: reign(9, born), source: reign(from, 1) }
    }

    fn of(errands: &[(u64, Chore)]) -> Vec<(ShardId, Chore)> {
        errands.iter().map(|(shard, chore)| (ShardId(*shard), chore.clone())).collect()
    }

    #[test]
    fn a_chore_asks_and_what_is_answered_becomes_a_command() {
        let shard = ShardId(3);
        let (group, question) = pull(2, 5, b"k").question(shard).unwrap();
        let asked = Question::Pull { shard, epoch: ConfigNum(1), by: reign(9, 5), after: b"k".to_vec() };
        assert_eq!((group, question), (GroupId(2), asked));
        let chunk = pb::Chunk { checksum: 7, ..pb::Chunk::default() };
        let insert = pb::Insert { shard: 3, born: 5, chunk: Some(chunk.clone()) };
        let answer = Some(Answered::Chunk(chunk));
        assert_eq!(pull(2, 5, b"k").command(shard, answer.clone()), Some(Operation::Insert(insert)));

        let confirm = pb::Confirm { shard: 3, epoch: 1, by: Some(pb::Reign { group: 9, epoch: 5 }) };
        assert_eq!(tell(2, 5).question(shard), Some((GroupId(2), Question::Confirm(confirm))));
        let told = Operation::Told(pb::Told { shard: 3, born: 5 });
        assert_eq!(tell(2, 5).command(shard, Some(Answered::Confirmed)), Some(told));

        let delete = Chore::Delete { born: ConfigNum(5) };
        assert_eq!(delete.question(shard), None);
        let deletes = Operation::Delete(pb::Delete { shard: 3, born: 5 });
        assert_eq!(delete.command(shard, None), Some(deletes));

        for (chore, answer) in [
            (pull(2, 5, b""), None),
            (pull(2, 5, b""), Some(Answered::Confirmed)),
            (tell(2, 5), None),
            (tell(2, 5), answer),
            (delete, Some(Answered::Confirmed)),
        ] {
            assert_eq!(chore.command(shard, answer), None, "{chore:?}");
        }
    }

    #[test]
    fn eraft_b27_a_source_that_does_not_answer_takes_no_place_of_another() {
        let todo =
            of(&[(0, pull(1, 4, b"")), (1, pull(1, 4, b"")), (2, pull(1, 4, b"")), (3, pull(2, 5, b""))]);
        let under_way: BTreeSet<Errand> = [0, 1].map(|shard| pull(1, 4, b"").errand(ShardId(shard))).into();
        assert_eq!(due(&todo, &under_way, 2), of(&[(3, pull(2, 5, b""))]));
        assert_eq!(due(&todo, &BTreeSet::new(), 2), [&todo[..2], &todo[3..]].concat());
    }

    #[test]
    fn what_is_under_way_is_not_started_again_when_its_cursor_moves() {
        let under_way = BTreeSet::from([pull(1, 4, b"").errand(ShardId(0))]);
        assert_eq!(due(&of(&[(0, pull(1, 4, b"further"))]), &under_way, 2), []);
        let another = of(&[(0, tell(1, 4))]);
        assert_eq!(due(&another, &under_way, 2), another, "telling is another errand");
    }

    #[test]
    fn what_came_to_nothing_leaves_its_place_when_it_is_left_out() {
        let todo = of(&[(0, pull(1, 3, b"")), (1, pull(1, 4, b""))]);
        assert_eq!(due(&todo, &BTreeSet::new(), 1), todo[..1]);
        assert_eq!(due(&todo[1..], &BTreeSet::new(), 1), todo[1..]);
    }

    #[test]
    fn the_oldest_reign_goes_first() {
        let todo = of(&[(0, pull(1, 7, b"")), (5, pull(1, 3, b""))]);
        assert_eq!(due(&todo, &BTreeSet::new(), 1), todo[1..]);
    }
}
