//! Replication (section 5.3) and commitment (section 5.4.2).
//!
//! - A leader's appends leave before they are durable at the leader (dissertation, section 10.2.1); it counts
//!   itself only up to what is durable.
//! - A follower acknowledges only what is durable there, and only up to the entries that the append proved.
//! - A follower truncates only at a real conflict: an append that arrives late and is already contained changes
//!   nothing.
//! - Only entries of the leader's own term are committed by counting; earlier ones with them (figure 8).

use bytes::Bytes;

use super::effect::{Effect, Refusal, RequestId, Timer};
use super::message::{Body, Entry, Payload, Position};
use super::progress::Flow;
use super::quorum;
use super::raft::{Leader, Raft, Role};
use crate::mutants::MutantId;
use crate::types::{Index, NodeId};

impl Raft {
    // ---- the leader's side ----

    pub(super) fn propose(&mut self, commands: Vec<(RequestId, Bytes)>, out: &mut Vec<Effect>) {
        let refusal = match &self.role {
            Role::Leader(leader) => match leader.transfer {
                Some(transfer) if !self.config.mutants.is(MutantId::ElectionProposalsDuringTransfer) => {
                    Some(Refusal::Transferring(transfer.to))
                }
                _ => self.is_full(leader).then_some(Refusal::Overloaded),
            },
            _ => Some(Refusal::NotLeader(self.leader)),
        };
        if let Some(reason) = refusal {
            out.extend(commands.into_iter().map(|(id, _)| Effect::Refused { id, reason }));
            return;
        }
        let mut index = self.log.last().index;
        let mut payloads = Vec::with_capacity(commands.len());
        for (id, command) in commands {
            index = index.next();
            out.push(Effect::Proposed { id, position: Position { index, term: self.hard.term } });
            payloads.push(Payload::Command(command));
        }
        self.append_own(payloads, out);
        self.send_appends(out);
        if self.config.mutants.is(MutantId::ReplicationLeaderCountsBeforePersisted) {
            self.maybe_commit(out);
        }
    }

    /// Whether too much of what this leader appended waits.
    fn is_full(&self, leader: &Leader) -> bool {
        let waiting = self.log.last().index.0 - self.applying.max(leader.opened_at.previous()).0;
        leader.uncommitted_bytes >= self.config.uncommitted_bytes_max
            || waiting >= self.config.uncommitted_entries_max
    }

    pub(super) fn send_appends(&mut self, out: &mut Vec<Effect>) {
        for peer in self.peers() {
            self.send_append(peer, false, out);
        }
    }

    /// Sends `to` what it lacks, as far as the window allows. `probe`: send something even if there is nothing
    /// new, to learn where its log ends.
    pub(super) fn send_append(&mut self, to: NodeId, probe: bool, out: &mut Vec<Effect>) {
        let mut probe = probe;
        loop {
            let Role::Leader(leader) = &mut self.role else { return };
            let Some(progress) = leader.progress.get_mut(&to) else { return };
            if !probe && !progress.may_send(self.config.window) {
                return;
            }
            let previous = progress.next.previous();
            let Some(term) = self.log.term_at(previous) else {
                if progress.flow != Flow::Snapshot {
                    progress.needs_snapshot();
                    out.push(Effect::SendSnapshot { to, term: self.hard.term });
                }
                return;
            };
            let room = progress.may_send(self.config.window);
            let entries_max = if room { self.config.append_entries_max } else { 0 };
            let entries = self.log.batch(progress.next, entries_max, self.config.append_bytes_max);
            let probing = matches!(progress.flow, Flow::Probe { .. });
            if entries.is_empty() && !probe && !probing {
                return;
            }
            let bytes = entries.iter().map(Entry::bytes).sum();
            progress.sent(Index(previous.0 + entries.len() as u64), bytes);
            let previous = Position { index: previous, term };
            let more = !entries.is_empty();
            self.send(to, Body::Append { previous, entries, commit: self.commit }, out);
            if !more || probing {
                return;
            }
            probe = false;
        }
    }

