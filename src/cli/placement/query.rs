//! `query`: one config, for people and for programs.

use serde::Serialize;

use super::super::client::CtrlersArgs;
use super::super::failure::{Code, Failure, outcome};
use super::super::output::Output;
use super::groups::ranges;
use crate::client::{Client, Found, Which};
use crate::ctrler::Config;
use crate::types::{ConfigNum, GroupId, ShardId};

const HEADER: [&str; 6] = ["GROUP", "STATE", "SHARDS", "WHICH", "PINNED", "ADDRESSES"];

#[derive(Clone, Debug, clap::Args)]
pub(in crate::cli) struct Query {
    /// Which config [default: the latest].
    num: Option<u64>,
    #[command(flatten)]
    ctrlers: CtrlersArgs,
}

/// What the JSON shows; fields are added, never renamed.
#[derive(Serialize)]
struct Report<'a> {
    config: ConfigNum,
    latest: ConfigNum,
    oldest: ConfigNum,
    shards: Vec<Shard>,
    groups: Vec<Group<'a>>,
}

#[derive(Serialize)]
struct Shard {
    shard: ShardId,
    group: Option<GroupId>,
    /// The config that gave it to the group.
    epoch: ConfigNum,
    /// Who had it before, since which config.
    from: Option<From>,
    pinned: bool,
}

#[derive(Serialize)]
struct From {
    group: GroupId,
    epoch: ConfigNum,
}

#[derive(Serialize)]
struct Group<'a> {
    group: GroupId,
    /// False: it left, and others may still fetch shards from it.
    joined: bool,
    shards: Vec<ShardId>,
    pinned: Vec<ShardId>,
    addresses: &'a [String],
}

impl Query {
    pub(super) async fn run(self, output: Output) -> Result<(), Failure> {
        let which = self.num.map_or(Which::Latest, |num| Which::Num(ConfigNum(num)));
        let client = self.ctrlers.client()?;
        let what = self.num.map_or_else(|| "query".to_owned(), |num| format!("query {num}"));
        let (config, latest, oldest) = ask(&client, &what, which).await?;
        if output.is_json() {
            return output.json(&Report::new(&config, latest, oldest));
        }
        let age =
            if config.num == latest { "the latest".to_owned() } else { format!("the latest is {latest}") };
        let mut title = format!("config {}, {age}: {} shards", config.num, config.shards.len());
        if config.groups.is_empty() {
            title.push_str(", no group is joined");
        }
        output.line(&title)?;
        output.rows(&HEADER, groups(&config).map(Group::row).collect())
    }
}

/// Asks for a config that must be there; with the numbers of the latest and of the oldest that is kept.
pub(super) async fn ask(
    client: &Client,
    what: &str,
    which: Which,
) -> Result<(Config, ConfigNum, ConfigNum), Failure> {
    let Found { config, latest, oldest } = outcome(what, client.query(which).await, "ask")?;
    let config = config.ok_or_else(|| {
        let message = format!("{what}: there is no such config; {oldest} to {latest} are kept");
        Failure::new(Code::Refused, message)
    })?;
    Ok((config, latest, oldest))
}

/// The groups that are joined, then those that left and are still a source.
fn groups(config: &Config) -> impl Iterator<Item = Group<'_>> {
    let joined = config.groups.iter().map(|at| (true, at));
    let left = config.left.iter().map(|at| (false, at));
    joined.chain(left).map(|(joined, (group, addresses))| {
        let pinned = |shard: &ShardId| config.placement(*shard).is_some_and(|placement| placement.pinned);
        let shards: Vec<_> = config.shards_of(*group).collect();
        let pinned = shards.iter().copied().filter(pinned).collect();
        Group { group: *group, joined, shards, pinned, addresses: addresses.as_slice() }
    })
}

impl Group<'_> {
    fn row(self) -> Vec<String> {
        vec![
            self.group.to_string(),
            if self.joined { "joined" } else { "left" }.to_owned(),
            self.shards.len().to_string(),
            ranges(self.shards),
            ranges(self.pinned),
            self.addresses.join(","),
        ]
    }
}

impl<'a> Report<'a> {
    fn new(config: &'a Config, latest: ConfigNum, oldest: ConfigNum) -> Self {
        let shards = config.placements().map(|(shard, placement)| Shard {
            shard,
            group: placement.owner,
            epoch: placement.epoch,
            from: placement.source.map(|source| From { group: source.group, epoch: source.epoch }),
            pinned: placement.pinned,
        });
        let shards = shards.collect();
        Self { config: config.num, latest, oldest, shards, groups: groups(config).collect() }
    }
}
