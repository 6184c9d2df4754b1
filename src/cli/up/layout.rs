//! Which processes `up` starts and where they listen: Raft groups, the controllers' first, on ports in a row.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use super::super::failure::{Code, Failure};
use super::super::values::Cluster;
use crate::replica::Service;
use crate::types::{GroupId, NodeId};

/// The first group of a sharded cluster is this one, the next one follows.
const FIRST_GROUP: u64 = 100;

/// The nodes of one Raft group.
#[derive(Clone, Debug)]
pub(super) struct RaftGroup {
    pub service: Service,
    pub nodes: BTreeMap<NodeId, SocketAddr>,
}

/// A node's name among all of them: `n1`, `ctrler/n1`, `g100/n1`, as its data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub service: Service,
    pub id: NodeId,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.service {
            Service::Kv => write!(f, "{}", self.id),
            Service::Ctrler => write!(f, "ctrler/{}", self.id),
            Service::Shard(group) => write!(f, "g{group}/{}", self.id),
        }
    }
}

impl RaftGroup {
    pub(super) fn cluster(&self) -> Cluster {
        Cluster::of(self.nodes.values().copied())
    }

    /// The group's id, if it is one of a sharded cluster.
    pub(super) fn id(&self) -> Option<GroupId> {
        match self.service {
            Service::Shard(group) => Some(group),
            Service::Kv | Service::Ctrler => None,
        }
    }
}

/// A single group.
pub(super) fn single(replicas: u16, port_base: u16) -> Result<Vec<RaftGroup>, Failure> {
    place([(Service::Kv, replicas)], port_base)
}

/// Controllers, and groups of replicas.
pub(super) fn sharded(
    ctrlers: u16,
    groups: u16,
    replicas: u16,
    port_base: u16,
) -> Result<Vec<RaftGroup>, Failure> {
    let groups =
        (FIRST_GROUP..).take(usize::from(groups)).map(|group| (Service::Shard(GroupId(group)), replicas));
    place(std::iter::once((Service::Ctrler, ctrlers)).chain(groups), port_base)
}

/// Gives each node the next port.
fn place(
    groups: impl IntoIterator<Item = (Service, u16)>,
    port_base: u16,
) -> Result<Vec<RaftGroup>, Failure> {
    let mut ports = port_base..=u16::MAX;
    let mut placed = Vec::new();
    for (service, count) in groups {
        let mut nodes = BTreeMap::new();
        for id in 1..=u64::from(count) {
            let port = ports
                .next()
                .ok_or_else(|| Failure::usage(format!("--port-base {port_base}: there is no port 65536")))?;
            nodes.insert(NodeId(id), SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        }
        placed.push(RaftGroup { service, nodes });
    }
    Ok(placed)
}

/// Fails if something listens on one of the addresses. They are closed again at once: this is only for the message,
/// each node looks again.
pub(super) fn check_free(groups: &[RaftGroup]) -> Result<(), Failure> {
    for address in groups.iter().flat_map(|group| group.nodes.values()) {
        TcpListener::bind(address).map_err(|error| {
            let message =
                format!("cannot listen on {address}: {error}; nothing was started, try another --port-base");
            Failure::new(Code::Unavailable, message)
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_in_a_row_and_names_are_directories() {
        let groups = sharded(3, 2, 2, 6001).unwrap();
        let clusters: Vec<_> = groups.iter().map(|group| group.cluster().to_string()).collect();
        assert_eq!(
            clusters,
            [
                "127.0.0.1:6001,127.0.0.1:6002,127.0.0.1:6003",
                "127.0.0.1:6004,127.0.0.1:6005",
                "127.0.0.1:6006,127.0.0.1:6007"
            ]
        );
        let name = |group: usize| Name { service: groups[group].service, id: NodeId(2) }.to_string();
        assert_eq!([name(0), name(1), name(2)], ["ctrler/n2", "g100/n2", "g101/n2"]);
        assert!(single(3, 65534).is_err() && single(2, 65534).is_ok());
    }
}
