//! Groups on the command line, `GID=HOST:PORT,HOST:PORT,…`, and sets of shards for people.

use std::str::FromStr;

use crate::addresses::Addresses;
use crate::proto::ctrler as pb;
use crate::types::{GroupId, ShardId};

/// A group and where its members are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GroupAt {
    pub group: GroupId,
    pub addresses: Addresses,
}

impl FromStr for GroupAt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (group, addresses) = text.split_once('=').ok_or("write it like 100=HOST:PORT,HOST:PORT")?;
        let group = group.parse().map_err(|_| format!("{group:?} is not the number of a group"))?;
        let addresses = addresses.parse().map_err(|error| format!("{error}"))?;
        Ok(Self { group: GroupId(group), addresses })
    }
}

/// The groups as they are sent. One that is there twice is the controllers' to refuse.
pub(super) fn encode(groups: &[GroupAt]) -> pb::Groups {
    let encode = |GroupAt { group, addresses }: &GroupAt| pb::Group {
        group: group.0,
        addresses: addresses.as_slice().to_vec(),
    };
    pb::Groups { groups: groups.iter().map(encode).collect() }
}

/// The groups' ids, for messages.
pub(super) fn ids(groups: &[GroupAt]) -> String {
    groups.iter().map(|at| at.group.to_string()).collect::<Vec<_>>().join(" ")
}

/// `0-4,7`; `-` if there are none. The shards are in ascending order.
pub(in super::super) fn ranges(shards: impl IntoIterator<Item = ShardId>) -> String {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for ShardId(shard) in shards {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == shard => *last = shard,
            _ => runs.push((shard, shard)),
        }
    }
    let shown = runs.iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    let shown: Vec<_> = shown.collect();
    if shown.is_empty() { "-".to_owned() } else { shown.join(",") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_a_number_and_addresses() {
        let group: GroupAt = "100=a:1,b:2".parse().unwrap();
        assert_eq!((group.group, group.addresses.to_string()), (GroupId(100), "a:1,b:2".to_owned()));
        for (bad, reason) in [
            ("100:typo", "write it like 100=HOST:PORT"),
            ("=a:1", "\"\" is not the number of a group"),
            ("x=a:1", "\"x\" is not the number of a group"),
            ("-1=a:1", "\"-1\" is not the number of a group"),
            ("100=", "address 1 is \"\""),
            ("100=a:1,host", "address 2 is \"host\""),
            ("100=a:1,a:1", "a:1 is there twice"),
        ] {
            let error = bad.parse::<GroupAt>().unwrap_err();
            assert!(error.contains(reason), "{bad}: {error}");
        }
    }

    #[test]
    fn neighbours_are_shown_as_ranges() {
        let of = |shards: &[u64]| ranges(shards.iter().copied().map(ShardId));
        assert_eq!([of(&[]), of(&[3]), of(&[0, 1]), of(&[0, 1, 2, 4, 6, 7])], ["-", "3", "0-1", "0-2,4,6-7"]);
    }
}
