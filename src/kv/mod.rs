//! The key-value store of one Raft group.
//!
//! [`KvMachine`] applies [`Command`](crate::proto::kv::Command)s: it opens sessions and executes mutations exactly
//! once ([`crate::session`] says how). Reads do not go through the log; they are [`KvQuery`]s of a view.
//!
//! # Keys in the state store
//!
//! | key | value |
//! |---|---|
//! | `0x00 …` | the driver's own records ([`crate::machine::DRIVER_PREFIX`]) |
//! | `k/` user key | the value, as it is |
//! | `s/` 16 bytes of client id, big endian | [`proto::kv::Session`](crate::proto::kv::Session) |
//! | `t` | [`proto::kv::SessionTable`](crate::proto::kv::SessionTable) |
//!
//! No key of one row is a key of another, whatever bytes a user puts into a key.
//!
//! # Determinism
//!
//! What a machine writes is a function of the view and the entry. [`KvLimits`] decide what is refused *in the log* and
//! which session is evicted, and a replica that applied one entry under another limit would hold different data for
//! ever; so **the proposer's limits travel in each command**, and count on every replica, at every replay. Nodes may
//! be configured differently, or changed one by one: whoever leads decides. A command without limits is applied
//! under the machine's own. (Comparing the nodes' configurations when they meet would not do: entries that were
//! committed under the old limits are applied again after a restart under the new ones.) The active mutant is still
//! part of the function, which is why `kv.no_dedup` is switched on for a whole group.

mod machine;
mod operation;
mod service;

#[cfg(test)]
mod machine_tests;
#[cfg(test)]
mod model_tests;

use crate::proto::kv::Limits;
use crate::session::{SessionLimits, WINDOW_CEILING};

pub use crate::session::Reply as KvReply;
pub use machine::{KvAnswer, KvMachine, KvQuery, KvStatus};
pub(crate) use operation::USER_PREFIX;

/// The largest `value_bytes_max` that may be configured: one value must fit into a few messages of 4 MiB.
pub const VALUE_BYTES_CEILING: usize = 8 << 20;

/// The largest `key_bytes_max` that may be configured.
pub const KEY_BYTES_CEILING: usize = 64 << 10;

/// What the machine refuses and when it forgets a session. They travel with each command; see the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KvLimits {
    /// A put, append or cas that would leave a larger value is refused.
    pub value_bytes_max: usize,
    /// A mutation of a longer key is refused.
    pub key_bytes_max: usize,
    /// What holds of sessions.
    pub sessions: SessionLimits,
}

impl Default for KvLimits {
    fn default() -> Self {
        Self { value_bytes_max: 1 << 20, key_bytes_max: 4 << 10, sessions: SessionLimits::default() }
    }
}

/// A limit that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{limit} is {value}; it must be {least} to {most}")]
pub struct LimitError {
    /// The field of [`KvLimits`].
    pub limit: &'static str,
    /// What it was set to.
    pub value: u64,
    /// The smallest value that is allowed.
    pub least: u64,
    /// The largest value that is allowed.
    pub most: u64,
}

impl KvLimits {
    /// Refuses limits under which the store cannot work.
    pub fn validate(&self) -> Result<(), LimitError> {
        let bounds = [
            ("value_bytes_max", self.value_bytes_max as u64, 1, VALUE_BYTES_CEILING as u64),
            ("key_bytes_max", self.key_bytes_max as u64, 1, KEY_BYTES_CEILING as u64),
            ("session_window", self.sessions.session_window, 1, WINDOW_CEILING),
            ("sessions_max", self.sessions.sessions_max, 1, u64::MAX),
        ];
        for (limit, value, least, most) in bounds {
            if !(least..=most).contains(&value) {
                return Err(LimitError { limit, value, least, most });
            }
        }
        Ok(())
    }
}

impl From<KvLimits> for Limits {
    fn from(limits: KvLimits) -> Self {
        Self {
            value_bytes_max: limits.value_bytes_max as u64,
            key_bytes_max: limits.key_bytes_max as u64,
            session_window: limits.sessions.session_window,
            sessions_max: limits.sessions.sessions_max,
            session_idle_ms: limits.sessions.session_idle_ms,
            session_idle_entries: limits.sessions.session_idle_entries,
        }
    }
}

impl TryFrom<Limits> for KvLimits {
    type Error = LimitError;

    /// Refuses what [`KvLimits::validate`] refuses.
    fn try_from(limits: Limits) -> Result<Self, LimitError> {
        // A number that is no size here is far above the ceilings.
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let limits = Self {
            value_bytes_max: size(limits.value_bytes_max),
            key_bytes_max: size(limits.key_bytes_max),
            sessions: SessionLimits {
                session_window: limits.session_window,
                sessions_max: limits.sessions_max,
                session_idle_ms: limits.session_idle_ms,
                session_idle_entries: limits.session_idle_entries,
            },
        };
        limits.validate().map(|()| limits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_limits_are_valid_and_a_limit_out_of_bounds_is_named() {
        assert_eq!(KvLimits::default().validate(), Ok(()));
        let limits = KvLimits { value_bytes_max: (8 << 20) + 1, ..KvLimits::default() };
        let error = limits.validate().unwrap_err().to_string();
        assert_eq!(error, "value_bytes_max is 8388609; it must be 1 to 8388608");
        let sessions = SessionLimits { session_window: 0, ..SessionLimits::default() };
        let limits = KvLimits { sessions, ..KvLimits::default() };
        assert_eq!(limits.validate().unwrap_err().limit, "session_window");
    }
}
