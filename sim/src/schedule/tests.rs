use super::*;
use crate::scenario::{Direction, Stores};

const SWARM: &str = r#"
    [cluster]
    nodes = [3, 5]
    [workload]
    clients = 3
    operations = 20
    [phases]
    safety_ms = 30000
    [random_faults]
    mean_interval_ms = 700
"#;

fn plan(text: &str, seed: u64) -> Plan {
    Plan::new(&Scenario::parse("test.toml", text).unwrap(), seed)
}

#[test]
fn a_plan_is_a_function_of_scenario_and_seed() {
    assert_eq!(plan(SWARM, 7), plan(SWARM, 7));
    assert_ne!(plan(SWARM, 7).faults, plan(SWARM, 8).faults);
    let nodes: std::collections::BTreeSet<u64> =
        (0..12).map(|seed| plan(SWARM, seed).configuration.cluster.nodes).collect();
    assert_eq!(nodes, [3, 4, 5].into());
}

#[test]
fn removing_a_kind_of_fault_moves_no_other_draw() {
    let without = SWARM.replace(
        "[random_faults]",
        "[random_faults]\nkinds = [\"node.*\", \"disk.*\", \"net.loss\", \"net.delay\", \"net.slow\", \"net.reset\"]",
    );
    for seed in 0..5 {
        let (all, fewer) = (plan(SWARM, seed), plan(&without, seed));
        let stays = |kind: FaultKind| {
            let id = kind.id();
            let of_network = ["net.loss", "net.delay", "net.slow", "net.reset"];
            id.starts_with("node.") || id.starts_with("disk.") || of_network.contains(&id)
        };
        let kept: Vec<&FaultEvent> = all.faults.iter().filter(|fault| stays(fault.kind())).collect();
        assert_eq!(kept, fewer.faults.iter().collect::<Vec<_>>());
        assert!(fewer.faults.len() < all.faults.len());
        assert_eq!(all.operations, fewer.operations);
        assert_eq!(all.configuration, fewer.configuration);
    }
}

#[test]
fn an_option_more_moves_no_other_draw() {
    let more = SWARM.replace("[cluster]", "[cluster]\nappend_entries_max = [1, 64]");
    for seed in 0..5 {
        let (one, other) = (plan(SWARM, seed), plan(&more, seed));
        assert_eq!((one.faults, one.operations), (other.faults, other.operations));
        assert_eq!(one.configuration.cluster.nodes, other.configuration.cluster.nodes);
    }
}

#[test]
fn a_subset_leaves_the_chosen_kinds_as_they_are() {
    let subset = SWARM.replace("[random_faults]", "[random_faults]\nsubset = true");
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..20 {
        let (all, some) = (plan(SWARM, seed), plan(&subset, seed));
        seen.extend(some.kinds.clone());
        assert!(some.kinds.len() < all.kinds.len(), "a run with everything on, by a chance of 2^-23");
        let kept: Vec<&FaultEvent> = all
            .faults
            .iter()
            .filter(|fault| some.kinds.iter().any(|kind| kind == fault.kind().id()))
            .collect();
        assert_eq!(kept, some.faults.iter().collect::<Vec<_>>());
    }
    let of_one_group = FaultKind::ALL.iter().filter(|kind| !kind.is_operation()).count();
    assert_eq!(seen.len(), of_one_group, "the others need a sharded store");
}

#[test]
fn faults_come_at_their_rate_inside_the_safety_phase_and_in_order() {
    let mut count = 0;
    for seed in 0..12 {
        let plan = plan(SWARM, seed);
        assert!(plan.faults.iter().all(|fault| fault.at_ms < 30_000));
        assert!(plan.faults.is_sorted_by_key(|fault| fault.at_ms));
        count += plan.faults.iter().filter(|fault| fault.kind() == FaultKind::NetLoss).count();
    }
    let expected = 12 * 30_000 / 700;
    assert!((expected * 9 / 10..expected * 11 / 10).contains(&count), "{count} of about {expected}");
}

#[test]
fn a_plan_survives_its_json() {
    let scripted = "[[faults]]\nat_ms = 5\naction = \"net.partition\"\ntarget = [\"n1\", \"n3\"]\nshape = \"inbound\"\n\
                    duration_ms = 9\n[[faults]]\nafter = \"vote\"\nwithin_ms = [0, 9]\naction = \"node.crash\"\n\
                    target = \"there\"\n";
    for plan in [plan(SWARM, 3), plan(scripted, 3)] {
        let text = serde_json::to_string(&plan).unwrap();
        assert!(serde_json::from_str::<Plan>(&text).unwrap() == plan, "another plan came back");
    }
    let text = serde_json::to_string(&plan(scripted, 3).faults).unwrap();
    assert!(
        text.contains(r#""action":"net.partition","shape":"inbound","clients":false,"target":"n1+n3""#),
        "{text}"
    );
}

#[test]
fn a_plan_from_before_an_option_existed_has_its_default() {
    let mut older = serde_json::to_value(plan("", 3)).unwrap();
    let workload = older["configuration"]["workload"].as_object_mut().unwrap();
    assert!(workload.remove("pipeline").is_some());
    assert_eq!(serde_json::from_value::<Plan>(older).unwrap().configuration.workload.pipeline, 1);
}

#[test]
fn random_faults_draw_a_direction_and_a_store_and_a_plan_from_before_has_both() {
    let text = "[random_faults]\nkinds = [\"net.loss\", \"disk.full\"]\nmean_interval_ms = 300\n";
    let faults: Vec<FaultEvent> = (0..5).flat_map(|seed| plan(text, seed).faults).collect();
    for (_, direction) in Direction::WORDS {
        let of_links = |fault: &&FaultEvent| fault.kind() == FaultKind::NetLoss;
        let mut found = faults.iter().filter(of_links).filter(|fault| fault.direction == direction);
        assert!(found.next().is_some(), "{direction:?}");
    }
    for (_, stores) in Stores::WORDS {
        assert!(faults.iter().any(|fault| fault.action == Action::DiskFull { stores }), "{stores:?}");
    }
    let said = "[[faults]]\nat_ms = 5\naction = \"net.slow\"\ntarget = \"n1\"\ndirection = \"from\"\nduration_ms = 9\n\
                [[faults]]\nat_ms = 5\naction = \"disk.io_error\"\ntarget = \"n1\"\nstore = \"log\"\nduration_ms = 9\n";
    let said = plan(said, 1).faults;
    assert_eq!(said[0].direction, Direction::From);
    assert_eq!(said[1].action, Action::DiskIoError { stores: Stores::Log });
    let older = r#"{"id":"x#1","at_ms":5,"action":"disk.full","target":"n1","duration_ms":9}"#;
    let older: FaultEvent = serde_json::from_str(older).unwrap();
    assert_eq!((older.action, older.direction), (Action::DiskFull { stores: Stores::Both }, Direction::Both));
}

#[test]
fn a_direction_is_that_of_the_target() {
    for (direction, expected) in [
        (Direction::Both, [true, true, true, false]),
        (Direction::To, [false, true, true, false]),
        (Direction::From, [true, false, true, false]),
    ] {
        let links = [(true, false), (false, true), (true, true), (false, false)];
        assert_eq!(links.map(|(sender, receiver)| direction.bends(sender, receiver)), expected);
    }
}
