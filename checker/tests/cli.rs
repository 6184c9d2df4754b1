//! The command: exit codes, and what it prints where.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const LEGAL: &str = r#"{"format":"eraft-history","version":1,"model":"kv"}
{"process":1,"type":"invoke","f":"put","key":"a","value":"1"}
{"process":2,"type":"invoke","f":"get","key":"a"}
{"process":1,"type":"ok"}
{"process":2,"type":"ok","value":"1"}
"#;

const STALE: &str = r#"{"format":"eraft-history","version":1,"model":"kv"}
{"process":1,"type":"invoke","f":"put","key":"a","value":"1"}
{"process":1,"type":"ok"}
{"process":1,"type":"invoke","f":"put","key":"a","value":"2"}
{"process":3,"type":"invoke","f":"put","key":"a","value":"3"}
{"process":1,"type":"ok"}
{"process":2,"type":"invoke","f":"get","key":"a"}
{"process":2,"type":"ok","value":"1"}
"#;

const BROKEN: &str = "{\"format\":\"eraft-history\",\"version\":1,\"model\":\"kv\"}\n{\"process\":1,";

struct Files(TempDir);

impl Files {
    fn new() -> Files {
        let files = Files(tempfile::tempdir().unwrap());
        for (name, content) in [("legal", LEGAL), ("stale", STALE), ("broken", BROKEN), ("empty", "")] {
            std::fs::write(files.path(name), content).unwrap();
        }
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = command();
        command.current_dir(self.0.path()).args(args).output().unwrap()
    }
}

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_eraft-check"));
    for name in ["MODEL", "FORMAT", "TIMEOUT", "MEMORY", "STEPS", "OUTPUT", "HTML"] {
        command.env_remove(format!("ERAFT_{name}"));
    }
    command
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

