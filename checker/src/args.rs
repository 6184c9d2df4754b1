//! The command line.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum, value_parser};
use eraft_checker::check::STEPS_MAX_DEFAULT;
use eraft_checker::generate::Shape;
use eraft_checker::{Format, ModelKind, OnlineOptions, Options};

const EXAMPLES: &str = "\
From a Jepsen history to the reason:
  eraft-check store/my-test/latest/history.edn --html why.html
  prints the answer that nothing explains, and what contradicts it; why.html shows it

More examples:
  eraft-check history.jsonl                    one history, which names its model
  tail -n +1 -f run.jsonl | eraft-check --follow -   while it is being recorded
  eraft-check -o json runs/*.jsonl             a line of JSON for each
  eraft-check --model register - < log.jsonl   standard input, without a header
  eraft-check --minimize core.jsonl etcd.log   the violation alone, as a small history
  eraft-check generate --operations 100000 > random.jsonl
  eraft-check --timeout 5s --memory 512MiB big.jsonl

Exit codes:
  0  every history is linearizable
  1  some history is not
  2  some history cannot be read, or the command line is wrong
  5  some history is undecided: out of time, memory or steps
  70 an error of this program";

/// Says whether recorded histories are linearizable.
#[derive(Debug, Parser)]
#[command(name = "eraft-check", version, after_help = EXAMPLES)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Args {
    /// What to do instead of checking.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// The files; - is standard input.
    #[arg(value_name = "HISTORY", required = true)]
    pub histories: Vec<String>,

    /// The model, if a file does not name it.
    #[arg(long, env = "ERAFT_MODEL")]
    pub model: Option<ModelKind>,

    /// How the files are written.
    #[arg(long, env = "ERAFT_FORMAT", default_value = "auto")]
    pub format: Format,

    /// Time for each file: 500ms, 60s, 5m.
    #[arg(long, env = "ERAFT_TIMEOUT", value_name = "TIME", default_value = "60s", value_parser = parse_time)]
    pub timeout: Duration,

    /// Memory for the search in each file: 512MiB, 1GiB.
    #[arg(long, env = "ERAFT_MEMORY", value_name = "SIZE", default_value = "1GiB", value_parser = parse_size)]
    pub memory: usize,

    /// Steps of the search in each partition; unlike the time, the same on every machine.
    #[arg(long, env = "ERAFT_STEPS", value_name = "N", default_value_t = STEPS_MAX_DEFAULT)]
    pub steps: u64,

    /// Draws the history into this file: one page of HTML, for any browser. For one HISTORY only.
    #[arg(long, env = "ERAFT_HTML", value_name = "FILE")]
    pub html: Option<PathBuf>,

    /// Threads; 0 is one for each processor. The verdicts do not depend on it.
    #[arg(long, env = "ERAFT_JOBS", value_name = "N", default_value_t = 0)]
    pub jobs: usize,

    /// Only the verdict: end at the first violation and tell nothing about it.
    #[arg(long, env = "ERAFT_VERDICT_ONLY")]
    pub verdict_only: bool,

    /// Write the violation, made as small as can be, as a history of its own. For one HISTORY only.
    #[arg(long, value_name = "FILE")]
    pub minimize: Option<PathBuf>,

    /// Write the order that explains a linearizable history. For one HISTORY only.
    #[arg(long, value_name = "FILE")]
    pub witness: Option<PathBuf>,

    /// Instead of checking, verify a file that --witness wrote; takes time linear in the history.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["witness", "minimize"])]
    pub verify: Option<PathBuf>,

    /// Check while the history is being written, in little memory, and end at the first violation. JSON Lines only.
    #[arg(long, conflicts_with_all = ["html", "minimize", "witness", "verify", "verdict_only"])]
    pub follow: bool,

    /// How to print the verdicts; a table on a terminal, plain otherwise.
    #[arg(short, long = "output", env = "ERAFT_OUTPUT", value_name = "FORM")]
    output: Option<Output>,
}

/// Other things to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Write a random history to standard output: of a register, or of a store if --keys is not 0.
    Generate(Generate),
}

/// What the history is like; the same options always give the same history.
#[derive(Clone, Debug, clap::Args)]
pub struct Generate {
    /// Operations.
    #[arg(long, default_value_t = 1_000, value_parser = parse_count)]
    operations: usize,

    /// Clients that ask at the same time.
    #[arg(long, default_value_t = 5, value_parser = value_parser!(u64).range(1..=CLIENTS_MAX))]
    clients: u64,

    /// Keys; 0 for a register.
    #[arg(long, default_value_t = 10, value_parser = value_parser!(u64).range(0..=GENERATED_OPERATIONS_MAX as u64))]
    keys: u64,

    /// Different values to write; 0 makes each unique.
    #[arg(long, default_value_t = 0)]
    values: u64,

    /// Percent of the operations that read.
    #[arg(long, default_value_t = 50, value_parser = value_parser!(u64).range(0..=100))]
    reads: u64,

    /// Percent that append.
    #[arg(long, default_value_t = 0, value_parser = value_parser!(u64).range(0..=100))]
    appends: u64,

    /// Percent that delete.
    #[arg(long, default_value_t = 0, value_parser = value_parser!(u64).range(0..=100))]
    deletes: u64,

    /// Percent that compare and set.
    #[arg(long, default_value_t = 0, value_parser = value_parser!(u64).range(0..=100))]
    cas: u64,

    /// Of a thousand operations, so many get no answer.
    #[arg(long, default_value_t = 0, value_parser = value_parser!(u64).range(0..=1_000))]
    unknown: u64,

    /// Let a read near the end have an old answer.
    #[arg(long)]
    stale: bool,

    /// Tell the order in which the operations took effect, as "index".
    #[arg(long)]
    index: bool,

    /// The seed.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

impl Generate {
    /// The shape of the history.
    pub fn shape(&self) -> Shape {
        Shape {
            operations: self.operations,
            clients: self.clients,
            keys: self.keys,
            values: self.values,
            reads: self.reads,
            appends: self.appends,
            deletes: self.deletes,
            cas: self.cas,
            unknown_permille: self.unknown,
            stale: self.stale,
            index: self.index,
        }
    }
}

/// Clients that a generated history may have.
const CLIENTS_MAX: u64 = 100_000;

/// Operations that a generated history may have: they are all in memory.
const GENERATED_OPERATIONS_MAX: usize = 100_000_000;

fn parse_count(text: &str) -> Result<usize, String> {
    let count = text.replace('_', "").parse().ok().filter(|count| *count <= GENERATED_OPERATIONS_MAX);
    count.ok_or_else(|| format!("expected a number up to {GENERATED_OPERATIONS_MAX}"))
}

/// How verdicts are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people, in columns.
    Table,
    /// A JSON object a line.
    Json,
    /// For people and grep, a file after the other.
    Plain,
}

impl Args {
    /// What a check may cost.
    pub fn options(&self) -> Options {
        let processors = || std::thread::available_parallelism().map_or(1, usize::from);
        Options {
            steps_max: self.steps,
            memory_bytes_max: self.memory,
            timeout: Some(self.timeout),
            verdict_only: self.verdict_only,
            // The models that come with the checker are tested against brute force, hints and all.
            confirm: false,
            jobs: if self.jobs == 0 { processors() } else { self.jobs },
        }
    }

    /// What following may cost.
    pub fn online_options(&self) -> OnlineOptions {
        OnlineOptions { steps_max: self.steps, memory_bytes_max: self.memory, ..OnlineOptions::default() }
    }

    /// How to print.
    pub fn output(&self) -> Output {
        let usual = if std::io::stdout().is_terminal() { Output::Table } else { Output::Plain };
        self.output.unwrap_or(usual)
    }
}

/// Splits `12ms` into 12 and `ms`.
fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let unit = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..unit].parse().ok()?, &text[unit..]))
}

fn parse_time(text: &str) -> Result<Duration, String> {
    let milliseconds = number_and_unit(text).and_then(|(number, unit)| match unit {
        "ms" => Some(number),
        "s" => number.checked_mul(1_000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        _ => None,
    });
    milliseconds
        .map(Duration::from_millis)
        .ok_or_else(|| "expected a time such as 500ms, 60s or 5m".to_owned())
}

fn parse_size(text: &str) -> Result<usize, String> {
    let bytes = number_and_unit(text).and_then(|(number, unit)| match unit {
        "B" => Some(number),
        "KiB" => number.checked_mul(1 << 10),
        "MiB" => number.checked_mul(1 << 20),
        "GiB" => number.checked_mul(1 << 30),
        _ => None,
    });
    bytes
        .and_then(|bytes| usize::try_from(bytes).ok())
        .ok_or_else(|| "expected a size such as 512MiB or 1GiB".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_need_a_unit() {
        assert_eq!(parse_time("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_time("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(parse_size("2KiB"), Ok(2048));
        for wrong in ["", "5", "s", "-1s", "1.5s", "5 s", "99999999999999999999s", "18446744073709551615h"] {
            assert!(parse_time(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "1", "1GB", "18446744073709551615GiB"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }
}
