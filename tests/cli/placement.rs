//! The operator's commands against real controllers: what they do, and what they refuse without harm.

use serde_json::json;

use crate::support::{Ctrlers, addresses, eraft, free_ports, run};

/// Where nobody listens; the controllers never connect to a group.
fn group(id: u64) -> String {
    format!("{id}=10.0.0.{id}:6001,10.0.0.{id}:6002,10.0.0.{id}:6003")
}

fn owners(ctrlers: &Ctrlers) -> Vec<u64> {
    let config = ctrlers.run(&["query", "-o", "json"]).json();
    let shards = config["shards"].as_array().unwrap();
    shards.iter().map(|shard| shard["group"].as_u64().unwrap_or_default()).collect()
}

#[test]
fn groups_join_shards_move_and_every_config_can_be_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let ctrlers = Ctrlers::start(directory.path());
    let empty = ctrlers.run(&["query"]);
    assert_eq!(empty.text().lines().next(), Some("config 0, the latest: 10 shards, no group is joined"));

    ctrlers.run(&["join", &group(100), &group(101)]).printed("OK: config 1\n");
    assert_eq!(owners(&ctrlers), [100, 100, 100, 100, 100, 101, 101, 101, 101, 101]);
    ctrlers.run(&["move", "0", "101"]).printed("OK: config 2\n");
    let shown = "config 2, the latest: 10 shards\n\
        GROUP\tSTATE\tSHARDS\tWHICH\tPINNED\tADDRESSES\n\
        100\tjoined\t5\t1-5\t-\t10.0.0.100:6001,10.0.0.100:6002,10.0.0.100:6003\n\
        101\tjoined\t5\t0,6-9\t0\t10.0.0.101:6001,10.0.0.101:6002,10.0.0.101:6003\n";
    ctrlers.run(&["query"]).printed(shown);
    ctrlers.run(&["leave", "100", "-o", "json"]).printed("{\"config\":3}\n");
    let shown = "config 3, the latest: 10 shards\n\
        GROUP\tSTATE\tSHARDS\tWHICH\tPINNED\tADDRESSES\n\
        101\tjoined\t10\t0-9\t0\t10.0.0.101:6001,10.0.0.101:6002,10.0.0.101:6003\n\
        100\tleft\t0\t-\t-\t10.0.0.100:6001,10.0.0.100:6002,10.0.0.100:6003\n";
    ctrlers.run(&["query"]).printed(shown);

    ctrlers.run(&["unpin", "0"]).printed("OK: config 4\n");
    ctrlers.run(&["rollback", "1"]).printed("OK: config 5\n");
    assert_eq!(owners(&ctrlers), [100, 100, 100, 100, 100, 101, 101, 101, 101, 101]);
    let old = ctrlers.run(&["query", "2", "-o", "json"]).json();
    let numbers = (&old["config"], &old["latest"], &old["oldest"]);
    assert_eq!(numbers, (&json!(2), &json!(5), &json!(0)));
    let moved =
        json!({"shard": 0, "group": 101, "epoch": 2, "from": {"group": 100, "epoch": 1}, "pinned": true});
    assert_eq!(old["shards"][0], moved);
    assert_eq!(old["groups"][1]["pinned"], json!([0]));
    let joined = json!({
        "group": 100, "joined": true, "shards": [1, 2, 3, 4, 5], "pinned": [],
        "addresses": ["10.0.0.100:6001", "10.0.0.100:6002", "10.0.0.100:6003"],
    });
    assert_eq!(old["groups"][0], joined);
}

#[test]
fn the_number_of_shards_is_chosen_once() {
    let directory = tempfile::tempdir().unwrap();
    let ctrlers = Ctrlers::start(directory.path());
    ctrlers.run(&["create", "--shards", "5000"]).failed(1, &["create", "5000 shards", "1 to 4096"]);
    ctrlers.run(&["create", "--shards", "64"]).printed("OK: config 0\n");
    ctrlers.run(&["create", "--shards", "32"]).failed(1, &["number of shards is 64", "cannot be changed"]);
    ctrlers.run(&["join", &group(1)]).printed("OK: config 1\n");
    assert_eq!(owners(&ctrlers), [1; 64]);
}

