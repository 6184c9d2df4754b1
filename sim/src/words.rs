//! A plan in words: what a person reads first of a failing run.

use crate::outcome::{Hit, Violation};
use crate::places;
use crate::scenario::{Action, Direction, RotStore, Shape, Stores, Target, Trigger};
use crate::schedule::{FaultEvent, Operation, Plan};

/// Operations of one client that are listed; of more, their number is said.
const OPERATIONS_LISTED_MAX: usize = 12;

/// The group, the clients, the faults in the order of their time, and the violation: one sentence each.
pub fn of_plan(plan: &Plan, hits: &[Hit], violation: Option<(&Violation, f64)>) -> Vec<String> {
    let cluster = &plan.configuration.cluster;
    let mut sentences = vec![match cluster.ctrlers {
        0 => format!("A group of {}.", count(cluster.nodes, "node")),
        _ => format!("{}.", places::described(cluster).replacen('a', "A", 1)),
    }];
    for (client, list) in (1..).zip(&plan.operations) {
        sentences.extend(of_client(client, list));
    }
    let mut faults: Vec<(u64, String)> = plan
        .faults
        .iter()
        .map(|fault| {
            let hit = hits.iter().find(|hit| hit.fault == fault.id);
            (hit.map_or(fault.at_ms, |hit| hit.at_ms), of_fault(fault, hit))
        })
        .collect();
    faults.sort();
    if !plan.steps.is_empty() {
        sentences.push(format!("A script of {}.", count(plan.steps.len() as u64, "step")));
    } else if faults.is_empty() {
        sentences.push("No faults.".to_owned());
    }
    for (point, chance) in &plan.configuration.buggify {
        sentences.push(format!("{point} is forced {}% of the times.", chance * 100.0));
    }
    sentences.extend(faults.into_iter().map(|(_, sentence)| sentence));
    if let Some((violation, sim_seconds)) = violation {
        sentences
            .push(format!("At {sim_seconds:.3} s {} is violated: {}.", violation.oracle, violation.message));
    }
    sentences
}

fn of_client(client: u64, list: &[Operation]) -> Option<String> {
    if list.is_empty() {
        return None;
    }
    if list.len() > OPERATIONS_LISTED_MAX {
        return Some(format!("Client c{client} does {}.", count(list.len() as u64, "operation")));
    }
    let words: Vec<String> = list.iter().map(ToString::to_string).collect();
    Some(format!("Client c{client} does: {}.", words.join(", ")))
}

/// One fault: when, whom, what, how long.
pub fn of_fault(fault: &FaultEvent, hit: Option<&Hit>) -> String {
    let when = match (hit, fault.after) {
        (None, None) => format!("At {} (not reached)", seconds(fault.at_ms)),
        (None, Some(trigger)) => {
            format!(
                "After the first {} from {} on (not reached)",
                trigger_word(trigger),
                seconds(fault.at_ms)
            )
        }
        (Some(hit), None) => format!("At {}", seconds(hit.at_ms)),
        (Some(hit), Some(trigger)) => {
            format!("At {}, {} ms after {}", seconds(hit.at_ms), fault.delay_after_ms, trigger_words(trigger))
        }
    };
    let whom = match hit {
        Some(hit) if fault.kind().is_operation() => hit.parties.join(" and "),
        None if fault.kind().is_operation() => fault.kind().id().to_owned(),
        _ => whom(&fault.target, hit),
    };
    let mut sentence = format!("{when}, {}", what(&fault.action, &whom, fault.direction));
    if let Some(duration_ms) = fault.duration_ms {
        sentence += &format!(", for {}", seconds(duration_ms));
    } else if fault.kind().may_last() {
        sentence += ", and does not come back by itself";
    }
    sentence + "."
}

fn whom(target: &Target, hit: Option<&Hit>) -> String {
    let parties = hit.map(|hit| hit.parties.join(" and ")).filter(|parties| !parties.is_empty());
    match (target, parties) {
        (Target::Nodes(_) | Target::Clients(_) | Target::Random | Target::Client, Some(parties)) => parties,
        (Target::Leader, Some(parties)) => format!("the leader ({parties})"),
        (Target::There, Some(parties)) => format!("that node ({parties})"),
        (Target::All, _) => "every node".to_owned(),
        (role, Some(parties)) => format!("{parties} (a {role})"),
        (role, None) => format!("{role}"),
    }
}

