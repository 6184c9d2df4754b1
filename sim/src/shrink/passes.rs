//! What is removed: time, operations, faults, nodes, clients, and settings other than the defaults.

use serde_json::Value;

use super::Shrinker;
use crate::outcome::Outcome;
use crate::places;
use crate::runner::Internal;
use crate::scenario::{Scenario, Target};
use crate::schedule::{Configuration, Plan};

/// Fractions of the safety phase that are tried for a violation that only the end shows, in eighths.
const EIGHTHS: [u64; 4] = [1, 2, 4, 6];
/// The sections of the configuration whose settings go back to their defaults, and what stays in each.
const SECTIONS: [(&str, &[&str]); 4] = [
    ("network", &[]),
    ("disk", &[]),
    ("workload", &["clients", "operations", "liveness_operations", "keys", "deadline_ms"]),
    ("cluster", &["nodes", "ctrlers", "groups", "shards", "election_timeout_ms", "heartbeat_ms"]),
];

impl Shrinker<'_> {
    /// A shorter safety phase, nothing after it, and no fault that comes after the violation.
    pub(super) fn time(&mut self) -> Result<(), Internal> {
        let failed_at_ms = self.failed_at_ms();
        let is_judged_at_end = self.until_ms().is_none();
        self.each(|plan, _| {
            let phases = &plan.configuration.phases;
            let mut shorter = Vec::new();
            let mut lengths: Vec<u64> =
                EIGHTHS.iter().map(|eighths| phases.safety_ms * eighths / 8).collect();
            if !is_judged_at_end && failed_at_ms < phases.safety_ms {
                lengths = vec![failed_at_ms + 1];
            }
            for safety_ms in lengths.into_iter().filter(|length| *length < phases.safety_ms) {
                let mut plan = plan.clone();
                plan.configuration.phases.safety_ms = safety_ms;
                plan.faults.retain(|fault| fault.at_ms < safety_ms);
                shorter.push(plan);
            }
            if phases.liveness_ms > 0 || plan.liveness_operations.iter().any(|list| !list.is_empty()) {
                let mut plan = plan.clone();
                plan.configuration.phases.liveness_ms = 0;
                plan.liveness_operations.iter_mut().for_each(Vec::clear);
                shorter.push(plan);
            }
            shorter
        })
    }

    /// Only the first operations of each client.
    pub(super) fn operations_of_each(&mut self) -> Result<(), Internal> {
        self.each(|plan, _| {
            let longest = plan.operations.iter().map(Vec::len).max().unwrap_or(0);
            let lengths = std::iter::once(0).chain((0..).map(|power| 1usize << power));
            lengths
                .take_while(|length| *length < longest)
                .map(|length| {
                    let mut plan = plan.clone();
                    plan.operations.iter_mut().for_each(|list| list.truncate(length));
                    plan
                })
                .collect()
        })
    }

    /// Faults, in groups and then one by one.
    pub(super) fn faults(&mut self, other_seeds: u64) -> Result<(), Internal> {
        self.remove(
            other_seeds,
            |plan| plan.faults.len(),
            |plan, range| {
                let mut plan = plan.clone();
                plan.faults.drain(range);
                plan
            },
        )
    }

    /// A smaller group; faults that name a node that is gone hit the others they name.
    pub(super) fn nodes(&mut self) -> Result<(), Internal> {
        // The steps of a script name their nodes.
        if !self.best.plan.steps.is_empty() {
            return Ok(());
        }
        self.each(|plan, _| {
            let of_size = |nodes: u64| {
                let mut plan = plan.clone();
                plan.configuration.cluster.nodes = nodes;
                let known: Vec<u64> = places::of(&plan.configuration.cluster)
                    .into_iter()
                    .flat_map(|(_, ids)| ids)
                    .map(|node| node.0)
                    .collect();
                plan.faults.retain_mut(|fault| match &mut fault.target {
                    Target::Nodes(named) => {
                        named.retain(|node| known.contains(node));
                        !named.is_empty()
                    }
                    _ => true,
                });
                plan
            };
            (1..plan.configuration.cluster.nodes).map(of_size).collect()
        })
    }

    /// Fewer clients: without one's operations, then without those that have none.
    pub(super) fn clients(&mut self) -> Result<(), Internal> {
        self.remove(
            0,
            |plan| plan.operations.len(),
            |plan, range| {
                let mut plan = plan.clone();
                plan.operations[range].iter_mut().for_each(Vec::clear);
                plan
            },
        )?;
        self.each(|plan, _| {
            let mut fewer = plan.clone();
            let is_busy: Vec<bool> = plan.operations.iter().map(|list| !list.is_empty()).collect();
            let mut place = 0..is_busy.len();
            fewer.operations.retain(|_| place.next().is_some_and(|place| is_busy[place]));
            with_clients(plan, fewer).into_iter().collect()
        })?;
        // A client without operations still reads at the end; those behind the last busy one may go by themselves.
        self.each(|plan, _| {
            let last = plan.operations.iter().rposition(|list| !list.is_empty()).map_or(0, |last| last + 1);
            let mut fewer = plan.clone();
            fewer.operations.truncate(last);
            with_clients(plan, fewer).into_iter().collect()
        })
    }

    /// Operations, in groups and then one by one. What follows keeps its time: it waits for what is gone.
    pub(super) fn single_operations(&mut self) -> Result<(), Internal> {
        for client in 0..self.best.plan.operations.len() {
            self.remove(
                0,
                |plan| plan.operations.get(client).map_or(0, Vec::len),
                |plan, range| {
                    let mut plan = plan.clone();
                    let list = &mut plan.operations[client];
                    let start = range.start;
                    let waited: u64 = list.drain(range).map(|operation| operation.think_ms).sum();
                    if let Some(next) = list.get_mut(start) {
                        next.think_ms += waited;
                    }
                    plan
                },
            )?;
        }
        Ok(())
    }

    /// Nothing forced, or fewer points.
    pub(super) fn forced_points(&mut self) -> Result<(), Internal> {
        self.each(|plan, _| {
            if plan.configuration.buggify.is_empty() {
                return Vec::new();
            }
            let mut none = plan.clone();
            none.configuration.buggify.clear();
            vec![none]
        })?;
        self.remove(
            0,
            |plan| plan.configuration.buggify.len(),
            |plan, range| {
                let mut plan = plan.clone();
                let mut place = 0..;
                plan.configuration.buggify.retain(|_, _| !range.contains(&place.next().unwrap_or_default()));
                plan
            },
        )
    }

    /// The defaults instead of what the swarm drew: all at once, then by section, then by setting.
    pub(super) fn quiet_settings(&mut self) -> Result<(), Internal> {
        let defaults = match Scenario::parse("defaults", "") {
            Ok(scenario) => Plan::new(&scenario, 0).configuration,
            Err(error) => return Err(Internal(error.to_string())),
        };
        let defaults = serde_json::to_value(&defaults).unwrap_or_default();
        self.each(|plan, _| {
            let Ok(current) = serde_json::to_value(&plan.configuration) else { return Vec::new() };
            let mut changes: Vec<Vec<(&str, String)>> = Vec::new();
            let mut all = Vec::new();
            let mut single = Vec::new();
            for (section, kept) in SECTIONS {
                let Some(fields) = current[section].as_object() else { continue };
                let is_other = |key: &&String| {
                    !kept.contains(&key.as_str()) && current[section][*key] != defaults[section][*key]
                };
                let other: Vec<(&str, String)> =
                    fields.keys().filter(is_other).map(|key| (section, key.clone())).collect();
                all.extend(other.clone());
                single.extend(other.iter().map(|change| vec![change.clone()]));
                changes.push(other);
            }
            let chosen =
                std::iter::once(all).chain(changes).chain(single).filter(|change| !change.is_empty());
            chosen.filter_map(|change| with_defaults(plan, &current, &defaults, &change)).collect()
        })
    }
}

