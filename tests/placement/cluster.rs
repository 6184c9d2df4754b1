//! A sharded cluster as `eraft up` starts it, with a third group beside it, all of whose nodes can be killed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Everything here is far faster; this is for a machine that is busy with something else.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);

/// Nodes of each group, and controllers.
const REPLICAS: u16 = 3;

/// What a group fetches from others per second, so that shards are on their way for a while.
pub const PULL_BYTES_PER_SECOND: usize = 4 << 20;

/// A node, by what it is started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    service: String,
    group: u64,
    id: u64,
}

pub struct Cluster {
    home: TempDir,
    port: u16,
    up: Child,
    /// What `up` said of its nodes.
    nodes: Vec<Value>,
    /// Nodes that were started here.
    others: Vec<(Node, Child)>,
    /// The number of the latest config.
    config: u64,
}

impl Cluster {
    /// Two groups and three controllers, ready.
    pub fn start() -> Self {
        let home = tempfile::tempdir().expect("a temporary directory");
        let port = free_ports(4 * REPLICAS);
        let mut command = eraft();
        command.args(["up", "-o", "json", "--port-base", &port.to_string(), "--data"]).arg(home.path());
        let begun = Instant::now();
        let mut up = dies_with_us(&mut command).stdout(Stdio::piped()).spawn().expect("the binary starts");
        let mut line = String::new();
        BufReader::new(up.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        let ready: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        println!("ready after {:?}", begun.elapsed());
        let nodes = ready["nodes"].as_array().expect("nodes").clone();
        Self { home, port, up, nodes, others: Vec::new(), config: 1 }
    }

    /// A directory that goes with the cluster.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    pub fn ctrlers(&self) -> String {
        addresses(self.port)
    }

    /// `GID=A,B,C`.
    pub fn group(&self, group: u64) -> String {
        format!("{group}={}", self.addresses_of(group))
    }

    fn addresses_of(&self, group: u64) -> String {
        addresses(self.port + REPLICAS * (1 + (group - 100) as u16))
    }

    pub fn start_group(&mut self, group: u64) {
        for id in 1..=u64::from(REPLICAS) {
            self.restart(Node { service: "shard".to_owned(), group, id });
        }
    }

    /// Starts a node.
    pub fn restart(&mut self, node: Node) {
        let mut command = eraft();
        command.args(["serve", &node.service, "--id", &node.id.to_string(), "--db"]).arg(self.home.path());
        let cluster = match node.group {
            0 => self.ctrlers(),
            group => {
                command.args(["--gid", &group.to_string(), "--ctrlers", &self.ctrlers()]);
                self.addresses_of(group)
            }
        };
        command.args(["--cluster", &cluster]);
        let log = File::create(self.home.path().join(format!("again-{}-{}.log", node.group, node.id)));
        let child = dies_with_us(&mut command).stdout(Stdio::null()).stderr(log.expect("a file")).spawn();
        self.others.push((node, child.expect("the binary starts")));
    }

    /// A command to the controllers that must make the next config.
    pub fn change(&mut self, arguments: &[&str]) {
        let said = self.run(arguments);
        self.config += 1;
        assert_eq!(said["config"].as_u64(), Some(self.config), "{arguments:?}");
    }

