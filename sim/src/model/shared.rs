//! Parts of a model's state that many states share, hashed once.
//!
//! A step touches one node of several, and one packet of many. What it does not touch is shared with the state
//! before it, and contributes its hash of 64 bits, so a step costs what it changes and not the size of the state.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3Default;

/// A value with its hash.
#[derive(Clone, Debug)]
pub struct Shared<T> {
    hash: u64,
    value: Arc<T>,
}

impl<T: Hash> Shared<T> {
    /// `value`, hashed.
    pub fn new(value: T) -> Self {
        let mut hasher = Xxh3Default::new();
        value.hash(&mut hasher);
        Self { hash: hasher.finish(), value: Arc::new(value) }
    }
}

impl<T> Shared<T> {
    /// The order of shared values: by hash, so that a collection of them has one order.
    pub fn rank(&self) -> u64 {
        self.hash
    }
}

impl<T> std::ops::Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: PartialEq> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && (Arc::ptr_eq(&self.value, &other.value) || self.value == other.value)
    }
}

impl<T: Eq> Eq for Shared<T> {}

impl<T> Hash for Shared<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}
