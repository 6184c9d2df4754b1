//! The steps that go round at random.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use eraft::types::NodeId;
use madsim::time::sleep;

use super::probe::Probe;
use super::{Held, Script};
use crate::scenario::Loss;
use crate::world::World;

/// Figure 8 leaves this many nodes connected.
const CONNECTED_MIN: usize = 3;
/// Between two changes of a churn.
const CHURN_PAUSE: Duration = Duration::from_millis(700);
/// A proposer of a churn looks after these pauses whether its command was applied.
const CHURN_LOOKS_MS: [u64; 5] = [10, 20, 50, 100, 200];
/// A split of `partitions` lasts this long, and up to so much longer.
const SPLIT_MS: (u64, u64) = (1_000, 200);

impl Script {
    pub(super) async fn figure_eight(&mut self, iterations: u64, by: Loss, chance: f64) -> Held {
        self.open_session().await?;
        let mut taken_away = 0;
        for _ in 0..iterations {
            for (node, _) in self.connected().iter().filter(|(_, face)| face.is_leader) {
                self.probe.submit(*node, &self.probe.command(0));
            }
            let leader = self.leader();
            let mut draw = self.draw();
            let pause_ms = if draw.chance(0.1) { draw.below(500) } else { draw.below(13) };
            sleep(Duration::from_millis(pause_ms)).await;
            if let Some(leader) = leader
                && draw.chance(chance)
            {
                taken_away += 1;
                match by {
                    Loss::Crash => self.crash(leader),
                    Loss::Cut => self.cut(leader),
                }
            }
            let nodes = self.world.node_ids();
            let is_connected = |node: &&NodeId| self.world.is_up(**node) && !self.cut.contains(node);
            if nodes.iter().filter(is_connected).count() < CONNECTED_MIN
                && let Some(back) = draw.pick(&nodes).copied()
            {
                self.start(back);
                self.rejoin(back);
            }
        }
        if taken_away == 0 {
            return Err("no leader was taken away: there was nothing to see".to_owned());
        }
        Ok(())
    }

    pub(super) async fn churn(&mut self, proposers: u64, iterations: u64) -> Held {
        self.open_session().await?;
        let is_over = Arc::new(AtomicBool::new(false));
        let propose = |proposer| {
            self.world.spawn(propose(proposer, self.world.clone(), self.probe.clone(), is_over.clone()))
        };
        let at_work: Vec<_> = (1..=proposers).map(propose).collect();
        let nodes = self.world.node_ids();
        for _ in 0..iterations {
            let mut draw = self.draw();
            let mut hit = |chance: f64| {
                let is_hit = draw.chance(chance);
                draw.pick(&nodes).copied().filter(|_| is_hit)
            };
            let (cut, back, crash) = (hit(0.2), hit(0.5), hit(0.2));
            if let Some(node) = cut {
                self.cut(node);
            }
            if let Some(node) = back {
                self.start(node);
                self.rejoin(node);
            }
            if let Some(node) = crash {
                self.crash(node);
            }
            sleep(CHURN_PAUSE).await;
        }
        is_over.store(true, Ordering::Relaxed);
        for proposer in at_work {
            let _ = proposer.await;
        }
        Ok(())
    }

    pub(super) async fn partitions(&mut self, for_ms: u64) -> Held {
        let started = self.world.time.elapsed();
        while self.world.time.elapsed() - started < Duration::from_millis(for_ms) {
            let mut draw = self.draw();
            let left: Vec<NodeId> = self.world.node_ids().into_iter().filter(|_| draw.chance(0.5)).collect();
            self.split(&left);
            let (least, more) = SPLIT_MS;
            sleep(Duration::from_millis(least + draw.below(more))).await;
        }
        Ok(())
    }
}

/// Proposes one command after the other at whoever believes to lead, cut off or not.
async fn propose(proposer: u64, world: Arc<World>, probe: Arc<Probe>, is_over: Arc<AtomicBool>) {
    while !is_over.load(Ordering::Relaxed) {
        let asked = probe.command(0);
        let faces = world.watcher.faces();
        let leaders = faces.iter().filter(|(_, face)| face.is_up && face.is_leader);
        let took = leaders.filter(|(node, _)| probe.submit(**node, &asked)).count();
        if took == 0 {
            sleep(Duration::from_millis(79 + 17 * proposer)).await;
            continue;
        }
        for look_ms in CHURN_LOOKS_MS {
            if probe.is_applied(&asked) {
                break;
            }
            sleep(Duration::from_millis(look_ms)).await;
        }
    }
}
