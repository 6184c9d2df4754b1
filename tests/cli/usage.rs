//! What a wrong command line is answered with.

use crate::support::{eraft, run};

#[test]
fn wrong_usage_is_one_line_and_exit_code_2() {
    let cases: &[(&[&str], &[&str])] = &[
        (&["putt"], &["unrecognized subcommand 'putt'", "'put'"]),
        (&["get", "a", "--clutser", "x"], &["unexpected argument '--clutser'", "'--cluster'"]),
        (&["get", "a"], &["required", "--cluster <A,B,C>"]),
        (&["get", "--cluster", "a:1"], &["required", "<KEY>"]),
        (&["put", "a", "--cluster", "a:1"], &["no VALUE", "--file"]),
        (&["put", "a", "b", "--file", "c", "--cluster", "a:1"], &["VALUE and a --file"]),
        (&["put", "a", "--file", "/none", "--cluster", "a:1"], &["/none", "No such file"]),
        (&["put", "a", "0g", "--hex", "--cluster", "a:1"], &["VALUE", "not hexadecimal"]),
        (&["get", "abc", "--key-hex", "--cluster", "a:1"], &["KEY", "3 hexadecimal digits"]),
        (&["cas", "a", "b", "--cluster", "a:1"], &["no VALUE"]),
        (&["cas", "a", "--cluster", "a:1"], &["no OLD", "--absent"]),
        (&["cas", "a", "b", "c", "--absent", "--cluster", "a:1"], &["too many values"]),
        (&["get", "a", "--cluster", "nohost"], &["--cluster", "\"nohost\"", "HOST:PORT"]),
        (&["get", "a", "--cluster", "a:1,a:1"], &["twice"]),
        (&["get", "a", "--cluster", "no.such.host.invalid:1"], &["no.such.host.invalid:1"]),
        (&["get", "a", "--cluster", "a:1", "--timeout", "10"], &["--timeout", "10s"]),
        (&["get", "a", "--cluster", "a:1", "-o", "xml"], &["--output", "json"]),
        (&["get", "a", "--cluster", "127.0.0.1:1", "--log-level", "a=b=c"], &["--log-level"]),
        (&["get", "a", "--cluster", "127.0.0.1:1", "--history", "/none/h"], &["--history /none/h"]),
        (&["serve", "kv", "--id", "4", "--cluster", "a:1,b:2,c:3"], &["--cluster: a:1"]),
        (&["serve", "kv", "--id", "0", "--cluster", "127.0.0.1:1,127.0.0.1:2"], &["--id 0", "nodes 1 to 2"]),
        (&["serve", "kv", "--id", "3", "--cluster", "127.0.0.1:1,127.0.0.1:2"], &["--id 3", "nodes 1 to 2"]),
        (&["serve", "kv", "--id", "x", "--cluster", "127.0.0.1:1"], &["--id"]),
        (&["up", "--replicas", "0"], &["--replicas", "1..=9"]),
        (&["up", "--single", "--replicas", "3", "--port-base", "65534"], &["--port-base 65534"]),
        (&["up", "--groups", "2", "--port-base", "65528"], &["--port-base 65528"]),
        (&["up", "--single", "--groups", "2"], &["--single", "--groups"]),
        (&["up", "--shards", "0"], &["--shards", "1..=4096"]),
        (&["get", "a", "--cluster", "a:1", "--ctrlers", "a:1"], &["--ctrlers and --cluster are too much"]),
        (&["scan", "--prefix", "0", "--key-hex", "--cluster", "a:1"], &["--prefix", "hexadecimal"]),
        (&["join", "100:typo", "--ctrlers", "a:1"], &["100:typo", "100=HOST:PORT"]),
        (&["join", "100=", "--ctrlers", "a:1"], &["100=", "HOST:PORT"]),
        (&["join", "100=a:1,b", "--ctrlers", "a:1"], &["address 2 is \"b\""]),
        (&["join", "--ctrlers", "a:1"], &["required", "<GID=A,B,C>"]),
        (&["leave", "abc", "--ctrlers", "a:1"], &["abc", "<GID>"]),
        (&["move", "abc", "1", "--ctrlers", "a:1"], &["abc", "<SHARD>"]),
        (&["move", "-1", "1", "--ctrlers", "a:1"], &["-1"]),
        (&["move", "1", "--ctrlers", "a:1"], &["required", "<GID>"]),
        (&["query", "x", "--ctrlers", "a:1"], &["x", "[NUM]"]),
        (&["query", "--ctrlers", "nohost"], &["--ctrlers", "\"nohost\"", "HOST:PORT"]),
        (&["query"], &["required", "--ctrlers <A,B,C>"]),
        (&["rebalance", "plan", "--move", "3", "--ctrlers", "a:1"], &["--move", "3=100"]),
        (&["bench", "--mix", "get=x", "--cluster", "a:1"], &["--mix"]),
        (&["completion", "csh"], &["csh", "bash"]),
    ];
    for (arguments, words) in cases {
        let said = run(eraft().args(*arguments));
        said.failed(2, words);
        assert!(!said.err.contains("For more information"), "where to look is said once: {said:?}");
    }
}

#[test]
fn flags_that_contradict_each_other_name_the_option() {
    let directory = tempfile::tempdir().unwrap();
    let serve = ["serve", "kv", "--id", "1", "--cluster", "127.0.0.1:1", "--db"];
    let said = |more: &[&str]| run(eraft().args(serve).arg(directory.path()).args(more));
    said(&["--heartbeat", "200ms"]).failed(2, &["heartbeat_ms: 200"]);
    said(&["--election-timeout", "900ms..300ms"]).failed(2, &["election_timeout_ms: 900"]);
}

#[test]
fn help_version_and_completion_are_printed() {
    let said = run(eraft().arg("--version"));
    said.printed(&format!("eraft {}\n", env!("CARGO_PKG_VERSION")));
    for arguments in [&["--help"][..], &["serve", "shard", "--help"], &["cas", "--help"], &["help", "join"]] {
        let said = run(eraft().args(arguments));
        assert!(said.code == Some(0) && said.text().contains("Examples:"), "{said:?}");
        assert!(!said.text().contains('\x1b'), "no colours in a pipe");
    }
    for shell in ["bash", "zsh", "fish"] {
        let said = run(eraft().args(["completion", shell]));
        let known = ["port-base", "rebalance", "unpin", "ctrlers", "list-shards"];
        assert!(said.code == Some(0) && known.iter().all(|word| said.text().contains(word)), "{shell}");
    }
    let said = run(&mut eraft());
    assert!(said.code == Some(2) && said.err.contains("Usage:"), "{said:?}");
}

#[test]
fn every_flag_comes_from_the_environment_too() {
    let said = run(eraft().args(["get", "a", "-o", "json"]).env("ERAFT_CLUSTER", "nohost"));
    said.failed(2, &["--cluster", "nohost"]);
    let said = run(eraft()
        .args(["get", "a", "--cluster", "127.0.0.1:1"])
        .env("ERAFT_TIMEOUT", "50ms")
        .env("ERAFT_KEY_HEX", "yes"));
    said.failed(2, &["KEY: 1 hexadecimal digits"]);
    let said =
        run(eraft().args(["put", "a", "b"]).env("ERAFT_CLUSTER", "127.0.0.1:1").env("ERAFT_HEX", "maybe"));
    said.failed(2, &["maybe"]);
}
