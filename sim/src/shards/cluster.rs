//! Controllers, groups and clients, and what is judged whenever one of them does something. What happens when, and
//! what is under way between them, is the business of who uses this: the scheduler ([`super`]) or a model
//! ([`crate::model::shards`]).

use eraft::ctrler::{CtrlerAnswer, CtrlerQuery};
use eraft::kv::KvReply;
use eraft::mutants::Mutants;
use eraft::proto::ctrler::{self as pb, change::Change as Of};
use eraft::proto::kv::RefusedReason;
use eraft::proto::shardkv::command::Operation;
use eraft::shardkv::{Answered, Follow, Pulled, Question, ShardAnswer, ShardQuery, ShardReply, follow};
use eraft::types::{ConfigNum, GroupId, ShardId};
use eraft::view::PageLimit;

use super::clients::{Clients, Request, Wrong};
use super::controllers::Controllers;
use super::group::{Group, Map};
use super::judge::{self, Ledger, Seen};
use super::placement;

/// All of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cluster {
    /// The groups, by number from 1.
    pub seen: Vec<Seen>,
    /// The controllers.
    pub controllers: Controllers,
    /// The clients.
    pub clients: Clients,
    ledger: Ledger,
}

/// What an entry of a group did.
#[derive(Clone, Debug, PartialEq)]
pub struct Entered {
    /// What its proposer is told.
    pub reply: ShardReply,
    /// Anything was written.
    pub wrote: bool,
    /// A config was adopted, and those before it were left out.
    pub left_out: bool,
    /// Shards that are now here as a whole.
    pub arrived: u64,
    /// Those of them that had been here before.
    pub returned: u64,
}

/// What a client's request did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// It is done, and was not before.
    Done,
    /// It is answered, and nothing else had to be done.
    Again,
    /// Its shard is not here.
    Redirected,
    /// It was refused.
    Refused,
}

/// Where in [`Cluster::seen`] a group is.
pub fn place_of(group: GroupId) -> usize {
    group.0 as usize - 1
}

impl Cluster {
    /// Groups 1 to `groups`, which have nothing, and controllers that have made no config.
    pub fn new(groups: u64, shards: u64, history_configs: u64, mutants: Mutants) -> Self {
        Self {
            seen: (1..=groups).map(|id| Seen::new(Group::new(GroupId(id), mutants))).collect(),
            controllers: Controllers::new(shards, history_configs, mutants),
            clients: Clients::new(shards as usize),
            ledger: Ledger::new(shards as usize),
        }
    }

    /// An entry of the group at `place`, and everything that must hold after it.
    pub fn enter(&mut self, place: usize, operation: Operation) -> Result<Entered, Wrong> {
        let touched = match &operation {
            Operation::Adopt(_) => None,
            Operation::Insert(insert) => Some(insert.shard),
            Operation::Confirm(confirm) => Some(confirm.shard),
            Operation::Told(told) => Some(told.shard),
            Operation::Delete(delete) => Some(delete.shard),
            Operation::Client(client) => Some(client.shard),
        };
        let is_client = matches!(operation, Operation::Client(_));
        let deletes = matches!(operation, Operation::Delete(_));
        let seen = &mut self.seen[place];
        let me = seen.group.id;
        let (reply, wrote) = seen.group.apply(operation).map_err(|error| ("shard.no_loss", error))?;
        if wrote && matches!(reply, ShardReply::Refused(_) | ShardReply::NotServed { .. }) {
            return Err(("shard.refused", format!("group {me}: {reply:?} writes")));
        }
        let mut entered = Entered { reply, wrote, left_out: false, arrived: 0, returned: 0 };
        if !wrote {
            return Ok(entered);
        }
        let held = seen.group.held();
        let before = std::mem::replace(&mut seen.held, held);
        if is_client {
            return Ok(entered);
        }
        if let ShardReply::Adopted(to) = entered.reply {
            let from = std::mem::replace(&mut seen.adopted, to);
            entered.left_out = to != from.next();
            let oldest = self.controllers.oldest();
            judge::order(me, from, to, &before, &self.controllers.configs, oldest)?;
        }
        let shards = 0..self.clients.keys.len() as u64;
        for shard in shards.filter(|shard| touched.is_none_or(|touched| touched == *shard)).map(ShardId) {
            let came = self.ledger.changed(&self.seen, place, &before, shard)?;
            entered.arrived += u64::from(came.is_some());
            entered.returned += u64::from(came == Some(true));
        }
        if deletes {
            judge::stored(&self.seen[place])?;
        }
        Ok(entered)
    }

