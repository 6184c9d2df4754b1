//! The numbers of the protocol as types of their own: a swapped pair of `u64`s does not compile.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl $name {
            /// The number after this one.
            pub fn next(self) -> Self {
                Self(self.0.checked_add(1).expect(concat!(stringify!($name), " overflows")))
            }
        }
    };
}

number!(
    /// A leader's reign, counted from 1; 0 is before the first election (Raft, section 5.1).
    Term, ""
);
number!(
    /// The place of an entry in the log, counted from 1; 0 is the empty log.
    Index, ""
);
number!(
    /// A member of one Raft group, counted from 1. 0 is nobody, on the wire and on disk.
    NodeId, "n"
);

number!(
    /// A Raft group that serves shards, counted from 1. 0 is nobody, on the wire and on disk.
    GroupId, ""
);
number!(
    /// A part of the key space, counted from 0.
    ShardId, ""
);
number!(
    /// A version of the placement of shards, counted from 1; 0 is the one before the first group joined.
    ConfigNum, ""
);

impl Index {
    /// The index before this one. Panics on 0: the empty log has nothing before it.
    pub fn previous(self) -> Self {
        Self(self.0.checked_sub(1).expect("index 0 has none before it"))
    }
}
