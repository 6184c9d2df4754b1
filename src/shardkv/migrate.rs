//! One shard at one group: which reigns over it the group has, how data comes and how it goes. Pure.
//!
//! The configs give a shard to one group after another; each time is a **reign**, named by the group and by the
//! config that began it, its epoch. A [`Tenure`] is what a group knows of one reign of its own. The tenures of a shard
//! are a queue: each but the last has a successor, and is handed on once it has arrived.
//!
//! ```text
//!               last chunk                 source told
//!   Pulling ──────────────────▶ GCing ──────────────────▶ Serving
//!      │                          │                          │
//!      │ a later config gives the shard to another group      │
//!      ▼                          ▼                          ▼
//!   Pulling ──────────────────▶ BePulling ──── confirmed ──▶ Deleting ──▶ forgotten
//! ```
//!
//! Invariants:
//! - only the last tenure of a shard is served, and only if its data is here and no later config took it away; a
//!   group adopts the configs in order, so (shard, epoch) is served by one group;
//! - a tenure's successor is set once and never changes; nobody but the successor gets its data;
//! - data is frozen from the moment the shard is taken away until the successor has confirmed: every replica that
//!   applied the config has the same, and any of them may give it out;
//! - data is deleted only after the confirmation, and a tenure is forgotten only when its data is gone to the byte
//!   and its own source was told, so no copy is forgotten anywhere;
//! - nothing here waits for another shard: a source that is gone delays its own shards only (eRaft adopted no further
//!   config until every shard was in place: B33), and the order of shards does not matter (B32).

use std::collections::BTreeMap;

use crate::addresses::Addresses;
use crate::ctrler::{Config, Placement, Source};
use crate::machine::{Content, ContentDelta};
use crate::mutants::{MutantId, Mutants};
use crate::types::{ConfigNum, GroupId, ShardId};

/// A group's time with a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reign {
    /// The group.
    pub group: GroupId,
    /// The config that gave it the shard.
    pub epoch: ConfigNum,
}

impl From<Source> for Reign {
    fn from(source: Source) -> Self {
        Self { group: source.group, epoch: source.epoch }
    }
}

/// What a group knows of one reign of its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tenure {
    /// The config that brought the shard here. Its data is kept under this name.
    pub born: ConfigNum,
    /// The config since which it is here without another owner in between. Later than `born` if nobody owned the
    /// shard for a while and it came back to where its data was.
    pub epoch: ConfigNum,
    /// From whom the data comes; `None`: it began empty.
    pub source: Option<Reign>,
    /// Where the source is, as long as it must be asked or told. Kept here because a config forgets a group that left
    /// once the shard has gone on to a third one, while the second one still pulls from it.
    pub source_at: Option<Addresses>,
    /// Where the data is.
    pub stage: Stage,
    /// Who takes it from here.
    pub next: Next,
    /// True once the source knows that it may delete; true from the start without a source.
    pub source_told: bool,
    /// The sum of the data that is here.
    pub content: Content,
    /// How many of its pairs are users' and not sessions'.
    pub user_keys: u64,
    /// From indexes of this group's log to positions of the shard, which go on from owner to owner.
    pub offset: i64,
    /// The shard's position when it was taken away.
    pub frozen: u64,
    /// While it is being deleted: everything up to this key is gone. The next step goes on behind it; a store keeps
    /// traces of what it deleted, and would go through all of them again from the beginning.
    pub deleted_to: Vec<u8>,
}

/// Where the data of a tenure is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// On its way; everything up to this key has arrived.
    Pulling(Vec<u8>),
    /// Here, all of it.
    Here,
    /// Here, but the successor has it: to be deleted.
    Deleting,
}

/// What becomes of a tenure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Next {
    /// It is the present one.
    Stays,
    /// Taken away, and no group is there to have it.
    Nobody,
    /// Taken away for this reign.
    Group(Reign),
}

/// A shard's state in the words of operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ShardState {
    /// The data is on its way here.
    Pulling,
    /// Served; the source still has a copy.
    GCing,
    /// Served.
    Serving,
    /// Frozen, until its next owner has it.
    BePulling,
    /// The next owner has it; the copy here is being deleted.
    Deleting,
}

impl ShardState {
    /// As it is shown.
    pub fn name(self) -> &'static str {
        match self {
            ShardState::Pulling => "Pulling",
            ShardState::GCing => "GCing",
            ShardState::Serving => "Serving",
            ShardState::BePulling => "BePulling",
            ShardState::Deleting => "Deleting",
        }
    }
}

impl Tenure {
    fn new(epoch: ConfigNum, source: Option<Reign>) -> Self {
        let stage = if source.is_some() { Stage::Pulling(Vec::new()) } else { Stage::Here };
        Self {
            born: epoch,
            epoch,
            source,
            source_at: None,
            stage,
            next: Next::Stays,
            source_told: source.is_none(),
            content: Content::default(),
            user_keys: 0,
            offset: 0,
            frozen: 0,
            deleted_to: Vec::new(),
        }
    }

