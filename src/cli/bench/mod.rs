//! `bench`: many clients for some seconds, and what they saw.

mod report;
mod workload;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tokio::task::JoinSet;

use self::report::{Counts, HEADER};
use self::workload::{Keys, Mix, Worker};
use super::client::{ClientArgs, HistoryArgs, surroundings};
use super::failure::{Code, Failure};
use super::output::Output;
use super::values::byte_count;
use crate::client::{Client, Outcome};
use crate::history::{Operation, OperationResult};
use crate::replica::Surroundings;
use crate::replica::timers::Moment;
use crate::server::shutdown::Signals;

/// How often the progress bar moves.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

#[derive(Clone, Debug, clap::Args)]
pub(super) struct Bench {
    /// So many clients, each with connections and a session of its own.
    #[arg(long, value_name = "N", default_value = "10", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    clients: u32,
    /// Operations that each client has under way at a time.
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=64))]
    pipeline: u32,
    /// The shares of get, put, append, delete and cas.
    #[arg(long, value_name = "KIND=SHARE,…", default_value = "get=50,put=50")]
    mix: Mix,
    /// The size of a value.
    #[arg(long, value_name = "BYTES", default_value = "100", value_parser = byte_count)]
    value_bytes: usize,
    /// So many different keys.
    #[arg(long, value_name = "N", default_value = "1000", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    keys: u64,
    /// Choose keys by Zipf's law with this exponent, such as 0.99; without it, all alike.
    #[arg(long, value_name = "S", value_parser = exponent)]
    zipf: Option<f64>,
    /// For so long.
    #[arg(long, value_name = "S", default_value = "10", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// What the keys begin with [default: something new each time, because a history must begin with keys that do
    /// not exist].
    #[arg(long, value_name = "TEXT")]
    prefix: Option<String>,
    #[command(flatten)]
    history: HistoryArgs,
    #[command(flatten)]
    client: ClientArgs,
}

fn exponent(text: &str) -> Result<f64, String> {
    let exponent: f64 = text.parse().map_err(|_| format!("{text:?} is not a number"))?;
    if (0.0..=10.0).contains(&exponent) { Ok(exponent) } else { Err("it must be 0 to 10".to_owned()) }
}

/// What all workers share.
struct Run {
    mix: Mix,
    keys: Keys,
    value_bytes: usize,
    until: Moment,
    stopped: AtomicBool,
    around: Surroundings,
    counts: Mutex<Counts>,
}

impl Run {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        // Nothing panics while it counts.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self) -> bool {
        self.stopped.load(Ordering::Relaxed) || self.around.clock.now() >= self.until
    }

    async fn work(self: Arc<Self>, client: Arc<Client>, name: String, number: u64) {
        let draws = self.around.draws.site("bench", number);
        let mut worker = Worker::new(&self.mix, &self.keys, self.value_bytes, name, draws);
        while !self.is_over() {
            let operation = worker.next();
            let (kind, begun) = (operation.name(), self.around.clock.now());
            let outcome = client.execute(operation.clone()).await;
            let took = self.around.clock.now().since(begun);
            self.counts().add(kind, took, &outcome);
            if let (Operation::Get { key }, Outcome::Ok(OperationResult::Value(value))) = (operation, outcome)
            {
                worker.saw(key, value);
            }
        }
    }
}

