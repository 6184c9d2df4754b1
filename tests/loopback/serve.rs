//! Three nodes of one process serve and agree.

use std::sync::Arc;

use eraft::client::{Client, ClientOptions, Outcome};
use eraft::kv::KvMachine;
use eraft::node::{NodeOptions, serve};
use eraft::observe::NoObserver;
use eraft::proto::kv::kv_client::KvClient;
use eraft::proto::kv::{self as pb, done, reply, request};
use eraft::replica::{Identity, Service};
use eraft::storage::memory::MemoryVolume;
use prost::Message as _;
use tonic::Code;

use super::nodes::{free_addresses, surroundings};

#[tokio::test]
async fn eraft_b37_three_nodes_serve_and_tell_a_missing_key_from_an_empty_value() {
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
    let client = Client::new(ClientOptions::new(nodes.clone()), surroundings(99), None);
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

/// Simple clients need no stream, and are checked like the others.
#[tokio::test]
async fn calls_by_themselves() {
    let nodes = free_addresses(1);
    let id = *nodes.keys().next().expect("one");
    let options = NodeOptions::new(Identity {
        cluster_id: "test".into(),
        service: Service::Kv,
        id,
        nodes: nodes.clone(),
    });
    let (ready, is_ready) = tokio::sync::oneshot::channel();
    let volume = Arc::new(MemoryVolume::default());
    let never = std::future::pending();
    tokio::spawn(serve(
        KvMachine::default(),
        options,
        volume,
        surroundings(1),
        Arc::new(NoObserver),
        Some(ready),
        never,
    ));
    is_ready.await.expect("it listens");
    let client = Client::new(ClientOptions::new(nodes.clone()), surroundings(99), None);
    assert_eq!(client.put("a".into(), "1".into()).await, Outcome::Ok(()));

    let channel = tonic::transport::Endpoint::new(format!("http://{}", nodes[&id])).expect("an address");
    let mut simple = KvClient::new(channel.connect().await.expect("it connects"));
    let get = request::Operation::Get(pb::Get { key: "a".into(), stale: false });
    let request = pb::Request { id: 7, deadline_ms: 5_000, operation: Some(get), shard: None };
    let hello = |cluster_id: &str| pb::ClientHello {
        format_version: eraft::replica::FORMAT_VERSION,
        cluster_id: cluster_id.into(),
        party: 0,
        node: 0,
    };
    let frame = |cluster_id| {
        let call = pb::Call { hello: Some(hello(cluster_id)), request: Some(request.clone()) };
        pb::Frame { payload: call.encode_to_vec().into() }
    };
    let answer = simple.call(frame("test")).await.expect("it is answered").into_inner();
    let reply = pb::Reply::decode(answer.payload).expect("a reply");
    let Some(reply::Outcome::Done(pb::Done { result: Some(done::Result::Get(got)), .. })) = reply.outcome
    else {
        panic!("{reply:?}");
    };
    assert_eq!((reply.id, got.value), (7, Some("1".into())));
    let refused = simple.call(frame("other")).await.expect_err("another cluster");
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::FailedPrecondition, "this is cluster \"test\", not \"other\"")
    );
}
