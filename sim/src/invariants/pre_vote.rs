//! A node raises its term by itself only after a quorum said that it would vote for it (dissertation, section 9.6), or
//! because the leader of its term wants it (3.10).
//! Without that a node that was cut off comes back with a term that deposes a working leader.

use std::collections::{BTreeMap, BTreeSet};

use eraft::raft::{Body, Input, Timer, quorum};
use eraft::types::NodeId;

use super::{Invariant, Kind, Step, Violation};

const ID: &str = "raft.pre_vote";

/// Remembers who would vote for each node in the next term.
#[derive(Default)]
pub struct PreVote {
    promised: BTreeMap<NodeId, BTreeSet<NodeId>>,
    judged: u64,
}

impl Invariant for PreVote {
    fn id(&self) -> &'static str {
        ID
    }

    fn step(&mut self, step: &Step<'_>) -> Result<(), Violation> {
        let (input, raft) = match step.kind {
            Kind::Stepped { input, raft, .. } => (input, raft),
            Kind::Opened { .. } => {
                self.promised.remove(&step.node);
                return Ok(());
            }
            _ => return Ok(()),
        };
        let before = step.me.before.term;
        match input {
            Input::Timeout(Timer::Election) => {
                self.promised.insert(step.node, BTreeSet::new());
            }
            Input::Message { from, message }
                if message.body == (Body::PreVoteReply { granted: true })
                    && message.term == before.next() =>
            {
                self.promised.entry(step.node).or_default().insert(*from);
            }
            _ => {}
        }
        let (term, vote) = (raft.hard().term, raft.hard().vote);
        let is_wanted = matches!(input, Input::Message { message, .. }
            if message.body == Body::TimeoutNow && message.term.next() == term);
        if term <= before || vote != Some(step.node) {
            return Ok(());
        }
        self.judged += 1;
        let promised = self.promised.remove(&step.node).unwrap_or_default();
        if !is_wanted
            && !quorum::is_quorum(raft.membership(), |node| node == step.node || promised.contains(&node))
        {
            let message = format!("asks for votes in term {term}, which only {promised:?} promised");
            return Err(step.violation(ID, "a term was raised without the consent of a quorum", message));
        }
        Ok(())
    }

    fn judged(&self) -> u64 {
        self.judged
    }
}
