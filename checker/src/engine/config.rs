//! Configurations: what may be true after some of the events.
//!
//! A configuration says that the operations that returned so far have been put in an order, together with some of those
//! that are open; it keeps the state after that order and, of the open operations, which are in it.
//!
//! An open operation that is not in the order may be *free*: then it has a place already that nobody would notice (see
//! the crate's documentation), so it may return without being placed anywhere else; or it need not take effect at all.
//!
//! Configuration `a` *dominates* `b` if whatever completes `b` completes `a`. With equal states, `a` dominates `b` if
//! - every open operation that is not a read stands the same in both, or is free in `a`: where `b`'s completion places
//!   it, `a`'s can; where `b` has placed it already or drops it, `a` drops it; and
//! - every open read that is placed in `b` is placed in `a`: a read that is placed in `a` only is simply left out where
//!   `b`'s completion places it, because it leaves the state as it is.

use crate::engine::slots::Slots;
use crate::engine::states::StateId;
use crate::engine::trail::StepId;

/// So many lists of members keep their room from one round to the next.
const PEERS_KEPT_MAX: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Config<const WORDS: usize> {
    pub(crate) state: StateId,
    /// The open operations that have a place in the order.
    pub(crate) used: Slots<WORDS>,
    /// The open operations that have none, and need none.
    pub(crate) free: Slots<WORDS>,
    /// How the order came about.
    pub(crate) trail: StepId,
}

impl<const WORDS: usize> Config<WORDS> {
    pub(crate) fn widen<const MORE: usize>(&self) -> Config<MORE> {
        Config { state: self.state, used: self.used.widen(), free: self.free.widen(), trail: self.trail }
    }

    pub(crate) fn dominates(&self, other: &Self, reads: &Slots<WORDS>) -> bool {
        if self.state != other.state {
            return false;
        }
        let differs = self.used.difference(&other.used).union(&self.free.difference(&other.free));
        differs.minus(reads).is_subset(&self.free) && other.used.intersection(reads).is_subset(&self.used)
    }

    fn same_place(&self, other: &Self) -> bool {
        self.state == other.state && self.used == other.used && self.free == other.free
    }
}

/// Configurations of which none dominates another, by state. It is cleared at every return, so clearing costs nothing: what
/// belongs to an earlier round is not there.
#[derive(Clone, Default)]
pub(crate) struct Antichain<const WORDS: usize> {
    /// For each state its round and its place in `peers`.
    places: Vec<(u32, u32)>,
    round: u32,
    /// The members, those with the same state together. Only the first `states` are of this round; all keep their room.
    peers: Vec<Vec<Config<WORDS>>>,
    states: usize,
    count: usize,
}

impl<const WORDS: usize> Antichain<WORDS> {
    pub(crate) fn clear(&mut self) {
        self.states = 0;
        self.count = 0;
        if let Some(next) = self.round.checked_add(1).filter(|next| *next < u32::MAX) {
            self.round = next;
        } else {
            self.places.clear();
            self.round = 0;
        }
        self.peers.truncate(PEERS_KEPT_MAX);
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    fn place_of(&self, state: StateId) -> Option<usize> {
        // A place says the round after its own, so that no place is of the first round by chance.
        let (round, place) = *self.places.get(state as usize)?;
        (round == self.round + 1).then_some(place as usize)
    }

    fn peers_of(&mut self, state: StateId) -> &mut Vec<Config<WORDS>> {
        let place = self.place_of(state).unwrap_or_else(|| {
            if self.places.len() <= state as usize {
                self.places.resize(state as usize + 1, (0, 0));
            }
            self.places[state as usize] = (self.round + 1, self.states as u32);
            self.states += 1;
            if self.peers.len() < self.states {
                self.peers.push(Vec::new());
            } else {
                self.peers[self.states - 1].clear();
            }
            self.states - 1
        });
        &mut self.peers[place]
    }

    /// Adds `config` unless something dominates it; removes what it dominates. Says whether it was added, and with how
    /// many it was compared.
    pub(crate) fn insert(&mut self, config: Config<WORDS>, reads: &Slots<WORDS>) -> (bool, usize) {
        let peers = self.peers_of(config.state);
        let compared = peers.len();
        if peers.iter().any(|peer| peer.dominates(&config, reads)) {
            return (false, compared);
        }
        peers.retain(|peer| !config.dominates(peer, reads));
        peers.push(config);
        let now = peers.len();
        self.count = self.count + now - compared;
        (true, compared)
    }

    /// The members, in no particular order.
    pub(crate) fn members(&self) -> Vec<Config<WORDS>> {
        self.peers[..self.states].iter().flatten().copied().collect()
    }

    /// Whether this very configuration is a member.
    pub(crate) fn contains(&self, config: &Config<WORDS>) -> bool {
        self.place_of(config.state).is_some_and(|place| {
            self.peers[place].iter().any(|peer| peer.same_place(config) && peer.trail == config.trail)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(used: &[usize], free: &[usize]) -> Config<1> {
        let mut config = Config { state: 0, used: Slots::EMPTY, free: Slots::EMPTY, trail: StepId::ROOT };
        used.iter().for_each(|slot| config.used.insert(*slot));
        free.iter().for_each(|slot| config.free.insert(*slot));
        config
    }

    #[test]
    fn free_dominates_used_and_unused() {
        let reads = Slots::EMPTY;
        let (free, used, neither) = (config(&[], &[3]), config(&[3], &[]), config(&[], &[]));
        assert!(free.dominates(&used, &reads) && free.dominates(&neither, &reads));
        assert!(!used.dominates(&free, &reads) && !used.dominates(&neither, &reads));
        assert!(!neither.dominates(&used, &reads) && !neither.dominates(&free, &reads));
    }

    #[test]
    fn a_placed_read_dominates_an_open_one() {
        let mut reads = Slots::EMPTY;
        reads.insert(3);
        let (placed, open) = (config(&[3], &[]), config(&[], &[]));
        assert!(placed.dominates(&open, &reads) && !open.dominates(&placed, &reads));
    }

    #[test]
    fn an_antichain_keeps_the_best_only() {
        let reads = Slots::EMPTY;
        let mut chain = Antichain::default();
        assert!(chain.insert(config(&[1], &[]), &reads).0);
        assert!(chain.insert(config(&[], &[]), &reads).0);
        assert_eq!(chain.len(), 2);
        assert!(chain.insert(config(&[], &[1]), &reads).0);
        assert_eq!(chain.len(), 1);
        assert!(!chain.insert(config(&[1], &[]), &reads).0);
        assert!(chain.contains(&config(&[], &[1])) && !chain.contains(&config(&[1], &[])));
    }
}
