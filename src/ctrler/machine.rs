//! The machine: operators' commands and groups' reports in, configs out.
//!
//! Invariants:
//! - the numbers of the kept configs are `oldest` to `latest` without a hole; once a config is made it never changes;
//! - a command that is refused leaves everything as it was, but for the session that remembers the refusal;
//! - a config is forgotten only when every group that needs configs has reported a later one, and only when more than
//!   [`CtrlerLimits::history_configs`] newer ones are there. A group needs configs from the one that joins it until it
//!   reports, at the latest config, that it is not joined and holds nothing.

use std::collections::BTreeMap;

use prost::Message as _;

use super::change::Change;
use super::codec::decode_groups;
use super::config::{Config, SHARDS_MAX};
use super::records::{
    State, delete_config, delete_progress, load_config, load_progress, load_state, put_config, put_progress,
    put_state,
};
use super::{COMPACTED_PER_ENTRY_MAX, CONFIG_BYTES_MAX, CtrlerLimits};
use crate::machine::StateMachine;
use crate::mutants::{MutantId, Mutants};
use crate::proto::ctrler as pb;
use crate::proto::kv::mutation_result::Result as Did;
use crate::proto::kv::{RefusedReason, command, mutation};
use crate::raft::Position;
use crate::session::{self, Reply, Whole, load_table};
use crate::types::{ConfigNum, GroupId, ShardId};
use crate::view::{Batch, View, ViewError};

/// The state machine of the configuration service; see [`super`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct CtrlerMachine {
    limits: CtrlerLimits,
    mutants: Mutants,
}

/// What a proposer is told.
#[derive(Clone, Debug, PartialEq)]
pub enum CtrlerReply {
    /// To an operator's command.
    Session(Reply),
    /// A group's report was taken.
    Reported,
}

/// What can be asked of the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CtrlerQuery {
    /// The latest config.
    Latest,
    /// The config with this number.
    Num(ConfigNum),
    /// The config that follows this one.
    After(ConfigNum),
    /// The machine's own numbers.
    Status,
}

/// What comes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CtrlerAnswer {
    /// To a question for a config.
    Config {
        /// The config; `None`: there is none such, or it is not kept.
        config: Option<Config>,
        /// The number of the latest config.
        latest: ConfigNum,
        /// The number of the oldest config that is kept.
        oldest: ConfigNum,
    },
    /// To [`CtrlerQuery::Status`].
    Status {
        /// Open sessions.
        sessions: u64,
    },
}

impl CtrlerMachine {
    /// A machine with these limits, which all replicas of the group must share.
    pub fn new(limits: CtrlerLimits, mutants: Mutants) -> Self {
        Self { limits, mutants }
    }

    /// Makes the next config, or says why not. The texts are kept in sessions: they are replicated state.
    fn change(&self, view: &dyn View, change: &pb::Change, batch: &mut Batch) -> Result<Did, ViewError> {
        let state = load_state(view)?;
        let latest = latest_config(view, &state)?;
        let next = match &change.change {
            Some(pb::change::Change::Create(create)) => create_with(&state, &latest, create.shards),
            Some(pb::change::Change::Rollback(num)) => match load_config(view, &state, ConfigNum(*num))? {
                Some(to) => self.next(&latest, &Change::Rollback(to)),
                None => Err(not_kept(&state, ConfigNum(*num))),
            },
            _ => parse(change).and_then(|change| self.next(&latest, &change)),
        };
        let next = match next {
            Ok(next) => next,
            Err(refusal) => return Ok(Did::Refused(refusal)),
        };
        let mut progress = load_progress(view)?;
        for group in next.groups.keys() {
            // One that is new starts with this config; one that still keeps something needs all configs since.
            progress.entry(*group).or_insert_with(|| {
                put_progress(batch, *group, latest.num);
                latest.num
            });
        }
        if !state.created && next.num != latest.num {
            put_config(batch, &latest);
        }
        put_config(batch, &next);
        let state = State { latest: next.num, created: true, ..state };
        let state = self.compact(state, &progress, batch);
        put_state(batch, state);
        Ok(Did::Config(next.num.0))
    }

    fn next(&self, latest: &Config, change: &Change) -> Result<Config, String> {
        let next = change.apply_with(latest, self.mutants).map_err(|refusal| refusal.to_string())?;
        match pb::Config::from(&next).encoded_len() {
            bytes if bytes > CONFIG_BYTES_MAX => {
                Err(format!("the config would have {bytes} bytes; at most {CONFIG_BYTES_MAX} are allowed"))
            }
            _ => Ok(next),
        }
    }