#[test]
fn a_plan_says_what_would_move_and_moves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let ctrlers = Ctrlers::start(directory.path());
    ctrlers.run(&["join", &group(100), &group(101)]).printed("OK: config 1\n");
    let level = "config 1: nothing would move\n\
        GROUP\tSHARDS\tAFTER\tPINNED\n\
        100\t5\t5\t0\n\
        101\t5\t5\t0\n";
    ctrlers.run(&["rebalance", "plan"]).printed(level);

    let plan = ctrlers.run(&["rebalance", "plan", "--join", &group(102), "-o", "json"]).json();
    let moves = plan["moves"].as_array().unwrap();
    assert_eq!((&plan["config"], moves.len()), (&json!(1), 3), "{plan}");
    let shares: Vec<_> =
        plan["groups"].as_array().unwrap().iter().map(|group| &group["shards_after"]).collect();
    assert_eq!(shares, [&json!(4), &json!(3), &json!(3)]);
    let before = owners(&ctrlers);
    ctrlers.run(&["join", &group(102)]).printed("OK: config 2\n");
    let now = owners(&ctrlers);
    let moved = (0..).zip(before.iter().zip(&now)).filter(|(_, (before, now))| before != now);
    let moved: Vec<_> =
        moved.map(|(shard, (from, to))| json!({"shard": shard, "from": from, "to": to})).collect();
    assert_eq!(&moved, moves, "the plan is what happens");

    let several = ["rebalance", "plan", "--leave", "102", "--leave", "100", "--move", "9=101"];
    let plan = ctrlers.run(&[&several[..], &["-o", "json"]].concat()).json();
    assert_eq!(plan["groups"][1], json!({"group": 101, "shards": 3, "shards_after": 10, "pinned_after": 1}));
    let said = ctrlers.run(&["rebalance", "plan", "--leave", "100"]);
    let lines: Vec<_> = said.text().lines().collect();
    assert_eq!((lines[0], lines[5]), ("config 2: 4 of 10 shards would move", "SHARD\tFROM\tTO"), "{said:?}");
    ctrlers
        .run(&["rebalance", "plan", "--leave", "999"])
        .failed(1, &["refused", "group 999 is not joined", "eraft join"]);
    assert_eq!(owners(&ctrlers), now);
}

/// In eRaft each of these went into the log: a shard of a group that does not exist was never moved again (B8), a
/// shard that does not exist ended every controller at every start (B9), a typing error gave all shards away (B10).
#[test]
fn eraft_b08_b09_b10_bad_input_is_a_sentence_and_harms_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let port = free_ports(3);
    let ctrlers = Ctrlers::start_at(directory.path(), port);
    ctrlers.run(&["join", &group(100), &group(101)]).printed("OK: config 1\n");
    let before = ctrlers.run(&["query", "-o", "json"]).json();
    let taken = "102=10.0.0.9:1,10.0.0.100:6002";
    let cases: [(&[&str], i32, &[&str]); 16] = [
        (&["join", "100:typo"], 2, &["100:typo", "write it like 100=HOST:PORT,HOST:PORT"]),
        (&["join", "102="], 2, &["102=", "HOST:PORT"]),
        (&["move", "abc", "1"], 2, &["abc"]),
        (
            &["move", "10", "100"],
            1,
            &["move 10 100", "refused", "shard 10 does not exist", "0 to 9; give one of these"],
        ),
        (
            &["move", "3", "999"],
            1,
            &["move 3 999", "refused", "group 999 is not joined", "eraft query", "eraft join"],
        ),
        (&["move", "3", "0"], 1, &["group 0 is nobody"]),
        (&["leave", "999"], 1, &["leave 999", "refused", "group 999 is not joined", "eraft query"]),
        (&["leave", "100", "999"], 1, &["group 999 is not joined"]),
        (&["query", "99999"], 1, &["query 99999", "no such config", "0 to 1 are kept"]),
        (&["rollback", "99999"], 1, &["config 99999 is not there", "0 to 1 are kept"]),
        (&["rollback", "1"], 1, &["change nothing"]),
        (&["unpin", "3"], 1, &["shard 3 is not pinned", "eraft move"]),
        (&["join", "0=10.0.0.9:1"], 1, &["group 0 is nobody"]),
        (&["join", "102=10.0.0.9:1", "102=10.0.0.8:1"], 1, &["group 102 is named twice"]),
        (&["join", taken], 1, &["10.0.0.100:6002 is an address of group 100 already"]),
        (&["update", "102=10.0.0.9:1"], 1, &["group 102 is not joined"]),
    ];
    for (arguments, code, words) in cases {
        ctrlers.run(arguments).failed(code, words);
        assert_eq!(ctrlers.run(&["query", "-o", "json"]).json(), before, "after {arguments:?}");
    }
    // What was refused is in the log, too; it is applied again and refused again.
    drop(ctrlers);
    let ctrlers = Ctrlers::start_at(directory.path(), port);
    assert_eq!(ctrlers.run(&["query", "-o", "json"]).json(), before);
    ctrlers.run(&["move", "3", "101"]).printed("OK: config 2\n");
}

