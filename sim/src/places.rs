//! The places of a simulated world: which Raft groups there are, and what their nodes are called.
//!
//! Every node of a world has another id, which says where it is: a group that stands alone has `n1`…, the controllers
//! have `s1`…, the group 100 of a sharded store has `g100n1`…. So a name, an address and a place follow from an id.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use eraft::types::{GroupId, NodeId};

use crate::scenario::Cluster;
use crate::schedule::Configuration;

/// The first group of a sharded store; the others follow.
pub const FIRST_GROUP: u64 = 100;
/// Groups of one world at most, or groups that operators of controllers alone may name.
pub const GROUPS_MAX: u64 = 100;
/// The port of every node.
const PORT: u16 = 7000;
/// The numbers of the controllers begin after this.
const CTRLERS: u64 = 500;
/// The numbers of a group's nodes begin after so many times its id.
const PER_GROUP: u64 = 10;

/// A Raft group of a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// The only group there is.
    Alone,
    /// The controllers.
    Ctrlers,
    /// A group that serves shards.
    Group(GroupId),
}

impl Place {
    /// Its node with this number, from 1 to 9.
    pub fn node(self, number: u64) -> NodeId {
        NodeId(match self {
            Place::Alone => number,
            Place::Ctrlers => CTRLERS + number,
            Place::Group(group) => group.0 * PER_GROUP + number,
        })
    }

    /// Where `node` is.
    pub fn of(node: NodeId) -> Self {
        match node.0 {
            0..=CTRLERS => Place::Alone,
            number if number <= CTRLERS + PER_GROUP => Place::Ctrlers,
            number => Place::Group(GroupId(number / PER_GROUP)),
        }
    }

    /// Reads `ctrlers` or `g101`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "ctrlers" => Some(Place::Ctrlers),
            _ => parse_group(text).map(Place::Group),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Alone => f.write_str("the group"),
            Place::Ctrlers => f.write_str("ctrlers"),
            Place::Group(group) => write!(f, "g{group}"),
        }
    }
}

/// Reads `g101`.
pub fn parse_group(text: &str) -> Option<GroupId> {
    let group = text.strip_prefix('g')?.parse().ok()?;
    (FIRST_GROUP..FIRST_GROUP + GROUPS_MAX).contains(&group).then_some(GroupId(group))
}

/// The group with this number, counted from 0.
pub fn group(number: u64) -> GroupId {
    GroupId(FIRST_GROUP + number)
}

/// The groups of a world, each with its nodes.
pub fn of(cluster: &Cluster) -> Vec<(Place, Vec<NodeId>)> {
    let of_size = |place: Place, nodes: u64| (place, (1..=nodes).map(|number| place.node(number)).collect());
    if cluster.ctrlers == 0 {
        return vec![of_size(Place::Alone, cluster.nodes)];
    }
    let groups = (0..cluster.groups).map(|number| of_size(Place::Group(group(number)), cluster.nodes));
    std::iter::once(of_size(Place::Ctrlers, cluster.ctrlers)).chain(groups).collect()
}

/// The names of all nodes of a run, then of its clients and operators.
pub fn names(configuration: &Configuration) -> (Vec<String>, Vec<String>) {
    let nodes = of(&configuration.cluster).into_iter().flat_map(|(_, nodes)| nodes).map(name).collect();
    let operators = (1..=configuration.operators.operators).map(|number| OPERATORS + number);
    let clients = (1..=configuration.workload.clients).chain(operators).map(client_name).collect();
    (nodes, clients)
}

/// A cluster in words, for messages.
pub fn described(cluster: &Cluster) -> String {
    let Cluster { nodes, ctrlers, groups, .. } = cluster;
    match (ctrlers, groups) {
        (0, _) => format!("a cluster of {nodes} nodes"),
        (_, 0) => format!("a cluster of {ctrlers} controllers"),
        _ => format!("a cluster of {ctrlers} controllers and {groups} groups of {nodes} nodes"),
    }
}

/// The name of a node.
pub fn name(node: NodeId) -> String {
    match Place::of(node) {
        Place::Alone => node.to_string(),
        Place::Ctrlers => format!("s{}", node.0 - CTRLERS),
        Place::Group(group) => format!("g{group}n{}", node.0 % PER_GROUP),
    }
}

