//! sim

pub mod core;
pub mod invariants;

#[cfg(madsim)]
pub mod disk;
#[cfg(madsim)]
pub mod net;
#[cfg(madsim)]
pub mod timing;
