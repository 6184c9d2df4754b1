//! What `status` shows of one node.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bytesize::ByteSize;
use serde::Serialize;

use super::super::placement::ranges;
use crate::proto::admin::{ShardStatus, Status};
use crate::replica::Service;
use crate::types::{ConfigNum, GroupId, NodeId, ShardId};

/// The columns of a node; the last two are of sharded clusters only.
pub(super) const HEADER: [&str; 15] = [
    "ID", "ADDRESS", "ROLE", "TERM", "LEADER", "COMMIT", "APPLIED", "LAG", "LOG", "KEYS", "SIZE", "DISK",
    "VERSION", "CONFIG", "SHARDS",
];

/// The columns of a shard.
pub(super) const SHARDS_HEADER: [&str; 6] = ["GROUP", "SHARD", "STATE", "EPOCH", "KEYS", "SIZE"];

/// What the JSON shows; fields are added, never renamed.
#[derive(Serialize)]
pub(super) struct Node {
    id: u64,
    service: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<GroupId>,
    address: String,
    online: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(flatten)]
    answer: Option<Answer>,
}

#[derive(Serialize)]
struct Answer {
    cluster_id: String,
    role: String,
    term: u64,
    leader: Option<u64>,
    commit: u64,
    applied: u64,
    durable_applied: u64,
    lag: u64,
    log_first: u64,
    log_last: u64,
    keys: u64,
    bytes: u64,
    disk_bytes: u64,
    sessions: u64,
    replica_hash: String,
    version: String,
    #[serde(flatten)]
    sharded: Option<Sharded>,
}

/// What only a group of a sharded cluster says.
#[derive(Serialize)]
struct Sharded {
    config: ConfigNum,
    shards: Vec<Shard>,
}

#[derive(Serialize)]
struct Shard {
    shard: ShardId,
    state: String,
    epoch: ConfigNum,
    keys: u64,
    bytes: u64,
}

impl Node {
    pub(super) fn new(
        service: Service,
        id: NodeId,
        address: SocketAddr,
        answer: Result<Status, String>,
        commit: u64,
    ) -> Self {
        let (answer, error) = match answer {
            Ok(status) => (Some(Answer::new(status, commit)), None),
            Err(error) => (None, Some(error)),
        };
        let (service, group) = match service {
            Service::Kv => ("kv", None),
            Service::Ctrler => ("ctrler", None),
            Service::Shard(group) => ("shard", Some(group)),
        };
        let (id, address, online) = (id.0, address.to_string(), answer.is_some());
        Self { id, service, group, address, online, error, answer }
    }

    pub(super) fn online(&self) -> bool {
        self.online
    }

    /// The node that leads in the highest term, of one Raft group.
    pub(super) fn leader(nodes: &[Self]) -> Option<u64> {
        let led =
            |node: &&Self| node.answer.as_ref().filter(|answer| answer.role == "leader").map(|a| a.term);
        nodes.iter().filter(|node| led(node).is_some()).max_by_key(led).map(|node| node.id)
    }

    /// As its data directory.
    fn name(&self) -> String {
        match (self.service, self.group) {
            (_, Some(group)) => format!("g{group}/n{}", self.id),
            ("ctrler", None) => format!("ctrler/n{}", self.id),
            _ => format!("n{}", self.id),
        }
    }

    /// Who it is, where, and what is wrong.
    pub(super) fn in_words(&self) -> String {
        format!("{} at {}: {}", self.name(), self.address, self.error.as_deref().unwrap_or_default())
    }

