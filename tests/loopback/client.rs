//! How a client treats the nodes: it remembers who leads, waits between attempts, and ends in time.

use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use eraft::client::{Client, ClientOptions, Outcome};
use eraft::proto::kv::kv_server::{Kv, KvServer};
use eraft::proto::kv::{self as pb, RefusedReason, done, reply};
use eraft::replica::frames::{Joiner, Splitter};
use eraft::storage::memory::MemoryVolume;
use eraft::types::NodeId;
use futures_util::{Stream, StreamExt as _};
use prost::Message as _;
use tonic::{Request, Response, Status, Streaming};

use super::nodes::{Group, free_addresses, surroundings, wait_for};
use super::volume::{Orders, Watched};

/// Answers every request in one way, and counts them.
#[derive(Clone)]
struct Fake {
    outcome: reply::Outcome,
    asked: Arc<AtomicU64>,
}

#[tonic::async_trait]
impl Kv for Fake {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<pb::Frame, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<pb::Frame>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (fake, mut joiner, mut splitter) = (self.clone(), Joiner::default(), Splitter::default());
        let frames = request.into_inner().skip(1); // the hello
        let replies = frames.map(move |frame| {
            let message = joiner.join(frame?.payload).expect("a frame").expect("a small message");
            let request = pb::Request::decode(message).expect("a request");
            fake.asked.fetch_add(1, Ordering::SeqCst);
            let reply = pb::Reply { id: request.id, outcome: Some(fake.outcome.clone()) };
            Ok(pb::Frame { payload: splitter.split(&reply).remove(0) })
        });
        Ok(Response::new(Box::pin(replies)))
    }

    async fn call(&self, _: Request<pb::Frame>) -> Result<Response<pb::Frame>, Status> {
        Err(Status::unimplemented("fake"))
    }
}

async fn serve(outcome: reply::Outcome) -> (SocketAddr, Arc<AtomicU64>) {
    let fake = Fake { outcome, asked: Arc::default() };
    let asked = fake.asked.clone();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("its address");
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    let router = tonic::transport::Server::builder().add_service(KvServer::new(fake));
    tokio::spawn(router.serve_with_incoming(incoming));
    (address, asked)
}

/// eRaft's clerk asked the first node first, for each operation (B23).
#[tokio::test]
async fn eraft_b23_the_leader_is_remembered() {
    let refused =
        pb::Refused { reason: RefusedReason::RefusedNotLeader.into(), leader: 2, ..Default::default() };
    let (first, asked_first) = serve(reply::Outcome::Refused(refused)).await;
    let got = done::Result::Get(pb::GetResult { value: None });
    let (second, asked_second) = serve(reply::Outcome::Done(pb::Done { result: Some(got), index: 1 })).await;
    let nodes = [(NodeId(1), first), (NodeId(2), second)].into();
    let client = Client::new(ClientOptions::new(nodes), surroundings(1), None);
    for _ in 0..10 {
        assert_eq!(client.get("a".into()).await, Outcome::Ok(None));
    }
    let asked = [&asked_first, &asked_second].map(|asked| asked.load(Ordering::SeqCst));
    assert_eq!(asked, [1, 10]);
}

/// A node serves so many streams of clients; one more is turned away, and nothing that is asked on it is executed.
#[test]
fn a_stream_too_many_is_turned_away_before_anything_on_it_is_taken() {
    let options = eraft::replica::Options { client_streams_max: 2, ..Default::default() };
    let volume = Watched::new(MemoryVolume::default(), Orders::default());
    let mut group = Group::new(1, options);
    group.start(1, &volume);
    let clients: Vec<Client> = (1..=2).map(|seed| group.client(seed)).collect();
    for client in &clients {
        assert_eq!(group.here.block_on(client.put("a".into(), "1".into())), Outcome::Ok(()));
    }
    let mut options = ClientOptions::new(group.nodes.clone());
    options.deadline_ms = 500;
    let third = {
        let _inside = group.here.enter();
        Client::new(options, surroundings(3), None)
    };
    let refused = group.here.block_on(third.put("a".into(), "2".into()));
    let Outcome::Refused(refused) = refused else { panic!("{refused:?}") };
    assert!(refused.unavailable && refused.detail.contains("serves 2 streams"), "{}", refused.detail);
    drop(clients);
    wait_for("a stream is free again", || {
        let put = group.here.block_on(third.put("a".into(), "3".into()));
        (put == Outcome::Ok(())).then_some(())
    });
}

/// eRaft's clerks never gave up (B23), and one of them never paused: it span at 96% of a core (B25).
#[tokio::test]
async fn eraft_b25_a_client_pauses_between_attempts_and_ends_in_time() {
    const PAUSE_MS: u64 = 40;
    let nodes = free_addresses(1);
    let listener = TcpListener::bind(nodes[&NodeId(1)]).expect("it was free just now");
    let attempts = Arc::new(AtomicU64::new(0));
    let counted = attempts.clone();
    std::thread::spawn(move || {
        while listener.accept().is_ok() {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    let mut options = ClientOptions::new(nodes);
    (options.deadline_ms, options.backoff_ms) = (1_000, (PAUSE_MS, PAUSE_MS));
    let client = Client::new(options, surroundings(1), None);
    let begun = Instant::now();
    let outcome = client.put("a".into(), "1".into()).await;
    let took = begun.elapsed();
    assert!(matches!(&outcome, Outcome::Refused(refused) if refused.unavailable), "{outcome:?}");
    assert!(took < Duration::from_secs(20), "{took:?}");
    // Jitter takes up to a half off each pause; an attempt may connect twice.
    let most = 2 * (took.as_millis() as u64 / (PAUSE_MS / 2) + 2);
    let attempts = attempts.load(Ordering::SeqCst);
    assert!((2..=most).contains(&attempts), "{attempts} attempts in {took:?}, at most {most} expected");
}
