//! The controllers as one atomic log, with a second replica that is behind: questions are answered by either.

use std::collections::VecDeque;

use eraft::ctrler::{Config, CtrlerAnswer, CtrlerLimits, CtrlerMachine, CtrlerQuery, CtrlerReply};
use eraft::machine::StateMachine as _;
use eraft::mutants::Mutants;
use eraft::proto::ctrler as pb;
use eraft::proto::ctrler::change::Change as Of;
use eraft::proto::kv::mutation_result::Result as Did;
use eraft::proto::kv::{self, command, mutation};
use eraft::raft::Position;
use eraft::session::Reply;
use eraft::types::{ConfigNum, Index, Term};
use prost::Message as _;

use super::group::{Map, write};

const OPERATOR: kv::ClientId = kv::ClientId { high: 1, low: 1 };

/// One replica.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Replica {
    machine: CtrlerMachine,
    map: Map,
    applied: u64,
}

impl Replica {
    fn new(limits: CtrlerLimits, mutants: Mutants) -> Self {
        Self { machine: CtrlerMachine::new(limits, mutants), map: Map::new(), applied: 0 }
    }

    fn apply(&mut self, command: &[u8]) -> CtrlerReply {
        self.applied += 1;
        let at = Position { index: Index(self.applied), term: Term(1) };
        let applied = self.machine.apply(&self.map, at, command);
        let (batch, reply) = applied.expect("what the machine wrote can be read");
        // What changes nothing is not counted: for a model it is as if it had not been.
        self.applied -= u64::from(batch.is_empty());
        write(&mut self.map, batch);
        reply
    }

    fn read(&self, query: &CtrlerQuery) -> Result<CtrlerAnswer, String> {
        self.machine.read(&self.map, query).map_err(|error| error.to_string())
    }
}

/// The controllers, and every config that they ever made.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Controllers {
    leader: Replica,
    behind: Replica,
    /// What the one behind has yet to apply.
    waiting: VecDeque<Vec<u8>>,
    sequence: u64,
    /// By number, without a hole; also those that are dropped.
    pub configs: Vec<Config>,
}

impl Controllers {
    /// Controllers of a cluster of `shards` shards.
    pub fn new(shards: u64, history_configs: u64, mutants: Mutants) -> Self {
        let limits = CtrlerLimits { history_configs, ..CtrlerLimits::default() };
        let mut controllers = Self {
            leader: Replica::new(limits, mutants.in_process(1)),
            behind: Replica::new(limits, mutants.in_process(2)),
            waiting: VecDeque::new(),
            sequence: 0,
            configs: Vec::new(),
        };
        controllers.enter(command::Operation::OpenSession(kv::OpenSession { client: Some(OPERATOR) }));
        let _ = controllers.change(Of::Create(pb::Create { shards }));
        controllers.note_latest().expect("config 0 is well-formed");
        controllers
    }

    /// Remembers the latest config, if it is new. `Err`: it is none.
    pub fn note_latest(&mut self) -> Result<Option<Config>, String> {
        let CtrlerAnswer::Config { config: Some(latest), .. } = self.leader.read(&CtrlerQuery::Latest)?
        else {
            unreachable!("there is always a latest config")
        };
        if latest.num.0 as usize != self.configs.len() {
            return Ok(None);
        }
        self.configs.push(latest.clone());
        Ok(Some(latest))
    }

    fn enter(&mut self, operation: command::Operation) -> CtrlerReply {
        let command = kv::Command { time_ms: 0, limits: None, operation: Some(operation) }.encode_to_vec();
        let reply = self.leader.apply(&command);
        self.waiting.push_back(command);
        reply
    }

    /// An operator's command: the number of the config that it made, or why it made none.
    pub fn change(&mut self, change: Of) -> Result<ConfigNum, String> {
        self.sequence += 1;
        let operation = mutation::Operation::Change(pb::Change { change: Some(change) });
        let execute = kv::Execute {
            client: Some(OPERATOR),
            sequence: self.sequence,
            acknowledged_below: self.sequence,
            mutation: Some(kv::Mutation { operation: Some(operation) }),
        };
        match self.enter(command::Operation::Execute(execute)) {
            CtrlerReply::Session(Reply::Mutation(result)) => match result.result {
                Some(Did::Config(num)) => Ok(ConfigNum(num)),
                Some(Did::Refused(why)) => Err(why),
                other => unreachable!("{other:?} is no answer to a change"),
            },
            other => unreachable!("{other:?} is no answer to a change"),
        }
    }

    /// A group says how far it is.
    pub fn report(&mut self, report: pb::Report) {
        self.enter(command::Operation::Report(report));
    }

    /// The replica behind applies so many entries more, at most.
    pub fn catch_up(&mut self, entries: usize) {
        for _ in 0..entries {
            let Some(command) = self.waiting.pop_front() else { break };
            self.behind.apply(&command);
        }
    }

    /// Asks the replica that is `behind`, or the leader. `Err`: it is not the answer that there is.
    pub fn ask(&self, query: &CtrlerQuery, behind: bool) -> Result<CtrlerAnswer, String> {
        let answer = if behind { self.behind.read(query) } else { self.leader.read(query) }?;
        self.check(query, &answer)?;
        Ok(answer)
    }

    /// The latest config.
    pub fn latest(&self) -> &Config {
        self.configs.last().expect("config 0 is there from the start")
    }

    /// The oldest config that is kept.
    pub fn oldest(&self) -> ConfigNum {
        match self.leader.read(&CtrlerQuery::Latest) {
            Ok(CtrlerAnswer::Config { oldest, .. }) => oldest,
            other => unreachable!("{other:?} is no config"),
        }
    }

    /// The config in an answer is the one that was made under its number.
    fn check(&self, query: &CtrlerQuery, answer: &CtrlerAnswer) -> Result<(), String> {
        let CtrlerAnswer::Config { config: Some(config), .. } = answer else { return Ok(()) };
        let asked = match query {
            CtrlerQuery::Num(num) => *num,
            CtrlerQuery::After(num) => num.next(),
            CtrlerQuery::Latest | CtrlerQuery::Status => config.num,
        };
        let made = usize::try_from(asked.0).ok().and_then(|num| self.configs.get(num));
        match made {
            Some(made) if made == config => Ok(()),
            _ => Err(format!("asked for config {asked}, a controller answers with another one: {config:?}")),
        }
    }
}
