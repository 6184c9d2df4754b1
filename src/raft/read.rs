//! Linearizable reads without a log entry: ReadIndex (dissertation, section 6.4), batched.
//!
//! A read waits until (1) an entry of the leader's own term is committed, so that the commit index is up to date,
//! and (2) a quorum has answered a heartbeat that was sent after the read arrived, so that the leader was still the
//! leader then. All reads that arrive while a round is under way share the next one.

use std::collections::{BTreeMap, VecDeque};

use super::effect::{Effect, Refusal, RequestId};
use super::quorum;
use super::raft::{Raft, Role};
use crate::mutants::MutantId;
use crate::types::{Index, NodeId};

/// The reads that wait for a leader's confirmation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Reads {
    /// The latest round that was sent.
    round: u64,
    /// The reads of that round, with the index that each may read from.
    confirming: Vec<(RequestId, Index)>,
    /// Reads for the next round.
    waiting: VecDeque<RequestId>,
    /// The latest round that each peer has answered.
    answered: BTreeMap<NodeId, u64>,
}

impl Reads {
    /// The latest round.
    pub fn round(&self) -> u64 {
        self.round
    }

    /// How many reads wait.
    pub fn len(&self) -> usize {
        self.confirming.len() + self.waiting.len()
    }

    /// True if none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn answered(&mut self, from: NodeId, round: u64) {
        let latest = self.answered.entry(from).or_default();
        *latest = (*latest).max(round.min(self.round));
    }

    pub(super) fn refuse_all(&mut self, leader: Option<NodeId>, out: &mut Vec<Effect>) {
        let confirming = self.confirming.drain(..).map(|(id, _)| id);
        for id in confirming.chain(self.waiting.drain(..)) {
            out.push(Effect::Refused { id, reason: Refusal::NotLeader(leader) });
        }
    }
}

impl Raft {
    pub(super) fn read(&mut self, id: RequestId, out: &mut Vec<Effect>) {
        let reads_max = self.config.reads_max;
        let hint = self.leader;
        let Role::Leader(leader) = &mut self.role else {
            return out.push(Effect::Refused { id, reason: Refusal::NotLeader(hint) });
        };
        if leader.reads.len() >= reads_max {
            return out.push(Effect::Refused { id, reason: Refusal::Overloaded });
        }
        if self.config.mutants.is(MutantId::KvReadWithoutBarrier) {
            return out.push(Effect::ReadReady { id, index: self.applying });
        }
        if self.config.mutants.is(MutantId::KvReadByLease) {
            let (own_id, commit, membership) = (self.config.id, self.commit, self.log.membership());
            let heard = |node| node == own_id || leader.progress.get(&node).is_some_and(|peer| peer.active);
            if commit >= leader.opened_at && quorum::is_quorum(membership, heard) {
                return out.push(Effect::ReadReady { id, index: commit });
            }
        }
        leader.reads.waiting.push_back(id);
        self.confirm_reads(out);
    }

    /// Answers the reads whose round a quorum has confirmed, and starts the next round.
    pub(super) fn confirm_reads(&mut self, out: &mut Vec<Effect>) {
        loop {
            let own_id = self.config.id;
            let commit = self.commit;
            let opened = self.config.mutants.is(MutantId::KvReadIndexBeforeOwnTermCommit);
            let membership = self.log.membership();
            let Role::Leader(leader) = &mut self.role else { return };
            let opened = opened || commit >= leader.opened_at;
            let reads = &mut leader.reads;
            let confirmed = quorum::is_quorum(membership, |node| {
                node == own_id || reads.answered.get(&node).copied().unwrap_or_default() >= reads.round
            });
            if confirmed {
                let ready = reads.confirming.drain(..);
                out.extend(ready.map(|(id, index)| Effect::ReadReady { id, index }));
            }
            if !reads.confirming.is_empty() || reads.waiting.is_empty() || !opened {
                return;
            }
            reads.round += 1;
            reads.confirming = reads.waiting.drain(..).map(|id| (id, commit)).collect();
            self.send_heartbeats(out);
        }
    }
}
