//! Planted bugs: the testbed's own exam.
//!
//! A mutant is a small bug that is switched on by the configuration of one node, never by a global, so runs with
//! different mutants share a process. Code asks `self.mutants.is(MutantId::…)` where the bug would sit.
//!
//! - Without the feature `mutants`, [`Mutants`] has no size, `is` is the constant `false`, and neither an id nor a
//!   description exists: a release binary holds no trace of them. `Debug` of [`MutantId`] is gated for that reason.
//! - `Mutants` prints the same in both builds as long as no mutant is active, so golden output does not change.

/// Where a mutant can be seen, cheapest first.
#[cfg(feature = "mutants")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layer {
    /// Golden scripts, unit and property tests of one module.
    Unit,
    /// The random scheduler over several pure cores.
    Core,
    /// The model checker over the pure core.
    Model,
    /// The simulated cluster: driver, services, disk, network.
    Simulation,
}

/// What is known of a mutant.
#[cfg(feature = "mutants")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mutant {
    /// Which one.
    pub mutant: MutantId,
    /// Its stable name, `group.name`.
    pub id: &'static str,
    /// The part of the system that it sits in.
    pub group: &'static str,
    /// What the planted bug does.
    pub description: &'static str,
    /// The invariant that catches it at its cheapest layer, most often, as the committed exam says.
    pub oracle: &'static str,
    /// Where it can be seen, cheapest first.
    pub layers: &'static [Layer],
    /// Where the real world had it.
    pub seen_in: &'static str,
}

/// One list makes the ids and the catalogue, so that neither can lack an entry of the other.
macro_rules! catalogue {
    ($($mutant:ident = $group:literal . $name:literal, caught by $oracle:literal at [$($layer:ident),+],
        $description:literal, seen in $seen_in:literal;)+) => {
        /// Names a planted bug.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum MutantId {
            $(#[doc = $description] $mutant,)+
        }

        /// Every mutant, in the order of its group.
        #[cfg(feature = "mutants")]
        pub const CATALOGUE: &[Mutant] = &[
            $(Mutant {
                mutant: MutantId::$mutant,
                id: concat!($group, ".", $name),
                group: $group,
                description: $description,
                oracle: $oracle,
                layers: &[$(Layer::$layer),+],
                seen_in: $seen_in,
            },)+
        ];
    };
}

