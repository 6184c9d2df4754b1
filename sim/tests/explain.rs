//! The picture of a run in a real browser: it opens without an error, zooms, filters, is clicked and follows the keyboard;
//! of a group, of a history that is not linearizable and of a sharded store; light and dark.
//!
//! Without Chromium there is nothing to look with: then each test says so, and `ERAFT_CHROMIUM=required` makes that a
//! failure, as it is where the browser should be.
#![cfg(madsim)]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A picture is one file that people send each other.
const PAGE_BYTES_MAX: u64 = 5 << 20;
/// Everything that happened.
const ALL: &str = "#left=0&right=100000000";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

fn eraft_sim(arguments: &[&str]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_eraft-sim"));
    let output = command.current_dir(root()).args(arguments).output().expect("the binary runs");
    assert!(output.status.code().is_some_and(|code| code < 2), "{arguments:?}: {output:?}");
}

/// `ERAFT_CHROMIUM` names one that is not in the path.
fn browser() -> Option<PathBuf> {
    let named = std::env::var_os("ERAFT_CHROMIUM");
    if let Some(named) = named.as_ref().filter(|named| *named != "required") {
        return Some(named.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let files = std::env::split_paths(&path).flat_map(|folder| names.map(|name| folder.join(name)));
    let found = files.into_iter().find(|file| file.is_file());
    if found.is_none() {
        // Past the capture of the tests' output: a test that looked at nothing must not look like one that did.
        let said = b"\nSKIPPED: the pictures of `explain` were not looked at: no Chromium in the path (apt install chromium)\n";
        let _ =
            std::fs::OpenOptions::new().write(true).open("/dev/stderr").map(|mut out| out.write_all(said));
        assert!(named.is_none(), "ERAFT_CHROMIUM=required, and there is none");
    }
    found
}

/// The page of the first seed of `scenario` that the planted bug makes fail.
fn page_of(directory: &Path, scenario: &str, mutant: &str) -> PathBuf {
    let (found, page) = (directory.join("found"), directory.join("page.html"));
    eraft_sim(&["fuzz", scenario, "--seeds", "0..20", "--mutant", mutant, "--out", found.to_str().unwrap()]);
    let files = std::fs::read_dir(&found).unwrap().map(|entry| entry.unwrap().path());
    let artifact =
        files.into_iter().find(|path| path.extension().is_some_and(|end| end == "json")).expect("a finding");
    eraft_sim(&["explain", artifact.to_str().unwrap(), "--html", page.to_str().unwrap()]);
    assert!(std::fs::metadata(&page).unwrap().len() < PAGE_BYTES_MAX);
    page
}

fn number(document: &str, name: &str) -> u64 {
    says(document, name).parse().unwrap_or_else(|_| panic!("data-{name} is no number"))
}

/// The document after its script has run. Errors on the console fail.
fn document(browser: &Path, page: &Path, hash: &str) -> String {
    document_with(browser, page, hash, &[])
}

/// The same, with more options for the browser.
fn document_with(browser: &Path, page: &Path, hash: &str, options: &[&str]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let (output, console) = (directory.path().join("dom"), directory.path().join("console"));
    let mut child = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .arg(format!("--user-data-dir={}", directory.path().join("profile").display()))
        .args(options)
        .args([
            "--window-size=1400,900",
            "--virtual-time-budget=20000",
            "--enable-logging=stderr",
            "--dump-dom",
        ])
        .arg(format!("file://{}{hash}", page.display()))
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&output).unwrap())
        .stderr(std::fs::File::create(&console).unwrap())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("the browser did not come to an end: {}", std::fs::read_to_string(&console).unwrap());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let console = std::fs::read_to_string(console).unwrap();
    let errors: Vec<&str> = console.lines().filter(|line| line.contains("CONSOLE")).collect();
    assert!(errors.is_empty(), "on the console: {errors:#?}");
    std::fs::read_to_string(output).unwrap()
}

fn says(document: &str, name: &str) -> String {
    let start = document.find(&format!("data-{name}=\"")).unwrap_or_else(|| panic!("no data-{name}"));
    document[start..].split('"').nth(1).unwrap_or_default().to_owned()
}