/// `plan` with these settings from the defaults.
fn with_defaults(plan: &Plan, current: &Value, defaults: &Value, keys: &[(&str, String)]) -> Option<Plan> {
    let mut value = current.clone();
    for (section, key) in keys {
        value[*section][key] = defaults[*section][key].clone();
    }
    let configuration: Configuration = serde_json::from_value(value).ok()?;
    Some(Plan { configuration, ..plan.clone() })
}

/// `fewer` as a plan of as many clients as it has lists of operations, if these are fewer than in `plan`.
fn with_clients(plan: &Plan, mut fewer: Plan) -> Option<Plan> {
    let clients = fewer.operations.len().max(1);
    if clients >= plan.operations.len() {
        return None;
    }
    fewer.operations.resize(clients, Vec::new());
    fewer.liveness_operations.truncate(clients);
    fewer.configuration.workload.clients = clients as u64;
    fewer.faults.retain_mut(|fault| match &mut fault.target {
        Target::Clients(named) => {
            named.retain(|client| *client <= clients as u64);
            !named.is_empty()
        }
        _ => true,
    });
    Some(fewer)
}

/// For [`Shrinker::simpler_faults`]: what a fault hit when it fired.
pub(super) fn hit_of(outcome: &Outcome, fault: &str) -> Vec<Target> {
    let hit = outcome.hits.iter().find(|hit| hit.fault == fault);
    hit.map(|hit| hit.parties.iter().filter_map(|party| Target::parse(party).ok()).collect())
        .unwrap_or_default()
}
