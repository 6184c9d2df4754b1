//! Shards on the move between real processes: clients work all the time, groups join and leave, shards are moved by
//! hand, and every leader is killed in the middle of it.
#![cfg(all(not(madsim), target_os = "linux"))]

mod bench;
mod cluster;
mod load;

use std::time::{Duration, Instant};

use bench::Bench;
use cluster::Cluster;
use eraft_checker::{Options, Verdict, check_jsonl};
use load::{Load, moves_for_at_least};

/// No operation may take longer, whatever happens: that is how long a shard may be refused.
const OPERATION_MAX: Duration = Duration::from_secs(5);

/// A leader must be killed before the shard that leaves it can have arrived. On a machine that is busy with something
/// else that may take more than one attempt; this many do.
const ROUNDS_MAX: usize = 12;

/// The check of the history may take so long.
const CHECK_MAX: Duration = Duration::from_secs(60);

/// eRaft lost writes when a group was killed (B2, B3), kept a group for ever from further configs when a shard's source
/// was in trouble (B33), and refused a shard as long as it was on its way.
#[test]
fn groups_join_and_leave_and_every_leader_is_killed_under_load() {
    let mut cluster = Cluster::start();
    let load = Load::start(&cluster.ctrlers());
    let bench = Bench::start(&cluster.ctrlers(), cluster.home());
    load.runs_for(Duration::from_secs(1));
    cluster.expect_shards(&[(100, 5), (101, 5)]);

    cluster.start_group(102);
    cluster.change(&["join", &cluster.group(102)]);
    cluster.settles();
    cluster.expect_shards(&[(100, 4), (101, 3), (102, 3)]);

    // A shard leaves each group, and the group's leader dies with the shard on its way; then one more comes in.
    let (mut met, mut rounds) = (0, 0);
    for (group, other) in [(100, 101), (101, 102), (102, 100)].into_iter().cycle() {
        if rounds >= 3 && met > 0 {
            break;
        }
        assert!(rounds < ROUNDS_MAX, "each shard may have arrived before a leader was killed");
        rounds += 1;
        let leaving = cluster.shards_of(group)[0];
        let leader = cluster.leader_of(group);
        let begun = Instant::now();
        cluster.change(&["move", &leaving.to_string(), &other.to_string()]);
        cluster.kill(&leader);
        let (killed, moves) = (begun.elapsed(), moves_for_at_least(leaving));
        println!("killed after {killed:?}, a move takes {moves:?} at least");
        met += usize::from(killed < moves);
        load.runs_for(Duration::from_secs(1));
        let coming =
            *cluster.shards_of(other).iter().find(|shard| **shard != leaving).expect("another shard");
        cluster.change(&["move", &coming.to_string(), &group.to_string()]);
        load.runs_for(Duration::from_secs(1));
        cluster.restart(leader);
        cluster.settles();
        cluster.change(&["unpin", &leaving.to_string()]);
        cluster.change(&["unpin", &coming.to_string()]);
    }

    // A whole group goes, and the controllers' leader with it.
    let leader = cluster.leader_of_ctrlers();
    cluster.change(&["leave", "100"]);
    cluster.kill(&leader);
    cluster.change(&["move", "0", "102"]);
    load.runs_for(Duration::from_secs(1));
    cluster.restart(leader);
    cluster.settles();
    cluster.expect_shards(&[(101, 5), (102, 5)]);
    cluster.has_nothing(100);

    // And comes back, as if nothing had been.
    cluster.change(&["rollback", "1"]);
    cluster.settles();
    cluster.expect_shards(&[(100, 5), (101, 5)]);

    bench.finish();
    let done = load.stop();
    println!("{} operations, the longest took {:?}", done.operations, done.longest.1);
    assert!(done.failures.is_empty(), "{:#?}", done.failures);
    assert!(done.longest.1 < OPERATION_MAX, "{:?}", done.longest);
    let begun = Instant::now();
    let options = Options { timeout: Some(CHECK_MAX), jobs: 2, ..Options::default() };
    let report = check_jsonl(&done.history[..], None, &options).expect("a history");
    println!("checked in {:?}", begun.elapsed());
    assert_eq!(report.verdict, Verdict::Linearizable, "{report:?}");
    cluster.replicas_agree();
}
