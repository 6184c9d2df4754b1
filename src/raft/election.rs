//! Elections: pre-vote, votes, and a leader's check that a quorum still answers.
//!
//! - A node that hears its leader votes for nobody else, not even in a pre-vote: a node that was cut off cannot
//!   depose a working leader (dissertation, sections 4.2.3 and 9.6; eRaft could: B12).
//! - Pre-votes change nothing at the voter, so a cut-off node's term does not grow.
//! - A vote leaves only once it is durable; a candidate's own vote counts only once it is durable, and it asks for
//!   votes only once its log and term are: else it could come back with a shorter log and count answers that were
//!   given for the longer one.
//! - A candidate that its leader has named skips the pre-vote, and its votes do not wait for the leader to be gone
//!   (`transfer.rs`).
//! - A leader that has not heard from a quorum for an election timeout steps down.

use std::collections::BTreeMap;

use super::effect::{Effect, HardState, Timer};
use super::message::{Body, Message, Payload, Position};
use super::progress::Progress;
use super::quorum::{self, Outcome};
use super::raft::{Leader, Raft, Role};
use super::read::Reads;
use crate::mutants::MutantId;
use crate::types::{NodeId, Term};

impl Raft {
    pub(super) fn election_timeout(&mut self, out: &mut Vec<Effect>) {
        if self.is_leader() {
            return self.check_quorum(out);
        }
        out.push(Effect::Arm(Timer::Election));
        self.leader = None;
        if !self.membership().is_voter(self.config.id) || self.lacks_state() {
            return;
        }
        if self.config.mutants.is(MutantId::ElectionNoPreVote) {
            return self.campaign(false, out);
        }
        self.role = Role::PreCandidate { votes: BTreeMap::from([(self.config.id, true)]) };
        let message = Message { term: self.hard.term.next(), body: Body::PreVote { last: self.log.last() } };
        for to in self.voting_peers() {
            out.push(Effect::Send { to, message: message.clone(), after: None });
        }
        self.pre_vote_decided(out);
    }

    fn check_quorum(&mut self, out: &mut Vec<Effect>) {
        let own_id = self.config.id;
        let membership = self.log.membership().clone();
        let Role::Leader(leader) = &mut self.role else { return };
        let heard = |node| node == own_id || leader.progress.get(&node).is_some_and(|peer| peer.active);
        let unchecked = self.config.mutants.is(MutantId::ElectionNoCheckQuorum);
        if unchecked || quorum::is_quorum(&membership, heard) {
            leader.progress.values_mut().for_each(|peer| peer.active = false);
            out.push(Effect::Arm(Timer::Election));
            self.give_up_transfer(out);
        } else {
            self.become_follower(self.hard.term, None, out);
        }
    }

    fn voting_peers(&self) -> Vec<NodeId> {
        self.peers().into_iter().filter(|node| self.membership().is_voter(*node)).collect()
    }

    /// Someone asks whether it would win an election in `term`.
    pub(super) fn pre_vote(&mut self, from: NodeId, term: Term, last: Position, out: &mut Vec<Effect>) {
        let granted = term > self.hard.term
            && !self.has_leader_besides(from)
            && last.is_up_to_date_with(self.log.last());
        // A yes is about the term asked for; a no tells the sender our own.
        let term = if granted { term } else { self.hard.term };
        let message = Message { term, body: Body::PreVoteReply { granted } };
        out.push(Effect::Send { to: from, message, after: None });
    }

    pub(super) fn pre_vote_granted(&mut self, from: NodeId, term: Term, out: &mut Vec<Effect>) {
        if term == self.hard.term.next() {
            self.pre_vote_answered(from, true, out);
        }
    }

    pub(super) fn pre_vote_answered(&mut self, from: NodeId, granted: bool, out: &mut Vec<Effect>) {
        if let Role::PreCandidate { votes } = &mut self.role {
            votes.insert(from, granted);
            self.pre_vote_decided(out);
        }
    }

