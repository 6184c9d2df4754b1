//! The oracles: every property that a run is judged by, with its stable id.

use crate::scenario::Cluster;

/// A property that a run is judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Oracle {
    /// Its stable id.
    pub id: &'static str,
    /// What holds.
    pub about: &'static str,
    /// Where it is from.
    pub source: &'static str,
}

/// The oracle of scenarios that have steps; it judges no others.
pub const SCRIPT: &str = "sim.script";

/// Every oracle.
pub const ORACLES: &[Oracle] = &[
    Oracle { id: "raft.election_safety", about: "at most one leader per term", source: "Raft, figure 3" },
    Oracle {
        id: "raft.leader_append_only",
        about: "a leader never changes or removes an entry of its log",
        source: "Raft, figure 3",
    },
    Oracle {
        id: "raft.log_matching",
        about: "same index and term: same entry and same prefix",
        source: "Raft, figure 3",
    },
    Oracle {
        id: "raft.leader_completeness",
        about: "a committed entry is in the log of every later leader",
        source: "Raft, figure 3",
    },
    Oracle {
        id: "raft.state_machine_safety",
        about: "no two nodes apply different entries at one index",
        source: "Raft, figure 3",
    },
    Oracle {
        id: "raft.commit_current_term",
        about: "commit by counting only for entries of the leader's term",
        source: "Raft, 5.4.2 and figure 8",
    },
    Oracle {
        id: "raft.vote_once",
        about: "one vote per term, durable before it is answered",
        source: "Raft, 5.2",
    },
    Oracle {
        id: "raft.pre_vote",
        about: "a term is raised only after a quorum said that it would vote",
        source: "Raft dissertation, 9.6",
    },
    Oracle {
        id: "raft.check_quorum",
        about: "a leader that hears no quorum stops leading",
        source: "Raft dissertation, 6.2",
    },
    Oracle {
        id: "raft.transfer",
        about: "leadership goes to who holds everything, and no proposal is taken meanwhile",
        source: "Raft dissertation, 3.10",
    },
    Oracle {
        id: "raft.monotonic",
        about: "term, commit and applied never go back",
        source: "Raft, figure 2",
    },
    Oracle {
        id: "raft.ack_durable",
        about: "what is acknowledged was durable before the answer left",
        source: "Raft, 5.3; dissertation, 10.2.1",
    },
    Oracle {
        id: "raft.read_index",
        about: "a read returns nothing older than what was committed when it came",
        source: "Raft dissertation, 6.4",
    },
    Oracle {
        id: "raft.snapshot",
        about: "a snapshot equals the state at its index",
        source: "Raft dissertation, 5",
    },
    Oracle {
        id: "ctrler.deterministic",
        about: "all controllers make the same configs, and answer with them",
        source: "Schneider 1990; eRaft's B2 and B32",
    },
    Oracle {
        id: "ctrler.balanced",
        about: "every shard is at a joined group, and shares are as level as pins allow",
        source: "MIT 6.824, lab 4A; eRaft's B10",
    },
    Oracle {
        id: "ctrler.minimal",
        about: "no more shards move than the shares demand",
        source: "MIT 6.824, lab 4A",
    },
    Oracle {
        id: "ctrler.refused",
        about: "a config is what its command says, and a bad command makes none",
        source: "MIT 6.824, lab 4A; eRaft's B9, B10 and B18",
    },
    Oracle {
        id: "ctrler.linearizable",
        about: "what operators are told fits one order of all configs",
        source: "Herlihy and Wing 1990",
    },
    Oracle {
        id: "shard.single_owner",
        about: "one group at most serves a shard of an epoch, and takes its writes",
        source: "MIT 6.824, lab 4B",
    },
    Oracle {
        id: "shard.no_loss",
        about: "a shard's data is at the old owner until the new one has committed it",
        source: "MIT 6.824, lab 4B, challenge 1",
    },
    Oracle {
        id: "shard.config_order",
        about: "groups adopt the configs one by one, in order",
        source: "MIT 6.824, lab 4B",
    },
    Oracle {
        id: "shard.no_leak",
        about: "in the end a store holds the shards that its group owns, and no others",
        source: "MIT 6.824, lab 4B, challenge 1",
    },
    Oracle {
        id: "kv.exactly_once",
        about: "a (session, number) takes effect at most once",
        source: "Raft dissertation, 6.3",
    },
    Oracle {
        id: "kv.linearizable",
        about: "the history of the clients is linearizable",
        source: "Herlihy and Wing 1990",
    },
    Oracle {
        id: "kv.durability",
        about: "every acknowledged write is readable at the end",
        source: "Raft, 5.3: what is committed is never lost",
    },
    Oracle {
        id: "kv.replicas_equal",
        about: "replicas at the same applied index hold the same state",
        source: "Schneider 1990",
    },
    Oracle {
        id: "sim.liveness",
        about: "once faults stop there is a leader, and operations are acknowledged",
        source: "Raft, 5.6: a leader is elected once the timing requirement holds",
    },
    Oracle {
        id: SCRIPT,
        about: "every step of a scenario's script holds, within its bounds",
        source: "the scenario itself",
    },
    Oracle {
        id: "sim.exit",
        about: "no node stops by itself unless its disk failed",
        source: "eRaft's B4: only a failed disk ends a node",
    },
    Oracle { id: "sim.panic", about: "no node panics", source: "none: a panic is a bug" },
    Oracle {
        id: "sim.no_lost_wakeup",
        about: "no run ends because every task waits for ever",
        source: "none: a deadline is one",
    },
];

