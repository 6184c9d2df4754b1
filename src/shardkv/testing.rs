//! Groups with real machines in one place, for tests: every entry is applied at once, everything between groups is a
//! value that a test may hold back, repeat or drop.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;

use super::*;
use crate::addresses::Addresses;
use crate::ctrler::{Change, Config, shard_of};
use crate::kv::{KvAnswer, KvLimits, KvQuery, KvReply};
use crate::machine::{Content, StateMachine as _, hash_delta};
use crate::mutants::Mutants;
use crate::proto::kv as kvpb;
use crate::proto::kv::mutation::Operation;
use crate::proto::shardkv::{self as pb, command};
use crate::raft::Position;
use crate::session::SessionLimits;
use crate::types::{ConfigNum, GroupId, Index, ShardId, Term};
use crate::view::{Batch, KeyRange, PageLimit, View as _};

pub(super) type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// A group as one atomic log.
#[derive(Clone)]
pub(super) struct Group {
    pub machine: ShardMachine,
    pub map: Map,
    pub index: u64,
}

impl Group {
    fn new(group: GroupId, mutants: Mutants) -> Self {
        let sessions = SessionLimits { session_window: 4, ..SessionLimits::default() };
        let limits = KvLimits { sessions, ..KvLimits::default() };
        Self { machine: ShardMachine::new(group, limits, mutants).unwrap(), map: Map::new(), index: 0 }
    }

    /// Applies the next entry; a refused one must write nothing.
    pub fn apply(&mut self, operation: command::Operation) -> ShardReply {
        let command = pb::Command { operation: Some(operation) }.encode_to_vec();
        self.index += 1;
        let at = Position { index: Index(self.index), term: Term(1) };
        let (batch, reply) = self.machine.apply(&self.map, at, &command).unwrap();
        if matches!(reply, ShardReply::Refused(_) | ShardReply::NotServed { .. }) {
            assert!(batch.is_empty(), "{reply:?} writes {batch:?}");
        }
        for (key, value) in batch.writes {
            match value {
                Some(value) => self.map.insert(key, value),
                None => self.map.remove(&key),
            };
        }
        reply
    }

    pub fn read(&self, query: ShardQuery) -> ShardAnswer {
        self.machine.read(&self.map, &query).unwrap()
    }

    pub fn chores(&self) -> Vec<(ShardId, Chore)> {
        match self.read(ShardQuery::Chores) {
            ShardAnswer::Chores(chores) => chores.todo,
            other => panic!("{other:?} are no chores"),
        }
    }

    pub fn held(&self) -> Vec<Held> {
        match self.read(ShardQuery::Held) {
            ShardAnswer::Held(held) => held,
            other => panic!("{other:?} is not what is held"),
        }
    }

    pub fn state(&self, shard: u64) -> Vec<ShardState> {
        self.held().iter().filter(|held| held.shard.0 == shard).map(|held| held.state).collect()
    }

    pub fn serves(&self, shard: u64) -> bool {
        let query = ShardQuery::Kv { shard: ShardId(shard), query: KvQuery::Status };
        matches!(self.read(query), ShardAnswer::Kv(..))
    }

    pub fn get(&self, shards: usize, key: &str) -> Option<Option<Vec<u8>>> {
        let query = KvQuery::Get { key: key.to_owned().into() };
        match self.read(ShardQuery::Kv { shard: shard_of(key.as_bytes(), shards), query }) {
            ShardAnswer::Kv(KvAnswer::Value { value }, _) => Some(value),
            _ => None,
        }
    }

    pub fn open(&mut self, shard: ShardId, client: u64) -> ShardReply {
        let open = kvpb::OpenSession { client: Some(id(client)) };
        self.client(shard, kvpb::command::Operation::OpenSession(open))
    }

    pub fn append(
        &mut self,
        shards: usize,
        client: u64,
        sequence: u64,
        key: &str,
        value: &str,
    ) -> ShardReply {
        let append = kvpb::Append { key: key.to_owned().into(), value: value.to_owned().into() };
        let execute = kvpb::Execute {
            client: Some(id(client)),
            sequence,
            acknowledged_below: 0,
            mutation: Some(kvpb::Mutation { operation: Some(Operation::Append(append)) }),
        };
        self.client(shard_of(key.as_bytes(), shards), kvpb::command::Operation::Execute(execute))
    }

    pub fn client(&mut self, shard: ShardId, operation: kvpb::command::Operation) -> ShardReply {
        let command = kvpb::Command { time_ms: 7, limits: None, operation: Some(operation) }.encode_to_vec();
        self.apply(command::Operation::Client(pb::Client { shard: shard.0, command: command.into() }))
    }

