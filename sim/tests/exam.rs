//! The committed table of the exam (`sim/mutants.toml`) says of each planted bug what the catalogue does.

use std::path::Path;

use eraft::mutants::CATALOGUE;
use eraft_sim::mutants::{Row, Stage, Table};

fn table() -> Table {
    Table::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("mutants.toml")).expect("the committed table")
}

#[test]
fn each_layer_that_sees_a_planted_bug_has_a_row_and_no_other_has() {
    let table = table();
    for mutant in CATALOGUE {
        let expected: Vec<Stage> = Stage::ALL.into_iter().filter(|stage| stage.sees(mutant)).collect();
        let found: Vec<Stage> = table.rows_of(mutant.id).map(|row| row.stage).collect();
        assert_eq!(found, expected, "{}: `cargo sim mutants --only {0} --update`", mutant.id);
    }
}

#[test]
fn what_is_not_found_has_a_reason_and_what_is_found_needs_none() {
    for row in table().rows.iter().filter(|row| row.without.is_empty()) {
        let at = format!("{} at {}", row.mutant, row.stage.word());
        assert_eq!(row.reason.is_none(), row.is_killed(), "{at}: {:?}", row.reason);
    }
}

#[test]
fn the_catalogue_names_what_finds_a_bug_at_its_best_layer() {
    let table = table();
    for mutant in CATALOGUE {
        let best = table.cheapest(mutant.id).into_iter();
        // Without a layer that finds it every time: whatever found it at all.
        let mut found: Vec<&Row> = best.collect();
        if found.is_empty() {
            found = table.rows_of(mutant.id).filter(|row| row.oracle.is_some()).collect();
        }
        for row in found {
            let at = format!("{} at {}", mutant.id, row.stage.word());
            assert_eq!(row.oracle.as_deref(), Some(mutant.oracle), "{at}");
        }
    }
}
