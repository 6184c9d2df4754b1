//! The steps of a scenario's script: what is done and claimed, one after the other, while the clients work.
//!
//! A scenario that has steps runs until they end instead of for a time. In its file a step is a table whose `do` is the
//! variant's name in small letters, and whose other keys are its fields (`as` is `name`); what each means stands here.

use std::collections::BTreeSet;
use std::fmt;

use eraft::types::{GroupId, NodeId};
use serde::{Deserialize, Serialize};

use super::CommandKind;
use crate::places::{self, Place};

/// One node, or some, of a step: `n2`, `g101n2`, `all`, `random`, a group (`g101`, `ctrlers`), or a name that an earlier
/// step gave, and so many places on in the ring of its group: `leader+2`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Who {
    /// Every node.
    All,
    /// Any one node, drawn each time.
    Random,
    /// This one, by its id.
    Node(u64),
    /// Every node of this group.
    Place(Place),
    /// The node of that name, and so many further.
    Named(String, u64),
}

impl Who {
    /// Reads `n2`, `g101n2`, `all`, `random`, `g101`, `ctrlers`, `name` or `name+2`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let is_name = |name: &str| {
            name.starts_with(|c: char| c.is_ascii_lowercase())
                && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        };
        let malformed = || format!("`{text}` is no node; one reads n2, all, random, leader or leader+2");
        if let Some(node) = places::node_of(text) {
            return Ok(Who::Node(node.0));
        }
        if let Some(place) = Place::parse(text) {
            return Ok(Who::Place(place));
        }
        match text {
            "all" => Ok(Who::All),
            "random" => Ok(Who::Random),
            _ => {
                let (name, further) = text.split_once('+').unwrap_or((text, "0"));
                let further = further.parse().map_err(|_| malformed())?;
                is_name(name).then(|| Who::Named(name.to_owned(), further)).ok_or_else(malformed)
            }
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Who::All => f.write_str("all"),
            Who::Random => f.write_str("random"),
            Who::Node(number) => f.write_str(&places::name(NodeId(*number))),
            Who::Place(place) => write!(f, "{place}"),
            Who::Named(name, 0) => f.write_str(name),
            Who::Named(name, further) => write!(f, "{name}+{further}"),
        }
    }
}

impl From<Who> for String {
    fn from(who: Who) -> Self {
        who.to_string()
    }
}

impl TryFrom<String> for Who {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Who::parse(&text)
    }
}

/// Which of several keys a step is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spread {
    /// Key `n` is in shard `n`, counted round.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_shard: bool,
    /// Only those whose shards this group had at the last claim about the placement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<GroupId>,
}

impl Spread {
    fn is_plain(&self) -> bool {
        *self == Self::default()
    }
}

fn one() -> u64 {
    1
}

fn is_one(number: &u64) -> bool {
    *number == 1
}

/// How [`Step::FigureEight`] takes a leader away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// It crashes.
    Crash,
    /// It is cut off.
    Cut,
}

