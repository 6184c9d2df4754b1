//! Between the core's types and protobuf, both ways. Whatever comes from a peer or a disk is checked here: a
//! missing part or an impossible number is an error in words, never a panic.

use crate::proto::raft as pb;
use crate::raft::{Base, Body, Entry, HardState, Membership, Message, Payload, Position};
use crate::types::{Index, NodeId, Term};

/// What is wrong with a message or a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub String);

fn malformed<T>(what: &str) -> Result<T, Malformed> {
    Err(Malformed(what.to_owned()))
}

impl From<Position> for pb::Position {
    fn from(position: Position) -> Self {
        Self { index: position.index.0, term: position.term.0 }
    }
}

impl From<pb::Position> for Position {
    fn from(position: pb::Position) -> Self {
        Self { index: Index(position.index), term: Term(position.term) }
    }
}

impl From<&Membership> for pb::Membership {
    fn from(membership: &Membership) -> Self {
        let ids = |set: &std::collections::BTreeSet<NodeId>| set.iter().map(|node| node.0).collect();
        Self {
            voters: ids(&membership.voters),
            outgoing: ids(&membership.outgoing),
            learners: ids(&membership.learners),
        }
    }
}

impl TryFrom<pb::Membership> for Membership {
    type Error = Malformed;

    fn try_from(membership: pb::Membership) -> Result<Self, Malformed> {
        let set = |ids: Vec<u64>| ids.into_iter().map(NodeId).collect();
        let membership = Self {
            voters: set(membership.voters),
            outgoing: set(membership.outgoing),
            learners: set(membership.learners),
        };
        if membership.members().contains(&NodeId(0)) {
            return malformed("a membership that names node 0");
        }
        Ok(membership)
    }
}

impl From<&Entry> for pb::Entry {
    fn from(entry: &Entry) -> Self {
        let payload = match &entry.payload {
            Payload::Noop => pb::entry::Payload::Noop(true),
            Payload::Command(command) => pb::entry::Payload::Command(command.clone()),
            Payload::Membership(membership) => pb::entry::Payload::Membership(membership.into()),
        };
        Self { index: entry.index.0, term: entry.term.0, payload: Some(payload) }
    }
}

impl TryFrom<pb::Entry> for Entry {
    type Error = Malformed;

    fn try_from(entry: pb::Entry) -> Result<Self, Malformed> {
        let payload = match entry.payload {
            Some(pb::entry::Payload::Noop(_)) => Payload::Noop,
            Some(pb::entry::Payload::Command(command)) => Payload::Command(command),
            Some(pb::entry::Payload::Membership(membership)) => Payload::Membership(membership.try_into()?),
            None => return malformed("an entry without a payload"),
        };
        if entry.index == 0 || entry.term == 0 {
            return malformed("an entry at index 0 or of term 0");
        }
        Ok(Self { index: Index(entry.index), term: Term(entry.term), payload })
    }
}

/// The log store's record: hard state and base.
pub fn hard_state_record(hard: HardState, base: &Base) -> pb::HardState {
    pb::HardState {
        term: hard.term.0,
        vote: hard.vote.map_or(0, |node| node.0),
        base: Some(base.position.into()),
        base_membership: Some((&base.membership).into()),
    }
}

/// The reverse of [`hard_state_record`].
pub fn from_hard_state_record(record: pb::HardState) -> Result<(HardState, Base), Malformed> {
    let (Some(position), Some(membership)) = (record.base, record.base_membership) else {
        return malformed("a hard state without a base");
    };
    let vote = (record.vote != 0).then_some(NodeId(record.vote));
    let hard = HardState { term: Term(record.term), vote };
    Ok((hard, Base { position: position.into(), membership: membership.try_into()? }))
}

impl From<&Message> for pb::Message {
    fn from(message: &Message) -> Self {
        use pb::message::Body as To;
        let body = match &message.body {
            Body::PreVote { last } => To::PreVote(pb::Vote { last: Some((*last).into()), transfer: false }),
            Body::PreVoteReply { granted } => To::PreVoteReply(pb::VoteReply { granted: *granted }),
            Body::Vote { last, transfer } => {
                To::Vote(pb::Vote { last: Some((*last).into()), transfer: *transfer })
            }
            Body::VoteReply { granted } => To::VoteReply(pb::VoteReply { granted: *granted }),
            Body::Append { previous, entries, commit } => To::Append(pb::Append {
                previous: Some((*previous).into()),
                entries: entries.iter().map(Into::into).collect(),
                commit: commit.0,
            }),
            Body::AppendAccepted { matched } => To::AppendAccepted(pb::AppendAccepted { matched: matched.0 }),
            Body::AppendRejected { previous, conflict } => To::AppendRejected(pb::AppendRejected {
                previous: previous.0,
                conflict_term: conflict.term.0,
                conflict_index: conflict.index.0,
            }),
            Body::Heartbeat { commit, round } => {
                To::Heartbeat(pb::Heartbeat { commit: commit.0, round: *round })
            }
            Body::HeartbeatReply { round, lacks_state } => {
                To::HeartbeatReply(pb::HeartbeatReply { round: *round, lacks_state: *lacks_state })
            }
            Body::TimeoutNow => To::TimeoutNow(pb::TimeoutNow {}),
        };
        Self { term: message.term.0, body: Some(body) }
    }
}

