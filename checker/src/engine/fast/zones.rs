//! Arranges the chains: forward zones must not overlap, backward zones need an instant outside of them. See the
//! documentation of [`super`].

use crate::engine::fast::chains::{Chains, writes};
use crate::engine::fast::reason::{Span, Why};
use crate::engine::fast::{NONE, Proof, Trouble, View};
use crate::model::{Model, Reveal};

/// When a chain must be, or may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Zone {
    /// The write that it begins with.
    pub(super) root: u32,
    /// The first return, and whose it is.
    pub(super) first_return: u32,
    pub(super) returned: u32,
    /// The last invocation, and whose it is.
    pub(super) last_call: u32,
    pub(super) called: u32,
    /// The read that shows all of its appends.
    pub(super) shown: u32,
}

impl Zone {
    fn is_forward(&self) -> bool {
        self.first_return < self.last_call
    }

    fn span<'v, 'a: 'v, M: Model>(&self, view: &View<'v, 'a, M>) -> Span {
        let Zone { mut root, returned, called, mut shown, .. } = *self;
        // Only a read can tell where an append belongs; it also tells the root.
        let append = |number: u32| number != NONE && matches!(view.reveal(number), Reveal::Appends(_));
        if shown != NONE && (append(returned) || append(called)) {
            root = NONE;
        } else {
            shown = NONE;
        }
        Span { root, returned, called, shown }
    }
}

fn contradiction<'v, 'a: 'v, M: Model>(
    view: &View<'v, 'a, M>,
    chains: &Chains,
    numbers: [u32; 2],
    why: Why,
) -> Trouble {
    let support = numbers.iter().flat_map(|number| writes(view, chains.chain(*number as usize))).collect();
    Trouble::Illegal(Proof { why, support })
}

/// All operations of all chains in order.
pub(super) fn arrange<'v, 'a: 'v, M: Model>(
    view: &View<'v, 'a, M>,
    chains: &Chains,
) -> Result<Vec<u32>, Trouble> {
    let zone = |number: u32| &chains.zones[number as usize];
    let (forward, backward) = by_last_call(view, chains);
    // Where any two overlap, so do two neighbours: of those that begin before some zone ends, the one that ends next.
    if let Some(pair) = forward.windows(2).find(|pair| zone(pair[1]).first_return < zone(pair[0]).last_call) {
        // The content at first is always the one.
        let mut pair = [pair[0], pair[1]];
        pair.sort_unstable_by_key(|number| zone(*number).first_return);
        let why = Why::Overlap { one: zone(pair[0]).span(view), other: zone(pair[1]).span(view) };
        return Err(contradiction(view, chains, pair, why));
    }
    let mut order = Vec::with_capacity(chains.sequence.len());
    let mut add = |number: u32| order.extend_from_slice(chains.chain(number as usize));
    let mut forward = forward.into_iter().peekable();
    let mut outer = None;
    for number in backward {
        let Zone { last_call: start, first_return: end, .. } = *zone(number);
        while let Some(begun) = forward.next_if(|next| zone(*next).first_return < start) {
            add(begun);
            outer = Some(begun);
        }
        // What began before `start` may end behind it: then this goes right behind that, if it can wait so long.
        if let Some(outer) = outer.filter(|outer| end < zone(*outer).last_call) {
            let why = Why::Inside { outer: zone(outer).span(view), inner: zone(number).span(view) };
            return Err(contradiction(view, chains, [outer, number], why));
        }
        add(number);
    }
    forward.for_each(add);
    Ok(order)
}

/// The forward and the backward zones in the order of their last invocations. The operations are in that order already, so
/// it takes no sorting.
fn by_last_call<'v, 'a: 'v, M: Model>(view: &View<'v, 'a, M>, chains: &Chains) -> (Vec<u32>, Vec<u32>) {
    let mut zone_of = vec![NONE; view.operations.len()];
    for (number, zone) in (0..).zip(&chains.zones) {
        // A chain without operations has none.
        if let Some(zone_of) = zone_of.get_mut(zone.called as usize) {
            *zone_of = number;
        }
    }
    let numbers = zone_of.into_iter().filter(|number| *number != NONE);
    numbers.partition(|number| chains.zones[*number as usize].is_forward())
}
