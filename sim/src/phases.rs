//! The phases of a run: safety, heal, liveness. What needs the whole run is judged after the runtime is gone.

use std::sync::Arc;
use std::time::Duration;

use eraft::replica::link::Party;
use eraft::types::NodeId;
use futures_util::future::{Either, select};
use madsim::time::sleep;
use tokio::sync::mpsc;

use crate::net::{LinkConfig, Partition};
use crate::observer::{Face, Watcher};
use crate::outcome::Violation;
use crate::places::{self, Place};
use crate::scenario::Heal;
use crate::script;
use crate::timing::Spread;
use crate::workload::Phase;
use crate::world::{End, Exit, Pulse, World, lock};

/// How often the leader is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How often madsim's list of tasks is pruned, and somebody looked for who waits for ever.
const LOOK_AFTER_EVERY: Duration = Duration::from_secs(2);

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// It went through all its phases.
    pub is_complete: bool,
    /// From the end of the faults to a leader.
    pub leader_after: Option<Duration>,
}

/// Runs the plan of `world`, up to a violation or to `until_ms`.
pub(crate) async fn drive(
    world: Arc<World>,
    exited: mpsc::UnboundedReceiver<Exit>,
    until_ms: Option<u64>,
) -> Ended {
    world.start_nodes();
    world.spawn(world.clone().supervise(exited));
    let watcher = world.watcher.clone();
    let until = async {
        match until_ms {
            Some(until_ms) => sleep(Duration::from_millis(until_ms)).await,
            None => std::future::pending().await,
        }
    };
    let (violated, until) = (std::pin::pin!(watcher.violated()), std::pin::pin!(until));
    let all = std::pin::pin!(phases(world));
    match select(all, select(violated, until)).await {
        Either::Left((leader_after, _)) => Ended { is_complete: true, leader_after },
        Either::Right(_) => Ended { is_complete: false, leader_after: None },
    }
}

async fn phases(world: Arc<World>) -> Option<Duration> {
    let looking_after = world.clone();
    world.spawn(async move {
        let mut pulse = Pulse::default();
        loop {
            sleep(LOOK_AFTER_EVERY).await;
            looking_after.prune_tasks();
            looking_after.look_for_lost_wakeups(&mut pulse);
        }
    });
    let configuration = world.plan.configuration.clone();
    world.bootstrap().await;
    world.start_clients();
    let operators = world.start_operators();
    let faults: Vec<_> =
        world.plan.faults.iter().map(|fault| world.spawn(world.clone().fault(fault.clone()))).collect();
    if world.plan.steps.is_empty() {
        sleep(Duration::from_millis(configuration.phases.safety_ms)).await;
    } else {
        script::run(&world).await;
    }

    faults.iter().for_each(|fault| fault.abort());
    world.watcher.note("world", "phase", "liveness");
    world.end_all();
    let healthy: Vec<Vec<NodeId>> =
        (0..).zip(world.places()).map(|(number, (_, nodes))| heal(&world, number, nodes)).collect();
    world.phases.enter(Phase::Liveness);
    let healed_at = world.time.elapsed();
    let mut leader_after = None;
    for healthy in &healthy {
        leader_after = leader(&world, healed_at, healthy).await;
    }
    let steward = world.spawn(world.clone().keep_joined());
    settle(&world).await;
    let rest = Duration::from_millis(configuration.phases.liveness_ms);
    sleep(rest.saturating_sub(world.time.elapsed() - healed_at)).await;
    world.phases.enter(Phase::Final);
    world.watcher.note("world", "phase", "final");
    world.clients_are_done().await;
    for operator in operators {
        let _ = operator.await;
    }
    settle(&world).await;
    steward.abort();
    no_leak(&world, &healthy.concat()).await;
    world.watcher.note("world", "phase", "over");
    leader_after
}

