//! `mutants`: the exam of the testbed.

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, ValueEnum};
use eraft::mutants::{CATALOGUE, Mutant};

use super::Failure;
use super::output::{self, Output};
use crate::mutants::{
    Exam, ExamError, Ingredient, Row, Shrinking, Stage, Table, TableError, summary_of_shrinking,
};
use crate::runner::Simulate;

/// The committed table.
const TABLE: &str = "sim/mutants.toml";
/// The same for people.
const PAGE: &str = "docs/MUTANTS.md";
/// A check gives each mutant this many times its committed 90th percentile of seeds, and never fewer than so many.
const CHECK_FACTOR: u64 = 2;
const CHECK_SEEDS_MIN: u64 = 10;
/// And at most so much of a core.
const CHECK_TIME_MAX: Duration = Duration::from_secs(20);

#[derive(Debug, Args)]
#[command(
    after_help = "Exits 0 if every mutant that was examined is killed (with --check: within its budget), 1 if one survives.\n\n\
                  Examples:\n  cargo sim mutants --only kv.no_dedup\n  cargo sim mutants --layer core --update\n  \
                  cargo sim mutants --check\n  cargo sim mutants --shrink --only kv.\n  cargo sim mutants --layer simulation --without storage_faults --update"
)]
pub(super) struct Arguments {
    /// Only at this layer.
    #[arg(long, value_name = "L", value_enum, env = "ERAFT_LAYER")]
    layer: Option<StageWord>,
    /// Only this mutant, or those whose id begins so.
    #[arg(long, value_name = "ID", env = "ERAFT_ONLY")]
    only: Option<String>,
    /// Write what was measured into the committed table.
    #[arg(long, env = "ERAFT_UPDATE")]
    update: bool,
    /// Check the committed table instead: each mutant at its cheapest layer, with twice its 90th percentile of seeds.
    #[arg(long, conflicts_with_all = ["update", "layer", "without"], env = "ERAFT_CHECK")]
    check: bool,
    /// Make the first failing run of each mutant small instead, as `shrink` does, and draw it.
    #[arg(long, conflicts_with_all = ["check", "layer", "without"], env = "ERAFT_SHRINK")]
    shrink: bool,
    /// Leave an ingredient of the simulation out.
    #[arg(long, value_name = "INGREDIENT", value_enum, env = "ERAFT_WITHOUT")]
    without: Vec<IngredientWord>,
    /// Disjoint ranges of seeds.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000), env = "ERAFT_RANGES")]
    ranges: u16,
    /// Core-seconds for one range, at most.
    #[arg(long, value_name = "S", default_value_t = 60, env = "ERAFT_RANGE_SECONDS")]
    range_seconds: u64,
    /// Threads; as many as there are processors if not said.
    #[arg(long, value_name = "J", value_parser = clap::value_parser!(u16).range(1..=1024), env = "ERAFT_JOBS")]
    jobs: Option<u16>,
    /// Where the swarm scenarios are.
    #[arg(long, value_name = "DIR", default_value = "scenarios/swarm", env = "ERAFT_SWARM")]
    scenarios: PathBuf,
    /// How to print the rows; json is one line per row.
    #[arg(short, long, value_enum, env = "ERAFT_OUTPUT")]
    output: Option<Output>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum StageWord {
    Core,
    Model,
    Simulation,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum IngredientWord {
    Swarm,
    StorageFaults,
    Buggify,
}

impl From<StageWord> for Stage {
    fn from(word: StageWord) -> Self {
        match word {
            StageWord::Core => Stage::Core,
            StageWord::Model => Stage::Model,
            StageWord::Simulation => Stage::Simulation,
        }
    }
}

impl From<IngredientWord> for Ingredient {
    fn from(word: IngredientWord) -> Self {
        match word {
            IngredientWord::Swarm => Ingredient::Swarm,
            IngredientWord::StorageFaults => Ingredient::StorageFaults,
            IngredientWord::Buggify => Ingredient::Buggify,
        }
    }
}

impl From<ExamError> for Failure {
    fn from(error: ExamError) -> Self {
        match error {
            ExamError::Scenario(why) => Failure::usage(why),
            ExamError::Internal(error) => error.into(),
        }
    }
}

impl From<TableError> for Failure {
    fn from(error: TableError) -> Self {
        Failure::usage(error.0)
    }
}

pub(super) fn execute(
    arguments: &Arguments,
    simulate: Simulate,
    out: &mut impl Write,
) -> Result<u8, Failure> {
    let chosen = chosen(arguments.only.as_deref())?;
    let mut table = Table::read(TABLE.as_ref())?;
    let exam = arguments.exam();
    let output = Output::or_default(arguments.output);
    if arguments.shrink {
        return shrink(arguments, &chosen, &exam, table, simulate, out);
    }
    let mut survivors = Vec::new();
    for mutant in chosen {
        let rows = if arguments.check {
            check(&exam, &table, simulate, mutant)?
        } else {
            examine(&exam, arguments.layer.map(Stage::from), simulate, mutant)?
        };
        // A mutant of which every layer is silent survives; one that no layer of this command can see does not.
        if !rows.is_empty() && rows.iter().all(|row| row.killed == 0) {
            survivors.push(mutant.id);
        }
        for row in rows {
            print(out, output, &row)?;
            if arguments.update {
                table.take(row);
                commit_to(&mut table)?;
            }
        }
    }
    if output != Output::Json {
        let verdict =
            if survivors.is_empty() { "every one is killed".to_owned() } else { survivors.join(", ") };
        writeln!(out, "survivors: {verdict}")?;
    }
    Ok(u8::from(!survivors.is_empty()))
}

/// Writes the table and its page. After each row: an exam takes long and may be ended.
fn commit_to(table: &mut Table) -> Result<(), Failure> {
    (table.date, table.commit) = (today(), commit());
    table.write(TABLE.as_ref())?;
    std::fs::write(PAGE, table.markdown()).map_err(|error| Failure::usage(format!("{PAGE}: {error}")))
}

/// What becomes of the first failing runs of those mutants that the simulation kills, by the committed table.
fn shrink(
    arguments: &Arguments,
    chosen: &[&'static Mutant],
    exam: &Exam,
    mut table: Table,
    simulate: Simulate,
    out: &mut impl Write,
) -> Result<u8, Failure> {
    let output = Output::or_default(arguments.output);
    let (mut rows, mut lost) = (Vec::new(), Vec::new());
    for mutant in chosen {
        if !table.rows_of(mutant.id).any(|row| row.stage == Stage::Simulation && row.killed > 0) {
            continue;
        }
        let Some(row) = exam.shrink(simulate, mutant)? else {
            lost.push(mutant.id);
            continue;
        };
        print_shrinking(out, output, &row)?;
        rows.push(row.clone());
        if arguments.update {
            table.take_shrinking(row);
            commit_to(&mut table)?;
        }
    }
    if output != Output::Json {
        writeln!(out, "{}", summary_of_shrinking(&rows))?;
        if !lost.is_empty() {
            writeln!(out, "not found: {}", lost.join(", "))?;
        }
    }
    Ok(u8::from(!lost.is_empty()))
}

fn print_shrinking(out: &mut impl Write, output: Output, row: &Shrinking) -> Result<(), Failure> {
    if output == Output::Json {
        return output::json(out, row);
    }
    let Shrinking { before, after, .. } = row;
    writeln!(
        out,
        "{:<46} faults {:>3} -> {:<2} operations {:>5} -> {:<3} nodes {} -> {} {:>4} plans; found {:>5.1} s, shrunk {:>5.1} s, \
         drawn {:.1} s",
        row.mutant,
        before.faults,
        after.faults,
        before.operations,
        after.operations,
        before.nodes,
        after.nodes,
        row.runs,
        row.found_seconds,
        row.shrunk_seconds,
        row.drawn_seconds
    )?;
    out.flush()?;
    Ok(())
}

impl Arguments {
    fn exam(&self) -> Exam {
        Exam {
            ranges: usize::from(self.ranges),
            seeds_max: None,
            time_max: Duration::from_secs(self.range_seconds),
            jobs: super::jobs(self.jobs),
            scenarios: self.scenarios.clone(),
            without: self.without.iter().map(|word| Ingredient::from(*word)).collect(),
        }
    }
}

fn chosen(only: Option<&str>) -> Result<Vec<&'static Mutant>, Failure> {
    let Some(only) = only else { return Ok(CATALOGUE.iter().collect()) };
    let named: Vec<&Mutant> = CATALOGUE.iter().filter(|mutant| mutant.id.starts_with(only)).collect();
    if named.is_empty() {
        super::check_mutant(Some(only))?;
    }
    Ok(named)
}

/// At every layer that can see it.
fn examine(
    exam: &Exam,
    only: Option<Stage>,
    simulate: Simulate,
    mutant: &Mutant,
) -> Result<Vec<Row>, Failure> {
    let stages =
        Stage::ALL.into_iter().filter(|stage| stage.sees(mutant) && only.is_none_or(|only| only == *stage));
    let mut rows = Vec::new();
    for stage in stages {
        // Only the simulation has ingredients.
        if stage != Stage::Simulation && !exam.without.is_empty() {
            continue;
        }
        rows.push(Row { without: exam.without.clone(), ..exam.hold(simulate, mutant, stage)? });
    }
    Ok(rows)
}

/// At its cheapest layer, with the budget of the committed table. Seeds are those of the table's first range: as long
/// as the code does the same, so does the check.
fn check(exam: &Exam, table: &Table, simulate: Simulate, mutant: &Mutant) -> Result<Vec<Row>, Failure> {
    let is_seen = Stage::ALL.iter().any(|stage| stage.sees(mutant));
    let Some(committed) = table.cheapest(mutant.id) else {
        let is_known = table.rows_of(mutant.id).next().is_some();
        if is_seen && !is_known {
            let why =
                format!("{TABLE}: nothing about {}; run `cargo sim mutants --only {0} --update`", mutant.id);
            return Err(Failure { code: 1, message: why });
        }
        return Ok(Vec::new());
    };
    let p90 = committed.seeds_p90.unwrap_or(0);
    let exam = Exam {
        ranges: 1,
        seeds_max: Some((p90 * CHECK_FACTOR).max(CHECK_SEEDS_MIN)),
        time_max: CHECK_TIME_MAX,
        ..exam.clone()
    };
    Ok(vec![exam.hold(simulate, mutant, committed.stage)?])
}

fn print(out: &mut impl Write, output: Output, row: &Row) -> Result<(), Failure> {
    if output == Output::Json {
        return output::json(out, row);
    }
    let word = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let seeds = |value: Option<u64>| word(value.map(|value| value.to_string()));
    let time = |value: Option<f64>| word(value.map(|value| format!("{value:.3}")));
    writeln!(
        out,
        "{:<46} {:<10} {:>2} of {:<2} {:<26} {:<21} core-seconds {:>7} / {}",
        row.mutant,
        row.stage.word(),
        row.killed,
        row.ranges,
        row.oracle.as_deref().unwrap_or("SURVIVED"),
        row.states.map_or_else(
            || format!("seeds {:>5} / {}", seeds(row.seeds_median), seeds(row.seeds_p90)),
            |states| format!("states {states:>8}")
        ),
        time(row.core_seconds_median),
        time(row.core_seconds_p90)
    )?;
    out.flush()?;
    Ok(())
}

/// The commit of the sources that are examined.
fn commit() -> String {
    let git = std::process::Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output();
    let text = git.ok().filter(|output| output.status.success()).map(|output| output.stdout);
    text.map_or_else(|| "unknown".to_owned(), |text| String::from_utf8_lossy(&text).trim().to_owned())
}

/// Today, as `2026-11-21` (UTC).
fn today() -> String {
    let days = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / 86_400);
    date_of(days)
}

/// The date so many days after 1970-01-01, in the Gregorian calendar.
fn date_of(days: u64) -> String {
    let is_leap =
        |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let (mut year, mut left) = (1970, days);
    loop {
        let length = if is_leap(year) { 366 } else { 365 };
        if left < length {
            break;
        }
        left -= length;
        year += 1;
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for length in months {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    format!("{year:04}-{month:02}-{:02}", left + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date_of(0), "1970-01-01");
        assert_eq!(date_of(19_782), "2024-02-29");
        assert_eq!(date_of(20_088), "2024-12-31");
        assert_eq!(date_of(20_089), "2025-01-01");
    }

    #[test]
    fn an_unknown_mutant_is_refused_and_a_group_is_chosen_whole() {
        assert!(chosen(Some("kv.nodedup")).unwrap_err().message.contains("kv.no_dedup"));
        assert!(chosen(Some("kv.")).unwrap().iter().all(|mutant| mutant.group == "kv"));
        assert_eq!(chosen(None).unwrap().len(), CATALOGUE.len());
    }
}
