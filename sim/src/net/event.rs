//! What became of messages: counts, and a record of each for the trace.

use std::time::Duration;

use bytes::Bytes;
use eraft::replica::link::{Party, Route};

use crate::places;

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// It arrived.
    Delivered,
    /// A second copy of it is on its way.
    Duplicated,
    /// It was lost on the way.
    Lost,
    /// It met a cut.
    Cut,
    /// Its stream had broken, or the other side was dead or had closed it.
    Broken,
}

/// One message's fate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageEvent {
    /// Simulated time since the start of the run.
    pub at: Duration,
    /// When it entered its stream.
    pub sent_at: Duration,
    /// Its way.
    pub route: Route,
    /// Its number on this way, from 1, over all streams.
    pub ordinal: u64,
    /// xxh3-64 of its bytes.
    pub hash: u64,
    /// Its length in bytes.
    pub bytes: usize,
    /// What became of it.
    pub outcome: Outcome,
}

impl Outcome {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Outcome::Delivered => "delivered",
            Outcome::Duplicated => "duplicated",
            Outcome::Lost => "lost",
            Outcome::Cut => "cut",
            Outcome::Broken => "broken",
        }
    }
}

/// Takes the record of every message, with its bytes. It is called inside the network and must not call it.
pub type Sink = Box<dyn FnMut(&MessageEvent, &Bytes) + Send>;

/// Messages, and how often each fault was *met*. At any time
/// `sent + duplicated == delivered + lost + cut + broken + in flight`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetCounters {
    /// Messages that entered a stream.
    pub sent: u64,
    /// Bytes of those between nodes.
    pub peer_bytes: u64,
    /// Messages that were taken out, copies included.
    pub delivered: u64,
    /// Messages lost on the way (net.loss).
    pub lost: u64,
    /// Messages dropped by a cut (net.partition).
    pub cut: u64,
    /// Messages on streams that broke: resets, deaths, closed streams.
    pub broken: u64,
    /// Second copies made (net.duplicate).
    pub duplicated: u64,
    /// Messages that were delayed and held up those behind them (net.delay).
    pub delayed: u64,
    /// Messages that arrived after one that was sent later (net.reorder).
    pub reordered: u64,
    /// Messages that waited for a slow link (net.slow).
    pub slowed: u64,
    /// Open streams that were reset (net.reset).
    pub resets: u64,
    /// Snapshot streams that a cut held up.
    pub held: u64,
    /// Attempts to connect that met a cut.
    pub connects_cut: u64,
    /// Attempts to connect to a dead party.
    pub connects_dead: u64,
    /// Pauses that kept something waiting (node.pause).
    pub pauses: u64,
    /// Pauses of clients that kept something waiting (client.pause).
    pub client_pauses: u64,
    /// Streams that a death broke.
    pub deaths: u64,
}

/// A party's name in messages.
pub(super) fn name(party: Party) -> String {
    match party {
        Party::Node(node) => places::name(node),
        Party::Client(client) => places::client_name(client),
    }
}