fn what(action: &Action, whom: &str, direction: Direction) -> String {
    let ways = match direction {
        Direction::Both => "from and to",
        Direction::To => "to",
        Direction::From => "from",
    };
    let percent = |rate: f64| format!("{:.0}%", rate * 100.0);
    match action {
        Action::NetLoss { rate } => format!("{} of the messages {ways} {whom} are lost", percent(*rate)),
        Action::NetDelay { delay_ms } => {
            format!("messages {ways} {whom} take about {delay_ms} ms longer")
        }
        Action::NetReorder { rate, .. } => {
            format!("{} of the messages {ways} {whom} are overtaken", percent(*rate))
        }
        Action::NetDuplicate { rate } => {
            format!("{} of the messages {ways} {whom} arrive twice", percent(*rate))
        }
        Action::NetPartition { shape, clients } => {
            let others = match (whom.starts_with('c'), clients) {
                (true, _) => "the nodes",
                (false, true) => "the other nodes and the clients",
                (false, false) => "the other nodes",
            };
            match shape {
                Shape::Symmetric => format!("{whom} is cut off from {others}"),
                Shape::Inbound => format!("{whom} no longer hears {others}, which hear it"),
                Shape::Outbound => {
                    format!("{whom} is no longer heard by {others}, which it hears")
                }
                Shape::Bridge => format!("the group falls into two halves that both see {whom}"),
                Shape::Ring => "every node sees another majority".to_owned(),
            }
        }
        Action::NetSlow { bytes_per_second } => {
            format!("links {ways} {whom} carry {bytes_per_second} bytes a second")
        }
        Action::NetReset => format!("the open connections of {whom} are reset"),
        Action::NodeKill => format!("the process of {whom} is killed"),
        Action::NodeRestart => format!("{whom} is started again"),
        Action::NodeCrash | Action::NodeCrashAll => format!("{whom} loses power"),
        Action::NodePause => format!("{whom} stands still"),
        Action::DiskTorn => format!("{whom} loses power in the middle of a write"),
        Action::DiskSlow { factor } => format!("the disk of {whom} takes {factor} times as long"),
        Action::DiskStall => format!("the disk of {whom} completes no write"),
        Action::DiskFull { stores } => match stores {
            Stores::Both => format!("the disk of {whom} is full"),
            Stores::Log => format!("there is no space left for the log of {whom}"),
            Stores::State => format!("there is no space left for the state of {whom}"),
        },
        Action::DiskIoError { stores } => match stores {
            Stores::Both => format!("the next write of {whom} fails"),
            Stores::Log => format!("the next write to the log of {whom} fails"),
            Stores::State => format!("the next write to the state of {whom} fails"),
        },
        Action::ClockSkew { speed } => format!("the clock of {whom} runs {speed} times as fast"),
        Action::ClockJump { jump_ms } => format!("the clock of {whom} jumps {} forward", seconds(*jump_ms)),
        Action::ClientCrash => format!("the process of {whom} dies"),
        Action::ClientPause => format!("{whom} stands still"),
        Action::DiskBitrot { store: RotStore::Log } => format!("a bit in the log of {whom} turns"),
        Action::DiskBitrot { store: RotStore::State } => format!("a bit in the state of {whom} turns"),
        Action::OpsTransfer => format!("an operator wants {whom} to lead"),
        Action::OpsJoin | Action::OpsLeave | Action::OpsMove | Action::OpsUnpin | Action::OpsRollback => {
            format!("the operator commands: {whom}")
        }
    }
}

fn trigger_word(trigger: Trigger) -> &'static str {
    Trigger::WORDS.iter().find(|(_, known)| *known == trigger).map_or("", |(word, _)| word)
}

fn trigger_words(trigger: Trigger) -> &'static str {
    match trigger {
        Trigger::Vote => "a vote",
        Trigger::Election => "an election",
        Trigger::Sync => "a write to the log",
        Trigger::Snapshot => "a snapshot",
        Trigger::Flush => "applied state became durable",
        Trigger::Config => "a group adopted a config",
        Trigger::Arrival => "a shard arrived",
        Trigger::Release => "a copy of a shard was released",
        Trigger::Deletion => "a copy of a shard was deleted",
    }
}

fn seconds(ms: u64) -> String {
    format!("{}.{:03} s", ms / 1_000, ms % 1_000)
}

fn count(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    #[test]
    fn a_plan_reads_like_sentences_in_the_order_of_time() {
        let text = "[cluster]\nnodes = 3\n[workload]\nclients = 1\noperations = 0\n[[faults]]\nat_ms = 2500\n\
                    action = \"net.partition\"\ntarget = \"leader\"\nshape = \"inbound\"\nduration_ms = 40\n\
                    [[faults]]\nafter = \"vote\"\nwithin_ms = 7\naction = \"node.crash\"\ntarget = \"there\"\n";
        let plan = Plan::new(&Scenario::parse("s.toml", text).unwrap(), 1);
        let hit = |number: u64, at_ms, party: &str| Hit {
            fault: format!("scripted#{number}"),
            at_ms,
            parties: vec![party.to_owned()],
        };
        let violation = Violation::new("raft.vote_once", "n2 voted twice");
        let words = of_plan(&plan, &[hit(1, 2_500, "n3"), hit(2, 310, "n2")], Some((&violation, 2.6)));
        assert_eq!(
            words,
            [
                "A group of 3 nodes.",
                "At 0.310 s, 7 ms after a vote, that node (n2) loses power, and does not come back by itself.",
                "At 2.500 s, the leader (n3) no longer hears the other nodes, which hear it, for 0.040 s.",
                "At 2.600 s raft.vote_once is violated: n2 voted twice.",
            ]
        );
        let one_way = FaultEvent {
            action: Action::NetLoss { rate: 0.25 },
            direction: Direction::To,
            target: Target::Random,
            ..plan.faults[0].clone()
        };
        assert!(of_fault(&one_way, None).contains("25% of the messages to random are lost"));
        let full = FaultEvent { action: Action::DiskFull { stores: Stores::State }, ..one_way };
        assert!(of_fault(&full, None).contains("no space left for the state of random"));
        let silent = of_plan(&plan, &[], None);
        assert_eq!(
            silent[1],
            "After the first vote from 0.000 s on (not reached), there loses power, and does not come back by itself."
        );
    }
}
