//! The canonical bytes of a node's events, and what they say.
//!
//! A step is recorded by hashes of its input and effects beside the numbers that people look for: that costs little,
//! and two runs that differ anywhere differ here.

use std::hash::{Hash, Hasher};

use eraft::observe::Event;
use eraft::raft::{Body, Input, Position, Raft, Role, Timer};
use xxhash_rust::xxh3::Xxh3Default;

/// The kind of an event, as a dotted word.
pub(super) fn kind(event: &Event<'_>) -> &'static str {
    match event {
        Event::Opened { .. } => "opened",
        Event::Stepped { input, .. } => input.map_or("step", step_kind),
        Event::Applied { .. } => "applied",
        Event::Flushed { .. } => "flushed",
        Event::SnapshotInstalled { .. } => "snapshot.installed",
        Event::ReadServed { .. } => "read.served",
        Event::Stopped { .. } => "stopped",
    }
}

fn step_kind(input: &Input) -> &'static str {
    match input {
        Input::Timeout(Timer::Election) => "step.election_timeout",
        Input::Timeout(Timer::Heartbeat) => "step.heartbeat_timeout",
        Input::Message { message, .. } => match message.body {
            Body::PreVote { .. } => "step.pre_vote",
            Body::PreVoteReply { .. } => "step.pre_vote_reply",
            Body::Vote { .. } => "step.vote",
            Body::VoteReply { .. } => "step.vote_reply",
            Body::Append { .. } => "step.append",
            Body::AppendAccepted { .. } => "step.append_accepted",
            Body::AppendRejected { .. } => "step.append_rejected",
            Body::Heartbeat { .. } => "step.heartbeat",
            Body::HeartbeatReply { .. } => "step.heartbeat_reply",
            Body::TimeoutNow => "step.timeout_now",
        },
        Input::Propose(_) => "step.propose",
        Input::Read(_) => "step.read",
        Input::Transfer { .. } => "step.transfer",
        Input::Persisted(_) => "step.persisted",
        Input::Compact { .. } => "step.compact",
        Input::SnapshotOffered { .. } => "step.snapshot_offered",
        Input::SnapshotReceived { .. } => "step.snapshot_received",
        Input::SnapshotSent { .. } => "step.snapshot_sent",
    }
}

/// Writes the canonical bytes of `event` to `out`.
pub(super) fn payload(event: &Event<'_>, out: &mut Vec<u8>) {
    let mut number = |value: u64| out.extend_from_slice(&value.to_le_bytes());
    match event {
        Event::Opened { raft, applied, replica_hash } => {
            core(raft, &mut number);
            position(*applied, &mut number);
            number(*replica_hash);
        }
        Event::Stepped { input, effects, raft } => {
            core(raft, &mut number);
            number(input.map_or(0, hash));
            number(hash(effects));
        }
        Event::Applied { entry, batch, replica_hash } => {
            position(Position { index: entry.index, term: entry.term }, &mut number);
            number(*replica_hash);
            number(batch.writes.len() as u64);
        }
        Event::Flushed { applied } | Event::ReadServed { applied } => position(*applied, &mut number),
        Event::SnapshotInstalled { applied, replica_hash } => {
            position(*applied, &mut number);
            number(*replica_hash);
        }
        Event::Stopped { unhealthy } => out.extend_from_slice(unhealthy.unwrap_or("").as_bytes()),
    }
}

/// The numbers of a core that people look for.
pub(super) fn core(raft: &Raft, number: &mut impl FnMut(u64)) {
    let hard = raft.hard();
    number(hard.term.0);
    number(hard.vote.map_or(0, |node| node.0));
    number(match raft.role() {
        Role::Follower => 0,
        Role::PreCandidate { .. } => 1,
        Role::Candidate { .. } => 2,
        Role::Leader(_) => 3,
    });
    number(raft.leader().map_or(0, |node| node.0));
    position(raft.log().last(), number);
    number(raft.log().base().index.0);
    number(raft.commit().0);
    number(raft.applying().0);
}

/// The words for the numbers of [`core`], in order.
const CORE_WORDS: [&str; 9] =
    ["term", "vote", "role", "leader", "last", "last term", "base", "commit", "applying"];
const ROLE_WORDS: [&str; 4] = ["follower", "pre-candidate", "candidate", "leader"];

fn position(position: Position, number: &mut impl FnMut(u64)) {
    number(position.index.0);
    number(position.term.0);
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = Xxh3Default::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// What canonical bytes say, for reports of runs that nobody traced.
pub(super) fn describe(kind: &str, payload: &[u8]) -> String {
    let numbers: Vec<u64> = payload
        .chunks_exact(8)
        .map(|bytes| u64::from_le_bytes(bytes.try_into().expect("eight bytes")))
        .collect();
    match (kind, numbers.as_slice()) {
        ("opened" | "flushed" | "read.served" | "snapshot.installed" | "applied", _)
            if kind != "opened" && numbers.len() >= 2 =>
        {
            format!("{}@{}", numbers[0], numbers[1])
        }
        (_, core) if (kind == "opened" || kind.starts_with("step.")) && core.len() >= CORE_WORDS.len() => {
            let words = CORE_WORDS.iter().zip(core).map(|(word, number)| match *word {
                "role" => ROLE_WORDS.get(*number as usize).copied().unwrap_or("?").to_owned(),
                word => format!("{word} {number}"),
            });
            words.collect::<Vec<_>>().join(", ")
        }
        _ => String::from_utf8_lossy(payload).into_owned(),
    }
}
