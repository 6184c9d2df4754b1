//! A follower that has lost everything gets the state back, whatever happens on the way.

use std::collections::BTreeSet;
use std::time::Duration;

use eraft::client::Outcome;
use eraft::proto::admin::Status;
use eraft::replica::Options;
use eraft::storage::memory::MemoryVolume;

use super::nodes::{Group, wait_for};
use super::volume::{Orders, Watched};

const KEYS: usize = 8;
const VALUE_BYTES: usize = 1 << 10;

/// What installing a snapshot does, in this order.
const ARROWS: [&str; 5] = ["open state.1", "write state.1", "replace state", "write log", "remove state.0"];

/// Processes differ in how much they write before the snapshot comes, so one round may end early.
const ROUNDS_MAX: usize = 5;

/// A log that holds less than the keys, so that a new follower cannot do without a snapshot of several chunks.
fn options() -> Options {
    Options {
        heartbeat_ms: 10,
        election_timeout_ms: (60, 120),
        apply_flush_ms: 10,
        log_bytes_max: 4 << 10,
        snapshot_chunk_bytes_max: 2 << 10,
        reconnect_backoff_ms: (5, 20),
        ..Options::default()
    }
}

/// Two of three nodes, which hold all keys and no longer the log of all of them. The third was never there.
fn group(options: Options) -> (Group, [Watched; 2]) {
    let mut group = Group::new(3, options);
    let volumes = [(); 2].map(|()| Watched::new(MemoryVolume::new(), Orders::default()));
    for (id, volume) in (1..).zip(&volumes) {
        group.start(id, volume);
    }
    let client = group.client(9);
    for number in 0..KEYS {
        let put = client.put(format!("key {number}").into(), vec![number as u8; VALUE_BYTES].into());
        assert_eq!(group.here.block_on(put), Outcome::Ok(()));
    }
    let is_compacted = |status: Status| status.role == "leader" && status.log_first > 4;
    wait_for("the leader's log is compacted", || {
        [1, 2].into_iter().filter_map(|id| group.status(id)).any(is_compacted).then_some(())
    });
    (group, volumes)
}

fn leader(group: &Group) -> Status {
    wait_for("a leader", || {
        [1, 2].into_iter().filter_map(|id| group.status(id)).find(|status| status.role == "leader")
    })
}

/// Node 3 holds what node 1 holds.
fn caught_up(group: &Group) -> Option<Status> {
    let (one, three) = (group.status(1)?, group.status(3)?);
    (one.applied == three.applied && one.replica_hash == three.replica_hash).then_some(three)
}

/// Receive, verify, sync, switch the pointer, reset the log, remove the old state: the process ends at each step of it,
/// once before the step happens and once just after, and the next process gets there all the same.
#[test]
fn eraft_b29_a_crash_at_each_step_of_installing_a_snapshot() {
    let (mut group, volumes) = group(options());
    let (mut crashed_at, mut resumed) = (BTreeSet::new(), 0);
    for _ in 0..ROUNDS_MAX {
        if ARROWS.iter().all(|arrow| crashed_at.contains(*arrow)) {
            break;
        }
        resumed += crash_at_each_step(&mut group, &volumes, &mut crashed_at);
    }
    for arrow in ARROWS {
        assert!(crashed_at.contains(arrow), "no crash at {arrow:?}: {crashed_at:?}");
    }
    assert!(resumed > 2, "{resumed} of the second processes went on where the first had ended");
}

/// Says how many of the second processes went on where the first had ended.
fn crash_at_each_step(group: &mut Group, volumes: &[Watched; 2], crashed_at: &mut BTreeSet<String>) -> usize {
    let mut resumed = 0;
    for step in 0.. {
        for happens in [false, true] {
            let disk = MemoryVolume::new();
            let volume =
                Watched::new(disk.clone(), Orders { crash_at: Some(step), happens, ..Orders::default() });
            group.start(3, &volume);
            let done = wait_for("it crashes or catches up", || match volume.crashed() {
                Some(what) => Some(Err(what)),
                None => caught_up(group).map(Ok),
            });
            group.end(3);
            let Err(what) = done else {
                change_leader(group, volumes);
                return resumed;
            };
            group.start(3, &Watched::new(disk, Orders::default()));
            let status = wait_for("the next process catches up", || caught_up(group));
            resumed +=
                usize::from((1..(KEYS * VALUE_BYTES) as u64).contains(&status.snapshot_received_bytes));
            group.end(3);
            crashed_at.insert(what);
            change_leader(group, volumes);
        }
    }
    resumed
}

/// Nobody may forget what it acknowledged to a leader, so the next empty disk meets a new one. (Its votes are not missed:
/// the other two decide.)
fn change_leader(group: &mut Group, volumes: &[Watched; 2]) {
    let led = leader(group).node_id;
    group.end(led);
    group.start(led, &volumes[led as usize - 1]);
}

/// A transfer may take much longer than one silence, as long as it moves: it used to end after six of them, and began
/// anew for ever.
#[test]
fn eraft_b16_a_transfer_that_is_slow_but_moves_is_not_given_up() {
    let options = Options { snapshot_silence_ms: 100, snapshot_chunk_bytes_max: 512, ..options() };
    let (mut group, _volumes) = group(options);
    let write_time = Duration::from_millis(90);
    group.start(3, &Watched::new(MemoryVolume::new(), Orders { write_time, ..Orders::default() }));
    let status = wait_for("it catches up", || caught_up(&group));
    let leader = leader(&group);
    assert!(status.snapshot_received_bytes > (KEYS * VALUE_BYTES) as u64 - 1, "in one process");
    assert!(leader.snapshot_sent_bytes < 2 * (KEYS * VALUE_BYTES) as u64, "{leader:?}");
}
