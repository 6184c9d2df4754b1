//! The exam of the core's scheduler: healthy code passes, each planted bug of the core is found by the invariant
//! that it breaks, and by the invariant that its consequence breaks if only that one judges.

use eraft::mutants::{CATALOGUE, Layer, MutantId, Mutants};
use eraft_sim::core::{CoreReport, Options, Verdict, run};

/// What finds each bug first, from seed 0 on, and within how many seeds. Over many ranges of seeds something else may
/// find it more often: that is what the catalogue names.
const EXAM: [(MutantId, &str, u64); 27] = [
    (MutantId::ElectionVoteNotDurable, "raft.vote_once", 50),
    (MutantId::ElectionVoteWithoutLogCheck, "raft.leader_completeness", 2000),
    (MutantId::ElectionVoteTwice, "raft.vote_once", 100),
    (MutantId::ElectionVoteRequestedBeforeDurable, "raft.vote_once", 50),
    (MutantId::ElectionStaleVoteCounted, "raft.leader_completeness", 2000),
    (MutantId::ElectionNoStepDown, "raft.election_safety", 500),
    (MutantId::ElectionNoPreVote, "raft.pre_vote", 50),
    (MutantId::ElectionNoCheckQuorum, "raft.check_quorum", 100),
    (MutantId::ElectionTransferToLagging, "raft.transfer", 500),
    (MutantId::ElectionTransferVoteWithoutLogCheck, "raft.leader_completeness", 20_000),
    (MutantId::ElectionProposalsDuringTransfer, "raft.transfer", 500),
    (MutantId::ElectionStaleTimeoutNow, "raft.pre_vote", 2000),
    (MutantId::ReplicationCommitOldTerm, "raft.commit_current_term", 100),
    (MutantId::ReplicationQuorumOffByOne, "raft.ack_durable", 50),
    (MutantId::ReplicationLeaderCountsBeforePersisted, "raft.ack_durable", 50),
    (MutantId::ReplicationTruncateOnEveryAppend, "raft.ack_durable", 200),
    (MutantId::ReplicationCommitBeyondMatched, "raft.state_machine_safety", 1000),
    (MutantId::ReplicationMedianOfEvenGroup, "raft.ack_durable", 200),
    (MutantId::ReplicationMatchFromRejection, "raft.ack_durable", 500),
    (MutantId::ReplicationNoConsistencyCheck, "raft.log_matching", 500),
    (MutantId::ReplicationBacktrackingStopsShort, "raft.liveness", 500),
    (MutantId::ReplicationApplyBeforePersisted, "raft.ack_durable", 200),
    (MutantId::SnapshotOlderInstalled, "raft.monotonic", 2000),
    (MutantId::SnapshotConflictingTailKept, "sim.panic", 3000),
    (MutantId::KvReadWithoutBarrier, "raft.read_index", 300),
    (MutantId::KvReadIndexBeforeOwnTermCommit, "raft.read_index", 300),
    (MutantId::KvReadByLease, "raft.read_index", 20_000),
];

/// Bugs whose consequence is seen when only one other invariant judges: which, and what then finds it. The core's
/// own assertions are a judge that is always there.
const CONSEQUENCES: [(MutantId, &str, &str, u64); 3] = [
    (MutantId::ElectionVoteTwice, "raft.election_safety", "raft.election_safety", 500),
    (MutantId::ElectionVoteWithoutLogCheck, "raft.monotonic", "sim.panic", 2000),
    (MutantId::ReplicationQuorumOffByOne, "raft.leader_completeness", "raft.leader_completeness", 500),
];

fn examine(mutant: MutantId, oracles: Vec<&'static str>, seeds_max: u64) -> CoreReport {
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    run(&Options { seeds_max, jobs, mutants: Mutants::with(mutant), oracles, ..Options::default() })
}

fn assert_found(mutant: MutantId, oracle: &str, report: &CoreReport) {
    let violation = report.violation.as_ref().map(|violation| &violation.violation);
    let found = violation.map(|violation| violation.oracle.as_str());
    assert_eq!(found, Some(oracle), "{mutant:?} after {} seeds: {violation:?}", report.seeds);
    assert_eq!(report.verdict, Verdict::Fail);
}

#[test]
fn healthy_code_passes_and_every_invariant_judges() {
    let report = run(&Options { seeds_max: 1000, jobs: 2, ..Options::default() });
    assert_eq!(report.violation, None);
    assert_eq!(report.verdict, Verdict::Pass, "{:?}", report.judged);
    assert_eq!(report.seeds, 1000);
    let did =
        [report.steps, report.commits, report.elections, report.snapshots, report.reads, report.transfers];
    assert!(did.iter().all(|count| *count > 100), "{report:?}");
}

#[test]
fn the_exam_is_that_of_the_catalogue() {
    let expected: Vec<MutantId> = CATALOGUE
        .iter()
        .filter(|mutant| mutant.layers.contains(&Layer::Core))
        .filter(|mutant| !["ctrler", "shardkv"].contains(&mutant.group)) // see shards.rs
        .map(|mutant| mutant.mutant)
        .collect();
    assert_eq!(EXAM.map(|(mutant, ..)| mutant).to_vec(), expected);
}

#[test]
fn every_planted_bug_is_found_by_the_invariant_that_it_breaks() {
    for (mutant, oracle, seeds_max) in EXAM {
        assert_found(mutant, oracle, &examine(mutant, Vec::new(), seeds_max));
    }
}

#[test]
fn consequences_are_found_without_the_invariant_of_the_cause() {
    for (mutant, judge, oracle, seeds_max) in CONSEQUENCES {
        assert_found(mutant, oracle, &examine(mutant, vec![judge], seeds_max));
    }
}

#[test]
fn a_seed_is_a_reproduction_whatever_the_number_of_threads() {
    let report = |seed, jobs| {
        let mutants = Mutants::with(MutantId::KvReadWithoutBarrier);
        let report = run(&Options { seed, seeds_max: 300, jobs, mutants, ..Options::default() });
        (report.violation.expect("the planted bug is found"), report.seeds, report.steps)
    };
    let (first, seeds, steps) = report(0, 1);
    assert_eq!(report(0, 2), (first.clone(), seeds, steps));
    assert_eq!(report(first.seed, 1).0, first);
}