    /// The state that this amounts to.
    pub fn state(&self) -> ShardState {
        match (&self.stage, &self.next) {
            (Stage::Pulling(_), _) => ShardState::Pulling,
            (Stage::Deleting, _) => ShardState::Deleting,
            (Stage::Here, Next::Stays) if self.source_told => ShardState::Serving,
            (Stage::Here, Next::Stays) => ShardState::GCing,
            (Stage::Here, _) => ShardState::BePulling,
        }
    }

    /// The shard's position at `index` of this group's log.
    pub fn position(&self, index: u64) -> u64 {
        index.saturating_add_signed(self.offset)
    }

    /// True if all is done and nothing of it needs to be known any more.
    fn is_over(&self) -> bool {
        self.stage == Stage::Deleting && self.source_told && self.content == Content::default()
    }
}

/// Why a shard is not served here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NotServed {
    /// It is not this group's, as far as the group knows.
    Elsewhere,
    /// It is this group's, but its data has not arrived.
    NotArrived,
}

/// What a group is asked to do with a shard that it will not do, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

/// What a chunk did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// Its pairs are to be written.
    Write,
    /// It does not follow on what arrived so far: a duplicate or one that comes late. Nothing is to be written.
    OutOfOrder,
    /// Everything has arrived before.
    HereAlready,
}

/// A chunk without its pairs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival<'a> {
    /// What must have arrived before.
    pub after: &'a [u8],
    /// The last key of the chunk, if it has pairs.
    pub last: Option<&'a [u8]>,
    /// What the pairs add.
    pub adds: ContentDelta,
    /// In the last chunk: the content and the position of the source.
    pub whole: Option<(Content, u64)>,
}

/// Something that the leader of a group has to do for a shard. All of it may be done twice, or by two leaders.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Chore {
    /// Ask the source for what comes after this key.
    Pull {
        /// The reign that waits for the data.
        by: Reign,
        /// Who has it.
        source: Reign,
        /// The last key that arrived.
        after: Vec<u8>,
    },
    /// Tell the source that this reign has the shard.
    Tell {
        /// The reign that has it.
        by: Reign,
        /// Who had it.
        source: Reign,
    },
    /// Delete a part of the data under this name.
    Delete {
        /// The name.
        born: ConfigNum,
    },
}

/// All tenures of one shard at one group, by the config that brought them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tenures(pub BTreeMap<ConfigNum, Tenure>);

impl Tenures {
    /// The last one.
    pub fn last(&self) -> Option<&Tenure> {
        self.0.values().next_back()
    }

    /// The tenure of the reign that began at `epoch`.
    pub fn of_epoch(&self, epoch: ConfigNum) -> Option<&Tenure> {
        self.0.values().find(|tenure| tenure.epoch == epoch)
    }

    /// The tenure that is served now.
    pub fn served(&self, writes: bool, mutants: Mutants) -> Result<&Tenure, NotServed> {
        let last = self.last().ok_or(NotServed::Elsewhere)?;
        match (&last.stage, &last.next) {
            (Stage::Here, Next::Stays) => Ok(last),
            (Stage::Here, _) if writes && mutants.is(MutantId::ShardkvWriteWhileBePulling) => Ok(last),
            (Stage::Pulling(_), Next::Stays) if mutants.is(MutantId::ShardkvServeBeforeArrival) => Ok(last),
            (Stage::Pulling(_), Next::Stays) => Err(NotServed::NotArrived),
            _ => Err(NotServed::Elsewhere),
        }
    }

    /// Takes over what config `num` says of the shard, at `index` of the log. Refused if that contradicts the configs
    /// before: the group then has not seen them all.
    pub fn adopt(
        &mut self,
        shard: ShardId,
        me: GroupId,
        num: ConfigNum,
        placement: &Placement,
        index: u64,
    ) -> Result<(), Refusal> {
        let mine = placement.owner == Some(me);
        let source = placement.source.map(Reign::from);
        let Some(last) = self.0.values_mut().next_back().filter(|last| !matches!(last.next, Next::Group(_)))
        else {
            // Nothing of it is here that somebody does not have to fetch already.
            if mine && placement.epoch != num {
                return Err(Refusal(format!(
                    "config {num} says that shard {shard} is here since config {}, and it is not",
                    placement.epoch
                )));
            }
            if mine {
                self.0.insert(num, Tenure::new(num, source));
            }
            return Ok(());
        };
        let before = Some(Reign { group: me, epoch: last.epoch });
        let next = match placement.owner {
            Some(_) if mine && placement.epoch == last.epoch => Next::Stays,
            Some(_) if mine && source == before => {
                last.epoch = placement.epoch; // nobody had it in between: the data is here
                Next::Stays
            }
            Some(group) if !mine && source == before => Next::Group(Reign { group, epoch: placement.epoch }),
            None if source == before => Next::Nobody,
            _ => {
                return Err(Refusal(format!(
                    "config {num} does not know that shard {shard} is here since config {}",
                    last.epoch
                )));
            }
        };
        if last.next == Next::Stays && next != Next::Stays {
            last.frozen = last.position(index);
        }
        last.next = next;
        Ok(())
    }

