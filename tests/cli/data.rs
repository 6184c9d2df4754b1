//! The data commands, against one node.

use std::fs;
use std::time::Duration;

use serde_json::json;

use crate::support::{Single, addresses, eraft, free_ports, run, run_with_input};

#[test]
fn every_data_command_does_what_it_says() {
    let directory = tempfile::tempdir().unwrap();
    let node = Single::start(directory.path());
    node.run(&["get", "a"]).failed(1, &["get \"a\"", "no such key"]);
    node.run(&["put", "a", "1"]).printed("OK\n");
    node.run(&["get", "a"]).printed("1");
    node.run(&["append", "a", "2"]).printed("OK\n");
    node.run(&["append", "b", "-5"]).printed("OK\n");
    node.run(&["get", "a"]).printed("12");
    node.run(&["cas", "a", "12", "x"]).printed("OK\n");
    node.run(&["cas", "a", "12", "y"]).failed(1, &["cas \"a\"", "does not hold OLD"]);
    node.run(&["cas", "a", "--absent", "y"]).failed(1, &["it exists"]);
    node.run(&["cas", "new", "--absent", "y"]).printed("OK\n");
    node.run(&["delete", "new"]).printed("OK\n");
    node.run(&["delete", "new"]).failed(1, &["delete \"new\"", "no such key"]);
    node.run(&["put", "empty", ""]).printed("OK\n");
    node.run(&["get", "empty"]).printed("");
    node.run(&["get", "empty", "--hex"]).printed("\n");
}

#[test]
fn json_is_stable() {
    let directory = tempfile::tempdir().unwrap();
    let node = Single::start(directory.path());
    let json = |arguments: &[&str]| {
        let said = node.run(&[arguments, &["-o", "json"]].concat());
        (said.code, said.json())
    };
    assert_eq!(json(&["get", "a"]), (Some(1), json!({"key": "a", "found": false, "value": null})));
    assert_eq!(json(&["put", "a", "1"]), (Some(0), json!({"key": "a", "done": true})));
    assert_eq!(json(&["append", "a", "2"]), (Some(0), json!({"key": "a", "done": true})));
    assert_eq!(json(&["get", "a"]), (Some(0), json!({"key": "a", "found": true, "value": "12"})));
    let hex = json!({"key": "a", "found": true, "value": {"hex": "3132"}});
    assert_eq!(json(&["get", "a", "--hex"]), (Some(0), hex));
    assert_eq!(json(&["cas", "a", "0", "1"]), (Some(1), json!({"key": "a", "swapped": false})));
    assert_eq!(json(&["cas", "a", "12", "1"]), (Some(0), json!({"key": "a", "swapped": true})));
    assert_eq!(json(&["delete", "a"]), (Some(0), json!({"key": "a", "deleted": true})));
    assert_eq!(json(&["delete", "a"]), (Some(1), json!({"key": "a", "deleted": false})));
    node.run(&["put", "ff", "00fe", "--hex", "--key-hex"]).printed("OK\n");
    let odd = json!({"key": {"hex": "ff"}, "found": true, "value": {"hex": "00fe"}});
    assert_eq!(json(&["get", "ff", "--key-hex"]), (Some(0), odd));
}

#[test]
fn eraft_b26_values_are_any_bytes_up_to_the_limit() {
    let directory = tempfile::tempdir().unwrap();
    let node = Single::start(directory.path());
    let every_byte: Vec<u8> = (0..=255).collect();
    let mut at_limit = every_byte.repeat((1 << 20) / 256);
    let file = directory.path().join("value");

    run_with_input(&mut node.eraft(&["put", "piped", "-"]), &every_byte).printed("OK\n");
    assert_eq!(node.run(&["get", "piped"]).out, every_byte);
    fs::write(&file, &at_limit).unwrap();
    let path = file.to_str().unwrap();
    node.run(&["put", "file", "--file", path]).printed("OK\n");
    assert!(node.run(&["get", "file"]).out == at_limit, "1 MiB comes back as it was");

    node.run(&["append", "file", "x"]).failed(1, &["append \"file\"", "refused", "1048577"]);
    at_limit.push(0);
    fs::write(&file, &at_limit).unwrap();
    node.run(&["put", "file", "--file", path]).failed(1, &["refused", "1048577 bytes", "at most 1048576"]);
    node.run(&["cas", "more", "--absent", "--file", path]).failed(1, &["refused", "1048577"]);
    let key = "k".repeat(5000);
    node.run(&["put", &key, "v"]).failed(1, &["refused", "key has 5000 bytes"]);
    assert_eq!(node.run(&["get", "file"]).out.len(), 1 << 20, "what was refused changed nothing");
}

