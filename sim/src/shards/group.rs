//! One group as one atomic log: an entry is committed and applied in one step. What Raft does below it is judged
//! elsewhere; here a group is what the others and the clients can see of it.

use std::collections::BTreeMap;

use eraft::kv::{KvAnswer, KvLimits, KvQuery};
use eraft::machine::{Content, StateMachine as _};
use eraft::mutants::Mutants;
use eraft::proto::kv as kvpb;
use eraft::proto::shardkv::{self as pb, command::Operation};
use eraft::raft::Position;
use eraft::session::SessionLimits;
use eraft::shardkv::{
    Chores, Held, ShardAnswer, ShardMachine, ShardQuery, ShardReply, ShardState, data_of_key,
};
use eraft::types::{ConfigNum, GroupId, Index, ShardId, Term};
use eraft::view::Batch;
use prost::Message as _;

/// A state store in memory.
pub type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// Numbers of a session that may be in use at the same time.
pub const SESSION_WINDOW: u64 = 4;

/// A group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Group {
    /// Its name.
    pub id: GroupId,
    /// Its state.
    pub map: Map,
    /// The last entry.
    pub index: u64,
    machine: ShardMachine,
}

impl Group {
    /// A group that has nothing yet.
    pub fn new(id: GroupId, mutants: Mutants) -> Self {
        let sessions = SessionLimits { session_window: SESSION_WINDOW, ..SessionLimits::default() };
        let limits = KvLimits { sessions, ..KvLimits::default() };
        let machine = ShardMachine::new(id, limits, mutants).expect("these limits are valid");
        Self { id, map: Map::new(), index: 0, machine }
    }

    /// Commits and applies an entry; the reply, and whether anything was written. `Err`: the state cannot be read.
    pub fn apply(&mut self, operation: Operation) -> Result<(ShardReply, bool), String> {
        self.index += 1;
        let at = Position { index: Index(self.index), term: Term(1) };
        let command = pb::Command { operation: Some(operation) }.encode_to_vec();
        let (batch, reply) =
            self.machine.apply(&self.map, at, &command).map_err(|error| error.to_string())?;
        let wrote = !batch.is_empty();
        write(&mut self.map, batch);
        Ok((reply, wrote))
    }

    /// A client's command for `shard`.
    pub fn client(shard: ShardId, operation: kvpb::command::Operation) -> Operation {
        let command = kvpb::Command { time_ms: 7, limits: None, operation: Some(operation) };
        Operation::Client(pb::Client { shard: shard.0, command: command.encode_to_vec().into() })
    }

    /// Asks the state as it is, or an older one.
    pub fn read_at(&self, map: &Map, query: &ShardQuery) -> ShardAnswer {
        self.machine.read(map, query).expect("what the machine wrote can be read")
    }

    /// Asks the state as it is.
    pub fn read(&self, query: &ShardQuery) -> ShardAnswer {
        self.read_at(&self.map, query)
    }

    /// What is here of which shard.
    pub fn held(&self) -> Vec<Held> {
        match self.read(&ShardQuery::Held) {
            ShardAnswer::Held(held) => held,
            other => unreachable!("{other:?} is not what is held"),
        }
    }

    /// What there is to do.
    pub fn chores(&self) -> Chores {
        match self.read(&ShardQuery::Chores) {
            ShardAnswer::Chores(chores) => chores,
            other => unreachable!("{other:?} are no chores"),
        }
    }

    /// The adopted config, and whether a config may say something of what is here.
    pub fn standing(&self) -> (ConfigNum, bool) {
        match self.read(&ShardQuery::Standing) {
            ShardAnswer::Standing { config, holds } => (config, holds),
            other => unreachable!("{other:?} is no standing"),
        }
    }

    /// The value of `key` if its shard is served here.
    pub fn get(&self, shard: ShardId, key: &[u8]) -> Option<Option<Vec<u8>>> {
        let query = KvQuery::Get { key: key.to_vec().into() };
        match self.read(&ShardQuery::Kv { shard, query }) {
            ShardAnswer::Kv(KvAnswer::Value { value }, _) => Some(value),
            _ => None,
        }
    }

    /// The sums of all data that is in the store, whatever the records say.
    pub fn stored(&self) -> BTreeMap<(ShardId, ConfigNum), Content> {
        let mut sums: BTreeMap<_, Content> = BTreeMap::new();
        for (key, value) in &self.map {
            if let Some((shard, born, key)) = data_of_key(key) {
                let sum = sums.entry((shard, born)).or_default();
                *sum = sum.with(key, value);
            }
        }
        sums
    }
}

/// Whether all of a shard's data is there.
pub fn is_whole(state: ShardState) -> bool {
    matches!(state, ShardState::Serving | ShardState::GCing | ShardState::BePulling)
}

/// Whether a shard in this state is served.
pub fn is_served(state: ShardState) -> bool {
    matches!(state, ShardState::Serving | ShardState::GCing)
}

/// Writes a batch.
pub fn write(map: &mut Map, batch: Batch) {
    for (key, value) in batch.writes {
        match value {
            Some(value) => drop(map.insert(key, value)),
            None => drop(map.remove(&key)),
        }
    }
}
