//! Makes the chain of every epoch, and walks along it. See the documentation of [`super`].

use crate::engine::fast::reason::Why;
use crate::engine::fast::sources::{Root, Sources, begins_with, length};
use crate::engine::fast::zones::{Zone, arrange};
use crate::engine::fast::{INFINITY, NONE, NotApplicable, Proof, Trouble, View};
use crate::model::{Content, Model, Reveal};

/// The operations of all chains, one chain after the other.
pub(super) struct Chains {
    pub(super) zones: Vec<Zone>,
    /// The operations of the chain with the number `n` are `sequence[ends[n - 1]..ends[n]]`.
    pub(super) sequence: Vec<u32>,
    pub(super) ends: Vec<u32>,
}

impl Chains {
    pub(super) fn chain(&self, number: usize) -> &[u32] {
        let start = if number == 0 { 0 } else { self.ends[number - 1] as usize };
        &self.sequence[start..self.ends[number] as usize]
    }
}

/// An order of the view's operations, or why there is none.
pub(super) fn decide<'v, 'a: 'v, M: Model>(view: &View<'v, 'a, M>) -> Result<Vec<u32>, Trouble> {
    let sources = Sources::new(view)?;
    let mut guessed = false;
    let made = make(view, &sources, &mut guessed).and_then(|chains| arrange(view, &chains));
    match made {
        Err(Trouble::Illegal(_)) if guessed => Err(Trouble::NotApplicable),
        made => made,
    }
}

fn illegal<T>(why: Why) -> Result<T, Trouble> {
    Err(Trouble::Illegal(Proof { why, support: Vec::new() }))
}

fn content_read<'v, 'a: 'v, M: Model>(view: &View<'v, 'a, M>, number: u32) -> Content<'v> {
    match view.reveal(number) {
        Reveal::Reads(content) => content,
        _ => Content::Absent,
    }
}

/// The reads of each epoch, in the order of their invocations, and where those of each epoch end.
fn group<'v, 'a: 'v, M: Model>(
    view: &View<'v, 'a, M>,
    sources: &Sources<'v>,
    guessed: &mut bool,
) -> Result<(Vec<u32>, Vec<u32>), Trouble> {
    let mut epochs = vec![NONE; view.operations.len()];
    let mut ends = vec![0_u32; sources.roots.len()];
    for number in view.numbers() {
        let Reveal::Reads(content) = view.reveal(number) else { continue };
        if view.back(number) == INFINITY {
            continue;
        }
        let epoch = match sources.root_of(view, number, content)? {
            Root::Epoch(epoch) => epoch,
            Root::Perhaps(epoch) => {
                *guessed = true;
                epoch
            }
            Root::Nowhere => return illegal(Why::NeverWritten { read: number }),
        };
        epochs[number as usize] = epoch;
        ends[epoch as usize] += 1;
    }
    let mut total = 0;
    for end in &mut ends {
        total += std::mem::replace(end, total);
    }
    let mut reads = vec![0; total as usize];
    for (number, epoch) in epochs.iter().enumerate().filter(|(_, epoch)| **epoch != NONE) {
        let place = &mut ends[*epoch as usize];
        reads[*place as usize] = number as u32;
        *place += 1;
    }
    Ok((reads, ends))
}

fn make<'v, 'a: 'v, M: Model>(
    view: &View<'v, 'a, M>,
    sources: &Sources<'v>,
    guessed: &mut bool,
) -> Result<Chains, Trouble> {
    let (reads, read_ends) = group(view, sources, guessed)?;
    let count = sources.roots.len();
    let mut chains = Chains {
        zones: Vec::with_capacity(count),
        sequence: Vec::with_capacity(view.operations.len()),
        ends: Vec::with_capacity(count),
    };
    let mut placed = if sources.has_appends() { vec![false; view.operations.len()] } else { Vec::new() };
    let mut first = 0;
    for epoch in 0..count {
        let read_here = &reads[first..read_ends[epoch] as usize];
        first = read_ends[epoch] as usize;
        let start = chains.sequence.len();
        let root = sources.roots[epoch];
        if root != NONE && (view.back(root) != INFINITY || !read_here.is_empty()) {
            chains.sequence.push(root);
        }
        let mut longest = NONE;
        if sources.has_appends() {
            longest =
                lay_out(view, sources, epoch as u32, read_here, &mut placed, guessed, &mut chains.sequence)?;
        } else {
            chains.sequence.extend_from_slice(read_here);
        }
        walk(view, &chains.sequence[start..], root, longest, &mut chains.zones)?;
        chains.ends.push(chains.sequence.len() as u32);
    }
    // What nobody read goes anywhere, but it goes somewhere.
    for number in view.numbers().filter(|number| placed.get(*number as usize) == Some(&false)) {
        if matches!(view.reveal(number), Reveal::Appends(_)) && view.back(number) != INFINITY {
            chains.sequence.push(number);
            walk(view, &[number], NONE, NONE, &mut chains.zones)?;
            chains.ends.push(chains.sequence.len() as u32);
        }
    }
    Ok(chains)
}

