//! Draws the faults of a plan.

use eraft::random::Draws;

use super::FaultEvent;
use crate::scenario::{FaultKind, Numbers, Profile, RandomFault, Scenario, Target};

/// Faults of one kind in one run, at most.
const FAULTS_PER_KIND_MAX: u64 = 10_000;

// The ordinals of a fault's draws. A new one goes to the end, so that the others keep their values.
const ARRIVAL: u64 = 0;
const TARGET: u64 = 1;
const DURATION: u64 = 2;
const RATE: u64 = 3;
const DELAY: u64 = 4;
const BYTES: u64 = 5;
const SHAPE: u64 = 6;
const CLIENTS: u64 = 7;
const AFTER: u64 = 8;
const WITHIN: u64 = 9;
const FACTOR: u64 = 10;
const SPEED: u64 = 11;
const JUMP: u64 = 12;
const ROT: u64 = 13;
const DIRECTION: u64 = 14;
const STORES: u64 = 15;
const THERE: u64 = 16;

/// The kinds of faults that this run has: the scripted ones, and a random half of the random ones in a swarm.
pub(super) fn kinds(scenario: &Scenario, swarm: &Draws) -> Vec<FaultKind> {
    let random = scenario.random_faults.as_ref();
    let drawn = |kind: FaultKind| {
        random.is_some_and(|random| {
            random.kinds.iter().any(|fault| fault.profile.kind == kind)
                && (!random.subset || swarm.draw(kind.id(), 0, 0).chance(0.5))
        })
    };
    let scripted = |kind| scenario.faults.iter().any(|fault| fault.profile.kind == kind);
    FaultKind::ALL.into_iter().filter(|kind| scripted(*kind) || drawn(*kind)).collect()
}

/// All faults, by time and then by name.
pub(super) fn generate(
    scenario: &Scenario,
    kinds: &[FaultKind],
    safety_ms: u64,
    swarm: &Draws,
    schedule: &Draws,
) -> Vec<FaultEvent> {
    let mut faults = Vec::new();
    for (number, fault) in (1..).zip(&scenario.faults) {
        let at_ms = fault.at_ms.draw(schedule, "scripted", number, ARRIVAL);
        faults.push(event(format!("scripted#{number}"), at_ms, &fault.profile, schedule, "scripted", number));
    }
    if let Some(random) = &scenario.random_faults {
        for fault in random.kinds.iter().filter(|fault| kinds.contains(&fault.profile.kind)) {
            arrivals(fault, safety_ms, swarm, schedule, &mut faults);
        }
    }
    faults.sort_by(|left, right| (left.at_ms, &left.id).cmp(&(right.at_ms, &right.id)));
    faults
}

/// The faults of one kind: independent arrivals with a mean interval.
fn arrivals(fault: &RandomFault, safety_ms: u64, swarm: &Draws, schedule: &Draws, out: &mut Vec<FaultEvent>) {
    let id = fault.profile.kind.id();
    let mean_ms = fault.mean_interval_ms.draw(swarm, "mean_interval_ms", fault.profile.kind as u64, 0) as f64;
    let mut at_ms = 0.0;
    for number in 1..=FAULTS_PER_KIND_MAX {
        let uniform = (schedule.draw(id, number, ARRIVAL).bits() >> 11) as f64 / (1u64 << 53) as f64;
        at_ms += -(1.0 - uniform).ln() * mean_ms;
        if at_ms >= safety_ms as f64 {
            return;
        }
        let mut fault = event(format!("{id}#{number}"), at_ms as u64, &fault.profile, schedule, id, number);
        // Half of what waits for something to happen hits the node where it does.
        let hits_nodes = !matches!(fault.target, Target::Client | Target::Clients(_));
        if fault.after.is_some() && hits_nodes && schedule.draw(id, number, THERE).chance(0.5) {
            fault.target = Target::There;
        }
        out.push(fault);
    }
}

fn event(id: String, at_ms: u64, profile: &Profile, schedule: &Draws, site: &str, number: u64) -> FaultEvent {
    fn pick<T: Clone>(choices: &[T], schedule: &Draws, site: &str, number: u64, ordinal: u64) -> T {
        let mut draw = schedule.draw(site, number, ordinal);
        draw.pick(choices).expect("a scenario's choices are never empty").clone()
    }
    let after = pick(&profile.after, schedule, site, number, AFTER);
    FaultEvent {
        id,
        at_ms,
        after,
        delay_after_ms: after.map_or(0, |_| profile.within_ms.draw(schedule, site, number, WITHIN)),
        action: profile.action(Numbers {
            rate: profile.rate.draw(schedule, site, number, RATE),
            delay_ms: profile.delay_ms.draw(schedule, site, number, DELAY),
            bytes_per_second: profile.bytes_per_second.draw(schedule, site, number, BYTES),
            factor: profile.factor.draw(schedule, site, number, FACTOR),
            speed: profile.speed.draw(schedule, site, number, SPEED),
            jump_ms: profile.jump_ms.draw(schedule, site, number, JUMP),
            rot: pick(&profile.rots, schedule, site, number, ROT),
            stores: pick(&profile.stores, schedule, site, number, STORES),
            shape: pick(&profile.shapes, schedule, site, number, SHAPE),
            clients: pick(&profile.clients, schedule, site, number, CLIENTS),
        }),
        target: pick(&profile.targets, schedule, site, number, TARGET),
        direction: pick(&profile.directions, schedule, site, number, DIRECTION),
        duration_ms: profile.duration_ms.as_ref().map(|set| set.draw(schedule, site, number, DURATION)),
    }
}
