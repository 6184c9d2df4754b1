//! The hook round real streams of gRPC between madsim's nodes.

use std::pin::Pin;
use std::time::Duration;

use eraft::proto::raft::Frame;
use eraft::proto::raft::raft_client::RaftClient;
use eraft::proto::raft::raft_server::{Raft, RaftServer};
use eraft::replica::link::{Channel, Frames, Hook};
use eraft_sim::net::SimNet;
use futures_util::{StreamExt, future, stream};
use madsim::runtime::Handle;
use madsim::time::{sleep, timeout};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

use super::support::*;

/// A server that passes what it gets, through the hook, to the test.
struct Server {
    net: SimNet,
    /// Refuses snapshots without looking at the stream.
    refuses: bool,
    seen: mpsc::UnboundedSender<Result<u32, String>>,
}

fn payloads(stream: Streaming<Frame>) -> Frames {
    stream.map(|item| item.map(|frame| frame.payload).map_err(|status| status.to_string())).boxed()
}

#[tonic::async_trait]
impl Raft for Server {
    type MessagesStream = Pin<Box<dyn futures_util::Stream<Item = Result<Frame, Status>> + Send>>;
    type SnapshotStream = Self::MessagesStream;

    async fn messages(
        &self,
        request: Request<Streaming<Frame>>,
    ) -> Result<Response<Self::MessagesStream>, Status> {
        let way = route(A, B, Channel::Client);
        let frames = self.net.inbound(way, payloads(request.into_inner()));
        let echoes = self.net.outbound(way.back(), frames);
        let replies = echoes.map(|item| item.map(|payload| Frame { payload }).map_err(Status::unavailable));
        Ok(Response::new(replies.boxed()))
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<Frame>>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        if self.refuses {
            sleep(millis(20)).await;
            return Err(Status::resource_exhausted("not now"));
        }
        let way = route(A, B, Channel::Snapshot);
        let mut frames = self.net.inbound(way, payloads(request.into_inner()));
        let mut count = 0;
        while let Some(item) = frames.next().await {
            count += 1;
            let failed = item.is_err();
            self.seen.send(item.map(|frame| number(&frame))).expect("the test listens");
            if failed {
                return Err(Status::data_loss("the stream broke"));
            }
        }
        Ok(Response::new(stream::iter([Ok(Frame { payload: frame(count) })]).boxed()))
    }
}

/// A server on a madsim node of its own and a runtime node for its client.
fn serve(
    net: &SimNet,
    refuses: bool,
) -> (madsim::runtime::NodeHandle, madsim::runtime::NodeHandle, mpsc::UnboundedReceiver<Result<u32, String>>)
{
    let (seen, sees) = mpsc::unbounded_channel();
    let net = net.clone();
    let runtime = Handle::current();
    let server = runtime.create_node().name("server").ip([10, 0, 0, 2].into());
    let server = server.init(move || {
        let server = Server { net: net.clone(), refuses, seen: seen.clone() };
        async move {
            let address = "0.0.0.0:1".parse().expect("an address");
            let serving =
                tonic::transport::Server::builder().add_service(RaftServer::new(server)).serve(address);
            serving.await.expect("serves");
        }
    });
    let client = Handle::current().create_node().name("client").ip([10, 0, 0, 1].into()).build();
    (server.build(), client, sees)
}

fn client() -> RaftClient<tonic::transport::Channel> {
    let endpoint = tonic::transport::Endpoint::from_static("http://10.0.0.2:1");
    RaftClient::new(endpoint.connect_lazy())
}

/// The sender's stream as gRPC wants it: it ends when the hook's breaks.
fn requests(frames: Frames) -> impl futures_util::Stream<Item = Frame> + Send + 'static {
    let unbroken = frames.take_while(|item| future::ready(item.is_ok()));
    unbroken.filter_map(|item| future::ready(item.ok().map(|payload| Frame { payload })))
}

