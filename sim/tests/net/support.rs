//! A runtime for a scenario, and a stream over the hook without gRPC.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use eraft::replica::link::{Channel, Frames, Hook, Party, Route};
use eraft::types::NodeId;
use eraft_sim::net::{LinkConfig, NetConfig, NoticeConfig, SimNet, madsim_config};
use eraft_sim::timing::Spread;
use futures_util::{StreamExt, stream};
use madsim::runtime::Runtime;
use madsim::task::JoinHandle;
use madsim::time::{TimeHandle, timeout};
use tokio::sync::mpsc;

pub const A: Party = Party::Node(NodeId(1));
pub const B: Party = Party::Node(NodeId(2));
pub const CLIENT: Party = Party::Client(7);

/// Runs `scenario` on a thread and in a runtime of its own.
pub fn run<T, F>(seed: u64, config: NetConfig, scenario: impl FnOnce(SimNet) -> F + Send + 'static) -> T
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
pub fn quiet() -> NetConfig {
    NetConfig {
        link: LinkConfig { latency: Spread::exactly_millis(5), ..LinkConfig::default() },
        notice: NoticeConfig {
            process_death: Spread::exactly_millis(10),
            silence: Spread::exactly_millis(4_000),
            connect_timeout: Spread::exactly_millis(1_000),
        },
    }
}

pub fn with_link(change: impl FnOnce(&mut LinkConfig)) -> NetConfig {
    let mut config = quiet();
    change(&mut config.link);
    config
}

pub fn route(from: Party, to: Party, channel: Channel) -> Route {
    Route { from, to, channel }
}

/// A stream over the hook without gRPC: what is sent into `input` comes out of `output`. The task stands for the
/// connection; its end is what the sender's side of the stream was told.
pub struct Pipe {
    pub input: mpsc::Sender<Result<Bytes, String>>,
    pub output: Frames,
    pub sender_side: JoinHandle<Option<String>>,
}

/// A pipe whose sender may be `room` messages ahead of the hook.
pub fn pipe(net: &SimNet, route: Route, room: usize) -> Pipe {
    let (input, frames) = mpsc::channel(room);
    let mut outbound = net.outbound(route, received(frames));
    let (token, tokens) = mpsc::channel(100);
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

pub fn received(receiver: mpsc::Receiver<Result<Bytes, String>>) -> Frames {
    stream::unfold(receiver, |mut receiver| async { receiver.recv().await.map(|item| (item, receiver)) })
        .boxed()
}

impl Pipe {
    pub async fn send(&self, number: u32) {
        self.input.send(Ok(frame(number))).await.expect("the hook takes messages");
    }

    /// Everything that arrives until nothing has arrived for `quiet`.
    pub async fn drain(&mut self, quiet: Duration) -> Vec<u32> {
        let mut numbers = Vec::new();
        while let Ok(Some(Ok(frame))) = timeout(quiet, self.output.next()).await {
            numbers.push(number(&frame));
        }
        numbers
    }
}

pub fn frame(number: u32) -> Bytes {
    Bytes::copy_from_slice(&number.to_le_bytes())
}

pub fn number(frame: &[u8]) -> u32 {
    u32::from_le_bytes(frame.try_into().expect("tests send numbers"))
}

pub fn elapsed() -> Duration {
    TimeHandle::current().elapsed()
}

pub const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub fn range(count: u32) -> Vec<u32> {
    (0..count).collect()
}
