//! The committed table of the exam: data in `sim/mutants.toml`, and the same for people in `docs/MUTANTS.md`.

use std::fmt::Write as _;
use std::path::Path;

use eraft::mutants::{CATALOGUE, Mutant};
use serde::{Deserialize, Serialize};

use super::shrinking::{self, Shrinking};
use super::{Ingredient, Stage};

/// One mutant at one stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Its id.
    pub mutant: String,
    /// Where.
    pub stage: Stage,
    /// Ranges that were searched.
    pub ranges: u64,
    /// Ranges in which it was found.
    pub killed: u64,
    /// What found it most often.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oracle: Option<String>,
    /// Seeds to detection, median over the ranges; missing if half of them found nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seeds_median: Option<u64>,
    /// Seeds to detection, 90th percentile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seeds_p90: Option<u64>,
    /// Distinct states to detection, where there are no seeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub states: Option<u64>,
    /// Core-seconds to detection, median.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub core_seconds_median: Option<f64>,
    /// Core-seconds to detection, 90th percentile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub core_seconds_p90: Option<f64>,
    /// Ingredients that were left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without: Vec<Ingredient>,
    /// Why it survives, written by hand and kept by `--update` as long as it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Row {
    /// Nothing is known yet of `mutant` at `stage`.
    pub fn new(mutant: &Mutant, stage: Stage) -> Self {
        Self {
            mutant: mutant.id.to_owned(),
            stage,
            ranges: 0,
            killed: 0,
            oracle: None,
            seeds_median: None,
            seeds_p90: None,
            states: None,
            core_seconds_median: None,
            core_seconds_p90: None,
            without: Vec::new(),
            reason: None,
        }
    }

    /// Was it found in at least half of the ranges?
    pub fn is_killed(&self) -> bool {
        self.seeds_median.is_some() || self.states.is_some()
    }

    fn is_about(&self, other: &Row) -> bool {
        (&self.mutant, self.stage, &self.without) == (&other.mutant, other.stage, &other.without)
    }

    /// Was it found in at least nine of ten ranges? Then a budget can be made of its percentile.
    pub fn is_reliable(&self) -> bool {
        self.seeds_p90.is_some()
    }
}

/// The table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// The day of the last update, `2026-11-21`.
    pub date: String,
    /// The commit that was examined.
    pub commit: String,
    /// The rows, by mutant in the order of the catalogue, then by stage.
    #[serde(default)]
    pub rows: Vec<Row>,
    /// What the first failing runs shrank to, in the same order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shrinkings: Vec<Shrinking>,
}

/// Why a table cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TableError(pub String);

