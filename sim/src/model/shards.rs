//! Models of migration over the shipped machines: controllers, groups as one atomic log each, and a client.
//!
//! What leaders ask of each other and put into their logs is the shipped pure code (`Chore::question`,
//! `Chore::command`, `follow`). Whatever a leader ever had to do may be done at any later time and any number of times,
//! and what was asked or proposed is never forgotten: so every message is lost, late, repeated and out of order, and
//! every leader is replaced by one that knows of nothing, at every place. A group that does nothing is one that is
//! down. The client's requests may arrive at every group at every time, again and again.
//!
//! An entry's index counts only the appends that were new, and of one that comes again only the answer is judged: a state
//! is the same however often its groups were told what they knew. That positions grow and that sessions are kept alive is
//! the business of the scheduler ([`crate::shards`]).
//!
//! `kv.linearizable` compares each answer with a map to which the steps were done in their order. That is what a
//! linearizability tester would find: an operation takes effect in one step, which lies between its request and its
//! answer, so the order of the steps explains a history if every answer is the map's. And if one is not, no other order
//! explains it: among the behaviours is the one in which each answer is back before the next step, where no two
//! operations overlap and their order is given.

use std::collections::BTreeSet;

use eraft::mutants::Mutants;
use eraft::proto::ctrler::{self as pb, change::Change as Of};
use eraft::proto::shardkv::{Command, command::Operation};
use eraft::shardkv::{Chore, ShardState, adopt};
use eraft::types::{ConfigNum, ShardId};
use prost::Message as _;
use stateright::{Model, Property};

use super::shared::Shared;
use super::{Brake, Spec};
use crate::shards::clients::{Request, Wants, Wrong};
use crate::shards::cluster::{Cluster, Served, place_of};
use crate::shards::group::is_whole;
use crate::shards::judge;

/// The shard that moves, and that the client uses.
const MOVING: ShardId = ShardId(0);
/// A chunk holds so many pairs: a shard with a value, a session and their table takes two.
const PAIRS_MAX: usize = 2;

/// A model.
#[derive(Clone, Debug)]
pub struct Shards {
    /// Its name.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// Groups.
    pub groups: u64,
    /// Shards.
    pub shards: u64,
    /// Commands of operators.
    pub changes: fn() -> Vec<Of>,
    /// So many of them were given, and all groups have adopted what they made; what the others make is to come.
    pub begins_with: usize,
    /// Commands are given one by one, groups report, and configs are dropped as soon as no group needs them. Otherwise
    /// all configs are there from the start.
    pub drops: bool,
    /// Appends of the client.
    pub appends: u64,
    /// Steps of one behaviour; 0: as many as there are.
    pub depth: u8,
    /// What has to be reached.
    pub reaches: &'static [&'static str],
    /// The planted bug, if any.
    pub mutants: Mutants,
    /// Ends it early.
    pub brake: Brake,
}

/// Something that may happen at any time from now on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mail {
    /// The group at the place asks another one for the sake of a chore.
    Ask(usize, ShardId, Chore),
    /// The encoded command comes into the log of the group at the place.
    Enter(usize, Vec<u8>),
}

/// A state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    cluster: Shared<Cluster>,
    mail: Shared<BTreeSet<Mail>>,
    /// Appends that some group has done.
    appended: u64,
    /// Commands that operators have given.
    changed: usize,
    broken: Option<(&'static str, String)>,
}

/// What may happen next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// What was under way arrives.
    Arrive(Mail),
    /// A group adopts the config that the controllers say is next.
    Follow(usize),
    /// A group's log holds a config that is not due.
    Stray(usize, ConfigNum),
    /// A group reports how far it is.
    Report(usize),
    /// The next of the operator's commands.
    Change,
    /// A group is asked for an append.
    Append(usize, u64),
}

/// Does it hold in this state?
type Holds = fn(&Shards, &State) -> bool;

macro_rules! oracles {
    ($($id:literal)*) => {
        /// What is judged.
        const ORACLES: &[(&str, Holds)] =
            &[$(($id, |_, state| state.broken.as_ref().is_none_or(|(oracle, _)| *oracle != $id))),*];
    };
}

oracles! {
    "shard.single_owner"
    "shard.no_loss"
    "shard.config_order"
    "shard.position"
    "shard.refused"
    "shard.gc"
    "kv.exactly_once"
    "kv.linearizable"
    "ctrler.deterministic"
    "ctrler.balanced"
    "ctrler.minimal"
    "ctrler.refused"
}

