//! Porcupine beside this checker, on the same histories in the same run: verdicts, times, memory and ratios.
//!
//! `GO` names a Go toolchain (1.21 or later), `PORCUPINE` the folder with porcupine's source; without them this is skipped,
//! which is said. `ERAFT_HISTORY_DATA` adds the real histories, `PORCUPINE_SECONDS` is the time for each (30). An argument
//! leaves only the histories whose group and name contain it.
//!
//! Each checker has a process of its own for each history, one right after the other, so that a machine that becomes busy
//! slows both. Two times are printed: that of a check of a history that has been read, in the fastest of many batches, and the
//! mean of what all took of the processors. The first is what a user waits for; a check that is long enough to be interrupted looks
//! slower than it is if others use the machine, and then the second tells more, though it also counts what porcupine's
//! collector of garbage does beside the check.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use eraft_checker::generate::{Shape, generate};
use eraft_checker::models::whole::Whole;
use eraft_checker::{AnyHistory, Format, Options, Verdict, check, read_history};
use serde::{Deserialize, Serialize};

/// Before the file, if the process is to check it and to say what that cost.
const ONE: &str = "--one-history";

/// Before the file: without partitions.
const WHOLE: &str = "--whole";

/// A history is checked again and again for so long. The same on both sides.
const REPEATED_FOR: Duration = Duration::from_secs(1);

/// So many checks are timed together that they take so long: porcupine's time depends on the order in which it happens to look
/// at the partitions, so the luckiest single check would say little about any other.
const BATCH_FOR: Duration = Duration::from_millis(10);

/// What a checker says about a history.
#[derive(Serialize, Deserialize)]
struct Measured {
    verdict: String,
    /// The time of a check in the fastest batch.
    micros: f64,
    /// The time on processors of all threads, for each check: of all repetitions, because the clock is coarse. It is what
    /// remains of a time if others use the machine too.
    processor_micros: f64,
    /// The most memory that was resident, with the history.
    peak_kib: u64,
}

/// A history to check, and whether to take it apart.
struct Case {
    name: String,
    history: AnyHistory,
    whole: bool,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(at) = arguments.iter().position(|argument| argument == ONE) {
        let whole = arguments[at + 1] == WHOLE;
        let measured = measure(Path::new(&arguments[at + 1 + usize::from(whole)]), whole);
        println!("{}", serde_json::to_string(&measured).expect("it can be written"));
        return;
    }
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let (Some(go), Some(source)) = (variable("GO"), variable("PORCUPINE")) else {
        println!("skipped: porcupine (set GO to a Go toolchain and PORCUPINE to the folder with its source)");
        return;
    };
    let folder = tempfile::tempdir().expect("a folder for the histories");
    let program = build(&go, &source, folder.path());
    let seconds = std::env::var("PORCUPINE_SECONDS").unwrap_or_else(|_| "30".to_owned());
    let only = arguments.into_iter().find(|argument| !argument.starts_with('-')).unwrap_or_default();
    for (group, cases) in groups(variable("ERAFT_HISTORY_DATA")) {
        let mut summary = Summary::default();
        for make in cases {
            let Some(case) = make.named(group, &only) else { continue };
            let file = folder.path().join("history.jsonl");
            let mut out = fs::File::create(&file).map(std::io::BufWriter::new).expect("a history file");
            case.history.write(&mut out).expect("the history can be written");
            std::io::Write::flush(&mut out).expect("the history can be written");
            let mut theirs = Command::new(&program);
            theirs.arg(&seconds);
            let mut ours = Command::new(std::env::current_exe().expect("this program has a name"));
            ours.arg(ONE);
            for command in [&mut theirs, &mut ours] {
                command.args(case.whole.then_some(WHOLE)).arg(&file);
            }
            if summary.ratios.is_empty() {
                println!(
                    "\n{group}: history, operations, verdict; least time of porcupine, ours, ratio; mean time on \
                     processors, ratio; memory, ratio"
                );
            }
            summary.add(&case, &run(&mut theirs), &run(&mut ours));
        }
        summary.print();
    }
}

