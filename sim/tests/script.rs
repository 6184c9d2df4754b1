//! The steps of scenarios: each claim that a step makes is seen to fail once, and the ported suite is whole.
#![cfg(madsim)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use eraft_sim::fuzz::Source;
use eraft_sim::outcome::{Outcome, Verdict};
use eraft_sim::runner::{RunOptions, run};
use eraft_sim::scenario::Scenario;

/// A planted bug shows within so many seeds.
const SEEDS_MAX: u64 = 20;

/// The Raft tests of the suite that `scenarios/lab` ports.
const RAFT: [&str; 24] = [
    "TestInitialElection2A",
    "TestReElection2A",
    "TestManyElections2A",
    "TestBasicAgree2B",
    "TestRPCBytes2B",
    "TestFailAgree2B",
    "TestFailNoAgree2B",
    "TestConcurrentStarts2B",
    "TestRejoin2B",
    "TestBackup2B",
    "TestCount2B",
    "TestPersist12C",
    "TestPersist22C",
    "TestPersist32C",
    "TestFigure82C",
    "TestUnreliableAgree2C",
    "TestFigure8Unreliable2C",
    "TestReliableChurn2C",
    "TestUnreliableChurn2C",
    "TestSnapshotBasic2D",
    "TestSnapshotInstall2D",
    "TestSnapshotInstallUnreliable2D",
    "TestSnapshotInstallCrash2D",
    "TestSnapshotInstallUnCrash2D",
];

/// Its key-value tests.
const KV: [&str; 23] = [
    "TestBasic3A",
    "TestSpeed3A",
    "TestConcurrent3A",
    "TestUnreliable3A",
    "TestUnreliableOneKey3A",
    "TestOnePartition3A",
    "TestManyPartitionsOneClient3A",
    "TestManyPartitionsManyClients3A",
    "TestPersistOneClient3A",
    "TestPersistConcurrent3A",
    "TestPersistConcurrentUnreliable3A",
    "TestPersistPartition3A",
    "TestPersistPartitionUnreliable3A",
    "TestPersistPartitionUnreliableLinearizable3A",
    "TestSnapshotRPC3B",
    "TestSnapshotSize3B",
    "TestSpeed3B",
    "TestSnapshotRecover3B",
    "TestSnapshotRecoverManyClients3B",
    "TestSnapshotUnreliable3B",
    "TestSnapshotUnreliableRecover3B",
    "TestSnapshotUnreliableRecoverConcurrentPartition3B",
    "TestSnapshotUnreliableRecoverConcurrentPartitionLinearizable3B",
];

const SHARDED: [&str; 15] = [
    "TestBasic",
    "TestMulti",
    "TestStaticShards",
    "TestJoinLeave",
    "TestSnapshot",
    "TestMissChange",
    "TestConcurrent1",
    "TestConcurrent2",
    "TestUnreliable1",
    "TestUnreliable2",
    "TestUnreliable3",
    "TestChallenge1Delete",
    "TestChallenge1Concurrent",
    "TestChallenge2Unaffected",
    "TestChallenge2Partial",
];

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join("scenarios/lab")
}

fn source(file: &str, text: String) -> Source {
    let scenario = Scenario::parse(file, &text).unwrap_or_else(|error| panic!("{error}"));
    Source { file: file.to_owned(), text, scenario }
}

fn outcome(source: &Source, seed: u64, mutant: Option<&str>) -> Outcome {
    run(eraft_sim::world::run, &source.request(seed, mutant), &RunOptions::default())
        .expect("no internal error")
}

fn pass(names: &[&str], seeds: std::ops::Range<u64>) {
    for name in names {
        let file = directory().join(format!("{name}.toml"));
        let text =
            std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let source = source(&file.display().to_string(), text);
        assert_eq!(source.scenario.name, *name);
        for seed in seeds.clone() {
            let outcome = outcome(&source, seed, None);
            assert_eq!(outcome.verdict, Verdict::Pass, "{name} seed {seed}: {:?}", outcome.violation);
        }
    }
}

