//! From processes to a cluster that serves: leaders are elected, and in a sharded one the groups have joined and have
//! their shards.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;

use super::super::failure::{Code, Failure, outcome};
use super::super::status;
use super::layout::RaftGroup;
use crate::client::{Client, ClientOptions, Found, Outcome, Which};
use crate::ctrler::Config;
use crate::proto::admin::Status;
use crate::proto::ctrler::change::Change;
use crate::proto::ctrler::{Create, Group, Groups};
use crate::replica::Surroundings;
use crate::types::{ConfigNum, GroupId};

/// How long a new cluster may take until it serves.
const READY_MAX: Duration = Duration::from_secs(30);

/// One question whether it is ready …
const ATTEMPT: Duration = Duration::from_millis(500);
/// … and the time until the next one.
const PAUSE: Duration = Duration::from_millis(50);

/// Who asks, and what to say if there is no answer.
pub(super) struct Waiting {
    pub around: Surroundings,
    /// Where the nodes' logs are.
    pub logs: String,
    pub cluster_id: String,
}

impl Waiting {
    /// The leader of a single group that answers.
    pub(super) async fn single(&self, group: &RaftGroup) -> Result<Option<u64>, Failure> {
        let client = self.client(group);
        let ask = async || matches!(client.get("".into()).await, Outcome::Ok(_)).then_some(());
        self.until("no leader answers", ask).await?;
        Ok(status::leader(self.ask_all(group).await.iter()))
    }

    /// The config under which the groups serve all shards. Groups join that have no data yet or, the first time, all.
    pub(super) async fn sharded(
        &self,
        ctrlers: &RaftGroup,
        groups: &[RaftGroup],
        fresh: &BTreeSet<GroupId>,
        shards: Option<u64>,
    ) -> Result<Config, Failure> {
        let client = self.client(ctrlers);
        let latest = async || match client.query(Which::Latest).await {
            Outcome::Ok(Found { config, .. }) => config,
            _ => None,
        };
        let mut config = self.until("no controller answers", latest).await?;
        if let Some(shards) = shards.filter(|shards| *shards != config.shards.len() as u64) {
            outcome("--shards", client.change(Change::Create(Create { shards })).await, "start again")?;
        }
        let is_first = config.num == ConfigNum(0);
        let at = |group: &RaftGroup| {
            let addresses = group.nodes.values().map(ToString::to_string).collect();
            group.id().map(|id| Group { group: id.0, addresses })
        };
        let (known, others): (Vec<_>, Vec<_>) =
            groups.iter().filter_map(at).partition(|group| config.groups.contains_key(&GroupId(group.group)));
        let new: Vec<_> =
            others.into_iter().filter(|group| is_first || fresh.contains(&GroupId(group.group))).collect();
        // With another --port-base they are elsewhere now.
        let moved = known.into_iter().filter(|group| {
            config.addresses(GroupId(group.group)).is_none_or(|at| at.as_slice() != group.addresses)
        });
        let moved: Vec<_> = moved.collect();
        for change in [Change::Update(Groups { groups: moved }), Change::Join(Groups { groups: new })] {
            if matches!(&change, Change::Update(groups) | Change::Join(groups) if groups.groups.is_empty()) {
                continue;
            }
            outcome("joining the groups", client.change(change).await, "start again")?;
        }
        config = self.until("no controller answers", latest).await?;
        for group in groups {
            let what = format!("group {} does not serve", group.id().unwrap_or_default());
            let serves =
                async || self.ask_all(group).await.iter().any(|node| serves(node, &config)).then_some(());
            self.until(&what, serves).await?;
        }
        Ok(config)
    }

    fn client(&self, group: &RaftGroup) -> Client {
        let mut options = ClientOptions::new(group.nodes.clone());
        options.cluster_id = self.cluster_id.clone();
        options.deadline_ms = u64::try_from(ATTEMPT.as_millis()).unwrap_or(u64::MAX);
        Client::new(options, self.around.clone(), None)
    }

    async fn ask_all(&self, group: &RaftGroup) -> Vec<Status> {
        let asked = group.nodes.values().map(|address| status::ask(*address, ATTEMPT, &self.around));
        join_all(asked).await.into_iter().flatten().collect()
    }

    /// Asks until there is an answer, or it has taken too long.
    async fn until<T>(&self, what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> Result<T, Failure> {
        let begun = self.around.clock.now();
        loop {
            if let Some(answer) = ask().await {
                return Ok(answer);
            }
            if self.around.clock.now().since(begun) > READY_MAX {
                let message = format!("{what} after {} s; see {}", READY_MAX.as_secs(), self.logs);
                return Err(Failure::new(Code::Unavailable, message));
            }
            self.around.clock.sleep(PAUSE).await;
        }
    }
}

/// Whether `node` leads a group that has what `config` gives it.
fn serves(node: &Status, config: &Config) -> bool {
    let serving = |shard: u64| {
        let mut here = node.shards.iter().filter(|here| here.shard == shard);
        here.any(|here| matches!(&here.state[..], "Serving" | "GCing"))
    };
    let mut owned = config.shards_of(GroupId(node.group));
    node.role == "leader" && node.config >= config.num.0 && owned.all(|shard| serving(shard.0))
}
