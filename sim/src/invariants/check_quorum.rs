//! A leader that hears no quorum between two of its election timeouts stops leading (dissertation, section 6.2). It
//! could commit nothing, and would keep its clients from the leader that can.

use std::collections::{BTreeMap, BTreeSet};

use eraft::raft::{Body, Input, Timer, quorum};
use eraft::types::{NodeId, Term};

use super::{Invariant, Kind, Step, Violation};

const ID: &str = "raft.check_quorum";

/// One leader's reign, as far as it was heard of.
#[derive(Default)]
struct Reign {
    term: Term,
    /// Who answered since the last timeout. Members that are new since then count as heard.
    heard: BTreeSet<NodeId>,
    members: BTreeSet<NodeId>,
}

/// Remembers who answered each leader.
#[derive(Default)]
pub struct CheckQuorum {
    reigns: BTreeMap<NodeId, Reign>,
    judged: u64,
}

impl Invariant for CheckQuorum {
    fn id(&self) -> &'static str {
        ID
    }

    fn step(&mut self, step: &Step<'_>) -> Result<(), Violation> {
        let Kind::Stepped { input, raft, .. } = step.kind else { return Ok(()) };
        let (before, now) = (step.me.before, step.me.now);
        if !before.leads {
            return Ok(());
        }
        match input {
            Input::Message { from, message } if message.term == before.term => {
                let answer = matches!(
                    message.body,
                    Body::AppendAccepted { .. } | Body::AppendRejected { .. } | Body::HeartbeatReply { .. }
                );
                if let Some(reign) = self.reigns.get_mut(&step.node).filter(|_| answer) {
                    reign.heard.insert(*from);
                }
            }
            Input::Timeout(Timer::Election) => {
                let members = raft.membership().members();
                let reign = self.reigns.entry(step.node).or_default();
                if reign.term != before.term {
                    *reign = Reign { term: before.term, ..Reign::default() };
                }
                self.judged += 1;
                let heard =
                    |node| node == step.node || reign.heard.contains(&node) || !reign.members.contains(&node);
                let quorum = quorum::is_quorum(raft.membership(), heard);
                if !quorum && now.leads && now.term == before.term {
                    let message = format!("leads term {} on, and heard only {:?}", now.term, reign.heard);
                    return Err(step.violation(ID, "a leader without a quorum leads on", message));
                }
                reign.heard.clear();
                reign.members = members;
            }
            _ => {}
        }
        Ok(())
    }

    fn judged(&self) -> u64 {
        self.judged
    }
}