/// What can be reached.
const REACHED: [(&str, Holds); 8] = [
    ("a shard has moved", |_, state| state.owners(MOVING) > 1),
    ("a shard has come back", |_, state| {
        let first = &state.cluster.seen[0];
        let is_back = first.of(MOVING).any(|held| is_whole(held.state) && held.epoch > ConfigNum(1));
        is_back && first.of(MOVING).all(|held| held.epoch > ConfigNum(1))
    }),
    ("a shard came back while it was being deleted", |_, state| {
        state.cluster.seen.iter().any(|seen| {
            let deletes = seen.of(MOVING).any(|held| held.state == ShardState::Deleting);
            deletes && seen.of(MOVING).any(|held| is_whole(held.state))
        })
    }),
    ("a confirmation comes again", |_, state| {
        state.mail.iter().any(|mail| match mail {
            Mail::Ask(_, shard, Chore::Tell { source, .. }) => {
                let seen = &state.cluster.seen[place_of(source.group)];
                !seen.of(*shard).any(|held| held.epoch == source.epoch && is_whole(held.state))
            }
            _ => false,
        })
    }),
    ("a chunk comes again", |_, state| {
        state.mail.iter().any(|mail| match mail {
            Mail::Enter(place, command) => match operation(command) {
                Some(Operation::Insert(insert)) => {
                    let born = ConfigNum(insert.born);
                    let is_here = |held: &&eraft::shardkv::Held| held.state != ShardState::Pulling;
                    state.cluster.seen[*place].of(MOVING).any(|held| held.epoch == born && is_here(&held))
                }
                _ => false,
            },
            Mail::Ask(..) => false,
        })
    }),
    ("another shard is served while one is on its way", |_, state| {
        let pulls = |seen: &judge::Seen| seen.of(MOVING).any(|held| held.state == ShardState::Pulling);
        let other = |seen: &judge::Seen| seen.of(ShardId(1)).any(|held| held.state == ShardState::Serving);
        state.cluster.seen.iter().any(pulls) && state.cluster.seen.iter().any(other)
    }),
    ("everything is where it belongs", Shards::is_settled),
    ("a config was left out", |_, state| {
        let oldest = state.cluster.controllers.oldest();
        oldest > ConfigNum(2) && state.cluster.seen.iter().any(|seen| seen.adopted.next() < oldest)
    }),
];

impl State {
    /// Groups that have or had all of `shard`, as far as one can see.
    fn owners(&self, shard: ShardId) -> usize {
        let has = |seen: &&judge::Seen| seen.of(shard).any(|held| held.state != ShardState::Pulling);
        self.cluster.seen.iter().filter(has).count()
    }
}

fn operation(command: &[u8]) -> Option<Operation> {
    Command::decode(command).ok()?.operation
}

impl Shards {
    /// The latest config is made and adopted, all shards are at their owners, and nothing is left elsewhere.
    fn is_settled(&self, state: &State) -> bool {
        state.changed == (self.changes)().len()
            && judge::settled(&state.cluster.seen, state.cluster.controllers.latest()).is_ok()
    }

    /// An entry of the group at `place`; true if it changed anything.
    fn enter(&self, cluster: &mut Cluster, place: usize, operation: Operation) -> Result<bool, Wrong> {
        let index = cluster.seen[place].group.index;
        let entered = cluster.enter(place, operation)?;
        cluster.seen[place].group.index = index;
        Ok(entered.wrote)
    }

    /// Takes note of what the groups have to do now.
    fn note(&self, cluster: &Cluster, mail: &mut BTreeSet<Mail>) {
        for (place, seen) in cluster.seen.iter().enumerate() {
            let chores = seen.group.chores();
            for (shard, chore) in chores.todo {
                mail.insert(match chore.command(shard, None) {
                    Some(operation) => enters(place, operation),
                    None => Mail::Ask(place, shard, chore),
                });
            }
        }
    }

