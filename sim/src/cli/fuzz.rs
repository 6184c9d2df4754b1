//! `fuzz`: many seeds in parallel.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::ci;
use super::output::{self, Output};
use super::{Failure, check_mutant, read_scenario};
use crate::coverage::Coverage;
use crate::fuzz::{Campaign, Head, Line, ResultsError, Run, Summary, Writer, fuzz, results};
use crate::outcome::Verdict;
use crate::runner::{self, Simulate};

/// Seeds if neither `--seeds` nor `--seconds` says otherwise.
const SEEDS_DEFAULT: u64 = 100;
/// States that were never reached, of which a summary names so many; `--summary` has all.
const NEVER_SHOWN_MAX: usize = 3;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  cargo sim fuzz scenarios/swarm/kv.toml --seeds 0..1000\n  \
                        cargo sim fuzz scenarios/swarm/*.toml --seconds 60 --jobs 2 --keep-going\n  \
                        cargo sim fuzz scenarios/swarm/kv.toml --seeds 0..100000 --shard 1/8 --out shard-1 --junit fuzz.xml\n  \
                        cargo sim fuzz scenarios/swarm/kv.toml --seeds 0..100000 --out long --resume")]
pub(super) struct Arguments {
    /// The scenarios' files.
    #[arg(required = true)]
    scenarios: Vec<PathBuf>,
    /// Seeds from A up to, not including, B.
    #[arg(long, value_name = "A..B", env = "ERAFT_SEEDS")]
    seeds: Option<Seeds>,
    /// Begin no run after so many seconds.
    #[arg(long, value_name = "S", env = "ERAFT_SECONDS")]
    seconds: Option<u64>,
    /// Runs at once; as many as there are processors if not said.
    #[arg(long, value_name = "J", value_parser = clap::value_parser!(u16).range(1..=1024), env = "ERAFT_JOBS")]
    jobs: Option<u16>,
    /// Only part I of N disjoint parts of the seeds.
    #[arg(long, value_name = "I/N", env = "ERAFT_SHARD")]
    shard: Option<Shard>,
    /// Switch a planted bug on.
    #[arg(long, value_name = "ID", env = "ERAFT_MUTANT")]
    mutant: Option<String>,
    /// Run so many percent of the seeds twice and compare their digests.
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=100), env = "ERAFT_CHECK_DETERMINISM")]
    check_determinism: u64,
    /// Where artifacts of failures go.
    #[arg(long, value_name = "DIR", default_value = "artifacts", env = "ERAFT_OUT")]
    out: PathBuf,
    /// Go on after a failure.
    #[arg(long, env = "ERAFT_KEEP_GOING")]
    keep_going: bool,
    /// Go on with the campaign whose results are in --out.
    #[arg(long, env = "ERAFT_RESUME")]
    resume: bool,
    #[command(flatten)]
    ci: Ci,
    /// How to print results; json is one line per run.
    #[arg(short, long, value_enum, env = "ERAFT_OUTPUT")]
    output: Option<Output>,
}

/// For engines of continuous integration.
#[derive(Debug, Args)]
pub(super) struct Ci {
    /// Write the results as JUnit's XML.
    #[arg(long, value_name = "FILE", env = "ERAFT_JUNIT")]
    junit: Option<PathBuf>,
    /// Write the summary as JSON: counts, and every state of the protocol that was never reached, in words.
    #[arg(long, value_name = "FILE", env = "ERAFT_SUMMARY")]
    summary: Option<PathBuf>,
    /// Print an annotation for each failure, as GitHub Actions reads it.
    #[arg(long, env = "ERAFT_GITHUB")]
    github: bool,
}

impl Ci {
    /// Tells both of a campaign that is over. `file_of` names a scenario's file.
    pub(super) fn tell(
        &self,
        out: &mut impl Write,
        runs: &[Run],
        summary: &Summary,
        file_of: impl Fn(&str) -> String,
    ) -> Result<(), Failure> {
        if self.github {
            for line in runs.iter().map(|run| &run.line).filter(|line| line.verdict != Verdict::Pass) {
                ci::github(out, &file_of(&line.scenario), line)?;
            }
        }
        if let Some(path) = &self.summary {
            ci::summary(path, summary)?;
        }
        self.junit.as_ref().map_or(Ok(()), |path| ci::junit(path, runs, summary))
    }
}

/// `A..B`, or `A..` without an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seeds {
    first: u64,
    end: Option<u64>,
}

impl FromStr for Seeds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let malformed = || format!("`{text}` is no range of seeds; one reads 0..1000");
        let (first, end) = text.split_once("..").ok_or_else(malformed)?;
        let first = first.parse().map_err(|_| malformed())?;
        let end = if end.is_empty() { None } else { Some(end.parse().map_err(|_| malformed())?) };
        if end.is_some_and(|end| end <= first) {
            return Err(format!("`{text}` holds no seed: the end is not part of the range"));
        }
        Ok(Self { first, end })
    }
}

/// `I/N`, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shard {
    part: u64,
    parts: u64,
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (part, parts) = text.split_once('/')?;
            let (part, parts): (u64, u64) = (part.parse().ok()?, parts.parse().ok()?);
            (1..=parts).contains(&part).then_some(Self { part, parts })
        };
        parse().ok_or_else(|| format!("`{text}` is no part; the second of four reads 2/4"))
    }
}

#[cfg(test)]
impl Arguments {
    /// The range of seeds, the part of it, and the scenarios.
    pub(super) fn range(&self) -> ((u64, u64), (u64, u64), Vec<PathBuf>) {
        let seeds = self.seeds.expect("a range");
        let shard = self.shard.expect("a part");
        ((seeds.first, seeds.end.expect("an end")), (shard.part, shard.parts), self.scenarios.clone())
    }
}

impl Arguments {
    fn campaign(&self) -> Result<Campaign, Failure> {
        check_mutant(self.mutant.as_deref())?;
        let is_timed = self.seconds.is_some();
        let seeds = self.seeds.unwrap_or(Seeds { first: 0, end: (!is_timed).then_some(SEEDS_DEFAULT) });
        if seeds.end.is_none() && !is_timed {
            return Err(Failure::usage("--seeds: without an end it takes --seconds"));
        }
        let shard = self.shard.unwrap_or(Shard { part: 1, parts: 1 });
        let mut campaign = Campaign {
            sources: self.scenarios.iter().map(|path| read_scenario(path)).collect::<Result<_, _>>()?,
            first_seed: seeds.first,
            end_seed: seeds.end,
            time: self.seconds.map(Duration::from_secs),
            jobs: super::jobs(self.jobs),
            shard: (shard.part - 1, shard.parts),
            mutant: self.mutant.clone(),
            check_determinism_percent: self.check_determinism,
            keep_going: self.keep_going,
            out: self.out.clone(),
            done: Vec::new(),
            stop: Arc::default(),
        };
        let results = self.out.join(results::file_name(campaign.shard));
        if self.resume && results.exists() {
            let (head, done) = results::read(&results)?;
            if head != Head::of(&campaign) {
                let why = format!("{}: --resume: these are results of another campaign", results.display());
                return Err(Failure::usage(why));
            }
            campaign.done = done;
        }
        Ok(campaign)
    }
}

impl From<ResultsError> for Failure {
    fn from(error: ResultsError) -> Self {
        Failure::usage(error.0)
    }
}

/// The first Ctrl-C ends the campaign with a summary, the second one the process.
fn end_on_interrupt(stop: &Arc<AtomicBool>) -> Result<(), Failure> {
    let named = |error: std::io::Error| Failure::internal(format!("signals: {error}"));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        let code = 128 + signal;
        signal_hook::flag::register_conditional_shutdown(signal, code, stop.clone()).map_err(named)?;
        signal_hook::flag::register(signal, stop.clone()).map_err(named)?;
    }
    Ok(())
}

pub(super) fn execute(
    arguments: &Arguments,
    simulate: Simulate,
    out: &mut impl Write,
) -> Result<u8, Failure> {
    let campaign = arguments.campaign()?;
    let output = Output::or_default(arguments.output);
    let bar = progress(&campaign);
    end_on_interrupt(&campaign.stop)?;
    let mut writer = Writer::create(&campaign.out, &Head::of(&campaign), &campaign.done)?;
    let mut runs = campaign.done.clone();
    let mut trouble = None;
    let mut counted = (0, 0);
    let mut coverage = Coverage::default();
    campaign.done.iter().for_each(|run| coverage.add(&run.coverage));
    let summary = fuzz(simulate, &campaign, |run| {
        let line = &run.line;
        counted = (counted.0 + 1, counted.1 + u64::from(line.verdict != Verdict::Pass));
        coverage.add(&run.coverage);
        bar.set_message(format!("{} runs, {} not passed, {}", counted.0, counted.1, coverage.counts()));
        bar.inc(1);
        if trouble.is_none() {
            let told = || writer.line(run).map_err(Failure::from).and_then(|()| report(out, output, line));
            trouble = bar.suspend(told).err();
        }
        runs.push(run.line_alone());
    })?;
    bar.finish_and_clear();
    if let Some(failure) = trouble {
        return Err(failure);
    }
    let file_of = |scenario: &str| {
        let source = campaign.sources.iter().find(|source| source.scenario.name == scenario);
        source.map_or_else(String::new, |source| source.file.clone())
    };
    arguments.ci.tell(out, &runs, &summary, file_of)?;
    match output {
        Output::Json => {
            // JSON Lines of results on standard output; the summary is for people.
            print_summary(&mut std::io::stderr().lock(), &summary, runner::peak_memory_bytes())?;
        }
        Output::Table | Output::Plain => print_summary(out, &summary, runner::peak_memory_bytes())?,
    }
    Ok(code_of(&summary))
}

fn progress(campaign: &Campaign) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (_, parts) = campaign.shard;
    let bar = match campaign.end_seed {
        Some(end) => {
            let seeds = (end - campaign.first_seed).div_ceil(parts);
            ProgressBar::new(seeds * campaign.sources.len() as u64)
        }
        None => ProgressBar::no_length(),
    };
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {per_sec} {elapsed} {msg}");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// A program sees every run, people those that did not pass.
fn report(out: &mut impl Write, output: Output, line: &Line) -> Result<(), Failure> {
    match output {
        Output::Json => output::json(out, line)?,
        _ if line.verdict == Verdict::Pass => {}
        _ => {
            super::run::print(out, line)?;
            writeln!(out)?;
        }
    }
    out.flush()?;
    Ok(())
}

/// `memory_bytes_max`: of the process that made the runs, if it was this one.
pub(super) fn print_summary(
    out: &mut impl Write,
    summary: &Summary,
    memory_bytes_max: Option<u64>,
) -> Result<(), Failure> {
    let per_second = |count: f64| if summary.wall_seconds > 0.0 { count / summary.wall_seconds } else { 0.0 };
    let verdicts: Vec<String> =
        summary.verdicts.iter().map(|(word, count)| format!("{count} {word}")).collect();
    let mut facts = vec![
        ("runs", format!("{} ({})", summary.runs, verdicts.join(", "))),
        (
            "rate",
            format!(
                "{:.1} runs/s, {:.0} simulated s/s",
                per_second(summary.runs as f64),
                per_second(summary.sim_seconds)
            ),
        ),
        ("simulated", format!("{:.0} s in {:.1} s", summary.sim_seconds, summary.wall_seconds)),
        ("operations", summary.operations.to_string()),
    ];
    if let Some(bytes) = memory_bytes_max {
        facts.push(("memory", format!("{} MiB at most", bytes >> 20)));
    }
    facts.push(("faults", output::counts(&summary.faults)));
    if !summary.buggify.is_empty() {
        facts.push(("forced", output::counts(&summary.buggify)));
    }
    if let Some((median, p99, max)) = summary.leader_after_ms {
        facts.push(("leader after", format!("median {median} ms, p99 {p99} ms, max {max} ms")));
    }
    if let Some((some, runs, median, all)) = summary.migrations {
        let words = format!("{all} shards moved, in {some} of {runs} runs; {median} in the median run");
        facts.push(("migrations", words));
    }
    if summary.determinism_checked > 0 {
        let differ = summary.nondeterministic.len();
        facts
            .push(("run twice", format!("{} seeds, {differ} with two digests", summary.determinism_checked)));
    }
    facts.push(("states", states(&summary.coverage)));
    if summary.is_interrupted {
        facts.push(("interrupted", "not through: --resume goes on".to_owned()));
    }
    for vacuous in &summary.vacuous {
        facts.push(("vacuous", vacuous.clone()));
    }
    output::facts(out, &facts)
}

/// How much of the protocol's states was reached, how many never, and some of these.
fn states(coverage: &Coverage) -> String {
    let report = coverage.report();
    let all = [&report.states_never, &report.placements_never, &report.placed_never];
    let count: usize = all.iter().map(|list| list.len()).sum();
    let examples: Vec<&str> =
        all.iter().flat_map(|list| list.iter()).take(NEVER_SHOWN_MAX).map(String::as_str).collect();
    let counts = coverage.counts();
    if count == 0 {
        counts
    } else {
        format!("{counts}; {count} never, among them: {}", examples.join(" · "))
    }
}

pub(super) fn code_of(summary: &Summary) -> u8 {
    let count = |verdict: Verdict| summary.verdicts.get(verdict.word()).copied().unwrap_or(0);
    if count(Verdict::Fail) + count(Verdict::Vacuous) > 0 || !summary.vacuous.is_empty() {
        1
    } else if count(Verdict::Undecided) > 0 || summary.is_interrupted {
        5
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_and_shards_are_read_or_refused() {
        assert_eq!("3..9".parse(), Ok(Seeds { first: 3, end: Some(9) }));
        assert_eq!("3..".parse(), Ok(Seeds { first: 3, end: None }));
        for wrong in ["3", "..9", "9..3", "3..3", "a..b", ""] {
            assert!(wrong.parse::<Seeds>().is_err(), "{wrong}");
        }
        assert_eq!("2/4".parse(), Ok(Shard { part: 2, parts: 4 }));
        for wrong in ["0/4", "5/4", "2", "2/0", "/"] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }
}
