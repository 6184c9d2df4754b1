//! Reads the steps of a scenario: `steps = [{ do = "one_leader", as = "first" }, …]`.
//!
//! Each word has its keys; any other is refused. A name has to be given by an earlier step.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use eraft::types::{GroupId, NodeId};

use super::reader::{ScenarioError, Section, suggestion};
use super::setting::Setting;
use super::step::{Loss, Spread, Step, Who};
use super::{Cluster, CommandKind};
use crate::places;

/// The longest time in a step.
const TIME_MS_MAX: u64 = 600_000;
/// The most of anything else.
const COUNT_MAX: u64 = 1_000_000;
/// A leader is there within this, unless the step says otherwise: ten looks of half a second.
const LEADER_WITHIN_MS: u64 = 5_000;
/// An agreement takes at most this, unless the step says otherwise.
const AGREE_WITHIN_MS: u64 = 10_000;

/// The steps' words, each with its keys.
const WORDS: &[(&str, &[&str])] = &[
    ("one_leader", &["as", "within_ms"]),
    ("followed", &["within_ms"]),
    ("no_leader", &[]),
    ("same_term", &["unchanged"]),
    ("wait", &["ms"]),
    ("cut", &["nodes"]),
    ("split", &["nodes"]),
    ("rejoin", &["nodes"]),
    ("crash", &["nodes"]),
    ("start", &["nodes"]),
    ("restart", &["nodes", "down_ms"]),
    ("pick", &["as", "of", "not", "in_turn"]),
    ("agree", &["commands", "on", "bytes", "at_once", "at_first", "in_order", "within_ms"]),
    ("propose", &["at", "commands", "ahead"]),
    ("committed", &["on", "within_ms"]),
    ("not_committed", &["for_ms"]),
    ("mark", &[]),
    ("calls", &["at_least", "at_most"]),
    ("bytes_at_most", &["bytes"]),
    ("log_at_most", &["bytes"]),
    ("state_at_most", &["bytes"]),
    ("uncompacted", &[]),
    ("installed", &["at_least"]),
    ("unreliable", &[]),
    ("long_reordering", &[]),
    ("reliable", &[]),
    ("figure_eight", &["iterations", "by", "chance"]),
    ("churn", &["proposers", "iterations"]),
    ("partitions", &["for_ms"]),
    ("clients_done", &["within_ms"]),
    ("client", &["as", "via"]),
    ("put", &["client", "key", "value", "count", "by_shard", "of", "in_background", "within_ms"]),
    ("append", &["client", "key", "value", "count", "by_shard", "of", "in_background", "within_ms"]),
    ("get", &["client", "key", "value", "count", "by_shard", "of", "in_background", "within_ms"]),
    ("pending", &["for_ms"]),
    ("ended", &["exactly", "for_ms"]),
    ("finished", &["within_ms"]),
    ("operate", &["commands", "at_once", "refused", "within_ms"]),
    ("placement", &["groups", "moved", "configs"]),
    ("placed", &["shard", "group"]),
    ("history", &[]),
    ("settled", &["within_ms"]),
    ("stores_at_most", &["bytes"]),
    ("repeat", &["times", "steps"]),
];

/// The words that are about controllers.
const PLACEMENT_WORDS: [&str; 5] = ["operate", "placement", "placed", "history", "settled"];

/// What steps may refer to.
pub(super) struct Scope {
    /// What there is.
    cluster: Cluster,
    /// Names that steps gave to nodes.
    names: BTreeSet<String>,
    /// Names that steps gave to clients.
    clients: BTreeSet<String>,
}

/// Reads `steps` of a scenario with this cluster.
pub(super) fn read(root: &Section<'_>, cluster: &Cluster) -> Result<Vec<Step>, ScenarioError> {
    read_list(root, &mut Scope { cluster: cluster.clone(), names: BTreeSet::new(), clients: BTreeSet::new() })
}

fn read_list(section: &Section<'_>, scope: &mut Scope) -> Result<Vec<Step>, ScenarioError> {
    let mut keys: Vec<&str> = WORDS.iter().flat_map(|(_, keys)| keys.iter().copied()).collect();
    keys.sort_unstable();
    keys.dedup();
    keys.insert(0, "do");
    section.sections("steps", &keys)?.iter().map(|step| read_step(step, scope)).collect()
}

