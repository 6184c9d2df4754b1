//! `[buggify]`: which points of the product's code a run may force.

use std::collections::BTreeMap;

use eraft::buggify::Point;
use eraft::random::Draws;

use super::Cluster;
use super::reader::{ScenarioError, Section, suggestion};
use super::setting::Setting;

/// Points in the code of sharded stores.
const OF_SHARDS: [&str; 2] = ["shards.", "router."];

const KEYS: &[&str] = &["points", "share", "chance"];

/// The points that runs draw from.
#[derive(Clone, Debug, PartialEq)]
pub struct Buggify {
    /// Names of the points.
    pub points: Vec<&'static str>,
    /// Each point is on in this share of the runs.
    pub share: Setting<f64>,
    /// A point that is on fires with this probability each time its code is reached.
    pub chance: Setting<f64>,
}

impl Buggify {
    pub(super) fn read(root: &Section<'_>, cluster: &Cluster) -> Result<Option<Self>, ScenarioError> {
        if !root.has("buggify") {
            return Ok(None);
        }
        let section = root.section("buggify", KEYS)?;
        let names = || Point::ALL.iter().map(|point| point.id());
        let patterns = section.texts("points")?.unwrap_or_else(|| vec!["*"]);
        let matches = |pattern: &str, name: &str| match pattern.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => name == pattern,
        };
        for pattern in &patterns {
            if !names().any(|name| matches(pattern, name)) {
                let hint = suggestion(pattern, names());
                return Err(section.error("points", format!("unknown point `{pattern}`{hint}")));
            }
        }
        // Without groups that serve shards nobody ever comes by there.
        let is_there =
            |name: &str| cluster.groups > 0 || !OF_SHARDS.iter().any(|part| name.starts_with(part));
        let named = |name: &&str| is_there(name) && patterns.iter().any(|pattern| matches(pattern, name));
        let chances = Setting::Choices(vec![0.01, 0.05, 0.25]);
        Ok(Some(Self {
            points: names().filter(named).collect(),
            share: section.setting("share", 0.0..=1.0)?.unwrap_or(Setting::Fixed(0.25)),
            chance: section.setting("chance", 0.0..=1.0)?.unwrap_or(chances),
        }))
    }

    /// The points of one run, with their probabilities.
    pub fn draw(&self, swarm: &Draws) -> BTreeMap<String, f64> {
        let is_on = |point: &&str| {
            let share = self.share.draw(swarm, "buggify.share", 0, 0);
            swarm.draw(point, 0, 0).chance(share)
        };
        let with_chance = |point: &str| (point.to_owned(), self.chance.draw(swarm, point, 0, 1));
        self.points.iter().copied().filter(is_on).map(with_chance).collect()
    }
}
