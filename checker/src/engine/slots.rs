//! A set of slots. Every open operation has a slot, and gives it back when it returns, so that the sets stay small
//! however long the history is.

/// A set of at most `64 * WORDS` slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Slots<const WORDS: usize>([u64; WORDS]);

impl<const WORDS: usize> Default for Slots<WORDS> {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl<const WORDS: usize> Slots<WORDS> {
    /// How many slots there are.
    pub(crate) const CAPACITY: usize = 64 * WORDS;

    pub(crate) const EMPTY: Self = Slots([0; WORDS]);

    /// The same slots in a set with room for more.
    pub(crate) fn widen<const MORE: usize>(&self) -> Slots<MORE> {
        Slots(std::array::from_fn(|word| self.0.get(word).copied().unwrap_or(0)))
    }

    pub(crate) fn contains(&self, slot: usize) -> bool {
        self.0[slot / 64] >> (slot % 64) & 1 == 1
    }

    pub(crate) fn insert(&mut self, slot: usize) {
        self.0[slot / 64] |= 1 << (slot % 64);
    }

    pub(crate) fn remove(&mut self, slot: usize) {
        self.0[slot / 64] &= !(1 << (slot % 64));
    }

    /// The slots of either set.
    pub(crate) fn union(&self, other: &Self) -> Self {
        Slots(std::array::from_fn(|word| self.0[word] | other.0[word]))
    }

    /// The slots of this set that are not in `other`.
    pub(crate) fn minus(&self, other: &Self) -> Self {
        Slots(std::array::from_fn(|word| self.0[word] & !other.0[word]))
    }

    /// The slots of exactly one of the sets.
    pub(crate) fn difference(&self, other: &Self) -> Self {
        Slots(std::array::from_fn(|word| self.0[word] ^ other.0[word]))
    }

    /// The slots of both sets.
    pub(crate) fn intersection(&self, other: &Self) -> Self {
        Slots(std::array::from_fn(|word| self.0[word] & other.0[word]))
    }

    /// The slots, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().enumerate().flat_map(|(word, bits)| {
            let mut bits = *bits;
            std::iter::from_fn(move || {
                let lowest = (bits != 0).then(|| bits.trailing_zeros() as usize)?;
                bits &= bits - 1;
                Some(word * 64 + lowest)
            })
        })
    }

    pub(crate) fn is_subset(&self, other: &Self) -> bool {
        self.minus(other) == Self::EMPTY
    }
}

#[cfg(test)]
mod tests {
    use super::Slots;

    #[test]
    fn slots_of_all_words_are_kept_apart() {
        let mut slots = Slots::<2>::EMPTY;
        slots.insert(0);
        slots.insert(64);
        assert!(slots.contains(0) && slots.contains(64) && !slots.contains(1) && !slots.contains(65));
        slots.remove(0);
        assert!(!slots.contains(0) && slots.contains(64));
        let mut more = slots;
        more.insert(127);
        assert_eq!(more.iter().collect::<Vec<_>>(), [64, 127]);
        assert!(slots.is_subset(&more) && !more.is_subset(&slots));
        assert_eq!(more.minus(&slots).union(&slots), more);
        assert_eq!(more.difference(&slots), more.minus(&slots));
        assert_eq!(more.intersection(&slots), slots);
    }
}
