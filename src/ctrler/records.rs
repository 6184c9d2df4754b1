//! What the machine keeps in the state store.
//!
//! | key | value |
//! |---|---|
//! | `c/` config, 8 bytes big endian | [`pb::Config`] |
//! | `g/` group, 8 bytes big endian | [`pb::Progress`] of a group that needs configs |
//! | `m` | [`pb::State`]; absent until the first command that is accepted |
//! | `s/` …, `t` | sessions, see [`crate::session`] |

use std::collections::BTreeMap;

use prost::Message as _;

use super::config::{Config, SHARDS_DEFAULT};
use crate::proto::ctrler as pb;
use crate::types::{ConfigNum, GroupId};
use crate::view::{Batch, KeyRange, PageLimit, View, ViewError};

const CONFIG_PREFIX: &[u8] = b"c/";
const PROGRESS_PREFIX: &[u8] = b"g/";
const STATE_KEY: &[u8] = b"m";

/// How much of the groups' table is read at a time.
const PAGE: PageLimit = PageLimit { pairs_max: 256, bytes_max: 64 << 10 };

/// Which configs there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub latest: ConfigNum,
    /// The oldest one that is kept.
    pub oldest: ConfigNum,
    /// False before the first command: the number of shards may still be chosen.
    pub created: bool,
}

impl State {
    pub(super) fn keeps(&self, num: ConfigNum) -> bool {
        (self.oldest..=self.latest).contains(&num)
    }
}

pub(super) fn load_state(view: &dyn View) -> Result<State, ViewError> {
    let Some(record) = view.get(STATE_KEY)? else {
        return Ok(State { latest: ConfigNum(0), oldest: ConfigNum(0), created: false });
    };
    let state = pb::State::decode(&record[..]).map_err(|error| damaged(STATE_KEY, &error.to_string()))?;
    Ok(State { latest: ConfigNum(state.latest), oldest: ConfigNum(state.oldest), created: true })
}

pub(super) fn put_state(batch: &mut Batch, state: State) {
    let record = pb::State { latest: state.latest.0, oldest: state.oldest.0 };
    batch.put(STATE_KEY, record.encode_to_vec());
}

/// Config `num`, if it is kept.
pub(super) fn load_config(
    view: &dyn View,
    state: &State,
    num: ConfigNum,
) -> Result<Option<Config>, ViewError> {
    if !state.keeps(num) {
        return Ok(None);
    }
    if !state.created {
        return Ok(Some(Config::empty(SHARDS_DEFAULT)));
    }
    let key = config_key(num);
    let record = view.get(&key)?.ok_or_else(|| damaged(&key, "it is missing"))?;
    let config = pb::Config::decode(&record[..]).map_err(|error| damaged(&key, &error.to_string()))?;
    let config = Config::try_from(config).map_err(|error| damaged(&key, &error))?;
    match config.num == num {
        true => Ok(Some(config)),
        false => Err(damaged(&key, &format!("it is config {}", config.num))),
    }
}

pub(super) fn put_config(batch: &mut Batch, config: &Config) {
    batch.put(config_key(config.num), pb::Config::from(config).encode_to_vec());
}

pub(super) fn delete_config(batch: &mut Batch, num: ConfigNum) {
    batch.delete(config_key(num));
}

/// The groups that need configs, with the latest one that each has reached.
pub(super) fn load_progress(view: &dyn View) -> Result<BTreeMap<GroupId, ConfigNum>, ViewError> {
    let mut range = KeyRange::prefix(PROGRESS_PREFIX);
    let mut groups = BTreeMap::new();
    loop {
        let page = view.page(&range, PAGE)?;
        let Some((last, _)) = page.last() else { return Ok(groups) };
        range = range.after(last);
        for (key, record) in &page {
            let group = key[PROGRESS_PREFIX.len()..].try_into().map(u64::from_be_bytes);
            let group = group.map_err(|_| damaged(key, "it names no group"))?;
            let progress =
                pb::Progress::decode(&record[..]).map_err(|error| damaged(key, &error.to_string()))?;
            groups.insert(GroupId(group), ConfigNum(progress.reached));
        }
    }
}

pub(super) fn put_progress(batch: &mut Batch, group: GroupId, reached: ConfigNum) {
    batch.put(progress_key(group), pb::Progress { reached: reached.0 }.encode_to_vec());
}

pub(super) fn delete_progress(batch: &mut Batch, group: GroupId) {
    batch.delete(progress_key(group));
}

fn config_key(num: ConfigNum) -> Vec<u8> {
    [CONFIG_PREFIX, &num.0.to_be_bytes()].concat()
}

fn progress_key(group: GroupId) -> Vec<u8> {
    [PROGRESS_PREFIX, &group.0.to_be_bytes()].concat()
}

fn damaged(key: &[u8], reason: &str) -> ViewError {
    let key = key.escape_ascii();
    ViewError(format!(
        "the record at key `{key}` of the state store is damaged: {reason}; rebuild this replica's state store"
    ))
}

/// The number of the config that a pair of the state store holds, and the config; for those who watch a machine.
pub fn config_of_pair(key: &[u8], value: &[u8]) -> Option<Result<Config, String>> {
    key.strip_prefix(CONFIG_PREFIX)?;
    let config = pb::Config::decode(value).map_err(|error| error.to_string());
    Some(config.and_then(Config::try_from))
}
