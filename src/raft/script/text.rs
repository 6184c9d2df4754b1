//! How the scripts tell it.

use crate::raft::{Body, Entry, Message, Payload, Persist, Position, Refusal};

pub fn position(at: Position) -> String {
    format!("{}@{}", at.index, at.term)
}

/// `3@2 a`: entry 3 of term 2 says a.
pub fn entry(entry: &Entry) -> String {
    let says = match &entry.payload {
        Payload::Noop => "(no-op)".to_owned(),
        Payload::Command(command) => String::from_utf8_lossy(command).into_owned(),
        Payload::Membership(membership) => format!("{membership:?}"),
    };
    format!("{} {says}", position(entry.position()))
}

pub fn entries(entries: &[Entry]) -> String {
    entries.iter().map(entry).collect::<Vec<_>>().join(", ")
}

fn yes(granted: bool) -> &'static str {
    if granted { "yes" } else { "no" }
}

pub fn message(Message { term, body }: &Message) -> String {
    let says = match body {
        Body::PreVote { last } => format!("pre-vote? my log ends at {}", position(*last)),
        Body::PreVoteReply { granted } => format!("pre-vote: {}", yes(*granted)),
        Body::Vote { last, transfer } => {
            let why = if *transfer { " (the leader wants it)" } else { "" };
            format!("vote? my log ends at {}{why}", position(*last))
        }
        Body::VoteReply { granted } => format!("vote: {}", yes(*granted)),
        Body::Append { previous, entries: new, commit } => {
            let new = if new.is_empty() { "nothing".to_owned() } else { format!("[{}]", entries(new)) };
            format!("append after {}: {new}, commit {commit}", position(*previous))
        }
        Body::AppendAccepted { matched } => format!("accepted up to {matched}"),
        Body::AppendRejected { previous, conflict } if conflict.term.0 == 0 => {
            format!("rejected after {previous}: my log ends before {}", conflict.index)
        }
        Body::AppendRejected { previous, conflict } => {
            format!("rejected after {previous}: my term {} there begins at {}", conflict.term, conflict.index)
        }
        Body::Heartbeat { commit, round } => format!("heartbeat {round}, commit {commit}"),
        Body::HeartbeatReply { round, lacks_state: false } => format!("heartbeat {round}: heard"),
        Body::HeartbeatReply { round, lacks_state: true } => {
            format!("heartbeat {round}: heard, and needs a snapshot")
        }
        Body::TimeoutNow => "lead, now".to_owned(),
    };
    format!("[term {term}] {says}")
}

pub fn write(write: &Persist) -> String {
    let mut parts = vec![format!("term {}", write.hard.term)];
    parts.extend(write.hard.vote.map(|vote| format!("vote {vote}")));
    parts.extend(write.base.as_ref().map(|base| format!("log starts after {}", position(base.position))));
    parts.extend(write.truncate.map(|from| format!("cut from {from} on")));
    if !write.append.is_empty() {
        parts.push(format!("add [{}]", entries(&write.append)));
    }
    format!("write {}: {}", write.id.0, parts.join(", "))
}

pub fn refusal(refusal: Refusal) -> String {
    match refusal {
        Refusal::NotLeader(Some(leader)) => format!("ask {leader}"),
        Refusal::NotLeader(None) => "no leader is known".to_owned(),
        Refusal::Transferring(to) => format!("leadership is on its way to {to}"),
        Refusal::NotVoter => "it has no vote".to_owned(),
        Refusal::Overloaded => "too much is waiting".to_owned(),
    }
}
