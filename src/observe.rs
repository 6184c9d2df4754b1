//! One hook through which metrics, logs, the simulator's trace and its invariants see a node.
//!
//! Events are facts, in the order in which they happened on that node. An observer must not block, and nothing it
//! does may change what the node does.

use crate::raft::{Effect, Entry, Input, Position, Raft};
use crate::types::NodeId;
use crate::view::Batch;

/// What happened on a node.
#[derive(Debug)]
pub enum Event<'a> {
    /// The replica opened its data directory and recovered.
    Opened {
        /// The core as recovered.
        raft: &'a Raft,
        /// The durable state's applied position.
        applied: Position,
        /// The hash of that state.
        replica_hash: u64,
    },
    /// The core took one input.
    Stepped {
        /// What came in; `None` if the observer does not [want it](Observer::wants_inputs).
        input: Option<&'a Input>,
        /// What came out.
        effects: &'a [Effect],
        /// The core afterwards.
        raft: &'a Raft,
    },
    /// The state machine applied an entry.
    Applied {
        /// The entry.
        entry: &'a Entry,
        /// What it wrote.
        batch: &'a Batch,
        /// The hash of the state afterwards.
        replica_hash: u64,
    },
    /// The applied state up to here is durable.
    Flushed {
        /// The last entry it covers.
        applied: Position,
    },
    /// A received snapshot became the state.
    SnapshotInstalled {
        /// What it covers.
        applied: Position,
        /// The hash of the state.
        replica_hash: u64,
    },
    /// A linearizable read was served.
    ReadServed {
        /// The state's applied index when it was read.
        applied: Position,
    },
    /// The replica stopped; `unhealthy` names the error if it was not asked to.
    Stopped {
        /// Why, if not asked to.
        unhealthy: Option<&'a str>,
    },
}

/// Sees the events of nodes.
pub trait Observer: Send + Sync + 'static {
    /// `event` happened on `node`.
    fn observe(&self, node: NodeId, event: &Event<'_>);

    /// Does it look at the inputs of steps? The core consumes them, so each would be copied first.
    fn wants_inputs(&self) -> bool {
        false
    }
}

/// Sees nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl Observer for NoObserver {
    fn observe(&self, _: NodeId, _: &Event<'_>) {}
}
