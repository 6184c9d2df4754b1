//! The simulated disk: what survives which death, what a fault does to a handle, and that a seed decides all of it.
#![cfg(madsim)]

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use eraft::storage::suite::{self, End, Harness};
use eraft::storage::{StorageError, Store, Volume};
use eraft::types::NodeId;
use eraft::view::Batch;
use eraft_sim::disk::{DiskConfig, DiskSim, Failure, SimVolume};
use madsim::runtime::{Handle, NodeHandle, Runtime};
use madsim::time::{TimeHandle, sleep, timeout};

const NODE: NodeId = NodeId(1);

/// Runs `scenario` on a thread and in a runtime of its own.
fn run<T, F>(seed: u64, scenario: impl FnOnce(Arc<DiskSim>) -> F + Send + 'static) -> T
where
    T: Send + 'static,
    F: Future<Output = T> + 'static,
{
    let body = move || {
        let runtime = Runtime::with_seed_and_config(seed, madsim::Config::default());
        DiskSim::install(&runtime);
        runtime.block_on(async move {
            let disks = DiskSim::current();
            disks.configure(seed, DiskConfig::default());
            scenario(disks).await
        })
    };
    std::thread::spawn(body).join().expect("the scenario panics")
}

/// A node that runs nothing by itself.
fn node() -> NodeHandle {
    Handle::current().create_node().name("n1").build()
}

/// Kills the node and starts it again.
fn restart(node: &NodeHandle) {
    Handle::current().kill(node.id());
    Handle::current().restart(node.id());
}

/// The node's handle after a restart; the old one would spawn on the dead incarnation.
fn again(node: &NodeHandle) -> NodeHandle {
    Handle::current().get_node(node.id()).expect("the node exists")
}

/// Opens the store `log` on the node.
async fn open(node: &NodeHandle) -> Result<Arc<dyn Store>, StorageError> {
    let volume = volume(node).await;
    volume.open("log").await
}

async fn volume(node: &NodeHandle) -> SimVolume {
    again(node).spawn(async { DiskSim::current().volume(NODE) }).await.expect("the node runs")
}

fn put(key: &str, value: &str) -> Batch {
    let mut batch = Batch::new();
    batch.put(key, value);
    batch
}

fn get(store: &dyn Store, key: &str) -> Option<String> {
    let value = store.get(key.as_bytes()).expect("the read succeeds");
    value.map(|value| String::from_utf8(value).expect("tests store text"))
}

#[test]
fn a_completed_write_survives_both_deaths() {
    for power_loss in [false, true] {
        run(1, move |disks| async move {
            let node = node();
            let store = open(&node).await.expect("opens");
            store.write(put("a", "1")).await.expect("writes");
            volume(&node).await.replace_file("current", b"7".to_vec()).await.expect("replaces");
            if power_loss {
                disks.power_loss(NODE)
            } else {
                disks.process_death(NODE)
            }
            restart(&node);
            let store = open(&node).await.expect("opens again");
            assert_eq!(get(&*store, "a").as_deref(), Some("1"));
            assert_eq!(volume(&node).await.read_file("current").await, Ok(Some(b"7".to_vec())));
        });
    }
}

#[test]
fn a_write_takes_time_and_is_invisible_until_it_completes() {
    run(2, |_| async {
        let store = open(&node()).await.expect("opens");
        let began = TimeHandle::current().elapsed();
        let write = store.write(put("a", "1"));
        assert_eq!(get(&*store, "a"), None);
        let snapshot = store.snapshot().expect("a view");
        write.await.expect("writes");
        let took = TimeHandle::current().elapsed() - began;
        assert!((Duration::from_micros(100)..Duration::from_micros(5_010)).contains(&took), "took {took:?}");
        assert_eq!(get(&*store, "a").as_deref(), Some("1"));
        assert_eq!(snapshot.get(b"a"), Ok(None), "a snapshot sees a later write");
    });
}

#[test]
fn writes_take_effect_in_the_order_of_the_calls_even_if_polled_backwards_or_dropped() {
    run(3, |_| async {
        let store = open(&node()).await.expect("opens");
        let first = store.write(put("a", "1"));
        drop(store.write(put("b", "2")));
        let last = store.write(put("a", "3"));
        last.await.expect("writes");
        first.await.expect("writes");
        assert_eq!((get(&*store, "a").as_deref(), get(&*store, "b").as_deref()), (Some("3"), Some("2")));
    });
}

/// What is left of four writes in flight, over many seeds: how often which prefix.
fn prefixes_left(power_loss: bool) -> BTreeMap<String, u32> {
    let mut prefixes = BTreeMap::new();
    for seed in 0..60 {
        let prefix = run(seed, move |disks| async move {
            let node = node();
            let store = open(&node).await.expect("opens");
            let writes: Vec<_> = (0..4).map(|i| store.write(put(&i.to_string(), "x"))).collect();
            if power_loss {
                disks.power_loss(NODE)
            } else {
                disks.process_death(NODE)
            }
            restart(&node);
            for write in writes {
                assert!(matches!(write.await, Err(StorageError::Closed(_))));
            }
            let store = open(&node).await.expect("opens again");
            (0..4).filter_map(|i| get(&*store, &i.to_string()).map(|_| i.to_string())).collect::<String>()
        });
        *prefixes.entry(prefix).or_default() += 1;
    }
    prefixes
}

#[test]
fn a_process_death_keeps_some_first_part_of_the_writes_in_flight() {
    let prefixes = prefixes_left(false);
    assert!(prefixes.keys().all(|prefix| "0123".starts_with(prefix.as_str())), "a hole: {prefixes:?}");
    assert!(prefixes.len() >= 3, "always the same outcome: {prefixes:?}");
    assert!(prefixes[""] >= 15, "the write in flight is not often lost: {prefixes:?}");
}

#[test]
fn a_power_loss_mostly_loses_what_is_in_flight() {
    let prefixes = prefixes_left(true);
    assert!(
        prefixes.keys().all(|prefix| prefix.is_empty() || prefix == "0"),
        "more than the head: {prefixes:?}"
    );
    assert!(prefixes[""] >= 45 && prefixes.contains_key("0"), "{prefixes:?}");
}

#[test]
fn a_torn_write_is_torn_and_everything_before_it_is_there() {
    for seed in 0..20 {
        let (torn, first, second) = run(seed, |disks| async move {
            let node = node();
            let store = open(&node).await.expect("opens");
            store.write(put("first", "1")).await.expect("is written");
            let pending = store.write(put("second", "2"));
            disks.torn_write(NODE);
            restart(&node);
            assert!(
                matches!(pending.await, Err(StorageError::Closed(_))),
                "nobody acknowledges a torn write"
            );
            let torn = disks.counters(NODE).torn;
            let store = open(&node).await.expect("opens again");
            (torn, get(&*store, "first"), get(&*store, "second"))
        });
        assert_eq!((torn, first.as_deref(), second), (1, Some("1"), None), "seed {seed}");
    }
}

#[test]
fn a_file_being_replaced_is_old_or_new_after_a_death() {
    let mut seen = BTreeMap::new();
    for seed in 0..40 {
        let content = run(seed, |disks| async move {
            let node = node();
            let volume_before = volume(&node).await;
            volume_before.replace_file("current", b"old".to_vec()).await.expect("replaces");
            let replacing = volume_before.replace_file("current", b"new".to_vec());
            disks.process_death(NODE);
            restart(&node);
            assert!(matches!(replacing.await, Err(StorageError::Closed(_))));
            volume(&node).await.read_file("current").await.expect("reads").expect("is there")
        });
        *seen.entry(String::from_utf8(content).expect("text")).or_insert(0) += 1;
    }
    assert_eq!(seen.keys().collect::<Vec<_>>(), ["new", "old"], "{seen:?}");
}

#[test]
fn a_failed_write_poisons_the_handle_until_the_store_is_opened_again() {
    let mut kept = Vec::new();
    for seed in 0..20 {
        kept.push(run(seed, |disks| async move {
            let node = node();
            let volume = volume(&node).await;
            let store = volume.open("log").await.expect("opens");
            store.write(put("a", "1")).await.expect("writes");
            disks.fail_writes(NODE, Some("log"), Failure::Next(1));
            let (failing, queued) = (store.write(put("b", "2")), store.write(put("c", "3")));
            assert!(matches!(failing.await, Err(StorageError::Io { .. })));
            assert!(matches!(queued.await, Err(StorageError::Closed(_))), "written after a failed write");
            assert!(matches!(store.write(put("d", "4")).await, Err(StorageError::Closed(_))));
            assert_eq!((get(&*store, "a").as_deref(), get(&*store, "b")), (Some("1"), None));
            assert_eq!(disks.counters(NODE).write_errors, 1);
            drop(store);
            let store = volume.open("log").await.expect("opens again");
            assert_eq!((get(&*store, "c"), get(&*store, "d")), (None, None));
            store.write(put("e", "5")).await.expect("a fresh handle writes");
            get(&*store, "b").is_some()
        }));
    }
    assert!(
        kept.contains(&true) && kept.contains(&false),
        "a failed write has always the same end: {kept:?}"
    );
}

#[test]
fn a_full_device_takes_nothing_and_other_stores_go_on() {
    run(5, |disks| async move {
        let volume = volume(&node()).await;
        let (log, state) =
            (volume.open("log").await.expect("opens"), volume.open("state").await.expect("opens"));
        disks.fill(NODE, Some("log"), true);
        assert!(matches!(log.write(put("a", "1")).await, Err(StorageError::Full { .. })));
        state.write(put("a", "1")).await.expect("the other store has room");
        disks.fill(NODE, None, true);
        assert!(matches!(state.write(put("b", "1")).await, Err(StorageError::Full { .. })));
        assert!(matches!(volume.replace_file("f", vec![]).await, Err(StorageError::Full { .. })));
        assert_eq!(disks.counters(NODE).full, 3);
    });
}

#[test]
fn read_errors_reach_gets_pages_snapshots_and_files() {
    run(6, |disks| async move {
        let volume = volume(&node()).await;
        let store = volume.open("log").await.expect("opens");
        store.write(put("a", "1")).await.expect("writes");
        let snapshot = store.snapshot().expect("a view");
        disks.fail_reads(NODE, None, Failure::Next(3));
        assert!(store.get(b"a").is_err() && snapshot.get(b"a").is_err());
        assert!(volume.read_file("f").await.is_err());
        assert_eq!(get(&*store, "a").as_deref(), Some("1"));
        assert_eq!(disks.counters(NODE).read_errors, 3);
        disks.fail_reads(NODE, Some("log"), Failure::Chance(0.5));
        let failed = (0..400).filter(|_| store.get(b"a").is_err()).count();
        assert!((140..260).contains(&failed), "{failed} of 400 reads failed");
        disks.heal(NODE);
        assert!((0..100).all(|_| store.get(b"a").is_ok()));
    });
}

#[test]
fn a_stall_holds_the_queue_and_not_the_node() {
    run(7, |disks| async move {
        let store = open(&node()).await.expect("opens");
        let (time, began) = (TimeHandle::current(), TimeHandle::current().elapsed());
        let in_flight = store.write(put("a", "1"));
        disks.stall(NODE, Duration::from_secs(2));
        let queued = store.write(put("b", "2"));
        sleep(Duration::from_millis(1_500)).await;
        assert_eq!(get(&*store, "a"), None, "a stalled device completed a write");
        in_flight.await.expect("writes");
        let took = time.elapsed() - began;
        assert!((2_000..2_010).contains(&took.as_millis()), "the stall took {took:?}");
        queued.await.expect("writes");
        disks.stall(NODE, Duration::from_secs(60));
        let healed = store.write(put("c", "3"));
        let healed = madsim::task::spawn(timeout(Duration::from_secs(1), healed));
        sleep(Duration::from_millis(100)).await;
        disks.heal(NODE);
        healed.await.expect("joins").expect("a heal wakes who waits").expect("writes");
        assert_eq!(disks.counters(NODE).stalled, 2);
    });
}

#[test]
fn a_slow_device_takes_longer() {
    run(8, |disks| async move {
        let store = open(&node()).await.expect("opens");
        disks.slow(NODE, 50);
        let began = TimeHandle::current().elapsed();
        store.write(put("a", "1")).await.expect("writes");
        let took = TimeHandle::current().elapsed() - began;
        assert!((5_000..251_000).contains(&took.as_micros()), "took {took:?}");
        assert_eq!(disks.counters(NODE).slow, 1);
    });
}

#[test]
fn handles_of_an_older_incarnation_are_refused_and_their_destructors_do_no_harm() {
    run(9, |disks| async move {
        let node = node();
        let old_volume = volume(&node).await;
        let old = old_volume.open("log").await.expect("opens");
        let snapshot = old.snapshot().expect("a view");
        restart(&node); // unannounced: a process death
        assert_eq!(disks.counters(NODE).process_deaths, 1);
        let new = open(&node).await.expect("the store of a dead node is not open");
        assert!(matches!(old.write(put("a", "1")).await, Err(StorageError::Closed(_))));
        assert!(matches!(old_volume.replace_file("f", vec![]).await, Err(StorageError::Closed(_))));
        assert!(old.get(b"a").is_err() && snapshot.get(b"a").is_err() && old.snapshot().is_err());
        drop(old);
        assert!(open(&node).await.is_err(), "an old handle's destructor closed the new one");
        new.write(put("a", "2")).await.expect("writes");
    });
}

#[test]
fn an_announced_death_counts_once_and_the_next_kill_is_another() {
    run(10, |disks| async move {
        let node = node();
        drop(open(&node).await);
        disks.power_loss(NODE);
        restart(&node);
        drop(open(&node).await);
        restart(&node);
        let counters = disks.counters(NODE);
        assert_eq!((counters.power_losses, counters.process_deaths), (1, 1));
    });
}

#[test]
fn damage_is_found_at_open_until_the_store_is_removed() {
    run(11, |disks| async move {
        let node = node();
        let volume_before = volume(&node).await;
        let store = volume_before.open("state").await.expect("opens");
        store.write(put("a", "1")).await.expect("writes");
        assert!(disks.damage(NODE, "state", 17) && !disks.damage(NODE, "none", 0));
        assert!(volume_before.remove("state").await.is_err(), "removed while open");
        drop(store);
        let found = volume_before.open("state").await.err();
        assert!(matches!(found, Some(StorageError::Corrupt { offset: 17, .. })), "{found:?}");
        volume_before.remove("state").await.expect("removes");
        assert_eq!(volume_before.list().await, Ok(vec![]));
        let store = volume_before.open("state").await.expect("opens empty");
        assert_eq!(get(&*store, "a"), None);
    });
}

#[test]
fn bytes_used_follows_puts_overwrites_and_deletes() {
    run(12, |_| async {
        let volume = volume(&node()).await;
        let store = volume.open("log").await.expect("opens");
        store.write(put("key", "value")).await.expect("writes");
        store.write(put("key", "v")).await.expect("writes");
        volume.replace_file("file", vec![0; 10]).await.expect("replaces");
        assert_eq!(volume.bytes_used().await, Ok(4 + 10));
        let mut batch = put("other", "x");
        batch.delete("key");
        batch.delete("missing");
        store.write(batch).await.expect("writes");
        assert_eq!(volume.bytes_used().await, Ok(6 + 10));
    });
}

/// Times and outcomes of a life with faults and deaths.
fn life(seed: u64) -> Vec<String> {
    run(seed, |disks| async move {
        let (node, events) = (node(), Arc::new(Mutex::new(Vec::new())));
        for round in 0..8u32 {
            disks.fail_writes(NODE, None, Failure::Chance(0.05));
            let store = open(&node).await.expect("opens");
            for i in 0..10 {
                let outcome = store.write(put(&i.to_string(), &round.to_string())).await;
                let at = TimeHandle::current().elapsed();
                events.lock().expect("one thread").push(format!("{at:?} {outcome:?}"));
            }
            let unfinished: Vec<_> = (0..3).map(|i| store.write(put(&format!("u{i}"), "x"))).collect();
            if round % 2 == 0 {
                disks.power_loss(NODE)
            } else {
                disks.process_death(NODE)
            }
            restart(&node);
            drop(unfinished);
            let durable = disks.durable(NODE, "log");
            events.lock().expect("one thread").push(format!("{durable:?} {:?}", disks.counters(NODE)));
        }
        std::mem::take(&mut *events.lock().expect("one thread"))
    })
}

#[test]
fn one_seed_is_one_life() {
    assert_eq!(life(1), life(1));
    assert_ne!(life(1), life(2));
}

/// The conformance suite's view of the simulated disk: each volume on a device and a madsim node of its own.
struct Simulated {
    disks: Arc<DiskSim>,
    device: NodeId,
    node: Option<NodeHandle>,
}

impl Simulated {
    async fn volume(&self) -> Arc<dyn Volume> {
        let (id, device) = (self.node.as_ref().expect("made by fresh").id(), self.device);
        let node = Handle::current().get_node(id).expect("the node exists");
        let volume = node.spawn(async move { DiskSim::current().volume(device) }).await;
        Arc::new(volume.expect("the node runs"))
    }
}

impl Harness for Simulated {
    async fn fresh(&mut self) -> Arc<dyn Volume> {
        self.device = NodeId(self.device.0 + 1);
        self.node = Some(Handle::current().create_node().build());
        self.volume().await
    }

    async fn reopen(&mut self, volume: Arc<dyn Volume>, end: End) -> Option<Arc<dyn Volume>> {
        match end {
            End::ProcessDeath => self.disks.process_death(self.device),
            End::PowerLoss => self.disks.power_loss(self.device),
        }
        restart(self.node.as_ref().expect("made by fresh"));
        drop(volume);
        Some(self.volume().await)
    }

    fn fail_next_write(&mut self, store: &str) -> bool {
        self.disks.fail_writes(self.device, Some(store), Failure::Next(1));
        true
    }
}

#[test]
fn the_conformance_suite_passes() {
    for seed in 0..3 {
        run(seed, |disks| async move {
            suite::run_all(&mut Simulated { disks, device: NodeId(0), node: None }).await;
        });
    }
}

#[test]
fn the_conformance_model_holds_over_deaths() {
    for seed in 0..10 {
        run(seed, move |disks| async move {
            let mut harness = Simulated { disks, device: NodeId(0), node: None };
            suite::model::check(&mut harness, seed, 200, &[End::ProcessDeath, End::PowerLoss]).await;
        });
    }
}

#[test]
fn a_write_may_take_less_than_a_millisecond() {
    run(13, |_| async {
        let store = open(&node()).await.expect("opens");
        let began = TimeHandle::current().elapsed();
        for _ in 0..200 {
            store.write(put("a", "1")).await.expect("writes");
        }
        let mean = (TimeHandle::current().elapsed() - began) / 200;
        assert!((850..1_150).contains(&mean.as_micros()), "the mean is {mean:?}");
    });
}