/// The oracles of a cluster, by default: no configs without controllers, no keys without groups.
pub fn of(cluster: &Cluster) -> impl Iterator<Item = &'static str> {
    let (has_configs, has_keys) = (cluster.ctrlers > 0, cluster.ctrlers == 0 || cluster.groups > 0);
    ids().filter(move |id| match *id {
        "kv.linearizable" | "kv.durability" => has_keys,
        id if id.starts_with("ctrler.") => has_configs,
        id if id.starts_with("shard.") => has_configs && has_keys,
        _ => true,
    })
}

/// Every id.
pub fn ids() -> impl Iterator<Item = &'static str> {
    ORACLES.iter().map(|oracle| oracle.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Oracles that no planted bug is expected to set off, with the test that shows each of them firing.
    const SHOWN_BY_TESTS: [(&str, &str, &str); 7] = [
        ("raft.leader_append_only", include_str!("invariants/tests.rs"), "a_leader_that_truncates"),
        ("raft.snapshot", include_str!("invariants/tests.rs"), "a_snapshot_of_what_is_not_committed"),
        ("ctrler.linearizable", include_str!("invariants/configs_tests.rs"), "operators_are_told_what_fits"),
        ("shard.no_leak", include_str!("world/settle.rs"), "a_store_with_anothers_shard_or_one_twice_leaks"),
        ("kv.replicas_equal", include_str!("observer/kv.rs"), "replicas_differ_only_at_the_same_index"),
        (SCRIPT, include_str!("../tests/script.rs"), "every_claim_can_fail"),
        // Beside a planted bug, which only the core's scheduler sees.
        ("sim.panic", include_str!("../tests/determinism.rs"), "a_thread_is_refused_and_located"),
    ];

    #[test]
    fn every_oracle_has_a_planted_bug_or_a_test_that_sets_it_off() {
        for oracle in ids() {
            let is_expected = eraft::mutants::CATALOGUE.iter().any(|mutant| mutant.oracle == oracle);
            let shown = SHOWN_BY_TESTS.iter().find(|(shown, ..)| *shown == oracle);
            assert!(is_expected || shown.is_some(), "nothing shows that {oracle} can fire");
            if let Some((_, text, test)) = shown {
                assert!(text.contains(&format!("fn {test}(")) && text.contains(oracle), "{oracle}: {test}");
            }
        }
    }
}