fn read_step(section: &Section<'_>, scope: &mut Scope) -> Result<Step, ScenarioError> {
    let words: Vec<(&str, (&str, &[&str]))> = WORDS.iter().map(|entry| (entry.0, *entry)).collect();
    let Some((word, keys)) = section.word("do", &words)? else {
        return Err(section.error("do", "missing: what is to be done?"));
    };
    if PLACEMENT_WORDS.contains(&word) && scope.cluster.ctrlers == 0 {
        return Err(section.error("do", format!("`{word}` needs controllers: `cluster.ctrlers` is 0")));
    }
    let all = WORDS.iter().flat_map(|(_, keys)| keys.iter());
    if let Some(key) = all.into_iter().find(|key| section.has(key) && !keys.contains(key)) {
        let known = if keys.is_empty() { "nothing".to_owned() } else { keys.join(", ") };
        return Err(section.error(key, format!("says nothing about `{word}`; it has: {known}")));
    }
    Reader { section, scope }.step(word)
}

struct Reader<'r, 't> {
    section: &'r Section<'t>,
    scope: &'r mut Scope,
}

impl Reader<'_, '_> {
    fn step(&mut self, word: &str) -> Result<Step, ScenarioError> {
        Ok(match word {
            "one_leader" => {
                Step::OneLeader { within_ms: self.within_ms(LEADER_WITHIN_MS)?, name: self.new_name()? }
            }
            "followed" => Step::Followed { within_ms: self.within_ms(LEADER_WITHIN_MS)? },
            "no_leader" => Step::NoLeader,
            "same_term" => Step::SameTerm { unchanged: self.flag("unchanged")? },
            "wait" => Step::Wait { ms: self.needed("ms", 1..=TIME_MS_MAX)? },
            "cut" => Step::Cut { nodes: self.nodes("nodes")? },
            "split" => Step::Split { nodes: self.nodes("nodes")? },
            "rejoin" => Step::Rejoin { nodes: self.nodes("nodes")? },
            "crash" => Step::Crash { nodes: self.nodes("nodes")? },
            "start" => Step::Start { nodes: self.nodes("nodes")? },
            "restart" => Step::Restart {
                nodes: self.nodes("nodes")?,
                down_ms: self.number("down_ms", 0..=TIME_MS_MAX, 0)?,
            },
            "pick" => self.pick()?,
            "agree" => Step::Agree {
                commands: self.number("commands", 1..=COUNT_MAX, 1)?,
                on: self.number("on", 1..=self.scope.cluster.nodes, self.scope.cluster.nodes)?,
                bytes: self.number("bytes", 0..=1 << 20, 0)?,
                at_once: self.flag("at_once")?,
                at_first: self.flag("at_first")?,
                in_order: self.flag("in_order")?,
                within_ms: self.within_ms(AGREE_WITHIN_MS)?,
            },
            "propose" => Step::Propose {
                at: self.node("at")?,
                commands: self.number("commands", 1..=COUNT_MAX, 1)?,
                ahead: self.section.setting("ahead", 1..=COUNT_MAX)?.map(|ahead| (ahead.low(), ahead.high())),
            },
            "committed" => Step::Committed {
                on: self.number("on", 1..=self.scope.cluster.nodes, self.scope.cluster.nodes)?,
                within_ms: self.within_ms(AGREE_WITHIN_MS)?,
            },
            "not_committed" => Step::NotCommitted { for_ms: self.needed("for_ms", 1..=TIME_MS_MAX)? },
            "mark" => Step::Mark,
            "calls" => Step::Calls {
                at_least: self.number("at_least", 0..=COUNT_MAX, 0)?,
                at_most: self.needed("at_most", 0..=COUNT_MAX)?,
            },
            "bytes_at_most" => Step::BytesAtMost { bytes: self.needed("bytes", 1..=1 << 40)? },
            "log_at_most" => Step::LogAtMost { bytes: self.needed("bytes", 1..=1 << 40)? },
            "state_at_most" => Step::StateAtMost { bytes: self.needed("bytes", 1..=1 << 40)? },
            "uncompacted" => Step::Uncompacted,
            "installed" => Step::Installed { at_least: self.needed("at_least", 1..=COUNT_MAX)? },
            "unreliable" => Step::Unreliable,
            "long_reordering" => Step::LongReordering,
            "reliable" => Step::Reliable,
            "figure_eight" => Step::FigureEight {
                iterations: self.needed("iterations", 1..=COUNT_MAX)?,
                by: self.loss()?,
                chance: self.chance()?,
            },
            "churn" => Step::Churn {
                proposers: self.number("proposers", 1..=64, 3)?,
                iterations: self.needed("iterations", 1..=COUNT_MAX)?,
            },
            "partitions" => Step::Partitions { for_ms: self.needed("for_ms", 1..=TIME_MS_MAX)? },
            "clients_done" => Step::ClientsDone { within_ms: self.needed("within_ms", 1..=TIME_MS_MAX)? },
            "client" => {
                let name = self.text("as")?;
                self.scope.clients.insert(name.clone());
                Step::Client { name, via: self.nodes("via")? }
            }
            "put" => Step::Put {
                client: self.client()?,
                key: self.text("key")?,
                value: self.text("value")?,
                count: self.number("count", 1..=COUNT_MAX, 1)?,
                spread: self.spread()?,
                in_background: self.flag("in_background")?,
                within_ms: self.within_ms(AGREE_WITHIN_MS)?,
            },
            "append" => Step::Append {
                client: self.client()?,
                key: self.text("key")?,
                value: self.text("value")?,
                count: self.number("count", 1..=COUNT_MAX, 1)?,
                spread: self.spread()?,
                in_background: self.flag("in_background")?,
                within_ms: self.within_ms(AGREE_WITHIN_MS)?,
            },
            "get" => Step::Get {
                client: self.client()?,
                key: self.text("key")?,
                value: self.section.text("value")?.map(str::to_owned),
                count: self.number("count", 1..=COUNT_MAX, 1)?,
                spread: self.spread()?,
                in_background: self.flag("in_background")?,
                within_ms: self.within_ms(AGREE_WITHIN_MS)?,
            },
            "pending" => Step::Pending { for_ms: self.needed("for_ms", 1..=TIME_MS_MAX)? },
            "ended" => Step::Ended {
                exactly: self.needed("exactly", 0..=COUNT_MAX)?,
                for_ms: self.needed("for_ms", 1..=TIME_MS_MAX)?,
            },
            "finished" => Step::Finished { within_ms: self.needed("within_ms", 1..=TIME_MS_MAX)? },
            "operate" => Step::Operate {
                commands: self.commands()?,
                at_once: self.flag("at_once")?,
                refused: self.flag("refused")?,
                within_ms: self.within_ms(AGREE_WITHIN_MS)?,
            },
            "placement" => Step::Placement {
                groups: self.groups("groups")?,
                moved: self.optional("moved", 0..=4_096)?,
                configs: self.optional("configs", 0..=COUNT_MAX)?,
            },
            "placed" => {
                let shards = self.section.setting("shard", 0..=self.scope.cluster.shards - 1)?;
                let shards = shards.ok_or_else(|| self.missing("shard"))?;
                Step::Placed { shards: (shards.low(), shards.high()), group: self.group("group")? }
            }
            "history" => Step::History,
            "settled" => Step::Settled { within_ms: self.needed("within_ms", 1..=TIME_MS_MAX)? },
            "stores_at_most" => Step::StoresAtMost { bytes: self.needed("bytes", 1..=1 << 40)? },
            _ => Step::Repeat {
                times: self.needed("times", 1..=COUNT_MAX)?,
                steps: read_list(self.section, self.scope)?,
            },
        })
    }

