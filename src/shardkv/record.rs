//! Where the records of a group are in its state store, and how they are written.

use prost::Message as _;

use super::migrate::{Next, Reign, Stage, Tenure, Tenures};
use crate::addresses::Addresses;
use crate::ctrler::Config;
use crate::machine::Content;
use crate::proto::{self, shardkv as pb};
use crate::types::{ConfigNum, GroupId, ShardId};
use crate::view::{Batch, KeyRange, PageLimit, Pair, View, ViewError, collect};

const ADOPTED_KEY: &[u8] = b"n";
const CONFIG_KEY: &[u8] = b"c";
const TENURES_PREFIX: &[u8] = b"h/";
const DATA_PREFIX: &[u8] = b"d/";

/// How far a group is with the configs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Adopted {
    /// The last config; 0 before the first.
    pub config: ConfigNum,
    /// The number of shards of the cluster; 0 before the first config.
    pub shards: usize,
}

pub(super) fn load_adopted(view: &dyn View) -> Result<Adopted, ViewError> {
    let Some(record) = view.get(ADOPTED_KEY)? else { return Ok(Adopted::default()) };
    let adopted =
        pb::Adopted::decode(&record[..]).map_err(|error| damaged(ADOPTED_KEY, &error.to_string()))?;
    let shards = usize::try_from(adopted.shards).map_err(|_| damaged(ADOPTED_KEY, "too many shards"))?;
    Ok(Adopted { config: ConfigNum(adopted.config), shards })
}

pub(super) fn save_config(config: &Config, encoded: &[u8], batch: &mut Batch) {
    let adopted = pb::Adopted { config: config.num.0, shards: config.shards.len() as u64 };
    batch.put(ADOPTED_KEY, adopted.encode_to_vec());
    batch.put(CONFIG_KEY, encoded);
}

pub(super) fn load_config(view: &dyn View) -> Result<Option<Config>, ViewError> {
    let decode = |record: Vec<u8>| decode_config(&record).map_err(|error| damaged(CONFIG_KEY, &error));
    view.get(CONFIG_KEY)?.map(decode).transpose()
}

/// The config in `bytes`, as they are in the log and in the store.
pub(super) fn decode_config(bytes: &[u8]) -> Result<Config, String> {
    proto::ctrler::Config::decode(bytes).map_err(|error| error.to_string())?.try_into()
}

/// The prefix of what the group has of `shard` since config `born`.
pub(super) fn data_prefix(shard: ShardId, born: ConfigNum) -> Vec<u8> {
    [DATA_PREFIX, &shard_bytes(shard), &born.0.to_be_bytes()].concat()
}

/// The prefix of all that the group has of `shard`.
pub(super) fn shard_prefix(shard: ShardId) -> Vec<u8> {
    [DATA_PREFIX, &shard_bytes(shard)[..]].concat()
}

fn tenures_key(shard: ShardId) -> Vec<u8> {
    [TENURES_PREFIX, &shard_bytes(shard)[..]].concat()
}

fn shard_bytes(shard: ShardId) -> [u8; 2] {
    u16::try_from(shard.0).expect("the machine looks at the number of shards first").to_be_bytes()
}

pub(super) fn load_tenures(view: &dyn View, shard: ShardId) -> Result<Tenures, ViewError> {
    let key = tenures_key(shard);
    view.get(&key)?.map_or_else(|| Ok(Tenures::default()), |record| decode_tenures(&key, &record))
}

/// Of all shards of which there are any, ascending.
pub(super) fn load_all_tenures(view: &dyn View) -> Result<Vec<(ShardId, Tenures)>, ViewError> {
    let limit = PageLimit { pairs_max: usize::MAX, bytes_max: usize::MAX };
    let (records, _) = collect(view, KeyRange::prefix(TENURES_PREFIX), limit)?;
    let of = |(key, record): Pair| {
        let shard = key[TENURES_PREFIX.len()..].try_into().map(u16::from_be_bytes);
        let shard = shard.map_err(|_| damaged(&key, "it names no shard"))?;
        Ok((ShardId(shard.into()), decode_tenures(&key, &record)?))
    };
    records.into_iter().map(of).collect()
}

