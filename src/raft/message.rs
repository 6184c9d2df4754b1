//! What peers say to each other, and the entries they replicate.

use bytes::Bytes;

use super::membership::Membership;
use crate::types::{Index, Term};

/// A place in the log together with the term of the entry there; two logs that share a position share everything
/// before it (the log matching property, Raft section 5.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// Where.
    pub index: Index,
    /// The term in which a leader wrote it.
    pub term: Term,
}

impl Position {
    /// Whether a log that ends here holds everything that one ending at `other` may have committed: the later
    /// term wins, then the longer log (section 5.4.1).
    pub fn is_up_to_date_with(self, other: Position) -> bool {
        (self.term, self.index) >= (other.term, other.index)
    }
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Entry {
    /// Its place, counted from 1 without holes.
    pub index: Index,
    /// The term of the leader that wrote it.
    pub term: Term,
    /// What it says.
    pub payload: Payload,
}

impl Entry {
    /// Index and term.
    pub fn position(&self) -> Position {
        Position { index: self.index, term: self.term }
    }

    /// What the entry costs in memory, on the wire and on disk, roughly: its payload and a fixed overhead.
    pub fn bytes(&self) -> usize {
        ENTRY_OVERHEAD_BYTES
            + match &self.payload {
                Payload::Noop => 0,
                Payload::Command(command) => command.len(),
                Payload::Membership(membership) => 8 * membership.len(),
            }
    }
}

/// Counted for each entry besides its payload.
pub const ENTRY_OVERHEAD_BYTES: usize = 32;

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Payload {
    /// The entry with which a leader opens its term, so that it can commit what it inherited (section 8).
    Noop,
    /// A command of the state machine.
    Command(Bytes),
    /// The group's members from here on; in force as soon as it is in the log (dissertation, section 4.1).
    Membership(Membership),
}

/// A message with the sender's term. In a pre-vote and in its granted reply it is the term asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Message {
    /// The sender's term.
    pub term: Term,
    /// What it says.
    pub body: Body,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Body {
    /// Would you vote for me in this term? Changes nothing at the receiver (dissertation, section 9.6).
    PreVote {
        /// The end of the sender's log.
        last: Position,
    },
    /// The answer.
    PreVoteReply {
        /// Yes.
        granted: bool,
    },
    /// Vote for me (section 5.2).
    Vote {
        /// The end of the candidate's log.
        last: Position,
        /// The leader of the term before wants it, so having a leader is no reason not to vote.
        transfer: bool,
    },
    /// The answer; durable at the sender before it left.
    VoteReply {
        /// Yes.
        granted: bool,
    },
    /// Entries that follow `previous` (section 5.3); none: a probe.
    Append {
        /// The position just before the entries.
        previous: Position,
        /// Consecutive entries.
        entries: Vec<Entry>,
        /// The leader's commit index.
        commit: Index,
    },
    /// The log is the leader's up to `matched`, and durable up to there.
    AppendAccepted {
        /// The last index that is known to match.
        matched: Index,
    },
    /// The receiver does not hold `previous`.
    AppendRejected {
        /// The index of the rejected append's previous position, to recognise a stale reply.
        previous: Index,
        /// The receiver's term at `previous` and the first index that it holds of that term; term 0 and the
        /// index after its last entry if its log is too short (end of section 5.3).
        conflict: Position,
    },
    /// The leader lives.
    Heartbeat {
        /// The commit index, at most what the receiver is known to match.
        commit: Index,
        /// The leader's latest round of confirmation, for reads.
        round: u64,
    },
    /// The receiver took the sender for its leader when it got heartbeat `round`.
    HeartbeatReply {
        /// The round of the heartbeat.
        round: u64,
        /// It asks for a snapshot, although its log may be the leader's: it has lost its state.
        lacks_state: bool,
    },
    /// The leader wants the receiver to lead: ask for votes at once (dissertation, section 3.10). The answer is a
    /// later term.
    TimeoutNow,
}

impl Body {
    /// Does the receiver answer it?
    pub fn is_request(&self) -> bool {
        matches!(
            self,
            Body::PreVote { .. } | Body::Vote { .. } | Body::Append { .. } | Body::Heartbeat { .. }
        )
    }
}
