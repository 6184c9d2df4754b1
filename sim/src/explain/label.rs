//! What a message says, in a few words.

use bytes::Bytes;
use eraft::proto::kv;
use eraft::proto::raft;
use eraft::replica::frames::Joiner;
use eraft::replica::link::Channel;
use prost::Message as _;

use super::command;
use crate::places::Place;

/// Entries of one append that are named.
const ENTRIES_MAX: usize = 4;

/// Kind and words of what one frame on `channel` to or from a group at `place` says; `is_reply`: it comes from a server.
pub fn frame(place: Place, channel: Channel, is_reply: bool, frame: &Bytes) -> (&'static str, String) {
    let joined = Joiner::default().join(frame.clone()).ok().flatten();
    match channel {
        Channel::Snapshot => ("snapshot", format!("a part of a snapshot, {} bytes", frame.len())),
        Channel::Peer => joined.and_then(|bytes| raft::Batch::decode(bytes).ok()).map_or_else(
            || ("part", format!("a part of a message, {} bytes", frame.len())),
            |batch| of_batch(place, &batch),
        ),
        Channel::Client => of_client(joined, is_reply, frame),
    }
}

fn of_client(joined: Option<Bytes>, is_reply: bool, frame: &Bytes) -> (&'static str, String) {
    // A session's stream carries frames, a single call the message itself.
    let bytes = joined.unwrap_or_else(|| frame.clone());
    let words = if is_reply {
        kv::Reply::decode(bytes).ok().map(|reply| ("reply", of_reply(&reply)))
    } else {
        kv::Request::decode(bytes).ok().map(|request| ("request", of_request(&request)))
    };
    words.unwrap_or_else(|| ("client", format!("{} bytes", frame.len())))
}

