//! The async shell round the core.

pub mod link;
pub mod timers;
