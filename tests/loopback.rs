//! Three nodes of one process on loopback, in memory: the shell end to end, without files.
#![cfg(not(madsim))]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use eraft::client::{Client, ClientOptions, Outcome};
use eraft::kv::KvMachine;
use eraft::node::{NodeOptions, serve};
use eraft::observe::NoObserver;
use eraft::random::Draws;
use eraft::replica::link::Link;
use eraft::replica::timers::Clock;
use eraft::replica::{Identity, Service, Surroundings};
use eraft::storage::memory::MemoryVolume;
use eraft::types::NodeId;

fn free_addresses(count: u64) -> BTreeMap<NodeId, SocketAddr> {
    let listeners: Vec<_> =
        (0..count).map(|_| std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port")).collect();
    let addresses = listeners.iter().map(|listener| listener.local_addr().expect("its address"));
    (1..=count).map(NodeId).zip(addresses).collect()
}

fn surroundings(seed: u64) -> Surroundings {
    Surroundings { link: Link, clock: Clock::default(), draws: Draws::new(seed, "loopback") }
}

#[tokio::test]
async fn three_nodes_serve_and_agree() {
    let nodes = free_addresses(3);
    for id in nodes.keys() {
        let identity =
            Identity { cluster_id: "test".into(), service: Service::Kv, id: *id, nodes: nodes.clone() };
        let options = NodeOptions::new(identity);
        let volume = Arc::new(MemoryVolume::default());
        tokio::spawn(serve(
            KvMachine::default(),
            options,
            volume,
            surroundings(id.0),
            Arc::new(NoObserver),
            None,
            std::future::pending(),
        ));
    }
    let client = Client::new(ClientOptions::new(nodes), surroundings(99), None);
    assert_eq!(client.get("a".into()).await, Outcome::Ok(None));
    assert_eq!(client.put("a".into(), "1".into()).await, Outcome::Ok(()));
    assert_eq!(client.append("a".into(), "2".into()).await, Outcome::Ok(()));
    assert_eq!(client.get("a".into()).await, Outcome::Ok(Some("12".into())));
    assert_eq!(client.cas("a".into(), Some("12".into()), "".into()).await, Outcome::Ok(true));
    assert_eq!(client.cas("a".into(), None, "x".into()).await, Outcome::Ok(false));
    assert_eq!(client.get("a".into()).await, Outcome::Ok(Some("".into())));
    assert_eq!(client.delete("a".into()).await, Outcome::Ok(true));
    assert_eq!(client.delete("a".into()).await, Outcome::Ok(false));
    let large = vec![7; 1 << 20];
    assert_eq!(client.put("large".into(), large.clone().into()).await, Outcome::Ok(()));
    assert_eq!(client.get("large".into()).await, Outcome::Ok(Some(large.into())));
    let refused = client.put("large".into(), vec![7; (1 << 20) + 1].into()).await;
    assert!(matches!(refused, Outcome::Refused(refused) if !refused.unavailable));
}
