//! What a script asks of the run: where its commands went, and what was counted on the way.

use std::collections::BTreeMap;

use bytes::Bytes;
use eraft::observe::Event;
use eraft::raft::{Body, Effect, Input, Payload};
use eraft::types::Index;

/// Where a command of the script is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fate {
    /// The index at which a leader put it into its log last.
    pub placed: Option<Index>,
    /// The index at which a node applied it first.
    pub applied: Option<Index>,
}

/// Commands and counts of a run with a script.
#[derive(Default)]
pub(super) struct Ledger {
    commands: BTreeMap<Bytes, Fate>,
    /// Requests between nodes: no replies, no pre-votes.
    pub(super) calls: u64,
    /// Snapshots that nodes installed.
    pub(super) installed: u64,
    /// Claims of the script that were judged.
    pub(super) judged: u64,
}

impl Ledger {
    /// Looks out for `command` from now on.
    pub(super) fn expect(&mut self, command: Bytes) {
        self.commands.entry(command).or_default();
    }

    pub(super) fn fate(&self, command: &Bytes) -> Fate {
        self.commands.get(command).copied().unwrap_or_default()
    }

    pub(super) fn observe(&mut self, event: &Event<'_>) {
        match event {
            Event::Stepped { input: Some(input), effects, .. } => self.stepped(input, effects),
            Event::Applied { entry, .. } => {
                if let Payload::Command(command) = &entry.payload
                    && let Some(fate) = self.commands.get_mut(command)
                {
                    fate.applied.get_or_insert(entry.index);
                }
            }
            Event::SnapshotInstalled { .. } => self.installed += 1,
            _ => {}
        }
    }

    fn stepped(&mut self, input: &Input, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Send { message, .. } => {
                    let is_request = matches!(
                        message.body,
                        Body::Vote { .. } | Body::Append { .. } | Body::Heartbeat { .. }
                    );
                    self.calls += u64::from(is_request);
                }
                Effect::SendSnapshot { .. } => self.calls += 1,
                Effect::Proposed { id, position } => {
                    let Input::Propose(commands) = input else { continue };
                    let command = commands.iter().find(|(known, _)| known == id);
                    if let Some(fate) = command.and_then(|(_, command)| self.commands.get_mut(command)) {
                        fate.placed = Some(position.index);
                    }
                }
                _ => {}
            }
        }
    }
}
