//! The picture of a run in a real browser: it opens without an error, zooms, filters and follows the keyboard.
#![cfg(madsim)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

fn eraft_sim(arguments: &[&str]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_eraft-sim"));
    let output = command.current_dir(root()).args(arguments).output().expect("the binary runs");
    assert!(output.status.code().is_some_and(|code| code < 2), "{arguments:?}: {output:?}");
}

fn browser() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("ERAFT_CHROMIUM") {
        return Some(named.into());
    }
    let path = std::env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let files = std::env::split_paths(&path).flat_map(|folder| names.map(|name| folder.join(name)));
    files.into_iter().find(|file| file.is_file())
}

/// The document after its script has run. Errors on the console fail.
fn document(browser: &Path, page: &Path, hash: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let (output, console) = (directory.path().join("dom"), directory.path().join("console"));
    let mut child = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .arg(format!("--user-data-dir={}", directory.path().join("profile").display()))
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
    let Some(browser) = browser() else {
        eprintln!("skipped: no Chromium is installed (ERAFT_CHROMIUM names one that is not in the path)");
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let found = directory.path().join("found");
    let page = directory.path().join("page.html");
    let mutant = "replication.quorum_off_by_one";
    let scenario = "sim/tests/data/short.toml";
    eraft_sim(&["fuzz", scenario, "--seeds", "0..20", "--mutant", mutant, "--out", found.to_str().unwrap()]);
    let files = std::fs::read_dir(&found).unwrap().map(|entry| entry.unwrap().path());
    let artifact =
        files.into_iter().find(|path| path.extension().is_some_and(|end| end == "json")).expect("a finding");
    eraft_sim(&["explain", artifact.to_str().unwrap(), "--html", page.to_str().unwrap()]);

    let number = |document: &str| says(document, "visible").parse::<u64>().unwrap();
    let all = document(&browser, &page, "#left=0&right=100000000");
    assert_eq!(says(&all, "ready"), "yes");
    assert!(number(&all) > 20 && says(&all, "lanes").parse::<u64>().unwrap() > 3, "{}", number(&all));
    assert!(all.contains("is violated") && all.contains("cargo sim replay"));
    let span = |document: &str| {
        let view = says(document, "view");
        let (left, right) = view.split_once(' ').unwrap();
        right.parse::<i64>().unwrap() - left.parse::<i64>().unwrap()
    };
    let zoomed = document(&browser, &page, "#left=0&right=100000000&press=%2B%2B%2B");
    assert!(span(&zoomed) < span(&all) / 3, "{} of {}", span(&zoomed), span(&all));
    let votes = document(&browser, &page, "#left=0&right=100000000&kinds=votes");
    assert!(number(&votes) > 0 && number(&votes) < number(&all), "{} of {}", number(&votes), number(&all));
    let none = document(&browser, &page, "#left=0&right=100000000&kinds=votes&search=nothing_of_this_name");
    assert_eq!(number(&none), 0);
    // The evidence, and the state of a node beside it.
    let selected = document(&browser, &page, "#press=e");
    assert_eq!(says(&selected, "selected"), "event");
    assert!(selected.contains("commit") && selected.contains("<th>role</th>"));
}
