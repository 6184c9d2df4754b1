//! A shard controller: which group serves which shard, one numbered configuration after the other. A query sees a whole
//! configuration, so there is one partition.
//!
//! How a controller spreads the shards after a join or a leave is its own business. So the model does not know the
//! placement until a query shows it; then that is the placement of this number for ever. What it knows before is that a
//! join or a leave leaves no two groups more than one shard apart, that no shard is served by a group that is not there,
//! and which shards were moved by hand since.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::{Class, Model};

/// The number of a group; 0 is none.
pub type GroupId = u32;

/// The shards of a controller whose history does not say how many there are.
pub const SHARDS_DEFAULT: usize = 10;

/// A request to the controller.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ControllerOp {
    /// Groups join; the shards are spread anew.
    Join(BTreeSet<GroupId>),
    /// Groups leave; the shards are spread anew.
    Leave(BTreeSet<GroupId>),
    /// One shard goes to one group.
    Move {
        /// Which shard, from 0.
        shard: usize,
        /// Where to.
        group: GroupId,
    },
    /// Asks for the configuration with a number; `None`, or a number that there is not yet: for the latest.
    Query(Option<u64>),
}

/// An answer of the controller.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ControllerRet {
    /// To a change that was made.
    Done,
    /// To a change that was refused: some group was there already or was not there, or there is no such shard.
    Refused,
    /// To a query.
    Config(Configuration),
}

/// A configuration, as a query shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Configuration {
    /// Its number; the first, without any group, has the number 0.
    pub number: u64,
    /// The groups that are there.
    pub groups: BTreeSet<GroupId>,
    /// For each shard the group that serves it, 0 if none does.
    pub shards: Vec<GroupId>,
}

/// What is known of a placement.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Placement {
    /// A query has shown it, or it follows from one.
    Known(Vec<GroupId>),
    /// It is spread evenly, except for the shards that were moved since.
    Spread(BTreeMap<usize, GroupId>),
}

/// A configuration, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KnownConfiguration {
    groups: BTreeSet<GroupId>,
    placement: Placement,
}

/// The model of a shard controller, without groups at first. Its state is the list of all configurations.
#[derive(Clone, Copy, Debug)]
pub struct Controller {
    shards: usize,
}

impl Controller {
    /// A controller of so many shards.
    pub fn new(shards: usize) -> Controller {
        Controller { shards }
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.shards
    }

    /// Whether a configuration may look like this.
    fn fits(&self, known: &KnownConfiguration, shown: &Configuration) -> bool {
        if known.groups != shown.groups || shown.shards.len() != self.shards {
            return false;
        }
        match &known.placement {
            Placement::Known(shards) => *shards == shown.shards,
            Placement::Spread(_) if known.groups.is_empty() => shown.shards.iter().all(|group| *group == 0),
            Placement::Spread(moved) => {
                let mut counts: BTreeMap<GroupId, usize> =
                    known.groups.iter().map(|group| (*group, 0)).collect();
                for (shard, group) in shown.shards.iter().enumerate() {
                    match (moved.get(&shard), counts.get_mut(group)) {
                        (Some(moved), _) if moved != group => return false,
                        // Where it was before it was moved is not known.
                        (Some(_), Some(_)) => {}
                        (None, Some(count)) => *count += 1,
                        (_, None) => return false,
                    }
                }
                // Those that were moved may have been anybody's.
                let (least, larger) = (self.shards / counts.len(), self.shards % counts.len());
                let missing: usize = counts.values().map(|count| least.saturating_sub(*count)).sum();
                let largest = counts.values().filter(|count| **count == least + 1).count();
                let too_many = counts.values().any(|count| *count > least + 1);
                !too_many && largest <= larger && missing <= moved.len()
            }
        }
    }

