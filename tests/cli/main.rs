//! The built binary, as its users meet it: every command, every exit code, the fields of its JSON.
#![cfg(not(madsim))]

mod bench;
mod data;
mod member;
mod placement;
mod processes;
mod quickstart;
mod servers;
mod support;
mod unknown;
mod up;
mod usage;
