//! The simulated network: each fault does what it says, nothing queues without bound, and a seed decides all of it.
#![cfg(madsim)]

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use eraft::proto::raft::Frame;
use eraft::proto::raft::raft_client::RaftClient;
use eraft::proto::raft::raft_server::{Raft, RaftServer};
use eraft::replica::link::{Channel, Frames, Hook, Party, Route};
use eraft::types::NodeId;
use eraft_sim::net::{
    IN_FLIGHT_FRAMES_MAX, LinkConfig, MessageEvent, NetConfig, NoticeConfig, Outcome, Partition, SimNet,
    madsim_config,
};
use eraft_sim::timing::Spread;
use futures_util::{StreamExt, future, stream};
use madsim::runtime::{Handle, Runtime};
use madsim::task::JoinHandle;
use madsim::time::{TimeHandle, sleep, timeout};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

const A: Party = Party::Node(NodeId(1));
const B: Party = Party::Node(NodeId(2));
const CLIENT: Party = Party::Client(7);

/// Runs `scenario` on a thread and in a runtime of its own.
fn run<T, F>(seed: u64, config: NetConfig, scenario: impl FnOnce(SimNet) -> F + Send + 'static) -> T
where
    T: Send + 'static,
    F: Future<Output = T> + 'static,
{
    let body = move || {
        let runtime = Runtime::with_seed_and_config(seed, madsim_config());
        runtime.block_on(async move { scenario(SimNet::new(seed, config)).await })
    };
    std::thread::spawn(body).join().expect("the scenario panics")
}

/// A quiet network, every message 5 ms under way, with short and exact times to notice.
fn quiet() -> NetConfig {
    NetConfig {
        link: LinkConfig { latency: Spread::exactly_millis(5), ..LinkConfig::default() },
        notice: NoticeConfig {
            process_death: Spread::exactly_millis(10),
            silence: Spread::exactly_millis(4_000),
            connect_timeout: Spread::exactly_millis(1_000),
        },
    }
}

fn with_link(change: impl FnOnce(&mut LinkConfig)) -> NetConfig {
    let mut config = quiet();
    change(&mut config.link);
    config
}

fn route(from: Party, to: Party, channel: Channel) -> Route {
    Route { from, to, channel }
}

/// A stream over the hook without gRPC: what is sent into `input` comes out of `output`. The task stands for the
/// connection; its end is what the sender's side of the stream was told.
struct Pipe {
    input: mpsc::Sender<Result<Bytes, String>>,
    output: Frames,
    sender_side: JoinHandle<Option<String>>,
}

/// A pipe whose sender may be `room` messages ahead of the hook.
fn pipe(net: &SimNet, route: Route, room: usize) -> Pipe {
    let (input, frames) = mpsc::channel(room);
    let mut outbound = net.outbound(route, received(frames));
    let (token, tokens) = mpsc::channel(1);
    let sender_side = madsim::task::spawn(async move {
        while let Some(item) = outbound.next().await {
            match item {
                Ok(frame) => token.send(Ok(frame)).await.expect("the receiver's side takes the token"),
                Err(reason) => return Some(reason),
            }
        }
        None
    });
    Pipe { input, output: net.inbound(route, received(tokens)), sender_side }
}

fn received(receiver: mpsc::Receiver<Result<Bytes, String>>) -> Frames {
    stream::unfold(receiver, |mut receiver| async { receiver.recv().await.map(|item| (item, receiver)) })
        .boxed()
}

impl Pipe {
    async fn send(&self, number: u32) {
        self.input.send(Ok(frame(number))).await.expect("the hook takes messages");
    }

    /// Everything that arrives until nothing has arrived for `quiet`.
    async fn drain(&mut self, quiet: Duration) -> Vec<u32> {
        let mut numbers = Vec::new();
        while let Ok(Some(Ok(frame))) = timeout(quiet, self.output.next()).await {
            numbers.push(number(&frame));
        }
        numbers
    }
}

fn frame(number: u32) -> Bytes {
    Bytes::copy_from_slice(&number.to_le_bytes())
}

fn number(frame: &[u8]) -> u32 {
    u32::from_le_bytes(frame.try_into().expect("tests send numbers"))
}

fn elapsed() -> Duration {
    TimeHandle::current().elapsed()
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn range(count: u32) -> Vec<u32> {
    (0..count).collect()
}

#[test]
fn messages_arrive_in_order_within_the_bounds_of_the_latency() {
    let config = with_link(|link| link.latency = Spread::millis(2, 8, 40));
    run(1, config, |net| async move {
        let mut pipe = pipe(&net, route(A, B, Channel::Peer), 1);
        let mut total = Duration::ZERO;
        for i in 0..300 {
            let sent = elapsed();
            pipe.send(i).await;
            let frame = pipe.output.next().await.expect("goes on").expect("arrives");
            assert_eq!(number(&frame), i);
            let took = elapsed() - sent;
            assert!((millis(2)..millis(41)).contains(&took), "took {took:?}");
            total += took;
        }
        let mean = total / 300;
        assert!((millis(7)..millis(9)).contains(&mean), "the mean is {mean:?}");
        for i in 0..1_000 {
            pipe.send(i).await;
            if i % 10 == 0 {
                sleep(millis(1)).await;
            }
            if i % 50 == 49 {
                assert_eq!(pipe.drain(millis(100)).await, (i - 49..=i).collect::<Vec<_>>(), "out of order");
            }
        }
    });
}

#[test]
fn a_cut_takes_what_is_in_flight_and_the_stream_goes_on_when_it_heals() {
    run(2, quiet(), |net| async move {
        let mut pipe = pipe(&net, route(A, B, Channel::Peer), 100);
        pipe.send(0).await;
        assert_eq!(pipe.drain(millis(20)).await, [0]);
        pipe.send(1).await;
        sleep(millis(1)).await;
        assert_eq!(net.in_flight(), 1);
        net.partition("p", Partition::OneWay { from: [A].into(), to: [B].into() });
        pipe.send(2).await;
        assert_eq!(pipe.drain(millis(12_000)).await, [0; 0]);
        net.heal("p");
        assert_eq!(pipe.drain(millis(20)).await, [0; 0], "a healed cut gave back what it took");
        pipe.send(3).await;
        assert_eq!(pipe.drain(millis(20)).await, [3]);
        assert_eq!((net.counters().cut, net.counters().delivered), (2, 2));
    });
}

#[test]
fn a_stream_whose_handshake_met_a_cut_breaks_silently() {
    run(3, quiet(), |net| async move {
        for cut_before in [true, false] {
            let mut pipe = pipe(&net, route(A, B, Channel::Client), 100);
            let began = elapsed();
            if !cut_before {
                pipe.send(1).await;
                sleep(millis(1)).await;
            }
            net.partition("p", Partition::Isolate(B));
            pipe.send(2).await;
            sleep(millis(100)).await;
            net.heal("p");
            pipe.send(3).await;
            assert!(pipe.output.next().await.expect("breaks").is_err());
            assert!((millis(4_000)..millis(4_110)).contains(&(elapsed() - began)));
            assert!(pipe.sender_side.await.expect("joins").is_some(), "the sender was told nothing");
        }
    });
}

#[test]
fn nothing_queues_without_bound() {
    run(4, quiet(), |net| async move {
        // During a cut messages are dropped at once.
        let cut = pipe(&net, route(A, B, Channel::Peer), 1);
        cut.send(0).await;
        sleep(millis(20)).await;
        net.partition("p", Partition::Isolate(A));
        for i in 1..5_000 {
            cut.send(i).await;
        }
        assert!(net.in_flight() <= 1, "{} messages wait behind a cut", net.in_flight());
        net.heal("p");
        // A receiver that does not read stops its sender.
        let mut full = pipe(&net, route(B, A, Channel::Peer), 1);
        let input = full.input.clone();
        let sender = madsim::task::spawn(async move {
            for i in 0..500 {
                input.send(Ok(frame(i))).await.expect("the hook takes messages");
            }
        });
        sleep(Duration::from_secs(5)).await;
        assert!(!sender.is_finished(), "a sender is not stopped by a full socket");
        assert!(net.in_flight() <= IN_FLIGHT_FRAMES_MAX + 1, "{} messages in flight", net.in_flight());
        assert_eq!(full.drain(millis(50)).await, range(500), "back-pressure loses messages");
    });
}

/// What arrives of `count` messages, one each `gap`.
async fn passed(net: &SimNet, route: Route, count: u32, gap: Duration) -> Vec<u32> {
    let mut pipe = pipe(net, route, 1);
    let input = pipe.input.clone();
    let sender = madsim::task::spawn(async move {
        for i in 0..count {
            input.send(Ok(frame(i))).await.expect("the hook takes messages");
            sleep(gap).await;
        }
    });
    let arrived = pipe.drain(millis(2_000)).await;
    sender.await.expect("joins");
    arrived
}

#[test]
fn messages_are_lost_at_about_the_rate() {
    run(5, with_link(|link| link.loss = 0.2), |net| async move {
        for channel in [Channel::Peer, Channel::Client] {
            let arrived = passed(&net, route(A, B, channel), 2_000, millis(1)).await;
            assert!((1_520..1_680).contains(&arrived.len()), "{} of 2000 arrive", arrived.len());
            assert_eq!(arrived[0], 0, "the handshake is lost");
            assert!(arrived.is_sorted());
        }
        let counters = net.counters();
        assert_eq!(counters.sent, counters.delivered + counters.lost);
    });
}

#[test]
fn messages_are_doubled_at_about_the_rate() {
    run(6, with_link(|link| link.duplicate = 0.1), |net| async move {
        let arrived = passed(&net, route(A, B, Channel::Peer), 2_000, millis(1)).await;
        assert!((2_140..2_260).contains(&arrived.len()), "{} of 2000 arrive", arrived.len());
        assert_eq!(net.counters().duplicated as usize, arrived.len() - 2_000);
    });
}

#[test]
fn messages_are_overtaken_only_if_asked_for() {
    run(7, with_link(|link| link.delay = 0.1), |net| async move {
        assert_eq!(passed(&net, route(A, B, Channel::Peer), 500, millis(1)).await, range(500));
        let counters = net.counters();
        assert!(counters.delayed > 20 && counters.reordered == 0, "{counters:?}");
        net.set_links(with_link(|link| link.reorder = 0.1).link);
        for channel in [Channel::Peer, Channel::Client] {
            let mut arrived = passed(&net, route(B, A, channel), 500, millis(1)).await;
            assert_eq!(arrived[0], 0, "the handshake is overtaken");
            assert!(!arrived.is_sorted(), "nothing is overtaken");
            arrived.sort_unstable();
            assert_eq!(arrived, range(500));
        }
        let reordered = net.counters().reordered;
        assert!((60..130).contains(&reordered), "{reordered} of 1000 messages are overtaken");
    });
}

#[test]
fn a_snapshot_stays_in_sequence_whatever_the_rates() {
    let config = with_link(|link| {
        (link.loss, link.duplicate, link.reorder, link.delay) = (0.3, 0.3, 0.3, 0.3);
    });
    run(8, config, |net| async move {
        assert_eq!(passed(&net, route(A, B, Channel::Snapshot), 300, millis(1)).await, range(300));
        assert!(net.counters().delayed > 0);
    });
}

#[test]
fn a_cut_holds_a_snapshot_and_breaks_it_if_it_lasts() {
    run(9, quiet(), |net| async move {
        let mut pipe = pipe(&net, route(A, B, Channel::Snapshot), 100);
        for i in 0..3 {
            pipe.send(i).await;
        }
        sleep(millis(1)).await;
        net.partition("p", Partition::Isolate(B));
        pipe.send(3).await;
        sleep(millis(1_000)).await;
        net.heal("p");
        assert_eq!(pipe.drain(millis(4_500)).await, range(4), "a short cut loses a sequence");
        net.partition("p", Partition::Isolate(B));
        let began = elapsed();
        pipe.send(4).await;
        assert!(pipe.output.next().await.expect("breaks").is_err());
        assert!((millis(4_000)..millis(4_010)).contains(&(elapsed() - began)));
        net.heal("p");
        assert!(pipe.output.next().await.is_none(), "a broken sequence goes on");
        assert!(pipe.sender_side.await.expect("joins").is_some());
    });
}

#[test]
fn a_reset_breaks_open_streams_at_both_ends() {
    run(10, quiet(), |net| async move {
        let mut there = pipe(&net, route(A, B, Channel::Peer), 100);
        let mut back = pipe(&net, route(B, A, Channel::Snapshot), 100);
        let mut other = pipe(&net, route(A, CLIENT, Channel::Client), 100);
        for pipe in [&there, &back, &other] {
            pipe.send(1).await;
        }
        sleep(millis(1)).await;
        net.reset(B, A);
        for pipe in [&mut there, &mut back] {
            assert!(pipe.output.next().await.expect("breaks").is_err());
            assert!(pipe.output.next().await.is_none());
        }
        assert!(there.sender_side.await.expect("joins").is_some());
        assert!(back.sender_side.await.expect("joins").is_some());
        assert_eq!(other.drain(millis(20)).await, [1]);
        assert_eq!((net.counters().resets, net.counters().broken), (2, 2));
        let mut anew = pipe(&net, route(A, B, Channel::Peer), 1);
        anew.send(5).await;
        assert_eq!(anew.drain(millis(20)).await, [5]);
    });
}

/// When each end of a stream between a node that ends and another learns of it, and what still arrived.
async fn ends_after(net: &SimNet, end: impl FnOnce(&SimNet)) -> (Vec<u32>, Duration, Duration) {
    let mut from_dead = pipe(net, route(B, A, Channel::Peer), 100);
    let to_dead = pipe(net, route(A, B, Channel::Peer), 100);
    for pipe in [&from_dead, &to_dead] {
        pipe.send(1).await;
    }
    sleep(millis(1)).await;
    let began = elapsed();
    end(net);
    // The dead node's own end of the stream goes with its tasks.
    from_dead.sender_side.abort();
    drop((from_dead.input, to_dead.output));
    let mut arrived = Vec::new();
    while let Some(Ok(frame)) = from_dead.output.next().await {
        arrived.push(number(&frame));
    }
    let receiver_told = elapsed() - began;
    to_dead.input.send(Ok(frame(2))).await.ok();
    assert!(to_dead.sender_side.await.expect("joins").is_some());
    (arrived, receiver_told, elapsed() - began)
}

#[test]
fn a_process_death_is_told_and_a_power_loss_is_not() {
    run(11, quiet(), |net| async move {
        let (arrived, receiver, sender) = ends_after(&net, |net| net.process_death(B)).await;
        assert_eq!(arrived, [1], "what was sent before the end is lost");
        assert!((millis(10)..millis(12)).contains(&receiver) && (millis(10)..millis(12)).contains(&sender));
        net.revive(B);
        let (arrived, receiver, sender) = ends_after(&net, |net| net.power_loss(B)).await;
        assert_eq!(arrived, [1], "what was sent before the end is lost");
        assert!((millis(4_000)..millis(4_010)).contains(&receiver), "told after {receiver:?}");
        assert!((millis(4_000)..millis(4_010)).contains(&sender), "told after {sender:?}");
    });
}

#[test]
fn a_cut_keeps_the_news_of_a_process_death_back() {
    run(12, quiet(), |net| async move {
        net.partition("p", Partition::Mute(B));
        let mut pipe = pipe(&net, route(A, B, Channel::Peer), 100);
        pipe.send(1).await;
        sleep(millis(50)).await;
        net.process_death(B);
        assert!(timeout(Duration::from_secs(60), &mut pipe.sender_side).await.is_err(), "told across a cut");
        net.heal("p");
        let told = timeout(millis(50), pipe.sender_side).await.expect("told after the heal");
        assert!(told.expect("joins").expect("a reason").contains("n2 is gone"));
        assert!(pipe.output.next().await.is_some());
    });
}

#[test]
fn connecting_takes_a_round_trip_or_ends_in_refusal_or_silence() {
    run(13, quiet(), |net| async move {
        let attempt = |from, to| {
            let (net, began) = (net.clone(), elapsed());
            async move {
                let answer = net.connect(route(from, to, Channel::Peer)).await;
                (answer.is_ok(), (elapsed() - began).as_millis())
            }
        };
        assert_eq!(attempt(A, B).await, (true, 10));
        for partition in [Partition::Isolate(A), Partition::Mute(A), Partition::Deafen(A)] {
            net.partition("p", partition);
            assert_eq!(attempt(A, B).await, (false, 1_000), "through a cut");
        }
        assert_eq!(net.counters().connects_cut, 3);
        net.heal_all();
        net.process_death(B);
        assert_eq!(attempt(A, B).await, (false, 10), "nobody listens");
        net.power_loss(B);
        assert_eq!(attempt(A, B).await, (false, 1_000), "nobody is there");
        net.revive(B);
        assert_eq!(attempt(A, B).await, (true, 10));
        assert_eq!(net.counters().connects_dead, 2);
    });
}

#[test]
fn a_paused_party_neither_sends_nor_receives_nor_passes_its_gate() {
    run(14, quiet(), |net| async move {
        let (mut to_paused, mut from_paused) =
            (pipe(&net, route(A, B, Channel::Peer), 100), pipe(&net, route(B, A, Channel::Peer), 100));
        net.pause(B);
        assert!(net.is_paused(NodeId(2)) && !net.is_paused(NodeId(1)));
        for i in 0..10 {
            to_paused.send(i).await;
            from_paused.send(i).await;
        }
        let gate = madsim::task::spawn(net.gate(NodeId(2)));
        assert_eq!(to_paused.drain(millis(3_000)).await, [0; 0], "a paused party receives");
        assert_eq!(from_paused.drain(millis(3_000)).await, [0; 0], "a paused party sends");
        assert!(!gate.is_finished(), "a paused party passes its gate");
        // What lies in its socket is out of a cut's reach.
        net.partition("p", Partition::Isolate(B));
        net.heal("p");
        net.resume(B);
        gate.await.expect("joins");
        assert_eq!(to_paused.drain(millis(20)).await, range(10));
        assert_eq!(from_paused.drain(millis(20)).await, range(10));
        assert_eq!(net.counters().pauses, 1);
        net.gate(NodeId(2)).await;
    });
}

#[test]
fn a_slow_link_passes_so_many_bytes() {
    run(15, with_link(|link| link.bytes_per_second = Some(1_000)), |net| async move {
        let mut pipe = pipe(&net, route(A, B, Channel::Peer), 100);
        let began = elapsed();
        for i in 0..50 {
            pipe.send(i).await;
        }
        for _ in 0..50 {
            pipe.output.next().await.expect("goes on").expect("arrives");
        }
        let took = elapsed() - began; // 200 bytes
        assert!((millis(200)..millis(210)).contains(&took), "took {took:?}");
        assert_eq!(net.counters().slowed, 50);
        net.set_link(A, B, Some(quiet().link));
        pipe.send(50).await;
        let began = elapsed();
        pipe.output.next().await.expect("goes on").expect("arrives");
        assert!(elapsed() - began < millis(7), "a link's own setting is not used");
    });
}

#[test]
fn a_stream_ends_after_its_last_message_and_a_dropped_end_is_told() {
    run(16, quiet(), |net| async move {
        let ended = pipe(&net, route(A, B, Channel::Peer), 100);
        ended.send(1).await;
        drop(ended.input);
        let all: Vec<_> = ended.output.collect().await;
        assert_eq!(all, [Ok(frame(1))]);
        assert_eq!(ended.sender_side.await.expect("joins"), None, "an end is an error");

        let mut aborted = pipe(&net, route(A, B, Channel::Peer), 100);
        aborted.send(1).await;
        sleep(millis(1)).await;
        aborted.sender_side.abort();
        assert_eq!(aborted.output.next().await, Some(Ok(frame(1))));
        assert!(aborted.output.next().await.expect("breaks").is_err());

        let mut refused = pipe(&net, route(A, B, Channel::Peer), 100);
        refused.send(1).await;
        refused.output.next().await.expect("goes on").expect("arrives");
        drop(refused.output);
        let told = timeout(millis(50), refused.sender_side).await.expect("told soon").expect("joins");
        assert!(told.expect("a reason").contains("closed by the receiver"));

        let failed = pipe(&net, route(A, B, Channel::Peer), 100);
        failed.input.send(Err("no more".into())).await.expect("the hook takes it");
        assert_eq!(failed.output.collect::<Vec<_>>().await, [Err("no more".to_owned())]);
        assert_eq!((net.streams_of(A), net.in_flight()), (0, 0), "streams are kept after their end");
    });
}

type Trace = Vec<MessageEvent>;

/// Two links under every fault; `extra` messages more on the second link. The trace, and counts that must agree.
fn chaos(seed: u64, extra: u32) -> Trace {
    let config = with_link(|link| {
        link.latency = Spread::millis(1, 5, 50);
        (link.loss, link.duplicate, link.reorder, link.delay) = (0.05, 0.05, 0.05, 0.05);
        link.bytes_per_second = Some(10_000);
    });
    run(seed, config, move |net| async move {
        let trace = Arc::new(Mutex::new(Trace::new()));
        let sink = trace.clone();
        net.set_sink(Some(Box::new(move |event| sink.lock().expect("one thread").push(*event))));
        let (first, second) = (route(A, B, Channel::Peer), route(B, A, Channel::Client));
        let run_one = |route, count| {
            let net = net.clone();
            madsim::task::spawn(async move {
                for _ in 0..3 {
                    passed(&net, route, count, millis(2)).await;
                }
            })
        };
        let tasks = [run_one(first, 200), run_one(second, 200 + extra)];
        for _ in 0..3 {
            sleep(millis(130)).await;
            net.partition("p", Partition::Symmetric { left: [A].into(), right: [B].into() });
            sleep(millis(50)).await;
            net.heal("p");
            sleep(millis(50)).await;
            net.pause(A);
            sleep(millis(60)).await;
            net.resume(A);
            let counters = net.counters();
            let fates = counters.delivered + counters.lost + counters.cut + counters.broken;
            assert_eq!(counters.sent + counters.duplicated, fates + net.in_flight() as u64);
        }
        future::join_all(tasks).await;
        let trace = trace.lock().expect("one thread").clone();
        trace
    })
}

#[test]
fn one_seed_is_one_trace() {
    let trace = chaos(1, 0);
    for outcome in [Outcome::Delivered, Outcome::Duplicated, Outcome::Lost, Outcome::Cut] {
        assert!(trace.iter().any(|event| event.outcome == outcome), "no message was {outcome:?}");
    }
    assert_eq!(trace, chaos(1, 0));
    assert_ne!(trace, chaos(2, 0));
}

#[test]
fn no_link_moves_the_draws_of_another() {
    let fates = |trace: Trace| -> Vec<_> {
        let first = trace.into_iter().filter(|event| event.route.channel == Channel::Peer);
        let drawn = first.filter(|event| matches!(event.outcome, Outcome::Lost | Outcome::Duplicated));
        drawn.map(|event| (event.ordinal, event.outcome)).collect()
    };
    let alone = fates(chaos(3, 0));
    assert!(!alone.is_empty());
    assert_eq!(alone, fates(chaos(3, 100)));
}

/// A server that passes what it gets, through the hook, to the test.
struct Server {
    net: SimNet,
    seen: mpsc::UnboundedSender<Result<u32, String>>,
}

fn payloads(stream: Streaming<Frame>) -> Frames {
    stream.map(|item| item.map(|frame| frame.payload).map_err(|status| status.to_string())).boxed()
}

#[tonic::async_trait]
impl Raft for Server {
    type MessagesStream = Pin<Box<dyn futures_util::Stream<Item = Result<Frame, Status>> + Send>>;

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

    async fn snapshot(&self, request: Request<Streaming<Frame>>) -> Result<Response<Frame>, Status> {
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
        Ok(Response::new(Frame { payload: frame(count) }))
    }
}

/// A server on a madsim node of its own and a runtime node for its client.
fn serve(
    net: &SimNet,
) -> (madsim::runtime::NodeHandle, madsim::runtime::NodeHandle, mpsc::UnboundedReceiver<Result<u32, String>>)
{
    let (seen, sees) = mpsc::unbounded_channel();
    let net = net.clone();
    let server = Handle::current().create_node().name("server").ip([10, 0, 0, 2].into());
    let server = server.init(move || {
        let server = Server { net: net.clone(), seen: seen.clone() };
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
        let (_server, node, mut sees) = serve(&net);
        sleep(millis(10)).await;
        let link = net.clone();
        let call = node.spawn(async move {
            link.connect(route(A, B, Channel::Snapshot)).await.expect("connects");
            let paced = stream::iter(0..100u32).then(|i| async move {
                sleep(millis(1)).await;
                Ok(frame(i))
            });
            let frames = link.outbound(route(A, B, Channel::Snapshot), paced.boxed());
            client().snapshot(requests(frames)).await.map(|reply| number(&reply.into_inner().payload))
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
fn a_stream_of_tonic_to_and_fro_passes_the_hook_both_ways() {
    run(18, quiet(), |net| async move {
        let (_server, node, _sees) = serve(&net);
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
            let (_server, node, mut sees) = serve(&net);
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
