//! The hook on every stream, where the simulator injects its network faults.
//!
//! A message passes the hook twice: when it is handed to a stream and when it is taken out. In real builds [`Link`]
//! is a zero-sized type whose methods hand everything through. In the simulator it holds a `Hook`, which may drop,
//! delay, duplicate, reorder, cut, reset and pause. madsim's own network faults are never used (a cut there delays
//! a stream and then delivers everything; a killed peer is noticed at once, where a power loss is silence).

use bytes::Bytes;
use futures_util::stream::BoxStream;

use crate::types::NodeId;

/// One end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Party {
    /// A member of the cluster.
    Node(NodeId),
    /// A client, by the number that the simulator gave it; real clients are all 0.
    Client(u64),
}

/// What travels on a stream, because faults differ: peers expect loss and reordering, the chunks of a snapshot are
/// a sequence, a client retries single requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Channel {
    /// Batches of Raft messages.
    Peer,
    /// A snapshot's chunks, and its receiver's answers.
    Snapshot,
    /// Client requests and replies.
    Client,
}

/// A directed way from one party to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route {
    /// Who sends.
    pub from: Party,
    /// Who receives.
    pub to: Party,
    /// What travels.
    pub channel: Channel,
}

impl Route {
    /// The way back.
    pub fn back(self) -> Self {
        Self { from: self.to, to: self.from, channel: self.channel }
    }
}

/// A stream of frames that may end in an error's words.
pub type Frames = BoxStream<'static, Result<Bytes, String>>;

#[cfg(madsim)]
pub use simulated::{Hook, Link};

#[cfg(not(madsim))]
pub use real::Link;

#[cfg(not(madsim))]
mod real {
    use std::net::SocketAddr;

    use super::{Frames, Route};
    use crate::types::NodeId;

    /// No hook: everything passes.
    // Not `Copy`, because the simulator's is not and the code is the same.
    #[derive(Clone, Debug, Default)]
    pub struct Link;

    impl Link {
        /// May a connection be opened now?
        pub fn connect(&self, _: Route) -> impl Future<Output = Result<(), String>> + Send + use<> {
            std::future::ready(Ok(()))
        }

        /// On the sender's side of a stream.
        pub fn outbound(&self, _: Route, frames: Frames) -> Frames {
            frames
        }

        /// On the receiver's side of a stream.
        pub fn inbound(&self, _: Route, frames: Frames) -> Frames {
            frames
        }

        /// Waits while `node` is paused.
        pub async fn gate(&self, _: NodeId) {}

        /// Which node is at `address`, the `place`-th of its group's, counted from 1.
        pub fn node_at(&self, _: SocketAddr, place: u64) -> NodeId {
            NodeId(place)
        }
    }
}

#[cfg(madsim)]
mod simulated {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use super::{Frames, Route};
    use crate::storage::BoxFuture;
    use crate::types::NodeId;

    /// The simulator's side of the hook.
    pub trait Hook: Send + Sync + 'static {
        /// Resolves when a connection attempt would have an answer: `Ok`, or refused.
        fn connect(&self, route: Route) -> BoxFuture<Result<(), String>>;
        /// On the sender's side of a stream.
        fn outbound(&self, route: Route, frames: Frames) -> Frames;
        /// On the receiver's side of a stream.
        fn inbound(&self, route: Route, frames: Frames) -> Frames;
        /// Resolves once `node` is not paused.
        fn gate(&self, node: NodeId) -> BoxFuture<()>;
        /// True while `node` is paused, for the fast path.
        fn is_paused(&self, node: NodeId) -> bool;
        /// Which node is at `address`, the `place`-th of its group's, counted from 1. Groups of a real cluster have
        /// nodes with the same numbers; a simulator that tells nodes apart by their numbers gives each its own.
        fn node_at(&self, _address: SocketAddr, place: u64) -> NodeId {
            NodeId(place)
        }
    }

    /// A handle on the simulator's hook.
    #[derive(Clone)]
    pub struct Link(pub Arc<dyn Hook>);

    impl Link {
        /// May a connection be opened now?
        pub fn connect(&self, route: Route) -> BoxFuture<Result<(), String>> {
            self.0.connect(route)
        }

        /// On the sender's side of a stream.
        pub fn outbound(&self, route: Route, frames: Frames) -> Frames {
            self.0.outbound(route, frames)
        }

        /// On the receiver's side of a stream.
        pub fn inbound(&self, route: Route, frames: Frames) -> Frames {
            self.0.inbound(route, frames)
        }

        /// Waits while `node` is paused.
        pub async fn gate(&self, node: NodeId) {
            if self.0.is_paused(node) {
                self.0.gate(node).await;
            }
        }

        /// Which node is at `address`, the `place`-th of its group's, counted from 1.
        pub fn node_at(&self, address: SocketAddr, place: u64) -> NodeId {
            self.0.node_at(address, place)
        }
    }
}
