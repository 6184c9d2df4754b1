//! The commands, as a script sees them: output, exit codes, and digests that do not depend on how a run is run.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

fn eraft_sim(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_eraft-sim"));
    command.current_dir(root()).args(arguments).output().expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

#[cfg(not(madsim))]
#[test]
fn built_without_the_simulator_it_says_so_and_exits_70() {
    let output = eraft_sim(&["run", "scenarios/idle.toml"]);
    assert_eq!(output.status.code(), Some(70));
    assert!(text(&output.stderr).contains("cargo sim"), "{}", text(&output.stderr));
}

#[cfg(madsim)]
mod simulated {
    use super::*;
    use serde_json::Value;

    const SCENARIO: &str = "sim/tests/data/short.toml";

    fn lines(output: &Output) -> Vec<Value> {
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    fn run(arguments: &[&str]) -> Value {
        let output = eraft_sim(&[&["run"], arguments, &["-o", "json"]].concat());
        assert_eq!(output.status.code(), Some(0), "{}{}", text(&output.stdout), text(&output.stderr));
        lines(&output).remove(0)
    }

    /// One line to standard error, with this exit code.
    fn refused(arguments: &[&str], code: i32) -> String {
        let output = eraft_sim(arguments);
        let message = text(&output.stderr);
        assert_eq!(
            (output.status.code(), message.lines().count()),
            (Some(code), 1),
            "{arguments:?}: {message}"
        );
        message
    }

    #[test]
    fn a_malformed_scenario_is_named_with_file_line_and_key() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("typo.toml");
        std::fs::write(&path, "[cluster]\nnods = 3\n").unwrap();
        let path = path.to_str().unwrap();
        let expected =
            format!("eraft-sim: {path}:2:1: cluster.nods: unknown key `nods`, did you mean `nodes`?\n");
        assert_eq!(refused(&["run", path], 2), expected);
        assert_eq!(refused(&["fuzz", path], 2), expected);
    }

    #[test]
    fn what_is_not_there_is_refused_in_one_line() {
        let missing = refused(&["run", "scenarios/nowhere.toml"], 2);
        assert!(missing.contains("scenarios/nowhere.toml: No such file"), "{missing}");
        let mutant = refused(&["run", SCENARIO, "--mutant", "election.vote_twise"], 2);
        assert!(mutant.contains("did you mean `election.vote_twice`?"), "{mutant}");
        let artifact = refused(&["replay", SCENARIO], 2);
        assert!(artifact.contains(":1:1: not an artifact"), "{artifact}");
        let trace = refused(&["diff", SCENARIO, SCENARIO], 2);
        assert!(trace.contains("not a trace"), "{trace}");
        assert_eq!(eraft_sim(&["run", SCENARIO, "--sede", "1"]).status.code(), Some(2));
    }

    #[test]
    fn list_names_everything_in_json() {
        let all = lines(&eraft_sim(&["list", "-o", "json"])).remove(0);
        for (kind, id) in
            [("faults", "net.partition"), ("invariants", "raft.vote_once"), ("mutants", "kv.no_dedup")]
        {
            let entries = all[kind].as_array().unwrap();
            assert!(entries.iter().any(|entry| entry["id"] == id), "{kind}: {id}");
        }
        assert!(all["mutants"].as_array().unwrap().iter().all(|mutant| mutant["oracle"].is_string()));
        let files: Vec<_> = all["scenarios"].as_array().unwrap().iter().map(|entry| &entry["file"]).collect();
        assert!(files.iter().any(|file| *file == "scenarios/standard.toml"), "{files:?}");
    }

    #[test]
    fn a_run_has_one_digest_however_it_is_run() {
        let directory = tempfile::tempdir().unwrap();
        let trace = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        let once = run(&[SCENARIO, "--seed", "3"]);
        let traced = run(&[SCENARIO, "--seed", "3", "--trace", &trace("one")]);
        let again = run(&[SCENARIO, "--seed", "3", "--trace", &trace("two"), "--history", &trace("history")]);
        let history = std::fs::read_to_string(trace("history")).unwrap();
        let report = eraft_checker::check_jsonl(history.as_bytes(), None, &Default::default()).unwrap();
        assert!(report.operations > 0 && report.verdict == eraft_checker::report::Verdict::Linearizable);
        assert_eq!([&traced["digest"], &again["digest"]], [&once["digest"]; 2]);
        assert_eq!(once["digest"].as_str().unwrap().len(), 16);
        assert_eq!(eraft_sim(&["diff", &trace("one"), &trace("two")]).status.code(), Some(0));

        run(&[SCENARIO, "--seed", "4", "--trace", &trace("other")]);
        let differs = eraft_sim(&["diff", &trace("one"), &trace("other")]);
        assert_eq!(differs.status.code(), Some(1));
        assert!(text(&differs.stdout).starts_with("event "), "{}", text(&differs.stdout));

        let fuzz = |jobs: &str| {
            let seeds = ["fuzz", SCENARIO, "--seeds", "3..6", "--check-determinism", "100", "-o", "json"];
            let output = eraft_sim(&[&seeds[..], &["--jobs", jobs]].concat());
            assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
            lines(&output)
                .iter()
                .map(|line| (line["seed"].clone(), line["digest"].clone()))
                .collect::<Vec<_>>()
        };
        let (one, two) = (fuzz("1"), fuzz("2"));
        assert_eq!(one, two);
        assert_eq!(one[0].1, once["digest"]);
    }

    #[test]
    fn a_planted_bug_is_found_and_its_artifact_runs_again() {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().to_str().unwrap();
        let mutant =
            ["--mutant", "replication.quorum_off_by_one", "--seeds", "0..20", "--out", out, "-o", "json"];
        let output = eraft_sim(&[&["fuzz", SCENARIO], &mutant[..]].concat());
        assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
        let found = lines(&output).pop().unwrap();
        let artifact = found["artifact"].as_str().unwrap().to_owned();
        let replay = eraft_sim(&["replay", &artifact, "-o", "json"]);
        let report = lines(&replay).remove(0);
        assert_eq!((replay.status.code(), &report["digest_same"]), (Some(0), &Value::Bool(true)));
        assert_eq!(report["run"]["violation"], found["violation"]);

        // Another seed's digest in the artifact: the replay says where the two part.
        let mut altered: Value = serde_json::from_str(&std::fs::read_to_string(&artifact).unwrap()).unwrap();
        altered["seed"] = Value::from(altered["seed"].as_u64().unwrap() + 1);
        std::fs::write(&artifact, altered.to_string()).unwrap();
        let replay = eraft_sim(&["replay", &artifact, "-o", "json"]);
        let report = lines(&replay).remove(0);
        assert_eq!((replay.status.code(), &report["digest_same"]), (Some(1), &Value::Bool(false)));
    }

    #[test]
    fn a_finding_is_shrunk_drawn_and_still_the_same_finding() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        let out = path("found");
        let mutant =
            ["--mutant", "replication.quorum_off_by_one", "--seeds", "0..20", "--out", &out, "-o", "json"];
        let found = lines(&eraft_sim(&[&["fuzz", SCENARIO], &mutant[..]].concat())).pop().unwrap();
        let artifact = found["artifact"].as_str().unwrap().to_owned();

        let small = path("small.json");
        let output = eraft_sim(&["shrink", &artifact, "-o", &small, "--runs-max", "200", "--format", "json"]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let report = lines(&output).remove(0);
        assert_eq!(report["fingerprint"], found["violation"]["fingerprint"]);
        let size = |when: &str, what: &str| report[when][what].as_u64().unwrap();
        assert!(size("after", "operations") < size("before", "operations"), "{report}");
        assert!(size("after", "faults") <= size("before", "faults"), "{report}");
        let sentences = report["schedule"].as_array().unwrap();
        assert!(sentences.last().unwrap().as_str().unwrap().contains("is violated"), "{report}");
        let again = eraft_sim(&["replay", &small]);
        assert_eq!(again.status.code(), Some(0), "{}", text(&again.stdout));
        let other_jobs = path("other.json");
        let again = eraft_sim(&["shrink", &artifact, "-o", &other_jobs, "--runs-max", "200", "--jobs", "1"]);
        assert_eq!(again.status.code(), Some(0));
        let read = |path: &str| std::fs::read(path).unwrap();
        assert!(read(&small) == read(&other_jobs), "another result with one thread");

        let page = path("page.html");
        let output = eraft_sim(&["explain", &small, "--html", &page]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert!(
            !text(&output.stdout).contains("another"),
            "the digest is that of the artifact: {}",
            text(&output.stdout)
        );
        let html = String::from_utf8(read(&page)).unwrap();
        assert!(
            html.len() < 5_000_000 && html.contains("raft.ack_durable") && !html.contains("://"),
            "{}",
            html.len()
        );
    }

    #[test]
    fn the_exam_names_what_kills_a_mutant_and_its_table_is_complete() {
        let one = [
            "mutants",
            "--only",
            "replication.quorum_off_by_one",
            "--layer",
            "core",
            "--ranges",
            "2",
            "-o",
            "json",
        ];
        let output = eraft_sim(&one);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let row = lines(&output).remove(0);
        assert_eq!((&row["killed"], &row["oracle"]), (&Value::from(2), &Value::from("raft.ack_durable")));
        let check = eraft_sim(&["mutants", "--check", "--only", "replication.quorum_off_by_one"]);
        assert_eq!(check.status.code(), Some(0), "{}{}", text(&check.stdout), text(&check.stderr));
        let shrink =
            eraft_sim(&["mutants", "--shrink", "--only", "replication.quorum_off_by_one", "-o", "json"]);
        assert_eq!(shrink.status.code(), Some(0), "{}{}", text(&shrink.stdout), text(&shrink.stderr));
        let row = lines(&shrink).remove(0);
        assert_eq!(row["oracle"], "raft.ack_durable");
        let faults = |size: &str| row[size]["faults"].as_u64().unwrap();
        assert!(faults("before") >= 10 && faults("after") <= 5, "{row}");
    }
}