/// In eRaft a second Join made a config and forgot the new addresses.
#[test]
fn eraft_b18_a_joined_group_is_not_joined_again_and_its_addresses_can_be_changed() {
    let directory = tempfile::tempdir().unwrap();
    let ctrlers = Ctrlers::start(directory.path());
    ctrlers.run(&["join", &group(100)]).printed("OK: config 1\n");
    let other = "100=10.0.1.1:6001,10.0.1.2:6001";
    ctrlers.run(&["join", other]).failed(1, &["group 100 is joined already", "update"]);
    ctrlers.run(&["update", other]).printed("OK: config 2\n");
    let config = ctrlers.run(&["query", "-o", "json"]).json();
    assert_eq!(config["groups"][0]["addresses"], json!(["10.0.1.1:6001", "10.0.1.2:6001"]));
    assert_eq!(config["shards"][0]["epoch"], 1, "no shard moved");
    ctrlers.run(&["update", other]).failed(1, &["change nothing"]);
}

/// In eRaft the next Join undid a Move.
#[test]
fn eraft_b34_a_shard_that_was_moved_by_hand_stays_where_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let ctrlers = Ctrlers::start(directory.path());
    ctrlers.run(&["join", &group(100), &group(101)]).printed("OK: config 1\n");
    for shard in ["0", "1", "2"] {
        assert_eq!(ctrlers.run(&["move", shard, "101"]).code, Some(0));
    }
    ctrlers.run(&["join", &group(102)]).printed("OK: config 5\n");
    assert_eq!(owners(&ctrlers)[..3], [101; 3]);
    ctrlers.run(&["leave", "100"]).printed("OK: config 6\n");
    assert_eq!(owners(&ctrlers)[..3], [101; 3]);
    for shard in ["0", "1", "2"] {
        assert_eq!(ctrlers.run(&["unpin", shard]).code, Some(0));
    }
    ctrlers.run(&["leave", "101"]).printed("OK: config 10\n");
    assert_eq!(owners(&ctrlers), [102; 10]);
}

/// In eRaft who asked controllers that were down used a whole core, for ever.
#[test]
fn eraft_b25_controllers_that_are_down_cost_a_deadline_and_no_cpu() {
    let nobody = addresses(free_ports(3), 3);
    let mut child = eraft()
        .args(["query", "--timeout", "2s", "--ctrlers", &nobody])
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("the binary starts");
    let (mut status, mut used) = (0, std::mem::MaybeUninit::<libc::rusage>::zeroed());
    // SAFETY: the pointers are to values that outlive the call; the child is ours and not waited for.
    let waited = unsafe { libc::wait4(child.id().cast_signed(), &raw mut status, 0, used.as_mut_ptr()) };
    assert_eq!((waited, libc::WEXITSTATUS(status)), (child.id().cast_signed(), 3));
    let _ = child.wait(); // it is gone already
    // SAFETY: wait4 filled it, and zeroes are one too.
    let used = unsafe { used.assume_init() };
    let ms = |time: libc::timeval| time.tv_sec * 1000 + time.tv_usec / 1000;
    let cpu_ms = ms(used.ru_utime) + ms(used.ru_stime);
    assert!(cpu_ms < 500, "{cpu_ms} ms of CPU in 2 s of waiting");
    let said = run(eraft().args(["status", "--timeout", "300ms", "--ctrlers", &nobody]));
    said.failed(3, &["the controllers give no config", "groups are not shown"]);
    let offline = said.text().lines().filter(|line| line.starts_with("ctrler/n") && line.contains("offline"));
    assert_eq!(offline.count(), 3, "{said:?}");
    let said = run(eraft().args(["join", "1=a:1", "--timeout", "100ms", "--ctrlers", &nobody]));
    said.failed(3, &["join 1", "not executed"]);
}
