//! The events that make a violation: those about the terms, the entries, the shards and the nodes that its message names.
//!
//! Terms and indexes are those of one Raft group: an entry 7 of another group is no evidence. A message that names no
//! place is about any.

use std::collections::BTreeSet;

use super::scene::{Happening, Scene};
use crate::outcome::Violation;
use crate::places::{self, Place};

/// More of them do not help anybody.
const EVIDENCE_MAX: usize = 40;

/// What the message of a violation names.
#[derive(Debug, Default, PartialEq, Eq)]
struct Named {
    lanes: Vec<String>,
    places: BTreeSet<Place>,
    terms: Vec<u64>,
    indexes: Vec<u64>,
    shards: Vec<u64>,
    configs: Vec<u64>,
}

impl Named {
    fn of(message: &str) -> Self {
        let mut named = Self::default();
        let trimmed = |word: &str| word.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned();
        let words: Vec<String> = message.split([' ', '@', '(']).map(trimmed).collect();
        for (place, word) in words.iter().enumerate() {
            let node = places::node_of(word);
            let is_party = node.is_some() || places::client_of(word).is_some();
            if is_party && !named.lanes.contains(word) {
                named.lanes.push(word.clone());
            }
            named.places.extend(node.map(Place::of).or_else(|| Place::parse(word)));
            let Ok(number) = word.parse::<u64>() else { continue };
            match place.checked_sub(1).and_then(|before| words.get(before)).map(String::as_str) {
                Some("term") => named.terms.push(number),
                Some("index" | "entry" | "entries") => named.indexes.push(number),
                Some("shard") => named.shards.push(number),
                Some("config" | "epoch") => named.configs.push(number),
                _ => {}
            }
        }
        named
    }

    /// Is `happening` part of the story?
    fn concerns(&self, scene: &Scene, happening: &Happening) -> bool {
        let kind = scene.kinds.word(happening.kind);
        let lane = scene.lanes.word(happening.lane);
        let is_named = self.lanes.is_empty() || self.lanes.iter().any(|named| named == lane);
        let (low, high) = happening.indexes;
        match kind {
            "violation" => true,
            "down" | "up" | "opened" => is_named && self.is_there(lane),
            "applied" if self.is_of_shards(happening) => true,
            _ if !self.is_there(lane) => false,
            "role" | "votes" => self.terms.contains(&happening.term),
            "log" | "commit" | "applied" => self.indexes.iter().any(|index| (low..=high).contains(index)),
            _ => false,
        }
    }

    /// Is `lane` in a group that is named, if any is?
    fn is_there(&self, lane: &str) -> bool {
        let place = places::node_of(lane).map(Place::of);
        self.places.is_empty() || place.is_none_or(|place| self.places.contains(&place))
    }

    /// A shard goes from group to group, so what is about it is evidence wherever it happens; so is the adoption of a
    /// config that is named beside it.
    fn is_of_shards(&self, happening: &Happening) -> bool {
        let has = |list: &[u64], number: Option<u64>| number.is_some_and(|number| list.contains(&number));
        has(&self.shards, happening.about.shard) || has(&self.configs, happening.about.config)
    }
}

/// The happenings (their numbers) that make `violation`, in the order of time.
pub(super) fn of(scene: &Scene, violation: &Violation) -> Vec<usize> {
    let named = Named::of(&violation.message);
    // All replicas of a group apply what it does to its shards; the first one tells it.
    let mut told: BTreeSet<(Option<Place>, u64)> = BTreeSet::new();
    let mut is_first = |happening: &Happening| {
        let place = places::node_of(scene.lanes.word(happening.lane)).map(Place::of);
        !named.is_of_shards(happening) || told.insert((place, happening.indexes.0))
    };
    // That every node begins is no news.
    let mut ended: BTreeSet<usize> = BTreeSet::new();
    let mut is_news = |happening: &Happening| match scene.kinds.word(happening.kind) {
        "down" => {
            ended.insert(happening.lane);
            true
        }
        "opened" => ended.contains(&happening.lane),
        _ => true,
    };
    let mut found: Vec<usize> = (0..scene.happenings.len())
        .filter(|place| is_news(&scene.happenings[*place]))
        .filter(|place| named.concerns(scene, &scene.happenings[*place]))
        .filter(|place| is_first(&scene.happenings[*place]))
        .collect();
    // The last ones are nearest to what went wrong.
    found.drain(..found.len().saturating_sub(EVIDENCE_MAX));
    found
}

#[cfg(test)]
mod tests {
    use super::super::command::About;
    use super::*;
    use eraft::types::GroupId;

    #[test]
    fn a_message_names_nodes_terms_and_entries() {
        let named =
            Named::of("n1 (incarnation 1) at 314: commits entry 2 of term 1; the one there has term 2");
        let places = [Place::Alone].into();
        let lanes = vec!["n1".to_owned()];
        assert_eq!(named, Named { lanes, places, terms: vec![1, 2], indexes: vec![2], ..Named::default() });
        let named = Named::of("shard 3 arrives at g101 in epoch 5, and g100 does not have all of it");
        let places = [100, 101].map(|group| Place::Group(GroupId(group))).into();
        assert_eq!(named, Named { places, shards: vec![3], configs: vec![5], ..Named::default() });
    }

    #[test]
    fn evidence_is_what_concerns_them() {
        let mut scene = Scene::new(["n1", "n2", "n3"].map(str::to_owned));
        scene.happened(1, "n1", "role", "leads term 1", 1, (0, 0));
        scene.happened(2, "n2", "log", "entries 2..4", 1, (2, 4));
        scene.happened(3, "n2", "log", "entries 5..5", 1, (5, 5));
        scene.happened(4, "n3", "down", "loses power", 0, (0, 0));
        scene.happened(5, "n1", "violation", "it", 0, (0, 0));
        let violation = Violation::new("raft.x", "n1 commits entry 3 of term 1");
        assert_eq!(of(&scene, &violation), [0, 1, 4]);
        let mut scene = Scene::new(["n1", "n2"].map(str::to_owned));
        for (at, lane, kind) in
            [(1, "n1", "opened"), (2, "n2", "opened"), (3, "n1", "down"), (4, "n1", "opened")]
        {
            scene.happened(at, lane, kind, "it", 0, (0, 0));
        }
        assert_eq!(of(&scene, &Violation::new("kv.x", "k1")), [2, 3], "that every node begins is no news");
    }

    #[test]
    fn terms_and_entries_of_other_groups_are_no_evidence_but_what_they_do_with_the_shard_is() {
        let mut scene = Scene::new(["s1", "g100n1", "g100n2", "g101n1"].map(str::to_owned));
        scene.happened(1, "s1", "role", "leads term 1", 1, (0, 0));
        scene.happened(2, "g101n1", "log", "entries 2..4", 1, (2, 4));
        scene.happened(3, "g100n1", "log", "entries 2..4", 1, (2, 4));
        let shard = |shard| About { shard: Some(shard), config: None };
        for (at, lane, about) in [(4, "g101n1", 7), (5, "g100n1", 6), (6, "g100n1", 7), (7, "g100n2", 7)] {
            scene.happened(at, lane, "applied", "it", 1, (at.min(6) + 10, at.min(6) + 10));
            scene.is_about(shard(about));
        }
        let entries = Violation::new("raft.x", "g100n1 commits entry 3 of term 1");
        assert_eq!(of(&scene, &entries), [2]);
        let shards = Violation::new("shard.x", "g100 begins to delete shard 7 of epoch 2");
        assert_eq!(of(&scene, &shards), [3, 5], "the other replica of g100 says the same");
    }
}
