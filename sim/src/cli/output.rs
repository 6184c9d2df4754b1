//! How results are printed: for people, for pipes, for programs.

use std::io::{IsTerminal, Write};

use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use super::Failure;

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// Aligned, for a terminal.
    Table,
    /// One line per fact, for pipes.
    Plain,
    /// For programs; stable.
    Json,
}

impl Output {
    /// What to use if nothing was asked for: a table on a terminal only.
    pub(super) fn or_default(asked: Option<Output>) -> Output {
        asked.unwrap_or_else(|| if std::io::stdout().is_terminal() { Output::Table } else { Output::Plain })
    }
}

/// One line of JSON.
pub(super) fn json(out: &mut impl Write, value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value).map_err(|error| Failure::internal(error.to_string()))?;
    writeln!(out, "{text}")?;
    Ok(())
}

/// Rows of two or more columns: a table, or tab-separated.
pub(super) fn rows(
    out: &mut impl Write,
    output: Output,
    header: &[&str],
    rows: &[Vec<String>],
) -> Result<(), Failure> {
    if output == Output::Table {
        let mut table = Table::new();
        table
            .load_style(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_header(header);
        for row in rows {
            table.add_row(row);
        }
        writeln!(out, "{table}")?;
    } else {
        for row in rows {
            writeln!(out, "{}", row.join("\t"))?;
        }
    }
    Ok(())
}

/// `name  value` lines.
pub(super) fn facts(out: &mut impl Write, facts: &[(&str, String)]) -> Result<(), Failure> {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in facts {
        writeln!(out, "{name:<width$}  {value}")?;
    }
    Ok(())
}

/// `id 3, id 4`.
pub(super) fn counts<'a>(counts: impl IntoIterator<Item = (&'a String, &'a u64)>) -> String {
    let words: Vec<String> = counts.into_iter().map(|(id, count)| format!("{id} {count}")).collect();
    if words.is_empty() { "none".to_owned() } else { words.join(", ") }
}