#[test]
fn one_operation_is_recorded() {
    let directory = tempfile::tempdir().unwrap();
    let node = Single::start(directory.path());
    let history = directory.path().join("history.jsonl");
    node.run(&["put", "a", "1", "--history", history.to_str().unwrap()]).printed("OK\n");
    let text = fs::read_to_string(&history).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert_eq!(lines[0], json!({"format": "eraft-history", "version": 1, "model": "kv"}));
    assert_eq!((&lines[1]["type"], &lines[1]["f"]), (&json!("invoke"), &json!("put")));
    assert_eq!((&lines[2]["type"], &lines[2]["process"]), (&json!("ok"), &lines[1]["process"]));
}

#[test]
fn nobody_to_ask_is_exit_code_3() {
    let cluster = addresses(free_ports(1), 1);
    for arguments in [&["get", "a"][..], &["put", "a", "1"], &["delete", "a"]] {
        let said = run(eraft().args(arguments).args(["--cluster", &cluster, "--timeout", "300ms"]));
        said.failed(3, &[arguments[0], "not executed", &cluster, "Connection refused"]);
    }
    run(eraft().args(["bench", "--seconds", "1", "--timeout", "300ms", "--cluster", &cluster]))
        .failed(3, &["no operation was answered", "Connection refused"]);
}

#[test]
fn another_cluster_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let node = Single::start(directory.path());
    node.run(&["put", "a", "1", "--cluster-id", "eraft"]).printed("OK\n");
    let begun = std::time::Instant::now();
    for arguments in [&["get", "a"][..], &["put", "a", "2"], &["delete", "a"]] {
        node.run(&[arguments, &["--cluster-id", "other", "--timeout", "60s"]].concat())
            .failed(1, &["refused", "n1: this is cluster \"eraft\", not \"other\""]);
    }
    assert!(begun.elapsed() < Duration::from_secs(30), "it is told at once, not at the timeout");
}

#[test]
fn one_shot_commands_leave_no_session() {
    let directory = tempfile::tempdir().unwrap();
    let node = Single::start(directory.path());
    for _ in 0..3 {
        node.run(&["put", "a", "1"]).printed("OK\n");
    }
    node.run(&["get", "a"]).printed("1");
    assert_eq!(node.run(&["status", "-o", "json"]).json()["nodes"][0]["sessions"], 0);
}

#[test]
fn status_shows_the_node_and_its_fields_are_stable() {
    let directory = tempfile::tempdir().unwrap();
    let node = Single::start(directory.path());
    node.run(&["put", "a", "12"]).printed("OK\n");
    let status = node.run(&["status", "-o", "json"]).json();
    assert_eq!(status["leader"], 1);
    let fields: Vec<&str> = status["nodes"][0].as_object().unwrap().keys().map(String::as_str).collect();
    let expected = [
        "address",
        "applied",
        "bytes",
        "cluster_id",
        "commit",
        "disk_bytes",
        "durable_applied",
        "id",
        "keys",
        "lag",
        "leader",
        "log_first",
        "log_last",
        "online",
        "replica_hash",
        "role",
        "service",
        "sessions",
        "term",
        "version",
    ];
    assert_eq!(fields, expected);
    let shown = &status["nodes"][0];
    assert_eq!((&shown["role"], &shown["lag"], &shown["sessions"]), (&json!("leader"), &json!(0), &json!(0)));
    assert!(shown["disk_bytes"].as_u64() > Some(0));

    let offline = free_ports(1);
    let cluster = format!("127.0.0.1:{},127.0.0.1:{offline}", node.port);
    let said = run(eraft().args(["status", "--cluster", &cluster]));
    let rows: Vec<Vec<&str>> = said.text().lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!((said.code, rows.len()), (Some(0), 3), "{said:?}");
    assert_eq!((rows[0][..4].join(" "), rows[1][2]), ("ID ADDRESS ROLE TERM".to_owned(), "leader"));
    assert!(rows[2][2].starts_with("offline: Connection refused"), "{rows:?}");
    assert!(rows.iter().all(|row| row.len() == rows[0].len()));

    let reversed = format!("127.0.0.1:{offline},127.0.0.1:{}", node.port);
    let said = run(eraft().args(["status", "--cluster", &reversed]));
    assert!(said.text().contains("it says that it is n1; check the order of the addresses"), "{said:?}");
    run(eraft().args(["status", "--cluster", &addresses(offline, 1)])).failed(3, &["no node answers"]);
}