/// Builds the Go program against the given source.
fn build(go: &Path, source: &Path, folder: &Path) -> PathBuf {
    let program = folder.join("program");
    fs::create_dir_all(&program).expect("a folder for the program");
    fs::write(program.join("main.go"), include_str!("porcupine/main.go"))
        .expect("the program can be written");
    let source = source.canonicalize().unwrap_or_else(|error| panic!("{}: {error}", source.display()));
    let module = format!(
        "module bench\n\ngo 1.21\n\nrequire github.com/anishathalye/porcupine v0.0.0\n\nreplace \
         github.com/anishathalye/porcupine => {}\n",
        source.display()
    );
    fs::write(program.join("go.mod"), module).expect("the module can be written");
    let binary = folder.join("porcupine-bench");
    let built = Command::new(go)
        .args(["build", "-o"])
        .arg(&binary)
        .current_dir(&program)
        .env("GOFLAGS", "-mod=mod")
        .env("GOTOOLCHAIN", "local")
        .status();
    assert!(
        built.is_ok_and(|status| status.success()),
        "the Go program does not build with {}",
        go.display()
    );
    binary
}

fn run(command: &mut Command) -> Measured {
    let output = command.output().expect("the program runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("a line of JSON")
}

/// The fastest of some checks for the verdict alone, with as many threads as there are processors.
fn measure(file: &Path, whole: bool) -> Measured {
    let bytes = fs::read(file).expect("a history file");
    let history = read_history(&bytes[..], Format::Jsonl, None).expect("a history");
    drop(bytes);
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let options = Options { verdict_only: true, confirm: false, jobs, ..Options::default() };
    let check = || match &history {
        AnyHistory::Kv(model, history) if whole => {
            check(&Whole::new(model.clone()), history, &options).verdict
        }
        history => history.check(&options).verdict,
    };
    forget_peak();
    let (start, mut best, mut verdict, mut peak_kib) = (Instant::now(), Duration::MAX, Verdict::Undecided, 0);
    let (used_before, mut repetitions, mut batch) = (processor_time(), 0, 1);
    while repetitions == 0 || start.elapsed() < REPEATED_FOR {
        let at = Instant::now();
        for _ in 0..batch {
            verdict = check();
        }
        let each = at.elapsed() / batch;
        best = best.min(each);
        repetitions += batch;
        if repetitions == 1 {
            peak_kib = peak();
            // The first is a batch by itself, and slower than any.
            batch = (BATCH_FOR.as_nanos() / each.as_nanos().max(1)).max(1) as u32;
        }
    }
    let used = processor_time().saturating_sub(used_before);
    Measured {
        verdict: verdict.to_string(),
        micros: micros(best),
        processor_micros: micros(used) / f64::from(repetitions),
        peak_kib,
    }
}

fn micros(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1e3
}

/// What all threads of this process have had of the processors, those included that have ended. Linux only; 0 elsewhere.
fn processor_time() -> Duration {
    let ticks = |stat: &str| {
        // The name of the program, in brackets, may contain anything. The fields are numbered from its end.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |at: usize| fields.get(at)?.parse::<u64>().ok();
        Some(field(USER_TICKS_FIELD)? + field(SYSTEM_TICKS_FIELD)?)
    };
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    Duration::from_secs(1) * ticks(&stat).unwrap_or(0) as u32 / TICKS_PER_SECOND
}

/// In `/proc/self/stat`, behind the name.
const USER_TICKS_FIELD: usize = 11;
const SYSTEM_TICKS_FIELD: usize = 12;
const TICKS_PER_SECOND: u32 = 100;

/// Linux only; elsewhere the peak is that of the whole process.
fn forget_peak() {
    let _ = fs::write("/proc/self/clear_refs", "5");
}

fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[derive(Default)]
struct Summary {
    theirs_micros: f64,
    ours_micros: f64,
    ratios: Vec<f64>,
    ratios_on_processors: Vec<f64>,
}

impl Summary {
    fn add(&mut self, case: &Case, theirs: &Measured, ours: &Measured) {
        let same = match (theirs.verdict.as_str(), ours.verdict.as_str()) {
            ("Ok", "linearizable") | ("Illegal", "violation") => "",
            ("Unknown", _) => " (porcupine: unknown)",
            _ => panic!("{}: porcupine says {}, ours {}", case.name, theirs.verdict, ours.verdict),
        };
        let ratio = theirs.micros / ours.micros;
        let on_processors = theirs.processor_micros / ours.processor_micros;
        println!(
            "{}, {}, {}{same}; {:.0} µs, {:.1} µs, {ratio:.1}x; {:.0} µs, {:.1} µs, {on_processors:.1}x; {:.1} MiB, \
             {:.1} MiB, {:.1}x",
            case.name,
            operations(&case.history),
            ours.verdict,
            theirs.micros,
            ours.micros,
            theirs.processor_micros,
            ours.processor_micros,
            theirs.peak_kib as f64 / 1024.0,
            ours.peak_kib as f64 / 1024.0,
            theirs.peak_kib as f64 / ours.peak_kib as f64,
        );
        self.theirs_micros += theirs.micros;
        self.ours_micros += ours.micros;
        self.ratios.push(ratio);
        self.ratios_on_processors.push(on_processors);
    }

    fn print(&self) {
        if self.ratios.is_empty() {
            return;
        }
        println!(
            "total: {:.1} ms, {:.2} ms, {:.0}x; geometric mean {:.1}x, on processors {:.1}x; least {:.2}x, on \
             processors {:.2}x",
            self.theirs_micros / 1e3,
            self.ours_micros / 1e3,
            self.theirs_micros / self.ours_micros,
            geometric_mean(&self.ratios),
            geometric_mean(&self.ratios_on_processors),
            least(&self.ratios),
            least(&self.ratios_on_processors),
        );
    }
}

fn geometric_mean(ratios: &[f64]) -> f64 {
    let logarithms: f64 = ratios.iter().map(|ratio| ratio.ln()).sum();
    (logarithms / ratios.len() as f64).exp()
}

fn least(ratios: &[f64]) -> f64 {
    ratios.iter().copied().fold(f64::MAX, f64::min)
}

fn operations(history: &AnyHistory) -> usize {
    match history {
        AnyHistory::Kv(_, history) => history.operations.len(),
        AnyHistory::Register(_, history) => history.operations.len(),
        other => panic!("porcupine is not asked about {other:?}"),
    }
}

/// Where a history comes from; it is only made when it is its turn.
enum Source {
    File(PathBuf),
    Generated(String, Shape, u64),
    Whole(Box<Source>),
}

impl Source {
    fn name(&self) -> String {
        match self {
            Source::File(file) => file.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            Source::Generated(name, ..) => name.clone(),
            Source::Whole(source) => format!("{}, one partition", source.name()),
        }
    }

    /// The case, if its name contains `only`, and unless it is an empty file.
    fn named(&self, group: &str, only: &str) -> Option<Case> {
        let name = self.name();
        let wanted = format!("{group}: {name}").contains(only);
        let history = wanted.then(|| self.history()).flatten()?;
        Some(Case { name, history, whole: matches!(self, Source::Whole(_)) })
    }

    fn history(&self) -> Option<AnyHistory> {
        match self {
            Source::File(file) => {
                let bytes = fs::read(file).expect("the file can be read");
                let history = (!bytes.is_empty()).then(|| read_history(&bytes[..], Format::Auto, None));
                history.map(|history| history.expect("the file is a history"))
            }
            Source::Generated(_, shape, seed) => Some(generate(shape, *seed)),
            Source::Whole(source) => source.history(),
        }
    }
}

fn groups(data: Option<PathBuf>) -> Vec<(&'static str, Vec<Source>)> {
    let mut groups = Vec::new();
    if let Some(data) = data {
        let data = data.join("porcupine");
        groups.push(("etcd", files(&data.join("etcd"))));
        let kv = || files(&data.join("kv"));
        groups.push(("kv", kv()));
        let small = kv().into_iter().filter(|source| !source.name().starts_with("c50"));
        groups.push(("kv, one partition", small.map(|source| Source::Whole(Box::new(source))).collect()));
    } else {
        println!("skipped: real histories (set ERAFT_HISTORY_DATA to the folder that holds porcupine/)");
    }
    groups.extend(families());
    groups
}

fn files(folder: &Path) -> Vec<Source> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("the folder can be listed").path())
        .collect();
    files.sort();
    files.into_iter().map(Source::File).collect()
}

