//! The simulated network: the [`Hook`] on every stream, where all network faults are ours.
//!
//! madsim's own network only opens connections, without loss and at the least latency ([`madsim_config`]). What
//! travels on a stream goes over a wire of ours, which delays, loses, duplicates, reorders, cuts, resets and limits
//! each message, or holds it while a party is paused. A full wire is back-pressure: the sender's stream is not polled.
//!
//! - [`Channel::Peer`] and [`Channel::Client`] streams lose what meets a cut, also what was in flight when it came,
//!   and go on when it heals. Their first message is a handshake: it is not lost, doubled or overtaken, and if a cut
//!   takes it the stream breaks. A client's stream of one message is a unary call: it may be lost, and that is silence.
//!   Client messages are never doubled: no connection doubles a request, and a service answers each copy.
//! - [`Channel::Snapshot`] streams are sequences: never lost, doubled or reordered. A cut holds them, and breaks them
//!   if it lasts.
//! - The death of a process is told to its peers by its operating system after a moment, if no cut is between; a power
//!   loss is silence, until each peer gives up after a drawn time. What a node sent before its end still arrives.
//! - A party that is paused neither sends nor receives; what is sent to it waits.
//!
//! Call the network *before* madsim's `kill`. At the end of a run kill every node and let a moment pass: what waits in
//! a run that just stops is never dropped, here as in madsim itself.
//!
//! Limits: madsim lets a peer notice the end of a connection at once while a
//! call is still being opened (the few milliseconds before the token passes), and drops a killed client's reply stream
//! on the server at once; neither is a stream that passes this hook yet or still.
//!
//! [`Channel::Peer`]: eraft::replica::link::Channel::Peer
//! [`Channel::Client`]: eraft::replica::link::Channel::Client
//! [`Channel::Snapshot`]: eraft::replica::link::Channel::Snapshot

mod config;
mod ends;
mod event;
mod partition;
mod state;
mod traffic;
mod wire;

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use eraft::replica::link::{Frames, Hook, Link, Party, Route};
use eraft::storage::BoxFuture;
use eraft::types::NodeId;
use madsim::time::{TimeHandle, sleep};

pub use config::{LinkConfig, NetConfig, NoticeConfig, madsim_config};
pub use event::{MessageEvent, NetCounters, Outcome, Sink};
pub use partition::{Parties, Partition};
pub use wire::IN_FLIGHT_FRAMES_MAX;

use crate::places;
use ends::{Inbound, Outbound};
use event::name;
use state::{Death, State};
use traffic::Reach;

/// The network of one run. Clones are handles on the same one.
#[derive(Clone)]
pub struct SimNet {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SimNet {
    /// A network without partitions, inside a running madsim runtime.
    pub fn new(seed: u64, config: NetConfig) -> Self {
        let state = Mutex::new(State::new(seed, config, TimeHandle::current()));
        Self { shared: Arc::new(Shared { state }) }
    }

    /// The link to give to nodes and clients.
    pub fn link(&self) -> Link {
        Link(Arc::new(self.clone()))
    }

    /// How all links behave that have no setting of their own.
    pub fn set_links(&self, config: LinkConfig) {
        self.shared.lock().set_links(config);
    }

    /// How one direction of a link behaves, on every channel; `None`: as all links.
    pub fn set_link(&self, from: Party, to: Party, config: Option<LinkConfig>) {
        self.shared.lock().set_link(from, to, config);
    }

    /// Cuts links, under a name to heal it by; an older partition of that name is replaced.
    pub fn partition(&self, name: &str, partition: Partition) {
        self.shared.lock().set_partition(name, Some(partition));
    }

    /// Ends the partition of that name; others stay.
    pub fn heal(&self, name: &str) {
        self.shared.lock().set_partition(name, None);
    }

    /// Ends every partition.
    pub fn heal_all(&self) {
        self.shared.lock().heal_partitions();
    }

    /// True if what `from` says does not reach `to`.
    pub fn is_cut(&self, from: Party, to: Party) -> bool {
        self.shared.lock().is_cut(from, to)
    }

    /// Breaks all open streams between two parties at once.
    pub fn reset(&self, one: Party, other: Party) {
        self.shared.lock().reset(one, other);
    }

    /// `party` stops for a while: it neither sends nor receives, and waits at its gate.
    pub fn pause(&self, party: Party) {
        self.shared.lock().pause(party);
    }

    /// `party` goes on.
    pub fn resume(&self, party: Party) {
        self.shared.lock().resume(party);
    }

    /// The process of `party` dies; its peers are told by its operating system.
    pub fn process_death(&self, party: Party) {
        self.shared.lock().die(party, Death::Process);
    }

    /// The machine of `party` loses power; its peers are told by nobody.
    pub fn power_loss(&self, party: Party) {
        self.shared.lock().die(party, Death::Power);
    }

    /// `party` is there again. Streams from before its death stay broken.
    pub fn revive(&self, party: Party) {
        self.shared.lock().revive(party);
    }

    /// Counts since the start.
    pub fn counters(&self) -> NetCounters {
        self.shared.lock().ledger.counters
    }

    /// Messages in flight now.
    pub fn in_flight(&self) -> usize {
        self.shared.lock().in_flight()
    }

    /// Streams from or to `party` that at least one side still holds.
    pub fn streams_of(&self, party: Party) -> usize {
        self.shared.lock().streams_of(party)
    }

    /// Hands every message's fate to `sink` from now on.
    pub fn set_sink(&self, sink: Option<Sink>) {
        self.shared.lock().ledger.sink = sink;
    }

    async fn connect_to(self, route: Route) -> Result<(), String> {
        self.gate_of(route.from).await;
        let (round_trip, timeout) = self.shared.lock().connect_times(route);
        let mut reach = self.shared.lock().reach(route);
        if reach != Reach::Silent {
            sleep(round_trip).await;
            reach = self.shared.lock().reach(route);
        }
        let why = match reach {
            Reach::Open => return Ok(()),
            Reach::Refused => "connection refused",
            Reach::Silent => {
                sleep(timeout).await;
                "no answer to an attempt to connect"
            }
        };
        self.shared.lock().connect_failed(route);
        Err(format!("{} -> {}: {why}", name(route.from), name(route.to)))
    }

    /// Waits while `party` is paused.
    pub async fn gate_of(&self, party: Party) {
        poll_fn(|context| {
            let mut state = self.shared.lock();
            if !state.meets_pause(party) {
                return Poll::Ready(());
            }
            state.wait_at_gate(party, context.waker());
            Poll::Pending
        })
        .await;
    }
}

impl Hook for SimNet {
    fn connect(&self, route: Route) -> BoxFuture<Result<(), String>> {
        Box::pin(self.clone().connect_to(route))
    }

    fn outbound(&self, route: Route, frames: Frames) -> Frames {
        Box::pin(Outbound::new(self.shared.clone(), route, frames))
    }

    /// The route is known from the token: a server need not know which client it serves.
    fn inbound(&self, _: Route, frames: Frames) -> Frames {
        Box::pin(Inbound::new(self.shared.clone(), frames))
    }

    fn gate(&self, node: NodeId) -> BoxFuture<()> {
        let net = self.clone();
        Box::pin(async move { net.gate_of(Party::Node(node)).await })
    }

    /// Nodes of different groups have different numbers, by which they are told apart here.
    fn node_at(&self, address: SocketAddr, place: u64) -> NodeId {
        places::at(address).unwrap_or(NodeId(place))
    }

    fn is_paused(&self, node: NodeId) -> bool {
        self.shared.lock().is_paused(Party::Node(node))
    }
}