    fn pick(&mut self) -> Result<Step, ScenarioError> {
        let (of, not) =
            (self.nodes("of")?, if self.section.has("not") { Some(self.node("not")?) } else { None });
        let in_turn = self.flag("in_turn")?;
        if in_turn && not.is_some() {
            return Err(self.section.error("not", "says nothing about a pick `in_turn`"));
        }
        match self.new_name()? {
            Some(name) => Ok(Step::Pick { name, of, not, in_turn }),
            None => Err(self.section.error("as", "missing: what is it called?")),
        }
    }

    /// Lists of commands, each `join g100; leave g101`.
    fn commands(&self) -> Result<Vec<Vec<CommandKind>>, ScenarioError> {
        let texts = self.section.texts("commands")?.filter(|texts| !texts.is_empty());
        let one = |text: &str| {
            let malformed = || {
                let message =
                    format!("`{text}` is no command; one reads join g100+g101, leave g100, move 3 g101");
                self.section.error("commands", message)
            };
            CommandKind::parse(text.trim()).ok_or_else(malformed)
        };
        let list = |text: &str| text.split(';').map(one).collect();
        texts.ok_or_else(|| self.missing("commands"))?.into_iter().map(list).collect()
    }

    fn spread(&self) -> Result<Spread, ScenarioError> {
        let of = if self.section.has("of") { Some(self.group("of")?) } else { None };
        let by_shard = self.flag("by_shard")?;
        if of.is_some() && !by_shard {
            return Err(self.section.error("of", "only keys `by_shard` are of a group"));
        }
        if by_shard && self.scope.cluster.groups == 0 {
            return Err(self.section.error("by_shard", "there are no groups that serve shards"));
        }
        Ok(Spread { by_shard, of })
    }

    fn group_of(&self, key: &str, text: &str) -> Result<GroupId, ScenarioError> {
        let malformed = || self.section.error(key, format!("`{text}` is no group; one reads g100"));
        places::parse_group(text).ok_or_else(malformed)
    }

    fn group(&self, key: &str) -> Result<GroupId, ScenarioError> {
        let text = self.text(key)?;
        self.group_of(key, &text)
    }

