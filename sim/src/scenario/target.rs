//! Whom a fault hits. Roles (`leader`, `minority`, …) are resolved when the fault fires, not when it is planned.

use std::fmt;

use eraft::types::NodeId;
use serde::{Deserialize, Serialize};

use crate::places::{self, Place};

/// Whom a fault hits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Target {
    /// The leader of the latest term; any node that runs if there is none.
    Leader,
    /// A node that runs and does not lead.
    Follower,
    /// Any one node.
    Random,
    /// Random nodes, as many as a group can lose.
    Minority,
    /// Random nodes, as many as a group needs.
    Majority,
    /// All nodes.
    All,
    /// All nodes of one group, drawn if there are several.
    Group,
    /// That role in one group: `leader of g101`. Roles without a group are those of a drawn one, if there are several.
    Of(Box<Target>, Place),
    /// Any one client.
    Client,
    /// Where the trigger of the fault happened.
    There,
    /// These nodes, by their ids.
    Nodes(Vec<u64>),
    /// These clients, counted from 1.
    Clients(Vec<u64>),
}

impl Target {
    /// The roles.
    pub const ROLES: [(&'static str, Target); 9] = [
        ("leader", Target::Leader),
        ("follower", Target::Follower),
        ("random", Target::Random),
        ("minority", Target::Minority),
        ("majority", Target::Majority),
        ("all", Target::All),
        ("group", Target::Group),
        ("client", Target::Client),
        ("there", Target::There),
    ];

    /// A role, a role of a group, or parties joined by `+`: `leader`, `leader of g101`, `n1+n3`, `g100n2`, `c2`.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some((_, target)) = Self::ROLES.iter().find(|(word, _)| *word == text) {
            return Ok(target.clone());
        }
        if let Some((role, place)) = text.split_once(" of ") {
            let place = Place::parse(place)
                .ok_or_else(|| format!("`{place}` is no group; one reads g101 or ctrlers"))?;
            return match Self::parse(role)? {
                Target::Leader
                | Target::Follower
                | Target::Random
                | Target::Minority
                | Target::Majority
                | Target::All => Ok(Target::Of(Box::new(Self::parse(role)?), place)),
                _ => Err(format!("a group has no `{role}`")),
            };
        }
        let nodes = text.split('+').map(|party| places::node_of(party).map(|node| node.0));
        if let Some(nodes) = nodes.collect::<Option<Vec<_>>>() {
            return Ok(Target::Nodes(nodes));
        }
        text.split('+').map(places::client_of).collect::<Option<Vec<_>>>().map(Target::Clients).ok_or_else(
            || {
                let roles = Self::ROLES.map(|(word, _)| word);
                let hint = super::reader::suggestion(text, roles);
                format!(
                    "`{text}` is no target{hint}; known: {}, n1.., c1.., leader of g100..",
                    roles.join(", ")
                )
            },
        )
    }

    /// True if it means clients.
    pub fn is_client(&self) -> bool {
        matches!(self, Target::Client | Target::Clients(_))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |numbers: &[u64], name: &dyn Fn(u64) -> String| {
            numbers.iter().map(|number| name(*number)).collect::<Vec<_>>().join("+")
        };
        match self {
            Target::Nodes(nodes) => f.write_str(&joined(nodes, &|number| places::name(NodeId(number)))),
            Target::Clients(clients) => f.write_str(&joined(clients, &places::client_name)),
            Target::Of(role, place) => write!(f, "{role} of {place}"),
            role => {
                let word = Self::ROLES.iter().find(|(_, target)| target == role).map(|(word, _)| *word);
                f.write_str(word.expect("every role has a word"))
            }
        }
    }
}

impl From<Target> for String {
    fn from(target: Target) -> Self {
        target.to_string()
    }
}

impl TryFrom<String> for Target {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Target::parse(&text)
    }
}
