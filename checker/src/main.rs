//! `eraft-check`: says whether recorded histories are linearizable.
//!
//! Invariant: standard output holds verdicts only, one for each history that could be read; everything else goes to
//! standard error. A history that cannot be read, or an error of this program, never looks like a verdict.

mod args;
mod output;

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use eraft_checker::{AnyHistory, Report, Verdict, read_history};

use crate::args::Args;
use crate::output::{Checked, print};

/// The exit codes, which the other commands of the project share.
mod exit {
    pub const LINEARIZABLE: u8 = 0;
    pub const VIOLATION: u8 = 1;
    pub const MALFORMED: u8 = 2;
    pub const UNDECIDED: u8 = 5;
    pub const INTERNAL: u8 = 70;
}

fn main() -> ExitCode {
    let args = Args::parse();
    let code = panic::catch_unwind(AssertUnwindSafe(|| run(&args))).unwrap_or_else(|_| {
        eprintln!("eraft-check: an internal error (above); nothing was found out about the history");
        exit::INTERNAL
    });
    ExitCode::from(code)
}

/// Checks every file. A violation is certain whatever else went wrong, so it decides the exit code; then come files that
/// cannot be read, then histories that stay undecided.
fn run(args: &Args) -> u8 {
    if args.html.is_some() && args.histories.len() > 1 {
        eprintln!("eraft-check: --html draws one history, but {} are given", args.histories.len());
        return exit::MALFORMED;
    }
    let mut checked = Vec::new();
    let mut codes = Vec::new();
    for file in &args.histories {
        let start = Instant::now();
        match check_file(file, args) {
            Ok((history, report)) => {
                let seconds = start.elapsed().as_secs_f64();
                codes.push(code_of(report.verdict));
                // Without the picture there is a verdict all the same.
                if let Err(message) = draw(&history, &report, file, args) {
                    eprintln!("eraft-check: {message}");
                    codes.push(exit::MALFORMED);
                }
                checked.push(Checked { file: file.clone(), report, seconds });
            }
            Err(message) => {
                eprintln!("eraft-check: {message}");
                codes.push(exit::MALFORMED);
            }
        }
    }
    match print(&checked, args.output()) {
        Ok(()) => {}
        // Whoever read our output has seen enough; the exit code still tells the verdict.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        Err(error) => {
            eprintln!("eraft-check: cannot write the verdicts: {error}");
            return exit::INTERNAL;
        }
    }
    let worst = [exit::VIOLATION, exit::MALFORMED, exit::UNDECIDED];
    worst.into_iter().find(|code| codes.contains(code)).unwrap_or(exit::LINEARIZABLE)
}

fn check_file(file: &str, args: &Args) -> Result<(AnyHistory, Report), String> {
    let reader: Box<dyn BufRead> = match file {
        "-" => Box::new(io::stdin().lock()),
        _ => {
            let opened = File::open(file).map_err(|error| format!("{file}: cannot be opened: {error}"))?;
            Box::new(BufReader::new(opened))
        }
    };
    let history = read_history(reader, args.format, args.model);
    let history = history.map_err(|malformed| format!("{file}:{malformed}"))?;
    let report = history.check(&args.options());
    Ok((history, report))
}

fn draw(history: &AnyHistory, report: &Report, file: &str, args: &Args) -> Result<(), String> {
    let Some(html) = &args.html else { return Ok(()) };
    let page = history.picture(report, file, &args.options());
    std::fs::write(html, page)
        .map_err(|error| format!("{}: the picture cannot be written: {error}", html.display()))
}

fn code_of(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Linearizable => exit::LINEARIZABLE,
        Verdict::Violation => exit::VIOLATION,
        Verdict::Undecided => exit::UNDECIDED,
    }
}
