//! The events that make a violation: those about the terms, the entries and the nodes that its message names.

use super::scene::{Happening, Scene};
use crate::outcome::Violation;
use crate::places;

/// More of them do not help anybody.
const EVIDENCE_MAX: usize = 40;

/// What the message of a violation names.
#[derive(Debug, Default, PartialEq, Eq)]
struct Named {
    lanes: Vec<String>,
    terms: Vec<u64>,
    indexes: Vec<u64>,
}

impl Named {
    fn of(message: &str) -> Self {
        let mut named = Self::default();
        let trimmed = |word: &str| word.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned();
        let words: Vec<String> = message.split([' ', '@', '(']).map(trimmed).collect();
        for (place, word) in words.iter().enumerate() {
            let is_party = places::node_of(word).is_some() || places::client_of(word).is_some();
            if is_party && !named.lanes.contains(word) {
                named.lanes.push(word.clone());
            }
            let Ok(number) = word.parse::<u64>() else { continue };
            match place.checked_sub(1).and_then(|before| words.get(before)).map(String::as_str) {
                Some("term") => named.terms.push(number),
                Some("index" | "entry" | "entries") => named.indexes.push(number),
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
            "role" | "votes" => self.terms.contains(&happening.term),
            "log" | "commit" | "applied" => self.indexes.iter().any(|index| (low..=high).contains(index)),
            "down" | "up" | "opened" => is_named,
            _ => false,
        }
    }
}

/// The happenings (their numbers) that make `violation`, in the order of time.
pub(super) fn of(scene: &Scene, violation: &Violation) -> Vec<usize> {
    let named = Named::of(&violation.message);
    let mut found: Vec<usize> = (0..scene.happenings.len())
        .filter(|place| named.concerns(scene, &scene.happenings[*place]))
        .collect();
    // The last ones are nearest to what went wrong.
    found.drain(..found.len().saturating_sub(EVIDENCE_MAX));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_nodes_terms_and_entries() {
        let named =
            Named::of("n1 (incarnation 1) at 314: commits entry 2 of term 1; the one there has term 2");
        assert_eq!(named, Named { lanes: vec!["n1".to_owned()], terms: vec![1, 2], indexes: vec![2] });
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
    }
}
