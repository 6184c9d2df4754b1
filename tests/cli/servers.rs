//! Nodes: their ends, their data, and what they refuse to start with.

use std::fs;
use std::net::TcpListener;
use std::time::Duration;

use crate::support::{Server, Single, addresses, eraft, free_ports, run, serve};

#[test]
fn sigterm_and_sigint_stop_in_order_and_lose_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let port = free_ports(1);
    for (number, signal) in [libc::SIGTERM, libc::SIGINT].into_iter().enumerate() {
        let mut node = Single::start_at(directory.path(), port);
        for known in 0..number {
            node.run(&["get", &format!("k{known}")]).printed("v");
        }
        node.run(&["put", &format!("k{number}"), "v"]).printed("OK\n");
        node.server.signal(signal);
        assert_eq!(node.server.wait().code(), Some(0));
        let log = node.server.rest_of_stderr();
        assert!(log.contains("stopping") && log.contains("stopped"), "{log}");
        assert!(!log.contains('\x1b'), "no colours in a pipe: {log}");
    }
    let node = Single::start_at(directory.path(), port);
    let status = node.run(&["status", "-o", "json"]).json();
    let node_status = &status["nodes"][0];
    assert!(node_status["durable_applied"].as_u64() >= Some(4), "the state was flushed: {status}");
    node.run(&["get", "k1"]).printed("v");
}

#[test]
fn kill_9_loses_nothing_that_was_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let port = free_ports(1);
    for round in 0..3 {
        let mut node = Single::start_at(directory.path(), port);
        for known in 0..round {
            node.run(&["get", &format!("k{known}")]).printed("v");
        }
        node.run(&["append", "all", "x"]).printed("OK\n");
        node.run(&["put", &format!("k{round}"), "v"]).printed("OK\n");
        node.server.child.kill().unwrap();
        node.server.wait();
    }
    let node = Single::start_at(directory.path(), port);
    node.run(&["get", "all"]).printed("xxx");
}

#[test]
fn an_address_in_use_is_exit_code_3() {
    let directory = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = run(serve(1, &address, directory.path()).env("ERAFT_LOG_LEVEL", "off"));
    said.failed(3, &[&address, "in use", "--cluster"]);
}

#[test]
fn a_data_directory_in_use_is_exit_code_3() {
    let directory = tempfile::tempdir().unwrap();
    let _node = Single::start(directory.path());
    let other = addresses(free_ports(1), 1);
    run(&mut serve(1, &other, directory.path())).failed(3, &["n1/LOCK", "in use by another process", "--db"]);
}

#[test]
fn eraft_b42_a_data_directory_of_another_cluster_or_node_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut node = Single::start(directory.path());
    node.server.signal(libc::SIGTERM);
    assert_eq!(node.server.wait().code(), Some(0));
    let cluster = addresses(free_ports(2), 2);
    let said = run(serve(1, &cluster, directory.path()).args(["--cluster-id", "other"]));
    said.failed(2, &["n1: ", "cluster \"eraft\"", "\"other\"", "--cluster-id"]);
    fs::rename(directory.path().join("n1"), directory.path().join("n2")).unwrap();
    run(&mut serve(2, &cluster, directory.path())).failed(2, &["n2: ", "node n1", "node n2", "--id"]);
}

#[test]
fn a_damaged_data_directory_is_exit_code_5() {
    let directory = tempfile::tempdir().unwrap();
    let mut node = Single::start(directory.path());
    node.run(&["put", "a", "1"]).printed("OK\n");
    node.run(&["put", "b", "1"]).printed("OK\n");
    node.server.child.kill().unwrap();
    node.server.wait();
    let log = directory.path().join("n1/stores/log");
    let newest = fs::read_dir(&log).unwrap().map(|entry| entry.unwrap().path());
    let newest = newest.filter(|path| path.extension().is_some_and(|end| end == "log")).max().unwrap();
    let mut bytes = fs::read(&newest).unwrap();
    bytes[20] ^= 1;
    fs::write(&newest, &bytes).unwrap();
    let said = run(serve(1, &addresses(free_ports(1), 1), directory.path()).args(["--log-level", "off"]));
    said.failed(5, &[newest.file_name().unwrap().to_str().unwrap(), "damaged at byte 0", "checksum"]);
}

#[test]
fn a_directory_that_cannot_be_made_is_exit_code_5() {
    let said = run(&mut serve(1, &addresses(free_ports(1), 1), "/proc/none".as_ref()));
    said.failed(5, &["/proc/none"]);
}

#[test]
fn two_nodes_may_share_a_directory_and_logs_may_be_json() {
    let directory = tempfile::tempdir().unwrap();
    let cluster = addresses(free_ports(2), 2);
    let (_first, _) = Server::start(serve(1, &cluster, directory.path()).args(["--log-level", "off"]));
    let (mut second, line) =
        Server::start(serve(2, &cluster, directory.path()).args(["--log-format", "json"]));
    assert!(line.starts_with("n2 listens on ") && line.contains("2 nodes"), "{line}");
    run(eraft().args(["put", "a", "1", "--cluster", &cluster])).printed("OK\n");
    std::thread::sleep(Duration::from_millis(10));
    second.signal(libc::SIGTERM);
    assert_eq!(second.wait().code(), Some(0));
    let log = second.rest_of_stderr();
    for line in log.lines() {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        assert!(entry["level"].is_string() && entry["timestamp"].is_string(), "{line}");
    }
    assert!(log.contains("\"role\":"), "{log}");
}