    /// How many users' keys are in the store of `shard`, whatever the records say.
    pub fn stored_users(&self, shard: u64) -> u64 {
        let prefix = super::record::shard_prefix(ShardId(shard));
        let pairs = self.map.page(&KeyRange::prefix(&prefix), everything()).unwrap();
        let is_user = |(key, _): &&(Vec<u8>, Vec<u8>)| key[prefix.len() + 8..].starts_with(b"k/");
        pairs.iter().filter(is_user).count() as u64
    }

    /// What is in the store of `shard`, whatever the records say.
    pub fn stored(&self, shard: u64) -> Content {
        let prefix = super::record::shard_prefix(ShardId(shard));
        let mut all = Batch::new();
        for (key, value) in self.map.page(&KeyRange::prefix(&prefix), everything()).unwrap() {
            all.put(&key[prefix.len() + 8..], value);
        }
        Content::default().after(hash_delta(&Map::new(), &all).unwrap())
    }
}

fn everything() -> PageLimit {
    PageLimit { pairs_max: usize::MAX, bytes_max: usize::MAX }
}

fn id(client: u64) -> kvpb::ClientId {
    kvpb::ClientId { high: client, low: !client }
}

/// Something on its way between two groups.
#[derive(Clone, Debug)]
pub(super) enum Mail {
    /// For the log of a group: what it is told or given.
    Command(GroupId, command::Operation),
    /// A confirmation, for the log of its source, and what the target puts into its own when it is answered.
    Confirm(GroupId, pb::Confirm, GroupId, command::Operation),
}

#[derive(Clone)]
pub(super) struct World {
    pub configs: Vec<Config>,
    pub groups: BTreeMap<GroupId, Group>,
    /// Pairs in one chunk.
    pub pairs_max: usize,
}

impl World {
    pub fn new(groups: u64, shards: usize) -> Self {
        Self::with(groups, shards, Mutants::default())
    }

    pub fn with(groups: u64, shards: usize, mutants: Mutants) -> Self {
        let groups = (1..=groups).map(|group| (GroupId(group), Group::new(GroupId(group), mutants)));
        Self { configs: vec![Config::empty(shards)], groups: groups.collect(), pairs_max: 2 }
    }

    pub fn config(&self) -> &Config {
        self.configs.last().unwrap()
    }

    pub fn shards(&self) -> usize {
        self.config().shards.len()
    }

    pub fn group(&mut self, group: u64) -> &mut Group {
        self.groups.get_mut(&GroupId(group)).unwrap()
    }

    /// Makes the next config; false if the change is refused.
    pub fn change(&mut self, change: &Change) -> bool {
        let next = change.apply(self.config());
        if let Ok(config) = &next {
            self.configs.push(config.clone());
        }
        next.is_ok()
    }

    pub fn join(&mut self, group: u64) -> bool {
        let addresses: Addresses = format!("host:{}", 1000 + group).parse().unwrap();
        self.change(&Change::Join(BTreeMap::from([(GroupId(group), addresses)])))
    }

    pub fn leave(&mut self, group: u64) -> bool {
        self.change(&Change::Leave(BTreeSet::from([GroupId(group)])))
    }

    pub fn pin(&mut self, shard: u64, group: u64) -> bool {
        self.change(&Change::Move { shard: ShardId(shard), group: GroupId(group) })
    }

    pub fn adopted(&self, group: u64) -> ConfigNum {
        match self.groups[&GroupId(group)].read(ShardQuery::Config) {
            ShardAnswer::Config(config) => config.map_or(ConfigNum(0), |config| config.num),
            other => panic!("{other:?} is no config"),
        }
    }

    pub fn adopt(&mut self, group: u64, num: u64) -> ShardReply {
        self.adopt_oldest(group, num, 0)
    }

    /// Config `num`, when the controllers keep none before `oldest`.
    pub fn adopt_oldest(&mut self, group: u64, num: u64, oldest: u64) -> ShardReply {
        let config = &self.configs[usize::try_from(num).unwrap()];
        let adopt = super::adopt(config, ConfigNum(oldest));
        self.group(group).apply(command::Operation::Adopt(adopt))
    }

    /// Adopts the next config, if there is one.
    pub fn adopt_next(&mut self, group: u64) -> bool {
        let next = self.adopted(group).next();
        next <= self.config().num && self.adopt(group, next.0) == ShardReply::Adopted(next)
    }