/// The node of this name.
pub fn node_of(name: &str) -> Option<NodeId> {
    let number = |text: &str| text.parse::<u64>().ok().filter(|number| (1..PER_GROUP).contains(number));
    if let Some(text) = name.strip_prefix('s') {
        return number(text).map(|number| Place::Ctrlers.node(number));
    }
    if let Some((group, text)) = name.split_once('n').filter(|(group, _)| !group.is_empty()) {
        return Some(Place::Group(parse_group(group)?).node(number(text)?));
    }
    // A group that stands alone may be named with numbers that it does not have: who reads it says so.
    name.strip_prefix('n')?.parse().ok().filter(|number| (1..CTRLERS).contains(number)).map(NodeId)
}

/// The numbers of operators, among those of clients, begin after this; those of a script's clients after 200.
pub const OPERATORS: u64 = 100;

/// The name of a client: `c1`…, of an operator `o1`….
pub fn client_name(number: u64) -> String {
    match number {
        OPERATORS..200 => format!("o{}", number - OPERATORS),
        _ => format!("c{number}"),
    }
}

/// The number of the client of this name.
pub fn client_of(name: &str) -> Option<u64> {
    let number = |text: &str| text.parse().ok().filter(|number| *number > 0);
    match name.strip_prefix('o') {
        Some(text) => number(text).filter(|number| *number < 100).map(|number| OPERATORS + number),
        None => number(name.strip_prefix('c')?),
    }
}

/// The address of a node.
pub fn address(node: NodeId) -> SocketAddr {
    let (group, number) = match Place::of(node) {
        Place::Alone => (0, node.0),
        Place::Ctrlers => (0, node.0 - CTRLERS),
        Place::Group(group) => (group.0, node.0 % PER_GROUP),
    };
    // Clients are at 10.0.1.x, and groups have ids from 100 on.
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, group as u8, number as u8)), PORT)
}

/// The node of a group that serves shards at this address.
pub fn at(address: SocketAddr) -> Option<NodeId> {
    let IpAddr::V4(ip) = address.ip() else { return None };
    let [_, _, group, number] = ip.octets().map(u64::from);
    (group >= FIRST_GROUP).then(|| Place::Group(GroupId(group)).node(number))
}

/// `text`, in which nodes are called as they are where nobody knows of places, with their names.
pub fn renamed(text: &str) -> String {
    let mut renamed = String::with_capacity(text.len());
    let mut rest = text;
    let mut before = ' ';
    while let Some(first) = rest.chars().next() {
        let digits = rest[first.len_utf8()..].chars().take_while(char::is_ascii_digit).count();
        let (word, after) = rest.split_at(first.len_utf8() + digits);
        let number = word[first.len_utf8()..].parse().ok().filter(|number| *number > CTRLERS);
        match number {
            Some(number) if first == 'n' && !before.is_ascii_alphanumeric() => {
                renamed.push_str(&name(NodeId(number)));
            }
            _ => renamed.push_str(word),
        }
        before = word.chars().last().unwrap_or(first);
        rest = after;
    }
    renamed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_known_by_its_id_its_name_and_its_address() {
        let places = [Place::Alone, Place::Ctrlers, Place::Group(GroupId(100)), Place::Group(GroupId(199))];
        let mut addresses = std::collections::BTreeSet::new();
        for place in places {
            for number in 1..=9 {
                let node = place.node(number);
                assert_eq!(Place::of(node), place);
                assert_eq!(node_of(&name(node)), Some(node));
                assert_eq!(at(address(node)), Some(node).filter(|_| matches!(place, Place::Group(_))));
                assert!(place == Place::Alone || addresses.insert(address(node)), "{}", name(node));
            }
        }
        assert_eq!(name(Place::Group(GroupId(101)).node(2)), "g101n2");
        for client in ["c1", "o1", "c64", "o16"] {
            assert_eq!(client_of(client).map(client_name).as_deref(), Some(client));
        }
        for text in ["", "n0", "n", "s0", "s10", "g101", "g101n0", "g99n1", "x1", "nn1", "n1n1"] {
            assert_eq!(node_of(text), None, "{text}");
        }
    }

    #[test]
    fn words_about_nodes_get_their_names() {
        assert_eq!(
            renamed("n1012 and n502 hold log1012, number 1012; n3's"),
            "g101n2 and s2 hold log1012, number 1012; n3's"
        );
    }
}