    fn step(&self, state: &mut State, action: Action) -> Result<bool, Wrong> {
        let mut cluster = Cluster::clone(&state.cluster);
        let mut mail = BTreeSet::clone(&state.mail);
        let did = match action {
            Action::Arrive(Mail::Ask(place, shard, chore)) => {
                let Some((group, question)) = chore.question(shard) else { return Ok(false) };
                let source = place_of(group);
                let index = cluster.seen[source].group.index;
                let (answer, wrote) = cluster.answer(source, question, PAIRS_MAX, None)?;
                cluster.seen[source].group.index = index;
                let command = answer.and_then(|answer| chore.command(shard, Some(answer)));
                command.is_some_and(|operation| mail.insert(enters(place, operation))) || wrote
            }
            Action::Arrive(Mail::Enter(place, command)) => match operation(&command) {
                Some(operation) => self.enter(&mut cluster, place, operation)?,
                None => false,
            },
            Action::Follow(place) => match cluster.next_config(place, false)? {
                Some(operation) => self.enter(&mut cluster, place, operation)?,
                None => false,
            },
            Action::Stray(place, num) => {
                let config = &cluster.controllers.configs[num.0 as usize];
                let operation = Operation::Adopt(adopt(config, cluster.controllers.oldest()));
                self.enter(&mut cluster, place, operation)?
            }
            Action::Report(place) => {
                cluster.report(place);
                true
            }
            Action::Change => {
                let change = (self.changes)().swap_remove(state.changed);
                cluster.change(&change)?;
                state.changed += 1;
                true
            }
            Action::Append(place, sequence) => {
                let wants = Wants::Append { sequence, acknowledged_below: 0 };
                let request = Request { client: 1, shard: MOVING, wants };
                let index = cluster.seen[place].group.index;
                let served = cluster.serve(place, &request)?;
                if served != Served::Done {
                    cluster.seen[place].group.index = index;
                }
                state.appended = state.appended.max(sequence + u64::from(served == Served::Done));
                served == Served::Done
            }
        };
        if !did {
            return Ok(false);
        }
        cluster.controllers.catch_up(usize::MAX);
        // Whoever serves the shard has what clients may expect.
        for place in 0..cluster.seen.len() {
            let request = Request { client: 1, shard: MOVING, wants: Wants::Read };
            cluster.serve(place, &request)?;
        }
        self.note(&cluster, &mut mail);
        if mail != *state.mail {
            state.mail = Shared::new(mail);
        }
        state.cluster = Shared::new(cluster);
        Ok(true)
    }

    /// The first configs, adopted by all, with a session of the client.
    fn begin(&self) -> Result<State, Wrong> {
        let mut cluster = Cluster::new(self.groups, self.shards, 0, self.mutants);
        let changes = (self.changes)();
        let given = if self.drops { self.begins_with } else { changes.len() };
        for change in &changes[..self.begins_with] {
            cluster.change(change)?;
            for place in 0..cluster.seen.len() {
                if let Some(operation) = cluster.next_config(place, false)? {
                    self.enter(&mut cluster, place, operation)?;
                }
            }
        }
        for change in &changes[self.begins_with..given] {
            cluster.change(change)?;
        }
        cluster.serve(0, &Request { client: 1, shard: MOVING, wants: Wants::Open })?;
        cluster.controllers.catch_up(usize::MAX);
        let mail = Shared::new(BTreeSet::new());
        Ok(State { cluster: Shared::new(cluster), mail, appended: 0, changed: given, broken: None })
    }
}

fn enters(place: usize, operation: Operation) -> Mail {
    Mail::Enter(place, Command { operation: Some(operation) }.encode_to_vec())
}

impl Model for Shards {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.begin().unwrap_or_else(|(oracle, message)| {
            let cluster = Shared::new(Cluster::new(self.groups, self.shards, 0, self.mutants));
            let mail = Shared::new(BTreeSet::new());
            State { cluster, mail, appended: 0, changed: 0, broken: Some((oracle, message)) }
        })]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.broken.is_some() || self.brake.is_on() {
            return;
        }
        let latest = state.cluster.controllers.latest().num;
        for (place, seen) in state.cluster.seen.iter().enumerate() {
            if seen.adopted < latest {
                actions.push(Action::Follow(place));
                let later = seen.adopted.0 + 2..=latest.0;
                actions.extend(later.map(|num| Action::Stray(place, ConfigNum(num))));
            }
            if self.drops {
                actions.push(Action::Report(place));
            }
            // One after the other; each of those before may come again.
            let known = (state.appended + 1).min(self.appends);
            actions.extend((0..known).map(|sequence| Action::Append(place, sequence)));
        }
        if state.changed < (self.changes)().len() {
            actions.push(Action::Change);
        }
        actions.extend(state.mail.iter().cloned().map(Action::Arrive));
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match self.step(&mut state, action) {
            Ok(true) if state != *last => Some(state),
            Ok(_) => None,
            Err(broken) => {
                state.broken = Some(broken);
                Some(state)
            }
        }
    }

    fn format_action(&self, action: &Action) -> String {
        match action {
            Action::Arrive(Mail::Enter(place, command)) => {
                format!("group {} applies {:?}", place + 1, operation(command))
            }
            Action::Arrive(Mail::Ask(place, shard, chore)) => {
                format!("group {} does for shard {shard}: {chore:?}", place + 1)
            }
            other => format!("{other:?}"),
        }
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let always = ORACLES.iter().map(|(name, holds)| Property::always(name, *holds));
        let reached = REACHED.into_iter().filter(|(name, _)| self.reaches.contains(name));
        let sometimes = reached.map(|(name, holds)| Property::sometimes(name, holds));
        // Wherever nothing more can happen, everything is where it belongs.
        let liveness: Holds = |model, state| state.broken.is_some() || model.is_settled(state);
        always.chain(sometimes).chain([Property::eventually("sim.liveness", liveness)]).collect()
    }
}

