//! What the controllers have made, and the invariants of it.
//!
//! | id | invariant | source |
//! |---|---|---|
//! | ctrler.deterministic | all controllers make the same configs, and answer with them | state machine replication |
//! | ctrler.balanced | shares are as level as pins allow | the rule of `eraft::ctrler`'s rebalancing |
//! | ctrler.minimal | no more shards move than the shares demand | the same |
//! | ctrler.refused | a config is what its command says; a bad command makes none | MIT 6.824 lab 4A |
//! | ctrler.linearizable | what operators are told fits one order of all configs | Herlihy and Wing, 1990 |
//!
//! They are written against the rules and share no code with what they judge.

use std::collections::BTreeMap;

use eraft::ctrler::{Config, Placement, config_of_pair};
use eraft::proto::ctrler::Change;
use eraft::proto::kv::{Command, command, mutation};
use eraft::raft::{Entry, Payload};
use eraft::types::{ConfigNum, GroupId, NodeId, ShardId};
use eraft::view::Batch;
use prost::Message as _;

use super::Violation;
use super::ctrler_balanced::Balanced;
use super::ctrler_deterministic::Deterministic;
use super::ctrler_linearizable::Linearizable;
use super::ctrler_minimal::Minimal;
use super::ctrler_refused::Refused;

/// The keys of configs begin so.
const CONFIG_PREFIX: &[u8] = b"c/";

/// All configs that were ever made, by number.
pub type Kept = BTreeMap<ConfigNum, Config>;

/// A config that a controller made by applying an entry.
#[derive(Clone, Copy, Debug)]
pub struct Made<'a> {
    /// The command in that entry.
    pub change: &'a Change,
    /// The config before.
    pub before: &'a Config,
    /// The config.
    pub config: &'a Config,
}

/// What an operator asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    /// For the next config.
    Change(Change),
    /// For a config; `None`: the latest.
    Query(Option<ConfigNum>),
}

/// What an operator was told.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// The number of the config that the command made.
    Made(ConfigNum),
    /// The command was turned down for good.
    Refused,
    /// The config that was asked for, if it is kept, with the numbers of the oldest and the latest one.
    Config(Option<Config>, ConfigNum, ConfigNum),
}

/// The state of the controllers, and its invariants.
#[derive(Default)]
pub struct Configs {
    kept: Kept,
    /// Configs before this one are not kept by the controllers any more.
    oldest: ConfigNum,
    deterministic: Deterministic,
    balanced: Balanced,
    minimal: Minimal,
    refused: Refused,
    linearizable: Linearizable,
}

/// An operator's command under way.
#[derive(Clone, Debug)]
pub struct Open {
    asked: Asked,
    /// The latest config that anybody had been told of when it was asked.
    floor: ConfigNum,
    oldest: ConfigNum,
}

impl Configs {
    /// `node` has applied `entry`, which wrote `batch`; `checks` says which invariants judge.
    pub fn applied(
        &mut self,
        node: NodeId,
        entry: &Entry,
        batch: &Batch,
        checks: &dyn Fn(&str) -> bool,
    ) -> Result<(), Violation> {
        let Some(change) = change_of(entry) else { return Ok(()) };
        let latest = self.kept.last_key_value().map(|(num, _)| *num);
        let mut made = None;
        for (key, value) in batch.writes.iter().filter(|(key, _)| key.starts_with(CONFIG_PREFIX)) {
            let Some(value) = value else {
                let num = key[CONFIG_PREFIX.len()..].try_into().map(u64::from_be_bytes).unwrap_or_default();
                self.oldest = self.oldest.max(ConfigNum(num + 1));
                continue;
            };
            let config = match config_of_pair(key, value) {
                Some(Ok(config)) => config,
                Some(Err(why)) => {
                    return judge(
                        "ctrler.balanced",
                        checks,
                        Err(format!("{node} made a config that is none: {why}")),
                    );
                }
                None => continue,
            };
            let same = self.deterministic.made(node, &config, &self.kept);
            judge("ctrler.deterministic", checks, same)?;
            made = made.max(Some(config.num));
            self.kept.entry(config.num).or_insert(config);
        }
        match made {
            Some(num) if latest.is_none_or(|latest| num > latest) => self.made(num, &change, checks),
            // It was made by a controller before this one, or the command was refused.
            _ => Ok(()),
        }
    }

