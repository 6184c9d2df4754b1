//! Runs the steps of a scenario: one after the other, each with its bounds, while the workload's clients work.
//!
//! What does not hold is a violation of `sim.script` and ends the run. A script that has proposed commands ends with
//! a claim of its own: with every node connected, one more command is agreed on by all, and each acknowledged command
//! is in the state of every replica exactly once.

mod callers;
mod counts;
mod loops;
mod nodes;
mod placement;
mod probe;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use eraft::random::{Draw, Draws, Site};
use eraft::types::{NodeId, Term};
use futures_util::future::{Either, select};
use madsim::time::sleep;

use crate::oracles::SCRIPT;
use crate::outcome::Violation;
use crate::scenario::Step;
use crate::world::World;

use callers::Callers;
use counts::Counts;
use placement::Placements;
use probe::{Probe, Proposed};

/// A script that is not over by then has failed.
const SCRIPT_TIME_MAX: Duration = Duration::from_secs(120);
/// How often a script looks whether something has come about.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What holds, or why it does not.
type Held = Result<(), String>;

/// A script on its way.
struct Script {
    world: Arc<World>,
    draws: Site,
    /// What steps called nodes.
    names: BTreeMap<String, NodeId>,
    /// Nodes that are cut off.
    cut: BTreeSet<NodeId>,
    /// How often each `pick` in turn has come.
    turns: BTreeMap<String, usize>,
    /// The last term that all nodes were in.
    term: Option<Term>,
    probe: Arc<Probe>,
    proposed: Proposed,
    counts: Counts,
    callers: Callers,
    placements: Placements,
}

/// Runs the steps of the world's plan to their end. If one does not hold, the run is over and this never returns.
pub(crate) async fn run(world: &Arc<World>) {
    let steps = world.plan.steps.clone();
    let mut script = Script {
        world: world.clone(),
        draws: Draws::new(world.seed, "script").site("script", 0),
        names: BTreeMap::new(),
        cut: BTreeSet::new(),
        turns: BTreeMap::new(),
        term: None,
        probe: Probe::new(world.clone()),
        proposed: Proposed::default(),
        counts: Counts::default(),
        callers: Callers::default(),
        placements: Placements::default(),
    };
    let over = match select(Box::pin(script.whole(&steps)), Box::pin(sleep(SCRIPT_TIME_MAX))).await {
        Either::Left((held, _)) => held,
        Either::Right(_) => Err(format!("the script is not over after {} s", SCRIPT_TIME_MAX.as_secs())),
    };
    if let Err(why) = over
        && world.watcher.checks(SCRIPT)
    {
        world.watcher.violate(Violation::new(SCRIPT, why));
        std::future::pending::<()>().await;
    }
}

impl Script {
    async fn whole(&mut self, steps: &[Step]) -> Held {
        self.steps(steps, String::new()).await?;
        self.kept().await.map_err(|why| format!("after the last step: {why}"))
    }

    fn steps<'a>(&'a mut self, steps: &'a [Step], path: String) -> Pin<Box<dyn Future<Output = Held> + 'a>> {
        Box::pin(async move {
            for (number, step) in (1..).zip(steps) {
                let path = format!("{path}{number}");
                if let Step::Repeat { times, steps } = step {
                    for round in 1..=*times {
                        self.steps(steps, format!("{path}, round {round}, ")).await?;
                    }
                } else {
                    self.world.watcher.note("script", "script.step", &step.to_string());
                    self.step(step).await.map_err(|why| format!("step {path}, `{}`: {why}", step.word()))?;
                    self.world.watcher.claim();
                }
            }
            Ok(())
        })
    }

    async fn step(&mut self, step: &Step) -> Held {
        match step {
            Step::OneLeader { name, within_ms } => self.one_leader(name.as_deref(), *within_ms).await,
            Step::Followed { within_ms } => self.followed(*within_ms).await,
            Step::NoLeader => self.no_leader(),
            Step::SameTerm { unchanged } => self.same_term(*unchanged),
            Step::Wait { ms } => {
                sleep(Duration::from_millis(*ms)).await;
                Ok(())
            }
            Step::Cut { nodes } => self.each(nodes, Script::cut),
            Step::Split { nodes } => {
                let left = self.resolve(nodes)?;
                self.split(&left);
                Ok(())
            }
            Step::Rejoin { nodes } => {
                self.world.end(nodes::SPLIT);
                self.each(nodes, Script::rejoin)
            }
            Step::Crash { nodes } => self.each(nodes, Script::crash),
            Step::Start { nodes } => self.each(nodes, Script::start),
            Step::Restart { nodes, down_ms } => {
                let hit = self.resolve(nodes)?;
                hit.iter().for_each(|node| self.crash(*node));
                if *down_ms > 0 {
                    sleep(Duration::from_millis(*down_ms)).await;
                }
                hit.into_iter().for_each(|node| self.start(node));
                Ok(())
            }
            Step::Pick { name, of, not, in_turn } => self.pick(name, of, not.as_ref(), *in_turn),
            Step::Agree { .. }
            | Step::Propose { .. }
            | Step::Committed { .. }
            | Step::NotCommitted { .. } => self.log_step(step).await,
            Step::Mark => {
                self.counts = Counts::now(&self.world);
                Ok(())
            }
            Step::Calls { .. }
            | Step::BytesAtMost { .. }
            | Step::LogAtMost { .. }
            | Step::StateAtMost { .. }
            | Step::StoresAtMost { .. }
            | Step::Uncompacted
            | Step::Installed { .. } => self.counts.holds(&self.world, step).await,
            Step::Unreliable => {
                self.unreliable();
                Ok(())
            }
            Step::LongReordering => {
                self.long_reordering();
                Ok(())
            }
            Step::Reliable => {
                self.reliable();
                Ok(())
            }
            Step::FigureEight { iterations, by, chance } => {
                self.figure_eight(*iterations, *by, *chance).await
            }
            Step::Churn { proposers, iterations } => self.churn(*proposers, *iterations).await,
            Step::Partitions { for_ms } => self.partitions(*for_ms).await,
            Step::ClientsDone { within_ms } => self.clients_done(*within_ms).await,
            Step::Client { .. }
            | Step::Put { .. }
            | Step::Append { .. }
            | Step::Get { .. }
            | Step::Ended { .. }
            | Step::Pending { .. }
            | Step::Finished { .. } => self.caller_step(step).await,
            Step::Settled { within_ms } => {
                self.world.settled(Duration::from_millis(*within_ms)).await?;
                self.world.clean(&self.running()).await
            }
            Step::Operate { .. } | Step::Placement { .. } | Step::Placed { .. } | Step::History => {
                self.placement_step(step).await
            }
            Step::Repeat { .. } => Err("is no single step".to_owned()),
        }
    }

    /// The script's next draw.
    fn draw(&mut self) -> Draw {
        self.draws.next()
    }
}

/// Looks until `is_so` is true, or a time is over; whether it came to be true.
async fn until(within: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let started = madsim::time::Instant::now();
    loop {
        if is_so() {
            return true;
        }
        if started.elapsed() >= within {
            return false;
        }
        sleep(LOOK_EVERY).await;
    }
}
