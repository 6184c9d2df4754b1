//! The models, the cheapest first, with the bounds that `make test` can afford.

use eraft::mutants::Mutants;

use super::bounds::Bounds;
use super::group::{Grain, Group, Reached, State};
use super::sessions::{self, Sessions};
use super::shards::{self, Shards};
use super::{Brake, ModelReport, Options, Spec, check};

/// Visits every state.
type Run = dyn Fn(&Options, Brake) -> ModelReport + Sync;

/// A model that can be run.
pub struct Check {
    /// Its name.
    pub name: &'static str,
    /// Visits every state.
    pub run: Box<Run>,
}

/// Every model.
pub fn all() -> Vec<Check> {
    let groups = groups().into_iter().map(|group| Check {
        name: group.name,
        run: Box::new(move |options: &Options, brake: Brake| {
            let mut model = Group { mutants: options.mutants, brake: brake.clone(), ..group.clone() };
            options.bounds.iter().for_each(|(name, bound)| model.bounds.set(name, *bound));
            check(group_spec(model), &brake)
        }),
    });
    let sessions = sessions::all().into_iter().map(|model| Check {
        name: model.name,
        run: Box::new(move |options: &Options, brake: Brake| {
            let model = Sessions { mutants: options.mutants, brake: brake.clone(), ..model.clone() };
            check(sessions::spec(model), &brake)
        }),
    });
    let shards = shards::all().into_iter().map(|model| Check {
        name: model.name,
        run: Box::new(move |options: &Options, brake: Brake| {
            let mut model = Shards { mutants: options.mutants, brake: brake.clone(), ..model.clone() };
            if let Some((_, depth)) = options.bounds.iter().find(|(name, _)| name == "depth") {
                model.depth = *depth;
            }
            check(shards::spec(model), &brake)
        }),
    });
    sessions.chain(shards).chain(groups).collect()
}

fn group_spec(group: Group) -> Spec<Group> {
    let named = Bounds::NAMES.into_iter().zip(group.bounds.values());
    let nodes = ("nodes", group.disks.len() as u64);
    let bounds = named.chain([nodes]).map(|(name, bound)| (name.to_owned(), bound)).collect();
    let explain =
        |_: &Group, state: &State| state.broken().map_or_else(String::new, |(_, message)| message.to_owned());
    let depth_max = group.bounds.depth.into();
    Spec { name: group.name, about: group.about, bounds, depth_max, explain, model: group }
}

/// The models of a group. Where `symmetric` is said all nodes begin alike.
fn groups() -> Vec<Group> {
    let fresh = |nodes| vec![(0, None, Vec::new()); nodes];
    let one_entry = |nodes| vec![(1, None, vec![1]); nodes];
    let coarse = Group {
        name: "",
        about: "",
        disks: Vec::new(),
        symmetric: true,
        bounds: Bounds::default(),
        grain: Grain::Coarse,
        mute: false,
        append_entries_max: 1024,
        reaches: &[],
        mutants: Mutants::default(),
        brake: Brake::default(),
    };
    let fine = Group { grain: Grain::Fine, ..coarse.clone() };
    vec![
        Group {
            name: "pair.fine",
            about: "two nodes in every order: every vote counts, and half is no majority",
            disks: fresh(2),
            bounds: Bounds { term_max: 2, crashes: 1, proposals: 1, depth: 14, ..Bounds::default() },
            reaches: &[Reached::Leader, Reached::LeaderAfterCrash, Reached::EverybodyCommitted],
            ..fine.clone()
        },
        Group {
            name: "election.fine",
            about: "three fresh nodes in every order, pre-votes and pending writes included",
            disks: fresh(3),
            bounds: Bounds { term_max: 1, depth: 13, ..Bounds::default() },
            reaches: &[Reached::Leader],
            ..fine
        },
        Group {
            name: "election",
            about: "three fresh nodes elect, and lose power between a vote and its write; logs stay as they are",
            disks: fresh(3),
            mute: true,
            bounds: Bounds { term_max: 2, crashes: 1, depth: 8, ..Bounds::default() },
            reaches: &[Reached::TwoLeaders, Reached::LeaderAfterCrash],
            ..coarse.clone()
        },
        Group {
            name: "read",
            about: "a new leader is asked to read",
            disks: one_entry(3),
            bounds: Bounds { term_max: 3, reads: 1, depth: 10, ..Bounds::default() },
            reaches: &[Reached::TwoLeaders, Reached::ReadAnswered],
            ..coarse.clone()
        },
        Group {
            name: "transfer",
            about: "a new leader is asked to let another one lead, and may give that up",
            disks: one_entry(3),
            bounds: Bounds { term_max: 2, crashes: 1, transfers: 1, depth: 11, ..Bounds::default() },
            reaches: &[Reached::TwoLeaders, Reached::Transferred],
            ..coarse.clone()
        },
        Group {
            name: "replication",
            about: "proposals under a leader that may fail, and under the next one",
            disks: one_entry(3),
            bounds: Bounds { term_max: 3, crashes: 1, proposals: 1, depth: 8, ..Bounds::default() },
            reaches: &[
                Reached::TwoLeaders,
                Reached::ProposalCommitted,
                Reached::OldEntryCommitted,
                Reached::LogsDiffer,
            ],
            ..coarse.clone()
        },
        Group {
            name: "figure_8",
            about: "two leaders left an entry each at the same place (figure 8 of the paper)",
            disks: vec![(2, None, vec![1]), (2, Some(2), vec![2]), (2, Some(2), Vec::new())],
            symmetric: false,
            append_entries_max: 1,
            bounds: Bounds { term_max: 4, depth: 11, ..Bounds::default() },
            reaches: &[Reached::Leader, Reached::OldEntryCommitted, Reached::LogsDiffer],
            ..coarse
        },
    ]
}
