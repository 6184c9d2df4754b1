use super::*;
use eraft::mutants::CATALOGUE;

fn search(seeds: Option<u64>, oracle: &str) -> Search {
    let core_seconds = seeds.unwrap_or(500) as f64 / 10.0;
    Search { seeds, oracle: seeds.map(|_| oracle.to_owned()), core_seconds }
}

#[test]
fn a_row_counts_what_was_not_found_as_later_than_everything() {
    let mut searches: Vec<Search> = (1..=18).map(|seeds| search(Some(seeds), "raft.vote_once")).collect();
    searches.push(search(Some(90), "raft.monotonic"));
    searches.push(search(None, ""));
    let row = summary(&CATALOGUE[0], Stage::Core, &searches);
    assert_eq!((row.killed, row.ranges, row.oracle.as_deref()), (19, 20, Some("raft.vote_once")));
    assert_eq!((row.seeds_median, row.seeds_p90), (Some(10), Some(18)));
    assert_eq!((row.core_seconds_median, row.core_seconds_p90), (Some(1.0), Some(1.8)));
    let row = summary(&CATALOGUE[0], Stage::Core, &searches[17..]);
    assert_eq!((row.seeds_median, row.seeds_p90, row.is_reliable()), (Some(90), None, false));
}

#[test]
fn a_table_survives_its_file_and_keeps_what_was_written_by_hand() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mutants.toml");
    let found = summary(&CATALOGUE[2], Stage::Simulation, &[search(Some(7), "raft.vote_once")]);
    let lost =
        Row { reason: Some("hides".to_owned()), ..summary(&CATALOGUE[0], Stage::Core, &[search(None, "")]) };
    let mut table = Table { date: "2026-01-02".to_owned(), commit: "abc".to_owned(), ..Table::default() };
    table.take(found.clone());
    table.take(lost.clone());
    table.write(&path).unwrap();
    let mut again = Table::read(&path).unwrap();
    assert_eq!(again, table);
    assert_eq!(again.rows[0], lost, "in the order of the catalogue");
    again.take(Row { reason: None, ranges: 9, ..lost });
    assert_eq!((again.rows[0].ranges, again.rows[0].reason.as_deref()), (9, Some("hides")));
    let mut later = again.clone();
    later.take(summary(&CATALOGUE[0], Stage::Core, &[search(Some(3), "raft.vote_once")]));
    assert_eq!(later.rows[0].reason, None, "what is found needs none");
    assert_eq!(again.cheapest(CATALOGUE[2].id), Some(&found));
    assert_eq!(again.cheapest(CATALOGUE[0].id), None);
    let text = again.markdown();
    assert!(text.contains(&format!("- {}: hides\n", CATALOGUE[0].id)), "{text}");
    assert!(text.contains("| simulation | 1 of 1 | raft.vote_once | 7 / 7 | 0.7 / 0.7 |"), "{text}");
    std::fs::write(&path, "rows = 3").unwrap();
    assert!(Table::read(&path).unwrap_err().0.contains("mutants.toml"));
}

#[test]
fn the_ranges_of_the_core_are_disjoint_and_find_what_is_planted() {
    let mutant = CATALOGUE.iter().find(|mutant| mutant.id == "replication.quorum_off_by_one").unwrap();
    let exam = Exam {
        ranges: 6,
        seeds_max: Some(200),
        time_max: Duration::from_secs(20),
        jobs: 2,
        scenarios: PathBuf::from("none"),
        without: Vec::new(),
    };
    let simulate: Simulate = |_, _| Err(Internal("the core needs no world".to_owned()));
    let row = exam.hold(simulate, mutant, Stage::Core).unwrap();
    assert_eq!((row.killed, row.ranges), (6, 6));
    assert_eq!(row.oracle.as_deref(), Some(mutant.oracle));
    let error = exam.hold(simulate, mutant, Stage::Simulation).unwrap_err();
    assert!(error.to_string().contains("kv.toml"), "{error}");
}

#[test]
fn an_ingredient_is_really_left_out() {
    let text = "[cluster]\nnodes = [5, 7]\n[random_faults]\nsubset = true\n";
    let scenario = || crate::scenario::Scenario::parse("s.toml", text).unwrap();
    let mut without = scenario();
    Ingredient::StorageFaults.leave_out(&mut without);
    let kinds = |scenario: &crate::scenario::Scenario| -> Vec<&str> {
        scenario
            .random_faults
            .iter()
            .flat_map(|random| random.kinds.iter().map(|fault| fault.profile.kind.id()))
            .collect()
    };
    assert!(
        kinds(&scenario()).contains(&"disk.torn")
            && !kinds(&without).iter().any(|id| id.starts_with("disk."))
    );
    let mut without = scenario();
    Ingredient::Swarm.leave_out(&mut without);
    assert_eq!(without.cluster.nodes.high(), 3);
    assert!(!without.random_faults.unwrap().subset);
}

#[test]
fn what_failing_runs_shrank_to_is_kept_by_mutant_and_summed_up() {
    let size = |faults| crate::shrink::Size { faults, operations: 9, nodes: 3, clients: 2, sim_seconds: 1.5 };
    let row = |mutant: &Mutant, before, after, seconds| Shrinking {
        mutant: mutant.id.to_owned(),
        seed: 7,
        oracle: mutant.oracle.to_owned(),
        runs: 20,
        found_seconds: 0.5,
        shrunk_seconds: seconds,
        drawn_seconds: 0.1,
        before: size(before),
        after: size(after),
    };
    let mut table = Table::default();
    table.take_shrinking(row(&CATALOGUE[1], 9, 9, 60.0));
    table.take_shrinking(row(&CATALOGUE[2], 30, 0, 2.0));
    table.take_shrinking(row(&CATALOGUE[0], 50, 4, 1.0));
    table.take_shrinking(row(&CATALOGUE[1], 20, 6, 3.0));
    let order: Vec<&str> = table.shrinkings.iter().map(|row| row.mutant.as_str()).collect();
    assert_eq!(order, [CATALOGUE[0].id, CATALOGUE[1].id, CATALOGUE[2].id], "the last word about each");
    let text = table.markdown();
    assert!(
        text.contains("Of 3 mutants, 100 fault events became 10: 90% fewer, with a median of 4 left"),
        "{text}"
    );
    assert!(text.contains("together 2.6 s and at most 3.6 s"), "{text}");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mutants.toml");
    table.write(&path).unwrap();
    assert_eq!(Table::read(&path).unwrap(), table);
}