    fn change(&self, latest: &KnownConfiguration, op: &ControllerOp) -> Option<KnownConfiguration> {
        let mut next = latest.clone();
        match op {
            ControllerOp::Join(groups) => {
                let fresh = groups.iter().all(|group| *group != 0 && next.groups.insert(*group));
                next.placement = Placement::Spread(BTreeMap::new());
                (fresh && !groups.is_empty()).then_some(next)
            }
            ControllerOp::Leave(groups) => {
                let there = groups.iter().all(|group| next.groups.remove(group));
                next.placement = Placement::Spread(BTreeMap::new());
                (there && !groups.is_empty()).then_some(next)
            }
            ControllerOp::Move { shard, group } => {
                match &mut next.placement {
                    Placement::Known(shards) => *shards.get_mut(*shard)? = *group,
                    Placement::Spread(moved) => {
                        moved.insert(*shard, *group);
                    }
                }
                (*shard < self.shards && next.groups.contains(group)).then_some(next)
            }
            ControllerOp::Query(_) => None,
        }
    }
}

impl Model for Controller {
    type State = Vec<Arc<KnownConfiguration>>;
    type Op = ControllerOp;
    type Ret = ControllerRet;
    type Key = ();

    fn init(&self) -> Self::State {
        let placement = Placement::Known(vec![0; self.shards]);
        vec![Arc::new(KnownConfiguration { groups: BTreeSet::new(), placement })]
    }

    fn step(
        &self,
        state: &Self::State,
        op: &ControllerOp,
        ret: Option<&ControllerRet>,
    ) -> Option<Self::State> {
        let latest = state.len() - 1;
        match (op, ret) {
            (ControllerOp::Query(_), None) => Some(state.clone()),
            (ControllerOp::Query(number), Some(ControllerRet::Config(shown))) => {
                let asked = number.and_then(|number| usize::try_from(number).ok());
                let asked = asked.map_or(latest, |number| number.min(latest));
                if shown.number != asked as u64 || !self.fits(&state[asked], shown) {
                    return None;
                }
                let placement = Placement::Known(shown.shards.clone());
                let mut next = state.clone();
                next[asked] = Arc::new(KnownConfiguration { groups: shown.groups.clone(), placement });
                Some(next)
            }
            (ControllerOp::Query(_), Some(_)) | (_, Some(ControllerRet::Config(_))) => None,
            (_, answer) => match (self.change(&state[latest], op), answer) {
                (None, Some(ControllerRet::Done)) | (Some(_), Some(ControllerRet::Refused)) => None,
                (None, _) => Some(state.clone()),
                (Some(changed), _) => Some([&state[..], &[Arc::new(changed)]].concat()),
            },
        }
    }

    fn class(&self, op: &ControllerOp, ret: Option<&ControllerRet>) -> Class {
        match (op, ret) {
            (ControllerOp::Query(_), None) | (_, Some(ControllerRet::Refused)) => Class::ReadOnly,
            _ => Class::General,
        }
    }

    fn describe(&self, op: &ControllerOp, ret: Option<&ControllerRet>) -> String {
        let request = match op {
            ControllerOp::Join(groups) => format!("join {groups:?}"),
            ControllerOp::Leave(groups) => format!("leave {groups:?}"),
            ControllerOp::Move { shard, group } => format!("move shard {shard} to {group}"),
            ControllerOp::Query(None) => "query".to_owned(),
            ControllerOp::Query(Some(number)) => format!("query {number}"),
        };
        let answer = match ret {
            None => "unknown".to_owned(),
            Some(ControllerRet::Done) => "ok".to_owned(),
            Some(ControllerRet::Refused) => "refused".to_owned(),
            Some(ControllerRet::Config(Configuration { number, groups, shards })) => {
                format!("configuration {number}, groups {groups:?}, shards {shards:?}")
            }
        };
        format!("{request} -> {answer}")
    }

    fn describe_state(&self, state: &Self::State) -> String {
        let latest = state.len() - 1;
        let KnownConfiguration { groups, placement } = state[latest].as_ref();
        let placement = match placement {
            Placement::Known(shards) => format!("shards {shards:?}"),
            Placement::Spread(moved) if moved.is_empty() => "shards spread evenly".to_owned(),
            Placement::Spread(moved) => format!("shards spread evenly, then moved {moved:?}"),
        };
        format!("configuration {latest}, groups {groups:?}, {placement}")
    }

    fn state_bytes(&self, state: &Self::State) -> usize {
        state.len() * size_of::<Arc<KnownConfiguration>>() + self.shards * size_of::<GroupId>()
    }
}
