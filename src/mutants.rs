//! placeholder
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum MutantId {
    ElectionVoteNotDurable,
    ElectionVoteWithoutLogCheck,
    ElectionVoteTwice,
    ReplicationCommitOldTerm,
    ReplicationQuorumOffByOne,
    ReplicationLeaderCountsBeforePersisted,
    ReplicationTruncateOnEveryAppend,
    ReplicationCommitBeyondMatched,
    DiskReplyBeforeSync,
    DiskStateAndIndexInTwoBatches,
    KvNoDedup,
    KvReadWithoutBarrier,
    KvReadIndexBeforeOwnTermCommit,
}
/// x
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Mutants {
    active: Option<MutantId>,
}
impl Mutants {
    /// x
    #[cfg(feature = "mutants")]
    pub fn only(id: MutantId) -> Self {
        Self { active: Some(id) }
    }
    /// x
    pub fn is(self, id: MutantId) -> bool {
        self.active == Some(id)
    }
}
