//! Cuts, resets, deaths, pauses, and the ends of streams.

use std::time::Duration;

use eraft::replica::link::{Channel, Hook};
use eraft::types::NodeId;
use eraft_sim::net::{IN_FLIGHT_FRAMES_MAX, Partition, SimNet};
use futures_util::StreamExt;
use madsim::time::{sleep, timeout};

use super::support::*;

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
        let mut cut = pipe(&net, route(A, B, Channel::Peer), 1);
        cut.send(0).await;
        sleep(millis(20)).await;
        net.partition("p", Partition::Isolate(A));
        for i in 1..5_000 {
            cut.send(i).await;
        }
        sleep(millis(1)).await;
        assert!(net.in_flight() <= 1, "{} messages wait behind a cut", net.in_flight());
        drop(cut.output.next().await);
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
        assert!(net.in_flight() <= IN_FLIGHT_FRAMES_MAX, "{} messages in flight", net.in_flight());
        assert_eq!(full.drain(millis(50)).await, range(500), "back-pressure loses messages");
    });
}

#[test]
fn a_socket_holds_the_bytes_of_its_buffer_and_not_more() {
    let mut config = quiet();
    config.link.buffer_bytes = 3 * frame(0).len();
    run(4, config, |net| async move {
        let mut full = pipe(&net, route(A, B, Channel::Peer), 1);
        let input = full.input.clone();
        madsim::task::spawn(async move {
            for i in 0..20 {
                input.send(Ok(frame(i))).await.expect("the hook takes messages");
            }
        });
        sleep(Duration::from_secs(1)).await;
        assert_eq!(net.in_flight(), 3, "messages in flight");
        assert_eq!(full.drain(millis(50)).await, range(20), "back-pressure loses messages");
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
        drop(aborted.output);

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
