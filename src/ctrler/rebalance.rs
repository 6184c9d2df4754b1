//! Which group gets which shard: a pure function of where the shards are and which groups there are.
//!
//! The rule, exactly. Of all ways to give each shard to one of the groups, pinned ones where they are pinned:
//! 1. the **most level** one: the largest number of shards at a group is as small as can be, then the second
//!    largest, and so on. Without pins every group has the floor or the ceiling of its fair share; a group that has
//!    more than that in pins alone has only its pins, and the others share the rest alike;
//! 2. among those the one with the **fewest moves** away from where the shards are at home;
//! 3. among those the one in which the **lowest groups** have the larger shares;
//! 4. among those the one that gives the **lowest shards** to the lowest groups: as a sequence of group ids by shard
//!    it is the smallest.
//!
//! So the result is unique: it depends on no order of arrival, and every replica finds the same.

use std::collections::{BTreeMap, BTreeSet};

use crate::types::GroupId;

/// What one shard brings along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seat {
    /// It must be at this group, which is joined.
    Pinned(GroupId),
    /// Its data is at this group, if at any; the group need not be joined.
    Free(Option<GroupId>),
}

/// The owner of each shard in `seats`; `None` for all of them if there are no groups.
pub(super) fn assign(seats: &[Seat], groups: &BTreeSet<GroupId>) -> Vec<Option<GroupId>> {
    if groups.is_empty() {
        return vec![None; seats.len()];
    }
    let mut tallies = count(seats, groups);
    share_out(&mut tallies, seats.len());
    hand_out(seats, &mut tallies)
}

/// The numbers of one group.
#[derive(Clone, Debug, Default)]
struct Tally {
    /// Shards that are pinned to it.
    pinned: usize,
    /// Shards that are at home there and free to go.
    free: usize,
    /// How many free shards it is to have.
    wanted: usize,
}

fn count(seats: &[Seat], groups: &BTreeSet<GroupId>) -> BTreeMap<GroupId, Tally> {
    let mut tallies: BTreeMap<_, _> = groups.iter().map(|group| (*group, Tally::default())).collect();
    for seat in seats {
        match seat {
            Seat::Pinned(group) => tallies.get_mut(group).expect("pins are at joined groups").pinned += 1,
            Seat::Free(Some(group)) => {
                if let Some(tally) = tallies.get_mut(group) {
                    tally.free += 1;
                }
            }
            Seat::Free(None) => {}
        }
    }
    tallies
}

/// Rules 1 to 3: how many shards each group is to have.
fn share_out(tallies: &mut BTreeMap<GroupId, Tally>, shards: usize) {
    // Like water that is poured over a floor of different heights, the pins.
    let filled_to = |level: usize| tallies.values().map(|tally| tally.pinned.max(level)).sum::<usize>();
    let (mut level, mut too_high) = (0, shards + 1);
    while too_high - level > 1 {
        let middle = level.midpoint(too_high);
        if filled_to(middle) <= shards { level = middle } else { too_high = middle }
    }
    let rest = shards - filled_to(level);
    for tally in tallies.values_mut() {
        tally.wanted = level.saturating_sub(tally.pinned);
    }
    // The rest is one more for some of those that are at the level; who has one to spare keeps it.
    let mut takers: Vec<_> = tallies.iter_mut().filter(|(_, tally)| tally.pinned <= level).collect();
    takers.sort_by_key(|(group, tally)| (tally.free <= tally.wanted, **group));
    assert!(rest < takers.len(), "the level could be higher");
    for (_, tally) in takers.into_iter().take(rest) {
        tally.wanted += 1;
    }
}

/// Rule 4: each shard in turn goes to the lowest group that the numbers allow. A group keeps as many of its own as it
/// wants, gives the others away, and takes strangers only for the rest; these counts do not depend on one another, so
/// no choice made for one shard spoils that of another.
fn hand_out(seats: &[Seat], tallies: &mut BTreeMap<GroupId, Tally>) -> Vec<Option<GroupId>> {
    let mut keeps = BTreeMap::new();
    let mut gives = BTreeMap::new();
    let mut rooms = BTreeMap::new();
    for (group, tally) in tallies.iter() {
        let kept = tally.free.min(tally.wanted);
        keeps.insert(*group, kept);
        gives.insert(*group, tally.free - kept);
        rooms.insert(*group, tally.wanted - kept);
    }
    let take = |rooms: &mut BTreeMap<GroupId, usize>| {
        let (group, room) = rooms.iter_mut().find(|(_, room)| **room > 0).expect("room for every shard");
        *room -= 1;
        *group
    };
    let mut owners = Vec::with_capacity(seats.len());
    for seat in seats {
        let owner = match seat {
            Seat::Pinned(group) => *group,
            Seat::Free(home) => match home.filter(|home| tallies.contains_key(home)) {
                None => take(&mut rooms),
                Some(home) => {
                    rooms.retain(|_, room| *room > 0);
                    let (keep, give) = (keeps[&home], gives[&home]);
                    let lower = rooms.first_key_value().is_some_and(|(group, _)| *group < home);
                    if give > 0 && (keep == 0 || lower) {
                        gives.insert(home, give - 1);
                        take(&mut rooms)
                    } else {
                        keeps.insert(home, keep - 1);
                        home
                    }
                }
            },
        };
        owners.push(Some(owner));
    }
    owners
}
