//! The end of each run: everything heals, and then the group has to work. A leader must be there and commit a new
//! entry, and every member must come to hold and apply it, within a bounded number of rounds.
//!
//! Timers behave as in a real shell: only what the core armed fires, a node whose election timer was armed in this
//! round is not due, and one node is due before the others.

use eraft::raft::{Raft, Timer};
use eraft::types::Index;

use super::world::World;
use crate::invariants::Violation;

/// Rounds until a leader must have committed what was proposed at it, and everybody applied it.
const ROUNDS_MAX: usize = 200;
/// Packets and writes that one round may take until it is quiet.
const ACTIONS_PER_ROUND_MAX: usize = 20_000;
/// A leader checks its quorum every this many rounds.
const CHECK_QUORUM_EVERY: usize = 4;

impl World {
    /// Heals everything and waits for the group to work again.
    pub(super) fn prove_liveness(&mut self) -> Result<(), Violation> {
        self.heal();
        for node in 0..self.nodes.len() {
            self.start(node)?;
        }
        let mut target: Option<Index> = None;
        for round in 0..ROUNDS_MAX {
            self.settle()?;
            let leader = self.a_leader();
            // A proposal may be lost with its leader, as long as old messages still depose one.
            target = target.filter(|target| leader.is_some_and(|leader| self.last_index(leader) >= *target));
            if target.is_none()
                && let Some(leader) = leader
            {
                target = self.propose_one(leader)?;
                self.settle()?;
            }
            if let Some(target) = target
                && self.nodes.iter().all(|node| node.state.applied.index >= target)
                && leader.is_some()
            {
                return Ok(());
            }
            self.fire_timers(round)?;
        }
        let stuck = match (self.a_leader(), target) {
            (None, _) => "no leader is elected",
            (Some(_), None) => "no proposal is taken",
            (Some(leader), Some(target)) => {
                let commit = self.nodes[leader].raft.as_ref().map(Raft::commit);
                if commit >= Some(target) { "a member stays behind" } else { "nothing is committed" }
            }
        };
        Err(self.stuck(stuck, &format!("after {ROUNDS_MAX} rounds without a fault")))
    }

    fn last_index(&self, node: usize) -> Index {
        self.nodes[node].raft.as_ref().map_or(Index(0), |raft| raft.log().last().index)
    }

    /// Proposes an entry; the index at which it has to be applied, if it was taken.
    fn propose_one(&mut self, leader: usize) -> Result<Option<Index>, Violation> {
        let before = self.last_index(leader);
        for node in 0..self.nodes.len() {
            self.flush(node)?;
        }
        let through = self.nodes[leader].disk.state.applied.index;
        self.compact(leader, through)?;
        self.propose(leader, 1)?;
        let after = self.last_index(leader);
        Ok((after > before).then_some(after))
    }

    /// Delivers and completes everything until nothing is under way.
    fn settle(&mut self) -> Result<(), Violation> {
        for _ in 0..ACTIONS_PER_ROUND_MAX {
            let mut quiet = true;
            for node in 0..self.nodes.len() {
                let writes = self.nodes[node].writes();
                if writes > 0 {
                    quiet = false;
                    self.persist(node, writes)?;
                }
            }
            if let Some(packet) = self.packets.pop_front() {
                quiet = false;
                self.deliver(packet)?;
            }
            if quiet {
                return Ok(());
            }
        }
        Err(self.stuck("the group never comes to rest", "though no timer fires"))
    }

    fn fire_timers(&mut self, round: usize) -> Result<(), Violation> {
        let count = self.nodes.len();
        let mut elected = false;
        for node in (0..count).map(|offset| (round + offset) % count) {
            let heard = std::mem::take(&mut self.nodes[node].heard);
            let leads = self.nodes[node].raft.as_ref().is_some_and(Raft::is_leader);
            if leads {
                self.timeout(node, Timer::Heartbeat)?;
                if round.is_multiple_of(CHECK_QUORUM_EVERY) {
                    self.timeout(node, Timer::Election)?;
                }
            } else if !heard && !elected {
                elected = true;
                self.timeout(node, Timer::Election)?;
            }
        }
        Ok(())
    }

    fn stuck(&self, what: &str, details: &str) -> Violation {
        let oracle = "raft.liveness";
        let nodes: Vec<String> = self
            .nodes
            .iter()
            .filter_map(|node| node.raft.as_ref())
            .map(|raft| {
                let (hard, last) = (raft.hard(), raft.log().last());
                format!(
                    "{} {} term {} vote {:?} base {} last {} (term {}) commit {} applied {} durable {}{}",
                    raft.id(),
                    raft.role().name(),
                    hard.term,
                    hard.vote.map(|vote| vote.0),
                    raft.log().base().index,
                    last.index,
                    last.term,
                    raft.commit(),
                    raft.applying(),
                    raft.durable(),
                    match raft.role() {
                        eraft::raft::Role::Leader(leader) => format!(" {:?}", leader.progress),
                        _ => String::new(),
                    }
                )
            })
            .collect();
        Violation {
            oracle: oracle.into(),
            fingerprint: format!("{oracle}: {what}"),
            message: format!("{what} {details}: {}", nodes.join("; ")),
        }
    }
}