impl Bench {
    pub(super) async fn run(self, output: Output) -> Result<(), Failure> {
        let around = surroundings()?;
        let recorder = self.history.recorder()?;
        let mut signals = Signals::catch()
            .map_err(|error| Failure::new(Code::Internal, format!("catching signals: {error}")))?;
        let fresh = || format!("bench-{:08x}-", around.draws.draw("prefix", 0, 0).bits() >> 32);
        let prefix = self.prefix.clone().unwrap_or_else(fresh);
        let begun = around.clock.now();
        let run = Arc::new(Run {
            mix: self.mix.clone(),
            keys: Keys::new(prefix, self.keys, self.zipf),
            value_bytes: self.value_bytes,
            until: begun.after(Duration::from_secs(self.seconds)),
            stopped: AtomicBool::new(false),
            around,
            counts: Mutex::default(),
        });
        let mut workers = JoinSet::new();
        let mut clients = Vec::new();
        for number in 0..self.clients {
            let client = Arc::new(self.client.client(recorder.clone())?);
            clients.push(client.clone());
            for lane in 0..self.pipeline {
                let worker = u64::from(number) * u64::from(self.pipeline) + u64::from(lane);
                workers.spawn(run.clone().work(client.clone(), format!("{number}.{lane}"), worker));
            }
        }
        let bar = progress_bar(self.seconds);
        let interrupted = self.wait(&run, begun, &mut workers, &mut signals, &bar).await;
        let took = run.around.clock.now().since(begun);
        bar.finish_and_clear();
        futures_util::future::join_all(clients.iter().map(|client| client.close())).await;
        self.history.finish(recorder.as_deref())?;
        self.print(&run.counts(), took, interrupted, output)
    }

    /// Until all workers are done. True if a signal made them stop early.
    async fn wait(
        &self,
        run: &Run,
        begun: Moment,
        workers: &mut JoinSet<()>,
        signals: &mut Signals,
        bar: &ProgressBar,
    ) -> bool {
        let mut interrupted = false;
        loop {
            tokio::select! {
                biased;
                _ = signals.next() => {
                    if interrupted {
                        workers.abort_all();
                    }
                    interrupted = true;
                    run.stopped.store(true, Ordering::Relaxed);
                }
                done = workers.join_next() => if done.is_none() {
                    return interrupted;
                },
                () = run.around.clock.sleep(PROGRESS_INTERVAL), if !bar.is_hidden() => {
                    let (took, answered) = (run.around.clock.now().since(begun), run.counts().answered());
                    bar.set_position(took.as_secs().min(self.seconds));
                    bar.set_message(format!("{:.0} operations/s", answered as f64 / took.as_secs_f64()));
                }
            }
        }
    }

    fn print(
        &self,
        counts: &Counts,
        took: Duration,
        interrupted: bool,
        output: Output,
    ) -> Result<(), Failure> {
        let report = counts.report(took);
        if output.is_json() {
            let mut json = serde_json::to_value(&report)
                .map_err(|error| Failure::new(Code::Internal, format!("making JSON: {error}")))?;
            json["clients"] = json!(self.clients);
            json["pipeline"] = json!(self.pipeline);
            json["keys"] = json!(self.keys);
            json["value_bytes"] = json!(self.value_bytes);
            json["interrupted"] = json!(interrupted);
            json["history"] = json!(self.history.history);
            output.json(&json)?;
        } else {
            output.line(&format!(
                "{} operations in {:.1} s: {:.0} operations/s; {} errors; {} clients x {}, {} keys, values of {} bytes",
                report.operations, report.seconds, report.operations_per_second, report.errors, self.clients,
                self.pipeline, self.keys, self.value_bytes
            ))?;
            output.rows(&HEADER, report.rows())?;
        }
        match &counts.first_error {
            Some(error) if report.operations == 0 => {
                let unknown = report.kinds.values().any(|kind| kind.errors.unknown > 0);
                let refused = report.kinds.values().any(|kind| kind.errors.refused > 0);
                let code = match (unknown, refused) {
                    (true, _) => Code::Unknown,
                    (false, true) => Code::Refused,
                    (false, false) => Code::Unavailable,
                };
                Err(Failure::new(code, format!("bench: no operation was answered; the first one, {error}")))
            }
            _ => Ok(()),
        }
    }
}

fn progress_bar(seconds: u64) -> ProgressBar {
    let bar = ProgressBar::new(seconds); // hidden if standard error is not a terminal
    let template = "{bar:30} {pos}/{len} s  {msg}";
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}
