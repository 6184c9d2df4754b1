//! The fast paths: partitions whose operations all write, append to or read the whole content need no search.
//!
//! # Epochs
//!
//! A write starts an *epoch*, which lasts until the next write; the content at first starts one too. If every read tells
//! which write it descends from, and which appends came between, then every epoch is a *chain* that is known: its root,
//! the appends that some read shows, in order, and each read behind the last of the appends that it shows. Three cases:
//! unique writes without appends have chains of reads only (the *zones* of Gibbons and Korach); appends without writes
//! are a single chain, of the epoch at first (a *sweep*); both together are the general case (*blocks*).
//!
//! **A chain by itself.** Walk along it with `t`, the latest invocation so far. If an operation returned before `t`, then
//! one that must come before it was invoked after it had returned: a contradiction, of these two and whatever shows their
//! order. Otherwise let `f` be the first return in the chain and `s` the last invocation. The instants `max(f, t)` are in
//! order and inside all intervals: not before the invocation because of `t`, not after the return because `t` was compared
//! with it and `f` is the least of all returns. If `f < s` these instants fill exactly `[f, s]` (a *forward zone*).
//! Otherwise any one instant of `[s, f]` will do for the whole chain (a *backward zone*).
//!
//! **Chains together.** Another write between two operations of a chain would end the epoch, and an append that no read of
//! the epoch shows would be shown by the reads and appends behind it. So chains are contiguous; an append that nobody
//! read is a chain of its own, which can go behind any chain, since nothing of that epoch follows. A forward zone needs an
//! instant at or before `f` and another at or after `s`: so two forward zones must not overlap, and a backward zone must
//! not lie wholly inside a forward one. If neither is the case, every backward zone has an instant that is inside no
//! forward zone, and the chains in the order of these instants are a linearization. The epoch at first has `f` before all
//! events, so it comes first. Writes and appends of unknown outcome that nobody read are left out.
//!
//! # What is believed
//!
//! An order is replayed against the model before it is handed out. A contradiction is only told if no choice was made on
//! the way: where a write or an append might be one of several, the best guess is tried, and if it fails, the partition
//! is searched. What a contradiction is about ([`Proof`]) is small, and impossible whatever else is in the history:
//! leaving out reads, whole epochs, and appends that nobody read keeps a history linearizable.

mod chains;
mod reason;
mod sources;
mod zones;

use crate::engine::OperationOf;
use crate::engine::part::Part;
use crate::model::Model;

pub(crate) use crate::engine::fast::reason::Why;

/// No operation.
const NONE: u32 = u32::MAX;

/// The return of an operation that never returned.
const INFINITY: u32 = u32::MAX;

/// Histories with more events are left to the search.
const INSTANTS_MAX: u32 = u32::MAX / 4;

/// About what the fast paths need for each operation.
pub(crate) const BYTES_PER_OPERATION: usize = 64;

/// What the fast paths say about a partition.
pub(crate) enum Fast {
    /// An order, by place in the partition. It has not been replayed.
    Order(Vec<u32>),
    /// A contradiction.
    Illegal(Proof),
    /// Nothing.
    Silent,
}

/// A contradiction: operations by place in the partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proof {
    /// What is wrong, which names the few operations that it is about.
    pub(crate) why: Why,
    /// What makes the contents that were read: with these the contradiction stands on its own.
    pub(crate) support: Vec<u32>,
}

/// The fast paths have nothing to say.
struct NotApplicable;

enum Trouble {
    NotApplicable,
    Illegal(Proof),
}

impl From<NotApplicable> for Trouble {
    fn from(_: NotApplicable) -> Trouble {
        Trouble::NotApplicable
    }
}

/// A partition up to some event: what returns later is of unknown outcome.
pub(crate) struct View<'v, 'a, M: Model> {
    model: &'v M,
    operations: Part<'v, 'a, M>,
    /// The instants of the invocation and the return of each operation: most of what is asked for, close together.
    times: Vec<(u32, u32)>,
}

