//! Histories of real systems with known verdicts. The data is not part of the repository; the test says so when it is
//! absent. `ERAFT_HISTORY_DATA` names the folder that holds `porcupine/`.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use eraft_checker::{Format, Options, Verdict, read_history};

fn data() -> Option<PathBuf> {
    let usual = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data"));
    let folder = std::env::var_os("ERAFT_HISTORY_DATA").map_or_else(usual, PathBuf::from).join("porcupine");
    folder.join("README.md").is_file().then_some(folder)
}

/// The rows of the table: `| etcd/etcd_000.log | not linearizable |`.
fn expected(readme: &str) -> Vec<(String, Verdict)> {
    let row = |line: &str| {
        let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
        let (file, verdict) = (cells.next()?, cells.next()?);
        let verdict = match verdict {
            "linearizable" | "empty: no operations" => Verdict::Linearizable,
            "not linearizable" => Verdict::Violation,
            _ => return None,
        };
        Some((file.to_owned(), verdict))
    };
    readme.lines().filter_map(row).collect()
}

#[test]
fn known_verdicts() {
    let Some(folder) = data() else {
        println!("skipped: no histories (set ERAFT_HISTORY_DATA)");
        return;
    };
    let expected = expected(&fs::read_to_string(folder.join("README.md")).unwrap());
    assert!(expected.len() >= 60, "the table of verdicts has {} rows", expected.len());
    let files: usize =
        ["etcd", "kv"].iter().map(|kind| fs::read_dir(folder.join(kind)).unwrap().count()).sum();
    assert_eq!(files, expected.len(), "every file has a verdict");
    let start = Instant::now();
    let options = Options { confirm: false, ..Options::default() };
    let mut operations = 0;
    for (file, verdict) in &expected {
        let content = fs::read(folder.join(file)).unwrap();
        let format = if content.is_empty() { Format::JepsenLog } else { Format::Auto };
        let history =
            read_history(&content[..], format, None).unwrap_or_else(|error| panic!("{file}:{error}"));
        let report = history.check(&options);
        assert_eq!(report.verdict, *verdict, "{file}: {report}{}", report.explanation());
        assert_eq!(report.core.is_empty(), *verdict == Verdict::Linearizable, "{file}");
        if file.ends_with("c50-bad.txt") {
            assert!(report.core.len() <= 6, "{file}: {}", report.explanation());
            println!("{file}: {}", report.explanation());
        }
        if let Some(small) = history.minimize(&options) {
            let alone = small.check(&options);
            assert_eq!(alone.verdict, Verdict::Violation, "{file}, made small");
            println!("{file}: {} of {} operations are a violation", alone.operations, report.operations);
        }
        operations += report.operations;
    }
    println!("{} files, {operations} operations: all as expected, {:?}", expected.len(), start.elapsed());
}