    /// Takes note of how far a group is.
    fn report(&self, view: &dyn View, report: pb::Report) -> Result<(Batch, CtrlerReply), ViewError> {
        let mut batch = Batch::new();
        let (group, reached) = (GroupId(report.group), ConfigNum(report.reached));
        let state = load_state(view)?;
        if reached > state.latest {
            let detail =
                format!("group {group} reports config {reached}, but the latest is {}", state.latest);
            let refused = Reply::refused(RefusedReason::RefusedMalformed, detail);
            return Ok((batch, CtrlerReply::Session(refused)));
        }
        let mut progress = load_progress(view)?;
        let Some(known) = progress.get(&group).copied() else {
            return Ok((batch, CtrlerReply::Reported)); // it needs none any more, and said so before
        };
        let latest = latest_config(view, &state)?;
        if !report.holds && reached == state.latest && !latest.groups.contains_key(&group) {
            delete_progress(&mut batch, group);
            progress.remove(&group);
        } else if reached > known {
            put_progress(&mut batch, group, reached);
            progress.insert(group, reached);
        }
        let compacted = self.compact(state, &progress, &mut batch);
        if compacted != state {
            put_state(&mut batch, compacted);
        }
        Ok((batch, CtrlerReply::Reported))
    }

    /// Forgets some of the configs that nobody needs.
    fn compact(&self, state: State, progress: &BTreeMap<GroupId, ConfigNum>, batch: &mut Batch) -> State {
        let history = ConfigNum(state.latest.0.saturating_sub(self.limits.history_configs));
        let needed = progress.values().min().copied().unwrap_or(state.latest).min(history);
        let oldest = needed.min(ConfigNum(state.oldest.0 + COMPACTED_PER_ENTRY_MAX)).max(state.oldest);
        for num in state.oldest.0..oldest.0 {
            delete_config(batch, ConfigNum(num));
        }
        State { oldest, ..state }
    }
}

impl StateMachine for CtrlerMachine {
    type Reply = CtrlerReply;
    type Query = CtrlerQuery;
    type Answer = CtrlerAnswer;

    fn apply(
        &self,
        view: &dyn View,
        at: Position,
        command: &[u8],
    ) -> Result<(Batch, CtrlerReply), ViewError> {
        let malformed = |detail| Ok((Batch::new(), CtrlerReply::Session(Reply::malformed(detail))));
        let command = match session::decode(command) {
            Ok(command) => command,
            Err(detail) => return malformed(detail),
        };
        if let Some(command::Operation::Report(report)) = command.operation {
            return self.report(view, report);
        }
        let whole = match Whole::of(command) {
            Ok(whole) => whole,
            Err(detail) => return malformed(detail),
        };
        let execute = |operation: &mutation::Operation, batch: &mut Batch| match operation {
            mutation::Operation::Change(change) => self.change(view, change, batch),
            _ => Ok(Did::Refused("the controllers keep no keys".to_owned())),
        };
        let (batch, reply) = session::apply(view, &self.limits.sessions, self.mutants, at, &whole, execute)?;
        Ok((batch, CtrlerReply::Session(reply)))
    }

    fn read(&self, view: &dyn View, query: &CtrlerQuery) -> Result<CtrlerAnswer, ViewError> {
        let state = load_state(view)?;
        let num = match query {
            CtrlerQuery::Status => {
                return Ok(CtrlerAnswer::Status { sessions: load_table(view)?.sessions });
            }
            CtrlerQuery::Latest => state.latest,
            CtrlerQuery::Num(_) if self.mutants.is(MutantId::CtrlerOldQueryGetsLatest) => state.latest,
            CtrlerQuery::Num(num) => *num,
            CtrlerQuery::After(num) => ConfigNum(num.0.saturating_add(1)),
        };
        let config = load_config(view, &state, num)?;
        Ok(CtrlerAnswer::Config { config, latest: state.latest, oldest: state.oldest })
    }
}

fn latest_config(view: &dyn View, state: &State) -> Result<Config, ViewError> {
    let latest = load_config(view, state, state.latest)?;
    latest.ok_or_else(|| ViewError(format!("config {} is not kept", state.latest)))
}

/// Config 0 with another number of shards, as long as it is the only one and nobody chose before.
fn create_with(state: &State, config: &Config, shards: u64) -> Result<Config, String> {
    if state.created {
        return Err(format!("the number of shards is {} and cannot be changed", config.shards.len()));
    }
    match usize::try_from(shards) {
        Ok(shards @ 1..=SHARDS_MAX) => Ok(Config::empty(shards)),
        _ => Err(format!("{shards} shards: the number must be 1 to {SHARDS_MAX}")),
    }
}

fn not_kept(state: &State, num: ConfigNum) -> String {
    format!("config {num} is not there; {} to {} are kept", state.oldest, state.latest)
}

fn parse(change: &pb::Change) -> Result<Change, String> {
    use pb::change::Change as Of;
    let groups = |groups: &pb::Groups| decode_groups(&groups.groups).map_err(|refusal| refusal.to_string());
    Ok(match &change.change {
        Some(Of::Join(new)) => Change::Join(groups(new)?),
        Some(Of::Update(new)) => Change::Update(groups(new)?),
        Some(Of::Leave(leave)) => Change::Leave(leave.groups.iter().copied().map(GroupId).collect()),
        Some(Of::Move(to)) => Change::Move { shard: ShardId(to.shard), group: GroupId(to.group) },
        Some(Of::Unpin(shard)) => Change::Unpin { shard: ShardId(*shard) },
        Some(Of::Create(_) | Of::Rollback(_)) | None => return Err("the command holds no change".to_owned()),
    })
}