catalogue! {
    ElectionVoteNotDurable = "election"."vote_not_durable", caught by "raft.vote_once" at [Core, Model, Simulation],
        "A vote is answered before it is on disk; after a crash the node votes again in the same term.",
        seen in "hashicorp/raft#661, wenweihu86/raft-java#57";
    ElectionVoteWithoutLogCheck = "election"."vote_without_log_check", caught by "raft.leader_completeness" at
        [Unit, Core],
        "A vote is granted to a candidate whose log lacks entries of the voter's.",
        seen in "ktoso/akka-raft#51";
    ElectionVoteTwice = "election"."vote_twice", caught by "raft.vote_once" at [Unit, Core, Model, Simulation],
        "The vote already given in this term is forgotten when a second candidate asks.",
        seen in "hazelcast/hazelcast#16643, etcd-io/etcd#2461, ktoso/akka-raft#56";
    ElectionVoteRequestedBeforeDurable = "election"."vote_requested_before_durable", caught by "raft.vote_once" at
        [Unit, Core],
        "A candidate asks for votes while its term and its own vote are still on their way to the disk.",
        seen in "ongardie/raft.tla#5: with the term not persisted, a term has two leaders";
    ElectionStaleVoteCounted = "election"."stale_vote_counted", caught by "raft.election_safety" at
        [Unit, Core, Model],
        "A vote that was given in an earlier term is counted in the current one.",
        seen in "andreev-io/little-raft#44, ktoso/akka-raft#46, eatonphil/raft-rs#3";
    ElectionNoStepDown = "election"."no_step_down", caught by "raft.election_safety" at
        [Unit, Core, Model],
        "A leader that hears of a later term takes the term over and goes on leading.",
        seen in "class of camunda/camunda#1068 and xnnyygn/xraft#33: two leaders in one term";
    ElectionNoPreVote = "election"."no_pre_vote", caught by "raft.pre_vote" at [Unit, Core],
        "A node raises its term at its timeout without asking whether it would win; one that was cut off deposes a \
         working leader when it comes back.",
        seen in "canonical/raft#65, tarantool/tarantool#6654, apache/ratis#161";
    ElectionNoCheckQuorum = "election"."no_check_quorum", caught by "raft.check_quorum" at [Unit, Core],
        "A leader that hears no quorum leads on, and takes proposals that it can never commit.",
        seen in "allengeorge/libraft#6, valkey-io/valkey#3916";
    ElectionTransferToLagging = "election"."transfer_to_lagging", caught by "raft.transfer" at [Unit, Core],
        "The target of a transfer is told to campaign although its log lacks entries; it loses, and nobody leads.",
        seen in "redpanda-data/redpanda#2606, hashicorp/raft#487";
    ElectionTransferVoteWithoutLogCheck = "election"."transfer_vote_without_log_check", caught by
        "raft.leader_completeness" at [Unit, Core],
        "A vote that the leader wants is given without a look at the log; an order that came late elects a node \
         without committed entries.",
        seen in "class of eBay/NuRaft#185: committed entries rolled back";
    ElectionProposalsDuringTransfer = "election"."proposals_during_transfer", caught by "raft.transfer" at
        [Unit, Core],
        "Proposals are taken while leadership is on its way, so the target never catches up.",
        seen in "hashicorp/raft#581";
    ElectionStaleTimeoutNow = "election"."stale_timeout_now", caught by "raft.pre_vote" at [Unit, Core],
        "An order to campaign is obeyed although it is of an earlier term: a working leader is deposed.",
        seen in "class of tikv/raft-rs#234 and databendlabs/openraft#1806";
    ElectionTimerNotRandomised = "election"."timer_not_randomised", caught by "sim.liveness" at [Simulation],
        "Every node waits equally long for a leader, so they ask for votes at the same time, again and again.",
        seen in "goraft/raft#13, class of baidu/braft#464";
    ReplicationCommitOldTerm = "replication"."commit_old_term", caught by "raft.commit_current_term" at
        [Unit, Core, Model, Simulation],
        "Entries of earlier terms are committed by counting their replicas.",
        seen in "Raft figure 8; logcabin/logcabin#44, async-raft/async-raft#108, canonical/raft#220";
    ReplicationQuorumOffByOne = "replication"."quorum_off_by_one", caught by "raft.ack_durable" at
        [Unit, Core, Model, Simulation],
        "One member less than a majority commits an entry.",
        seen in "eRaft: half of an even number of members commits";
    ReplicationLeaderCountsBeforePersisted = "replication"."leader_counts_before_persisted", caught by
        "raft.ack_durable" at [Unit, Core, Model, Simulation],
        "A leader counts its own log towards the majority before that part of it is on disk.",
        seen in "etcd-io/etcd#14370";
    ReplicationTruncateOnEveryAppend = "replication"."truncate_on_every_append", caught by "raft.ack_durable" at
        [Unit, Core, Model, Simulation],
        "A follower cuts its log at every append; a delayed duplicate removes entries it has acknowledged.",
        seen in "lerna-stack/akka-entity-replication#152, vesoft-inc/nebula#5905, class of databendlabs/openraft#511";
    ReplicationCommitBeyondMatched = "replication"."commit_beyond_matched", caught by "raft.state_machine_safety" at
        [Unit, Core, Simulation],
        "A follower takes over the leader's commit index beyond the prefix on which the two logs agree.",
        seen in "scylladb/scylladb#9965, atomix/copycat#265";
    ReplicationMedianOfEvenGroup = "replication"."median_of_even_group", caught by "raft.ack_durable" at
        [Core, Model],
        "The commit index is the upper median: in a group of even size half of the members commit an entry.",
        seen in "class of databendlabs/openraft#1802 and async-raft/async-raft#143; eRaft";
    ReplicationMatchFromRejection = "replication"."match_from_rejection", caught by "raft.ack_durable" at
        [Core],
        "The position that a follower rejected is taken for one that it holds.",
        seen in "class of adjoint-io/raft#130 and adjoint-io/raft#86";
    ReplicationNoConsistencyCheck = "replication"."no_consistency_check", caught by "raft.log_matching" at
        [Unit, Core, Model],
        "A follower appends after an entry of another term than the one that the leader names.",
        seen in "ktoso/akka-raft#32, ktoso/akka-raft#59";
    ReplicationBacktrackingStopsShort = "replication"."backtracking_stops_short", caught by "raft.liveness" at
        [Unit, Core],
        "After a rejection the leader tries the same place again, for ever.",
        seen in "cubefs/cubefs#2428, KanishJebaMathewM/Truxify#11252";
    ReplicationApplyBeforePersisted = "replication"."apply_before_persisted", caught by "raft.ack_durable" at
        [Unit, Core],
        "A committed entry is applied before it is durable here; the state runs ahead of the log.",
        seen in "class of cockroachdb/cockroach#88699 and sile/noraft#27";
    SnapshotOlderInstalled = "snapshot"."older_installed", caught by "raft.monotonic" at [Unit, Core],
        "A snapshot that is older than the state is installed over it.",
        seen in "databendlabs/openraft#543, etcd-io/etcd#1837, eBay/NuRaft#407";
    SnapshotConflictingTailKept = "snapshot"."conflicting_tail_kept", caught by "raft.liveness" at [Unit, Core],
        "Entries after a snapshot's position stay although the log holds another term there.",
        seen in "hashicorp/raft#704, databendlabs/openraft#559; figure 13, rule 6";
    SnapshotSessionsMissing = "snapshot"."sessions_missing", caught by "raft.state_machine_safety" at [Simulation],
        "A received snapshot is stored without its sessions; a retry after it is executed again.",
        seen in "class of atomix/atomix#341 and atomix/atomix#1101";
    SnapshotLogCutTooFar = "snapshot"."log_cut_too_far", caught by "sim.exit" at [Simulation],
        "The log is compacted up to what is applied, durable or not; after a crash entries are missing.",
        seen in "class of hashicorp/raft#85 and hashicorp/raft#86";
    SnapshotLogResetFirst = "snapshot"."log_reset_first", caught by "sim.exit" at [Simulation],
        "The log is reset to a snapshot before the state is switched to it; a crash between loses the state.",
        seen in "class of hashicorp/raft#85: a log that begins after the state ends";
    DiskTornTailAccepted = "disk"."torn_tail_accepted", caught by "kv.durability" at [Unit],
        "A torn record at the end of a log is left there; what is written after it is lost at the next start.",
        seen in "pmcfadin/cqlite#1390, amelielabs/amelie#17";
    DiskFullIsSuccess = "disk"."full_is_success", caught by "raft.vote_once" at [Simulation],
        "A write for which there was no space counts as done.",
        seen in "JDRaftKeeper/RaftKeeper#287, class of cockroachdb/cockroach#32631";
    DiskRenameBeforeSync = "disk"."rename_before_sync", caught by "sim.exit" at [Simulation],
        "The name of the state is switched to a received snapshot while its last write is under way.",
        seen in "RedisLabs/redisraft#548, ArcadeData/arcadedb#4830";
    DiskReplyBeforeSync = "disk"."reply_before_sync", caught by "raft.ack_durable" at [Simulation],
        "The driver sends the replies of a write while it is still under way.",
        seen in "robustmq/robustmq#2039, deventlab/d-engine#447";
    DiskChecksumIgnored = "disk"."checksum_ignored", caught by "raft.state_machine_safety" at
        [Unit, Simulation],
        "Nobody compares checksums: a bit that has turned on the disk is read as it is.",
        seen in "eRaft: LevelDB with its defaults opens a log with a flipped bit, and entries are gone from the middle";
    DiskDamagedLogWiped = "disk"."damaged_log_wiped", caught by "raft.vote_once" at [Simulation],
        "A replica whose log is damaged starts with an empty one under its old id, and votes again.",
        seen in "lni/dragonboat#256, cockroachdb/cockroach#756";
    DiskStateAndIndexInTwoBatches = "disk"."state_and_index_in_two_batches", caught by "raft.state_machine_safety" at
        [Simulation],
        "The applied index is written in a batch of its own, before the keys; a crash between them loses applied entries.",
        seen in "etcd-io/etcd#13766; eRaft keeps no applied index at all";
    KvNoDedup = "kv"."no_dedup", caught by "kv.exactly_once" at [Unit, Model, Simulation],
        "A retried request is executed again although its reply is in its session.",
        seen in "tidwall/summitdb#5, databendlabs/openraft#2095, fluree/db#1839";
    KvDedupWithoutSession = "kv"."dedup_without_session", caught by "kv.linearizable" at [Unit, Simulation],
        "Replies are remembered by number alone: a request gets the reply of another client's request.",
        seen in "class of ydb-platform/nbs#2033";
    KvDedupNotReplicated = "kv"."dedup_not_replicated", caught by "raft.state_machine_safety" at [Simulation],
        "Only one node remembers the replies; after a change of leaders a retry is executed again.",
        seen in "class of ShahriyarR/py-distributed-kv#7: replies are cached where the request came in";
    KvReplyOfAnother = "kv"."reply_of_another", caught by "kv.linearizable" at [Unit, Simulation],
        "Who waits for an index gets the reply of whatever is applied there.",
        seen in "eRaft: replies are handed out by index alone";
    KvReplyBeforeLog = "kv"."reply_before_log", caught by "kv.linearizable" at [Simulation],
        "The outcome of a compare-and-swap is computed when it is proposed, and told when it is applied.",
        seen in "proposed in etcd-io/etcd#4226";
    KvEvictedExecuted = "kv"."evicted_executed", caught by "kv.sessions_bounded" at [Unit, Model],
        "A request of a session that is not in the table is executed, in a new one.",
        seen in "atomix/copycat#140";
    KvReadWithoutBarrier = "kv"."read_without_barrier", caught by "raft.read_index" at [Core, Model, Simulation],
        "A node that believes to lead answers a read from its memory without asking a majority.",
        seen in "etcd-io/etcd#741 (found by Jepsen), deventlab/d-engine#381";
    KvReadIndexBeforeOwnTermCommit = "kv"."read_index_before_own_term_commit", caught by "raft.read_index" at
        [Core, Simulation],
        "A new leader serves reads at its commit index before it has committed an entry of its own term.",
        seen in "etcd-io/etcd#7331, RedisLabs/redisraft#22";
    KvReadByLease = "kv"."read_by_lease", caught by "raft.read_index" at [Core],
        "A leader that heard a quorum since its last check answers reads without asking it: a lease on clocks that may \
         run apart.",
        seen in "tikv/tikv#964, sofastack/sofa-jraft#34";
    AsyncCancelledAnswersAnother = "async"."cancelled_answers_another", caught by "kv.linearizable" at [Simulation],
        "The number of a request that was given up is used again at once; its late answer goes to another request.",
        seen in "appcues/mojito#32, ledgetech/lua-resty-http#138";
    AsyncPersistErrorIgnored = "async"."persist_error_ignored", caught by "raft.vote_once" at [Simulation],
        "A failed write counts as done.",
        seen in "JDRaftKeeper/RaftKeeper#321, class of dotnet/dotNext#100";
    AsyncPanicSwallowed = "async"."panic_swallowed", caught by "sim.liveness" at [Simulation],
        "The task that receives a snapshot ends without a word, and the node waits for it for ever.",
        seen in "pingcap/tiflash#8988, class of databendlabs/openraft#2116";
    AsyncDropIsDelivery = "async"."drop_is_delivery", caught by "raft.ack_durable" at [Simulation],
        "An append that the full queue to a peer drops counts as acknowledged.",
        seen in "class of rabbitmq/ra#202 and etcd-io/etcd#2227";
    AsyncStaleTimeout = "async"."stale_timeout", caught by "raft.monotonic" at [Unit],
        "A timer that was armed again goes off at its first deadline: a node stands for election under a leader.",
        seen in "eRaft: a timer that was overtaken makes a leader a candidate";
    AsyncDeadlineWithoutTimer = "async"."deadline_without_timer", caught by "sim.no_lost_wakeup" at [Simulation],
        "A client that waits for an answer arms no timer: if the answer is lost on a stream that works, nothing wakes it.",
        seen in "the call without a timeout that the MIT 6.824 labs warn of; no public report known";
    CtrlerHashOrder = "ctrler"."rebalance_by_hash_order", caught by "ctrler.deterministic" at [Unit, Core, Simulation],
        "Which group gets which shard depends on the order of a hash map, which differs from process to process.",
        seen in "the classic mistake of the MIT 6.824 shard controller; eRaft B32 ranges over a Go map";
    CtrlerMovesTooMany = "ctrler"."moves_too_many", caught by "ctrler.minimal" at [Unit, Core, Simulation],
        "Rebalancing deals all shards out anew and moves those that could stay.",
        seen in "eRaft: its test of minimal transfers looks at groups that do not exist";
    CtrlerLeaveDropsShard = "ctrler"."leave_drops_shard", caught by "ctrler.balanced" at [Unit, Core, Simulation],
        "One shard of a group that leaves is given to nobody.",
        seen in "the same class as eRaft B10, where shards belong to a group that does not exist";
    CtrlerOldQueryGetsLatest = "ctrler"."old_query_gets_latest", caught by "ctrler.deterministic" at
        [Unit, Core, Simulation],
        "A question for an old config is answered with the latest one.",
        seen in "eRaft B2: replicas answered the same question with different configs after a restart";
    CtrlerDuplicateJoin = "ctrler"."duplicate_join_accepted", caught by "ctrler.refused" at [Unit, Core, Simulation],
        "A group that is joined may join again, with other addresses.",
        seen in "eRaft B18: a second Join makes a config, and forgets the new servers";
    ShardkvServeBeforeArrival = "shardkv"."serve_before_arrival", caught by "shard.position" at [Unit, Core, Model, Simulation],
        "The new owner serves a shard before its data has arrived.",
        seen in "MIT 6.824 lab 4, for which its tests look; no public report known";
    ShardkvDeleteBeforeCommit = "shardkv"."delete_before_commit", caught by "shard.no_loss" at [Unit, Core, Model, Simulation],
        "The old owner is told to delete while the data is still on its way.",
        seen in "class of scalien/scaliendb#122, apache/couchdb-documentation#192";
    ShardkvSessionsNotMoved = "shardkv"."sessions_not_moved", caught by "kv.exactly_once" at [Unit, Core, Model, Simulation],
        "The sessions of a shard stay behind when it moves; a retry at the new owner is executed again.",
        seen in "MIT 6.824 lab 4, for which its tests look; no public report known";
    ShardkvSkipConfig = "shardkv"."skip_config", caught by "shard.config_order" at [Unit, Core, Model],
        "A group adopts a config without those before it.",
        seen in "MIT 6.824 lab 4, TestMissChange; no public report known";
    ShardkvPullFromNewer = "shardkv"."pull_from_newer", caught by "shard.no_loss" at [Unit, Core, Model, Simulation],
        "A source answers with the data of its newest reign, whatever reign the question is about; if the shard is on its \
         way back, that is nothing yet.",
        seen in "class of eRaft: data of other shards under the wrong one";
    ShardkvDeleteReturned = "shardkv"."delete_returned", caught by "shard.no_loss" at [Unit, Core, Model, Simulation],
        "Deleting a shard's old data also deletes that of the same shard, which has come back.",
        seen in "class of nuclia/nucliadb#3022";
    ShardkvNeverDeletes = "shardkv"."never_deletes", caught by "shard.no_loss" at [Unit, Core, Model, Simulation],
        "The record of a copy that is not needed any more goes, and its keys stay.",
        seen in "eRaft B29: what a snapshot left out stayed in the store and came back";
    ShardkvWriteWhileBePulling = "shardkv"."write_while_be_pulling", caught by "shard.single_owner" at [Unit, Core, Model, Simulation],
        "The old owner accepts writes while the shard is being pulled from it.",
        seen in "class of mongodb/mongo#1819";
    ShardkvUnaffectedBlocked = "shardkv"."unaffected_blocked", caught by "sim.liveness" at [Unit, Core],
        "No config is adopted while any shard is on its way, so one dead source blocks all.",
        seen in "eRaft, kophy/6.824#3";
}

