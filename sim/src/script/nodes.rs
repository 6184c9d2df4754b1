//! What a script does to nodes and links, and what it claims about leaders.

use std::collections::BTreeMap;
use std::time::Duration;

use eraft::types::{NodeId, Term};

use super::{Held, Script, until};
use crate::observer::Face;
use crate::phases::is_led;
use crate::places::Place;
use crate::scenario::{Action, Direction, Shape, Target, Who};
use crate::schedule::FaultEvent;

/// The name of the fault that a split is.
pub(super) const SPLIT: &str = "script split";
/// The faults that an unreliable network is.
const LOSS: &str = "script loss";
const DELAY: &str = "script delay";
const REORDER: &str = "script reorder";

/// An unreliable network loses this share of all messages …
const LOSS_RATE: f64 = 0.1;
/// … and delays half of them by half to three times this.
const DELAY_MS: u64 = 13;
/// Long reordering lets this share of all messages be overtaken. The suite that this comes from delays two thirds of all
/// replies; an election there takes one round trip, here two (pre-vote), so a fifth of all messages leaves as many
/// elections a chance: (0.9 * 0.8)^4 is 0.27 = 0.9 * 0.9 / 3.
const REORDER_RATE: f64 = 0.2;
/// They arrive later by half to three times this.
const REORDER_MS: u64 = 700;

impl Script {
    /// The nodes that `whom` means now, each once.
    pub(super) fn resolve(&mut self, whom: &[Who]) -> Result<Vec<NodeId>, String> {
        let all = self.world.node_ids();
        let mut nodes = Vec::new();
        for who in whom {
            match who {
                Who::All => nodes.extend(&all),
                Who::Random => nodes.extend(self.draw().pick(&all)),
                Who::Node(number) => nodes.push(NodeId(*number)),
                Who::Place(place) => nodes.extend(self.world.nodes_of(*place)),
                Who::Named(name, further) => {
                    let named =
                        self.names.get(name).ok_or_else(|| format!("no node is called `{name}` yet"))?;
                    let ring = self.world.nodes_of(Place::of(*named));
                    let place = ring.iter().position(|node| node == named).unwrap_or_default();
                    nodes.push(ring[(place + *further as usize) % ring.len()]);
                }
            }
        }
        nodes.sort();
        nodes.dedup();
        Ok(nodes)
    }

    /// The one node that `who` means now.
    pub(super) fn node(&mut self, who: &Who) -> Result<NodeId, String> {
        let nodes = self.resolve(std::slice::from_ref(who))?;
        nodes.first().copied().ok_or_else(|| format!("`{who}` is no node"))
    }

    pub(super) fn each(&mut self, whom: &[Who], mut what: impl FnMut(&mut Self, NodeId)) -> Held {
        for node in self.resolve(whom)? {
            what(self, node);
        }
        Ok(())
    }

    pub(super) fn pick(&mut self, name: &str, of: &[Who], not: Option<&Who>, in_turn: bool) -> Held {
        let not = not.map(|not| self.node(not)).transpose()?;
        let place = if in_turn {
            let turns = self.turns.entry(name.to_owned()).or_default();
            *turns += 1;
            (*turns - 1) % of.len()
        } else {
            0
        };
        for who in &of[place..] {
            let node = self.node(who)?;
            if Some(node) != not {
                self.names.insert(name.to_owned(), node);
                return Ok(());
            }
        }
        Err("none is left to pick".to_owned())
    }

    fn fault(&self, id: &str, action: Action, target: Target) {
        let at_ms = u64::try_from(self.world.time.elapsed().as_millis()).unwrap_or(u64::MAX);
        let fault = FaultEvent {
            id: id.to_owned(),
            at_ms,
            after: None,
            delay_after_ms: 0,
            action,
            target,
            direction: Direction::Both,
            duration_ms: None,
        };
        self.world.begin(&fault, None);
    }

    /// Cuts a node off from all others.
    pub(super) fn cut(&mut self, node: NodeId) {
        if self.cut.insert(node) {
            let cut = Action::NetPartition { shape: Shape::Symmetric, clients: false };
            self.fault(&format!("script cut {node}"), cut, Target::Nodes(vec![node.0]));
        }
    }

    pub(super) fn rejoin(&mut self, node: NodeId) {
        if self.cut.remove(&node) {
            self.world.end(&format!("script cut {node}"));
        }
    }

