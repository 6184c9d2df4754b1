//! What operators do: they change the placement of shards, and ask for it.

use std::collections::BTreeSet;
use std::fmt;

use eraft::types::GroupId;
use serde::{Deserialize, Serialize};

use super::Cluster;
use super::reader::{ScenarioError, Section};
use super::setting::section;
use crate::places;

section! {
    /// Those who talk to controllers while faults happen. In a cluster without groups they are all clients there are.
    Operators, OperatorsSettings, "operators" {
        /// How many.
        operators: u64 = 0, 0 => 16;
        /// Commands of each while faults happen, at most.
        commands: u64 = 100, 0 => 100_000;
        /// Commands of each after the faults.
        liveness_commands: u64 = 5, 1 => 1_000;
        /// The mean pause before a command.
        think_ms: u64 = 100, 0 => 60_000;
        /// How long a command may take.
        deadline_ms: u64 = 3_000, 10 => 600_000;
        /// The groups that commands name: so many, from g100 on.
        names: u64 = 6, 1 => 100;
        /// Weight of joins.
        joins: u64 = 25, 0 => 1_000;
        /// Weight of leaves.
        leaves: u64 = 20, 0 => 1_000;
        /// Weight of moves, which pin a shard.
        moves: u64 = 15, 0 => 1_000;
        /// Weight of the ends of pins.
        unpins: u64 = 10, 0 => 1_000;
        /// Weight of rollbacks to an earlier placement.
        rollbacks: u64 = 5, 0 => 1_000;
        /// Weight of questions.
        queries: u64 = 25, 0 => 1_000;
    }
}

/// What a command does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum CommandKind {
    /// Groups come.
    Join(BTreeSet<GroupId>),
    /// Groups go.
    Leave(BTreeSet<GroupId>),
    /// A shard is pinned to a group.
    Move(u64, GroupId),
    /// A pin ends.
    Unpin(u64),
    /// The placement is that of an earlier config again.
    Rollback(u64),
    /// Which config; `None`: the latest.
    Query(Option<u64>),
}

/// One command of an operator; written `join g100+g102 after 12ms`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Command {
    /// What.
    pub kind: CommandKind,
    /// The pause before it.
    pub think_ms: u64,
}

impl fmt::Display for CommandKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |groups: &BTreeSet<GroupId>| {
            groups.iter().map(|group| format!("g{group}")).collect::<Vec<_>>().join("+")
        };
        match self {
            CommandKind::Join(groups) => write!(f, "join {}", joined(groups)),
            CommandKind::Leave(groups) => write!(f, "leave {}", joined(groups)),
            CommandKind::Move(shard, group) => write!(f, "move {shard} g{group}"),
            CommandKind::Unpin(shard) => write!(f, "unpin {shard}"),
            CommandKind::Rollback(number) => write!(f, "rollback {number}"),
            CommandKind::Query(None) => f.write_str("query"),
            CommandKind::Query(Some(number)) => write!(f, "query {number}"),
        }
    }
}

impl CommandKind {
    /// Reads what `Display` writes.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let groups = |word: &str| word.split('+').map(places::parse_group).collect::<Option<BTreeSet<_>>>();
        let kind = match (words.next()?, words.next()) {
            ("join", Some(word)) => CommandKind::Join(groups(word)?),
            ("leave", Some(word)) => CommandKind::Leave(groups(word)?),
            ("move", Some(shard)) => {
                CommandKind::Move(shard.parse().ok()?, places::parse_group(words.next()?)?)
            }
            ("unpin", Some(shard)) => CommandKind::Unpin(shard.parse().ok()?),
            ("rollback", Some(number)) => CommandKind::Rollback(number.parse().ok()?),
            ("query", None) => CommandKind::Query(None),
            ("query", Some(number)) => CommandKind::Query(Some(number.parse().ok()?)),
            _ => return None,
        };
        words.next().is_none().then_some(kind)
    }
}

impl From<CommandKind> for String {
    fn from(kind: CommandKind) -> Self {
        kind.to_string()
    }
}

impl TryFrom<String> for CommandKind {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("`{text}` is no command"))
    }
}

impl From<Command> for String {
    fn from(command: Command) -> Self {
        format!("{} after {}ms", command.kind, command.think_ms)
    }
}

impl TryFrom<String> for Command {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parse = || {
            let (kind, pause) = text.split_once(" after ")?;
            let think_ms = pause.strip_suffix("ms")?.parse().ok()?;
            Some(Command { kind: CommandKind::parse(kind)?, think_ms })
        };
        parse().ok_or_else(|| format!("`{text}` is no command; one reads `join g100+g102 after 12ms`"))
    }
}

/// Reads `[operators]`.
pub(super) fn read(root: &Section<'_>, cluster: &Cluster) -> Result<OperatorsSettings, ScenarioError> {
    let section = root.section("operators", OperatorsSettings::KEYS)?;
    let settings = OperatorsSettings::read(&section)?;
    if cluster.ctrlers == 0 && settings.operators.high() > 0 {
        return Err(section.error("operators", "there are no controllers to talk to: `cluster.ctrlers` is 0"));
    }
    if cluster.groups > 0 && section.has("names") {
        return Err(section.error("names", "the groups are those of the cluster"));
    }
    let weights = [
        &settings.joins,
        &settings.leaves,
        &settings.moves,
        &settings.unpins,
        &settings.rollbacks,
        &settings.queries,
    ];
    if weights.iter().all(|weight| weight.low() == 0) {
        return Err(section.error("joins", "the weights may all be 0: one must not be"));
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_reads_back_as_it_was_written() {
        for text in [
            "join g100+g102 after 12ms",
            "leave g101 after 0ms",
            "move 3 g199 after 1ms",
            "unpin 0 after 1ms",
            "rollback 17 after 1ms",
            "query after 1ms",
            "query 4 after 1ms",
        ] {
            let command = Command::try_from(text.to_owned()).unwrap();
            assert_eq!(String::from(command), text);
        }
        for text in
            ["join after 1ms", "join g99 after 1ms", "move 3 after 1ms", "query 4 5 after 1ms", "query"]
        {
            assert!(Command::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
