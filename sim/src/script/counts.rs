//! What a script counts, and what it claims about sizes.

use eraft::types::Index;

use super::Held;
use crate::places;
use crate::scenario::Step;
use crate::world::World;

/// The counters at the script's mark.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    calls: u64,
    installed: u64,
    bytes: u64,
}

impl Counts {
    /// The counters now.
    pub(super) fn now(world: &World) -> Self {
        let (calls, installed) = world.watcher.counts();
        Self { calls, installed, bytes: world.net.counters().peer_bytes }
    }

    /// Does the claim of `step` hold, counted from this mark?
    pub(super) async fn holds(self, world: &World, step: &Step) -> Held {
        let now = Self::now(world);
        let at_most = |what: &str, found: u64, most: u64| {
            if found > most { Err(format!("{found} {what}, at most {most} are allowed")) } else { Ok(()) }
        };
        let at_least = |what: &str, found: u64, least: u64| {
            if found < least { Err(format!("{found} {what}, at least {least} are expected")) } else { Ok(()) }
        };
        let running = || world.watcher.faces().into_iter().filter(|(_, face)| face.is_up);
        match *step {
            Step::Calls { at_least: least, at_most: most } => {
                let calls = now.calls - self.calls;
                at_least("requests", calls, least)?;
                at_most("requests", calls, most)
            }
            Step::BytesAtMost { bytes } => at_most("bytes were sent", now.bytes - self.bytes, bytes),
            Step::LogAtMost { bytes } => {
                for (node, face) in running() {
                    let what = format!("bytes are in the log of {}", places::name(node));
                    at_most(&what, face.log_bytes as u64, bytes)?;
                }
                Ok(())
            }
            Step::StateAtMost { bytes } => {
                for node in world.node_ids() {
                    let Some(status) = world.status(node).await else { continue };
                    let what = format!("bytes are in the state of {}", places::name(node));
                    at_most(&what, status.bytes, bytes)?;
                }
                Ok(())
            }
            Step::StoresAtMost { bytes } => {
                let mut all: u64 = running().map(|(_, face)| face.log_bytes as u64).sum();
                for node in world.node_ids() {
                    all += world.status(node).await.map_or(0, |status| status.bytes);
                }
                at_most("bytes are in all stores", all, bytes)
            }
            Step::Uncompacted => match running().find(|(_, face)| face.base > Index(0)) {
                Some((node, face)) => {
                    Err(format!("the log of {} begins after index {}", places::name(node), face.base))
                }
                None => Ok(()),
            },
            Step::Installed { at_least: least } => {
                at_least("snapshots were installed", now.installed - self.installed, least)
            }
            _ => Err("counts nothing".to_owned()),
        }
    }
}