#[test]
fn the_suite_is_whole() {
    let entries = std::fs::read_dir(directory()).expect("the directory is there");
    let stem = |path: PathBuf| path.file_stem().expect("a name").to_string_lossy().into_owned();
    let found: BTreeSet<String> = entries.map(|entry| stem(entry.expect("an entry").path())).collect();
    let wanted: BTreeSet<String> =
        RAFT.iter().chain(&KV).chain(&SHARDED).map(|name| (*name).to_owned()).collect();
    assert_eq!(found, wanted);
}

#[test]
fn raft_scenarios_pass() {
    pass(&RAFT, 0..2);
}

#[test]
fn kv_scenarios_pass() {
    pass(&KV, 0..1);
}

#[test]
fn sharded_scenarios_pass() {
    pass(&SHARDED, 0..1);
}

/// The same script and seed have one digest.
#[test]
fn scripts_repeat() {
    for name in
        ["TestFigure82C", "TestUnreliableChurn2C", "TestOnePartition3A", "TestPersistPartitionUnreliable3A"]
    {
        let text = std::fs::read_to_string(directory().join(format!("{name}.toml"))).expect("it is there");
        let source = source(name, text);
        let (one, two) = (outcome(&source, 7, None), outcome(&source, 7, None));
        assert_eq!((one.digest, one.records), (two.digest, two.records), "{name}");
    }
}

/// A script over three nodes that makes one false claim, judged by nothing else; what is said about it.
fn refuted(steps: &str, settings: &str) -> String {
    let workload = if settings.contains("[workload]") { "" } else { "[workload]\nclients = 0\n" };
    let text = format!("steps = [{steps}]\n{settings}\n{workload}[checks]\noracles = [\"sim.script\"]\n");
    let outcome = outcome(&source("claim.toml", text), 1, None);
    assert_eq!(outcome.verdict, Verdict::Fail, "{steps}: nothing was said");
    let violation = outcome.violation.expect("a failure has a reason");
    assert_eq!(violation.oracle, "sim.script");
    violation.message
}

