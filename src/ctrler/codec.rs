//! Configs as they are sent and stored.

use std::collections::BTreeMap;

use super::change::Refusal;
use super::config::{Config, Placement, SHARDS_MAX, Source};
use crate::addresses::Addresses;
use crate::proto::ctrler as pb;
use crate::types::{ConfigNum, GroupId};

impl From<&Config> for pb::Config {
    fn from(config: &Config) -> Self {
        let column = |of: fn(&Placement) -> u64| config.shards.iter().map(of).collect();
        let pinned = config.placements().filter(|(_, placement)| placement.pinned);
        pb::Config {
            num: config.num.0,
            owners: column(|placement| placement.owner.map_or(0, |group| group.0)),
            epochs: column(|placement| placement.epoch.0),
            source_groups: column(|placement| placement.source.map_or(0, |source| source.group.0)),
            source_epochs: column(|placement| placement.source.map_or(0, |source| source.epoch.0)),
            pinned: pinned.map(|(shard, _)| shard.0).collect(),
            groups: encode_groups(&config.groups),
            left: encode_groups(&config.left),
        }
    }
}

impl TryFrom<pb::Config> for Config {
    type Error = String;

    /// Checks that it is a config, not that it is a wise one.
    fn try_from(config: pb::Config) -> Result<Self, String> {
        let shards = config.owners.len();
        let columns = [&config.epochs, &config.source_groups, &config.source_epochs];
        if !(1..=SHARDS_MAX).contains(&shards) || columns.iter().any(|column| column.len() != shards) {
            return Err(format!("config {}: its columns are of no number of shards", config.num));
        }
        let group = |group: u64| (group != 0).then_some(GroupId(group));
        let placement = |shard: usize| Placement {
            owner: group(config.owners[shard]),
            epoch: ConfigNum(config.epochs[shard]),
            source: group(config.source_groups[shard])
                .map(|group| Source { group, epoch: ConfigNum(config.source_epochs[shard]) }),
            pinned: config.pinned.binary_search(&(shard as u64)).is_ok(),
        };
        let decoded = Config {
            num: ConfigNum(config.num),
            shards: (0..shards).map(placement).collect(),
            groups: decode_groups(&config.groups)
                .map_err(|error| format!("config {}: {error}", config.num))?,
            left: decode_groups(&config.left).map_err(|error| format!("config {}: {error}", config.num))?,
        };
        decoded.check().map_err(|reason| format!("config {}: {reason}", config.num))?;
        Ok(decoded)
    }
}

/// Groups with their addresses, ascending.
pub fn encode_groups(groups: &BTreeMap<GroupId, Addresses>) -> Vec<pb::Group> {
    let encode = |(group, addresses): (&GroupId, &Addresses)| pb::Group {
        group: group.0,
        addresses: addresses.as_slice().to_vec(),
    };
    groups.iter().map(encode).collect()
}

/// The groups of a message; each of them once, with addresses that are some.
pub fn decode_groups(groups: &[pb::Group]) -> Result<BTreeMap<GroupId, Addresses>, Refusal> {
    let mut decoded = BTreeMap::new();
    for group in groups {
        let (group, addresses) = (GroupId(group.group), Addresses::new(group.addresses.clone()));
        let addresses = addresses.map_err(|error| Refusal::Addresses { group, error })?;
        if decoded.insert(group, addresses).is_some() {
            return Err(Refusal::GroupTwice(group));
        }
    }
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use super::super::change::{Change, config_after};
    use super::*;
    use crate::types::ShardId;
    use prost::Message as _;

    fn groups(ids: &[u64]) -> BTreeMap<GroupId, Addresses> {
        ids.iter().map(|id| (GroupId(*id), format!("10.0.0.{id}:1,10.0.0.{id}:2").parse().unwrap())).collect()
    }

    #[test]
    fn a_config_comes_back_as_it_was() {
        let changes = [
            Change::Join(groups(&[100, 101, 102])),
            Change::Move { shard: ShardId(3), group: GroupId(102) },
            Change::Leave([GroupId(100)].into()),
        ];
        for applied in 0..=changes.len() {
            let config = config_after(&changes[..applied], 10);
            let bytes = pb::Config::from(&config).encode_to_vec();
            assert_eq!(Config::try_from(pb::Config::decode(&bytes[..]).unwrap()), Ok(config));
        }
    }

    #[test]
    fn the_largest_config_is_small() {
        let many: Vec<u64> = (1..=200).collect();
        let joined = config_after(&[Change::Join(groups(&many))], SHARDS_MAX);
        let config =
            Change::Leave(many[..100].iter().map(|id| GroupId(*id)).collect()).apply(&joined).unwrap();
        assert!(pb::Config::from(&config).encoded_len() < 64 << 10);
    }

    #[test]
    fn what_is_no_config_is_refused() {
        let good = pb::Config::from(&config_after(&[Change::Join(groups(&[1, 2]))], 4));
        assert!(Config::try_from(good.clone()).is_ok());
        type Spoil = fn(&mut pb::Config);
        let spoils: [Spoil; 8] = [
            |config| config.owners.clear(),
            |config| config.epochs.truncate(3),
            |config| config.owners[0] = 3,
            |config| config.owners[0] = 0,
            |config| config.epochs[0] = 9,
            |config| config.groups[0].addresses[0].clear(),
            |config| config.groups[1].group = 1,
            |config| config.left = vec![pb::Group { group: 7, addresses: vec!["a:1".into()] }],
        ];
        for (number, spoil) in spoils.into_iter().enumerate() {
            let mut bad = good.clone();
            spoil(&mut bad);
            assert!(Config::try_from(bad).is_err(), "{number}");
        }
    }

    #[test]
    fn pins_are_of_shards_that_there_are() {
        let mut config = pb::Config::from(&config_after(&[Change::Join(groups(&[1]))], 4));
        config.pinned = vec![2];
        let decoded = Config::try_from(config).unwrap();
        assert!(
            decoded.placement(ShardId(2)).unwrap().pinned && !decoded.placement(ShardId(1)).unwrap().pinned
        );
    }
}
