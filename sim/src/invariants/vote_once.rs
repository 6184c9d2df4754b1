//! One vote per term, and durable before it is answered (Raft, section 5.2 and figure 2). A candidate's request is
//! its vote for itself.

use std::collections::{BTreeMap, VecDeque};

use eraft::raft::{Body, Effect, Input, WriteId};
use eraft::types::{NodeId, Term};

use super::{Invariant, Kind, Step, Violation};

const ID: &str = "raft.vote_once";

/// Remembers each node's latest vote that may have been heard, across restarts.
#[derive(Default)]
pub struct VoteOnce {
    votes: BTreeMap<NodeId, (Term, NodeId)>,
    /// Votes that wait for their write; a crash may take them back.
    waiting: BTreeMap<NodeId, VecDeque<(WriteId, Term, NodeId)>>,
    judged: u64,
}

impl VoteOnce {
    /// Votes whose writes are durable count.
    fn persisted(&mut self, step: &Step<'_>, through: WriteId) -> Result<(), Violation> {
        while let Some(waiting) = self.waiting.get_mut(&step.node)
            && let Some((write, term, candidate)) = waiting.front().copied()
            && write <= through
        {
            waiting.pop_front();
            self.vote(step, term, candidate)?;
        }
        Ok(())
    }

    /// What came back from the disk may have been heard; what did not was never sent.
    fn opened(&mut self, step: &Step<'_>) -> Result<(), Violation> {
        self.waiting.remove(&step.node);
        if let Some(reopened) = step.me.reopened {
            self.judged += 1;
            if !reopened.hard_kept {
                let (found, durable) = (step.me.durable_hard, reopened.hard_durable);
                let message = format!("came back with {found:?}; {durable:?} was durable");
                return Err(step.violation(ID, "a durable vote or term was lost", message));
            }
        }
        let hard = step.me.durable_hard;
        hard.vote.map_or(Ok(()), |candidate| self.vote(step, hard.term, candidate))
    }

    fn vote(&mut self, step: &Step<'_>, term: Term, candidate: NodeId) -> Result<(), Violation> {
        self.judged += 1;
        let (latest, voted) = *self.votes.get(&step.node).unwrap_or(&(Term(0), candidate));
        if term == latest && voted != candidate {
            let message = format!("votes for {candidate} in term {term}, in which it voted for {voted}");
            return Err(step.violation(ID, "two votes in one term", message));
        }
        if term > latest {
            self.votes.insert(step.node, (term, candidate));
        }
        Ok(())
    }
}

impl Invariant for VoteOnce {
    fn id(&self) -> &'static str {
        ID
    }

    fn step(&mut self, step: &Step<'_>) -> Result<(), Violation> {
        let (input, effects) = match step.kind {
            Kind::Opened { .. } => return self.opened(step),
            Kind::Stepped { input, effects, .. } => (input, effects),
            _ => return Ok(()),
        };
        if let Input::Persisted(id) = input {
            self.persisted(step, *id)?;
        }
        for effect in effects {
            let Effect::Send { to, message, after } = effect else { continue };
            let candidate = match message.body {
                Body::VoteReply { granted: true } => *to,
                Body::Vote { .. } => step.node,
                _ => continue,
            };
            let written = after.and_then(|id| step.me.write(id)).map(|write| write.hard);
            let durable = written.unwrap_or(step.me.durable_hard);
            if (durable.term, durable.vote) != (message.term, Some(candidate)) {
                let text = format!(
                    "may tell {to} about its vote for {candidate} in term {} while its disk says {durable:?}",
                    message.term
                );
                return Err(step.violation(ID, "a vote left before it was durable", text));
            }
            match after {
                Some(id) if step.me.write(*id).is_some() => {
                    let waiting = self.waiting.entry(step.node).or_default();
                    waiting.push_back((*id, message.term, candidate));
                }
                _ => self.vote(step, message.term, candidate)?,
            }
        }
        Ok(())
    }

    fn judged(&self) -> u64 {
        self.judged
    }
}
