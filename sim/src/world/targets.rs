//! Who a fault hits, when it fires.

use eraft::random::Draw;
use eraft::replica::link::Party;
use eraft::types::NodeId;

use super::World;
use crate::net::{Parties, Partition};
use crate::scenario::{Shape, Target};

impl World {
    /// The parties that `target` means now.
    pub(super) fn resolve(&self, target: &Target, there: Option<NodeId>, draw: &mut Draw) -> Vec<Party> {
        let all = self.node_ids();
        let majority = all.len() / 2 + 1;
        let mut some = |count: usize| {
            let mut ids = all.clone();
            draw.shuffle(&mut ids);
            ids.truncate(count);
            ids.sort();
            ids
        };
        let nodes = match target {
            Target::Leader => vec![self.leader().unwrap_or_else(|| self.any(&mut some))],
            Target::Follower => {
                let leader = self.leader();
                let others =
                    some(all.len() * 2).into_iter().filter(|id| Some(*id) != leader && self.is_up(*id));
                let others: Vec<NodeId> = others.collect();
                draw.pick(&others).copied().into_iter().collect()
            }
            Target::Random => some(1),
            Target::Minority => some(all.len() - majority),
            Target::Majority => some(majority),
            Target::All => all.clone(),
            Target::There => there.into_iter().collect(),
            Target::Nodes(numbers) => {
                numbers.iter().map(|number| NodeId(*number)).filter(|id| all.contains(id)).collect()
            }
            Target::Client => return draw.pick(&self.client_parties()).copied().into_iter().collect(),
            Target::Clients(numbers) => {
                let known = self.client_parties();
                let parties = numbers.iter().map(|number| Party::Client(*number));
                return parties.filter(|party| known.contains(party)).collect();
            }
        };
        nodes.into_iter().map(Party::Node).collect()
    }

    /// The leader of the latest term.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        let faces = self.watcher.faces();
        let leaders = faces.iter().filter(|(_, face)| face.is_up && face.is_leader);
        leaders.max_by_key(|(_, face)| face.term).map(|(id, _)| *id)
    }

    /// A node that runs, or any one if none does.
    fn any(&self, some: &mut impl FnMut(usize) -> Vec<NodeId>) -> NodeId {
        let first = some(1)[0];
        let up = self.node_ids().into_iter().find(|id| self.is_up(*id));
        if self.is_up(first) { first } else { up.unwrap_or(first) }
    }

    /// The cuts that `shape` makes round `hit`.
    pub(super) fn cuts(&self, shape: Shape, clients: bool, hit: &[Party], draw: &mut Draw) -> Vec<Partition> {
        let is_client = matches!(hit.first(), Some(Party::Client(_)));
        let nodes = self.node_parties();
        let left: Parties = hit.iter().copied().collect();
        let mut right: Parties = nodes.iter().copied().filter(|party| !left.contains(party)).collect();
        if clients && !is_client {
            right.extend(self.client_parties());
        }
        // All of them: each one from all others.
        if shape != Shape::Ring && nodes.iter().all(|party| left.contains(party)) {
            return nodes.into_iter().map(Partition::Isolate).collect();
        }
        match shape {
            Shape::Ring if !is_client => {
                let mut ring = nodes;
                draw.shuffle(&mut ring);
                vec![Partition::MajorityRing(ring)]
            }
            Shape::Bridge if !is_client => {
                let Some(bridge) = hit.first().copied() else { return Vec::new() };
                let mut others: Vec<Party> = nodes.into_iter().filter(|party| *party != bridge).collect();
                draw.shuffle(&mut others);
                let half = others.split_off(others.len() / 2);
                let (left, right) = (others.into_iter().collect(), half.into_iter().collect());
                vec![Partition::Bridge { left, bridge, right }]
            }
            Shape::Inbound => vec![Partition::OneWay { from: right, to: left }],
            Shape::Outbound => vec![Partition::OneWay { from: left, to: right }],
            _ => vec![Partition::Symmetric { left, right }],
        }
    }
}