/// What the report says of a model.
pub(super) fn spec(model: Shards) -> Spec<Shards> {
    let configs = (model.changes)().len() as u64;
    let bounds = [
        ("groups", model.groups),
        ("shards", model.shards),
        ("configs", configs),
        ("appends", model.appends),
    ];
    let explain = |model: &Shards, state: &State| match &state.broken {
        Some((_, message)) => message.clone(),
        None => judge::settled(&state.cluster.seen, state.cluster.controllers.latest())
            .map_or_else(|(_, message)| message, |()| format!("{} commands were given", model.name)),
    };
    Spec {
        name: model.name,
        about: model.about,
        bounds: bounds.map(|(name, bound)| (name.to_owned(), bound)).into(),
        depth_max: model.depth.into(),
        explain,
        model,
    }
}

fn join(groups: &[u64]) -> Of {
    let group = |group: &u64| pb::Group { group: *group, addresses: vec![format!("host:{group}")] };
    Of::Join(pb::Groups { groups: groups.iter().map(group).collect() })
}

fn leave(group: u64) -> Of {
    Of::Leave(pb::GroupIds { groups: vec![group] })
}

fn move_to(group: u64) -> Of {
    Of::Move(pb::Move { shard: MOVING.0, group })
}

/// The other shard is pinned to the first group.
const STAYS: Of = Of::Move(pb::Move { shard: 1, group: 1 });

/// The models of migration.
pub(super) fn all() -> Vec<Shards> {
    let there_and_back = Shards {
        name: "shards.back",
        about: "a shard goes to another group and comes back, and another one stays",
        groups: 2,
        shards: 2,
        changes: || vec![join(&[1]), STAYS, join(&[2]), move_to(1)],
        begins_with: 2,
        drops: false,
        appends: 2,
        depth: 0,
        reaches: &[
            "a shard has moved",
            "a shard has come back",
            "a shard came back while it was being deleted",
            "a confirmation comes again",
            "a chunk comes again",
            "another shard is served while one is on its way",
            "everything is where it belongs",
        ],
        mutants: Mutants::default(),
        brake: Brake::default(),
    };
    vec![
        Shards {
            name: "shards.move",
            about: "a shard goes to another group under a client that appends and retries",
            changes: || vec![join(&[1]), STAYS, join(&[2])],
            appends: 3,
            reaches: &[
                "a shard has moved",
                "a confirmation comes again",
                "a chunk comes again",
                "everything is where it belongs",
            ],
            ..there_and_back.clone()
        },
        there_and_back.clone(),
        Shards {
            name: "shards.three",
            about: "a shard goes through a second group to a third one",
            groups: 3,
            shards: 1,
            changes: || vec![join(&[1]), join(&[2, 3]), move_to(2), move_to(3)],
            reaches: &["a shard has moved", "a confirmation comes again", "everything is where it belongs"],
            ..there_and_back.clone()
        },
        Shards {
            name: "shards.dropped",
            about: "a group leaves, is forgotten with the configs that it does not need, and comes back",
            shards: 1,
            begins_with: 1,
            changes: || {
                let alone = [move_to(1), Of::Unpin(MOVING.0)];
                [&[join(&[1]), join(&[2]), leave(2)], &alone[..], &[join(&[2]), move_to(2)]].concat()
            },
            drops: true,
            appends: 0,
            reaches: &["a config was left out", "a shard has moved", "everything is where it belongs"],
            ..there_and_back
        },
    ]
}