impl TryFrom<pb::Message> for Message {
    type Error = Malformed;

    fn try_from(message: pb::Message) -> Result<Self, Malformed> {
        use pb::message::Body as From;
        let position = |position: Option<pb::Position>| match position {
            Some(position) => Ok(Position::from(position)),
            None => malformed("a message without a position"),
        };
        let body = match message.body {
            None => return malformed("a message without a body"),
            Some(From::PreVote(vote)) => Body::PreVote { last: position(vote.last)? },
            Some(From::PreVoteReply(reply)) => Body::PreVoteReply { granted: reply.granted },
            Some(From::Vote(vote)) => Body::Vote { last: position(vote.last)?, transfer: vote.transfer },
            Some(From::VoteReply(reply)) => Body::VoteReply { granted: reply.granted },
            Some(From::Append(append)) => Body::Append {
                previous: position(append.previous)?,
                entries: append.entries.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
                commit: Index(append.commit),
            },
            Some(From::AppendAccepted(reply)) => Body::AppendAccepted { matched: Index(reply.matched) },
            Some(From::AppendRejected(reply)) => Body::AppendRejected {
                previous: Index(reply.previous),
                conflict: Position { index: Index(reply.conflict_index), term: Term(reply.conflict_term) },
            },
            Some(From::Heartbeat(beat)) => Body::Heartbeat { commit: Index(beat.commit), round: beat.round },
            Some(From::HeartbeatReply(reply)) => {
                Body::HeartbeatReply { round: reply.round, lacks_state: reply.lacks_state }
            }
            Some(From::TimeoutNow(pb::TimeoutNow {})) => Body::TimeoutNow,
        };
        if message.term == 0 || message.term == u64::MAX {
            return malformed("a message of an impossible term");
        }
        Ok(Self { term: Term(message.term), body })
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    fn every_kind_of_message() -> Vec<Message> {
        let position = Position { index: Index(7), term: Term(3) };
        let entry = |index, payload| Entry { index: Index(index), term: Term(3), payload };
        let joint = Membership {
            voters: [NodeId(1), NodeId(2)].into(),
            outgoing: [NodeId(1)].into(),
            learners: [NodeId(9)].into(),
        };
        let entries = vec![
            entry(8, Payload::Noop),
            entry(9, Payload::Command(vec![0, 255].into())),
            entry(10, Payload::Membership(joint)),
        ];
        let bodies = [
            Body::PreVote { last: position },
            Body::PreVoteReply { granted: true },
            Body::Vote { last: Position::default(), transfer: true },
            Body::VoteReply { granted: false },
            Body::Append { previous: position, entries, commit: Index(5) },
            Body::AppendAccepted { matched: Index(10) },
            Body::AppendRejected { previous: Index(7), conflict: Position::default() },
            Body::Heartbeat { commit: Index(0), round: 12 },
            Body::HeartbeatReply { round: 12, lacks_state: false },
            Body::HeartbeatReply { round: 13, lacks_state: true },
            Body::TimeoutNow,
        ];
        bodies.into_iter().map(|body| Message { term: Term(4), body }).collect()
    }

    #[test]
    fn messages_survive_the_wire() {
        for message in every_kind_of_message() {
            let bytes = pb::Message::from(&message).encode_to_vec();
            let back = Message::try_from(pb::Message::decode(&bytes[..]).unwrap()).unwrap();
            assert_eq!(back, message);
        }
    }

    #[test]
    fn what_a_peer_may_not_send_is_refused_in_words() {
        let refused = |message: pb::Message| Message::try_from(message).unwrap_err().to_string();
        assert_eq!(refused(pb::Message { term: 1, body: None }), "a message without a body");
        let vote = pb::message::Body::Vote(pb::Vote { last: None, transfer: false });
        assert_eq!(refused(pb::Message { term: 1, body: Some(vote) }), "a message without a position");
        let beat = pb::message::Body::HeartbeatReply(pb::HeartbeatReply { round: 0, lacks_state: false });
        assert_eq!(refused(pb::Message { term: 0, body: Some(beat) }), "a message of an impossible term");
    }

    #[test]
    fn the_hard_state_record_is_complete() {
        let hard = HardState { term: Term(5), vote: Some(NodeId(2)) };
        let base = Base {
            position: Position { index: Index(4), term: Term(2) },
            membership: Membership::of([NodeId(1), NodeId(2)]),
        };
        assert_eq!(from_hard_state_record(hard_state_record(hard, &base)), Ok((hard, base)));
        assert!(from_hard_state_record(pb::HardState::default()).is_err());
    }
}