/// The families that porcupine can decide, and those that it gives up on.
fn families() -> Vec<(&'static str, Vec<Source>)> {
    let register = Shape { keys: 0, ..Shape::default() };
    let repeated = Shape { values: 5, ..register };
    // As porcupine's own key-value histories.
    let kv = Shape { keys: 10, reads: 46, appends: 48, ..Shape::default() };
    let appends = Shape { operations: 2_000, keys: 4, appends: 50, ..Shape::default() };
    let unknown = Shape { operations: 100, values: 5, cas: 20, ..register };
    let many_keys = Shape { appends: 35, clients: 50, operations: 1_000_000, ..Shape::default() };
    let with = |list: &[(&str, Shape)]| -> Vec<Source> {
        list.iter().map(|(name, shape)| Source::Generated((*name).to_owned(), *shape, 1)).collect()
    };
    let mut undecided = Vec::new();
    for seed in 1..=4 {
        for permille in [50, 100, 170, 250] {
            let shape = Shape { unknown_permille: permille, ..unknown };
            let name = format!("{permille} permille, seed {seed}");
            undecided.push(Source::Generated(format!("{name}, stale"), Shape { stale: true, ..shape }, seed));
            undecided.push(Source::Generated(name, shape, seed));
        }
    }
    vec![
        (
            "generated kv",
            with(&[
                ("1 client", Shape { operations: 60, clients: 1, ..kv }),
                ("10 clients", Shape { operations: 400, clients: 10, ..kv }),
                ("50 clients", Shape { operations: 2_000, clients: 50, ..kv }),
                ("50 clients, stale", Shape { operations: 2_000, clients: 50, stale: true, ..kv }),
            ]),
        ),
        (
            "unique values",
            with(&[
                ("1,000 operations", register),
                ("10,000 operations", Shape { operations: 10_000, ..register }),
                ("10,000 operations, stale", Shape { operations: 10_000, stale: true, ..register }),
                ("100,000 operations", Shape { operations: 100_000, ..register }),
            ]),
        ),
        (
            "5 values",
            with(&[
                ("1,000 operations, 5 clients", repeated),
                ("1,000 operations, 10 clients", Shape { clients: 10, ..repeated }),
                ("1,000 operations, 20 clients", Shape { clients: 20, ..repeated }),
                ("1,000 operations, 50 clients", Shape { clients: 50, ..repeated }),
                ("1,000 operations, 5 clients, stale", Shape { stale: true, ..repeated }),
                ("1,000 operations, 10 clients, stale", Shape { clients: 10, stale: true, ..repeated }),
                ("100,000 operations, 5 clients", Shape { operations: 100_000, ..repeated }),
            ]),
        ),
        (
            "append and get",
            with(&[
                ("5 clients", appends),
                ("20 clients", Shape { clients: 20, ..appends }),
                ("50 clients", Shape { clients: 50, ..appends }),
                ("50 clients, stale", Shape { clients: 50, stale: true, ..appends }),
            ]),
        ),
        (
            "many keys",
            with(&[
                ("1,000,000 operations, 10,000 keys", Shape { keys: 10_000, ..many_keys }),
                ("1,000,000 operations, 1,000 keys", Shape { keys: 1_000, ..many_keys }),
            ]),
        ),
        ("unknown outcomes", undecided),
    ]
}