/// The planted bug of one node, if it has one. The default has none.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Mutants {
    #[cfg(feature = "mutants")]
    active: Option<MutantId>,
    #[cfg(feature = "mutants")]
    process: u64,
}

impl Mutants {
    /// True if the bug `mutant` is switched on; the constant `false` without the feature `mutants`.
    #[cfg(feature = "mutants")]
    pub fn is(self, mutant: MutantId) -> bool {
        self.active == Some(mutant)
    }

    /// True if the bug `mutant` is switched on; the constant `false` without the feature `mutants`.
    #[cfg(not(feature = "mutants"))]
    #[inline(always)]
    pub const fn is(self, _mutant: MutantId) -> bool {
        false
    }
}

impl Mutants {
    /// The same in another process: what may differ between processes, such as the order of a hash map, then does.
    #[cfg(feature = "mutants")]
    pub const fn in_process(self, process: u64) -> Self {
        Self { process, ..self }
    }

    /// The same in another process; there is nothing that could differ.
    #[cfg(not(feature = "mutants"))]
    pub const fn in_process(self, _process: u64) -> Self {
        self
    }

    /// What tells this process apart.
    #[cfg(feature = "mutants")]
    pub(crate) const fn process(self) -> u64 {
        self.process
    }

    /// What tells this process apart: nothing.
    #[cfg(not(feature = "mutants"))]
    pub(crate) const fn process(self) -> u64 {
        0
    }
}

