//! The Raft core: a pure state machine that keeps the logs of a group of nodes the same.
//!
//! Sources: Ongaro and Ousterhout, *In Search of an Understandable Consensus Algorithm* (the paper; its figure 2 is
//! the summary), and Ongaro's dissertation, *Consensus: Bridging Theory and Practice*. Rules below name their section.
//!
//! # What a group does
//!
//! Nodes hold a **log** of entries. A **leader** appends entries and sends them to the others; an entry that a majority
//! holds durably is **committed**, and from then on every leader there will ever be holds it. Each node applies
//! committed entries in order to its state machine, so all machines go through the same states.
//!
//! **Terms** number the reigns. A node follows nobody of an earlier term than its own; a message of a later term makes
//! it a follower of that term. In one term a node votes once, so a term has at most one leader (5.2).
//!
//! # Elections
//!
//! A follower that hears no leader for an election timeout asks the others whether they *would* vote for it
//! (pre-vote, dissertation 9.6). Only if a majority would does it raise its term and ask for votes. A voter says yes if
//! it hears no leader itself, has not voted for another in this term, and the candidate's log is at least as up to date
//! as its own (5.4.1). The last rule is why committed entries survive: a majority holds the entry, a majority votes,
//! and the two share a voter who would refuse a log without it.
//!
//! A leader checks once per election timeout that a majority still answers, and steps down if not, so that a
//! leader that was cut off does not go on taking proposals that it can never commit.
//!
//! # Replication
//!
//! An append names the position just before its entries. A follower that does not hold that position refuses and says
//! where its log may part from the leader's; the leader goes back, a whole term at a time, until the logs meet, and
//! from there on its log replaces the follower's (5.3). What a member has acknowledged it holds: a leader never goes back
//! behind it, so a node that lost its disk must not come back under its old name, not even as an empty one. Only a real conflict truncates: an append that comes late and
//! is already contained changes nothing. Once the logs have met, appends go out ahead of their answers, within a window
//! of entries and bytes.
//!
//! An entry is committed when a majority holds it **and it is of the leader's own term**; earlier entries are committed
//! with it. Figure 8 of the paper shows how counting an old entry loses it again. A new leader therefore opens its term
//! with an entry that says nothing.
//!
//! # Leadership transfer
//!
//! An operator may name the next leader (dissertation, section 3.10). The leader takes no more proposals, brings the
//! target up to date and tells it to ask for votes at once; only such a request is heard by those who hear a leader.
//! If the target has not taken over within an election timeout, the leader goes on.
//!
//! # Durability
//!
//! Nothing here waits for a disk. A write leaves as [`Effect::Persist`] and comes back as [`Input::Persisted`]; what
//! must not be said before it is durable is sent with `after` naming the write. So:
//!
//! - a vote, and an acknowledgement of entries, leave after their write;
//! - a leader counts itself, and a candidate its own vote, only once they are durable;
//! - a candidate asks for votes only once its term and its log are durable;
//! - entries are applied only once they are durable here.
//!
//! # Reads
//!
//! A linearizable read needs no entry: it takes the commit index, waits until a majority confirms that this node still
//! leads, and reads the state at that index (dissertation 6.4). The commit index is only right once an entry of the
//! leader's own term is committed. All reads that wait share a round of heartbeats.
//!
//! # Snapshots
//!
//! What the durable state covers is dropped from the log. A follower that needs dropped entries is sent the state
//! instead. The core decides that it happens, the shell moves the bytes; the new state is durable before the log is
//! reset to it (section 7).
//!
//! # Membership
//!
//! Members are part of the log: the latest entry that names them is in force, committed or not, and a truncated one
//! takes its members with it. While a change is under way decisions need a majority of both the old and the new voters
//! (dissertation 4.3); learners get the log and decide nothing. Quorums everywhere are those of [`quorum`].
//!
//! # Not implemented
//!
//! - Entries that change the members: the rules are here, nothing proposes them yet.
//! - Lease reads, on purpose: a paused process serves an expired lease.

mod effect;
mod election;
mod log;
mod membership;
mod message;
mod progress;
pub mod quorum;
#[allow(clippy::module_inception)] // the node of the protocol of that name
mod raft;
mod read;
mod replication;
#[cfg(test)]
mod script;
mod snapshot;
mod transfer;
mod writes;

pub use effect::{Base, Effect, HardState, Input, Persist, Refusal, RequestId, Timer, WriteId};
pub use log::{Log, LogError};
pub use membership::Membership;
pub use message::{Body, ENTRY_OVERHEAD_BYTES, Entry, Message, Payload, Position};
pub use progress::{Flow, Inflight, Progress, Window};
pub use raft::{Config, Leader, Raft, Role};
pub use read::Reads;
pub use transfer::Transfer;
