//! Runs the core's scheduler: `core [SECONDS] [SEED] [SEEDS] [MUTANT] [JOBS]`.
use std::time::Duration;

use eraft::mutants::{MutantId, Mutants};
use eraft_sim::core::{Options, run};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, or: u64| args.get(at).and_then(|text| text.parse().ok()).unwrap_or(or);
    use MutantId::*;
    let all = [
        ElectionVoteNotDurable,
        ElectionVoteWithoutLogCheck,
        ElectionVoteTwice,
        ReplicationCommitOldTerm,
        ReplicationQuorumOffByOne,
        ReplicationLeaderCountsBeforePersisted,
        ReplicationTruncateOnEveryAppend,
        ReplicationCommitBeyondMatched,
        KvReadWithoutBarrier,
        KvReadIndexBeforeOwnTermCommit,
    ];
    let name = args.get(3).cloned().unwrap_or_default();
    let mutant = all.into_iter().find(|id| format!("{id:?}") == name);
    let options = Options {
        seed: number(1, 0),
        seeds_max: number(2, u64::MAX),
        time_max: Some(Duration::from_secs(number(0, 10))),
        jobs: number(4, 1) as usize,
        mutants: mutant.map_or(Mutants::default(), Mutants::with),
        oracles: Vec::new(),
    };
    if name == "all" {
        for id in all {
            let started = std::time::Instant::now();
            let report = run(&Options { mutants: Mutants::with(id), ..options.clone() });
            let found = report.violation.map(|v| (v.seed, v.violation.fingerprint));
            println!("{id:?}: {found:?} {:.2?}", started.elapsed());
        }
        return;
    }
    println!("{}", serde_json::to_string_pretty(&run(&options)).unwrap());
}