impl std::fmt::Debug for Mutants {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        #[cfg(feature = "mutants")]
        if let Some(mutant) = self.active {
            return write!(f, "Mutants({mutant})");
        }
        f.write_str("Mutants")
    }
}

#[cfg(feature = "mutants")]
mod naming {
    use super::{CATALOGUE, Mutant, MutantId, Mutants};
    use std::fmt;
    use std::str::FromStr;

    impl Mutants {
        /// With exactly this bug.
        pub const fn with(mutant: MutantId) -> Self {
            Self { active: Some(mutant), process: 0 }
        }

        /// The bug that is switched on.
        pub const fn active(self) -> Option<MutantId> {
            self.active
        }
    }

    impl MutantId {
        /// What is known of it.
        pub fn describe(self) -> &'static Mutant {
            // One macro writes the enum and the catalogue in the same order; a test compares them.
            &CATALOGUE[self as usize]
        }
    }

    impl fmt::Display for MutantId {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.describe().id)
        }
    }

    impl fmt::Debug for MutantId {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.describe().id)
        }
    }

    /// No mutant has this name.
    #[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
    #[error("there is no mutant `{asked}`; there are {}", ids())]
    pub struct UnknownMutant {
        /// What was asked for.
        pub asked: String,
    }

    fn ids() -> String {
        CATALOGUE.iter().map(|mutant| mutant.id).collect::<Vec<_>>().join(", ")
    }

    impl FromStr for MutantId {
        type Err = UnknownMutant;

        fn from_str(asked: &str) -> Result<Self, UnknownMutant> {
            let found = CATALOGUE.iter().find(|mutant| mutant.id == asked);
            found.map(|mutant| mutant.mutant).ok_or_else(|| UnknownMutant { asked: asked.to_string() })
        }
    }
}

