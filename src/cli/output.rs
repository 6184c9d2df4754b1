//! What commands print: JSON that is stable, tables for terminals, plain text for pipes.

use std::io::{ErrorKind, IsTerminal as _, Write as _};

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use super::failure::{Code, Failure};

/// The form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    // For people at a terminal; elsewhere it is the same as plain. (Not doc comments: help would show them for
    // every command, a line each.)
    Table,
    // One JSON object, or one a line; its fields are stable.
    Json,
    // Columns separated by tabs, values as they are.
    Plain,
}

/// Prints in the form that was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Output {
    pub format: Format,
    /// Standard output is a terminal.
    pub terminal: bool,
}

impl Output {
    pub(super) fn new(asked: Option<Format>) -> Self {
        let terminal = std::io::stdout().is_terminal();
        let format = match asked {
            Some(Format::Table) | None if terminal => Format::Table,
            Some(Format::Json) => Format::Json,
            _ => Format::Plain,
        };
        Self { format, terminal }
    }

    pub(super) fn is_json(self) -> bool {
        self.format == Format::Json
    }

    /// One JSON object on one line.
    pub(super) fn json(self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value)
            .map_err(|error| Failure::new(Code::Internal, format!("making JSON: {error}")))?;
        self.line(&text)
    }

    pub(super) fn line(self, text: &str) -> Result<(), Failure> {
        self.bytes(format!("{text}\n").as_bytes())
    }

    /// Bytes as they are. A reader that has gone away (`eraft … | head -1`) is no failure.
    pub(super) fn bytes(self, bytes: &[u8]) -> Result<(), Failure> {
        let mut stdout = std::io::stdout().lock();
        match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                Err(Failure::new(Code::Internal, format!("writing to standard output: {error}")))
            }
            _ => Ok(()),
        }
    }

    /// Rows under a header: a table at a terminal, else columns separated by tabs.
    pub(super) fn rows(self, header: &[&str], rows: Vec<Vec<String>>) -> Result<(), Failure> {
        if self.format != Format::Table {
            let header = header.iter().map(|name| (*name).to_owned()).collect();
            let lines = std::iter::once(header).chain(rows).map(|row: Vec<String>| row.join("\t") + "\n");
            return self.bytes(lines.collect::<String>().as_bytes());
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(header);
        table.add_rows(rows);
        self.line(&table.trim_fmt())
    }
}