    /// Starts one chore of `group`: what it sends, or what it does by itself.
    pub fn start(&mut self, group: u64, shard: ShardId, chore: &Chore) -> Option<Mail> {
        let to = GroupId(group);
        match chore.question(shard) {
            None => {
                self.group(group).apply(chore.command(shard, None)?);
                None
            }
            Some((source, Question::Confirm(confirm))) => {
                let told = chore.command(shard, Some(Answered::Confirmed))?;
                Some(Mail::Confirm(source, confirm, to, told))
            }
            Some((source, Question::Pull { shard, epoch, by, after })) => {
                let limit = PageLimit { pairs_max: self.pairs_max, bytes_max: usize::MAX };
                let pull = ShardQuery::Pull { shard, epoch, by, after, limit };
                match self.groups[&source].read(pull) {
                    ShardAnswer::Pulled(Pulled::Chunk(chunk)) => {
                        let insert = chore.command(shard, Some(Answered::Chunk(chunk)))?;
                        Some(Mail::Command(to, insert))
                    }
                    _ => None,
                }
            }
        }
    }

    /// Delivers; what comes back, if anything.
    pub fn deliver(&mut self, mail: Mail) -> Option<Mail> {
        match mail {
            Mail::Command(to, operation) => {
                self.group(to.0).apply(operation);
                None
            }
            Mail::Confirm(source, confirm, to, told) => {
                let reply = self.group(source.0).apply(command::Operation::Confirm(confirm));
                (reply == ShardReply::Done).then_some(Mail::Command(to, told))
            }
        }
    }

    /// Does all chores of the groups in `alive` once, and adopts their next configs; true if anything was to be done.
    pub fn turn(&mut self, alive: &[u64]) -> bool {
        let before = self.groups.values().map(|group| group.map.clone()).collect::<Vec<_>>();
        for group in alive {
            self.adopt_next(*group);
            for (shard, chore) in self.groups[&GroupId(*group)].chores() {
                let (Chore::Pull { source, .. } | Chore::Tell { source, .. }) = &chore else {
                    self.start(*group, shard, &chore);
                    continue;
                };
                if alive.contains(&source.group.0) {
                    let mut mail = self.start(*group, shard, &chore);
                    while let Some(next) = mail {
                        mail = self.deliver(next);
                    }
                }
            }
            self.check();
        }
        !self.groups.values().map(|group| &group.map).eq(&before)
    }

    /// Turns until nothing changes.
    pub fn settle(&mut self, alive: &[u64]) {
        for _ in 0..10_000 {
            if !self.turn(alive) {
                return;
            }
        }
        panic!("it never settles");
    }

    pub fn settle_all(&mut self) {
        let all: Vec<u64> = self.groups.keys().map(|group| group.0).collect();
        self.settle(&all);
    }

    /// What holds at every moment: a shard is served once at most, and where its last reign is complete it is whole.
    pub fn check(&self) {
        for shard in 0..self.shards() as u64 {
            let serving: Vec<_> =
                self.groups.iter().filter(|(_, group)| group.serves(shard)).map(|(id, _)| *id).collect();
            assert!(serving.len() <= 1, "shard {shard} is served by {serving:?}");
        }
    }

    /// What holds once everything has settled: each shard is where the config says, and nowhere else is anything.
    pub fn check_settled(&self) {
        self.check();
        for (shard, placement) in self.config().placements() {
            for (id, group) in &self.groups {
                let states = group.state(shard.0);
                if placement.owner == Some(*id) {
                    assert_eq!(states, [ShardState::Serving], "shard {shard} at its owner {id}");
                } else if placement.owner.is_some() {
                    assert_eq!(states, [], "shard {shard} at {id}");
                    assert_eq!(
                        group.stored(shard.0),
                        Content::default(),
                        "shard {shard} left something at {id}"
                    );
                }
                let sum =
                    group.held().iter().filter(|held| held.shard == shard).map(|held| held.content).next();
                assert_eq!(group.stored(shard.0), sum.unwrap_or_default(), "shard {shard} at {id}");
                let users: u64 =
                    group.held().iter().filter(|held| held.shard == shard).map(|held| held.user_keys).sum();
                assert_eq!(group.stored_users(shard.0), users, "users' keys of shard {shard} at {id}");
            }
        }
    }
}

/// A key of `shard`.
pub(super) fn key_of(shard: u64, shards: usize) -> String {
    (0..).map(|n| format!("k{n}")).find(|key| shard_of(key.as_bytes(), shards).0 == shard).unwrap()
}

pub(super) fn is_done(reply: &ShardReply) -> bool {
    matches!(reply, ShardReply::Kv(KvReply::Mutation(_), _))
}