#[test]
fn exit_codes() {
    let files = Files::new();
    for (args, code) in [
        (&["legal"][..], 0),
        (&["stale"], 1),
        (&["broken"], 2),
        (&["empty"], 2),
        (&["--format", "jepsen-log", "empty"], 0),
        (&["absent"], 2),
        (&[], 2),
        (&["--model", "queue", "legal"], 2),
        (&["--model", "register", "legal"], 2),
        (&["--timeout", "5", "legal"], 2),
        (&["--steps", "1", "legal"], 5),
        (&["--memory", "1B", "legal"], 5),
        (&["--timeout", "0s", "legal"], 5),
        // A violation is certain, whatever else happens; a file that cannot be read outweighs one that is undecided.
        (&["legal", "stale", "broken"], 1),
        (&["broken", "legal"], 2),
        (&["--steps", "1", "legal", "broken"], 2),
        (&["--help"], 0),
        (&["--version"], 0),
    ] {
        let output = files.run(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", stderr(&output));
        assert_eq!(stderr(&output).is_empty(), code != 2 && !args.contains(&"broken"), "{args:?}");
    }
}

#[test]
fn a_file_that_cannot_be_read_has_no_verdict() {
    let output = Files::new().run(&["-o", "json", "broken", "legal"]);
    assert_eq!(stdout(&output).lines().count(), 1, "{}", stdout(&output));
    let message = stderr(&output);
    assert!(message.starts_with("eraft-check: broken:2:13: EOF while parsing"), "{message}");
}

#[test]
fn json_is_a_line_for_each_file() {
    let output = Files::new().run(&["-o", "json", "legal", "stale"]);
    let mut lines = stdout(&output).lines().map(|line| {
        let mut value: serde_json::Value = serde_json::from_str(line).unwrap();
        // These depend on the machine and on the engine.
        assert!(value["seconds"].take().is_f64() && value["steps"].take().is_u64());
        value
    });
    let legal = serde_json::json!({
        "file": "legal", "verdict": "linearizable", "operations": 2, "unknown": 0, "failed": 0, "partitions": 1,
        "steps": null, "core": [], "reason": null, "seconds": null,
    });
    assert_eq!(lines.next(), Some(legal));
    let stale = serde_json::json!({
        "file": "stale", "verdict": "violation", "operations": 4, "unknown": 1, "failed": 0, "partitions": 1,
        "steps": null, "partition": "\"a\"", "prefix": 2, "states": ["\"2\""],
        "core": [
            {"role": "unplaceable", "process": 2, "operation": "get \"a\" -> \"1\"", "invoked_line": 7, "returned_line": 8},
            {"role": "conflict", "process": 1, "operation": "put \"a\" \"1\" -> ok", "invoked_line": 2, "returned_line": 3},
            {"role": "conflict", "process": 1, "operation": "put \"a\" \"2\" -> ok", "invoked_line": 4, "returned_line": 6},
        ],
        "reason": "\"a\": put \"a\" \"2\" -> ok (process 1, lines 4-6) was invoked and returned before get \"a\" -> \"1\" \
                   (process 2, lines 7-8) was invoked, which shows that nothing else had come since put \"a\" \"1\" -> ok \
                   (process 1, lines 2-3) returned; the 2 operations that had returned before can be ordered",
        "seconds": null,
    });
    assert_eq!(lines.next(), Some(stale));
}

#[test]
fn a_picture_is_drawn_of_one_history() {
    let files = Files::new();
    for (args, code, drawn) in [
        (&["stale", "--html", "picture.html"][..], 1, true),
        (&["legal", "--html", "picture.html"], 0, true),
        (&["--steps", "1", "legal", "--html", "picture.html"], 5, true),
        (&["broken", "--html", "picture.html"], 2, false),
        (&["legal", "stale", "--html", "picture.html"], 2, false),
        (&["legal", "--html", "absent/picture.html"], 2, false),
        (&["stale", "--html", "absent/picture.html"], 1, false),
    ] {
        let picture = files.path("picture.html");
        let _ = std::fs::remove_file(&picture);
        let output = files.run(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", stderr(&output));
        assert_eq!(std::fs::exists(&picture).unwrap(), drawn, "{args:?}");
        assert_eq!(stderr(&output).is_empty(), drawn, "{args:?}: {}", stderr(&output));
    }
    // A verdict does not depend on the picture.
    assert!(stdout(&files.run(&["stale", "--html", "absent/x"])).starts_with("stale: violation"));
}

#[test]
fn people_see_the_evidence() {
    let files = Files::new();
    let plain = files.run(&["stale"]);
    let text = stdout(&plain);
    assert!(
        text.starts_with("stale: violation: 4 operations (1 of unknown outcome), 1 partitions"),
        "{text}"
    );
    assert!(text.contains("\n  unplaceable: process 2, get \"a\" -> \"1\" (lines 7-8)\n"), "{text}");
    assert!(text.contains("\n  conflict: process 1, put \"a\" \"2\" -> ok (lines 4-6)"), "{text}");
    let table = files.run(&["-o", "table", "legal", "stale"]);
    let text = stdout(&table);
    assert!(
        text.contains("linearizable") && text.contains("\nstale: violation\n  \"a\": put \"a\" \"2\""),
        "{text}"
    );
    assert!(!text.contains('\u{1b}'), "no colour in a pipe");
}

#[test]
fn standard_input_and_the_environment() {
    let mut child = command()
        .args(["-o", "json", "-"])
        .env("ERAFT_MODEL", "register")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let events = "{\"process\":1,\"type\":\"invoke\",\"f\":\"read\"}\n{\"process\":1,\"type\":\"ok\",\"value\":\"1\"}\n";
    child.stdin.take().unwrap().write_all(events.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stdout(&output).contains("read -> \\\"1\\\" (process 1, lines 1-2) shows what nobody"),
        "{}",
        stdout(&output)
    );
}

#[test]
fn a_violation_is_made_small_and_a_witness_is_verified() {
    let files = Files::new();
    assert_eq!(files.run(&["--minimize", "core", "stale"]).status.code(), Some(1));
    let core = std::fs::read_to_string(files.path("core")).unwrap();
    assert!(!core.contains("\"3\"") && core.lines().count() < STALE.lines().count(), "{core}");
    assert_eq!(files.run(&["core"]).status.code(), Some(1));
    assert_eq!(files.run(&["--witness", "order", "legal"]).status.code(), Some(0));
    let verified = files.run(&["--verify", "order", "legal"]);
    assert_eq!(verified.status.code(), Some(0), "{}", stderr(&verified));
    assert_eq!(stdout(&verified), "legal: linearizable, as order proves\n");
    std::fs::write(files.path("order"), "{\"format\":\"eraft-witness\",\"version\":1}\n[1,0]\n").unwrap();
    let refused = files.run(&["--verify", "order", "legal"]);
    assert_eq!((refused.status.code(), stdout(&refused)), (Some(2), ""));
    assert!(
        stderr(&refused).contains("order: operation 1 cannot have answered that"),
        "{}",
        stderr(&refused)
    );
    assert_eq!(files.run(&["--minimize", "core", "legal", "stale"]).status.code(), Some(2));
}

#[test]
fn what_there_is_not_is_not_written() {
    let files = Files::new();
    for (args, code, verdict) in [
        (&["--minimize", "core", "legal"][..], 0, "linearizable"),
        (&["--steps", "1", "--minimize", "core", "stale"], 5, "undecided"),
        (&["--witness", "order", "stale"], 1, "violation"),
        (&["--steps", "1", "--witness", "order", "legal"], 5, "undecided"),
    ] {
        let (history, target) = (args[args.len() - 1], args[args.len() - 2]);
        let output = files.run(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", stderr(&output));
        let reason = format!("eraft-check: {target}: not written: the verdict on {history} is {verdict}\n");
        assert_eq!(stderr(&output), reason, "{args:?}");
        assert!(
            stdout(&output).starts_with(&format!("{history}: {verdict}")),
            "{args:?}: {}",
            stdout(&output)
        );
        assert!(!files.path("core").exists() && !files.path("order").exists(), "{args:?}");
    }
    // To ask for both is to ask for whichever there is.
    let both = files.run(&["--minimize", "core", "--witness", "order", "stale"]);
    assert_eq!(both.status.code(), Some(1));
    assert!(files.path("core").exists() && !files.path("order").exists());
}

#[test]
fn random_histories_are_written_and_checked() {
    let files = Files::new();
    for (name, options) in
        [("good", &[][..]), ("bad", &["--stale"]), ("register", &["--keys", "0", "--cas", "5"])]
    {
        let args = [&["generate", "--operations", "200", "--unknown", "5", "--seed", "3"], options].concat();
        let generated = files.run(&args);
        assert_eq!((generated.status.code(), stderr(&generated)), (Some(0), ""), "{name}");
        assert_eq!(generated.stdout, files.run(&args).stdout, "{name}: the same options, the same bytes");
        std::fs::write(files.path(name), &generated.stdout).unwrap();
        let code = if name == "bad" { 1 } else { 0 };
        assert_eq!(files.run(&[name]).status.code(), Some(code), "{name}");
    }
    assert_eq!(files.run(&["generate", "--operations", "many"]).status.code(), Some(2));
}

#[test]
fn a_history_is_followed_to_its_first_violation() {
    let files = Files::new();
    let legal = files.run(&["--follow", "legal"]);
    assert_eq!(legal.status.code(), Some(0), "{legal:?}");
    // What comes behind the violation is not read any more, so it does not matter that it is broken.
    std::fs::write(files.path("stale-then-broken"), format!("{STALE}{{")).unwrap();
    let stale = files.run(&["--follow", "stale-then-broken"]);
    assert_eq!(stale.status.code(), Some(1), "{stale:?}");
    assert!(stdout(&stale).contains("process 2, get \"a\" -> \"1\" (lines 7-8)"), "{stale:?}");
    std::fs::write(files.path("stale-then-noise"), format!("{STALE}noise\n")).unwrap();
    assert_eq!(files.run(&["--follow", "stale-then-noise"]).status.code(), Some(1));
    let broken = files.run(&["--follow", "broken"]);
    assert_eq!(broken.status.code(), Some(2), "{broken:?}");
    let etcd = files.run(&["--follow", "--format", "jepsen-log", "legal"]);
    assert_eq!(etcd.status.code(), Some(2), "{etcd:?}");
}

/// The recorder is still running and does not close its end, so what has come by then must do.
#[test]
fn whoever_writes_line_by_line_learns_of_a_violation_at_once() {
    let mut child = command()
        .args(["-o", "plain", "--follow", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut recorder = child.stdin.take().unwrap();
    recorder.write_all(STALE.as_bytes()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("it waits for more");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert_eq!(status.code(), Some(1));
    drop(recorder);
}