    pub(super) fn row(&self) -> Vec<String> {
        let mut row = vec![self.name(), self.address.clone()];
        let Some(answer) = &self.answer else {
            row.push(format!("offline: {}", self.error.as_deref().unwrap_or_default()));
            row.resize(HEADER.len(), "-".to_owned());
            return row;
        };
        row.extend([
            answer.role.clone(),
            answer.term.to_string(),
            answer.leader.map_or_else(|| "-".to_owned(), |leader| format!("n{leader}")),
            answer.commit.to_string(),
            answer.applied.to_string(),
            answer.lag.to_string(),
            format!("{}..{}", answer.log_first, answer.log_last),
            answer.keys.to_string(),
            ByteSize(answer.bytes).to_string(),
            ByteSize(answer.disk_bytes).to_string(),
            answer.version.clone(),
        ]);
        match &answer.sharded {
            Some(sharded) => row.extend([sharded.config.to_string(), sharded.in_words()]),
            None => row.resize(HEADER.len(), "-".to_owned()),
        }
        row
    }

    /// The shards that it has, if it leads its group.
    pub(super) fn shard_rows(&self) -> Vec<Vec<String>> {
        let Some((group, answer)) = self.group.zip(self.answer.as_ref()) else { return Vec::new() };
        let shards = answer.sharded.iter().filter(|_| answer.role == "leader").flat_map(|at| &at.shards);
        let row = |shard: &Shard| {
            let Shard { shard, state, epoch, keys, bytes } = shard;
            let size = ByteSize(*bytes).to_string();
            vec![
                group.to_string(),
                shard.to_string(),
                state.clone(),
                epoch.to_string(),
                keys.to_string(),
                size,
            ]
        };
        shards.map(row).collect()
    }
}

impl Answer {
    fn new(status: Status, commit: u64) -> Self {
        let shards = status.shards.into_iter().map(Shard::from);
        let sharded = Sharded { config: ConfigNum(status.config), shards: shards.collect() };
        Self {
            cluster_id: status.cluster_id,
            role: status.role,
            term: status.term,
            leader: (status.leader != 0).then_some(status.leader),
            commit: status.commit,
            applied: status.applied,
            durable_applied: status.durable_applied,
            lag: commit.saturating_sub(status.applied),
            log_first: status.log_first,
            log_last: status.log_last,
            keys: status.keys,
            bytes: status.bytes,
            disk_bytes: status.disk_bytes,
            sessions: status.sessions,
            replica_hash: format!("{:016x}", status.replica_hash),
            version: status.version,
            sharded: (status.group != 0).then_some(sharded),
        }
    }
}

impl Sharded {
    /// `0-4`, or `0-3, Pulling 4` if not all of them serve.
    fn in_words(&self) -> String {
        let mut by_state: BTreeMap<&str, Vec<ShardId>> = BTreeMap::new();
        for shard in &self.shards {
            by_state.entry(&shard.state).or_default().push(shard.shard);
        }
        let serving = by_state.remove("Serving");
        let others = by_state.into_iter().map(|(state, shards)| format!("{state} {}", ranges(shards)));
        let all: Vec<String> = serving.into_iter().map(ranges).chain(others).collect();
        if all.is_empty() { "-".to_owned() } else { all.join(", ") }
    }
}

impl From<ShardStatus> for Shard {
    fn from(status: ShardStatus) -> Self {
        let ShardStatus { shard, state, epoch, keys, bytes } = status;
        Self { shard: ShardId(shard), state, epoch: ConfigNum(epoch), keys, bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_that_do_not_serve_are_named_with_their_state() {
        let shard = |shard, state: &str| Shard {
            shard: ShardId(shard),
            state: state.to_owned(),
            epoch: ConfigNum(1),
            keys: 0,
            bytes: 0,
        };
        let of = |shards: Vec<Shard>| Sharded { config: ConfigNum(1), shards }.in_words();
        assert_eq!(of(vec![]), "-");
        assert_eq!(of(vec![shard(0, "Serving"), shard(1, "Serving")]), "0-1");
        let mixed = vec![shard(0, "Serving"), shard(1, "Pulling"), shard(2, "Serving"), shard(3, "Deleting")];
        assert_eq!(of(mixed), "0,2, Deleting 3, Pulling 1");
    }
}
