//! `up`: a whole cluster on this machine, one process a node.
//!
//! The nodes are children of this process in process groups of their own: Ctrl-C reaches only us, and we stop them
//! one after the other, the controllers last. If we are killed, they are told by the kernel and stop too (on Linux).

mod child;
mod layout;
mod ready;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use self::child::{Children, Ended};
use self::layout::RaftGroup;
use self::ready::Waiting;
use super::client::surroundings;
use super::failure::{Code, Failure};
use super::output::Output;
use super::serve::{DEFAULT_CLUSTER_ID, DEFAULT_DB, group_directory};
use crate::server::shutdown::Signals;
use crate::types::GroupId;

#[derive(Clone, Debug, clap::Args)]
pub(super) struct Up {
    /// How many groups share the shards; their ids are 100, 101, ….
    #[arg(long, value_name = "N", default_value = "2", value_parser = clap::value_parser!(u16).range(1..=16))]
    groups: u16,
    /// How many nodes each group has.
    #[arg(long, value_name = "N", default_value = "3", value_parser = clap::value_parser!(u16).range(1..=9))]
    replicas: u16,
    // Not --ctrlers in the first place: the variable of that flag holds addresses.
    /// How many controllers.
    #[arg(long, alias = "ctrlers", value_name = "N", default_value = "3", value_parser = clap::value_parser!(u16).range(1..=9))]
    controllers: u16,
    /// How many shards a new cluster has [default: 10].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=4096))]
    shards: Option<u64>,
    /// One group of --replicas nodes that keeps all keys, without controllers.
    #[arg(long, conflicts_with_all = ["groups", "controllers", "shards"])]
    single: bool,
    /// Where data and logs go.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DB)]
    data: PathBuf,
    /// The nodes listen on this port of 127.0.0.1 and those after it: the controllers first, then group by group.
    #[arg(long, value_name = "P", default_value = "5001", value_parser = clap::value_parser!(u16).range(1..))]
    port_base: u16,
    /// The name of the cluster.
    #[arg(long, value_name = "NAME", default_value = DEFAULT_CLUSTER_ID)]
    cluster_id: String,
}

/// What there is to say when the cluster serves.
struct Ready {
    /// For programs; the nodes are added.
    json: Value,
    /// For people: what it is.
    shown: String,
    /// What makes the other commands find it.
    export: String,
}

impl Up {
    pub(super) async fn run(self, output: Output) -> Result<(), Failure> {
        let groups = match self.single {
            true => layout::single(self.replicas, self.port_base)?,
            false => layout::sharded(self.controllers, self.groups, self.replicas, self.port_base)?,
        };
        layout::check_free(&groups)?;
        let fresh = fresh_groups(&self.data, &groups)?;
        let mut signals = Signals::catch()
            .map_err(|error| Failure::new(Code::Internal, format!("catching signals: {error}")))?;
        let mut children = Children::start(&groups, &self.data, &self.cluster_id)?;

        let around = surroundings()?;
        let started = around.clock.now();
        let waiting =
            Waiting { around: around.clone(), logs: children.logs(), cluster_id: self.cluster_id.clone() };
        let mut getting_ready = Box::pin(self.get_ready(&waiting, &groups, &fresh));
        let mut is_ready = false;
        let stopped = loop {
            tokio::select! {
                biased;
                signal = signals.next() => break Ok(signal),
                ended = children.next_end() => {
                    report(&ended);
                    if children.running() == 0 {
                        let message = format!("all nodes have ended; see {}", children.logs());
                        break Err(Failure::new(Code::Unhealthy, message));
                    }
                }
                ready = &mut getting_ready, if !is_ready => {
                    is_ready = true;
                    let took = around.clock.now().since(started);
                    match ready {
                        Ok(ready) => self.announce(ready, &children, took, output)?,
                        Err(failure) => break Err(failure),
                    }
                }
            }
        };
        // The next signal ends this process at once, and with it the nodes.
        signals.end_at_next();
        for ended in children.stop_in_order().await {
            report(&ended);
        }
        stopped.map(drop)
    }

    async fn get_ready(
        &self,
        waiting: &Waiting,
        groups: &[RaftGroup],
        fresh: &BTreeSet<GroupId>,
    ) -> Result<Ready, Failure> {
        let (first, rest) = groups.split_first().expect("there is a group");
        let (cluster, replicas) = (first.cluster(), self.replicas);
        if self.single {
            let leader = waiting.single(first).await?;
            let nodes = count(replicas, "node");
            let leads = leader.map_or_else(String::new, |leader| format!(", n{leader} leads"));
            return Ok(Ready {
                json: json!({ "cluster": cluster.to_string(), "leader": leader }),
                shown: format!("{nodes}{leads}"),
                export: format!("ERAFT_CLUSTER={cluster}"),
            });
        }
        let config = waiting.sharded(first, rest, fresh, self.shards).await?;
        let (groups, shards): (Vec<_>, _) = (config.groups.keys().collect(), config.shards.len());
        Ok(Ready {
            shown: format!(
                "{}, {} of {replicas} with {shards} shards (config {})",
                count(self.controllers, "controller"),
                count(self.groups, "group"),
                config.num
            ),
            json: json!({
                "ctrlers": cluster.to_string(), "config": config.num, "groups": groups, "shards": shards,
            }),
            export: format!("ERAFT_CTRLERS={cluster}"),
        })
    }

    fn announce(
        &self,
        mut ready: Ready,
        children: &Children,
        took: Duration,
        output: Output,
    ) -> Result<(), Failure> {
        if output.is_json() {
            ready.json["ready"] = json!(true);
            ready.json["seconds"] = json!(took.as_secs_f64());
            ready.json["cluster_id"] = json!(self.cluster_id);
            ready.json["nodes"] = json!(children.list().collect::<Vec<_>>());
            return output.json(&ready.json);
        }
        output.line(&format!(
            "ready after {:.1} s: {}, data and logs in {}\nexport {}\nCtrl-C stops it",
            took.as_secs_f64(),
            ready.shown,
            self.data.display(),
            ready.export
        ))
    }
}

/// The groups that have no data in `data` yet. A group that has some and is not to be started is an error: without it
/// its shards could not be reached.
fn fresh_groups(data: &Path, groups: &[RaftGroup]) -> Result<BTreeSet<GroupId>, Failure> {
    let ids: BTreeSet<_> = groups.iter().filter_map(RaftGroup::id).collect();
    if let Some(last) = ids.last() {
        let next = last.next();
        if group_directory(data, next).exists() {
            let message = format!(
                "{} has data of group {next}, and it would not be started; give more --groups, or another --data",
                data.display()
            );
            return Err(Failure::usage(message));
        }
    }
    Ok(ids.into_iter().filter(|group| !group_directory(data, *group).exists()).collect())
}

/// `1 group`, `2 groups`.
fn count(number: u16, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Tells of a node's end on standard error, where nothing else of `up` is.
fn report(ended: &Ended) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{ended}");
}
