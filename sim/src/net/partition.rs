//! Who cannot hear whom.

use std::collections::BTreeSet;

use eraft::replica::link::Party;

/// Some parties.
pub type Parties = BTreeSet<Party>;

/// A way to cut links. A party that none of its sets names is not affected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Partition {
    /// Neither side hears the other.
    Symmetric {
        /// The one side.
        left: Parties,
        /// The other side.
        right: Parties,
    },
    /// What `from` says does not reach `to`; the way back is open.
    OneWay {
        /// Who is not heard.
        from: Parties,
        /// Who does not hear.
        to: Parties,
    },
    /// Neither side hears the other, and `bridge` hears and is heard by both, even if it is named in a side.
    Bridge {
        /// The one side.
        left: Parties,
        /// The party that sees both.
        bridge: Party,
        /// The other side.
        right: Parties,
    },
    /// Everyone hears a majority, its neighbours on the ring, and (from five on) no two the same majority.
    MajorityRing(
        /// The ring, in order.
        Vec<Party>,
    ),
    /// The party hears nobody and nobody hears it, whoever they are.
    Isolate(Party),
    /// Nobody hears the party; it hears everybody.
    Mute(Party),
    /// The party hears nobody; everybody hears it.
    Deafen(Party),
}

impl Partition {
    /// Does it cut the way from `from` to `to`?
    pub fn cuts(&self, from: Party, to: Party) -> bool {
        if from == to {
            return false;
        }
        let across = |left: &Parties, right: &Parties| left.contains(&from) && right.contains(&to);
        match self {
            Self::Symmetric { left, right } => across(left, right) || across(right, left),
            Self::OneWay { from, to } => across(from, to),
            Self::Bridge { left, bridge, right } => {
                from != *bridge && to != *bridge && (across(left, right) || across(right, left))
            }
            Self::MajorityRing(ring) => cuts_ring(ring, from, to),
            Self::Isolate(party) => from == *party || to == *party,
            Self::Mute(party) => from == *party,
            Self::Deafen(party) => to == *party,
        }
    }
}

/// Links stay between parties that are at most `reach` apart; of three or fewer, only the first and last are parted.
fn cuts_ring(ring: &[Party], from: Party, to: Party) -> bool {
    let place = |party| ring.iter().position(|member| *member == party);
    let (Some(from), Some(to)) = (place(from), place(to)) else { return false };
    let apart = from.abs_diff(to);
    if ring.len() <= 3 {
        return ring.len() == 3 && apart == 2;
    }
    let neighbours = ring.len() / 2;
    let reach = neighbours.div_ceil(2);
    apart.min(ring.len() - apart) > reach
}

#[cfg(test)]
mod tests {
    use super::*;
    use eraft::types::NodeId;

    fn node(number: u64) -> Party {
        Party::Node(NodeId(number))
    }

    fn nodes(numbers: impl IntoIterator<Item = u64>) -> Parties {
        numbers.into_iter().map(node).collect()
    }

    #[test]
    fn a_symmetric_partition_parts_two_sides_and_nobody_else() {
        let parted = Partition::Symmetric { left: nodes([1, 2]), right: nodes([3]) };
        assert!(parted.cuts(node(1), node(3)) && parted.cuts(node(3), node(2)));
        assert!(!parted.cuts(node(1), node(2)) && !parted.cuts(node(1), Party::Client(3)));
    }

    #[test]
    fn one_way_mute_and_deafen_leave_the_way_back() {
        let one_way = Partition::OneWay { from: nodes([1]), to: nodes([2]) };
        assert!(one_way.cuts(node(1), node(2)) && !one_way.cuts(node(2), node(1)));
        assert!(Partition::Mute(node(1)).cuts(node(1), Party::Client(9)));
        assert!(!Partition::Mute(node(1)).cuts(Party::Client(9), node(1)));
        assert!(Partition::Deafen(node(1)).cuts(Party::Client(9), node(1)));
        assert!(!Partition::Deafen(node(1)).cuts(node(1), node(2)));
    }

    #[test]
    fn a_bridge_sees_both_sides() {
        let parted = Partition::Bridge { left: nodes([1, 2, 3]), bridge: node(3), right: nodes([4, 5]) };
        assert!(parted.cuts(node(1), node(4)) && parted.cuts(node(5), node(2)));
        assert!(!parted.cuts(node(3), node(4)) && !parted.cuts(node(1), node(3)));
    }

    #[test]
    fn on_a_majority_ring_everyone_sees_a_majority_and_nobody_sees_all() {
        for size in 3..=9u64 {
            let ring = Partition::MajorityRing((1..=size).map(node).collect());
            let seen = |one| -> Vec<u64> {
                (1..=size).filter(|other| !ring.cuts(node(one), node(*other))).collect()
            };
            let views: BTreeSet<_> = (1..=size).map(seen).collect();
            assert!(views.iter().all(|view| view.len() as u64 > size / 2), "{size}: {views:?}");
            assert!(views.iter().any(|view| (view.len() as u64) < size), "{size}: nothing is cut");
            assert!(size < 5 || views.len() as u64 == size, "{size}: two see the same: {views:?}");
        }
    }

    #[test]
    fn isolation_reaches_parties_that_nobody_named() {
        let alone = Partition::Isolate(Party::Client(4));
        assert!(alone.cuts(Party::Client(4), node(77)) && alone.cuts(node(77), Party::Client(4)));
        assert!(!alone.cuts(node(1), node(77)));
    }
}
