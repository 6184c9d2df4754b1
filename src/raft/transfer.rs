//! Leadership transfer (dissertation, section 3.10): an operator names the next leader.
//!
//! - The leader brings the target's log up to its own, and takes no proposals meanwhile, so that this comes to an end.
//! - Then it tells the target that its election timeout is now. The target asks for votes at once, without a
//!   pre-vote, and says why: who hears a leader votes all the same, by the same rules otherwise. So whatever is lost,
//!   late or repeated here can cost an election, and nothing else.
//! - The leader leads until it hears of the next term. After an election timeout it gives up and takes proposals again.

use super::effect::{Effect, Refusal, RequestId, Timer};
use super::message::Body;
use super::raft::{Raft, Role};
use crate::mutants::MutantId;
use crate::types::NodeId;

/// A transfer that a leader has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Transfer {
    /// The request that asked for it.
    pub id: RequestId,
    /// Who is to lead next.
    pub to: NodeId,
}

impl Raft {
    /// An operator wants `to` to lead.
    pub(super) fn transfer(&mut self, id: RequestId, to: NodeId, out: &mut Vec<Effect>) {
        let is_voter = self.membership().is_voter(to);
        let refusal = match &mut self.role {
            Role::Leader(leader) => match leader.transfer {
                Some(under_way) => Refusal::Transferring(under_way.to),
                None if !is_voter => Refusal::NotVoter,
                None if to == self.config.id => {
                    return out.push(Effect::TransferEnded { id, given_up: false });
                }
                None => {
                    leader.transfer = Some(Transfer { id, to });
                    // A whole election timeout from now on.
                    out.push(Effect::Arm(Timer::Election));
                    self.send_append(to, false, out);
                    return self.transfer_if_ready(to, out);
                }
            },
            _ => Refusal::NotLeader(self.leader),
        };
        out.push(Effect::Refused { id, reason: refusal });
    }

    /// Something was heard of `member`: if leadership is to go there and it lacks nothing, its time has come. Said
    /// again with each answer, because it may be lost.
    pub(super) fn transfer_if_ready(&mut self, member: NodeId, out: &mut Vec<Effect>) {
        let last = self.log.last().index;
        let Role::Leader(leader) = &self.role else { return };
        if leader.transfer.is_none_or(|transfer| transfer.to != member) {
            return;
        }
        let holds_all = leader.progress.get(&member).is_some_and(|progress| progress.matched == last);
        if holds_all || self.config.mutants.is(MutantId::ElectionTransferToLagging) {
            self.send(member, Body::TimeoutNow, out);
        }
    }

    /// The target has not taken over in time.
    pub(super) fn give_up_transfer(&mut self, out: &mut Vec<Effect>) {
        if let Role::Leader(leader) = &mut self.role
            && let Some(transfer) = leader.transfer.take()
        {
            out.push(Effect::TransferEnded { id: transfer.id, given_up: true });
        }
    }

    /// The leader wants us to lead.
    pub(super) fn timeout_now(&mut self, from: NodeId, out: &mut Vec<Effect>) {
        let stale = self.config.mutants.is(MutantId::ElectionStaleTimeoutNow) && !self.is_leader();
        if (self.follow(from, out) || stale) && self.membership().is_voter(self.config.id) {
            self.leader = None;
            self.campaign(true, out);
        }
    }
}
