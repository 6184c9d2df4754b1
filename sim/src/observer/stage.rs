//! Fills the scene of a run that is to be explained: from the events of nodes, of the scenario and of clients.

use eraft::observe::Event;
use eraft::raft::{Body, Effect, Input, Payload, Raft, Role};

use super::canonical;
use crate::explain::command;
use crate::explain::scene::{STATE_NUMBERS, Scene};
use crate::places::{self, Place};

/// The place of the role and of the commit index among a state's numbers.
const ROLE: usize = 2;
const COMMIT: usize = 7;
/// Faults that happen and are over: they do not last.
const MOMENTS: [&str; 3] = ["net.reset", "node.restart", "clock.jump"];

/// An event of node `lane`.
pub(super) fn event(scene: &mut Scene, at: u64, lane: &str, event: &Event<'_>) {
    match event {
        Event::Opened { raft, applied, .. } => {
            let text = format!("opened its disk: term {}, applied {}", raft.hard().term.0, applied.index.0);
            scene.happened(at, lane, "opened", &text, raft.hard().term.0, (applied.index.0, applied.index.0));
            scene.state(at, lane, numbers(raft));
        }
        Event::Stepped { input, effects, raft } => step(scene, at, lane, *input, effects, raft),
        Event::Applied { entry, .. } => {
            let place = place_of(lane);
            let what = match &entry.payload {
                Payload::Command(bytes) => command::words(place, bytes),
                Payload::Noop => "no-op".to_owned(),
                Payload::Membership(_) => "membership".to_owned(),
            };
            let text = format!("applied {}@{} {what}", entry.index.0, entry.term.0);
            scene.happened(at, lane, "applied", &text, entry.term.0, (entry.index.0, entry.index.0));
            if let Payload::Command(bytes) = &entry.payload {
                scene.is_about(command::about(place, bytes));
            }
        }
        Event::Flushed { applied } => {
            scene.happened(
                at,
                lane,
                "flushed",
                &format!("state durable up to {}", applied.index.0),
                0,
                (0, 0),
            );
        }
        Event::SnapshotInstalled { applied, .. } => {
            let text = format!("installed a snapshot of {}@{}", applied.index.0, applied.term.0);
            scene.happened(at, lane, "snapshot", &text, applied.term.0, (applied.index.0, applied.index.0));
        }
        Event::ReadServed { applied } => {
            scene.happened(at, lane, "read", &format!("served a read at {}", applied.index.0), 0, (0, 0));
        }
        Event::Stopped { unhealthy } => {
            scene.happened(
                at,
                lane,
                "down",
                &format!("stopped: {}", unhealthy.unwrap_or("asked to")),
                0,
                (0, 0),
            );
        }
    }
}

fn step(scene: &mut Scene, at: u64, lane: &str, input: Option<&Input>, effects: &[Effect], raft: &Raft) {
    let before = scene.last_state(lane).unwrap_or_default();
    let now = numbers(raft);
    scene.state(at, lane, now);
    let term = raft.hard().term.0;
    match input {
        Some(Input::Timeout(timer)) if !matches!(timer, eraft::raft::Timer::Heartbeat) => {
            scene.happened(at, lane, "timeout", "its election timer fires", term, (0, 0));
        }
        Some(Input::Propose(list)) => {
            let place = place_of(lane);
            let words: Vec<String> = list.iter().map(|(_, bytes)| command::words(place, bytes)).collect();
            scene.happened(at, lane, "proposed", &format!("proposed: {}", words.join(", ")), term, (0, 0));
        }
        Some(Input::Persisted(id)) => {
            // One completion may stand for several writes.
            let mut write = id.0;
            while write > 0 && scene.is_open(&write_name(lane, write)) {
                scene.finish(at, &write_name(lane, write), "");
                write -= 1;
            }
        }
        Some(Input::Compact { through }) => {
            scene.happened(at, lane, "compacted", &format!("dropped the log up to {}", through.0), 0, (0, 0));
        }
        _ => {}
    }
    if now[ROLE] != before[ROLE] || (now[0] != before[0] && now[ROLE] != 0) {
        let word = match raft.role() {
            Role::Follower => "follows",
            Role::PreCandidate { .. } => "asks whether it could win",
            Role::Candidate { .. } => "stands for election",
            Role::Leader(_) => "leads",
        };
        scene.happened(at, lane, "role", &format!("{word} in term {term}"), term, (0, 0));
    }
    if now[COMMIT] > before[COMMIT] {
        let text = format!("commit {} -> {}", before[COMMIT], now[COMMIT]);
        scene.happened(at, lane, "commit", &text, term, (before[COMMIT] + 1, now[COMMIT]));
    }
    for effect in effects {
        self::effect(scene, at, lane, effect);
    }
}

