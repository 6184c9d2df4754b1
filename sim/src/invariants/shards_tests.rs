use std::collections::BTreeMap;

use eraft::addresses::Addresses;
use eraft::ctrler::{Change, Config};
use eraft::proto::ctrler;
use eraft::proto::kv::{ClientId, Execute};
use eraft::types::Term;

use super::*;

const ALL: &dyn Fn(&str) -> bool = &|_| true;
const FROM: GroupId = GroupId(100);
const TO: GroupId = GroupId(101);
const SHARD: ShardId = ShardId(0);

/// Two groups; config 1 gives both their halves, config 2 gives [`SHARD`] from the one to the other.
struct World {
    shards: Shards,
    kept: Kept,
    index: BTreeMap<GroupId, u64>,
}

fn config_of(kept: &Kept, num: u64) -> ctrler::Config {
    (&kept[&ConfigNum(num)]).into()
}

impl World {
    fn new() -> Self {
        let addresses = |group: GroupId| Addresses::new(vec![format!("10.0.{group}.1:7000")]).unwrap();
        let join = Change::Join([FROM, TO].map(|group| (group, addresses(group))).into());
        let zero = Config::empty(10);
        let one = join.apply(&zero).unwrap();
        assert_eq!(one.placement(SHARD).unwrap().owner, Some(FROM));
        let two = Change::Move { shard: SHARD, group: TO }.apply(&one).unwrap();
        let kept = [zero, one, two].map(|config| (config.num, config)).into();
        Self { shards: Shards::default(), kept, index: BTreeMap::new() }
    }

    fn apply(&mut self, group: GroupId, operation: Operation, writes: Writes) -> Result<(), Violation> {
        let index = self.index.entry(group).or_default();
        *index += 1;
        let command = pb::Command { operation: Some(operation) };
        let payload = Payload::Command(command.encode_to_vec().into());
        let entry = Entry { index: Index(*index), term: Term(1), payload };
        self.shards.applied(group, &entry, &writes.0, &self.kept, ALL)
    }

    /// Up to config 2: the shard is frozen at its old owner, and on its way to the new one.
    fn moving() -> Self {
        let mut world = Self::new();
        for group in [FROM, TO] {
            world.adopts(group, 1, if group == FROM { vec![here(1)] } else { Vec::new() }).unwrap();
        }
        world.adopts(FROM, 2, vec![taken(here(1))]).unwrap();
        world.adopts(TO, 2, vec![pulling()]).unwrap();
        world
    }

    fn adopts(&mut self, group: GroupId, num: u64, tenures: Vec<pb::Tenure>) -> Result<(), Violation> {
        let operation = Operation::Adopt(adopt(&self.kept, num));
        self.apply(group, operation, Writes::default().adopted(num).tenures(tenures))
    }

    fn arrives(&mut self, tenure: pb::Tenure) -> Result<(), Violation> {
        let insert = Operation::Insert(pb::Insert::default());
        self.apply(TO, insert, Writes::default().tenures(vec![tenure]))
    }

    fn writes(&mut self, group: GroupId, born: u64, sequence: u64) -> Result<(), Violation> {
        let client = Some(ClientId { high: 1, low: 2 });
        let execute = Execute { client, sequence, acknowledged_below: 0, mutation: None };
        let operation = Some(kv_command::Operation::Execute(execute));
        let command = kv::Command { time_ms: 0, limits: None, operation }.encode_to_vec().into();
        let operation = Operation::Client(pb::Client { shard: SHARD.0, command });
        self.apply(group, operation, Writes::default().data(born, Some(b"v")))
    }
}

/// What an entry writes.
#[derive(Default)]
struct Writes(Batch);

impl Writes {
    fn adopted(mut self, num: u64) -> Self {
        self.0.put(ADOPTED_KEY, pb::Adopted { config: num, shards: 10 }.encode_to_vec());
        self
    }

    fn tenures(mut self, tenures: Vec<pb::Tenure>) -> Self {
        self.0.put([TENURES_PREFIX, &[0, 0]].concat(), pb::Tenures { tenures }.encode_to_vec());
        self
    }

    fn data(mut self, born: u64, value: Option<&[u8]>) -> Self {
        let key = [DATA_PREFIX, &[0, 0], &born.to_be_bytes()[..], b"k/key"].concat();
        match value {
            Some(value) => self.0.put(key, value),
            None => self.0.delete(key),
        }
        self
    }
}

fn tenure(born: u64, source: Option<pb::Reign>, stage: pb::tenure::Stage) -> pb::Tenure {
    let content = Some(pb::Content { hash: 7, keys: 1, bytes: 6 });
    pb::Tenure { born, epoch: born, source, stage: Some(stage), content, ..pb::Tenure::default() }
}

fn here(born: u64) -> pb::Tenure {
    tenure(born, None, pb::tenure::Stage::Here(true))
}