/// Puts the appends and reads of an epoch into the order that the contents tell. Returns the read that shows most.
fn lay_out<'v, 'a: 'v, M: Model>(
    view: &View<'v, 'a, M>,
    sources: &Sources<'v>,
    epoch: u32,
    reads: &[u32],
    placed: &mut [bool],
    guessed: &mut bool,
    sequence: &mut Vec<u32>,
) -> Result<u32, Trouble> {
    let Some(longest) = reads
        .iter()
        .copied()
        .max_by_key(|read| (length(content_read(view, *read)), std::cmp::Reverse(*read)))
    else {
        return Ok(NONE);
    };
    let content = content_read(view, longest);
    let from = sources.root_length(view, epoch);
    let Some(parts) = sources.take_apart(view, content, from)? else {
        return illegal(Why::NeverWritten { read: longest });
    };
    if epoch == 0 && !begins_with(content, sources.initial) {
        return illegal(Why::NeverWritten { read: longest });
    }
    // The reads by how many appends they show.
    let mut by_position: Vec<(u32, u32)> = Vec::with_capacity(reads.len());
    for read in reads {
        let shown = content_read(view, *read);
        if !begins_with(content, shown) {
            return illegal(Why::Apart { one: longest, other: *read });
        }
        let position = match length(shown) {
            short if short <= from => 0,
            long => match parts.binary_search_by_key(&long, |(_, end)| *end) {
                Ok(part) => part as u32 + 1,
                Err(_) => return illegal(Why::NeverWritten { read: *read }),
            },
        };
        by_position.push((position, *read));
    }
    by_position.sort_unstable();
    let appends = choose(view, sources, epoch, &parts, &by_position, placed, guessed, longest)?;
    let mut reads = by_position.into_iter().peekable();
    for position in 0..=appends.len() {
        if position > 0 {
            sequence.push(appends[position - 1]);
        }
        while let Some((_, read)) = reads.next_if(|(at, _)| *at as usize == position) {
            sequence.push(read);
        }
    }
    Ok(longest)
}

/// Which append each token is. Where several would do, the one that returns first among those that fit between the
/// operations around it; that is a guess.
#[allow(clippy::too_many_arguments, reason = "all of them are the epoch")]
fn choose<'v, 'a: 'v, M: Model>(
    view: &View<'v, 'a, M>,
    sources: &Sources<'v>,
    epoch: u32,
    parts: &[(u32, usize)],
    reads: &[(u32, u32)],
    placed: &mut [bool],
    guessed: &mut bool,
    longest: u32,
) -> Result<Vec<u32>, Trouble> {
    let mut chosen = vec![NONE; parts.len()];
    let mut unclear = false;
    for (place, (first, _)) in parts.iter().enumerate() {
        if sources.same(*first).nth(1).is_some() {
            unclear = true;
        } else if std::mem::replace(&mut placed[*first as usize], true) {
            return illegal(Why::Twice { append: *first, read: longest });
        } else {
            chosen[place] = *first;
        }
    }
    if !unclear {
        return Ok(chosen);
    }
    *guessed = true;
    // For each position the first return at or behind it, and the last invocation of the reads right at it.
    let mut latest = vec![INFINITY; parts.len() + 1];
    let mut called = vec![0; parts.len() + 1];
    for (position, read) in reads {
        let position = *position as usize;
        latest[position] = latest[position].min(view.back(*read));
        called[position] = called[position].max(view.call(*read));
    }
    for place in (0..parts.len()).rev() {
        let own = if chosen[place] == NONE { INFINITY } else { view.back(chosen[place]) };
        latest[place] = latest[place].min(latest[place + 1]).min(own);
    }
    let root = sources.roots[epoch as usize];
    let mut earliest = if root == NONE { 0 } else { view.call(root) }.max(called[0]);
    for (place, (first, _)) in parts.iter().enumerate() {
        if chosen[place] == NONE {
            let fits = |number: &u32| {
                !placed[*number as usize]
                    && view.back(*number) >= earliest
                    && view.call(*number) <= latest[place + 1]
            };
            let best = sources.same(*first).filter(fits).min_by_key(|number| (view.back(*number), *number));
            let best = best.ok_or(NotApplicable)?;
            placed[best as usize] = true;
            chosen[place] = best;
        }
        earliest = earliest.max(view.call(chosen[place])).max(called[place + 1]);
    }
    Ok(chosen)
}

/// Walks along a chain: each operation must be able to come after all before it. Adds the zone.
fn walk<'v, 'a: 'v, M: Model>(
    view: &View<'v, 'a, M>,
    chain: &[u32],
    root: u32,
    shown: u32,
    zones: &mut Vec<Zone>,
) -> Result<(), Trouble> {
    // The first zone begins before all events.
    let (mut first_return, mut returned) = (if zones.is_empty() { 0 } else { INFINITY }, NONE);
    let (mut last_call, mut called) = (0, NONE);
    for number in chain {
        let (call, back) = (view.call(*number), view.back(*number));
        if call > last_call {
            (last_call, called) = (call, *number);
        }
        if back < last_call {
            let why = Why::Backwards { before: called, after: *number, root, shown };
            return Err(Trouble::Illegal(Proof { why, support: writes(view, chain) }));
        }
        if back < first_return {
            (first_return, returned) = (back, *number);
        }
    }
    zones.push(Zone { root, first_return, returned, last_call, called, shown });
    Ok(())
}

/// What makes the contents of a chain.
pub(super) fn writes<'v, 'a: 'v, M: Model>(view: &View<'v, 'a, M>, chain: &[u32]) -> Vec<u32> {
    let write = |number: &u32| !matches!(view.reveal(*number), Reveal::Reads(_));
    chain.iter().copied().filter(write).collect()
}