    fn groups(&self, key: &str) -> Result<BTreeSet<GroupId>, ScenarioError> {
        let texts = self.section.texts(key)?.ok_or_else(|| self.missing(key))?;
        texts.into_iter().map(|text| self.group_of(key, text)).collect()
    }

    fn missing(&self, key: &str) -> ScenarioError {
        self.section.error(key, format!("missing: `{key}` has no default here"))
    }

    fn flag(&self, key: &str) -> Result<bool, ScenarioError> {
        Ok(self.section.flag(key)?.unwrap_or(false))
    }

    fn text(&self, key: &str) -> Result<String, ScenarioError> {
        self.section.text(key)?.map(str::to_owned).ok_or_else(|| self.missing(key))
    }

    fn optional(&self, key: &str, bounds: RangeInclusive<u64>) -> Result<Option<u64>, ScenarioError> {
        match self.section.setting(key, bounds)? {
            None => Ok(None),
            Some(Setting::Fixed(number)) => Ok(Some(number)),
            Some(_) => Err(self.section.error(key, "expected one whole number: a step draws nothing")),
        }
    }

    fn number(&self, key: &str, bounds: RangeInclusive<u64>, default: u64) -> Result<u64, ScenarioError> {
        Ok(self.optional(key, bounds)?.unwrap_or(default))
    }

    fn needed(&self, key: &str, bounds: RangeInclusive<u64>) -> Result<u64, ScenarioError> {
        self.optional(key, bounds)?.ok_or_else(|| self.missing(key))
    }

    fn within_ms(&self, default: u64) -> Result<u64, ScenarioError> {
        self.number("within_ms", 1..=TIME_MS_MAX, default)
    }

    fn chance(&self) -> Result<f64, ScenarioError> {
        match self.section.setting("chance", 0.0..=1.0)? {
            None => Ok(1.0),
            Some(Setting::Fixed(chance)) => Ok(chance),
            Some(_) => Err(self.section.error("chance", "expected one number: a step draws nothing")),
        }
    }

    fn loss(&self) -> Result<Loss, ScenarioError> {
        let words = [("crash", Loss::Crash), ("cut", Loss::Cut)];
        self.section.word("by", &words)?.ok_or_else(|| self.missing("by"))
    }

    /// The name that the step gives.
    fn new_name(&mut self) -> Result<Option<String>, ScenarioError> {
        let Some(name) = self.section.text("as")? else { return Ok(None) };
        match Who::parse(name) {
            Ok(Who::Named(name, 0)) => {
                self.scope.names.insert(name.clone());
                Ok(Some(name))
            }
            _ => {
                Err(self.section.error("as", format!("`{name}` cannot be a name: small letters, as `first`")))
            }
        }
    }

    fn who(&self, key: &str, text: &str) -> Result<Who, ScenarioError> {
        let who = Who::parse(text).map_err(|why| self.section.error(key, why))?;
        let cluster = &self.scope.cluster;
        let missing =
            || Err(self.section.error(key, format!("there is no {who} in {}", places::described(cluster))));
        let known = places::of(cluster);
        match &who {
            Who::Node(number) if !known.iter().any(|(_, nodes)| nodes.contains(&NodeId(*number))) => {
                missing()
            }
            Who::Place(place) if !known.iter().any(|(known, _)| known == place) => missing(),
            Who::Named(name, _) if !self.scope.names.contains(name) => {
                let hint = suggestion(name, self.scope.names.iter().map(String::as_str));
                Err(self.section.error(key, format!("no earlier step names a node `{name}`{hint}")))
            }
            _ => Ok(who),
        }
    }

    fn nodes(&self, key: &str) -> Result<Vec<Who>, ScenarioError> {
        let texts = self.section.texts(key)?.filter(|texts| !texts.is_empty());
        texts.ok_or_else(|| self.missing(key))?.into_iter().map(|text| self.who(key, text)).collect()
    }

    /// Exactly one node.
    fn node(&self, key: &str) -> Result<Who, ScenarioError> {
        let text = self.text(key)?;
        match self.who(key, &text)? {
            who @ (Who::All | Who::Place(_)) => {
                Err(self.section.error(key, format!("`{who}` is not one node")))
            }
            who => Ok(who),
        }
    }

    /// The script's client; `client` if not said, which reaches all nodes.
    fn client(&self) -> Result<String, ScenarioError> {
        match self.section.text("client")? {
            None => Ok("client".to_owned()),
            Some(name) if self.scope.clients.contains(name) => Ok(name.to_owned()),
            Some(name) => {
                let hint = suggestion(name, self.scope.clients.iter().map(String::as_str));
                Err(self.section.error("client", format!("no earlier step names a client `{name}`{hint}")))
            }
        }
    }
}
