//! Judges a run once it is over: linearizability of the clients' history, durability, vacuity.

use std::collections::BTreeMap;
use std::time::Instant;

use eraft_checker::report::Verdict as Linearizable;
use serde::Deserialize;

use crate::artifact::RunRequest;
use crate::digest::Digest;
use crate::hints::resolve;
use crate::outcome::{Outcome, Verdict, Violation};
use crate::runner::{Internal, RunOptions, thread_core_seconds};
use crate::world::Remains;

/// Steps of the linearizability search per key. A run has some thousand operations; what needs more is undecided.
const CHECK_STEPS_MAX: u64 = 50_000_000;
/// Memory of that search.
const CHECK_MEMORY_BYTES_MAX: usize = 512 << 20;
/// Lines of evidence in a violation's message.
const EVIDENCE_MAX: usize = 6;

/// The outcome of a run.
pub(crate) fn judge(
    request: &RunRequest,
    options: &RunOptions,
    remains: Remains,
    started: Instant,
) -> Result<Outcome, Internal> {
    let Remains { watcher, history, operations, delivered, buggify, elapsed, ended, hits, judged: looked } =
        remains;
    let seen = watcher.finish();
    if let (Err(error), Some(path)) = (&seen.trace, &options.trace) {
        return Err(Internal(format!("{}: {error}", path.display())));
    }
    history.flush().map_err(|error| Internal(error.to_string()))?;
    let history = resolve(history.memory().unwrap_or_default(), seen.effects);
    let is_complete = ended.is_some_and(|ended| ended.is_complete);
    let faults: BTreeMap<String, u64> =
        delivered.iter().map(|(kind, count)| (kind.id().to_owned(), *count)).collect();
    let mut judged = seen.judged;
    let mut verdict = Verdict::Pass;
    let mut violation = seen.violation;
    let checks = &request.plan.configuration.checks;
    let checks = |oracle: &str| checks.iter().any(|check| check == oracle);
    for (oracle, count) in looked.into_iter().filter(|(oracle, _)| checks(oracle)) {
        *judged.entry(oracle.to_owned()).or_default() += count;
    }
    if violation.is_none() && is_complete {
        if checks("kv.linearizable") {
            let (count, found) = linearizable(&history)?;
            judged.insert("kv.linearizable".to_owned(), count);
            (verdict, violation) = found.map_or((verdict, None), |(verdict, found)| (verdict, Some(found)));
        }
        if violation.is_none() && checks("kv.durability") {
            let (count, found) = durable(&history)?;
            judged.insert("kv.durability".to_owned(), count);
            violation = found;
        }
    }
    if violation.is_some() && verdict == Verdict::Pass {
        verdict = Verdict::Fail;
    }
    if verdict == Verdict::Pass && is_complete && request.is_scripted && request.mutant.is_none() {
        let missing = vacuous(request, &faults, &judged);
        if !missing.is_empty() {
            verdict = Verdict::Vacuous;
            let message = format!("never delivered or never judged: {}", missing.join(", "));
            violation =
                Some(Violation { fingerprint: message.clone(), message, oracle: "vacuous".to_owned() });
        }
    }
    let digest: &Digest = &seen.digest;
    Ok(Outcome {
        verdict,
        violation,
        digest: digest.value(),
        records: digest.records(),
        checkpoints: digest.checkpoints().to_vec(),
        trace_tail: seen.tail,
        history,
        sim_seconds: elapsed.as_secs_f64(),
        wall_seconds: started.elapsed().as_secs_f64(),
        // Each run has a thread of its own.
        core_seconds: thread_core_seconds().unwrap_or_else(|| started.elapsed().as_secs_f64()),
        operations,
        faults,
        buggify,
        judged,
        leader_after_ms: ended
            .and_then(|ended| ended.leader_after)
            .map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX)),
        coverage: seen.coverage,
        migrations: seen.migrations,
        is_complete,
        hits,
    })
}