#[cfg(feature = "mutants")]
pub use naming::UnknownMutant;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_mutant_nothing_is_active_and_the_debug_form_is_that_of_both_builds() {
        assert!(!Mutants::default().is(MutantId::KvNoDedup));
        assert_eq!(format!("{:?}", Mutants::default()), "Mutants");
    }

    #[cfg(not(feature = "mutants"))]
    #[test]
    fn without_the_feature_mutants_take_no_space_and_is_is_a_constant() {
        const NEVER: bool = Mutants {}.is(MutantId::ElectionVoteTwice);
        assert_eq!((std::mem::size_of::<Mutants>(), NEVER), (0, false));
    }

    #[cfg(feature = "mutants")]
    mod catalogue {
        use super::super::*;
        use std::collections::BTreeSet;

        #[test]
        fn every_id_is_unique_well_formed_and_parses_to_itself() {
            let mut seen = BTreeSet::new();
            for mutant in CATALOGUE {
                assert!(seen.insert(mutant.id), "{} is there twice", mutant.id);
                assert_eq!(mutant.id.split_once('.').map(|(group, _)| group), Some(mutant.group));
                assert!(mutant.id.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b == b'.'));
                assert_eq!(mutant.id.parse(), Ok(mutant.mutant));
                assert_eq!(mutant.mutant.describe(), mutant);
            }
        }

        #[test]
        fn every_entry_says_what_catches_it_where_and_who_had_it() {
            for mutant in CATALOGUE {
                assert!(mutant.description.ends_with('.') && !mutant.seen_in.is_empty(), "{}", mutant.id);
                let kind = mutant.oracle.split_once('.').map(|(kind, _)| kind);
                assert!(
                    kind.is_some_and(|kind| ["raft", "kv", "ctrler", "shard", "sim"].contains(&kind)),
                    "{}",
                    mutant.id
                );
                assert!(
                    mutant.layers.is_sorted() && !mutant.layers.is_empty(),
                    "{}: cheapest first",
                    mutant.id
                );
            }
        }

        #[test]
        fn an_active_mutant_is_the_only_one_and_shows() {
            let mutants = Mutants::with(MutantId::KvNoDedup);
            let active: Vec<_> = CATALOGUE.iter().filter(|mutant| mutants.is(mutant.mutant)).collect();
            assert_eq!(active.len(), 1);
            assert_eq!(format!("{mutants:?}"), "Mutants(kv.no_dedup)");
        }

        #[test]
        fn an_unknown_name_is_refused_with_the_names_that_there_are() {
            let error = "kv.nodedup".parse::<MutantId>().unwrap_err().to_string();
            assert!(
                error.starts_with("there is no mutant `kv.nodedup`; there are election.vote_not_durable, ")
            );
            assert!(CATALOGUE.iter().all(|mutant| error.contains(mutant.id)));
        }
    }
}
