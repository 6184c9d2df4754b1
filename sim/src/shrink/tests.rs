use super::*;
use crate::outcome::{Hit, Violation};
use crate::scenario::{FaultKind, Scenario, Target};
use crate::schedule::OperationKind;

const TEXT: &str = "[cluster]\nnodes = 5\n[workload]\nclients = 4\noperations = 300\n[network]\nloss = 0.01\n\
                    [phases]\nsafety_ms = 30000\n[random_faults]\nmean_interval_ms = 1500\n";

/// The planted bug of the fake: any power loss, followed by a partition, in a group of at least three, where a client
/// has put `k3` before. Seen at the time of the partition.
fn fake(request: &RunRequest, options: &RunOptions) -> Result<Outcome, Internal> {
    let plan = &request.plan;
    let crash = plan.faults.iter().find(|fault| fault.kind() == FaultKind::NodeCrash);
    let cut = plan.faults.iter().find(|fault| {
        fault.kind() == FaultKind::NetPartition && crash.is_some_and(|crash| crash.at_ms < fault.at_ms)
    });
    let puts = plan.operations.iter().flatten().any(|o| o.kind == OperationKind::Put && o.key == 3);
    let at_ms = cut.map_or(0, |fault| fault.at_ms);
    let is_seen =
        at_ms < plan.configuration.phases.safety_ms && options.until_ms.is_none_or(|until| at_ms < until);
    let is_bad = cut.is_some() && is_seen && puts && plan.configuration.cluster.nodes >= 3;
    let hits = plan.faults.iter().map(|fault| Hit {
        fault: fault.id.clone(),
        at_ms: fault.at_ms,
        parties: vec!["n2".to_owned()],
    });
    Ok(Outcome {
        migrations: 0,
        verdict: if is_bad { Verdict::Fail } else { Verdict::Pass },
        violation: is_bad.then(|| Violation::new("raft.monotonic", "it went back")),
        digest: plan.faults.len() as u64,
        records: 1,
        checkpoints: Vec::new(),
        trace_tail: Vec::new(),
        history: Vec::new(),
        sim_seconds: if is_bad { at_ms as f64 / 1_000.0 } else { 40.0 },
        wall_seconds: 0.0,
        core_seconds: 0.0,
        operations: 0,
        faults: std::collections::BTreeMap::new(),
        buggify: Default::default(),
        judged: std::collections::BTreeMap::new(),
        leader_after_ms: None,
        coverage: crate::coverage::Coverage::default(),
        is_complete: !is_bad,
        hits: hits.collect(),
    })
}

fn request() -> RunRequest {
    let scenario = Scenario::parse("fake.toml", TEXT).unwrap();
    RunRequest {
        scenario_file: "fake.toml".to_owned(),
        scenario: "fake".to_owned(),
        scenario_text: TEXT.to_owned(),
        is_scripted: false,
        seed: 7,
        mutant: None,
        plan: Plan::new(&scenario, 7),
    }
}

fn shrunk(jobs: usize, runs_max: u64) -> Shrunk {
    let request = request();
    let fingerprint =
        fake(&request, &RunOptions::default()).unwrap().violation.expect("it fails").fingerprint;
    shrink(fake, &request, &fingerprint, Effort { jobs, runs_max }, &|_, _| ()).unwrap()
}

#[test]
fn only_what_the_violation_takes_is_left() {
    let shrunk = shrunk(2, 10_000);
    assert!(shrunk.before.faults > 100 && shrunk.before.operations == 1_200, "{:?}", shrunk.before);
    let after = shrunk.after;
    assert_eq!((after.faults, after.operations, after.nodes, after.clients), (2, 1, 3, 1));
    let plan = &shrunk.request.plan;
    assert_eq!(plan.kinds, ["net.partition", "node.crash"]);
    let is_plain = |target: &Target| matches!(target, Target::Leader) || *target == Target::Nodes(vec![2]);
    assert!(plan.faults.iter().all(|fault| is_plain(&fault.target)), "{:?}", plan.faults);
    assert_eq!(plan.configuration.network.loss, 0.0);
    assert!(plan.configuration.phases.safety_ms <= 30_000 && !shrunk.is_out_of_runs);
}

#[test]
fn the_result_is_the_same_for_any_number_of_threads_and_bounded_by_the_budget() {
    let one = shrunk(1, 20);
    assert!(one.is_out_of_runs && one.runs <= 20);
    for jobs in [2, 5] {
        let other = shrunk(jobs, 20);
        assert!(other.request == one.request, "{jobs} threads came to another plan");
        assert_eq!(other.runs, one.runs);
    }
}

#[test]
fn a_run_that_does_not_fail_as_it_did_is_refused() {
    let error =
        shrink(fake, &request(), "raft.vote_once", Effort { jobs: 1, runs_max: 10 }, &|_, _| ()).unwrap_err();
    assert!(
        matches!(error, ShrinkError::Another { ref wanted, .. } if wanted == "raft.vote_once"),
        "{error}"
    );
}