fn decode_tenures(key: &[u8], record: &[u8]) -> Result<Tenures, ViewError> {
    let tenures = pb::Tenures::decode(record).map_err(|error| damaged(key, &error.to_string()))?;
    let tenures = tenures.tenures.into_iter().map(|tenure| {
        let tenure = decode(tenure).ok_or_else(|| damaged(key, "a tenure lacks a part"))?;
        Ok((tenure.born, tenure))
    });
    Ok(Tenures(tenures.collect::<Result<_, ViewError>>()?))
}

/// Writes `tenures` if they are not as they were `before`; no record is kept of none.
pub(super) fn save_tenures(shard: ShardId, before: &Tenures, tenures: &Tenures, batch: &mut Batch) {
    if tenures == before {
        return;
    }
    if tenures.0.is_empty() {
        batch.delete(tenures_key(shard));
        return;
    }
    let record = pb::Tenures { tenures: tenures.0.values().map(encode).collect() };
    batch.put(tenures_key(shard), record.encode_to_vec());
}

pub(super) fn damaged(key: &[u8], reason: &str) -> ViewError {
    let key = key.escape_ascii();
    ViewError(format!(
        "the record at key `{key}` of the state store is damaged: {reason}; rebuild this replica's state store"
    ))
}

fn encode(tenure: &Tenure) -> pb::Tenure {
    use pb::tenure as part;
    pb::Tenure {
        born: tenure.born.0,
        epoch: tenure.epoch.0,
        source: tenure.source.map(Into::into),
        stage: Some(match &tenure.stage {
            Stage::Pulling(after) => part::Stage::Pulling(after.clone().into()),
            Stage::Here => part::Stage::Here(true),
            Stage::Deleting => part::Stage::Deleting(true),
        }),
        next: match tenure.next {
            Next::Stays => None,
            Next::Nobody => Some(part::Next::Nobody(true)),
            Next::Group(reign) => Some(part::Next::Group(reign.into())),
        },
        source_told: tenure.source_told,
        content: Some(tenure.content.into()),
        user_keys: tenure.user_keys,
        offset: tenure.offset,
        frozen: tenure.frozen,
        deleted_to: tenure.deleted_to.clone().into(),
        source_at: tenure.source_at.as_ref().map_or_else(Vec::new, |at| at.as_slice().to_vec()),
    }
}

fn decode(record: pb::Tenure) -> Option<Tenure> {
    use pb::tenure as part;
    let source_at = match record.source_at.is_empty() {
        true => None,
        false => Some(Addresses::new(record.source_at).ok()?),
    };
    Some(Tenure {
        source_at,
        born: ConfigNum(record.born),
        epoch: ConfigNum(record.epoch),
        source: record.source.map(Into::into),
        stage: match record.stage? {
            part::Stage::Pulling(after) => Stage::Pulling(after.into()),
            part::Stage::Here(_) => Stage::Here,
            part::Stage::Deleting(_) => Stage::Deleting,
        },
        next: match record.next {
            None => Next::Stays,
            Some(part::Next::Nobody(_)) => Next::Nobody,
            Some(part::Next::Group(reign)) => Next::Group(reign.into()),
        },
        source_told: record.source_told,
        content: record.content?.into(),
        user_keys: record.user_keys,
        offset: record.offset,
        frozen: record.frozen,
        deleted_to: record.deleted_to.into(),
    })
}

impl From<Reign> for pb::Reign {
    fn from(reign: Reign) -> Self {
        Self { group: reign.group.0, epoch: reign.epoch.0 }
    }
}

impl From<pb::Reign> for Reign {
    fn from(reign: pb::Reign) -> Self {
        Self { group: GroupId(reign.group), epoch: ConfigNum(reign.epoch) }
    }
}

impl From<Content> for pb::Content {
    fn from(content: Content) -> Self {
        Self { hash: content.hash, keys: content.keys, bytes: content.bytes }
    }
}

impl From<pb::Content> for Content {
    fn from(content: pb::Content) -> Self {
        Self { hash: content.hash, keys: content.keys, bytes: content.bytes }
    }
}

/// Of which shard, since which config, a pair of the state store is data, and its key there; for those who watch a
/// machine.
pub fn data_of_key(key: &[u8]) -> Option<(ShardId, ConfigNum, &[u8])> {
    let (shard, rest) = key.strip_prefix(DATA_PREFIX)?.split_first_chunk()?;
    let (born, rest) = rest.split_first_chunk()?;
    Some((ShardId(u16::from_be_bytes(*shard).into()), ConfigNum(u64::from_be_bytes(*born)), rest))
}
