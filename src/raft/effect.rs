//! What goes into the core and what comes out of it: the whole contract with the shell.
//!
//! Effects carry their data and name the write they depend on, so their order is not a matter of faith: a `Send`
//! with `after: Some(id)` may leave once write `id` is durable; everything else may leave at once. Writes are
//! made in the order of their ids, complete in that order, and come back as [`Input::Persisted`].

use bytes::Bytes;

use super::membership::Membership;
use super::message::{Entry, Message, Position};
use crate::types::{Index, NodeId, Term};

/// The deadlines that the core asks for. The shell draws the duration; a re-armed or disarmed timer's earlier
/// deadline never fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Timer {
    /// Follower and candidate: nobody led. Leader: has a quorum answered since the last time?
    Election,
    /// Leader: time for a heartbeat.
    Heartbeat,
}

/// Names a write; ascending.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WriteId(pub u64);

/// Names a proposal, a read or a transfer that this node was asked for; chosen by the shell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// Term and vote: what must survive a crash besides the log (Raft, figure 2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HardState {
    /// The latest term this node has seen.
    pub term: Term,
    /// Whom it voted for in that term.
    pub vote: Option<NodeId>,
}

/// The position just below the first kept entry, with the members in force there.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Base {
    /// The last entry that the log no longer holds; zero for a log that starts at 1.
    pub position: Position,
    /// The members as of that entry.
    pub membership: Membership,
}

/// One write to the log store. The parts happen in the order of the fields, atomically and durably.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Persist {
    /// The name under which it comes back.
    pub id: WriteId,
    /// Written with every batch.
    pub hard: HardState,
    /// Entries up to here are dropped, and the log starts after it.
    pub base: Option<Base>,
    /// Entries from this index on are dropped.
    pub truncate: Option<Index>,
    /// Entries that follow what is left.
    pub append: Vec<Entry>,
}

/// What happens to a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// A timer fired.
    Timeout(Timer),
    /// A peer's message.
    Message {
        /// The sender.
        from: NodeId,
        /// What it sent.
        message: Message,
    },
    /// Commands of clients. All are appended together or refused together.
    Propose(Vec<(RequestId, Bytes)>),
    /// A linearizable read wants to know from which index on the state may be read.
    Read(RequestId),
    /// An operator wants another member to lead.
    Transfer {
        /// The request.
        id: RequestId,
        /// Who is to lead.
        to: NodeId,
    },
    /// All writes up to this one are durable.
    Persisted(WriteId),
    /// The state up to here is durable and nobody needs the entries any more.
    Compact {
        /// The last entry to drop; beyond what was handed to `Apply` it is ignored.
        through: Index,
    },
    /// A peer that claims to lead `term` wants to send its state at `position`.
    SnapshotOffered {
        /// The sender.
        from: NodeId,
        /// The sender's term.
        term: Term,
        /// What the snapshot covers.
        position: Position,
    },
    /// An accepted snapshot is complete, verified and durable beside the current state.
    SnapshotReceived {
        /// The sender.
        from: NodeId,
        /// The sender's term when it offered the snapshot.
        term: Term,
        /// What the snapshot covers, with the members there.
        base: Base,
    },
    /// A snapshot asked for by [`Effect::SendSnapshot`] has ended.
    SnapshotSent {
        /// The receiver.
        to: NodeId,
        /// The index of the state that it now holds; `None`: refused or broken off.
        installed: Option<Index>,
    },
}

/// Why a proposal, a read or a transfer was not taken. In each case it was certainly not executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Refusal {
    /// Ask the leader, if one is known.
    NotLeader(Option<NodeId>),
    /// Too much is waiting already.
    Overloaded,
    /// Leadership is on its way to this member.
    Transferring(NodeId),
    /// The member has no vote, so it cannot lead.
    NotVoter,
}

/// What the shell is to do. In one step's list, in order, except where `after` says that it has to wait.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Write to the log store.
    Persist(Persist),
    /// Send to a peer.
    Send {
        /// The receiver.
        to: NodeId,
        /// What to send.
        message: Message,
        /// Not before this write is durable.
        after: Option<WriteId>,
    },
    /// Committed entries, durable here, consecutive with the last ones: apply them.
    Apply(Vec<Entry>),
    /// Proposal `id` was appended here; it is decided when this index is applied: if the term there is the same
    /// it was executed, otherwise it never will be.
    Proposed {
        /// The proposal.
        id: RequestId,
        /// Where it was appended.
        position: Position,
    },
    /// The read may be served from the state at `index` or later.
    ReadReady {
        /// The read.
        id: RequestId,
        /// Apply at least this far first.
        index: Index,
    },
    /// A transfer of leadership is over.
    TransferEnded {
        /// Which.
        id: RequestId,
        /// True: the target did not take over in time, and this node leads on. False: the target leads already, or
        /// this node leads no more, and an election decides who does.
        given_up: bool,
    },
    /// The proposal, read or transfer was not taken.
    Refused {
        /// Which.
        id: RequestId,
        /// Why.
        reason: Refusal,
    },
    /// Start (or restart) a timer.
    Arm(Timer),
    /// Stop a timer.
    Disarm(Timer),
    /// A follower needs entries that this log no longer holds: stream it the state.
    SendSnapshot {
        /// The follower.
        to: NodeId,
        /// The leader's term, for the offer.
        term: Term,
    },
    /// Receive the offered snapshot beside the current state.
    AcceptSnapshot {
        /// The sender.
        from: NodeId,
        /// What it covers.
        position: Position,
    },
    /// Do not receive it.
    RefuseSnapshot {
        /// The sender.
        from: NodeId,
        /// What it covers.
        position: Position,
    },
    /// Make the received snapshot the current state, durably, before the next effect is executed.
    InstallSnapshot {
        /// What it covers.
        base: Base,
    },
}
