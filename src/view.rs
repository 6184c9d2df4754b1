//! What a state machine sees and what it may do: an ordered read interface, and a batch of writes.
//!
//! A machine is a pure function `apply(&dyn View, entry) -> (Batch, Reply)`. It owns no keys, so state is not
//! bounded by memory; in tests the view is a `BTreeMap`, in the driver an overlay over a store.

use std::collections::BTreeMap;
use std::ops::Bound;

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// Where a range of keys starts and ends, as a `BTreeMap` takes it.
pub type KeyBounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// Half-open range of keys: from `start` (included) up to `end` (excluded; `None`: to the last key).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// First key of the range.
    pub start: Vec<u8>,
    /// First key after the range.
    pub end: Option<Vec<u8>>,
}

impl KeyRange {
    /// Every key.
    pub fn all() -> Self {
        Self { start: Vec::new(), end: None }
    }

    /// Every key that starts with `prefix`. The bound above it is exact: eRaft's iterator had none and cleared
    /// its neighbours' keys (B1).
    pub fn prefix(prefix: &[u8]) -> Self {
        let end = prefix.iter().rposition(|b| *b != u8::MAX).map(|last| {
            let mut end = prefix[..=last].to_vec();
            end[last] += 1;
            end
        });
        Self { start: prefix.to_vec(), end }
    }

    /// The same range without its keys up to and including `key`.
    pub fn after(&self, key: &[u8]) -> Self {
        let mut start = key.to_vec();
        start.push(0);
        Self { start: start.max(self.start.clone()), end: self.end.clone() }
    }

    /// As bounds for a `BTreeMap`; `None` if no key can be inside.
    pub fn bounds(&self) -> Option<KeyBounds<'_>> {
        match &self.end {
            Some(end) if *end <= self.start => None,
            Some(end) => Some((Bound::Included(&self.start), Bound::Excluded(end))),
            None => Some((Bound::Included(&self.start), Bound::Unbounded)),
        }
    }
}

/// How much one page of a range may hold. The first pair is always delivered, so that a page makes progress.
#[derive(Clone, Copy, Debug)]
pub struct PageLimit {
    /// At most this many pairs.
    pub pairs_max: usize,
    /// Stop after the pair that reaches this many bytes of keys and values.
    pub bytes_max: usize,
}

impl PageLimit {
    /// True while a page of `pairs` pairs and `bytes` bytes may take another pair.
    pub fn has_room(&self, pairs: usize, bytes: usize) -> bool {
        pairs < self.pairs_max && (pairs == 0 || bytes < self.bytes_max)
    }
}

/// A read that the layer below could not serve: a damaged block, a device error. Never retried silently.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ViewError(pub String);

/// Ordered read access to keys.
pub trait View {
    /// The value of `key`; a missing key and an empty value are different things.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ViewError>;

    /// The first pairs of `range` in key order, within `limit`. An empty page: nothing is left. Go on with
    /// [`KeyRange::after`] the last key.
    fn page(&self, range: &KeyRange, limit: PageLimit) -> Result<Vec<Pair>, ViewError>;
}

impl View for BTreeMap<Vec<u8>, Vec<u8>> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        Ok(BTreeMap::get(self, key).cloned())
    }

    fn page(&self, range: &KeyRange, limit: PageLimit) -> Result<Vec<Pair>, ViewError> {
        let (mut page, mut bytes) = (Vec::new(), 0);
        if let Some(bounds) = range.bounds() {
            for (key, value) in BTreeMap::range::<[u8], _>(self, bounds) {
                if !limit.has_room(page.len(), bytes) {
                    break;
                }
                bytes += key.len() + value.len();
                page.push((key.clone(), value.clone()));
            }
        }
        Ok(page)
    }
}

/// The part of a view whose keys start with a prefix, seen without the prefix.
#[derive(Clone)]
pub struct Within<'a> {
    view: &'a dyn View,
    prefix: &'a [u8],
}

impl<'a> Within<'a> {
    /// The keys of `view` under `prefix`.
    pub fn new(view: &'a dyn View, prefix: &'a [u8]) -> Self {
        Self { view, prefix }
    }
}

impl View for Within<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        self.view.get(&[self.prefix, key].concat())
    }

    fn page(&self, range: &KeyRange, limit: PageLimit) -> Result<Vec<Pair>, ViewError> {
        let end = match &range.end {
            Some(end) => Some([self.prefix, end].concat()),
            None => KeyRange::prefix(self.prefix).end,
        };
        let range = KeyRange { start: [self.prefix, &range.start].concat(), end };
        let mut page = self.view.page(&range, limit)?;
        for (key, _) in &mut page {
            key.drain(..self.prefix.len());
        }
        Ok(page)
    }
}

/// Writes that happen together or not at all. A later write to a key wins over an earlier one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// `Some`: put, `None`: delete; in the order in which they were asked for.
    pub writes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `key` to `value`.
    pub fn put(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.writes.push((key.into(), Some(value.into())));
    }

    /// Removes `key`; nothing happens if it is not there.
    pub fn delete(&mut self, key: impl Into<Vec<u8>>) {
        self.writes.push((key.into(), None));
    }

    /// Adds what `inner` writes, under `prefix`: the reverse of [`Within`].
    pub fn extend_within(&mut self, prefix: &[u8], inner: Batch) {
        self.writes.extend(inner.writes.into_iter().map(|(key, value)| ([prefix, &key].concat(), value)));
    }

    /// True if nothing would be written.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Bytes of keys and values, for bounds.
    pub fn bytes(&self) -> usize {
        self.writes.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len)).sum()
    }
}

/// The first pairs of `range` within `limit`, and whether that is all there is. Which pairs these are does not depend
/// on how the view cuts its pages.
pub fn collect(
    view: &dyn View,
    mut range: KeyRange,
    limit: PageLimit,
) -> Result<(Vec<Pair>, bool), ViewError> {
    let (mut pairs, mut bytes) = (Vec::new(), 0);
    while limit.has_room(pairs.len(), bytes) {
        let left = PageLimit {
            pairs_max: limit.pairs_max - pairs.len(),
            bytes_max: limit.bytes_max.saturating_sub(bytes),
        };
        let page = view.page(&range, left)?;
        let Some((last, _)) = page.last() else { return Ok((pairs, true)) };
        range = range.after(last);
        for (key, value) in page {
            if limit.has_room(pairs.len(), bytes) {
                bytes += key.len() + value.len();
                pairs.push((key, value));
            }
        }
    }
    Ok((pairs, false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_collected_is_bounded_and_all_is_only_said_of_all() {
        let view: BTreeMap<Vec<u8>, Vec<u8>> =
            ["a", "b", "c"].iter().map(|key| (key.as_bytes().to_vec(), b"value".to_vec())).collect();
        let limit = |pairs_max, bytes_max| PageLimit { pairs_max, bytes_max };
        let of = |limit| {
            let (pairs, all) = collect(&view, KeyRange::all(), limit).unwrap();
            (pairs.len(), all)
        };
        assert_eq!(of(limit(2, 1000)), (2, false));
        assert_eq!(of(limit(3, 1000)), (3, false), "whether there is more was not looked at");
        assert_eq!(of(limit(4, 1000)), (3, true));
        assert_eq!(of(limit(4, 7)), (2, false), "the pair that reaches the bound is the last");
        assert_eq!(of(limit(4, 1)), (1, false), "one pair always goes");
    }
}