/// Faults that were planned and never delivered, oracles that never judged.
fn vacuous(
    request: &RunRequest,
    faults: &BTreeMap<String, u64>,
    judged: &BTreeMap<String, u64>,
) -> Vec<String> {
    let count = |counts: &BTreeMap<String, u64>, id: &str| counts.get(id).copied().unwrap_or(0);
    let mut missing = Vec::new();
    for kind in &request.plan.kinds {
        let planned = request.plan.faults.iter().filter(|fault| fault.kind().id() == kind).count() as u64;
        let delivered = count(faults, kind);
        if delivered < planned {
            missing.push(format!("{kind} ({delivered} of {planned})"));
        }
    }
    let silent = request.plan.must_judge().into_iter().filter(|oracle| count(judged, oracle) == 0);
    missing.extend(silent.map(str::to_owned));
    missing
}

fn linearizable(history: &[u8]) -> Result<(u64, Option<(Verdict, Violation)>), Internal> {
    let options = eraft_checker::Options {
        steps_max: CHECK_STEPS_MAX,
        memory_bytes_max: CHECK_MEMORY_BYTES_MAX,
        timeout: None,
        // One thread per run, and the same work in debug and release builds.
        jobs: 1,
        confirm: false,
        verdict_only: false,
    };
    let report = eraft_checker::check_jsonl(history, None, &options)
        .map_err(|error| Internal(format!("the recorded history is malformed: {error}")))?;
    let partition = report.partition.clone().unwrap_or_default();
    let found = match report.verdict {
        Linearizable::Linearizable => None,
        Linearizable::Undecided => {
            let message = report.reason.clone().unwrap_or(partition);
            let fingerprint = "kv.linearizable: undecided".to_owned();
            Some((
                Verdict::Undecided,
                Violation { oracle: "kv.linearizable".to_owned(), fingerprint, message },
            ))
        }
        Linearizable::Violation => {
            let evidence: Vec<String> =
                report.core.iter().take(EVIDENCE_MAX).map(ToString::to_string).collect();
            let message = format!("{partition}: {}", evidence.join("; "));
            let fingerprint = "kv.linearizable: violation".to_owned();
            Some((Verdict::Fail, Violation { oracle: "kv.linearizable".to_owned(), fingerprint, message }))
        }
    };
    Ok((report.operations as u64, found))
}

/// One line of a history, as far as durability needs it.
#[derive(Deserialize)]
struct Line {
    process: Option<u64>,
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    f: String,
    #[serde(default)]
    key: String,
    #[serde(default)]
    value: serde_json::Value,
}