#[test]
fn a_client_stream_of_tonic_passes_the_hook() {
    run(17, quiet(), |net| async move {
        let (_server, node, mut sees) = serve(&net, false);
        sleep(millis(10)).await;
        let link = net.clone();
        let call = node.spawn(async move {
            link.connect(route(A, B, Channel::Snapshot)).await.expect("connects");
            let paced = stream::iter(0..100u32).then(|i| async move {
                sleep(millis(1)).await;
                Ok(frame(i))
            });
            let frames = link.outbound(route(A, B, Channel::Snapshot), paced.boxed());
            let mut answers = client().snapshot(requests(frames)).await.expect("opens").into_inner();
            answers.message().await.map(|answer| number(&answer.expect("one answer").payload))
        });
        assert_eq!(call.await.expect("joins").expect("is answered"), 100);
        let mut numbers = Vec::new();
        while let Ok(item) = sees.try_recv() {
            numbers.push(item.expect("no break"));
        }
        assert_eq!(numbers, range(100));
    });
}

#[test]
fn a_call_that_is_refused_without_a_look_at_its_stream_ends() {
    run(20, quiet(), |net| async move {
        let (_server, node, _sees) = serve(&net, true);
        sleep(millis(10)).await;
        let link = net.clone();
        let call = node.spawn(async move {
            let one = stream::iter([Ok(frame(1))]).chain(stream::pending());
            let frames = link.outbound(route(A, B, Channel::Snapshot), one.boxed());
            timeout(Duration::from_secs(1), client().snapshot(requests(frames))).await
        });
        let answer = call.await.expect("joins").expect("is answered in time");
        assert_eq!(answer.expect_err("is refused").message(), "not now");
    });
}

#[test]
fn a_stream_of_tonic_to_and_fro_passes_the_hook_both_ways() {
    run(18, quiet(), |net| async move {
        let (_server, node, _sees) = serve(&net, false);
        sleep(millis(10)).await;
        let link = net.clone();
        let took = node.spawn(async move {
            let (input, frames) = mpsc::channel(10);
            let way = route(A, B, Channel::Client);
            let outbound = link.outbound(way, received(frames));
            let replies = client().messages(requests(outbound)).await.expect("opens").into_inner();
            let mut replies = link.inbound(way.back(), payloads(replies));
            let mut took = Vec::new();
            for i in 0..50 {
                let began = elapsed();
                input.send(Ok(frame(i))).await.expect("goes on");
                assert_eq!(replies.next().await, Some(Ok(frame(i))));
                took.push(elapsed() - began);
            }
            took
        });
        let took = took.await.expect("joins");
        // The first waits for madsim to open the connection.
        assert!(took[1..].iter().all(|took| (millis(10)..millis(11)).contains(took)), "{took:?}");
    });
}

#[test]
fn a_tonic_server_learns_of_its_clients_power_loss_late_and_of_its_death_soon() {
    for (power_loss, expected) in [(true, 4_000..4_010), (false, 10..20)] {
        run(19, quiet(), move |net| async move {
            let (_server, node, mut sees) = serve(&net, false);
            sleep(millis(10)).await;
            let link = net.clone();
            let _call = node.spawn(async move {
                let one = stream::iter([Ok(frame(1))]).chain(stream::pending());
                let frames = link.outbound(route(A, B, Channel::Snapshot), one.boxed());
                client().snapshot(requests(frames)).await.map(drop)
            });
            assert_eq!(sees.recv().await, Some(Ok(1)));
            let began = elapsed();
            if power_loss {
                net.power_loss(A)
            } else {
                net.process_death(A)
            }
            Handle::current().kill(node.id());
            Handle::current().restart(node.id());
            net.revive(A);
            assert!(sees.recv().await.expect("is told").is_err());
            let told = (elapsed() - began).as_millis();
            assert!(expected.contains(&told), "told after {told} ms");
        });
    }
}
