//! What an entry of a log does, in words. Each kind of group has commands of its own: the same bytes mean different
//! things at controllers, in a group that serves shards, and in one that stands alone.

use bytes::Bytes;
use eraft::proto::{ctrler, kv, shardkv};
use prost::Message as _;

use crate::places::Place;

/// Groups or shards that are named; of more, their number is said.
const NAMED_MAX: usize = 4;

/// What a command is about, for the evidence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// The shard.
    pub shard: Option<u64>,
    /// The config.
    pub config: Option<u64>,
}

/// What `command` does in the log of a group at `place`.
pub fn words(place: Place, command: &Bytes) -> String {
    let said = match place {
        Place::Group(_) => of_shards(command),
        Place::Alone | Place::Ctrlers => of_kv(command),
    };
    said.unwrap_or_else(|| format!("a command of {} bytes", command.len()))
}

/// The shard and the config that `command` concerns.
pub fn about(place: Place, command: &Bytes) -> About {
    use shardkv::command::Operation;
    let Place::Group(_) = place else { return About::default() };
    let Some(operation) = shardkv::Command::decode(command.clone()).ok().and_then(|it| it.operation) else {
        return About::default();
    };
    let shard = |shard| About { shard: Some(shard), config: None };
    match operation {
        Operation::Client(client) => shard(client.shard),
        Operation::Insert(insert) => shard(insert.shard),
        Operation::Confirm(confirm) => shard(confirm.shard),
        Operation::Told(told) => shard(told.shard),
        Operation::Delete(delete) => shard(delete.shard),
        Operation::Adopt(adopt) => About { shard: None, config: config_of(&adopt).map(|config| config.num) },
    }
}

fn config_of(adopt: &shardkv::Adopt) -> Option<ctrler::Config> {
    ctrler::Config::decode(adopt.config.clone()).ok()
}

fn of_kv(command: &Bytes) -> Option<String> {
    use kv::command::Operation;
    let words = match kv::Command::decode(command.clone()).ok()?.operation? {
        Operation::OpenSession(_) => "open session".to_owned(),
        Operation::CloseSession(_) => "close session".to_owned(),
        Operation::Execute(execute) => {
            format!("{} (number {})", mutation(execute.mutation.as_ref()), execute.sequence)
        }
        Operation::Report(report) => {
            let holds = if report.holds { "holds shards" } else { "holds none" };
            format!("g{} reports config {}, {holds}", report.group, report.reached)
        }
    };
    Some(words)
}

fn of_shards(command: &Bytes) -> Option<String> {
    use shardkv::command::Operation;
    let words = match shardkv::Command::decode(command.clone()).ok()?.operation? {
        Operation::Client(client) => {
            let inner = of_kv(&client.command).unwrap_or_else(|| "a command".to_owned());
            format!("shard {}: {inner}", client.shard)
        }
        Operation::Adopt(adopt) => match config_of(&adopt) {
            Some(config) => format!("adopt config {}", config.num),
            None => "adopt a config that cannot be read".to_owned(),
        },
        Operation::Insert(insert) => {
            let chunk = insert.chunk.unwrap_or_default();
            let last = if chunk.whole.is_some() { ", the last ones" } else { "" };
            format!(
                "insert {} pairs of shard {} (config {}){last}",
                chunk.pairs.len(),
                insert.shard,
                insert.born
            )
        }
        Operation::Confirm(confirm) => {
            let by = confirm.by.unwrap_or_default();
            format!("confirm that g{} has shard {} of epoch {}", by.group, confirm.shard, confirm.epoch)
        }
        Operation::Told(told) => {
            format!("the source of shard {} (config {}) was told", told.shard, told.born)
        }
        Operation::Delete(delete) => {
            format!("delete a part of shard {} (config {})", delete.shard, delete.born)
        }
    };
    Some(words)
}

/// What a mutation does.
pub(super) fn mutation(mutation: Option<&kv::Mutation>) -> String {
    use kv::mutation::Operation;
    let key = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    match mutation.and_then(|mutation| mutation.operation.as_ref()) {
        Some(Operation::Put(put)) => format!("put {}", key(&put.key)),
        Some(Operation::Append(append)) => format!("append {}", key(&append.key)),
        Some(Operation::Delete(delete)) => format!("delete {}", key(&delete.key)),
        Some(Operation::Cas(cas)) => format!("cas {}", key(&cas.key)),
        Some(Operation::Change(change)) => of_change(change),
        None => "nothing".to_owned(),
    }
}

