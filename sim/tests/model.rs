//! The exam of the model checker: what the shipped code does within small bounds is right and not empty, and each
//! planted bug that the models can see is found, by the oracle that is named here.

use std::time::Duration;

use eraft::mutants::{CATALOGUE, Layer, MutantId, Mutants};
use eraft_sim::model::{Options, Report, run};
use eraft_sim::outcome::Verdict;

/// Long for a machine that is busy with something else.
const PATIENCE: Duration = Duration::from_secs(240);

fn examine(mutants: Mutants, only: &[&str], bounds: &[(&str, u8)]) -> Report {
    run(&Options {
        only: only.iter().map(|name| (*name).to_owned()).collect(),
        jobs: std::thread::available_parallelism().map_or(1, usize::from),
        time_max: Some(PATIENCE),
        bounds: bounds.iter().map(|(name, bound)| ((*name).to_owned(), *bound)).collect(),
        mutants,
    })
}

#[test]
fn nothing_is_wrong_within_small_bounds_and_every_state_is_counted_once() {
    let states = || {
        let report = examine(Mutants::default(), &[], &[("depth", 6)]);
        for model in &report.models {
            assert_eq!(model.violation, None, "{}", model.model);
            // The models of migration are small, and most of what they are about comes later.
            let states_min = if model.model.starts_with("shards.") { 10 } else { 100 };
            assert!(model.is_complete && model.distinct > states_min, "{model:?}");
        }
        report.models.iter().map(|model| (model.model.clone(), model.distinct)).collect::<Vec<_>>()
    };
    assert_eq!(states(), states(), "the same models have the same states");
}

#[test]
fn a_model_that_reaches_nothing_is_no_pass() {
    let report = examine(Mutants::default(), &["election"], &[("depth", 2)]);
    assert_eq!(report.verdict, Verdict::Vacuous);
    let reached = &report.models[0].reached;
    assert_eq!(reached.get("two leaders in different terms"), Some(&false), "{reached:?}");
}

/// A planted bug, in which model it is found, with which other bounds, and by which oracle.
type Exam = (MutantId, &'static str, &'static [(&'static str, u8)], &'static str);

const EXAM: [Exam; 21] = [
    (MutantId::ElectionVoteNotDurable, "election", &[], "raft.election_safety"),
    (MutantId::ElectionVoteTwice, "election", NO_CRASH, "raft.election_safety"),
    (MutantId::ElectionStaleVoteCounted, "election", NO_CRASH, "raft.election_safety"),
    (MutantId::ElectionNoStepDown, "election", NO_CRASH, "raft.election_safety"),
    (MutantId::ReplicationCommitOldTerm, "figure_8", &[], "raft.commit_current_term"),
    (MutantId::ReplicationQuorumOffByOne, "pair.fine", NO_CRASH, "raft.ack_durable"),
    (MutantId::ReplicationLeaderCountsBeforePersisted, "pair.fine", NO_CRASH, "raft.ack_durable"),
    (MutantId::ReplicationTruncateOnEveryAppend, "figure_8", &[], "raft.ack_durable"),
    (MutantId::ReplicationMedianOfEvenGroup, "pair.fine", NO_CRASH, "raft.ack_durable"),
    (MutantId::ReplicationNoConsistencyCheck, "figure_8", &[], "raft.log_matching"),
    (MutantId::KvNoDedup, "sessions.window", &[], "kv.exactly_once"),
    (MutantId::KvEvictedExecuted, "sessions.eviction", &[], "kv.sessions_bounded"),
    (MutantId::KvReadWithoutBarrier, "read", &[], "raft.read_index"),
    (MutantId::ShardkvServeBeforeArrival, "shards.move", &[], "shard.single_owner"),
    (MutantId::ShardkvDeleteBeforeCommit, "shards.move", &[], "shard.no_loss"),
    (MutantId::ShardkvSessionsNotMoved, "shards.move", &[], "kv.exactly_once"),
    (MutantId::ShardkvSkipConfig, "shards.back", &[], "shard.config_order"),
    (MutantId::ShardkvPullFromNewer, "shards.back", &[], "shard.no_loss"),
    (MutantId::ShardkvDeleteReturned, "shards.back", &[], "shard.no_loss"),
    (MutantId::ShardkvNeverDeletes, "shards.move", &[], "shard.gc"),
    (MutantId::ShardkvWriteWhileBePulling, "shards.move", &[], "shard.single_owner"),
];

/// Most bugs need none, and without it there is less to visit.
const NO_CRASH: &[(&str, u8)] = &[("crashes", 0)];

#[test]
fn the_exam_is_that_of_the_catalogue() {
    let expected = CATALOGUE.iter().filter(|mutant| mutant.layers.contains(&Layer::Model));
    let expected: Vec<MutantId> = expected.map(|mutant| mutant.mutant).collect();
    assert_eq!(EXAM.map(|(mutant, ..)| mutant).to_vec(), expected);
}

#[test]
fn every_planted_bug_that_a_model_can_see_is_found_with_the_steps_that_lead_to_it() {
    for (mutant, model, bounds, oracle) in EXAM {
        let report = examine(Mutants::with(mutant), &[model], bounds);
        let violation = report.violation();
        let found = violation.map(|violation| violation.oracle.as_str());
        assert_eq!(found, Some(oracle), "{mutant:?} in {model}");
        assert!(violation.is_some_and(|violation| !violation.steps.is_empty()), "{mutant:?} in {model}");
        assert_eq!(report.verdict, Verdict::Fail);
    }
}
