//! What happens to single messages, and that a seed decides it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use eraft::replica::link::{Channel, Hook, Route};
use eraft_sim::net::{MessageEvent, Outcome, Partition, SimNet};
use eraft_sim::timing::Spread;
use futures_util::{StreamExt, future, stream};
use madsim::time::sleep;

use super::support::*;

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
fn the_handshake_of_a_stream_is_neither_lost_nor_doubled_nor_overtaken() {
    let config = with_link(|link| (link.loss, link.duplicate, link.reorder) = (0.4, 0.4, 0.4));
    run(21, config, |net| async move {
        for _ in 0..40 {
            let mut pipe = pipe(&net, route(A, B, Channel::Peer), 100);
            for i in 0..5 {
                pipe.send(i).await;
            }
            let arrived = pipe.drain(millis(500)).await;
            assert_eq!(arrived[0], 0);
            assert_eq!(arrived.iter().filter(|number| **number == 0).count(), 1);
        }
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
        net.set_sink(Some(Box::new(move |event, _| sink.lock().expect("one thread").push(*event))));
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
        std::mem::take(&mut *trace.lock().expect("one thread"))
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

/// One message through a stream of its own, as a unary call carries it: the first item of the wrapped stream is all
/// that travels.
async fn call(net: &SimNet) -> Option<Result<bytes::Bytes, String>> {
    let way = route(CLIENT, B, Channel::Client);
    let token = net.outbound(way, stream::iter([Ok(frame(9))]).boxed()).next().await.expect("a token");
    net.inbound(way, stream::iter([token]).boxed()).next().await
}

#[test]
fn a_unary_call_passes_is_lost_or_meets_a_cut() {
    run(22, with_link(|link| link.loss = 0.3), |net| async move {
        let mut lost = 0;
        for _ in 0..200 {
            let began = elapsed();
            match call(&net).await.expect("a stream of one message") {
                Ok(message) => assert_eq!((message, (elapsed() - began).as_millis()), (frame(9), 5)),
                Err(_) => {
                    lost += 1;
                    assert!(elapsed() - began >= millis(4_000), "a loss is told");
                }
            }
        }
        assert!((40..80).contains(&lost), "{lost} of 200 calls are lost");
        assert_eq!(net.counters().lost, lost);
        net.partition("p", Partition::Isolate(CLIENT));
        assert!(call(&net).await.expect("breaks").is_err());
        assert_eq!((net.counters().cut, net.in_flight(), net.streams_of(CLIENT)), (1, 0, 0));
    });
}