impl Table {
    /// Reads it; an empty one if there is none yet.
    pub fn read(path: &Path) -> Result<Self, TableError> {
        let named = |error: String| TableError(format!("{}: {error}", path.display()));
        match std::fs::read_to_string(path) {
            Ok(text) => toml::from_str(&text).map_err(|error| named(error.to_string().replace('\n', " "))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(named(error.to_string())),
        }
    }

    /// Writes it.
    pub fn write(&self, path: &Path) -> Result<(), TableError> {
        let named = |error: String| TableError(format!("{}: {error}", path.display()));
        let text = toml::to_string(self).map_err(|error| named(error.to_string()))?;
        let head =
            "# Written by `cargo sim mutants --update`: the exam of the testbed. Only `reason` is by hand.\n";
        std::fs::write(path, format!("{head}{text}")).map_err(|error| named(error.to_string()))
    }

    /// Takes `row` in place of the one about the same mutant, stage and ingredients.
    pub fn take(&mut self, mut row: Row) {
        match self.rows.iter_mut().find(|other| other.is_about(&row)) {
            Some(old) => {
                let survives = !row.is_killed();
                row.reason = row.reason.or_else(|| old.reason.take()).filter(|_| survives);
                *old = row;
            }
            None => self.rows.push(row),
        }
        let place = |row: &Row| {
            let number = CATALOGUE.iter().position(|mutant| mutant.id == row.mutant);
            (row.without.clone(), number.unwrap_or(usize::MAX), row.stage)
        };
        let is_seen = |row: &Row| CATALOGUE.iter().any(|it| it.id == row.mutant && row.stage.sees(it));
        self.rows.retain(is_seen);
        self.rows.sort_by_key(place);
    }

    /// Takes what became of a mutant's first failing run.
    pub fn take_shrinking(&mut self, row: Shrinking) {
        shrinking::take(&mut self.shrinkings, row);
    }

    /// The rows of `mutant` with all ingredients.
    pub fn rows_of<'a>(&'a self, mutant: &'a str) -> impl Iterator<Item = &'a Row> {
        self.rows.iter().filter(move |row| row.mutant == mutant && row.without.is_empty())
    }

    /// The stage at which `mutant` costs least and is found reliably.
    pub fn cheapest<'a>(&'a self, mutant: &'a str) -> Option<&'a Row> {
        let cost = |row: &&Row| row.core_seconds_p90.unwrap_or(f64::MAX);
        self.rows_of(mutant)
            .filter(|row| row.is_reliable())
            .min_by(|left, right| cost(left).total_cmp(&cost(right)))
    }

    /// The table for people, in Markdown.
    pub fn markdown(&self) -> String {
        let mut text = format!(
            "# The exam of the testbed\n\nWritten by `cargo sim mutants --update` on {} at commit {}. How it is made and \
             read: [TESTING.md](TESTING.md).\nSeeds and core-seconds are to detection, median / 90th percentile over \
             disjoint ranges of seeds; of the model, which has none, the states are counted.\n\n",
            self.date, self.commit
        );
        let full: Vec<&Row> = self.rows.iter().filter(|row| row.without.is_empty()).collect();
        text += &self.summary();
        text += "\n\n| mutant | layer | found in | by | seeds | core-seconds |\n|---|---|---|---|---|---|\n";
        for row in full {
            text += &line(row);
        }
        let _ = write!(text, "\n## Survivors\n\n{}", self.survivors());
        if !self.shrinkings.is_empty() {
            text += &shrinking::markdown(&self.shrinkings);
        }
        for ingredient in Ingredient::ALL {
            let rows: Vec<&Row> = self.rows.iter().filter(|row| row.without == [ingredient]).collect();
            if rows.is_empty() {
                continue;
            }
            let _ = write!(
                text,
                "\n## Without {}\n\n| mutant | seeds with it | seeds without it | found in |\n|---|---|---|---|\n",
                ingredient.word()
            );
            for row in rows {
                let with = self.rows_of(&row.mutant).find(|other| other.stage == row.stage);
                let with =
                    with.map_or_else(|| "?".to_owned(), |with| pair(with.seeds_median, with.seeds_p90));
                let without = pair(row.seeds_median, row.seeds_p90);
                let _ = writeln!(
                    text,
                    "| {} | {with} | {without} | {} of {} |",
                    row.mutant, row.killed, row.ranges
                );
            }
        }
        text
    }

    /// One sentence: how many are killed, and how soon.
    pub fn summary(&self) -> String {
        let best = |mutant: &Mutant| self.rows_of(mutant.id).filter_map(|row| row.seeds_median).min();
        let mut seeds: Vec<u64> = CATALOGUE.iter().filter_map(best).collect();
        seeds.sort_unstable();
        let within = seeds.iter().filter(|seeds| **seeds <= 500).count();
        let is_killed = |mutant: &&Mutant| self.rows_of(mutant.id).any(Row::is_killed);
        let killed = CATALOGUE.iter().filter(is_killed).count();
        format!(
            "{killed} of {} mutants are killed; seeds to detection at their best layer: median {}, {} within 500.",
            CATALOGUE.len(),
            super::percentile(&seeds, 50).unwrap_or(0),
            within
        )
    }

    fn survivors(&self) -> String {
        let mut text = String::new();
        for mutant in CATALOGUE {
            if self.rows_of(mutant.id).any(Row::is_killed) {
                continue;
            }
            let reason = self.rows_of(mutant.id).find_map(|row| row.reason.clone());
            let is_unit = mutant.layers == [eraft::mutants::Layer::Unit];
            let reason = match (reason, is_unit) {
                (Some(reason), _) => reason,
                (None, true) => "killed by unit tests, where alone it can be seen".to_owned(),
                (None, false) => "no reason written yet".to_owned(),
            };
            let _ = writeln!(text, "- {}: {reason}", mutant.id);
        }
        if text.is_empty() { "None.\n".to_owned() } else { text }
    }
}

fn pair<T: std::fmt::Display>(median: Option<T>, p90: Option<T>) -> String {
    let word = |value: Option<T>| value.map_or_else(|| "–".to_owned(), |value| value.to_string());
    format!("{} / {}", word(median), word(p90))
}

fn line(row: &Row) -> String {
    format!(
        "| {} | {} | {} of {} | {} | {} | {} |\n",
        row.mutant,
        row.stage.word(),
        row.killed,
        row.ranges,
        row.oracle.as_deref().unwrap_or("–"),
        row.states.map_or_else(|| pair(row.seeds_median, row.seeds_p90), |states| format!("{states} states")),
        pair(row.core_seconds_median, row.core_seconds_p90)
    )
}