fn effect(scene: &mut Scene, at: u64, lane: &str, effect: &Effect) {
    match effect {
        Effect::Persist(write) => {
            let mut parts = vec![format!("term {}", write.hard.term.0)];
            parts.extend(write.hard.vote.map(|vote| format!("vote {}", places::name(vote))));
            if let Some(base) = &write.base {
                parts.push(format!("log starts after {}", base.position.index.0));
            }
            let mut indexes = (u64::MAX, 0);
            if let Some(from) = write.truncate {
                parts.push(format!("truncated from {}", from.0));
                indexes = (from.0, u64::MAX);
            }
            if let (Some(first), Some(last)) = (write.append.first(), write.append.last()) {
                parts.push(format!("entries {}..{} of term {}", first.index.0, last.index.0, last.term.0));
                indexes = (indexes.0.min(first.index.0), indexes.1.max(last.index.0));
            }
            let text = format!("writes {}", parts.join(", "));
            if indexes.0 <= indexes.1 {
                scene.happened(at, lane, "log", &text, write.hard.term.0, indexes);
            }
            scene.begin(at, &[lane], "write", &write_name(lane, write.id.0), &text);
        }
        Effect::Send { to, message, .. } if message.body == (Body::VoteReply { granted: true }) => {
            let text = format!("votes for {} in term {}", places::name(*to), message.term.0);
            scene.happened(at, lane, "votes", &text, message.term.0, (0, 0));
        }
        Effect::SendSnapshot { to, .. } => {
            let text = format!("sends {} a snapshot", places::name(*to));
            scene.happened(at, lane, "snapshot", &text, 0, (0, 0));
        }
        _ => {}
    }
}

/// The first node of the first group that `text` names.
fn some_node_of(text: &str) -> Option<String> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric());
    words.filter_map(Place::parse).next().map(|place| places::name(place.node(1)))
}

/// Where the node of this name is.
fn place_of(lane: &str) -> Place {
    places::node_of(lane).map_or(Place::Alone, Place::of)
}

fn write_name(lane: &str, id: u64) -> String {
    format!("{lane} write {id}")
}

fn numbers(raft: &Raft) -> [u64; STATE_NUMBERS] {
    let mut numbers = [0; STATE_NUMBERS];
    let mut places = numbers.iter_mut();
    canonical::core(raft, &mut |number| {
        if let Some(place) = places.next() {
            *place = number;
        }
    });
    numbers
}

/// An event of the scenario or of a client, as the trace has it.
pub(super) fn note(scene: &mut Scene, at: u64, lane: &str, kind: &str, text: &str) {
    match (lane, kind) {
        ("world", "fault.end") => scene.finish(at, text, ""),
        ("world", "violation") => {
            let trimmed = |word: &str| word.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned();
            let lane = text.split_whitespace().map(trimmed).find(|word| places::node_of(word).is_some());
            let lane = lane.or_else(|| some_node_of(text)).unwrap_or_else(|| scene.lanes.word(0).to_owned());
            scene.happened(at, &lane, "violation", text, 0, (0, 0));
        }
        ("world", "phase") => scene.begin(at, &[], "phase", "", text),
        ("world", fault) => {
            let (name, hit) = text.split_once(" hits ").unwrap_or((text, ""));
            let lanes: Vec<&str> = hit.split('+').filter(|lane| !lane.is_empty()).collect();
            scene.begin(at, &lanes, fault, name, &format!("{fault}: {}", lanes.join(", ")));
            if MOMENTS.contains(&fault) {
                scene.finish(at, name, "");
            }
        }
        (node, "node.end" | "node.exit") => {
            let why = if text == "power" { "loses power" } else { "its process ends" };
            scene.happened(at, node, "down", why, 0, (0, 0));
            if !scene.is_open(&format!("{node} down")) {
                scene.begin(at, &[node], "down", &format!("{node} down"), why);
            }
            scene.lose_writes(at, node);
        }
        (node, "node.start") => {
            scene.happened(at, node, "up", "is started", 0, (0, 0));
            scene.finish(at, &format!("{node} down"), "");
        }
        (client, "client.invoke") => {
            scene.begin(at, &[client], "operation", &format!("{client} {text}"), text)
        }
        (client, "client.return") => {
            // `put k3 ok`: the operation is all but the last word.
            let (operation, result) = text.rsplit_once(' ').unwrap_or((text, ""));
            scene.finish(at, &format!("{client} {operation}"), result);
        }
        (node, kind) => scene.happened(at, node, kind, text, 0, (0, 0)),
    }
}
