//! sim
pub mod core;
pub mod invariants;
