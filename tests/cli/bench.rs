//! `bench`: its report and its history.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::Single;

#[test]
fn eraft_b24_a_benchmark_reports_and_writes_a_history_that_a_checker_takes() {
    let directory = tempfile::tempdir().unwrap();
    let node = Single::start(directory.path());
    let history = directory.path().join("history.jsonl");
    let said = node.run(&[
        "bench",
        "--seconds",
        "1",
        "--clients",
        "3",
        "--pipeline",
        "2",
        "--keys",
        "5",
        "--value-bytes",
        "20",
        "--mix",
        "get=3,put=2,append=1,delete=1,cas=1",
        "-o",
        "json",
        "--history",
        history.to_str().unwrap(),
    ]);
    assert_eq!((said.code, &said.err[..]), (Some(0), ""), "{said:?}");
    let report = said.json();
    let operations = report["operations"].as_u64().unwrap();
    assert!(operations > 10 && report["errors"] == 0, "{report}");
    assert_eq!((&report["clients"], &report["pipeline"], &report["keys"]), (&json!(3), &json!(2), &json!(5)));
    let put = &report["kinds"]["put"];
    let of = |quantile: &str| put["latency_us"][quantile].as_u64().unwrap();
    assert!(0 < of("p50") && of("p50") <= of("p99") && of("p99") <= of("max"), "{put}");
    let fields: Vec<&String> = put.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["errors", "latency_us", "operations", "operations_per_second"]);
    let kinds = report["kinds"].as_object().unwrap().values();
    assert_eq!(kinds.map(|kind| kind["operations"].as_u64().unwrap()).sum::<u64>(), operations);

    let text = std::fs::read_to_string(&history).unwrap();
    let mut lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    assert_eq!(lines.next(), Some(json!({"format": "eraft-history", "version": 1, "model": "kv"})));
    let (mut open, mut completed) = (BTreeMap::new(), 0);
    for event in lines {
        let process = event["process"].as_u64().unwrap();
        if event["type"] == "invoke" {
            assert!(event["key"].is_string(), "{event}");
            assert_eq!(open.insert(process, event.clone()), None, "one open operation a process: {event}");
            continue;
        }
        let invoked = open.remove(&process).unwrap_or_else(|| panic!("not invoked: {event}"));
        assert_eq!((&event["type"], &event["f"]), (&json!("ok"), &invoked["f"]));
        assert!(event["time"].as_u64() >= invoked["time"].as_u64() && event["index"].is_u64(), "{event}");
        completed += 1;
    }
    assert!(open.is_empty() && open.len() < 6, "all answered");
    assert_eq!(completed, operations);
}

#[test]
fn a_benchmark_for_people_is_a_line_and_columns() {
    let directory = tempfile::tempdir().unwrap();
    let node = Single::start(directory.path());
    let said = node.run(&["bench", "--seconds", "1", "--clients", "1", "--zipf", "0.99", "--mix", "put=1"]);
    let lines: Vec<&str> = said.text().lines().collect();
    assert_eq!((said.code, lines.len(), &said.err[..]), (Some(0), 3, ""), "{said:?}");
    assert!(lines[0].contains("operations/s; 0 errors; 1 clients x 1"), "{said:?}");
    assert!(lines[1].starts_with("KIND\tOPS\tOPS/S\tP50") && lines[2].starts_with("put\t"), "{said:?}");
    let refused = node.run(&["bench", "--seconds", "1", "--value-bytes", "2MiB", "--mix", "put=1"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.err.contains("no operation was answered") && refused.err.contains("at most 1048576"));
}
