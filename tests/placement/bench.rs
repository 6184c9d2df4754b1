//! `eraft bench` beside the other clients, as an operator runs it; its history goes to the checker.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use eraft_checker::{Options, Verdict, check_jsonl};
use serde_json::Value;

use super::cluster::{dies_with_us, eraft};

/// Nobody waits for its end: it is interrupted before.
const SECONDS: &str = "600";
/// Once it is interrupted it ends after its last operations.
const ENDS_WITHIN: Duration = Duration::from_secs(30);
/// The check of its history may take so long.
const CHECK_MAX: Duration = Duration::from_secs(60);

pub struct Bench {
    child: Child,
    history: PathBuf,
}

impl Bench {
    /// Starts it against the cluster with these controllers; its history is in `directory`.
    pub fn start(ctrlers: &str, directory: &Path) -> Self {
        let history = directory.join("bench.jsonl");
        let mut command = eraft();
        command.args(["bench", "--clients", "2", "--pipeline", "2", "--keys", "30", "--value-bytes", "40"]);
        command.args(["--mix", "get=40,put=30,append=20,delete=5,cas=5", "--seconds", SECONDS, "-o", "json"]);
        command.args(["--timeout", "20s", "--ctrlers", ctrlers, "--history"]).arg(&history);
        let child = dies_with_us(&mut command).stdout(Stdio::piped()).spawn().expect("the binary starts");
        Self { child, history }
    }

    /// Interrupts it, as Ctrl-C does: it reports, and what its clients saw is linearizable.
    pub fn finish(mut self) {
        // SAFETY: kill has no preconditions; the child was not waited for.
        assert_eq!(unsafe { libc::kill(self.child.id().cast_signed(), libc::SIGINT) }, 0);
        let begun = Instant::now();
        while self.child.try_wait().expect("a child").is_none() {
            assert!(begun.elapsed() < ENDS_WITHIN, "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
        let output = self.child.wait_with_output().expect("it has ended");
        assert!(output.status.success(), "{:?}", output.status);
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let operations = report["operations"].as_u64().expect("a number");
        println!("bench: {operations} operations, {} errors", report["errors"]);
        assert_eq!((&report["errors"], &report["interrupted"]), (&0.into(), &true.into()), "{report:#}");
        assert!(operations > 100, "{report:#}");
        let history = std::fs::File::open(&self.history).expect("the history");
        let options = Options { timeout: Some(CHECK_MAX), jobs: 2, ..Options::default() };
        let checked =
            check_jsonl(std::io::BufReader::new(history), None, &options).expect("a history as it should be");
        assert_eq!(checked.verdict, Verdict::Linearizable, "{checked:?}");
        assert_eq!(checked.operations as u64, operations, "each operation is recorded");
    }
}
