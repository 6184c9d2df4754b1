//! Decides whether a recorded history is *linearizable*.
//!
//! Clients of a system ask for operations and are answered, many at the same time. The history is linearizable if one can
//! choose for each operation an instant between its invocation and its return so that a single sequential object, asked in
//! the order of these instants, would have given the same answers. An operation whose outcome is unknown (a timeout) may
//! take effect at any instant after its invocation, or never.
//!
//! # Use
//!
//! [`check_jsonl`] reads and checks a history in the project's format; [`read_history`] also reads two others; [`check()`]
//! takes a [`History`] made by a [`HistoryBuilder`] and any [`Model`]. A counter, for example:
//!
//! ```
//! use eraft_checker::{HistoryBuilder, Model, Options, Verdict, check};
//!
//! #[derive(Clone)]
//! struct Counter;
//!
//! #[derive(Clone, Debug, PartialEq, Eq, Hash)]
//! enum Op { Add(u32), Read }
//!
//! impl Model for Counter {
//!     type State = u32;
//!     type Op = Op;
//!     type Ret = u32; // What is read; 0 for an add.
//!     type Key = (); // One counter: a single partition.
//!
//!     fn init(&self) -> u32 { 0 }
//!
//!     fn step(&self, state: &u32, op: &Op, ret: Option<&u32>) -> Option<u32> {
//!         match op {
//!             Op::Add(amount) => Some(state + amount),
//!             Op::Read => ret.is_none_or(|read| read == state).then_some(*state),
//!         }
//!     }
//! }
//!
//! let mut events = HistoryBuilder::new();
//! events.invoke(1, Op::Add(5), 1, None)?;
//! events.info(1)?; // A timeout: nobody knows whether 5 was added.
//! for (line, read) in [(2, 0), (4, 5), (6, 0)] {
//!     events.invoke(2, Op::Read, line, None)?;
//!     events.ok(2, read, None, line + 1, None)?;
//! }
//! let report = check(&Counter, &events.finish(), &Options::default());
//! assert_eq!(report.verdict, Verdict::Violation); // 5 cannot be taken back.
//! assert_eq!(report.core[0].invoked_line, 6);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How it works
//!
//! The history is split by [`Model::key`]; parts that do not touch each other's state can be ordered one by one, and
//! their orders merged by time.
//!
//! Most parts need no search. If the answers carry the log index at which each operation took effect, that order is replayed,
//! and if it explains everything, that is proof. If every operation writes, appends to, or reads the whole content, and the
//! contents tell them apart ([`Model::reveal`]), then each read says which write it descends from and which appends came
//! between; all operations of one content must be together, and whether these groups can be put in an order is decided by
//! sorting them. Then a violation is told by two to six operations that contradict each other.
//!
//! For any other part the search walks over the events and keeps a set of *configurations*: a
//! state, and which of the open operations have been *placed* (have had their instant). At an invocation the operation
//! becomes open. At a return, every configuration in which the operation is not placed is extended by all sequences of
//! open operations that end with it; those that cannot be extended are dropped, and if none is left the history is not
//! linearizable. Placing operations this late (*just in time*) loses nothing: an instant may be moved to just before the
//! next return, together with all instants in between and in the same order, since no operation returns in between and
//! all that are moved were invoked before.
//!
//! Sets of configurations explode, so some are left out. Each time the reason is that two instants can be exchanged:
//!
//! - **Eager reads.** An operation of class [`Class::ReadOnly`] that is legal in a configuration is placed there and then.
//!   If a linearization goes on from here and places it later, move its instant here: it is legal here, nothing changes
//!   for what comes in between, because a read leaves the state alone, and nothing changes where it was, for the same
//!   reason. A read of unknown outcome constrains nothing and is left out of the search.
//! - **Free operations.** An operation is free if it is not placed and need not be. Operations of unknown outcome are, from
//!   the start. And when a [`Class::BlindWrite`] is placed, every other open blind write becomes free: if nothing else
//!   places it, its instant is just before the one that was placed, where it is legal, as it is everywhere, and is
//!   overwritten before anybody sees it.
//! - **Dominance.** Of two configurations in the same state, one may be able to go on in every way that the other can; the
//!   other is dropped. That is so if it has free whatever non-read is not the same in both, for a free operation can be
//!   placed where the other places it and dropped where the other has none left to place; and has placed every read that
//!   the other has placed, for a read that is placed already is left out where the other places it.
//! - **Twins.** Of two open operations with equal request and answer, or two blind writes that lead to the same state, the
//!   one that returns first is placed first: if it
//!   comes later in a linearization, exchange the two; it comes earlier than before, but both are open, and the other later
//!   than before, but before the return of the first and so before its own. If the linearization drops the first one, then
//!   it was free. Either the outcomes of both are unknown, and the second can be dropped in its stead; or both are blind
//!   writes, and placing the first makes the second free.
//! - **Unseen writes.** Behind a [`Class::BlindWrite`] that no read saw, no other one is placed next: without the first the
//!   state is the same, and the first is free. The same is true behind a free operation that no read saw, and a free
//!   operation other than a blind write is not placed where it changes nothing.
//! - **Focus.** [`Model::focus`] merges states that no operation of the part can ever tell apart. For the store these are
//!   the values that are not a prefix of anything that is read or compared with; see [`models::kv`].
//!
//! If the set becomes wide all the same, a second search takes turns with the first: it places the same operations at the
//! same instants, but follows one configuration to the end before it looks at others (*depth first*), and remembers for
//! each return what it tried there. The first answer counts; the turns are counted in steps, so it is always the same.
//!
//! [`Online`] does the same while the history is being recorded, and keeps no more than the frontier and what is open.
//!
//! [`minimize`] makes a violation small; [`verify`] checks the order that [`linearize`] gives, in linear time.
//!
//! No answer depends on these arguments alone. "Linearizable" is told only after an order of the operations has been
//! replayed from scratch against the model; the tests compare both verdicts with brute force and with another checker, on
//! thousands of random histories. A search that costs more than [`Options`] allow is *undecided*, never a verdict.

pub mod check;
mod engine;
mod evidence;
pub mod generate;
pub mod history;
mod minimize;
pub mod model;
pub mod models;
pub mod online;
mod partition;
mod picture;
mod read;
pub mod report;
pub mod value;
mod verify;
mod witness;

pub use check::{Options, check, linearize};
pub use history::{History, HistoryBuilder, Operation, Outcome};
pub use minimize::minimize;
pub use model::{Class, Content, Model, Reveal};
pub use models::ModelKind;
pub use online::{Online, OnlineOptions};
pub use picture::{Interval, html, picture};
pub use read::event::{Event, EventType, FieldError, Wire};
pub use read::jsonl::write_jsonl;
pub use read::lines::Malformed;
pub use read::{AnyHistory, Format, check_jsonl, follow_jsonl, read_history};
pub use report::{Evidence, Report, Role, Verdict};
pub use value::Value;
pub use verify::{Flaw, verify};
pub use witness::WITNESS_FORMAT;