#[test]
fn every_claim_can_fail() {
    let led = r#"{ do = "one_leader", as = "a" }"#;
    let compacting = "[cluster]\nlog_bytes_max = 1024\napply_flush_ms = 10\n";
    for (steps, settings, said) in [
        // Leaders and terms.
        (r#"{ do = "crash", nodes = ["n1", "n2"] }, { do = "one_leader" }"#, "", "no connected node leads"),
        (
            r#"LED, { do = "cut", nodes = ["n1", "n2"] }, { do = "wait", ms = 1500 }, { do = "followed" }"#,
            "",
            "not every connected node follows",
        ),
        (r#"LED, { do = "no_leader" }"#, "", "believes to lead"),
        (r#"{ do = "same_term" }"#, "", "no node has a term"),
        (
            r#"LED, { do = "wait", ms = 100 }, { do = "same_term" }, { do = "cut", nodes = "a" }, LED,
               { do = "rejoin", nodes = "all" }, { do = "wait", ms = 900 }, { do = "same_term", unchanged = true }"#,
            "",
            "although nothing was wrong",
        ),
        // The log.
        (
            r#"{ do = "agree" }, { do = "cut", nodes = ["n1", "n2"] }, { do = "agree", on = 2 }"#,
            "",
            "did not agree",
        ),
        (
            r#"{ do = "agree" }, { do = "crash", nodes = "n3" }, { do = "agree", on = 3, at_first = true }"#,
            "",
            "nothing came of it",
        ),
        (
            r#"LED, { do = "agree" }, { do = "cut", nodes = "a" }, { do = "propose", at = "a", commands = 2 },
               { do = "committed", on = 2, within_ms = 1500 }"#,
            "",
            "not all commands were applied by 2 nodes",
        ),
        (
            r#"{ do = "agree" }, LED, { do = "propose", at = "a" }, { do = "not_committed", for_ms = 500 }"#,
            "",
            "was applied without a majority",
        ),
        (r#"{ do = "agree" }, LED, { do = "propose", at = "a+1" }"#, "", "does not lead"),
        (
            r#"{ do = "agree" }, LED, { do = "propose", at = "a" }, { do = "agree" }, { do = "propose", at = "a",
               ahead = [5, 9] }"#,
            "",
            "not 5 to 9 after",
        ),
        (r#"{ do = "figure_eight", iterations = 400, by = "cut", chance = 0.0 }"#, "", "nothing to see"),
        // Counts and sizes.
        (r#"LED, { do = "wait", ms = 1000 }, { do = "calls", at_most = 10 }"#, "", "at most 10 are allowed"),
        (r#"LED, { do = "calls", at_least = 999, at_most = 9999 }"#, "", "at least 999 are expected"),
        (r#"{ do = "agree", bytes = 5000 }, { do = "bytes_at_most", bytes = 9000 }"#, "", "bytes were sent"),
        (r#"{ do = "agree", bytes = 2000 }, { do = "log_at_most", bytes = 1999 }"#, "", "are in the log of"),
        (
            r#"{ do = "agree", bytes = 500 }, { do = "state_at_most", bytes = 499 }"#,
            "",
            "are in the state of",
        ),
        (
            r#"{ do = "agree", commands = 40 }, { do = "wait", ms = 200 }, { do = "uncompacted" }"#,
            compacting,
            "begins after index",
        ),
        (r#"{ do = "agree", commands = 40 }, { do = "installed", at_least = 1 }"#, compacting, "0 snapshots"),
        // Clients.
        (
            r#"{ do = "crash", nodes = ["n1", "n2"] }, { do = "clients_done", within_ms = 3000 }"#,
            "[workload]\nclients = 1\noperations = 5\n",
            "0 of 5 operations",
        ),
        (
            r#"{ do = "put", key = "k", value = "v" }, { do = "get", key = "k", value = "w" }"#,
            "",
            "read Some(\"v\"), not \"w\"",
        ),
        (
            r#"LED, { do = "get", key = "k", in_background = true }, { do = "pending", for_ms = 1000 }"#,
            "",
            "`get of k by client` ended",
        ),
        (
            r#"{ do = "crash", nodes = ["n1", "n2"] }, { do = "put", key = "k", value = "v", in_background = true },
               { do = "finished", within_ms = 3000 }"#,
            "",
            "did not end within 3000 ms",
        ),
        (
            r#"LED, { do = "client", as = "far", via = "a+1" }, { do = "put", client = "far", key = "k", value = "v",
               within_ms = 3000 }"#,
            "",
            "did not end within 3000 ms",
        ),
        // The script as a whole.
        (
            r#"{ do = "repeat", times = 200, steps = [{ do = "wait", ms = 1000 }] }"#,
            "",
            "not over after 120 s",
        ),
    ] {
        let message = refuted(&steps.replace("LED", led), settings);
        assert!(message.contains(said), "{steps}: {message}");
    }
}

#[test]
fn every_claim_about_a_sharded_store_can_fail() {
    let sharded = "[cluster]\nctrlers = 3\ngroups = 2\njoined = 0\n";
    let joined = r#"{ do = "operate", commands = "join g100+g101" }, { do = "settled", within_ms = 5000 },
        { do = "placement", groups = ["g100", "g101"] },
        { do = "put", by_shard = true, key = "k", value = "v{n}", count = 10 }"#;
    for (steps, said) in [
        // Commands of operators.
        (r#"{ do = "operate", commands = "leave g100" }"#, "`leave g100` was refused: "),
        (
            r#"{ do = "operate", commands = "join g100", refused = true }"#,
            "was not refused; it made config 1",
        ),
        (
            r#"{ do = "crash", nodes = ["s1", "s2"] }, { do = "operate", commands = "join g100", within_ms = 2000 }"#,
            "was not answered within 2000 ms",
        ),
        // Configs.
        (
            r#"{ do = "operate", commands = "join g100" }, { do = "placement", groups = ["g100", "g101"] }"#,
            "config 1 has the groups",
        ),
        (
            r#"{ do = "operate", commands = "join g100" }, { do = "placement", groups = ["g100"], moved = 9 }"#,
            "10 shards changed their group, 9 have to",
        ),
        (
            r#"{ do = "operate", commands = "join g100" }, { do = "placement", groups = ["g100"], configs = 2 }"#,
            "config 1 followed on config 0",
        ),
        (
            r#"JOINED, { do = "operate", commands = ["move 0 g101; move 1 g101; move 2 g101; move 3 g101",
               "move 4 g101; move 5 g101; move 6 g101"] }, { do = "placement", groups = ["g100", "g101"] }"#,
            "the shares are",
        ),
        (
            r#"{ do = "operate", commands = "join g100" }, { do = "placed", shard = [0, 9], group = "g101" }"#,
            "shard 0 is at",
        ),
        // Shards and their data.
        (
            r#"JOINED, { do = "crash", nodes = "g101" }, { do = "operate", commands = "leave g101" },
               { do = "settled", within_ms = 3000 }"#,
            "g100 does not serve shard",
        ),
        (
            r#"JOINED, { do = "get", by_shard = true, key = "k", value = "w{n}", count = 10, of = "g101" }"#,
            ", not \"w",
        ),
        (
            r#"JOINED, { do = "crash", nodes = "g101" },
               { do = "get", by_shard = true, key = "k", count = 10, of = "g101", within_ms = 2000 }"#,
            "did not end within 2000 ms",
        ),
        (
            r#"{ do = "operate", commands = "join g100" }, { do = "placement", groups = ["g100"] },
               { do = "get", by_shard = true, key = "k", count = 10, of = "g101" }"#,
            "no key is in a shard that g101 had",
        ),
        (
            r#"JOINED, { do = "crash", nodes = "g101" },
               { do = "get", by_shard = true, key = "k", count = 10, in_background = true },
               { do = "ended", exactly = 6, for_ms = 2000 }"#,
            "5 of 10 ended in 2000 ms, 6 have to",
        ),
        // Every node has the ten keys, or its half of them.
        (
            r#"JOINED, { do = "wait", ms = 500 }, { do = "stores_at_most", bytes = 60 }"#,
            "bytes are in all stores",
        ),
    ] {
        let message = refuted(&steps.replace("JOINED", joined), sharded);
        assert!(message.contains(said), "{steps}: {message}");
    }
    // What operators were told counts for no client.
    let steps = r#"{ do = "operate", commands = "join g100" }, { do = "crash", nodes = "g100" },
        { do = "operate", commands = "move 0 g100; unpin 0" }, { do = "clients_done", within_ms = 2000 }"#;
    let message = refuted(steps, &format!("{sharded}[workload]\nclients = 1\noperations = 2\n"));
    assert!(message.contains("0 of 2 operations"), "{message}");
}

/// With `mutant`, one oracle alone sees something in a scenario, and what it says.
fn shown(file: &str, mutant: &str, oracle: &str) -> String {
    let path = directory().join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let source = source(file, format!("{text}\n[checks]\noracles = [\"{oracle}\"]\n"));
    let found = (0..SEEDS_MAX).find_map(|seed| outcome(&source, seed, Some(mutant)).violation);
    let found = found.unwrap_or_else(|| panic!("{file} does not see {mutant} in {SEEDS_MAX} seeds"));
    assert_eq!(found.oracle, oracle, "{file} with {mutant}: {}", found.message);
    found.message
}

/// The steps alone, without any other oracle, show planted bugs.
#[test]
fn scripts_show_planted_bugs() {
    for (file, mutant) in [
        ("TestInitialElection2A.toml", "election.vote_twice"),
        ("TestFailNoAgree2B.toml", "replication.quorum_off_by_one"),
        ("TestFigure82C.toml", "disk.state_and_index_in_two_batches"),
    ] {
        shown(file, mutant, "sim.script");
    }
}

#[test]
fn sharded_scripts_show_planted_bugs() {
    for (file, mutant, oracle, said) in [
        ("TestBasic.toml", "ctrler.moves_too_many", "sim.script", "shards changed their group"),
        ("TestMulti.toml", "ctrler.old_query_gets_latest", "sim.script", "was asked for, and config"),
        (
            "TestChallenge2Unaffected.toml",
            "shardkv.unaffected_blocked",
            "sim.script",
            "did not end within 3000",
        ),
        ("TestChallenge1Delete.toml", "shardkv.never_deletes", "sim.script", "of shard 0 from several times"),
        (
            "TestChallenge1Delete.toml",
            "shardkv.never_deletes",
            "shard.no_leak",
            "of shard 0 from several times",
        ),
        (
            "../scripted/shards_cross_three_owners.toml",
            "shardkv.sessions_not_moved",
            "sim.script",
            "operations were acknowledged within",
        ),
    ] {
        let message = shown(file, mutant, oracle);
        assert!(message.contains(said), "{file} with {mutant}: {message}");
    }
}
