//! The schedule of a run as data: drawn from (scenario, seed) before the run, written into every artifact.
//!
//! A run is a function of its [`Plan`] and its seed. Every draw is counter-based and belongs to one fault, operation
//! or option: whatever is removed or added, nothing else moves. So a shrunk plan replays the rest unchanged.

mod faults;
mod operations;
mod operators;

pub use operations::{Operation, OperationKind};

use std::collections::BTreeMap;

use eraft::random::Draws;
use serde::{Deserialize, Serialize};

use crate::oracles;
use crate::scenario::{
    Action, Cluster, Command, Direction, Disk, FaultKind, Heal, Network, Operators, Phases, Scenario, Step,
    Target, Trigger, Workload,
};

/// The numbers of one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Configuration {
    /// The group.
    pub cluster: Cluster,
    /// The clients.
    pub workload: Workload,
    /// The operators.
    #[serde(default)]
    pub operators: Operators,
    /// The network without faults.
    pub network: Network,
    /// The disks without faults.
    pub disk: Disk,
    /// How long.
    pub phases: Phases,
    /// Which nodes are healthy again after the faults.
    pub heal: Heal,
    /// The points of the product's code that are forced, each with its probability.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub buggify: BTreeMap<String, f64>,
    /// The oracles that judge the run.
    pub checks: Vec<String>,
}

/// A fault of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FaultEvent {
    /// Its name, `net.loss#3`: what it draws when it fires depends on this, so it is kept when others are removed.
    pub id: String,
    /// When it fires, or from when on its trigger counts; milliseconds after the start.
    pub at_ms: u64,
    /// What it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Trigger>,
    /// How long after the trigger it fires.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub delay_after_ms: u64,
    /// What it does.
    #[serde(flatten)]
    pub action: Action,
    /// Whom it hits.
    pub target: Target,
    /// Which of the target's links, if it bends links.
    #[serde(default, skip_serializing_if = "Direction::is_both")]
    pub direction: Direction,
    /// When it ends; `None`: never by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl FaultEvent {
    /// Its kind.
    pub fn kind(&self) -> FaultKind {
        self.action.kind()
    }
}

/// Everything that a run does, except what it draws on the way (latencies, roles), which depends on the seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The numbers.
    pub configuration: Configuration,
    /// The kinds of faults that exist in this run.
    pub kinds: Vec<String>,
    /// The faults, by time.
    pub faults: Vec<FaultEvent>,
    /// What each client does while faults happen.
    pub operations: Vec<Vec<Operation>>,
    /// What each client does after that.
    pub liveness_operations: Vec<Vec<Operation>>,
    /// What each operator does while faults happen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<Vec<Command>>,
    /// What each operator does after that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub liveness_commands: Vec<Vec<Command>>,
    /// What the script does and claims meanwhile.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
}

impl Plan {
    /// The plan of `seed`.
    pub fn new(scenario: &Scenario, seed: u64) -> Self {
        let swarm = Draws::new(seed, "swarm");
        let configuration = Configuration {
            cluster: scenario.cluster.draw(&swarm),
            workload: scenario.workload.draw(&swarm),
            operators: scenario.operators.draw(&swarm),
            network: scenario.network.draw(&swarm),
            disk: scenario.disk.draw(&swarm),
            phases: scenario.phases.draw(&swarm),
            heal: scenario.heal,
            buggify: scenario.buggify.as_ref().map(|buggify| buggify.draw(&swarm)).unwrap_or_default(),
            checks: scenario.checks.clone(),
        };
        let schedule = Draws::new(seed, "schedule");
        let kinds = faults::kinds(scenario, &swarm);
        let faults = faults::generate(scenario, &kinds, configuration.phases.safety_ms, &swarm, &schedule);
        let operations = Draws::new(seed, "workload");
        let workload = &configuration.workload;
        let commands = |count, phase| operators::generate(&configuration, count, phase, seed);
        let operators = &configuration.operators;
        Self {
            kinds: kinds.iter().map(|kind| kind.id().to_owned()).collect(),
            faults,
            operations: operations::generate(workload, workload.operations, "safety", &operations),
            liveness_operations: operations::generate(
                workload,
                workload.liveness_operations,
                "liveness",
                &operations,
            ),
            commands: commands(operators.commands, "safety"),
            liveness_commands: commands(operators.liveness_commands, "liveness"),
            steps: scenario.steps.clone(),
            configuration,
        }
    }

    /// The oracles that have to judge something: all, or of a script its own, and those of its clients if it has any.
    pub fn must_judge(&self) -> Vec<&str> {
        let checks = self.configuration.checks.iter().map(String::as_str);
        if self.steps.is_empty() {
            return checks.collect();
        }
        let has_clients = self.configuration.workload.clients > 0 || self.steps.iter().any(Step::has_client);
        let of_clients: &[&str] = match self.configuration.cluster.groups {
            0 => &["kv.linearizable"],
            _ => &["kv.linearizable", "kv.exactly_once"],
        };
        checks.filter(|id| *id == oracles::SCRIPT || (has_clients && of_clients.contains(id))).collect()
    }
}

#[cfg(test)]
mod tests;