    /// Parts `left` from the others; the last split ends.
    pub(super) fn split(&mut self, left: &[NodeId]) {
        self.world.end(SPLIT);
        if !left.is_empty() && left.len() < self.world.node_ids().len() {
            let cut = Action::NetPartition { shape: Shape::Symmetric, clients: false };
            self.fault(SPLIT, cut, Target::Nodes(left.iter().map(|node| node.0).collect()));
        }
    }

    /// Ends a node: its process is killed, or the machine loses power.
    pub(super) fn crash(&mut self, node: NodeId) {
        let action = if self.draw().chance(0.5) { Action::NodeCrash } else { Action::NodeKill };
        if self.world.is_up(node) {
            self.fault(&format!("script crash {node}"), action, Target::Nodes(vec![node.0]));
        }
    }

    pub(super) fn start(&mut self, node: NodeId) {
        self.world.start(node);
    }

    pub(super) fn unreliable(&self) {
        self.fault(LOSS, Action::NetLoss { rate: LOSS_RATE }, Target::All);
        self.fault(DELAY, Action::NetDelay { delay_ms: DELAY_MS }, Target::All);
    }

    /// A link has one amount of lateness, so what overtaken messages take replaces what delayed ones took.
    pub(super) fn long_reordering(&self) {
        self.world.end(DELAY);
        let reorder = Action::NetReorder { rate: REORDER_RATE, delay_ms: REORDER_MS };
        self.fault(REORDER, reorder, Target::All);
    }

    pub(super) fn reliable(&self) {
        [LOSS, DELAY, REORDER].iter().for_each(|fault| self.world.end(fault));
    }

    /// The nodes that run.
    pub(super) fn running(&self) -> Vec<NodeId> {
        self.world.node_ids().into_iter().filter(|node| self.world.is_up(*node)).collect()
    }

    /// The nodes that run and are not cut off.
    pub(super) fn connected(&self) -> BTreeMap<NodeId, Face> {
        let mut faces = self.world.watcher.faces();
        faces.retain(|node, face| face.is_up && !self.cut.contains(node));
        faces
    }

    /// The connected leader of the latest term.
    pub(super) fn leader(&self) -> Option<NodeId> {
        let connected = self.connected();
        let leaders = connected.iter().filter(|(_, face)| face.is_leader);
        leaders.max_by_key(|(_, face)| face.term).map(|(node, _)| *node)
    }

    pub(super) async fn one_leader(&mut self, name: Option<&str>, within_ms: u64) -> Held {
        let mut leaders: BTreeMap<Term, Vec<NodeId>> = BTreeMap::new();
        until(Duration::from_millis(within_ms), || {
            leaders.clear();
            for (node, face) in self.connected().iter().filter(|(_, face)| face.is_leader) {
                leaders.entry(face.term).or_default().push(*node);
            }
            !leaders.is_empty()
        })
        .await;
        if let Some((term, several)) = leaders.iter().find(|(_, leaders)| leaders.len() > 1) {
            return Err(format!("term {term} has {} leaders", several.len()));
        }
        let Some((_, latest)) = leaders.last_key_value() else {
            return Err(format!("no connected node leads within {within_ms} ms"));
        };
        if let Some(name) = name {
            self.names.insert(name.to_owned(), latest[0]);
        }
        Ok(())
    }

    pub(super) async fn followed(&self, within_ms: u64) -> Held {
        let is_followed = || {
            let connected: Vec<NodeId> = self.connected().into_keys().collect();
            is_led(&self.world.watcher, &connected)
        };
        match until(Duration::from_millis(within_ms), is_followed).await {
            true => Ok(()),
            false => Err(format!("not every connected node follows one leader within {within_ms} ms")),
        }
    }

    pub(super) fn no_leader(&self) -> Held {
        let faces = self.world.watcher.faces();
        match faces.iter().find(|(_, face)| face.is_up && face.is_leader) {
            Some((node, face)) => Err(format!("{node} believes to lead term {}", face.term)),
            None => Ok(()),
        }
    }

    pub(super) fn same_term(&mut self, unchanged: bool) -> Held {
        let terms: BTreeMap<NodeId, Term> =
            self.connected().iter().map(|(node, face)| (*node, face.term)).collect();
        let first = terms.values().next().copied().unwrap_or_default();
        if let Some((node, term)) = terms.iter().find(|(_, term)| **term != first) {
            return Err(format!("{node} is in term {term}, another node in term {first}"));
        }
        if first == Term(0) {
            return Err("no node has a term yet".to_owned());
        }
        match self.term.replace(first) {
            Some(before) if unchanged && before != first => {
                Err(format!("the term went from {before} to {first} although nothing was wrong"))
            }
            _ => Ok(()),
        }
    }
}