    pub(super) fn append_accepted(&mut self, from: NodeId, matched: Index, out: &mut Vec<Effect>) {
        let last = self.log.last().index;
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&from) else { return };
        if matched > last {
            return;
        }
        progress.active = true;
        if progress.accepted(matched) {
            self.maybe_commit(out);
            self.apply_committed(out);
        }
        self.send_append(from, false, out);
        self.transfer_if_ready(from, out);
    }

    pub(super) fn append_rejected(
        &mut self,
        from: NodeId,
        previous: Index,
        conflict: Position,
        out: &mut Vec<Effect>,
    ) {
        let mutants = self.config.mutants;
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&from) else { return };
        progress.active = true;
        if mutants.is(MutantId::ReplicationMatchFromRejection) {
            progress.accepted(previous);
            return self.maybe_commit(out);
        }
        // Up to the follower's last entry of the conflicting term nothing later than that term can agree: go on
        // from our own last entry of a term that is not later. A whole term is skipped per round trip.
        let next = if conflict.term.0 == 0 {
            conflict.index
        } else {
            let own = self.log.last_up_to_term(previous, conflict.term);
            if self.log.term_at(own) == Some(conflict.term) {
                own.next()
            } else {
                conflict.index.min(own.next())
            }
        };
        if progress.rejected(previous, next) {
            if mutants.is(MutantId::ReplicationBacktrackingStopsShort) {
                progress.next = previous.next();
            }
            self.send_append(from, true, out);
        }
    }

    /// Commits what a quorum holds durably, if it is of the current term.
    pub(super) fn maybe_commit(&mut self, out: &mut Vec<Effect>) {
        let Role::Leader(leader) = &self.role else { return };
        let mutants = self.config.mutants;
        let own = if mutants.is(MutantId::ReplicationLeaderCountsBeforePersisted) {
            self.log.last().index
        } else {
            self.writes.durable()
        };
        let matched = |node| {
            if node == self.config.id {
                own
            } else {
                leader.progress.get(&node).map_or(Index(0), |progress| progress.matched)
            }
        };
        let size = |voters: usize| {
            let one_less = mutants.is(MutantId::ReplicationQuorumOffByOne)
                || (mutants.is(MutantId::ReplicationMedianOfEvenGroup) && voters.is_multiple_of(2));
            quorum::majority(voters) - usize::from(one_less)
        };
        let index = quorum::kth_highest(self.membership(), matched, size);
        let current =
            self.log.term_at(index) == Some(self.hard.term) || mutants.is(MutantId::ReplicationCommitOldTerm);
        if index > self.commit && current {
            self.commit = index;
            self.confirm_reads(out);
        }
    }

    pub(super) fn heartbeat_timeout(&mut self, out: &mut Vec<Effect>) {
        if self.is_leader() {
            out.push(Effect::Arm(Timer::Heartbeat));
            self.send_heartbeats(out);
        }
    }

    pub(super) fn send_heartbeats(&mut self, out: &mut Vec<Effect>) {
        let Role::Leader(leader) = &self.role else { return };
        let round = leader.reads.round();
        let mutant = self.config.mutants.is(MutantId::ReplicationCommitBeyondMatched);
        for (to, progress) in &leader.progress {
            let commit = if mutant { self.commit } else { self.commit.min(progress.matched) };
            self.send(*to, Body::Heartbeat { commit, round }, out);
        }
    }

    pub(super) fn heartbeat_answered(
        &mut self,
        from: NodeId,
        round: u64,
        lacks_state: bool,
        out: &mut Vec<Effect>,
    ) {
        let last = self.log.last().index;
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&from) else { return };
        progress.heartbeat_answered();
        leader.reads.answered(from, round);
        // Behind, and nothing came of what was sent: it may be lost.
        let moved = std::mem::take(&mut progress.moved);
        let stuck = progress.matched < last && !moved;
        if lacks_state && progress.flow != Flow::Snapshot {
            // Its log goes on meanwhile: the entries after the snapshot's need not be sent again.
            out.push(Effect::SendSnapshot { to: from, term: self.hard.term });
        }
        self.send_append(from, stuck, out);
        self.transfer_if_ready(from, out);
        self.confirm_reads(out);
    }

    // ---- the follower's side ----

    pub(super) fn append(
        &mut self,
        from: NodeId,
        previous: Position,
        mut entries: Vec<Entry>,
        commit: Index,
        out: &mut Vec<Effect>,
    ) {
        if !self.follow(from, out) {
            return;
        }
        if !is_consecutive(previous, &entries) {
            return; // a malformed message is lost, as far as we are concerned
        }
        let unchecked = self.config.mutants.is(MutantId::ReplicationNoConsistencyCheck)
            && self.log.entry(previous.index).is_some();
        if !unchecked && !self.log.matches(previous) {
            let conflict = self.conflict_at(previous.index);
            return self.send(from, Body::AppendRejected { previous: previous.index, conflict }, out);
        }
        let matched = Index(previous.index.0 + entries.len() as u64);
        self.take_over(&mut entries, out);
        let known = if self.config.mutants.is(MutantId::ReplicationCommitBeyondMatched) {
            commit.min(self.log.last().index)
        } else {
            commit.min(matched)
        };
        self.commit = self.commit.max(known);
        self.send_durable(from, Body::AppendAccepted { matched: matched.max(self.log.base().index) }, out);
        self.apply_committed(out);
    }

    /// Makes the log hold `entries`, whose predecessor it holds.
    fn take_over(&mut self, entries: &mut Vec<Entry>, out: &mut Vec<Effect>) {
        let base = self.log.base().index;
        let mutant = self.config.mutants.is(MutantId::ReplicationTruncateOnEveryAppend);
        let known = entries
            .iter()
            .take_while(|entry| entry.index <= base || self.log.term_at(entry.index) == Some(entry.term))
            .count();
        let new = entries.split_off(if mutant {
            entries.iter().filter(|e| e.index <= base).count()
        } else {
            known
        });
        let truncate_at = new.first().map(|entry| entry.index);
        let Some(first) = truncate_at.filter(|index| !new.is_empty() && *index > base) else { return };
        let truncate = (first <= self.log.last().index).then_some(first);
        if truncate.is_some() {
            assert!(
                first > self.commit || mutant,
                "an entry of term {} would replace entry {first}, which is committed at {}",
                new[0].term,
                self.config.id
            );
            self.log.truncate(first);
        }
        for entry in &new {
            self.log.push(entry.clone());
        }
        self.persist(None, truncate, new, out);
    }

    /// Where our log and the leader's may part, below `previous` (the end of section 5.3).
    fn conflict_at(&self, previous: Index) -> Position {
        match self.log.term_at(previous) {
            None => Position { index: self.log.last().index.next(), term: Default::default() },
            Some(term) => Position { index: self.log.first_of_term_at(previous), term },
        }
    }

    pub(super) fn heartbeat(&mut self, from: NodeId, commit: Index, round: u64, out: &mut Vec<Effect>) {
        if !self.follow(from, out) {
            return;
        }
        self.commit = self.commit.max(commit.min(self.log.last().index));
        let lacks_state = self.lacks_state();
        self.send(from, Body::HeartbeatReply { round, lacks_state }, out);
        self.apply_committed(out);
    }

    /// `from` says that it leads the current term. False if that cannot be: then it is not our peer.
    pub(super) fn follow(&mut self, from: NodeId, out: &mut Vec<Effect>) -> bool {
        if self.is_leader() || self.has_leader_besides(from) {
            return false;
        }
        self.become_follower(self.hard.term, Some(from), out);
        true
    }
}

fn is_consecutive(previous: Position, entries: &[Entry]) -> bool {
    let mut last = previous;
    entries.iter().all(|entry| {
        let follows = entry.index.0 == last.index.0 + 1 && entry.term >= last.term;
        last = entry.position();
        follows
    })
}