/// An acknowledged append since which nothing could have overwritten its key is in every value read later. This says
/// less than linearizability, but it says it without the checker: two oracles, two pieces of code.
fn durable(history: &[u8]) -> Result<(u64, Option<Violation>), Internal> {
    let mut open: BTreeMap<u64, Line> = BTreeMap::new();
    // By key: appended pieces that must be there, and how many overwriting operations are open or unknown.
    let mut pieces: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut overwriting: BTreeMap<String, u64> = BTreeMap::new();
    // How many overwriting operations of a key were ever begun.
    let mut begun: BTreeMap<String, u64> = BTreeMap::new();
    // What held when a process asked: pieces acknowledged, overwriting operations open and begun.
    let mut at_invoke: BTreeMap<u64, (usize, u64, u64)> = BTreeMap::new();
    let count = |counts: &BTreeMap<String, u64>, key: &str| counts.get(key).copied().unwrap_or(0);
    let mut judged = 0;
    let overwrites = |f: &str| matches!(f, "put" | "delete" | "cas");
    for line in history.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).skip(1) {
        let line: Line = serde_json::from_slice(line)
            .map_err(|error| Internal(format!("the recorded history is malformed: {error}")))?;
        let Some(process) = line.process else { continue };
        if line.kind == "invoke" {
            if overwrites(&line.f) {
                pieces.remove(&line.key);
                *overwriting.entry(line.key.clone()).or_default() += 1;
                *begun.entry(line.key.clone()).or_default() += 1;
            }
            let due = pieces.get(&line.key).map_or(0, Vec::len);
            at_invoke.insert(process, (due, count(&overwriting, &line.key), count(&begun, &line.key)));
            open.insert(process, line);
            continue;
        }
        let Some(asked) = open.remove(&process) else { continue };
        let (due, open_at_invoke, begun_at_invoke) = at_invoke.remove(&process).unwrap_or_default();
        let is_ok = line.kind == "ok";
        if overwrites(&asked.f) && line.kind != "info" {
            // Pieces appended while it was open may come before it.
            pieces.remove(&asked.key);
            *overwriting.entry(asked.key.clone()).or_default() -= 1;
        }
        // Nothing that overwrites was open at any time of this operation.
        let is_alone = open_at_invoke == 0 && begun_at_invoke == count(&begun, &asked.key);
        if asked.f == "append"
            && is_ok
            && is_alone
            && let Some(piece) = asked.value.as_str()
        {
            pieces.entry(asked.key.clone()).or_default().push(piece.to_owned());
        }
        if asked.f == "get" && is_ok {
            let read = line.value.as_str().unwrap_or_default();
            let known = pieces.get(&asked.key).map(Vec::as_slice).unwrap_or_default();
            if due == 0 || !is_alone {
                continue;
            }
            judged += 1;
            if let Some(lost) = known[..due].iter().find(|piece| !read.contains(piece.as_str())) {
                let message =
                    format!("{}: the acknowledged append of `{lost}` is not in `{read}`", asked.key);
                let fingerprint = "kv.durability: lost append".to_owned();
                let oracle = "kv.durability".to_owned();
                return Ok((judged, Some(Violation { oracle, fingerprint, message })));
            }
        }
    }
    Ok((judged, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(lines: &[&str]) -> Vec<u8> {
        let header = r#"{"format":"eraft-history","version":1,"model":"kv"}"#;
        [&[header], lines].concat().join("\n").into_bytes()
    }

    const APPEND: [&str; 2] = [
        r#"{"process":0,"type":"invoke","f":"append","key":"k1","value":"a,","time":1}"#,
        r#"{"process":0,"type":"ok","f":"append","index":3,"time":2}"#,
    ];
    const READS_NOTHING: [&str; 2] = [
        r#"{"process":1,"type":"invoke","f":"get","key":"k1","time":3}"#,
        r#"{"process":1,"type":"ok","f":"get","value":null,"index":4,"time":4}"#,
    ];

    #[test]
    fn a_lost_append_is_seen_by_both_oracles() {
        let lost = history(&[APPEND, READS_NOTHING].concat());
        assert_eq!(durable(&lost).unwrap().1.unwrap().oracle, "kv.durability");
        let (_, found) = linearizable(&lost).unwrap();
        assert_eq!(found.unwrap().0, Verdict::Fail);
    }

    #[test]
    fn an_append_that_may_have_been_overwritten_proves_nothing() {
        let delete = [
            r#"{"process":2,"type":"invoke","f":"delete","key":"k1","time":2}"#,
            r#"{"process":2,"type":"info","f":"delete","error":"no answer","time":3}"#,
        ];
        let deletes = [delete[0], r#"{"process":2,"type":"ok","f":"delete","deleted":true,"time":2}"#];
        for lines in [
            [APPEND, delete, READS_NOTHING].concat(),
            [delete, APPEND, READS_NOTHING].concat(),
            // The deletion begins and ends inside of the append.
            [&APPEND[..1], &deletes, &APPEND[1..], &READS_NOTHING].concat(),
            // The read was invoked before the append was acknowledged.
            vec![READS_NOTHING[0], APPEND[0], APPEND[1], READS_NOTHING[1]],
        ] {
            assert_eq!(durable(&history(&lines)).unwrap(), (0, None));
            assert_eq!(linearizable(&history(&lines)).unwrap().1, None);
        }
    }
}