fn taken(tenure: pb::Tenure) -> pb::Tenure {
    let next = Some(pb::tenure::Next::Group(pb::Reign { group: TO.0, epoch: 2 }));
    pb::Tenure { next, ..tenure }
}

fn moved(stage: pb::tenure::Stage) -> pb::Tenure {
    tenure(2, Some(pb::Reign { group: FROM.0, epoch: 1 }), stage)
}

fn pulling() -> pb::Tenure {
    moved(pb::tenure::Stage::Pulling(b"a".to_vec().into()))
}

fn arrived() -> pb::Tenure {
    moved(pb::tenure::Stage::Here(true))
}

fn let_go() -> pb::Tenure {
    taken(tenure(1, None, pb::tenure::Stage::Deleting(true)))
}

fn oracle(held: Result<(), Violation>) -> String {
    held.unwrap_err().oracle
}

#[test]
fn a_shard_that_is_handed_over_as_it_should_be_breaks_nothing() {
    let mut world = World::moving();
    world.arrives(arrived()).unwrap();
    assert_eq!((world.shards.migrations, &world.shards.turns[..]), (1, &[Turn::Arrival][..]));
    let confirm = Operation::Confirm(pb::Confirm::default());
    world.apply(FROM, confirm, Writes::default().tenures(vec![let_go()])).unwrap();
    let delete = Operation::Delete(pb::Delete { shard: SHARD.0, born: 1 });
    world.apply(FROM, delete, Writes::default().data(1, None).tenures(Vec::new())).unwrap();
    world.writes(TO, 2, 1).unwrap();
    assert!(world.shards.judged().iter().all(|(_, judged)| *judged > 0), "{:?}", world.shards.judged());
}

#[test]
fn a_config_that_is_left_out_or_is_another_one_is_seen() {
    let mut world = World::new();
    assert_eq!(oracle(world.adopts(FROM, 2, Vec::new())), "shard.config_order");
    let mut world = World::new();
    let other = Operation::Adopt(adopt(&world.kept, 2));
    assert_eq!(oracle(world.apply(FROM, other, Writes::default().adopted(1))), "shard.config_order");
}

#[test]
fn a_write_is_accepted_by_the_one_that_has_the_shard_alone() {
    let mut world = World::moving();
    assert_eq!(oracle(world.writes(FROM, 1, 1)), "shard.single_owner", "it was taken away");
    let mut world = World::moving();
    assert_eq!(oracle(world.writes(TO, 2, 1)), "shard.single_owner", "it is not there yet");
    let mut world = World::new();
    world.adopts(FROM, 1, vec![here(1)]).unwrap();
    world.writes(FROM, 1, 1).unwrap();
    assert_eq!(oracle(world.adopts(TO, 1, vec![here(1)])), "shard.single_owner", "it is another's");
}

#[test]
fn data_that_goes_too_early_or_arrives_as_another_is_seen() {
    let mut world = World::moving();
    let confirm = Operation::Confirm(pb::Confirm::default());
    let early = world.apply(FROM, confirm, Writes::default().tenures(vec![let_go()]));
    assert_eq!(oracle(early), "shard.no_loss", "the new owner does not have it yet");
    let mut world = World::moving();
    let less = pb::Tenure { content: Some(pb::Content::default()), ..arrived() };
    assert_eq!(oracle(world.arrives(less)), "shard.no_loss", "without a pair");
    let mut world = World::moving();
    let delete = Operation::Delete(pb::Delete { shard: SHARD.0, born: 1 });
    let deleted = world.apply(FROM, delete, Writes::default().data(1, None));
    assert_eq!(oracle(deleted), "shard.no_loss", "nobody let it go");
    let mut world = World::new();
    world.adopts(TO, 1, Vec::new()).unwrap();
    assert_eq!(oracle(world.adopts(TO, 2, vec![here(2)])), "shard.no_loss", "it begins empty");
}

#[test]
fn a_number_takes_effect_once_wherever_its_shard_is() {
    let mut world = World::new();
    world.adopts(FROM, 1, vec![here(1)]).unwrap();
    world.adopts(TO, 1, Vec::new()).unwrap();
    world.writes(FROM, 1, 7).unwrap();
    world.adopts(FROM, 2, vec![taken(here(1))]).unwrap();
    world.adopts(TO, 2, vec![pulling()]).unwrap();
    world.arrives(arrived()).unwrap();
    world.writes(TO, 2, 8).unwrap();
    let again = world.writes(TO, 2, 7).unwrap_err();
    assert_eq!(again.oracle, "kv.exactly_once");
    assert!(again.message.contains("of g100 and again"), "{}", again.message);
}

/// The command to adopt config `num`.
fn adopt(kept: &Kept, num: u64) -> pb::Adopt {
    pb::Adopt { config: config_of(kept, num).encode_to_vec().into(), oldest: 0 }
}
