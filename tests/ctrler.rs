//! Three controllers of one process on loopback, in memory: the configuration service end to end, without files.
#![cfg(not(madsim))]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use eraft::buggify::Buggify;
use eraft::client::{Client, ClientOptions, ConfigCache, Found, Outcome, Which};
use eraft::ctrler::{Config, CtrlerMachine};
use eraft::node::{NodeOptions, serve};
use eraft::observe::NoObserver;
use eraft::proto::admin::StatusRequest;
use eraft::proto::admin::admin_client::AdminClient;
use eraft::proto::ctrler::change::Change;
use eraft::proto::ctrler::{Group, GroupIds, Groups, Move};
use eraft::random::Draws;
use eraft::replica::link::Link;
use eraft::replica::timers::Clock;
use eraft::replica::{Identity, Service, Surroundings};
use eraft::storage::memory::MemoryVolume;
use eraft::types::{ConfigNum, GroupId, NodeId};

fn free_addresses(count: u64) -> BTreeMap<NodeId, SocketAddr> {
    let listeners: Vec<_> =
        (0..count).map(|_| std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port")).collect();
    let addresses = listeners.iter().map(|listener| listener.local_addr().expect("its address"));
    (1..=count).map(NodeId).zip(addresses).collect()
}

fn surroundings(seed: u64) -> Surroundings {
    Surroundings { link: Link, clock: Clock::default(), draws: Draws::new(seed, "ctrler"), buggify: Buggify }
}

/// Three controllers, for as long as the test runs.
fn controllers() -> BTreeMap<NodeId, SocketAddr> {
    let nodes = free_addresses(3);
    for id in nodes.keys() {
        let (cluster_id, service) = ("test".to_owned(), Service::Ctrler);
        let identity = Identity { cluster_id, service, id: *id, nodes: nodes.clone() };
        let options = NodeOptions::new(identity);
        let (machine, volume) = (CtrlerMachine::default(), Arc::new(MemoryVolume::default()));
        let around = surroundings(id.0);
        let node =
            serve(machine, options, volume, around, Arc::new(NoObserver), None, std::future::pending());
        tokio::spawn(node);
    }
    nodes
}

fn client(nodes: &BTreeMap<NodeId, SocketAddr>, seed: u64) -> Client {
    Client::new(ClientOptions::new(nodes.clone()), surroundings(seed), None)
}

fn join(ids: &[u64]) -> Change {
    let group = |id: &u64| Group { group: *id, addresses: vec![format!("10.0.0.{id}:1")] };
    Change::Join(Groups { groups: ids.iter().map(group).collect() })
}

fn ok<T: std::fmt::Debug>(outcome: Outcome<T>) -> T {
    match outcome {
        Outcome::Ok(value) => value,
        other => panic!("{other:?}"),
    }
}

async fn latest(client: &Client) -> Config {
    ok(client.query(Which::Latest).await).config.expect("there always is a latest config")
}

#[tokio::test]
async fn operators_make_configs_and_everybody_sees_them() {
    let nodes = controllers();
    let client = client(&nodes, 99);
    assert_eq!(ok(client.change(join(&[100, 101])).await), ConfigNum(1));
    assert_eq!(ok(client.change(Change::Move(Move { shard: 3, group: 101 })).await), ConfigNum(2));
    let refused = client.change(Change::Move(Move { shard: 3, group: 999 })).await;
    assert!(matches!(refused, Outcome::Refused(refused) if refused.detail == "group 999 is not joined"));
    let config = latest(&client).await;
    assert_eq!((config.num, config.shards_of(GroupId(101)).count()), (ConfigNum(2), 5));
    let Found { config: first, latest, oldest } = ok(client.query(Which::Num(ConfigNum(1))).await);
    assert_eq!((first.unwrap().num, latest, oldest), (ConfigNum(1), ConfigNum(2), ConfigNum(0)));
    let keys = client.get("a".into()).await;
    assert!(matches!(keys, Outcome::Refused(refused) if !refused.unavailable), "it keeps no keys");
}

#[tokio::test]
async fn who_waits_is_told_at_once() {
    let nodes = controllers();
    let (operator, waiting) = (client(&nodes, 1), client(&nodes, 2));
    assert_eq!(ok(waiting.await_config(ConfigNum(0)).await).config, None, "nothing comes for a while");
    let waits = tokio::spawn(async move {
        loop {
            if let Some(config) = ok(waiting.await_config(ConfigNum(0)).await).config {
                return (config, Instant::now());
            }
        }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    ok(operator.change(join(&[7])).await);
    let made = Instant::now();
    let (config, told) = waits.await.expect("no panic");
    assert_eq!(config.num, ConfigNum(1));
    assert!(told.saturating_duration_since(made) < Duration::from_millis(250), "it was not the slow way");
}

#[tokio::test]
async fn a_cache_asks_once_and_again_when_told_that_it_is_old() {
    let nodes = controllers();
    let operator = client(&nodes, 1);
    let cache = ConfigCache::new(client(&nodes, 2));
    let old = ok(cache.get().await);
    ok(operator.change(join(&[7])).await);
    assert!(Arc::ptr_eq(&ok(cache.get().await), &old), "nobody has said that it is old");
    let (new, also) = tokio::join!(cache.newer_than(&old), cache.newer_than(&old));
    let (new, also) = (ok(new), ok(also));
    assert_eq!(new.num, ConfigNum(1));
    assert!(Arc::ptr_eq(&new, &also), "one question for both");
}

async fn last_of_logs(nodes: &BTreeMap<NodeId, SocketAddr>) -> Vec<u64> {
    let mut last = Vec::new();
    for address in nodes.values() {
        let mut admin = AdminClient::connect(format!("http://{address}")).await.expect("it listens");
        last.push(admin.get_status(StatusRequest {}).await.expect("it answers").into_inner().log_last);
    }
    last
}

/// In eRaft each question for a config was an entry in the log: 18 a second from two idle groups.
#[tokio::test]
async fn eraft_b11_questions_and_waiting_cost_no_entry_in_the_log() {
    let nodes = controllers();
    let operator = client(&nodes, 1);
    ok(operator.change(join(&[100, 101])).await);
    ok(operator.report(GroupId(100), ConfigNum(1), true).await);
    let settled = loop {
        let last = last_of_logs(&nodes).await;
        if last.iter().all(|index| *index == last[0]) {
            break last;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let groups = [client(&nodes, 2), client(&nodes, 3)];
    for _ in 0..3 {
        for group in &groups {
            assert_eq!(ok(group.await_config(ConfigNum(1)).await).config, None);
            assert_eq!(latest(group).await.num, ConfigNum(1));
            ok(group.query(Which::Num(ConfigNum(0))).await);
        }
    }
    assert_eq!(last_of_logs(&nodes).await, settled);
}

/// In eRaft whoever asked controllers that were down took all of a core.
#[tokio::test]
async fn eraft_b25_who_asks_controllers_that_are_down_pauses_between_attempts() {
    let nodes = free_addresses(3);
    let attempts = Arc::new(AtomicUsize::new(0));
    for address in nodes.values() {
        let listener = tokio::net::TcpListener::bind(address).await.expect("it was free");
        let attempts = attempts.clone();
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                attempts.fetch_add(1, Ordering::Relaxed);
                drop(connection);
            }
        });
    }
    let options = ClientOptions { deadline_ms: 2_000, ..ClientOptions::new(nodes) };
    let client = Client::new(options, surroundings(1), None);
    assert!(matches!(client.query(Which::Latest).await, Outcome::Refused(refused) if refused.unavailable));
    let attempts = attempts.load(Ordering::Relaxed);
    assert!((3..40).contains(&attempts), "{attempts} attempts in two seconds");
    let leave = Change::Leave(GroupIds { groups: vec![1] });
    assert!(matches!(client.change(leave).await, Outcome::Refused(refused) if refused.unavailable));
}