    /// A client's request at the group at `place`.
    pub fn serve(&mut self, place: usize, request: &Request) -> Result<Served, Wrong> {
        let shard = request.shard;
        let key = self.clients.keys[shard.0 as usize].clone();
        let Some(command) = request.command(&key) else {
            let Some(value) = self.seen[place].group.get(shard, &key) else { return Ok(Served::Redirected) };
            self.ledger.served(&self.seen[place], &self.controllers.configs, shard, None)?;
            self.clients.check(shard, value.as_deref())?;
            return Ok(Served::Again);
        };
        let Entered { reply, wrote, .. } = self.enter(place, Group::client(shard, command))?;
        let ShardReply::Kv(reply, position) = reply else { return Ok(Served::Redirected) };
        let position = wrote.then_some(position);
        self.ledger.served(&self.seen[place], &self.controllers.configs, shard, position)?;
        let mut is_new = false;
        match reply {
            KvReply::SessionOpened => self.clients.opened(request),
            KvReply::Mutation(result) => is_new = self.clients.appended(request, &result)?,
            KvReply::Refused { reason: RefusedReason::RefusedSessionExpired, .. } => {
                self.clients.forgotten(request)?;
                return Ok(Served::Refused);
            }
            KvReply::Refused { .. } | KvReply::SessionClosed => return Ok(Served::Refused),
        }
        let value = self.seen[place].group.get(shard, &key).flatten();
        self.clients.check(shard, value.as_deref())?;
        Ok(if is_new { Served::Done } else { Served::Again })
    }

    /// What the group at `source` says to another one; a pull is answered from `behind` if it is said.
    pub fn answer(
        &mut self,
        source: usize,
        question: Question,
        pairs_max: usize,
        behind: Option<&Map>,
    ) -> Result<(Option<Answered>, bool), Wrong> {
        match question {
            Question::Confirm(confirm) => {
                let Entered { reply, wrote, .. } = self.enter(source, Operation::Confirm(confirm))?;
                Ok(((reply == ShardReply::Done).then_some(Answered::Confirmed), wrote))
            }
            Question::Pull { shard, epoch, by, after } => {
                let limit = PageLimit { pairs_max, bytes_max: usize::MAX };
                let pull = ShardQuery::Pull { shard, epoch, by, after, limit };
                let group = &self.seen[source].group;
                match group.read_at(behind.unwrap_or(&group.map), &pull) {
                    ShardAnswer::Pulled(Pulled::Chunk(chunk)) => Ok((Some(Answered::Chunk(chunk)), false)),
                    _ => Ok((None, false)),
                }
            }
        }
    }

    /// What the controllers' leader answers, or the replica behind it.
    pub fn ask(&self, query: &CtrlerQuery, behind: bool) -> Result<CtrlerAnswer, Wrong> {
        self.controllers.ask(query, behind).map_err(|what| ("ctrler.deterministic", what))
    }

    /// How the group at `place` goes on from its config, as the controllers' leader says or the replica behind it.
    pub fn next_config(&self, place: usize, behind: bool) -> Result<Option<Operation>, Wrong> {
        let adopted = self.seen[place].adopted;
        let mut query = CtrlerQuery::After(adopted);
        // The oldest config may be dropped while it is asked for, but not in here.
        for _ in 0..3 {
            let answer = self.ask(&query, behind)?;
            match follow(adopted, &answer) {
                Follow::Wait => return Ok(None),
                Follow::Ask(next) => query = next,
                Follow::Adopt(adopt) => return Ok(Some(Operation::Adopt(adopt))),
            }
        }
        Ok(None)
    }

    /// The group at `place` reports how far it is.
    pub fn report(&mut self, place: usize) {
        let group = &self.seen[place].group;
        let (reached, holds) = group.standing();
        self.controllers.report(pb::Report { group: group.id.0, reached: reached.0, holds });
    }

    /// An operator's command; the config that it made.
    pub fn change(&mut self, change: &Of) -> Result<Option<ConfigNum>, Wrong> {
        let before = self.controllers.latest().clone();
        let must_not = placement::must_be_refused(&before, change);
        let made = match (self.controllers.change(change.clone()), must_not) {
            (Ok(num), Some(why)) => {
                return Err(("ctrler.refused", format!("config {num} was made of {change:?}, but {why}")));
            }
            (Ok(_), None) => self.controllers.note_latest().map_err(|what| ("ctrler.balanced", what))?,
            (Err(_), _) => None,
        };
        if let Some(after) = &made {
            placement::judge(&before, after, change)?;
        }
        Ok(made.map(|after| after.num))
    }
}
