//! Every scripted scenario and every regression passes: each fault delivered, each oracle used.
#![cfg(madsim)]

use std::path::Path;

use eraft_sim::fuzz::Source;
use eraft_sim::outcome::Verdict;
use eraft_sim::runner::{RunOptions, run};
use eraft_sim::scenario::Scenario;

fn sources(directory: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join("scenarios");
    let entries = std::fs::read_dir(root.join(directory)).expect("the directory is there");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    let read = |path: &std::path::PathBuf| {
        let text = std::fs::read_to_string(path).expect("the scenario is read");
        let file = path.display().to_string();
        let scenario = Scenario::parse(&file, &text).unwrap_or_else(|error| panic!("{error}"));
        Source { file, text, scenario }
    };
    files.iter().map(read).collect()
}

#[test]
fn scripted_scenarios_and_regressions_pass() {
    let scripted = sources("scripted");
    assert!(scripted.len() >= 20, "only {} scripted scenarios", scripted.len());
    for source in scripted.into_iter().chain(sources("regressions")) {
        for seed in 0..1 {
            let request = source.request(seed, None);
            let outcome =
                run(eraft_sim::world::run, &request, &RunOptions::default()).expect("no internal error");
            assert_eq!(
                outcome.verdict,
                Verdict::Pass,
                "{} seed {seed}: {:?}",
                source.file,
                outcome.violation
            );
        }
    }
}

#[test]
fn a_swarm_passes_and_repeats() {
    for source in sources("swarm") {
        for seed in 0..2 {
            let request = source.request(seed, None);
            let once =
                || run(eraft_sim::world::run, &request, &RunOptions::default()).expect("no internal error");
            let (one, two) = (once(), once());
            assert_eq!(one.verdict, Verdict::Pass, "{} seed {seed}: {:?}", source.file, one.violation);
            assert_eq!((one.digest, one.records), (two.digest, two.records), "{} seed {seed}", source.file);
        }
    }
}

/// The planted bug takes the timer from a client that waits for an answer; the faults of that scenario lose some.
#[test]
fn a_lost_wakeup_is_noticed_although_time_goes_on() {
    let all = sources("scripted");
    let lossy = all.iter().find(|source| source.file.ends_with("lossy_network.toml")).expect("it is there");
    let request = lossy.request(0, Some("async.deadline_without_timer"));
    let outcome = run(eraft_sim::world::run, &request, &RunOptions::default()).expect("no internal error");
    let violation = outcome.violation.expect("somebody waits for ever");
    assert_eq!(violation.oracle, "sim.no_lost_wakeup");
    assert!(violation.message.contains("after its deadline"), "{}", violation.message);
}
