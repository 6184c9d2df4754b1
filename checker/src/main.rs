//! `eraft-check`: says whether recorded histories are linearizable.
//!
//! Invariant: standard output holds verdicts only, one for each history that could be read; everything else goes to
//! standard error. A history that cannot be read, or an error of this program, never looks like a verdict.

mod args;
mod output;

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use eraft_checker::{AnyHistory, Format, Report, Verdict, follow_jsonl, read_history};

use crate::args::{Args, Command, Generate};
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
    if let Some(Command::Generate(generate)) = &args.command {
        return write_random(generate);
    }
    let single = [&args.html, &args.minimize, &args.witness, &args.verify];
    if args.histories.len() > 1 && single.iter().any(|file| file.is_some()) {
        eprintln!("eraft-check: --html, --minimize, --witness and --verify take one history");
        return exit::MALFORMED;
    }
    if let Some(witness) = &args.verify {
        return verify(&args.histories[0], witness, args);
    }
    let mut checked = Vec::new();
    let mut codes = Vec::new();
    for file in &args.histories {
        let start = Instant::now();
        let checked_file = if args.follow {
            follow_file(file, args).map(|report| (None, report))
        } else {
            check_file(file, args).map(|(history, report)| (Some(history), report))
        };
        match checked_file {
            Ok((history, report)) => {
                let seconds = start.elapsed().as_secs_f64();
                codes.push(code_of(report.verdict));
                // Without them there is a verdict all the same.
                let extras = history.map(|history| write_extras(&history, &report, file, args));
                if let Some(Err(message)) = extras {
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
    let history = read_file(file, args)?;
    let report = history.check(&args.options());
    Ok((history, report))
}

/// Writes what else was asked for: the violation alone, the order that explains, the picture. What there is nothing to say
/// about is not written, not even an empty file; that is an error only if it was the budget that did not suffice.
fn write_extras(history: &AnyHistory, report: &Report, file: &str, args: &Args) -> Result<(), String> {
    if let Some(target) = &args.minimize {
        let wanted = report.verdict == Verdict::Violation;
        match wanted.then(|| history.minimize(&args.options())).flatten() {
            Some(small) => write_file(target, |out| small.write(out))?,
            None if wanted => return Err(not_written(target, "no small violation was found in time")),
            None => note(&not_written(target, &format!("the verdict on {file} is {}", report.verdict))),
        }
    }
    if let Some(target) = &args.witness {
        let wanted = report.verdict == Verdict::Linearizable;
        let mut witness = Vec::new();
        let found = wanted && history.write_witness(&args.options(), &mut witness).unwrap_or(false);
        match found {
            true => write_file(target, |out| out.write_all(&witness))?,
            false if wanted => return Err(not_written(target, "no order was found in time")),
            false => note(&not_written(target, &format!("the verdict on {file} is {}", report.verdict))),
        }
    }
    if let Some(target) = &args.html {
        let page = history.picture(report, file, &args.options());
        write_file(target, |out| out.write_all(page.as_bytes()))?;
    }
    Ok(())
}

fn not_written(target: &Path, reason: &str) -> String {
    format!("{}: not written: {reason}", target.display())
}

fn note(message: &str) {
    eprintln!("eraft-check: {message}");
}

fn follow_file(file: &str, args: &Args) -> Result<Report, String> {
    if !matches!(args.format, Format::Auto | Format::Jsonl) {
        return Err(format!("{file}: --follow reads JSON Lines only"));
    }
    let report = follow_jsonl(open(file)?, args.model, args.online_options());
    report.map_err(|malformed| format!("{file}:{malformed}"))
}

fn open(file: &str) -> Result<Box<dyn BufRead>, String> {
    Ok(match file {
        "-" => Box::new(io::stdin().lock()),
        _ => {
            let opened = File::open(file).map_err(|error| format!("{file}: cannot be opened: {error}"))?;
            Box::new(BufReader::new(opened))
        }
    })
}

fn read_file(file: &str, args: &Args) -> Result<AnyHistory, String> {
    let history = read_history(open(file)?, args.format, args.model);
    history.map_err(|malformed| format!("{file}:{malformed}"))
}

fn write_file(
    target: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<(), String> {
    let written = File::create(target).map(BufWriter::new).and_then(|mut out| {
        write(&mut out)?;
        out.flush()
    });
    written.map_err(|error| format!("{}: cannot be written: {error}", target.display()))
}

/// Verifies a witness: it proves the history linearizable, or it proves nothing.
fn verify(file: &str, witness: &Path, args: &Args) -> u8 {
    let shown = witness.display();
    let verified = read_file(file, args).and_then(|history| {
        let reader = File::open(witness).map_err(|error| format!("{shown}: cannot be opened: {error}"))?;
        history.verify_witness(BufReader::new(reader)).map_err(|flaw| format!("{shown}: {flaw}"))
    });
    match verified {
        Ok(()) => {
            println!("{file}: linearizable, as {shown} proves");
            exit::LINEARIZABLE
        }
        Err(message) => {
            eprintln!("eraft-check: {message}");
            exit::MALFORMED
        }
    }
}

/// Writes a random history to standard output.
fn write_random(generate: &Generate) -> u8 {
    let history = eraft_checker::generate::generate(&generate.shape(), generate.seed);
    let mut out = BufWriter::new(io::stdout().lock());
    match history.write(&mut out).and_then(|()| out.flush()) {
        Ok(()) => exit::LINEARIZABLE,
        // Whoever read our output has enough of it.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => exit::LINEARIZABLE,
        Err(error) => {
            eprintln!("eraft-check: cannot write the history: {error}");
            exit::INTERNAL
        }
    }
}

fn code_of(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Linearizable => exit::LINEARIZABLE,
        Verdict::Violation => exit::VIOLATION,
        Verdict::Undecided => exit::UNDECIDED,
    }
}
