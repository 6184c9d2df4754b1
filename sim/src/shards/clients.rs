//! Clients with a session per shard, and what they may expect: a map that each append changes once.
//!
//! Every entry is applied in one step, so the order of the steps is the order of the operations, and what an
//! operation returns is known at once: the key's value, whoever serves it, is the tokens of all accepted appends, in
//! their order, each once.

use std::collections::{BTreeMap, BTreeSet};

use eraft::ctrler::shard_of;
use eraft::proto::kv::mutation::Operation;
use eraft::proto::kv::{self as pb, MutationResult, command};
use eraft::types::ShardId;
use prost::Message as _;

use super::group::SESSION_WINDOW;

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Request {
    /// Who.
    pub client: u64,
    /// Where.
    pub shard: ShardId,
    /// What.
    pub wants: Wants,
}

/// What is asked of a shard.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wants {
    /// A session.
    Open,
    /// An append of the number's token.
    Append {
        /// The number in the session.
        sequence: u64,
        /// All below are acknowledged.
        acknowledged_below: u64,
    },
    /// The value of the shard's key.
    Read,
}

impl Request {
    /// The command; `None`: it is a question.
    pub fn command(&self, key: &[u8]) -> Option<command::Operation> {
        let client = Some(pb::ClientId { high: 0, low: self.client });
        Some(match self.wants {
            Wants::Read => return None,
            Wants::Open => command::Operation::OpenSession(pb::OpenSession { client }),
            Wants::Append { sequence, acknowledged_below } => {
                let append =
                    pb::Append { key: key.to_vec().into(), value: token(self.client, sequence).into() };
                command::Operation::Execute(pb::Execute {
                    client,
                    sequence,
                    acknowledged_below,
                    mutation: Some(pb::Mutation { operation: Some(Operation::Append(append)) }),
                })
            }
        })
    }
}

/// Three bytes that name an append.
fn token(client: u64, sequence: u64) -> Vec<u8> {
    let [high, low, ..] = sequence.to_le_bytes();
    vec![client as u8, high, low]
}

const TOKEN_BYTES: usize = 3;

/// A session as its client sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Session {
    open: bool,
    next: u64,
    /// Asked for, and not known to be done.
    waiting: BTreeSet<u64>,
}

impl Session {
    fn acknowledged_below(&self) -> u64 {
        self.waiting.first().copied().unwrap_or(self.next)
    }
}

/// All clients, and what the cluster must hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Clients {
    /// The key of each shard.
    pub keys: Vec<Vec<u8>>,
    sessions: BTreeMap<(u64, ShardId), Session>,
    /// The first result of each append, encoded.
    results: BTreeMap<(u64, ShardId, u64), Vec<u8>>,
    /// Sessions that some owner has opened.
    opened: BTreeSet<(u64, ShardId)>,
    values: Vec<Vec<u8>>,
}

/// Which oracle says what.
pub type Wrong = (&'static str, String);

impl Clients {
    /// Clients of a cluster of `shards` shards, with a key in each.
    pub fn new(shards: usize) -> Self {
        let key = |shard: usize| {
            let is_there = |key: &Vec<u8>| shard_of(key, shards).0 == shard as u64;
            (0u32..).map(|n| n.to_le_bytes().to_vec()).find(is_there).expect("every shard has keys")
        };
        Self {
            keys: (0..shards).map(key).collect(),
            sessions: BTreeMap::new(),
            results: BTreeMap::new(),
            opened: BTreeSet::new(),
            values: vec![Vec::new(); shards],
        }
    }

    /// The next thing that `client` asks of `shard`; a retry if `retries` and something waits.
    pub fn next(&mut self, client: u64, shard: ShardId, retries: bool, reads: bool) -> Request {
        let session = self.sessions.entry((client, shard)).or_default();
        let acknowledged_below = session.acknowledged_below();
        let wants = match () {
            () if reads => Wants::Read,
            () if !session.open => Wants::Open,
            () => {
                let has_room = session.next - acknowledged_below < SESSION_WINDOW;
                let again = session.waiting.first().copied().filter(|_| retries || !has_room);
                let sequence = again.unwrap_or_else(|| {
                    session.next += 1;
                    session.waiting.insert(session.next - 1);
                    session.next - 1
                });
                Wants::Append { sequence, acknowledged_below }
            }
        };
        Request { client, shard, wants }
    }

    /// The client hears that its request was done.
    pub fn acknowledge(&mut self, request: &Request) {
        let session = self.sessions.entry((request.client, request.shard)).or_default();
        match request.wants {
            Wants::Open => session.open = true,
            Wants::Append { sequence, .. } => drop(session.waiting.remove(&sequence)),
            Wants::Read => {}
        }
    }

    /// A session was opened.
    pub fn opened(&mut self, request: &Request) {
        self.opened.insert((request.client, request.shard));
    }

    /// An owner says that it does not know the session. None is ever idle for long enough.
    pub fn forgotten(&self, request: &Request) -> Result<(), Wrong> {
        match self.opened.contains(&(request.client, request.shard)) {
            true => Err(("kv.exactly_once", format!("the session of {request:?} is forgotten"))),
            false => Ok(()),
        }
    }

    /// An append was accepted; true if now, false if before.
    pub fn appended(&mut self, request: &Request, result: &MutationResult) -> Result<bool, Wrong> {
        let Wants::Append { sequence, .. } = request.wants else { return Ok(false) };
        let name = (request.client, request.shard, sequence);
        match self.results.get(&name) {
            Some(first) if *first != result.encode_to_vec() => Err((
                "kv.exactly_once",
                format!("{request:?} gets {result:?}, which is not its first result"),
            )),
            Some(_) => Ok(false),
            None => {
                self.results.insert(name, result.encode_to_vec());
                self.values[request.shard.0 as usize].extend(token(request.client, sequence));
                Ok(true)
            }
        }
    }

    /// What whoever serves `shard` must say of its key.
    pub fn check(&self, shard: ShardId, value: Option<&[u8]>) -> Result<(), Wrong> {
        let (value, expected) = (value.unwrap_or_default(), &self.values[shard.0 as usize]);
        if value == expected {
            return Ok(());
        }
        let tokens: Vec<&[u8]> = value.chunks(TOKEN_BYTES).collect();
        let mut seen = BTreeSet::new();
        let oracle = match () {
            () if tokens.iter().any(|token| !seen.insert(*token)) => "kv.exactly_once",
            () if value.len() < expected.len() => "shard.no_loss",
            () => "kv.linearizable",
        };
        Err((oracle, format!("shard {shard} holds {value:x?}, not {expected:x?}")))
    }
}
