//! Compaction and snapshots (section 7).
//!
//! The core decides *that* a snapshot is sent, received and installed; the shell moves the bytes. A snapshot that
//! is not newer than what is committed here is refused, so an older one never replaces newer state; a node that has
//! lost its state takes any from which its log goes on. If the log
//! holds the snapshot's position, the entries after it stay; otherwise the whole log goes: its tail conflicts with
//! what the group has committed.

use super::effect::{Base, Effect, Timer};
use super::message::{Body, Position};
use super::raft::{Raft, Role};
use crate::mutants::MutantId;
use crate::types::{Index, NodeId, Term};

impl Raft {
    /// Drops entries whose effects are in the durable state. The base is written with the next batch or a batch of
    /// its own; until then the disk merely holds more.
    pub(super) fn compact(&mut self, through: Index, out: &mut Vec<Effect>) {
        let through = through.min(self.applying);
        if through > self.log.base().index {
            self.log.compact(through);
            let base = self.log.base_with_membership();
            self.persist(Some(base), None, Vec::new(), out);
        }
    }

    pub(super) fn snapshot_offered(
        &mut self,
        from: NodeId,
        term: Term,
        position: Position,
        out: &mut Vec<Effect>,
    ) {
        if term > self.hard.term {
            self.become_follower(term, None, out);
        }
        if term < self.hard.term || !self.follow(from, out) {
            return out.push(Effect::RefuseSnapshot { from, position });
        }
        if !self.is_of_use(position) && !self.config.mutants.is(MutantId::SnapshotOlderInstalled) {
            out.push(Effect::RefuseSnapshot { from, position });
            return self.report_committed(from, out);
        }
        out.push(Effect::AcceptSnapshot { from, position });
    }

    fn is_of_use(&self, snapshot: Position) -> bool {
        let base = self.log.base().index;
        if self.lacks_state() { snapshot.index >= base } else { snapshot.index > self.commit }
    }

    /// What is committed here is in every later leader's log, so a leader may take it for matched.
    fn report_committed(&mut self, to: NodeId, out: &mut Vec<Effect>) {
        let matched = self.commit.min(self.writes.durable());
        self.send_durable(to, Body::AppendAccepted { matched }, out);
    }

    pub(super) fn snapshot_received(&mut self, from: NodeId, term: Term, base: Base, out: &mut Vec<Effect>) {
        let position = base.position;
        let mutants = self.config.mutants;
        let old = !self.is_of_use(position) && !mutants.is(MutantId::SnapshotOlderInstalled);
        if old || self.is_leader() {
            return out.push(Effect::RefuseSnapshot { from, position });
        }
        let lacked_state = self.lacks_state();
        out.push(Effect::InstallSnapshot { base: base.clone() });
        let keeps_all = mutants.is(MutantId::SnapshotConflictingTailKept);
        let held = self.log.term_at(position.index);
        let truncate = if held == Some(position.term) || (keeps_all && held.is_some()) {
            self.log.compact(position.index);
            None
        } else {
            let first_after = position.index.next();
            self.log.reset(base.clone());
            Some(first_after)
        };
        self.commit = if lacked_state { self.commit.max(position.index) } else { position.index };
        self.applying = position.index;
        self.persist(Some(base), truncate, Vec::new(), out);
        self.writes.state_installed(position.index);
        self.apply_committed(out);
        // The snapshot is a committed state whoever leads; the leader that sent it may have changed meanwhile.
        if term == self.hard.term && self.leader == Some(from) {
            out.push(Effect::Arm(Timer::Election));
            self.send_durable(from, Body::AppendAccepted { matched: position.index }, out);
        }
    }

    pub(super) fn snapshot_sent(&mut self, to: NodeId, installed: Option<Index>, out: &mut Vec<Effect>) {
        let last = self.log.last().index;
        if let Role::Leader(leader) = &mut self.role
            && let Some(progress) = leader.progress.get_mut(&to)
        {
            progress.snapshot_ended(installed.map(|index| index.min(last)));
            // After a failure the next attempt waits for the member to answer a heartbeat: a dead one costs nothing.
            if installed.is_none() {
                progress.sent(progress.matched, 0);
            }
        }
        if installed.is_some() {
            self.send_append(to, true, out);
        }
    }
}