    /// Takes note of where the sources are that `config` knows.
    pub fn locate(&mut self, config: &Config) {
        for tenure in self.0.values_mut().filter(|tenure| !tenure.source_told) {
            let known = tenure.source.and_then(|source| config.addresses(source.group));
            if let Some(addresses) = known.filter(|known| tenure.source_at.as_ref() != Some(known)) {
                tenure.source_at = Some(addresses.clone());
            }
        }
    }

    /// Where the sources are that must be asked or told.
    pub fn addresses(&self) -> impl Iterator<Item = (GroupId, Addresses)> {
        self.0.values().filter_map(|tenure| Some((tenure.source?.group, tenure.source_at.clone()?)))
    }

    /// True if configs may still say something of what is here: it is served, on its way, or to be fetched by another
    /// group. What is being deleted is another group's already.
    pub fn holds(&self) -> bool {
        self.0.values().any(|tenure| tenure.stage != Stage::Deleting)
    }

    /// Takes over a chunk for the tenure `born`, at `index` of the log. `Err`: the chunks together are not what the
    /// source says that it had.
    pub fn arrive(
        &mut self,
        born: ConfigNum,
        arrival: &Arrival<'_>,
        index: u64,
        mutants: Mutants,
    ) -> Result<Accepted, Refusal> {
        let Some(tenure) = self.0.get_mut(&born) else { return Ok(Accepted::HereAlready) };
        let Stage::Pulling(after) = &mut tenure.stage else { return Ok(Accepted::HereAlready) };
        if after != arrival.after {
            return Ok(Accepted::OutOfOrder);
        }
        let content = tenure.content.after(arrival.adds);
        if let Some((whole, _)) = arrival.whole
            && whole != content
            && !mutants.is(MutantId::ShardkvSessionsNotMoved)
        {
            return Err(Refusal(format!(
                "{} keys and {} bytes arrived, the source had {} and {}, or others",
                content.keys, content.bytes, whole.keys, whole.bytes
            )));
        }
        tenure.content = content;
        if let Some(last) = arrival.last {
            *after = last.to_vec();
        }
        if let Some((_, position)) = arrival.whole {
            // A log is never so long that its difference to another does not fit.
            tenure.offset = position.cast_signed().wrapping_sub(index.cast_signed());
            tenure.frozen = position;
            tenure.stage = Stage::Here;
        }
        Ok(Accepted::Write)
    }

    /// `by` has committed that it has what the reign that began at `epoch` held. True if that is known now, by this
    /// or before.
    pub fn confirm(&mut self, epoch: ConfigNum, by: Reign, adopted: ConfigNum) -> Result<(), Refusal> {
        let Some(tenure) = self.0.values_mut().find(|tenure| tenure.epoch == epoch) else {
            // It is over. A config that is not adopted here cannot have been fetched from here.
            return if by.epoch <= adopted {
                Ok(())
            } else {
                Err(Refusal(format!("config {} is not adopted here", by.epoch)))
            };
        };
        match (&tenure.stage, tenure.next) {
            (Stage::Here | Stage::Deleting, Next::Group(next)) if next == by => {
                tenure.stage = Stage::Deleting;
                self.forget();
                Ok(())
            }
            (_, next) => Err(Refusal(format!(
                "the reign since config {epoch} is {} and followed by {next:?}, not by {by:?}",
                tenure.state().name()
            ))),
        }
    }

    /// The source of the tenure `born` knows that its data is here.
    pub fn told(&mut self, born: ConfigNum) {
        if let Some(tenure) = self.0.get_mut(&born)
            && !matches!(tenure.stage, Stage::Pulling(_))
        {
            tenure.source_told = true;
            tenure.source_at = None;
            self.forget();
        }
    }

    /// A part of the confirmed data under the name `born` was deleted, up to the key `last` if there was any; `content`
    /// is what is left.
    pub fn deleted(&mut self, born: ConfigNum, last: Option<Vec<u8>>, content: Content) {
        if let Some(tenure) = self.0.get_mut(&born) {
            tenure.content = content;
            tenure.deleted_to = last.unwrap_or_default();
            self.forget();
        }
    }

    fn forget(&mut self) {
        self.0.retain(|_, tenure| !tenure.is_over());
    }

    /// What there is to do, for the leader of group `me`.
    pub fn chores(&self, me: GroupId, mutants: Mutants) -> Vec<Chore> {
        let mut chores = Vec::new();
        for (born, tenure) in &self.0 {
            let by = Reign { group: me, epoch: *born };
            let is_here =
                !matches!(tenure.stage, Stage::Pulling(_)) || mutants.is(MutantId::ShardkvDeleteBeforeCommit);
            if let Some(source) = tenure.source {
                if let Stage::Pulling(after) = &tenure.stage {
                    chores.push(Chore::Pull { by, source, after: after.clone() });
                }
                if is_here && !tenure.source_told {
                    chores.push(Chore::Tell { by, source });
                }
            }
            if tenure.stage == Stage::Deleting && tenure.content.keys > 0 {
                chores.push(Chore::Delete { born: *born });
            }
        }
        chores
    }
}
