//! `up`: a cluster in one command.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{PATIENCE, Said, Server, addresses, eraft, free_ports, kill, run};

fn up(data: &Path, port: u16, arguments: &[&str]) -> Command {
    let mut command = eraft();
    command.args(["up", "--port-base", &port.to_string(), "-o", "json", "--data"]).arg(data).args(arguments);
    command
}

/// Starts a cluster of `nodes` nodes; what it says when it is ready.
fn start(data: &Path, port: u16, arguments: &[&str], nodes: usize) -> (Server, Value) {
    let begun = Instant::now();
    let (server, line) = Server::start(&mut up(data, port, arguments));
    let ready: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
    assert_eq!((&ready["ready"], ready["nodes"].as_array().unwrap().len()), (&Value::Bool(true), nodes));
    println!("up took {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(10));
    (server, ready)
}

/// A single group of three.
fn start_single(data: &Path, port: u16) -> (Server, Value) {
    start(data, port, &["--single"], 3)
}

fn pids(ready: &Value) -> Vec<u32> {
    let nodes = ready["nodes"].as_array().unwrap();
    nodes.iter().map(|node| node["pid"].as_u64().unwrap() as u32).collect()
}

/// Until no process `pid` is there; a zombie counts as gone.
fn wait_until_gone(pid: u32) {
    let begun = Instant::now();
    let lives = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        stat.is_ok_and(|stat| !stat.contains(") Z "))
    };
    while lives() {
        assert!(begun.elapsed() < PATIENCE, "{pid} is still there");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_cluster_starts_survives_its_leader_stops_and_starts_again() {
    let (directory, port) = (tempfile::tempdir().unwrap(), free_ports(3));
    let (mut server, ready) = start_single(directory.path(), port);
    let cluster = addresses(port, 3);
    assert_eq!(ready["cluster"], cluster);
    let client = |arguments: &[&str]| run(eraft().args(arguments).args(["--cluster", &cluster]));
    client(&["put", "a", "1"]).printed("OK\n");

    let leader = client(&["status", "-o", "json"]).json()["leader"].as_u64().unwrap();
    kill(pids(&ready)[leader as usize - 1], libc::SIGKILL);
    client(&["append", "a", "2"]).printed("OK\n");
    client(&["get", "a"]).printed("12");
    let status = client(&["status", "-o", "json"]).json();
    assert_eq!(status["nodes"][leader as usize - 1]["online"], false);
    assert_ne!(status["leader"], leader);

    server.signal(libc::SIGTERM);
    assert_eq!(server.wait().code(), Some(0));
    let said = server.rest_of_stderr();
    assert!(said.contains(&format!("n{leader} ended: signal: 9")), "{said}");
    let its_log = format!("n{leader}.log:\n  ");
    assert!(said.contains(&its_log) && said.contains("INFO eraft::node"), "the end of its log: {said}");
    let stopped: Vec<&str> = said.lines().filter(|line| line.ends_with(" stopped")).collect();
    let others: Vec<String> = (1..=3).filter(|id| *id != leader).map(|id| format!("n{id} stopped")).collect();
    assert_eq!(stopped, others, "in order");

    let (_server, _) = start_single(directory.path(), port);
    client(&["get", "a"]).printed("12");
}

#[test]
fn a_port_in_use_is_told_before_anything_starts() {
    let (directory, port) = (tempfile::tempdir().unwrap(), free_ports(3));
    let _taken = TcpListener::bind(("127.0.0.1", port + 2)).unwrap();
    let data = directory.path().join("data");
    let said = run(&mut up(&data, port, &["--single"]));
    said.failed(3, &[&format!("127.0.0.1:{}", port + 2), "in use", "nothing was started", "--port-base"]);
    assert!(!data.exists());
}

#[test]
fn when_all_nodes_have_ended_so_does_up() {
    let (directory, port) = (tempfile::tempdir().unwrap(), free_ports(3));
    let (mut server, ready) = start_single(directory.path(), port);
    for pid in pids(&ready) {
        kill(pid, libc::SIGKILL);
    }
    assert_eq!(server.wait().code(), Some(5));
    let said = server.rest_of_stderr();
    assert!(said.contains("all nodes have ended") && said.contains("n3.log"), "{said}");
}

#[cfg(target_os = "linux")]
#[test]
fn nodes_end_with_an_up_that_is_killed() {
    let (directory, port) = (tempfile::tempdir().unwrap(), free_ports(3));
    let (mut server, ready) = start_single(directory.path(), port);
    server.child.kill().unwrap();
    server.wait();
    pids(&ready).into_iter().for_each(wait_until_gone);
}

#[test]
fn a_sharded_cluster_is_ready_at_once_and_goes_on_where_it_stopped() {
    let (directory, port) = (tempfile::tempdir().unwrap(), free_ports(9));
    let (mut server, ready) = start(directory.path(), port, &["--shards", "16"], 9);
    let ctrlers = addresses(port, 3);
    let seen = (&ready["ctrlers"], &ready["config"], &ready["groups"], &ready["shards"]);
    assert_eq!(seen, (&json!(ctrlers), &json!(1), &json!([100, 101]), &json!(16)));
    let client = |arguments: &[&str]| run(eraft().args(arguments).env("ERAFT_CTRLERS", &ctrlers));
    for key in 0..20 {
        client(&["put", &format!("k{key}"), &key.to_string()]).printed("OK\n");
    }
    client(&["append", "k3", "!"]).printed("OK\n");
    client(&["cas", "k4", "4", "four"]).printed("OK\n");
    client(&["delete", "k5"]).printed("OK\n");
    client(&["move", "0", "101"]).printed("OK: config 2\n");
    let check = |client: &dyn Fn(&[&str]) -> Said| {
        client(&["get", "k3"]).printed("3!");
        client(&["get", "k4"]).printed("four");
        client(&["get", "k5"]).failed(1, &["no such key"]);
        let said = client(&["scan", "--prefix", "k1"]);
        let expected = ["k1\t1".to_owned()].into_iter().chain((10..20).map(|key| format!("k{key}\t{key}")));
        said.printed(&expected.map(|line| line + "\n").collect::<String>());
    };
    check(&client);
    let begun = Instant::now();
    let (status, shards) = loop {
        let status = client(&["status", "-o", "json"]).json();
        let leaders = status["nodes"].as_array().unwrap().iter().filter(|node| node["role"] == "leader");
        let shards: Vec<Value> =
            leaders.filter_map(|node| node["shards"].as_array()).flatten().cloned().collect();
        if shards.len() == 16 && shards.iter().all(|shard| shard["state"] == "Serving") {
            break (status, shards);
        }
        assert!(begun.elapsed() < PATIENCE, "a shard moves for ever: {status}");
    };
    assert_eq!((&status["config"], status["nodes"].as_array().unwrap().len()), (&json!(2), 9), "{status}");
    let keys: u64 = shards.iter().map(|shard| shard["keys"].as_u64().unwrap()).sum();
    assert!(keys >= 19, "what was written is counted: {status}");
    let said = client(&["status", "--list-shards"]);
    let lines: Vec<&str> = said.text().lines().collect();
    assert_eq!(
        (lines[0], lines[11], lines.len()),
        ("config 2", "GROUP\tSHARD\tSTATE\tEPOCH\tKEYS\tSIZE", 28)
    );
    assert!(lines[5].starts_with("g100/n1\t127.0.0.1:"), "{said:?}");

    server.signal(libc::SIGTERM);
    assert_eq!(server.wait().code(), Some(0));
    let said = server.rest_of_stderr();
    let names = |directory: &'static str| (1..=3).map(move |id| format!("{directory}/n{id} stopped"));
    let expected: Vec<_> = ["g101", "g100", "ctrler"].into_iter().flat_map(names).collect();
    assert_eq!(said.lines().collect::<Vec<_>>(), expected, "the groups, then the controllers");

    // Elsewhere, and with a group more.
    let port = free_ports(12);
    let (mut server, ready) = start(directory.path(), port, &["--groups", "3"], 12);
    assert_eq!((&ready["groups"], &ready["shards"]), (&json!([100, 101, 102]), &json!(16)));
    let ctrlers = addresses(port, 3);
    let client = |arguments: &[&str]| run(eraft().args(arguments).env("ERAFT_CTRLERS", &ctrlers));
    check(&client);
    server.signal(libc::SIGTERM);
    assert_eq!(server.wait().code(), Some(0));

    let said = run(&mut up(directory.path(), port, &[]));
    said.failed(2, &["data of group 102", "--groups"]);
}

/// In eRaft each of these ended controllers, or took shards away from everybody (B8, B9, B10).
#[test]
fn bad_commands_are_refused_and_a_cluster_goes_on_as_if_nothing_had_been() {
    let (directory, port) = (tempfile::tempdir().unwrap(), free_ports(9));
    let (_server, _) = start(directory.path(), port, &[], 9);
    let ctrlers = addresses(port, 3);
    let client = |arguments: &[&str]| run(eraft().args(arguments).env("ERAFT_CTRLERS", &ctrlers));
    let config = client(&["query", "-o", "json"]).json();
    let keys: Vec<String> = (0..20).map(|key| format!("k{key}")).collect();
    keys.iter().for_each(|key| client(&["put", key, "0"]).printed("OK\n"));
    let cases: [(&[&str], i32, &[&str]); 6] = [
        (&["join", "100:typo"], 2, &["100:typo", "write it like 100=HOST:PORT"]),
        (&["move", "10", "100"], 1, &["move 10 100: refused: shard 10 does not exist", "give one of these"]),
        (&["move", "3", "999"], 1, &["move 3 999: refused: group 999 is not joined", "eraft query"]),
        (&["move", "abc", "1"], 2, &["'abc'", "--help"]),
        (&["leave", "999"], 1, &["leave 999: refused: group 999 is not joined", "eraft query"]),
        (&["query", "99999"], 1, &["query 99999: there is no such config", "0 to 1 are kept"]),
    ];
    let mut expected = "0".to_owned();
    for (arguments, code, words) in cases {
        client(arguments).failed(code, words);
        assert_eq!(client(&["query", "-o", "json"]).json(), config, "after {arguments:?}");
        expected.push('+');
        for key in &keys {
            client(&["append", key, "+"]).printed("OK\n");
            client(&["get", key]).printed(&expected);
        }
    }
    // What is right is still done.
    client(&["move", "3", "101"]).printed("OK: config 2\n");
    keys.iter().for_each(|key| client(&["get", key]).printed(&expected));
}