    fn pre_vote_decided(&mut self, out: &mut Vec<Effect>) {
        let Role::PreCandidate { votes } = &self.role else { return };
        match quorum::tally(self.membership(), |node| votes.get(&node).copied()) {
            Outcome::Won => self.campaign(false, out),
            Outcome::Lost => self.role = Role::Follower,
            Outcome::Pending => {}
        }
    }

    /// Asks for votes in the next term; `transfer`: because the leader wants it.
    pub(super) fn campaign(&mut self, transfer: bool, out: &mut Vec<Effect>) {
        self.hard = HardState { term: self.hard.term.next(), vote: Some(self.config.id) };
        let own_vote = self.persist(None, None, Vec::new(), out);
        self.role = Role::Candidate { votes: BTreeMap::new(), own_vote };
        out.push(Effect::Arm(Timer::Election));
        for to in self.voting_peers() {
            let body = Body::Vote { last: self.log.last(), transfer };
            if self.config.mutants.is(MutantId::ElectionVoteRequestedBeforeDurable) {
                self.send(to, body, out);
            } else {
                self.send_durable(to, body, out);
            }
        }
    }

    /// Counts a candidate's vote for itself once it is durable.
    pub(super) fn own_vote_persisted(&mut self, out: &mut Vec<Effect>) {
        if let Role::Candidate { votes, own_vote } = &mut self.role
            && !self.writes.is_pending(*own_vote)
            && votes.insert(self.config.id, true).is_none()
        {
            self.vote_decided(out);
        }
    }

    /// A candidate of the current term asks for our vote (section 5.2).
    pub(super) fn vote(&mut self, from: NodeId, last: Position, transfer: bool, out: &mut Vec<Effect>) {
        let mutants = self.config.mutants;
        let free = self.hard.vote.is_none_or(|vote| vote == from) || mutants.is(MutantId::ElectionVoteTwice);
        let up_to_date = last.is_up_to_date_with(self.log.last())
            || mutants.is(MutantId::ElectionVoteWithoutLogCheck)
            || (transfer && mutants.is(MutantId::ElectionTransferVoteWithoutLogCheck));
        // A candidate's vote is its own, a leader's was.
        let may_vote = matches!(self.role, Role::Follower | Role::PreCandidate { .. });
        let granted = free && up_to_date && may_vote;
        if granted {
            self.role = Role::Follower;
        }
        if granted && self.hard.vote != Some(from) {
            self.hard.vote = Some(from);
            if mutants.is(MutantId::ElectionVoteNotDurable) {
                out.push(Effect::Arm(Timer::Election));
                return self.send(from, Body::VoteReply { granted }, out);
            }
            self.persist(None, None, Vec::new(), out);
        }
        if granted {
            out.push(Effect::Arm(Timer::Election));
        }
        self.send_durable(from, Body::VoteReply { granted }, out);
    }

    pub(super) fn vote_answered(&mut self, from: NodeId, granted: bool, out: &mut Vec<Effect>) {
        if let Role::Candidate { votes, .. } = &mut self.role {
            votes.insert(from, granted);
            self.vote_decided(out);
        }
    }

    fn vote_decided(&mut self, out: &mut Vec<Effect>) {
        let Role::Candidate { votes, .. } = &self.role else { return };
        match quorum::tally(self.membership(), |node| votes.get(&node).copied()) {
            Outcome::Won => self.become_leader(out),
            Outcome::Lost => self.role = Role::Follower,
            Outcome::Pending => {}
        }
    }

    /// Opens the term with a no-op: only with an entry of its own term can a leader commit what it inherited
    /// (sections 5.4.2 and 8; eRaft waited for a client's request: B19).
    fn become_leader(&mut self, out: &mut Vec<Effect>) {
        let next = self.log.last().index.next();
        let progress = self.peers().into_iter().map(|peer| (peer, Progress::new(next))).collect();
        self.role = Role::Leader(Leader {
            progress,
            opened_at: next,
            reads: Reads::default(),
            uncommitted_bytes: 0,
            transfer: None,
        });
        self.leader = Some(self.config.id);
        out.push(Effect::Arm(Timer::Election));
        out.push(Effect::Arm(Timer::Heartbeat));
        self.append_own(vec![Payload::Noop], out);
        self.send_appends(out);
    }
}