/// Makes a random majority of a group healthy; the others stay dead, cut or slow for good.
fn heal(world: &World, group: u64, mut nodes: Vec<NodeId>) -> Vec<NodeId> {
    let mut draw = world.draws.draw("heal", group, 0);
    draw.shuffle(&mut nodes);
    let majority = nodes.len() / 2 + 1;
    // What has rotted is a minority: it counts among those that stay broken.
    let rotten = lock(&world.rotten).clone();
    nodes.sort_by_key(|id| (world.has_bad_log(*id), rotten.contains(id)));
    let healthy = match world.plan.configuration.heal {
        Heal::All => nodes.iter().filter(|id| !world.has_bad_log(**id)).count(),
        Heal::Majority => majority,
    };
    let broken = nodes.split_off(healthy);
    nodes.sort();
    for id in &nodes {
        world.start(*id);
    }
    for id in broken {
        let way = world.draws.draw("broken", id.0, 0).below(3);
        let word = ["dead", "cut", "slow"][way as usize];
        world.watcher.note(&places::name(id), "node.stays", word);
        match way {
            0 => {
                world.stop(id, End::Power, None);
                world.retire(id);
            }
            1 => {
                world.start(id);
                world.net.partition(
                    &format!("{} for good", places::name(id)),
                    Partition::Isolate(Party::Node(id)),
                );
            }
            _ => {
                world.start(id);
                let election_ms = world.plan.configuration.cluster.election_timeout_ms;
                // Slow, but not so slow that a group led by it could not work.
                let latency = Spread::millis(election_ms / 16, election_ms / 8, election_ms / 2);
                let slow = LinkConfig { latency, ..world.quiet_link() };
                for (from, to) in world.pairs(&[Party::Node(id)]) {
                    world.net.set_link(from, to, Some(slow));
                }
            }
        }
    }
    nodes
}

/// Waits for a leader that the healthy majority of a group follows; too long since `begun` is a violation.
async fn leader(world: &World, begun: Duration, healthy: &[NodeId]) -> Option<Duration> {
    let configuration = &world.plan.configuration;
    // A timeout is drawn up to twice the setting; a node that was restarted has to open its disk first.
    let bound_ms = configuration.phases.leader_timeouts * 2 * configuration.cluster.election_timeout_ms;
    loop {
        let waited = world.time.elapsed() - begun;
        if is_led(&world.watcher, healthy) {
            world.judged("sim.liveness", 1);
            return Some(waited);
        }
        if waited > Duration::from_millis(bound_ms) {
            if world.watcher.checks("sim.liveness") {
                world.watcher.violate(Violation {
                    oracle: "sim.liveness".to_owned(),
                    fingerprint: "sim.liveness: no leader".to_owned(),
                    message: format!(
                        "no leader{} within {} election timeouts ({bound_ms} ms) after the faults had stopped",
                        whose(healthy),
                        configuration.phases.leader_timeouts
                    ),
                });
            }
            return None;
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Waits until every shard is served where it belongs; too long is a violation.
async fn settle(world: &World) {
    if world.plan.configuration.cluster.groups == 0 || !world.plan.steps.is_empty() {
        return;
    }
    let within_ms = world.plan.configuration.phases.settle_ms;
    world.judged("sim.liveness", 1);
    if let Err(why) = world.settled(Duration::from_millis(within_ms)).await
        && world.watcher.checks("sim.liveness")
    {
        world.watcher.violate(Violation {
            oracle: "sim.liveness".to_owned(),
            fingerprint: "sim.liveness: not every shard is served".to_owned(),
            message: format!(
                "not every shard is served where it belongs within {within_ms} ms after the faults had stopped: {why}"
            ),
        });
    }
}

/// The stores of healthy nodes hold what their groups own, and nothing else.
async fn no_leak(world: &World, healthy: &[NodeId]) {
    if world.plan.configuration.cluster.groups == 0 {
        return;
    }
    if let Err(why) = world.clean(healthy).await
        && world.watcher.checks("shard.no_leak")
    {
        world.watcher.violate(Violation {
            oracle: "shard.no_leak".to_owned(),
            fingerprint: "shard.no_leak".to_owned(),
            message: why,
        });
    }
}

/// Which group has none, if there are several.
fn whose(nodes: &[NodeId]) -> String {
    match nodes.first().map(|node| Place::of(*node)) {
        None | Some(Place::Alone) => String::new(),
        Some(place) => format!(" of {place}"),
    }
}

/// Does one node lead, and do all healthy ones, which are of one group, follow it?
pub(crate) fn is_led(watcher: &Watcher, healthy: &[NodeId]) -> bool {
    let faces = watcher.faces();
    let place = healthy.first().map(|node| Place::of(*node));
    let is_leader =
        |node: &NodeId, face: &Face| face.is_up && face.is_leader && Some(Place::of(*node)) == place;
    let leader = faces.iter().filter(|(node, face)| is_leader(node, face)).max_by_key(|(_, face)| face.term);
    let Some((leader, face)) = leader else { return false };
    healthy.iter().all(|id| {
        faces.get(id).is_some_and(|other| {
            other.is_up && other.term == face.term && (id == leader || other.leader == Some(*leader))
        })
    })
}
