//! Which of the product's buggify points a run forces, and how often it did.
//!
//! The plan names the points that are on, each with its probability. A draw is a function of (seed, point, party, how
//! often that party came by), so a point that is switched off moves no other draw. With the faults, all points end.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use eraft::buggify::{Point, Switchboard};
use eraft::random::Draws;
use eraft::replica::link::Party;

/// The points of one run.
pub struct Points {
    draws: Draws,
    chances: BTreeMap<Point, f64>,
    is_over: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    passed: BTreeMap<(Point, Party), u64>,
    forced: BTreeMap<Point, u64>,
}

impl Points {
    /// The points of a plan; names that this build does not know are of another version, and force nothing.
    pub fn new(seed: u64, chances: &BTreeMap<String, f64>) -> Self {
        let known = |point: &Point| chances.get(point.id()).map(|chance| (*point, *chance));
        Self {
            draws: Draws::new(seed, "buggify"),
            chances: Point::ALL.iter().filter_map(known).collect(),
            is_over: AtomicBool::new(false),
            state: Mutex::default(),
        }
    }

    /// Nothing is forced any more.
    pub fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// How often each point was forced.
    pub fn forced(&self) -> BTreeMap<String, u64> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.forced.iter().map(|(point, count)| (point.id().to_owned(), *count)).collect()
    }
}

impl Switchboard for Points {
    fn forces(&self, party: Party, point: Point) -> bool {
        let Some(chance) = self.chances.get(&point) else { return false };
        if self.is_over.load(Ordering::Relaxed) {
            return false;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = state.passed.entry((point, party)).or_default();
        *passed += 1;
        let number = match party {
            Party::Node(id) => id.0,
            Party::Client(number) => CLIENTS + number,
        };
        let is_forced = self.draws.draw(point.id(), number, *passed).chance(*chance);
        if is_forced {
            *state.forced.entry(point).or_default() += 1;
        }
        is_forced
    }
}

/// Clients draw beside the nodes.
const CLIENTS: u64 = 1 << 32;

#[cfg(test)]
mod tests {
    use super::*;
    use eraft::types::NodeId;

    #[test]
    fn a_point_fires_by_its_chance_alone_and_is_counted_until_the_end() {
        let one = Party::Node(NodeId(1));
        let fires = |chances: &[(&str, f64)]| {
            let chances = chances.iter().map(|(id, chance)| ((*id).to_owned(), *chance)).collect();
            let points = Points::new(7, &chances);
            let fired: Vec<bool> = (0..1_000).map(|_| points.forces(one, Point::FullInbox)).collect();
            (fired, points)
        };
        let (alone, points) = fires(&[("driver.full_inbox", 0.1)]);
        let count = alone.iter().filter(|forced| **forced).count() as u64;
        assert!((50..200).contains(&count), "{count}");
        assert_eq!(points.forced(), [("driver.full_inbox".to_owned(), count)].into());
        let (beside, _) = fires(&[("driver.full_inbox", 0.1), ("log.short_write", 1.0), ("gone.away", 1.0)]);
        assert_eq!(alone, beside, "another point moved its draws");
        points.end();
        assert!((0..1_000).all(|_| !points.forces(one, Point::FullInbox)));
    }
}
