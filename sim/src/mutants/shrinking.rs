//! What becomes of a mutant's first failing run: it is made as small as it can be, and drawn. The measure of shrinking,
//! and of the way from a campaign to an opened report.

use std::time::Instant;

use eraft::mutants::{CATALOGUE, Mutant};
use serde::{Deserialize, Serialize};

use super::{Exam, ExamError, SIMULATION_SEEDS_MAX, percentile};
use crate::artifact::Artifact;
use crate::explain;
use crate::runner::{self, Simulate};
use crate::shrink::{self, Effort, ShrinkError, Size};

/// A mutant's first failing run, and what it shrank to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shrinking {
    /// The mutant's id.
    pub mutant: String,
    /// The seed that failed first.
    pub seed: u64,
    /// What was violated.
    pub oracle: String,
    /// Plans that were tried.
    pub runs: u64,
    /// What the search took, up to the first failing seed.
    pub found_seconds: f64,
    /// What shrinking took.
    pub shrunk_seconds: f64,
    /// What drawing the small run took.
    pub drawn_seconds: f64,
    /// The size at first.
    pub before: Size,
    /// The size at last.
    pub after: Size,
}

impl Exam {
    /// The first run of `mutant` that fails in its swarm scenario, made small and drawn; `None` if none fails.
    pub fn shrink(&self, simulate: Simulate, mutant: &Mutant) -> Result<Option<Shrinking>, ExamError> {
        let begun = Instant::now();
        let source = self.scenario_of(mutant)?;
        let seeds = 0..self.seeds_max.unwrap_or(SIMULATION_SEEDS_MAX);
        let (found, _) = self.first_failure(simulate, mutant, &source, seeds)?;
        let Some((request, outcome)) = found else { return Ok(None) };
        let found_seconds = seconds_since(begun);
        let violation = outcome.violation.as_ref().map(|it| (it.oracle.clone(), it.fingerprint.clone()));
        let Some((oracle, fingerprint)) = violation else { return Ok(None) };

        let begun = Instant::now();
        let effort = Effort { jobs: self.jobs, runs_max: shrink::RUNS_MAX };
        let shrunk = shrink::shrink(simulate, &request, &fingerprint, effort, &|_, _| {}).map_err(
            |error| match error {
                ShrinkError::Internal(error) => error,
                ShrinkError::Another { .. } => runner::Internal(format!("{}: {error}", mutant.id)),
            },
        )?;
        let shrunk_seconds = seconds_since(begun);

        let begun = Instant::now();
        let artifact = Artifact::new(&shrunk.request, &shrunk.outcome);
        explain::draw(simulate, &artifact, &shrunk.request, mutant.id)?;
        Ok(Some(Shrinking {
            mutant: mutant.id.to_owned(),
            seed: request.seed,
            oracle,
            runs: shrunk.runs,
            found_seconds,
            shrunk_seconds,
            drawn_seconds: seconds_since(begun),
            before: rounded(shrunk.before),
            after: rounded(shrunk.after),
        }))
    }
}

fn seconds_since(begun: Instant) -> f64 {
    (begun.elapsed().as_secs_f64() * 1_000.0).round() / 1_000.0
}

fn rounded(size: Size) -> Size {
    Size { sim_seconds: (size.sim_seconds * 1_000.0).round() / 1_000.0, ..size }
}

/// Takes `row` in place of the one about the same mutant; they are in the order of the catalogue.
pub(super) fn take(rows: &mut Vec<Shrinking>, row: Shrinking) {
    rows.retain(|other| other.mutant != row.mutant);
    rows.push(row);
    let place = |row: &Shrinking| CATALOGUE.iter().position(|mutant| mutant.id == row.mutant);
    rows.retain(|row| place(row).is_some());
    rows.sort_by_key(place);
}

/// One sentence about all of `rows`.
pub fn summary(rows: &[Shrinking]) -> String {
    let sorted = |of: fn(&Shrinking) -> f64| {
        let mut values: Vec<f64> = rows.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let (before, after): (usize, usize) = rows
        .iter()
        .fold((0, 0), |(before, after), row| (before + row.before.faults, after + row.after.faults));
    let left = sorted(|row| row.after.faults as f64);
    let shrunk = sorted(|row| row.shrunk_seconds);
    let all = sorted(|row| row.found_seconds + row.shrunk_seconds + row.drawn_seconds);
    let median = |values: &[f64]| percentile(values, 50).unwrap_or(0.0);
    let most = |values: &[f64]| values.last().copied().unwrap_or(0.0);
    format!(
        "Of {} mutants, {before} fault events became {after}: {:.0}% fewer, with a median of {} left and at most {}. \
         Shrinking took {:.1} s in the median and at most {:.1} s; search, shrinking and drawing together {:.1} s and at \
         most {:.1} s.",
        rows.len(),
        100.0 * (1.0 - after as f64 / before.max(1) as f64),
        median(&left),
        most(&left),
        median(&shrunk),
        most(&shrunk),
        median(&all),
        most(&all),
    )
}

/// The rows for people, in Markdown.
pub(super) fn markdown(rows: &[Shrinking]) -> String {
    let mut text = format!(
        "\n## Shrinking\n\nWhat `cargo sim mutants --shrink` made of mutants' first failing runs. {}\n\n\
         | mutant | faults | operations | nodes | simulated time | plans tried | seconds to find, shrink, draw |\n\
         |---|---|---|---|---|---|---|\n",
        summary(rows)
    );
    for row in rows {
        let Shrinking { before, after, .. } = row;
        text += &format!(
            "| {} | {} → {} | {} → {} | {} → {} | {:.1} s → {:.1} s | {} | {:.1}, {:.1}, {:.1} |\n",
            row.mutant,
            before.faults,
            after.faults,
            before.operations,
            after.operations,
            before.nodes,
            after.nodes,
            before.sim_seconds,
            after.sim_seconds,
            row.runs,
            row.found_seconds,
            row.shrunk_seconds,
            row.drawn_seconds,
        );
    }
    text
}