    fn made(
        &mut self,
        num: ConfigNum,
        change: &Change,
        checks: &dyn Fn(&str) -> bool,
    ) -> Result<(), Violation> {
        let config = &self.kept[&num];
        let empty = Config::empty(config.shards.len());
        let before = num.0.checked_sub(1).and_then(|before| self.kept.get(&ConfigNum(before)));
        let made = Made { change, before: before.unwrap_or(&empty), config };
        judge("ctrler.refused", checks, self.refused.made(&made, &self.kept))?;
        judge("ctrler.balanced", checks, self.balanced.made(&made))?;
        judge("ctrler.minimal", checks, self.minimal.made(&made))
    }

    /// An operator asks.
    pub fn asked(&self, asked: Asked) -> Open {
        Open { asked, floor: self.linearizable.told(), oldest: self.oldest }
    }

    /// An operator is told.
    pub fn told(&mut self, open: &Open, told: &Told, checks: &dyn Fn(&str) -> bool) -> Result<(), Violation> {
        judge("ctrler.deterministic", checks, self.deterministic.told(&open.asked, told, &self.kept))?;
        if let (Asked::Change(change), Told::Refused) = (&open.asked, told) {
            let within = self.kept.range(open.floor..).map(|(_, config)| config);
            let refused = self.refused.told(change, within, &self.kept, open.oldest.max(self.oldest));
            judge("ctrler.refused", checks, refused)?;
        }
        let fits = self.linearizable.fits(&open.asked, open.floor, told);
        judge("ctrler.linearizable", checks, fits)
    }

    /// The config of this number, if it was made.
    pub fn config(&self, num: ConfigNum) -> Option<&Config> {
        self.kept.get(&num)
    }

    /// All configs.
    pub fn kept(&self) -> &Kept {
        &self.kept
    }

    /// The latest config.
    pub fn latest(&self) -> Option<&Config> {
        self.kept.last_key_value().map(|(_, config)| config)
    }

    /// How often each invariant compared something.
    pub fn judged(&self) -> [(&'static str, u64); 5] {
        [
            ("ctrler.deterministic", self.deterministic.judged),
            ("ctrler.balanced", self.balanced.judged),
            ("ctrler.minimal", self.minimal.judged),
            ("ctrler.refused", self.refused.judged),
            ("ctrler.linearizable", self.linearizable.judged),
        ]
    }
}

pub(super) fn judge(
    oracle: &str,
    checks: &dyn Fn(&str) -> bool,
    held: Result<(), String>,
) -> Result<(), Violation> {
    match held {
        Err(message) if checks(oracle) => {
            // Numbers and names differ from run to run.
            let is_word =
                |word: &&str| !word.chars().any(|c| c.is_ascii_digit() || matches!(c, '{' | '[' | '"'));
            let words: Vec<&str> = message.split(' ').filter(is_word).collect();
            let fingerprint = format!("{oracle}: {}", words.join(" "));
            Err(Violation { oracle: oracle.to_owned(), fingerprint, message })
        }
        _ => Ok(()),
    }
}

/// The change that an entry asks for, if it is one.
pub fn change_of(entry: &Entry) -> Option<Change> {
    let Payload::Command(bytes) = &entry.payload else { return None };
    let Some(command::Operation::Execute(execute)) = Command::decode(bytes.as_ref()).ok()?.operation else {
        return None;
    };
    match execute.mutation?.operation? {
        mutation::Operation::Change(change) => Some(change),
        _ => None,
    }
}

/// The shards that are pinned, and where.
pub(super) fn pins(config: &Config) -> BTreeMap<ShardId, GroupId> {
    let pin = |(shard, placement): (ShardId, &Placement)| {
        placement.owner.filter(|_| placement.pinned).map(|owner| (shard, owner))
    };
    config.placements().filter_map(pin).collect()
}

/// How many shards each group has to have in the most level of all placements with these pins, in ascending order:
/// one shard after the other goes to whoever has least.
pub(super) fn level_shares(config: &Config) -> Vec<usize> {
    let pins = pins(config);
    let mut shares: BTreeMap<GroupId, usize> = config.groups.keys().map(|group| (*group, 0)).collect();
    pins.values().for_each(|group| *shares.entry(*group).or_default() += 1);
    let mut shares: Vec<usize> = shares.into_values().collect();
    for _ in pins.len()..config.shards.len() {
        if let Some(least) = shares.iter_mut().min() {
            *least += 1;
        }
    }
    shares.sort_unstable();
    shares
}

#[cfg(test)]
#[path = "configs_tests.rs"]
mod tests;
