//! sim

#[cfg(madsim)]
pub mod disk;
#[cfg(madsim)]
pub mod timing;