fn of_change(change: &ctrler::Change) -> String {
    use ctrler::change::Change;
    let groups = |list: &[ctrler::Group]| named(list.iter().map(|group| group.group));
    match &change.change {
        Some(Change::Create(create)) => format!("create {} shards", create.shards),
        Some(Change::Join(join)) => format!("join {}", groups(&join.groups)),
        Some(Change::Leave(leave)) => format!("leave {}", named(leave.groups.iter().copied())),
        Some(Change::Move(moved)) => format!("move shard {} to g{}", moved.shard, moved.group),
        Some(Change::Unpin(shard)) => format!("unpin shard {shard}"),
        Some(Change::Update(update)) => format!("new addresses of {}", groups(&update.groups)),
        Some(Change::Rollback(num)) => format!("roll back to config {num}"),
        None => "change nothing".to_owned(),
    }
}

fn named(groups: impl ExactSizeIterator<Item = u64>) -> String {
    let count = groups.len();
    if count == 0 || count > NAMED_MAX {
        return format!("{count} groups");
    }
    groups.map(|group| format!("g{group}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use eraft::types::GroupId;
    use shardkv::command::Operation;

    const GROUP: Place = Place::Group(GroupId(100));

    fn of_group(operation: Operation) -> Bytes {
        shardkv::Command { operation: Some(operation) }.encode_to_vec().into()
    }

    fn execute(operation: kv::mutation::Operation) -> Bytes {
        let mutation = Some(kv::Mutation { operation: Some(operation) });
        let execute = kv::Execute { sequence: 9, mutation, ..Default::default() };
        let operation = Some(kv::command::Operation::Execute(execute));
        kv::Command { time_ms: 1, operation, ..Default::default() }.encode_to_vec().into()
    }

    #[test]
    fn commands_of_a_group_name_their_shard_and_what_happens_to_it() {
        let put = execute(kv::mutation::Operation::Put(kv::Put { key: "k7".into(), value: "v".into() }));
        let config = ctrler::Config { num: 5, ..Default::default() }.encode_to_vec().into();
        let whole = shardkv::Chunk { whole: Some(shardkv::Whole::default()), ..Default::default() };
        let by = Some(shardkv::Reign { group: 101, epoch: 5 });
        for (operation, said, shard, config) in [
            (
                Operation::Client(shardkv::Client { shard: 3, command: put }),
                "shard 3: put k7 (number 9)",
                Some(3),
                None,
            ),
            (Operation::Adopt(shardkv::Adopt { config, oldest: 1 }), "adopt config 5", None, Some(5)),
            (
                Operation::Insert(shardkv::Insert { shard: 3, born: 5, chunk: Some(whole) }),
                "insert 0 pairs of shard 3 (config 5), the last ones",
                Some(3),
                None,
            ),
            (
                Operation::Confirm(shardkv::Confirm { shard: 3, epoch: 2, by }),
                "confirm that g101 has shard 3 of epoch 2",
                Some(3),
                None,
            ),
            (
                Operation::Told(shardkv::Told { shard: 3, born: 5 }),
                "the source of shard 3 (config 5) was told",
                Some(3),
                None,
            ),
            (
                Operation::Delete(shardkv::Delete { shard: 3, born: 2 }),
                "delete a part of shard 3 (config 2)",
                Some(3),
                None,
            ),
        ] {
            let command = of_group(operation);
            assert_eq!(words(GROUP, &command), said);
            assert_eq!(about(GROUP, &command), About { shard, config }, "{said}");
        }
    }

    #[test]
    fn commands_of_controllers_name_groups_and_shards() {
        use ctrler::change::Change;
        let group = |group| ctrler::Group { group, addresses: Vec::new() };
        for (change, said) in [
            (Change::Join(ctrler::Groups { groups: vec![group(100), group(101)] }), "join g100, g101"),
            (Change::Leave(ctrler::GroupIds { groups: (100..106).collect() }), "leave 6 groups"),
            (Change::Move(ctrler::Move { shard: 4, group: 101 }), "move shard 4 to g101"),
            (Change::Unpin(4), "unpin shard 4"),
            (Change::Rollback(2), "roll back to config 2"),
        ] {
            let change = ctrler::Change { change: Some(change) };
            let command = execute(kv::mutation::Operation::Change(change));
            assert_eq!(words(Place::Ctrlers, &command), format!("{said} (number 9)"));
        }
        let report = ctrler::Report { group: 100, reached: 7, holds: true };
        let operation = Some(kv::command::Operation::Report(report));
        let command = kv::Command { operation, ..Default::default() }.encode_to_vec().into();
        assert_eq!(words(Place::Ctrlers, &command), "g100 reports config 7, holds shards");
        assert_eq!(about(Place::Ctrlers, &command), About::default());
        assert_eq!(words(GROUP, &Bytes::from_static(&[0xff; 3])), "a command of 3 bytes");
    }
}