/// All messages of a batch; the kind is that of the weightiest.
fn of_batch(place: Place, batch: &raft::Batch) -> (&'static str, String) {
    let Some(raft::batch::Content::Messages(list)) = &batch.content else {
        return ("hello", "opens a stream".to_owned());
    };
    let mut labels: Vec<(u8, &'static str, String)> =
        list.messages.iter().map(|message| of_message(place, message)).collect();
    labels.sort_by_key(|(weight, _, _)| std::cmp::Reverse(*weight));
    let kind = labels.first().map_or("heartbeat", |(_, kind, _)| *kind);
    let words: Vec<String> = labels.into_iter().map(|(_, _, words)| words).collect();
    (kind, words.join("; "))
}

fn of_message(place: Place, message: &raft::Message) -> (u8, &'static str, String) {
    use raft::message::Body;
    let term = message.term;
    let last = |vote: &raft::Vote| {
        vote.last.as_ref().map_or_else(String::new, |last| format!("{}@{}", last.index, last.term))
    };
    let word = |granted: bool| if granted { "granted" } else { "denied" };
    match &message.body {
        Some(Body::Vote(vote)) => {
            let why = if vote.transfer { ", the leader wants it" } else { "" };
            (9, "vote", format!("vote for me in term {term}, my log ends at {}{why}", last(vote)))
        }
        Some(Body::VoteReply(reply)) => (9, "vote", format!("vote {} in term {term}", word(reply.granted))),
        Some(Body::PreVote(vote)) => {
            (8, "pre-vote", format!("pre-vote for term {term}, my log ends at {}", last(vote)))
        }
        Some(Body::PreVoteReply(reply)) => {
            (8, "pre-vote", format!("pre-vote {} for term {term}", word(reply.granted)))
        }
        Some(Body::TimeoutNow(_)) => (8, "vote", format!("lead after term {term}")),
        Some(Body::AppendRejected(no)) => (
            7,
            "append",
            format!(
                "append rejected at {} in term {term}, conflict at {}@{}",
                no.previous, no.conflict_index, no.conflict_term
            ),
        ),
        Some(Body::Append(append)) => {
            let weight = if append.entries.is_empty() { 4 } else { 6 };
            (weight, "append", of_append(place, term, append))
        }
        Some(Body::AppendAccepted(yes)) => {
            (5, "append", format!("append accepted up to {} in term {term}", yes.matched))
        }
        Some(Body::Heartbeat(heartbeat)) => {
            (1, "heartbeat", format!("heartbeat of term {term}, commit {}", heartbeat.commit))
        }
        Some(Body::HeartbeatReply(_)) => (0, "heartbeat", format!("heartbeat answered in term {term}")),
        None => (0, "part", "a message of a later version".to_owned()),
    }
}

fn of_append(place: Place, term: u64, append: &raft::Append) -> String {
    let previous =
        append.previous.as_ref().map_or_else(String::new, |at| format!("{}@{}", at.index, at.term));
    let mut entries: Vec<String> =
        append.entries.iter().take(ENTRIES_MAX).map(|entry| of_entry(place, entry)).collect();
    let more = append.entries.len().saturating_sub(ENTRIES_MAX);
    if more > 0 {
        entries.push(format!("and {more} more"));
    }
    let entries = if entries.is_empty() { "nothing".to_owned() } else { entries.join(", ") };
    format!("append in term {term} after {previous}: {entries}; commit {}", append.commit)
}

fn of_entry(place: Place, entry: &raft::Entry) -> String {
    let what = match &entry.payload {
        Some(raft::entry::Payload::Command(command)) => command::words(place, command),
        Some(raft::entry::Payload::Noop(_)) => "no-op".to_owned(),
        Some(raft::entry::Payload::Membership(_)) => "membership".to_owned(),
        None => "nothing".to_owned(),
    };
    format!("{}@{} {what}", entry.index, entry.term)
}

fn of_request(request: &kv::Request) -> String {
    use kv::request::Operation;
    match &request.operation {
        Some(Operation::OpenSession(_)) => "open session".to_owned(),
        Some(Operation::Execute(execute)) => {
            format!("{} (number {})", command::mutation(execute.mutation.as_ref()), execute.sequence)
        }
        Some(Operation::Get(get)) => format!("get {}", String::from_utf8_lossy(&get.key)),
        Some(Operation::CloseSession(_)) => "close session".to_owned(),
        Some(Operation::Scan(scan)) => format!("scan {}", String::from_utf8_lossy(&scan.prefix)),
        Some(Operation::Pull(pull)) => format!("pull shard {}", pull.shard),
        Some(Operation::Arrived(arrived)) => format!("shard {} has arrived", arrived.shard),
        Some(Operation::Query(_)) => "query a config".to_owned(),
        Some(Operation::Report(_)) => "report a config".to_owned(),
        None => "nothing".to_owned(),
    }
}

fn of_reply(reply: &kv::Reply) -> String {
    use kv::reply::Outcome;
    match &reply.outcome {
        Some(Outcome::Done(done)) => format!("done at index {}", done.index),
        Some(Outcome::Refused(_)) => "refused".to_owned(),
        Some(Outcome::Unknown(_)) => "outcome unknown".to_owned(),
        None => "nothing".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eraft::replica::frames::Splitter;

    #[test]
    fn a_batch_is_named_after_its_weightiest_message() {
        use raft::message::Body;
        let of = |body| raft::Message { term: 3, body: Some(body) };
        let messages = vec![
            of(Body::Heartbeat(raft::Heartbeat { commit: 4, round: 1 })),
            of(Body::VoteReply(raft::VoteReply { granted: true })),
        ];
        let batch =
            raft::Batch { content: Some(raft::batch::Content::Messages(raft::Messages { messages })) };
        let bytes = Splitter::default().split(&batch).remove(0);
        let (kind, words) = frame(Place::Alone, Channel::Peer, false, &bytes);
        assert_eq!((kind, words.as_str()), ("vote", "vote granted in term 3; heartbeat of term 3, commit 4"));
        assert_eq!(frame(Place::Alone, Channel::Peer, false, &Bytes::from_static(&[0xff; 3])).0, "part");
    }

    #[test]
    fn entries_and_requests_name_their_keys() {
        let put = kv::mutation::Operation::Put(kv::Put { key: "k7".into(), value: "v".into() });
        let execute = kv::Execute {
            sequence: 9,
            mutation: Some(kv::Mutation { operation: Some(put) }),
            ..Default::default()
        };
        let command = kv::Command {
            time_ms: 1,
            operation: Some(kv::command::Operation::Execute(execute.clone())),
            ..Default::default()
        };
        assert_eq!(command::words(Place::Alone, &command.encode_to_vec().into()), "put k7 (number 9)");
        let request = kv::Request {
            id: 1,
            deadline_ms: 2,
            operation: Some(kv::request::Operation::Execute(execute)),
            shard: None,
        };
        let bytes = Splitter::default().split(&request).remove(0);
        assert_eq!(
            frame(Place::Alone, Channel::Client, false, &bytes),
            ("request", "put k7 (number 9)".to_owned())
        );
    }
}
