//! What is made simpler: whom a fault hits, how long it lasts, when it comes, how much it does.

use super::Shrinker;
use super::passes::hit_of;
use crate::outcome::Outcome;
use crate::runner::Internal;
use crate::scenario::{Action, Direction, Shape, Stores, Target};
use crate::schedule::{FaultEvent, Plan};

/// Moments are rounded to these, in milliseconds, coarse first.
const GRIDS_MS: [u64; 3] = [1_000, 100, 10];
/// Fractions of its duration that a fault is tried with, in eighths.
const EIGHTHS: [u64; 3] = [1, 2, 4];

impl Shrinker<'_> {
    /// Each fault, one after the other; then pauses between operations.
    pub(super) fn simpler_faults(&mut self) -> Result<(), Internal> {
        for place in 0..self.best.plan.faults.len() {
            self.each(|plan, outcome| {
                let fault = &plan.faults[place];
                simpler(fault, outcome).into_iter().map(|simpler| with_fault(plan, place, simpler)).collect()
            })?;
        }
        self.each(|plan, _| {
            let mut at_once = plan.clone();
            at_once.operations.iter_mut().flatten().for_each(|operation| operation.think_ms = 0);
            if at_once == *plan { Vec::new() } else { vec![at_once] }
        })
    }
}

fn with_fault(plan: &Plan, place: usize, fault: FaultEvent) -> Plan {
    let mut plan = plan.clone();
    plan.faults[place] = fault;
    plan
}

/// Simpler forms of `fault`, the simplest first. Each is strictly simpler, so that this comes to an end.
fn simpler(fault: &FaultEvent, outcome: &Outcome) -> Vec<FaultEvent> {
    let mut forms = Vec::new();
    let mut add = |change: &dyn Fn(&mut FaultEvent)| {
        let mut form = fault.clone();
        change(&mut form);
        if form != *fault {
            forms.push(form);
        }
    };
    let hit = outcome.hits.iter().find(|hit| hit.fault == fault.id);
    if let (Some(_), Some(hit)) = (fault.after, hit)
        && fault.target != Target::There
    {
        add(&|form| (form.after, form.delay_after_ms, form.at_ms) = (None, 0, hit.at_ms));
    }
    if !matches!(fault.target, Target::Nodes(_) | Target::Clients(_) | Target::Leader | Target::There) {
        let parties = hit_of(outcome, &fault.id);
        for party in &parties {
            add(&|form| form.target = party.clone());
        }
        add(&|form| form.target = Target::Leader);
    }
    if let Target::Nodes(named) = &fault.target
        && named.len() > 1
    {
        for node in named {
            add(&|form| form.target = Target::Nodes(vec![*node]));
        }
    }
    if fault.delay_after_ms > 0 {
        add(&|form| form.delay_after_ms = 0);
    }
    match &fault.action {
        Action::NetPartition { shape, clients } => {
            if *clients {
                add(&|form| form.action = Action::NetPartition { shape: *shape, clients: false });
            }
            if *shape != Shape::Symmetric {
                add(&|form| {
                    form.action = Action::NetPartition { shape: Shape::Symmetric, clients: *clients }
                });
            }
        }
        Action::NetLoss { rate } if *rate < 1.0 => add(&|form| form.action = Action::NetLoss { rate: 1.0 }),
        Action::NetDuplicate { rate } if *rate < 1.0 => {
            add(&|form| form.action = Action::NetDuplicate { rate: 1.0 });
        }
        Action::DiskFull { stores } if *stores != Stores::Both => {
            add(&|form| form.action = Action::DiskFull { stores: Stores::Both });
        }
        Action::DiskIoError { stores } if *stores != Stores::Both => {
            add(&|form| form.action = Action::DiskIoError { stores: Stores::Both });
        }
        _ => {}
    }
    add(&|form| form.direction = Direction::Both);
    if let Some(duration_ms) = fault.duration_ms {
        for eighths in EIGHTHS {
            let shorter = duration_ms * eighths / 8;
            if shorter > 0 {
                add(&|form| form.duration_ms = Some(shorter));
            }
        }
        for grid in GRIDS_MS {
            let round = duration_ms / grid * grid;
            if round > 0 {
                add(&|form| form.duration_ms = Some(round));
            }
        }
    }
    for grid in GRIDS_MS {
        add(&|form| form.at_ms = fault.at_ms / grid * grid);
    }
    forms
}
