//! The oracles: every property that a run is judged by, with its stable id.

use crate::scenario::Cluster;

/// A property that a run is judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Oracle {
    /// Its stable id.
    pub id: &'static str,
    /// What holds.
    pub about: &'static str,
}

/// The oracle of scenarios that have steps; it judges no others.
pub const SCRIPT: &str = "sim.script";

/// Every oracle.
pub const ORACLES: &[Oracle] = &[
    Oracle { id: "raft.election_safety", about: "at most one leader per term" },
    Oracle { id: "raft.leader_append_only", about: "a leader never changes or removes an entry of its log" },
    Oracle { id: "raft.log_matching", about: "same index and term: same entry and same prefix" },
    Oracle { id: "raft.leader_completeness", about: "a committed entry is in the log of every later leader" },
    Oracle { id: "raft.state_machine_safety", about: "no two nodes apply different entries at one index" },
    Oracle {
        id: "raft.commit_current_term",
        about: "commit by counting only for entries of the leader's term",
    },
    Oracle { id: "raft.vote_once", about: "one vote per term, durable before it is answered" },
    Oracle { id: "raft.pre_vote", about: "a term is raised only after a quorum said that it would vote" },
    Oracle { id: "raft.check_quorum", about: "a leader that hears no quorum stops leading" },
    Oracle {
        id: "raft.transfer",
        about: "leadership goes to who holds everything, and no proposal is taken meanwhile",
    },
    Oracle { id: "raft.monotonic", about: "term, commit and applied never go back" },
    Oracle { id: "raft.ack_durable", about: "what is acknowledged was durable before the answer left" },
    Oracle {
        id: "raft.read_index",
        about: "a read returns nothing older than what was committed when it came",
    },
    Oracle { id: "raft.snapshot", about: "a snapshot equals the state at its index" },
    Oracle {
        id: "ctrler.deterministic",
        about: "all controllers make the same configs, and answer with them",
    },
    Oracle {
        id: "ctrler.balanced",
        about: "every shard is at a joined group, and shares are as level as pins allow",
    },
    Oracle { id: "ctrler.minimal", about: "no more shards move than the shares demand" },
    Oracle { id: "ctrler.refused", about: "a config is what its command says, and a bad command makes none" },
    Oracle { id: "ctrler.linearizable", about: "what operators are told fits one order of all configs" },
    Oracle {
        id: "shard.single_owner",
        about: "one group at most serves a shard of an epoch, and takes its writes",
    },
    Oracle {
        id: "shard.no_loss",
        about: "a shard's data is at the old owner until the new one has committed it",
    },
    Oracle { id: "shard.config_order", about: "groups adopt the configs one by one, in order" },
    Oracle {
        id: "shard.no_leak",
        about: "in the end a store holds the shards that its group owns, and no others",
    },
    Oracle { id: "kv.exactly_once", about: "a (session, number) takes effect at most once" },
    Oracle { id: "kv.linearizable", about: "the history of the clients is linearizable" },
    Oracle { id: "kv.durability", about: "every acknowledged write is readable at the end" },
    Oracle { id: "kv.replicas_equal", about: "replicas at the same applied index hold the same state" },
    Oracle {
        id: "sim.liveness",
        about: "once faults stop there is a leader, and operations are acknowledged",
    },
    Oracle { id: SCRIPT, about: "every step of a scenario's script holds, within its bounds" },
    Oracle { id: "sim.exit", about: "no node stops by itself unless its disk failed" },
    Oracle { id: "sim.panic", about: "no node panics" },
    Oracle { id: "sim.no_lost_wakeup", about: "no run ends because every task waits for ever" },
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
