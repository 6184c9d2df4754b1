//! `member transfer`: who leads is what the operator says, or one line says why not.

use std::time::Instant;

use serde_json::Value;

use crate::support::{PATIENCE, Said, Server, addresses, eraft, free_ports, run, serve};

/// Three nodes.
struct Trio {
    servers: Vec<Server>,
    cluster: String,
    _directory: tempfile::TempDir,
}

impl Trio {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let cluster = addresses(free_ports(3), 3);
        let servers = (1..=3)
            .map(|id| Server::start(serve(id, &cluster, directory.path()).args(["--log-level", "off"])).0);
        Self { servers: servers.collect(), cluster, _directory: directory }
    }

    fn run(&self, arguments: &[&str]) -> Said {
        run(eraft().args(arguments).env("ERAFT_CLUSTER", &self.cluster))
    }

    /// The leader, once there is one that all nodes that run agree on.
    fn leader(&self) -> u64 {
        let begun = Instant::now();
        loop {
            let status = self.run(&["status", "-o", "json"]).json();
            let nodes = status["nodes"].as_array().expect("a list").iter();
            let mut named = nodes.filter(|node| node["online"] == true).map(|node| node["leader"].as_u64());
            let leader = status["leader"].as_u64();
            if let Some(leader) = leader
                && named.all(|name| name == Some(leader))
            {
                return leader;
            }
            assert!(begun.elapsed() < PATIENCE, "nobody leads: {status}");
        }
    }
}

fn answer(leader: u64, transferred: bool) -> Value {
    serde_json::json!({ "leader": leader, "transferred": transferred })
}

#[test]
fn leadership_goes_where_the_operator_says_and_nowhere_else() {
    let mut trio = Trio::start();
    let first = trio.leader();
    trio.run(&["put", "a", "1"]).printed("OK\n");
    let (second, third) = (first % 3 + 1, (first + 1) % 3 + 1);
    trio.run(&["member", "transfer", "--to", &second.to_string()]).printed(&format!("n{second} leads\n"));
    assert_eq!(trio.leader(), second);
    trio.run(&["member", "transfer", "--to", &second.to_string()])
        .printed(&format!("n{second} leads already\n"));
    let again = trio.run(&["member", "transfer", "--to", &third.to_string(), "-o", "json"]).json();
    assert_eq!(again, answer(third, true));
    let already = trio.run(&["member", "transfer", "--to", &third.to_string(), "-o", "json"]).json();
    assert_eq!(already, answer(third, false));
    trio.run(&["get", "a"]).printed("1");

    // A dead member cannot take over: the leader says so, and goes on.
    trio.servers[first as usize - 1].child.kill().unwrap();
    trio.servers[first as usize - 1].wait();
    let dead = trio.run(&["member", "transfer", "--to", &first.to_string()]);
    dead.failed(
        1,
        &["member transfer", &format!("n{first}"), "did not take over within an election timeout"],
    );
    assert_eq!(trio.leader(), third);
    trio.run(&["put", "a", "2"]).printed("OK\n");

    trio.run(&["member", "transfer", "--to", "4"]).failed(2, &["--to 4", "--cluster names 3 nodes"]);
    trio.run(&["member", "transfer", "--to", "0"]).failed(2, &["--to", "0"]);
    let other = trio.run(&[
        "member",
        "transfer",
        "--to",
        &second.to_string(),
        "--cluster-id",
        "other",
        "--timeout",
        "1s",
    ]);
    other.failed(1, &["member transfer", "this is cluster \"eraft\", not \"other\""]);

    // Two of three are gone: there is nobody to ask.
    for number in [second, third] {
        trio.servers[number as usize - 1].child.kill().unwrap();
        trio.servers[number as usize - 1].wait();
    }
    trio.run(&["member", "transfer", "--to", "1", "--timeout", "500ms"])
        .failed(3, &["nobody leads", "eraft status"]);
}
