//! Who a fault hits, when it fires.

use eraft::random::Draw;
use eraft::replica::link::Party;
use eraft::types::NodeId;

use super::World;
use crate::net::{Parties, Partition};
use crate::observer::Face;
use crate::places::Place;
use crate::scenario::{Shape, Target};

impl World {
    /// The parties that `target` means now.
    pub(super) fn resolve(&self, target: &Target, there: Option<NodeId>, draw: &mut Draw) -> Vec<Party> {
        let (role, all) = self.scope(target, draw);
        let majority = all.len() / 2 + 1;
        let mut some = |count: usize| {
            let mut ids = all.clone();
            draw.shuffle(&mut ids);
            ids.truncate(count);
            ids.sort();
            ids
        };
        let nodes = match role {
            Target::Leader => vec![self.leader_of(&all).unwrap_or_else(|| self.any(&all, &mut some))],
            Target::Follower => {
                let leader = self.leader_of(&all);
                let others =
                    some(all.len() * 2).into_iter().filter(|id| Some(*id) != leader && self.is_up(*id));
                let others: Vec<NodeId> = others.collect();
                draw.pick(&others).copied().into_iter().collect()
            }
            Target::Random => some(1),
            Target::Minority => some(all.len() - majority),
            Target::Majority => some(majority),
            Target::All | Target::Group | Target::Of(..) => all.clone(),
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

    /// The role that `target` means, and the nodes that it means it of: those of one group, or all.
    fn scope<'t>(&self, target: &'t Target, draw: &mut Draw) -> (&'t Target, Vec<NodeId>) {
        let places = self.places();
        match target {
            Target::Of(role, place) => (role, self.nodes_of(*place)),
            Target::Leader | Target::Follower | Target::Minority | Target::Majority | Target::Group => {
                let drawn = if places.len() > 1 { draw.pick(&places) } else { places.first() };
                (target, drawn.map(|(_, nodes)| nodes.clone()).unwrap_or_default())
            }
            _ => (target, self.node_ids()),
        }
    }

    /// The leader of the latest term among `nodes`, which are a group.
    pub(crate) fn leader_of(&self, nodes: &[NodeId]) -> Option<NodeId> {
        let faces = self.watcher.faces();
        let is_leader = |id: &NodeId, face: &Face| face.is_up && face.is_leader && nodes.contains(id);
        let leaders = faces.iter().filter(|(id, face)| is_leader(id, face));
        leaders.max_by_key(|(_, face)| face.term).map(|(id, _)| *id)
    }

    /// A node of `all` that runs, or any one if none does.
    fn any(&self, all: &[NodeId], some: &mut impl FnMut(usize) -> Vec<NodeId>) -> NodeId {
        let first = some(1)[0];
        let up = all.iter().copied().find(|id| self.is_up(*id));
        if self.is_up(first) { first } else { up.unwrap_or(first) }
    }

    /// The nodes of the group that `party` is in: rings and bridges are shapes of one group.
    fn group_of(&self, party: Option<&Party>) -> Vec<Party> {
        let Some(Party::Node(id)) = party else { return self.node_parties() };
        self.nodes_of(Place::of(*id)).into_iter().map(Party::Node).collect()
    }

    /// The cuts that `shape` makes round `hit`.
    pub(super) fn cuts(&self, shape: Shape, clients: bool, hit: &[Party], draw: &mut Draw) -> Vec<Partition> {
        let is_client = matches!(hit.first(), Some(Party::Client(_)));
        let nodes = self.node_parties();
        let group = || self.group_of(hit.first());
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
                let mut ring = group();
                draw.shuffle(&mut ring);
                vec![Partition::MajorityRing(ring)]
            }
            Shape::Bridge if !is_client => {
                let Some(bridge) = hit.first().copied() else { return Vec::new() };
                let mut others: Vec<Party> = group().into_iter().filter(|party| *party != bridge).collect();
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
