//! Printing verdicts.

use std::io::{self, Write};

use comfy_table::Table;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use eraft_checker::{Report, Verdict};
use serde::Serialize;

use crate::args::Output;

/// A file that was checked.
#[derive(Debug, Serialize)]
pub struct Checked {
    /// Its name.
    pub file: String,
    /// What was found.
    #[serde(flatten)]
    pub report: Report,
    /// How long that took, reading included.
    pub seconds: f64,
}

/// Prints what was found.
pub fn print(checked: &[Checked], output: Output) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match output {
        Output::Json => {
            for file in checked {
                writeln!(out, "{}", serde_json::to_string(file)?)?;
            }
        }
        Output::Plain => {
            for Checked { file, report, seconds } in checked {
                writeln!(out, "{file}: {report}, {seconds:.3} s{}", report.explanation())?;
            }
        }
        Output::Table if checked.is_empty() => {}
        Output::Table => {
            writeln!(out, "{}", table(checked))?;
            for Checked { file, report, .. } in checked {
                if report.verdict != Verdict::Linearizable {
                    writeln!(out, "\n{file}: {}{}", report.verdict, report.explanation())?;
                }
            }
        }
    }
    out.flush()
}

fn table(checked: &[Checked]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY);
    table.set_header(["history", "verdict", "operations", "unknown", "partitions", "steps", "seconds"]);
    for Checked { file, report, seconds } in checked {
        table.add_row([
            file.clone(),
            report.verdict.to_string(),
            report.operations.to_string(),
            report.unknown.to_string(),
            report.partitions.to_string(),
            report.steps.to_string(),
            format!("{seconds:.3}"),
        ]);
    }
    table
}
