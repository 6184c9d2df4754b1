//! The digest: the same wherever a seed runs, and different as soon as something leaks in that no seed decides.
#![cfg(madsim)]

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::io::BufReader;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use eraft_sim::fuzz::Source;
use eraft_sim::outcome::Outcome;
use eraft_sim::runner::{Leak, RunOptions, run};
use eraft_sim::scenario::Scenario;
use eraft_sim::trace::{Reader, diff};

/// The swarms that are run in every way: one group, controllers, and the whole sharded store; with so many seeds.
const SWARMS: [(&str, u64); 3] = [(KV, 20), (CTRLER, 6), (SHARDKV, 6)];
const KV: &str = "scenarios/swarm/kv.toml";
const CTRLER: &str = "scenarios/swarm/ctrler.toml";
const SHARDKV: &str = "scenarios/swarm/shardkv.toml";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

fn swarm(file: &str) -> Source {
    let text = std::fs::read_to_string(root().join(file)).expect("the scenario is read");
    let file = file.to_owned();
    let scenario = Scenario::parse(&file, &text).unwrap_or_else(|error| panic!("{error}"));
    Source { file, text, scenario }
}

fn digest_of(file: &str, seed: u64, options: &RunOptions) -> Outcome {
    run(eraft_sim::world::run, &swarm(file).request(seed, None), options).expect("no internal error")
}

/// The digests that the command prints, in a process of its own.
fn digests_of_a_process(file: &str, seeds: u64, jobs: &str) -> Vec<String> {
    let seeds = format!("0..{seeds}");
    let output = Command::new(env!("CARGO_BIN_EXE_eraft-sim"))
        .current_dir(root())
        .args(["fuzz", file, "--seeds", &seeds, "--jobs", jobs, "-o", "json", "--keep-going"])
        .output()
        .expect("the simulator runs");
    let lines = String::from_utf8(output.stdout).expect("text");
    let digest = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).expect("a line of JSON");
        line["digest"].as_str().map(str::to_owned)
    };
    lines.lines().filter_map(digest).collect()
}

#[test]
fn a_seed_has_one_digest_in_this_process_in_others_and_whatever_the_jobs() {
    for (file, seeds) in SWARMS {
        let digest = |seed| format!("{:016x}", digest_of(file, seed, &RunOptions::default()).digest);
        let here: Vec<String> = (0..seeds).map(digest).collect();
        assert_eq!(here, digests_of_a_process(file, seeds, "1"), "{file}: a fresh process");
        assert_eq!(here, digests_of_a_process(file, seeds, "2"), "{file}: a fresh process with two jobs");
        let distinct: HashSet<&String> = here.iter().collect();
        assert_eq!(distinct.len() as u64, seeds, "{file}: different seeds have different digests");
    }
}

/// Runs one seed until two runs with `leak` differ, and shows where.
fn assert_noticed(what: &str, leak: impl Fn() -> Leak) {
    let directory = tempfile::tempdir().expect("a directory");
    let traced = |name: &str| {
        let path = directory.path().join(name);
        let options = RunOptions { trace: Some(path.clone()), leak: Some(leak()), ..RunOptions::default() };
        (digest_of(KV, 3, &options).digest, path)
    };
    let (first, one) = traced("one");
    // A leak may have the same value twice by chance; it will not have it ten times.
    for _ in 0..10 {
        let (again, other) = traced("other");
        if again == first {
            continue;
        }
        let open =
            |path| Reader::new(BufReader::new(std::fs::File::open(path).expect("a trace"))).expect("a trace");
        let (mut left, mut right) = (open(one.as_path()), open(other.as_path()));
        let found = diff(&mut left, &mut right, 3).expect("readable traces").expect("the traces differ too");
        let shown = format!("{:?}{:?}", found.left, found.right);
        assert!(shown.contains("client") || shown.contains("step"), "{what}: located at {shown}");
        return;
    }
    panic!("{what}: ten runs had one digest, so the digest does not see it");
}

#[test]
fn hash_order_is_noticed() {
    assert_noticed("hash order", || {
        let order = RandomState::new();
        Leak(Arc::new(move || {
            let mut delays = HashSet::with_hasher(order.clone());
            delays.extend(0..50);
            delays.into_iter().next().unwrap_or_default()
        }))
    });
}

#[test]
fn the_wall_clock_is_noticed() {
    // Not through libc, where the simulator would answer.
    let uptime_hundredths = || {
        let uptime = std::fs::read_to_string("/proc/uptime").expect("the machine's clock");
        let digits: String = uptime.split(' ').next().unwrap_or_default().replace('.', "");
        digits.parse::<u64>().expect("a number") % 50
    };
    assert_noticed("wall clock", || Leak(Arc::new(uptime_hundredths)));
}

#[test]
fn ambient_randomness_is_noticed() {
    use std::io::Read as _;
    let byte = || {
        let mut byte = [0];
        let mut device = std::fs::File::open("/dev/urandom").expect("the machine's randomness");
        device.read_exact(&mut byte).expect("a byte");
        u64::from(byte[0])
    };
    assert_noticed("ambient randomness", || Leak(Arc::new(byte)));
}

/// What a thread does comes in an order that no seed decides, so the simulator does not let one begin: the run ends there
/// and says where that was.
#[test]
fn a_thread_is_refused_and_located() {
    let line = line!() + 1;
    let leak = Leak(Arc::new(|| std::thread::spawn(|| 7).join().unwrap_or_default()));
    let outcome = digest_of(KV, 3, &RunOptions { leak: Some(leak), ..RunOptions::default() });
    let violation = outcome.violation.expect("the thread is noticed");
    assert_eq!(violation.oracle, "sim.panic");
    for words in ["thread", "determinism.rs", &format!(":{line}:")] {
        assert!(violation.message.contains(words), "{words}: {}", violation.message);
    }
}

#[test]
fn a_number_that_is_always_the_same_is_no_leak() {
    let digest = || {
        let leak = Some(Leak(Arc::new(|| 7)));
        digest_of(KV, 3, &RunOptions { leak, ..RunOptions::default() }).digest
    };
    assert_eq!(digest(), digest());
}
