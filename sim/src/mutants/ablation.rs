//! What each ingredient of the simulation is worth: the same exam without it.

use serde::{Deserialize, Serialize};

use crate::scenario::Scenario;

/// Something that the simulation can be run without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ingredient {
    /// A configuration and a subset of faults drawn per run. Without it every run has the default group, network and
    /// disks, and all faults.
    Swarm,
    /// Faults of disks.
    StorageFaults,
    /// What is forced in the product's code.
    Buggify,
}

impl Ingredient {
    /// Every ingredient.
    pub const ALL: [Ingredient; 3] = [Ingredient::Swarm, Ingredient::StorageFaults, Ingredient::Buggify];

    /// Its word in tables and options.
    pub fn word(self) -> &'static str {
        match self {
            Ingredient::Swarm => "swarm",
            Ingredient::StorageFaults => "storage_faults",
            Ingredient::Buggify => "buggify",
        }
    }

    /// Takes it out of `scenario`.
    pub fn leave_out(self, scenario: &mut Scenario) {
        match self {
            Ingredient::Swarm => {
                let defaults = Scenario::parse("defaults", "").expect("an empty scenario is well-formed");
                scenario.cluster = defaults.cluster;
                scenario.network = defaults.network;
                scenario.disk = defaults.disk;
                scenario.workload = defaults.workload;
                if let Some(random) = &mut scenario.random_faults {
                    random.subset = false;
                }
            }
            Ingredient::StorageFaults => {
                if let Some(random) = &mut scenario.random_faults {
                    random.kinds.retain(|fault| !fault.profile.kind.id().starts_with("disk."));
                }
            }
            Ingredient::Buggify => scenario.buggify = None,
        }
    }
}
