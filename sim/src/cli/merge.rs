//! `merge`: the shards of a campaign as one.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::Failure;
use super::fuzz::{Ci, code_of, print_summary};
use super::output::{self, Output};
use crate::fuzz::{merge, summarise};

#[derive(Debug, Args)]
#[command(
    after_help = "Exits like `fuzz` would have: 0 all pass, 1 a failure, 5 undecided or a shard is missing.\n\nExample:\n  \
                  cargo sim merge shard-1 shard-2 shard-3 --junit fuzz.xml"
)]
pub(super) struct Arguments {
    /// The directories that `fuzz --shard I/N --out DIR` wrote.
    #[arg(required = true)]
    directories: Vec<PathBuf>,
    #[command(flatten)]
    ci: Ci,
    /// How to print the summary.
    #[arg(short, long, value_enum, env = "ERAFT_OUTPUT")]
    output: Option<Output>,
}

pub(super) fn execute(arguments: &Arguments, out: &mut impl Write) -> Result<u8, Failure> {
    let (head, runs, missing) = merge(&arguments.directories)?;
    let summary = summarise(&runs, head.mutant.as_deref());
    let stem = |file: &str| PathBuf::from(file).file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let file_of = |scenario: &str| {
        let file = head.scenarios.iter().find(|(file, _)| stem(file).as_deref() == Some(scenario));
        file.map_or_else(String::new, |(file, _)| file.clone())
    };
    arguments.ci.tell(out, &runs, &summary, file_of)?;
    match Output::or_default(arguments.output) {
        Output::Json => output::json(out, &summary)?,
        Output::Table | Output::Plain => print_summary(out, &summary, None)?,
    }
    if !missing.is_empty() {
        let shards: Vec<String> = missing.iter().map(u64::to_string).collect();
        let message = format!("these shards are missing: {}", shards.join(", "));
        let code = code_of(&summary);
        return Err(Failure { code: if code == 0 { 5 } else { code }, message });
    }
    Ok(code_of(&summary))
}
