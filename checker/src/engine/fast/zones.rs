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
    let numbers = 0..chains.zones.len() as u32;
    let (mut forward, mut backward): (Vec<u32>, Vec<u32>) = numbers
        .filter(|number| !chains.chain(*number as usize).is_empty())
        .partition(|number| zone(*number).is_forward());
    forward.sort_unstable_by_key(|number| (zone(*number).first_return, *number));
    if let Some(pair) = forward.windows(2).find(|pair| zone(pair[1]).first_return < zone(pair[0]).last_call) {
        let why = Why::Overlap { one: zone(pair[0]).span(view), other: zone(pair[1]).span(view) };
        return Err(contradiction(view, chains, [pair[0], pair[1]], why));
    }
    backward.sort_unstable_by_key(|number| (zone(*number).last_call, *number));
    // Each chain with the instant at which it begins.
    let mut instants: Vec<(u32, u32)> = Vec::with_capacity(forward.len() + backward.len());
    let mut next = 0;
    for number in backward {
        let (start, end) = (zone(number).last_call, zone(number).first_return);
        while forward.get(next).is_some_and(|outer| zone(*outer).last_call <= start) {
            next += 1;
        }
        let around = forward.get(next).filter(|outer| zone(**outer).first_return < start);
        let instant = match around {
            Some(outer) if end < zone(*outer).last_call => {
                let why = Why::Inside { outer: zone(*outer).span(view), inner: zone(number).span(view) };
                return Err(contradiction(view, chains, [*outer, number], why));
            }
            Some(outer) => zone(*outer).last_call,
            None => start,
        };
        instants.push((instant, number));
    }
    instants.extend(forward.iter().map(|number| (zone(*number).first_return, *number)));
    instants.sort_unstable();
    let mut order = Vec::with_capacity(chains.sequence.len());
    for (_, number) in instants {
        order.extend_from_slice(chains.chain(number as usize));
    }
    Ok(order)
}
