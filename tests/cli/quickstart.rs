//! The quick start of the README, as it stands there, but for the ports: a reader who copies it gets what it promises.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{PATIENCE, eraft, free_ports, run};

/// What every address of the README begins with.
const HOST: &str = "127.0.0.1:";
/// Processes that the quick start leaves running: three controllers and two groups of three.
const NODES: u16 = 9;
/// It is over within this; five seconds of it are its own benchmark.
const WITHIN: Duration = Duration::from_secs(60);

/// The block of the README with separate processes.
fn block() -> String {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(readme).expect("the README");
    let blocks = readme.split("```sh\n").skip(1).map(|rest| rest.split("```").next().expect("a block"));
    let found: Vec<&str> = blocks.filter(|block| block.contains("eraft serve ctrler")).collect();
    let [block] = found[..] else { panic!("one block starts separate processes: {found:?}") };
    block.to_owned()
}

/// The script with ports that are free here.
fn with_free_ports(script: &str) -> String {
    let mut ports: BTreeMap<String, u16> = BTreeMap::new();
    for rest in script.split(HOST).skip(1) {
        ports.insert(rest.chars().take_while(char::is_ascii_digit).collect(), 0);
    }
    assert_eq!(ports.len(), usize::from(NODES), "each node has an address: {ports:?}");
    let first = free_ports(NODES);
    let pairs = ports.keys().zip(first..);
    // No port of the README is in the range of the new ones, so no replacement is replaced again.
    pairs.fold(script.to_owned(), |script, (old, new)| {
        assert!(!(first..first + NODES).contains(&old.parse().expect("a port")));
        script.replace(&format!("{HOST}{old}"), &format!("{HOST}{new}"))
    })
}

/// A shell and everything that it started, which end with this.
struct Shell(Child);

impl Drop for Shell {
    fn drop(&mut self) {
        // SAFETY: kill has no preconditions; the group is the shell's own.
        unsafe { libc::kill(-self.0.id().cast_signed(), libc::SIGKILL) };
        let _ = self.0.wait();
    }
}

#[test]
fn the_quick_start_of_the_readme_works_step_by_step() {
    let home = tempfile::tempdir().unwrap();
    let script = with_free_ports(&block());
    let (out, err) = (home.path().join("out"), home.path().join("err"));
    let binary = Path::new(env!("CARGO_BIN_EXE_eraft")).parent().expect("a directory").to_owned();
    let path = std::env::join_paths(
        std::iter::once(binary).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
    );
    let mut shell = Command::new("bash");
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ERAFT_")) {
        shell.env_remove(name);
    }
    // It stops at the first command that fails, tells where the controllers are, and waits with its nodes.
    let script = format!("set -eu\n{script}\necho $ERAFT_CTRLERS > ctrlers\nmv ctrlers over\nwait\n");
    shell.args(["-c", &script]).current_dir(home.path()).env("PATH", path.expect("no colon in it"));
    shell.stdin(Stdio::null()).process_group(0);
    shell.stdout(std::fs::File::create(&out).unwrap()).stderr(std::fs::File::create(&err).unwrap());
    let begun = Instant::now();
    let mut shell = Shell(shell.spawn().expect("bash starts"));
    let said = || [&out, &err].map(|path| std::fs::read_to_string(path).expect("text"));
    while !home.path().join("over").exists() {
        assert_eq!(shell.0.try_wait().unwrap(), None, "a step failed: {:#?}", said());
        assert!(begun.elapsed() < WITHIN, "it does not end: {:#?}", said());
        std::thread::sleep(Duration::from_millis(20));
    }
    println!("the quick start took {:?}", begun.elapsed());

    // What each step says.
    let [said, _] = said();
    let mut rest = &said[..];
    for step in [
        "OK: config 1\n",                         // join
        "OK\n",                                   // put
        "OK\n",                                   // append
        "12",                                     // get
        " operations/s; 0 errors; 4 clients x 1", // bench
        "config 1\n",                             // status
        "OK: config 2\n",                         // move
        "config 2, the latest: 10 shards\n",
        "OK: config 3\n", // leave
    ] {
        let at = rest.find(step).unwrap_or_else(|| panic!("{step:?} is missing after {rest:?} in {said}"));
        rest = &rest[at + step.len()..];
    }

    // And what it leaves: all shards are at the group that stayed, and the value is there.
    let ctrlers = std::fs::read_to_string(home.path().join("over")).unwrap();
    let client = |arguments: &[&str]| run(eraft().args(arguments).args(["--ctrlers", ctrlers.trim()]));
    client(&["get", "a"]).printed("12");
    let begun = Instant::now();
    loop {
        let status = client(&["status", "-o", "json"]).json();
        let nodes = status["nodes"].as_array().unwrap();
        let serving = |node: &&Value| {
            let shards = node["shards"].as_array().map(Vec::as_slice).unwrap_or_default();
            shards.iter().filter(|shard| shard["state"] == "Serving").count() == 10
        };
        let leads = nodes.iter().filter(|node| node["role"] == "leader" && node["group"] == json!(100));
        if leads.filter(serving).count() == 1 {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "the shards do not arrive: {status:#}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
