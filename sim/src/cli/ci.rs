//! Results for the engines of continuous integration: JUnit's XML, and annotations of GitHub.

use std::io::Write;
use std::path::Path;

use eraft_checker::html::escape;

use super::Failure;
use crate::fuzz::{Line, Run, Summary};
use crate::outcome::Verdict;

/// Characters that XML cannot hold are left out.
fn xml(text: &str) -> String {
    escape(&text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect::<String>())
}

/// The command that shows a line's run again.
fn again(line: &Line) -> String {
    line.artifact.as_ref().map_or_else(String::new, |path| format!("cargo sim replay {}", path.display()))
}

/// A file of one suite for each scenario: a case for each run that did not pass, and one for all that did.
pub(super) fn junit(path: &Path, runs: &[Run], summary: &Summary) -> Result<(), Failure> {
    let mut text =
        String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"eraft-sim fuzz\">\n");
    let mut scenarios: Vec<&str> = runs.iter().map(|run| run.line.scenario.as_str()).collect();
    scenarios.sort_unstable();
    scenarios.dedup();
    for scenario in scenarios {
        let lines = || runs.iter().map(|run| &run.line).filter(|line| line.scenario == scenario);
        let bad: Vec<&Line> = lines().filter(|line| line.verdict != Verdict::Pass).collect();
        let prefix = format!("{scenario}: ");
        let vacuous: Vec<&String> =
            summary.vacuous.iter().filter(|vacuous| vacuous.starts_with(&prefix)).collect();
        let seconds: f64 = lines().map(|line| line.wall_seconds).sum();
        let good = lines().count() - bad.len();
        text += &format!(
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" time=\"{seconds:.3}\">\n    <testcase classname=\"{0}\" \
             name=\"{good} seeds pass\" time=\"{seconds:.3}\"/>\n",
            xml(scenario),
            bad.len() + vacuous.len() + 1,
            bad.len() + vacuous.len(),
        );
        for line in bad {
            let (oracle, message) = line
                .violation
                .as_ref()
                .map_or(("", ""), |found| (found.oracle.as_str(), found.message.as_str()));
            text += &format!(
                "    <testcase classname=\"{}\" name=\"seed {}\" time=\"{:.3}\"><failure type=\"{}\" message=\"{}\">{}\n{}</failure></testcase>\n",
                xml(scenario),
                line.seed,
                line.wall_seconds,
                xml(oracle),
                xml(&format!("{}: {oracle}", line.verdict.word())),
                xml(message),
                xml(&again(line))
            );
        }
        for id in vacuous {
            text += &format!(
                "    <testcase classname=\"{}\" name=\"vacuous\"><failure type=\"vacuous\" message=\"{}\"/></testcase>\n",
                xml(scenario),
                xml(id)
            );
        }
        text += "  </testsuite>\n";
    }
    text += "</testsuites>\n";
    std::fs::write(path, text).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}

/// A file with the summary.
pub(super) fn summary(path: &Path, summary: &Summary) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(summary).map_err(|error| Failure::internal(error.to_string()))?;
    std::fs::write(path, text + "\n").map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}

/// An annotation of a run that did not pass.
pub(super) fn github(out: &mut impl Write, file: &str, line: &Line) -> Result<(), Failure> {
    // What a workflow command gives a meaning to.
    let plain = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let property = |text: &str| plain(text).replace(':', "%3A").replace(',', "%2C");
    let (oracle, message) =
        line.violation.as_ref().map_or(("", ""), |found| (found.oracle.as_str(), found.message.as_str()));
    let title = format!("{} seed {}: {} {oracle}", line.scenario, line.seed, line.verdict.word());
    let text = format!("{message}\n{}", again(line));
    writeln!(out, "::error file={},title={}::{}", property(file), property(&title), plain(&text))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Violation;
    use std::collections::BTreeMap;

    fn run(seed: u64, violation: Option<Violation>) -> Run {
        let verdict = if violation.is_some() { Verdict::Fail } else { Verdict::Pass };
        let line = Line {
            scenario: "a<b".to_owned(),
            seed,
            digest: 1,
            verdict,
            sim_seconds: 1.0,
            wall_seconds: 0.5,
            operations: 3,
            faults: BTreeMap::new(),
            buggify: BTreeMap::new(),
            artifact: violation.as_ref().map(|_| "artifacts/x.json".into()),
            violation,
            leader_after_ms: None,
            migrations: 0,
        };
        Run {
            line,
            kinds: Vec::new(),
            points: Vec::new(),
            checks: Vec::new(),
            judged: BTreeMap::new(),
            same_twice: None,
            coverage: Default::default(),
        }
    }

    #[test]
    fn junit_counts_and_escapes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("junit.xml");
        let found = Violation::new("raft.vote_once", "\"n1\" voted & voted\u{7}");
        let summary = Summary { vacuous: vec!["a<b: net.loss".to_owned()], ..Summary::default() };
        junit(&path, &[run(1, None), run(2, Some(found)), run(3, None)], &summary).unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.contains("name=\"a&lt;b\" tests=\"3\" failures=\"2\" time=\"1.500\""), "{text}");
        assert!(text.contains("name=\"2 seeds pass\"") && text.contains("name=\"seed 2\""), "{text}");
        assert!(
            text.contains("&quot;n1&quot; voted &amp; voted\ncargo sim replay artifacts/x.json"),
            "{text}"
        );
    }

    #[test]
    fn an_annotation_is_one_line() {
        let mut out = Vec::new();
        let found = Violation::new("raft.vote_once", "100% of n1\nvoted");
        github(&mut out, "scenarios/swarm/kv.toml", &run(2, Some(found)).line).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "::error file=scenarios/swarm/kv.toml,title=a<b seed 2%3A fail raft.vote_once::100%25 of n1%0Avoted%0Acargo sim \
             replay artifacts/x.json\n"
        );
    }
}
