//! What runs did.

use std::collections::BTreeMap;

use crate::core::seeds::Tally;

macro_rules! stats {
    ($($(#[$doc:meta])* $name:ident)*) => {
        /// Counts of one or more runs.
        #[derive(Clone, Debug, Default)]
        pub struct Stats {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Stats {
            /// By name.
            pub fn named(&self) -> BTreeMap<&'static str, u64> {
                BTreeMap::from([$((stringify!($name), self.$name)),*])
            }
        }

        impl Tally for Stats {
            fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }

            fn of_steps(steps: u64) -> Self {
                Self { steps, ..Self::default() }
            }
        }
    };
}

stats! {
    /// Entries of groups and reads, each judged.
    steps
    /// Configs that operators made.
    configs
    /// Commands of operators that were refused.
    refused
    /// Configs that groups adopted.
    adopted
    /// How often a group left configs out that were dropped.
    left_out
    /// Shards that arrived at a new owner as a whole.
    arrived
    /// Shards that came back to an earlier owner.
    returned
    /// Chunks that came twice or late.
    duplicate_chunks
    /// Confirmations that came again.
    confirmed_again
    /// Steps of deleting.
    deletes
    /// Appends that were answered.
    appends
    /// Appends that were answered from their session.
    retries
    /// Reads that were answered.
    reads
    /// Clients that were sent elsewhere.
    redirected
    /// Shards that were served although a group that never had them was dead.
    unaffected
}