#[test]
fn the_picture_opens_zooms_filters_and_follows_the_keyboard() {
    let Some(browser) = browser() else { return };
    let directory = tempfile::tempdir().unwrap();
    let page = page_of(directory.path(), "sim/tests/data/short.toml", "replication.quorum_off_by_one");
    let look = |hash: &str| document(&browser, &page, hash);
    let all = look(ALL);
    assert_eq!(says(&all, "ready"), "yes");
    assert!(number(&all, "visible") > 20 && number(&all, "lanes") > 3 && number(&all, "bands") > 2);
    assert!(all.contains("is violated") && all.contains("cargo sim replay"));
    let span = |document: &str| {
        let view = says(document, "view");
        let (left, right) = view.split_once(' ').unwrap();
        right.parse::<i64>().unwrap() - left.parse::<i64>().unwrap()
    };
    let zoomed = look(&format!("{ALL}&press=%2B%2B%2B"));
    assert!(span(&zoomed) < span(&all) / 3, "{} of {}", span(&zoomed), span(&all));
    let votes = look(&format!("{ALL}&kinds=votes"));
    let (few, many) = (number(&votes, "visible"), number(&all, "visible"));
    assert!(few > 0 && few < many, "{few} of {many}");
    assert_eq!(number(&look(&format!("{ALL}&kinds=votes&search=nothing_of_this_name")), "visible"), 0);
    // The evidence, and the state of a node beside it.
    let selected = look("#press=e");
    assert_eq!(says(&selected, "selected"), "event");
    assert!(selected.contains("commit") && selected.contains("<th>role</th>"));
}

#[test]
fn a_click_on_a_message_shows_the_state_of_both_nodes() {
    let Some(browser) = browser() else { return };
    let directory = tempfile::tempdir().unwrap();
    let page = page_of(directory.path(), "sim/tests/data/short.toml", "replication.quorum_off_by_one");
    let clicked = document(&browser, &page, &format!("{ALL}&kinds=votes,appends&click=message"));
    assert_eq!(says(&clicked, "selected"), "message");
    let titles: Vec<&str> =
        clicked.split("<th>").skip(1).filter_map(|rest| rest.split("</th>").next()).collect();
    let node_of = |end: &str| titles.iter().find_map(|title| title.strip_suffix(end)).unwrap_or_default();
    let (from, to) = (node_of(" when sent"), node_of(" before"));
    assert!(from.starts_with('n') && to.starts_with('n') && from != to, "{titles:?}");
    assert_eq!(node_of(" after"), to);
    assert!(clicked.contains("<td>follower</td>") || clicked.contains("<td class=\"changed\">follower</td>"));
}

#[test]
fn the_picture_is_dark_where_people_want_it_dark_and_when_they_ask() {
    let Some(browser) = browser() else { return };
    let directory = tempfile::tempdir().unwrap();
    let page = page_of(directory.path(), "sim/tests/data/short.toml", "replication.quorum_off_by_one");
    let (light, dark) = ("#1b2130", "#e7ebf3");
    assert_eq!(says(&document(&browser, &page, ALL), "ink"), light);
    assert_eq!(says(&document(&browser, &page, &format!("{ALL}&press=t")), "ink"), dark);
    let prefers = ["--blink-settings=preferredColorScheme=0"];
    assert_eq!(says(&document_with(&browser, &page, ALL, &prefers), "ink"), dark);
}

#[test]
fn of_a_history_that_is_not_linearizable_the_operations_that_do_not_fit_are_shown() {
    let Some(browser) = browser() else { return };
    let directory = tempfile::tempdir().unwrap();
    let page = page_of(directory.path(), "sim/tests/data/unplaceable.toml", "kv.no_dedup");
    let all = document(&browser, &page, ALL);
    assert!(all.contains("<h1>kv.linearizable</h1>"), "the page is about another oracle");
    assert!(number(&all, "conflicts") > 0 && all.contains("The longest linearizable prefix holds"));
    assert!(!all.contains("holds 0 of"), "nothing is placed");
    let selected = document(&browser, &page, &format!("{ALL}&press=e"));
    assert_eq!(says(&selected, "selected"), "operation");
}

#[test]
fn of_a_sharded_store_every_node_has_its_state_and_the_shards_are_evidence() {
    let Some(browser) = browser() else { return };
    let directory = tempfile::tempdir().unwrap();
    let page = page_of(
        directory.path(),
        "scenarios/scripted/shards_cross_three_owners.toml",
        "shardkv.delete_before_commit",
    );
    let all = document(&browser, &page, ALL);
    assert!(all.contains("shard.") && all.contains("g100n1"), "it is about no shard");
    // Each of the nodes has a band at least, and none of the clients has.
    assert!(number(&all, "bands") >= 9, "{} bands", number(&all, "bands"));
    assert!(number(&all, "proofs") > 1, "{} pieces of evidence", number(&all, "proofs"));
    let selected = document(&browser, &page, &format!("{ALL}&press=e"));
    assert_eq!(says(&selected, "selected"), "event");
    assert!(selected.contains("<th>role</th>") && !selected.contains(">n10"), "nodes have names there");
    assert!(["adopt config", "insert", "confirm that g"].iter().any(|words| selected.contains(words)));
}