impl<'v, 'a, M: Model> View<'v, 'a, M> {
    /// What was known when event `limit` was about to happen.
    pub(crate) fn new(model: &'v M, part: Part<'v, 'a, M>, limit: usize) -> Self {
        let operations = part.invoked_before(limit);
        let instant = |event: usize| u32::try_from(event.saturating_add(1)).unwrap_or(INFINITY);
        let back = |operation: &OperationOf<M>| match operation.returned() {
            Some(returned) if returned.event < limit => instant(returned.event),
            _ => INFINITY,
        };
        let times = operations.iter().map(|operation| (instant(operation.invoked.event), back(operation)));
        View { model, operations, times: times.collect() }
    }

    fn numbers(&self) -> std::ops::Range<u32> {
        0..self.operations.len() as u32
    }

    /// The instant of the invocation; 0 is before all events.
    fn call(&self, number: u32) -> u32 {
        self.times[number as usize].0
    }

    /// The instant of the return.
    fn back(&self, number: u32) -> u32 {
        self.times[number as usize].1
    }

    #[inline(always)]
    fn reveal(&self, number: u32) -> crate::model::Reveal<'v>
    where
        'a: 'v,
    {
        let operation: &'v OperationOf<M> = self.operations.get(number as usize);
        let ret = operation.ret().filter(|_| self.back(number) != INFINITY);
        self.model.reveal(&operation.op, ret)
    }

    /// A read that nobody knows the answer of constrains nothing.
    fn is_idle(&self, number: u32) -> bool {
        let operation = self.operations.get(number as usize);
        self.back(number) == INFINITY
            && self.model.class(&operation.op, None) == crate::model::Class::ReadOnly
    }

    /// Applies whatever applies.
    pub(crate) fn decide(&self) -> Fast {
        if self.times.last().is_some_and(|(call, _)| *call >= INSTANTS_MAX) {
            return Fast::Silent;
        }
        match chains::decide(self) {
            Ok(order) => Fast::Order(order),
            Err(Trouble::NotApplicable) => Fast::Silent,
            Err(Trouble::Illegal(proof)) => Fast::Illegal(proof),
        }
    }

    /// The last event of what a contradiction is about.
    fn last_return(&self, proof: &Proof) -> usize {
        let returns = proof.why.core().into_iter().map(|number| self.back(number));
        returns.filter(|back| *back != INFINITY).max().map_or(0, |back| back as usize - 1)
    }

    /// The contradiction at the first return that makes the partition impossible, and the number of that event. `proof`
    /// is a contradiction in the whole view.
    ///
    /// A contradiction stays one when more is known, so the first return can be found by halving; most often it is the
    /// last return that `proof` is about, or close to it, so the search starts there.
    pub(crate) fn first_violation(&self, mut proof: Proof) -> (Proof, usize) {
        let mut returns: Vec<usize> =
            self.operations.iter().filter_map(|operation| operation.returned()).map(|at| at.event).collect();
        returns.sort_unstable();
        let place_of = |event: usize| returns.partition_point(|other| *other < event);
        // Before the return with the number `low` there is no contradiction; up to and with `high` there is one.
        let (mut low, mut high) = (0, place_of(self.last_return(&proof)));
        let (mut stride, mut galloping) = (1, true);
        while low < high {
            let probe = high - stride;
            let view = View::new(self.model, self.operations, returns[probe] + 1);
            if let Fast::Illegal(found) = view.decide() {
                high = place_of(view.last_return(&found)).clamp(low, probe);
                stride *= 2;
                proof = found;
            } else {
                low = probe + 1;
                galloping = false;
            }
            if !galloping || low + stride > high {
                stride = (high - low).div_ceil(2);
            }
        }
        (proof, returns.get(high).copied().unwrap_or(0))
    }
}