    fn run(&self, arguments: &[&str]) -> Value {
        let mut command = eraft();
        command.args(arguments).args(["-o", "json", "--timeout", "20s", "--ctrlers", &self.ctrlers()]);
        let output = command.output().expect("the binary starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// The shards that a group has in the latest config.
    pub fn shards_of(&self, group: u64) -> Vec<u64> {
        let config = self.run(&["query"]);
        let groups = config["groups"].as_array().expect("groups");
        let shards = groups.iter().find(|at| at["group"] == group).expect("the group")["shards"].clone();
        shards.as_array().expect("shards").iter().filter_map(Value::as_u64).collect()
    }

    /// How many shards each group has in the latest config.
    pub fn expect_shards(&self, expected: &[(u64, usize)]) {
        for (group, shards) in expected {
            assert_eq!(self.shards_of(*group).len(), *shards, "group {group}");
        }
    }

    fn leaders(&self) -> Vec<Value> {
        let status = self.run(&["status"]);
        let nodes = status["nodes"].as_array().expect("nodes");
        nodes.iter().filter(|node| node["role"] == "leader").cloned().collect()
    }

    /// Waits until every group serves what it has in the latest config and nothing is left of what went.
    pub fn settles(&self) {
        let begun = Instant::now();
        let config = self.run(&["query"]);
        let groups = config["groups"].as_array().expect("groups");
        loop {
            let leaders = self.leaders();
            let settled = groups.iter().all(|group| {
                leaders.iter().any(|leader| {
                    let shards = leader["shards"].as_array().map(Vec::as_slice).unwrap_or_default();
                    let serving = shards.iter().filter(|shard| shard["state"] == "Serving");
                    let serving: Vec<&Value> = serving.map(|shard| &shard["shard"]).collect();
                    let owned: Vec<&Value> = group["shards"].as_array().expect("shards").iter().collect();
                    leader["group"] == group["group"]
                        && leader["config"].as_u64() >= Some(self.config)
                        && shards.len() == serving.len()
                        && serving == owned
                })
            });
            if settled {
                println!("config {} settled after {:?}", self.config, begun.elapsed());
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "config {} does not settle: {leaders:#?}", self.config);
            sleep(POLL);
        }
    }

    /// Waits until no node of a group that left has anything of a shard.
    pub fn has_nothing(&self, group: u64) {
        let begun = Instant::now();
        loop {
            let status = self.run(&["status"]);
            let nodes = status["nodes"].as_array().expect("nodes");
            let members: Vec<_> = nodes.iter().filter(|node| node["group"] == group).collect();
            let is_empty = |node: &&Value| node["shards"].as_array().is_some_and(Vec::is_empty);
            if members.iter().filter(|node| is_empty(node)).count() == usize::from(REPLICAS) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "group {group} keeps something: {status:#}");
            sleep(POLL);
        }
    }

    /// The node that leads a group; waits until there is one.
    pub fn leader_of(&self, group: u64) -> Node {
        self.leader("shard", group)
    }

    /// The controller that leads.
    pub fn leader_of_ctrlers(&self) -> Node {
        self.leader("ctrler", 0)
    }

    fn leader(&self, service: &str, group: u64) -> Node {
        let begun = Instant::now();
        let node = |id| Node { service: service.to_owned(), group, id };
        loop {
            let leaders = self.leaders();
            let leaders = leaders.iter().filter(|leader| node(0).is_mate(leader));
            match leaders.max_by_key(|leader| leader["term"].as_u64()) {
                Some(leader) => return node(leader["id"].as_u64().expect("an id")),
                None => assert!(begun.elapsed() < PATIENCE, "{service} {group} has no leader"),
            }
            sleep(POLL);
        }
    }

    /// `kill -9` of a node.
    pub fn kill(&mut self, node: &Node) {
        println!("kill -9 of {node:?}");
        let own = |(other, _): &(Node, Child)| other == node;
        if let Some(place) = self.others.iter().position(own) {
            let (_, mut child) = self.others.remove(place);
            child.kill().expect("it runs");
            child.wait().expect("a child");
            return;
        }
        let listed = self.nodes.iter().find(|other| node.is_mate(other) && other["id"] == node.id);
        let pid = listed.and_then(|node| node["pid"].as_u64()).expect("a process of `up`");
        // SAFETY: kill has no preconditions; each process of `up` is killed once, since it is not started again there.
        assert_eq!(unsafe { libc::kill(pid as i32, libc::SIGKILL) }, 0);
        self.nodes.retain(|node| node["pid"] != pid);
    }

    /// Waits until the replicas of each group have applied the same entries; then they hold the same.
    pub fn replicas_agree(&self) {
        let begun = Instant::now();
        loop {
            let status = self.run(&["status"]);
            let nodes = status["nodes"].as_array().expect("nodes");
            assert!(nodes.iter().all(|node| node["online"] == true), "{status:#}");
            let mut groups: BTreeMap<String, Vec<[&Value; 2]>> = BTreeMap::new();
            for node in nodes {
                let group = format!("{} {}", node["service"], node["group"]);
                groups.entry(group).or_default().push([&node["applied"], &node["replica_hash"]]);
            }
            if groups.values().all(|states| states.iter().all(|[applied, _]| *applied == states[0][0])) {
                assert!(
                    groups.values().all(|states| states.iter().all(|state| *state == states[0])),
                    "{status:#}"
                );
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "the replicas do not catch up: {status:#}");
            sleep(POLL);
        }
    }
}

impl Node {
    /// Whether `node` is of the same Raft group.
    fn is_mate(&self, node: &Value) -> bool {
        node["service"] == self.service[..] && node["group"].as_u64().unwrap_or_default() == self.group
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let children = std::iter::once(&mut self.up).chain(self.others.iter_mut().map(|(_, child)| child));
        for child in children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The binary with no `ERAFT_…` of the environment.
pub fn eraft() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_eraft"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ERAFT_")) {
        command.env_remove(name);
    }
    command.env("ERAFT_PULL_BYTES_PER_SECOND_MAX", PULL_BYTES_PER_SECOND.to_string()).stdin(Stdio::null());
    command
}

/// The child ends when this thread does, however that is.
pub fn dies_with_us(command: &mut Command) -> &mut Command {
    // SAFETY: between fork and exec only prctl is called, which is async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        })
    }
}

/// Ports that are free now and that no outgoing connection takes, `count` in a row.
fn free_ports(count: u16) -> u16 {
    let start = (std::process::id() % 700) as u16 * 10;
    let firsts = (0..700).map(|step| 12_000 + (start + step * 10) % 7_000);
    let mut free = firsts
        .filter(|first| (*first..first + count).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()));
    free.next().expect("free ports")
}

fn addresses(first: u16) -> String {
    (first..first + REPLICAS).map(|port| format!("127.0.0.1:{port}")).collect::<Vec<_>>().join(",")
}
