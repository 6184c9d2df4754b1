//! What waits in a script's network until it is told to arrive.

use super::text;
use crate::raft::{Message, Position};
use crate::types::{Index, NodeId, Term};

/// Which messages a command is about; nothing said: all.
#[derive(Clone, Copy, Default)]
pub struct Pick {
    pub from: Option<u64>,
    pub to: Option<u64>,
    pub skip: usize,
    pub count: Option<usize>,
}

impl Pick {
    pub(super) fn has(self, packet: &Packet) -> bool {
        self.from.is_none_or(|from| packet.from.0 == from) && self.to.is_none_or(|to| packet.to.0 == to)
    }
}

/// What is on its way from a node to another.
#[derive(Clone)]
pub(super) struct Packet {
    pub from: NodeId,
    pub to: NodeId,
    pub load: Load,
}

#[derive(Clone)]
pub(super) enum Load {
    Message(Message),
    Offer { term: Term, state: Position },
    Snapshot { term: Term, state: Position },
    Ended(Option<Index>),
}

impl Packet {
    pub fn text(&self, sign: &str) -> String {
        let load = match &self.load {
            Load::Message(message) => text::message(message),
            Load::Offer { term, state } => format!("[term {term}] snapshot? at {}", text::position(*state)),
            Load::Snapshot { term, state } => {
                format!("[term {term}] snapshot at {}, complete", text::position(*state))
            }
            Load::Ended(Some(index)) => format!("snapshot at {index}: installed"),
            Load::Ended(None) => "snapshot: not installed".to_owned(),
        };
        format!("{} {sign} {} {load}", self.from, self.to)
    }
}