/// One step. A *command* is proposed on a node directly, without a client; a node is *connected* if it runs and is not
/// cut off.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Step {
    /// Among the connected nodes there is, within a time, exactly one leader in the latest term that has any.
    OneLeader {
        /// Later steps call it so.
        name: Option<String>,
        /// The time.
        within_ms: u64,
    },
    /// All connected nodes follow one leader, in its term.
    Followed {
        /// Within this time.
        within_ms: u64,
    },
    /// No node that runs believes to lead.
    NoLeader,
    /// All connected nodes are in the same term, at least 1.
    SameTerm {
        /// It is the one of the last such step.
        unchanged: bool,
    },
    /// Time passes.
    Wait {
        /// How much.
        ms: u64,
    },
    /// Each of these is cut off from every other node, not from clients.
    Cut {
        /// Which.
        nodes: Vec<Who>,
    },
    /// Two groups of nodes hear nothing of each other; clients reach both.
    Split {
        /// The one group; the others are the other.
        nodes: Vec<Who>,
    },
    /// The cuts of these end; `all` ends a split too.
    Rejoin {
        /// Which.
        nodes: Vec<Who>,
    },
    /// These die, by a drawn choice of a killed process or a loss of power.
    Crash {
        /// Which.
        nodes: Vec<Who>,
    },
    /// Those of these that are down start.
    Start {
        /// Which.
        nodes: Vec<Who>,
    },
    /// All of these die, and start after a time.
    Restart {
        /// Which.
        nodes: Vec<Who>,
        /// The time.
        down_ms: u64,
    },
    /// A name for a node.
    Pick {
        /// Later steps call it so.
        name: String,
        /// One of these: the first that `not` does not name.
        of: Vec<Who>,
        /// Not this one.
        not: Option<Who>,
        /// Each time the step comes, the next one of `of`.
        in_turn: bool,
    },
    /// Commands, each of which so many nodes apply within a time. One that is lost is proposed again.
    Agree {
        /// How many.
        commands: u64,
        /// Nodes that apply each of them.
        on: u64,
        /// The size of a command's value.
        bytes: u64,
        /// All at once, not one after the other.
        at_once: bool,
        /// The first attempt has to do.
        at_first: bool,
        /// Each takes the next index of the log, at which nobody has applied anything before.
        in_order: bool,
        /// The time for each of them.
        within_ms: u64,
    },
    /// Commands proposed at one node, which leads; nobody waits for them.
    Propose {
        /// Which node.
        at: Who,
        /// How many.
        commands: u64,
        /// The first lands so many places (at least, at most) after the last one of the last such step.
        ahead: Option<(u64, u64)>,
    },
    /// The commands of the last `propose` are applied.
    Committed {
        /// By so many nodes.
        on: u64,
        /// Within this time.
        within_ms: u64,
    },
    /// None of the commands of the last `propose` is applied anywhere.
    NotCommitted {
        /// For this time.
        for_ms: u64,
    },
    /// What is counted is counted from here on.
    Mark,
    /// Requests between nodes since the mark: votes, appends, heartbeats, offers of snapshots. No replies, no
    /// pre-votes.
    Calls {
        /// At least.
        at_least: u64,
        /// At most.
        at_most: u64,
    },
    /// Bytes that nodes sent each other since the mark.
    BytesAtMost {
        /// At most.
        bytes: u64,
    },
    /// The log of each node that runs.
    LogAtMost {
        /// Of its entries.
        bytes: u64,
    },
    /// The applied state of each node that runs, which is what a snapshot holds.
    StateAtMost {
        /// Of its keys and values.
        bytes: u64,
    },
    /// No node has cut its log: there is no snapshot.
    Uncompacted,
    /// Snapshots that nodes installed since the mark.
    Installed {
        /// At least.
        at_least: u64,
    },
    /// Messages take up to some dozen milliseconds, and a tenth of them is lost, clients' too.
    Unreliable,
    /// Besides, messages are overtaken by later ones, by up to two seconds.
    LongReordering,
    /// The end of both.
    Reliable,
    /// Whoever leads gets a command and is taken away at once or soon, so that entries are left behind at every stage
    /// (Raft, figure 8). Three nodes stay connected.
    FigureEight {
        /// How often.
        iterations: u64,
        /// How.
        by: Loss,
        /// With this probability.
        chance: f64,
    },
    /// Nodes are cut off, crash and come back at random while some proposers work.
    Churn {
        /// How many proposers.
        proposers: u64,
        /// How often; every 700 ms.
        iterations: u64,
    },
    /// The nodes are split at random every second or so.
    Partitions {
        /// For this time.
        for_ms: u64,
    },
    /// The clients of the workload have done all their operations, each one acknowledged.
    ClientsDone {
        /// Within this time of the step.
        within_ms: u64,
    },
    /// A client of the script, new or known, reaches these nodes only.
    Client {
        /// Its name.
        name: String,
        /// Which nodes.
        via: Vec<Who>,
    },
    /// A client of the script writes.
    Put {
        /// Its name.
        client: String,
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// So many keys, numbered from 0 if there are several; so are the values, at their `{n}` or at their end.
        count: u64,
        /// Which of these keys.
        #[serde(default, skip_serializing_if = "Spread::is_plain")]
        spread: Spread,
        /// The script goes on at once.
        in_background: bool,
        /// Within this time, if the script waits.
        within_ms: u64,
    },
    /// A client of the script adds to the end of values.
    Append {
        /// Its name.
        client: String,
        /// The key.
        key: String,
        /// What is added.
        value: String,
        /// So many keys, as in a `put`.
        count: u64,
        /// Which of these keys.
        #[serde(default, skip_serializing_if = "Spread::is_plain")]
        spread: Spread,
        /// The script goes on at once.
        in_background: bool,
        /// Within this time, if the script waits.
        within_ms: u64,
    },
    /// A client of the script reads.
    Get {
        /// Its name.
        client: String,
        /// The key.
        key: String,
        /// What it has to read; anything if not said.
        value: Option<String>,
        /// So many keys, as in a `put`.
        #[serde(default = "one", skip_serializing_if = "is_one")]
        count: u64,
        /// Which of these keys.
        #[serde(default, skip_serializing_if = "Spread::is_plain")]
        spread: Spread,
        /// The script goes on at once.
        in_background: bool,
        /// Within this time, if the script waits.
        within_ms: u64,
    },
    /// Nothing that was begun in the background ends.
    Pending {
        /// For this time.
        for_ms: u64,
    },
    /// Of what was begun in the background exactly so many end.
    Ended {
        /// How many.
        exactly: u64,
        /// In this time.
        for_ms: u64,
    },
    /// All that was begun in the background ends.
    Finished {
        /// Within this time.
        within_ms: u64,
    },
    /// Operators command the controllers, one after the other or all at once; each list is one operator's.
    Operate {
        /// What each does, in order.
        commands: Vec<Vec<CommandKind>>,
        /// All operators at once.
        at_once: bool,
        /// Every command has to be refused; otherwise every one has to be obeyed.
        refused: bool,
        /// The time for each command.
        within_ms: u64,
    },
    /// The latest config has exactly these groups, with their addresses, and deals the shards out evenly.
    Placement {
        /// Which groups.
        groups: BTreeSet<GroupId>,
        /// So many shards are at another group than at the last such step.
        moved: Option<u64>,
        /// So many configs were made since the last such step.
        configs: Option<u64>,
    },
    /// These shards are at this group in the latest config.
    Placed {
        /// The first and the last one.
        shards: (u64, u64),
        /// Where.
        group: GroupId,
    },
    /// Every shard is served where the latest config wants it, and no store has anything of a shard that is elsewhere.
    Settled {
        /// Within this time.
        within_ms: u64,
    },
    /// The logs and the states of all nodes that run, together.
    StoresAtMost {
        /// Of entries, keys and values.
        bytes: u64,
    },
    /// Every config that there ever was is asked for, and is what it was when it was seen before.
    History,
    /// Steps, again and again.
    Repeat {
        /// How often.
        times: u64,
        /// Which.
        steps: Vec<Step>,
    },
}

impl Step {
    /// Its word in a scenario.
    pub fn word(&self) -> String {
        let json = serde_json::to_value(self).unwrap_or_default();
        json.get("do").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned()
    }

    /// Does a client of the script take part in it?
    pub fn has_client(&self) -> bool {
        match self {
            Step::Put { .. } | Step::Append { .. } | Step::Get { .. } => true,
            Step::Repeat { steps, .. } => steps.iter().any(Step::has_client),
            _ => false,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).unwrap_or_default())
    }
}
