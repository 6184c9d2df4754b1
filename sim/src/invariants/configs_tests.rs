use std::collections::{BTreeMap, BTreeSet};

use eraft::addresses::Addresses;
use eraft::ctrler::Change as Do;
use eraft::proto::ctrler as pb;
use eraft::proto::ctrler::change::Change as Of;
use eraft::proto::kv::{Execute, Mutation};
use eraft::types::{Index, Term};

use super::*;

const ALL: &dyn Fn(&str) -> bool = &|_| true;

fn addresses(group: u64) -> Vec<String> {
    vec![format!("10.0.{group}.1:7000"), format!("10.0.{group}.2:7000")]
}

/// A command and what it does, as the machine would.
fn join(groups: &[u64]) -> (Of, Do) {
    let group = |group: &u64| pb::Group { group: *group, addresses: addresses(*group) };
    let new = groups.iter().map(|group| (GroupId(*group), Addresses::new(addresses(*group)).unwrap()));
    (Of::Join(pb::Groups { groups: groups.iter().map(group).collect() }), Do::Join(new.collect()))
}

fn leave(groups: &[u64]) -> (Of, Do) {
    let going: BTreeSet<GroupId> = groups.iter().copied().map(GroupId).collect();
    (Of::Leave(pb::GroupIds { groups: groups.to_vec() }), Do::Leave(going))
}

fn pin(shard: u64, group: u64) -> (Of, Do) {
    let to = Do::Move { shard: ShardId(shard), group: GroupId(group) };
    (Of::Move(pb::Move { shard, group }), to)
}

/// A world of one controller.
struct World {
    configs: Configs,
    latest: Config,
    index: u64,
}

impl World {
    fn new() -> Self {
        Self { configs: Configs::default(), latest: Config::empty(10), index: 0 }
    }

    /// The controller applies a command that makes `config`.
    fn apply(&mut self, node: u64, change: Of, config: &Config) -> Result<(), Violation> {
        self.index += 1;
        let change = pb::Change { change: Some(change) };
        let mutation = Some(Mutation { operation: Some(mutation::Operation::Change(change)) });
        let execute = Execute { client: None, sequence: self.index, acknowledged_below: 0, mutation };
        let command =
            Command { time_ms: 0, limits: None, operation: Some(command::Operation::Execute(execute)) };
        let payload = Payload::Command(command.encode_to_vec().into());
        let entry = Entry { index: Index(self.index), term: Term(1), payload };
        let mut batch = Batch::new();
        let key = [CONFIG_PREFIX, &config.num.0.to_be_bytes()].concat();
        batch.put(key, pb::Config::from(config).encode_to_vec());
        self.configs.applied(NodeId(node), &entry, &batch, ALL)
    }

    /// A command that is right.
    fn right(&mut self, (change, to_do): (Of, Do)) -> Config {
        let next = to_do.apply(&self.latest).unwrap();
        self.apply(501, change, &next).unwrap();
        self.latest = next.clone();
        next
    }

    fn oracle(&mut self, change: Of, config: &Config) -> String {
        self.apply(501, change, config).unwrap_err().oracle
    }
}

#[test]
fn what_the_rules_make_is_right() {
    let mut world = World::new();
    for step in [
        join(&[100, 101, 102]),
        pin(0, 101),
        pin(1, 101),
        pin(2, 101),
        pin(3, 101),
        pin(4, 101),
        join(&[103]),
    ] {
        world.right(step);
    }
    world.right(leave(&[101]));
    world.right(leave(&[100, 102, 103]));
    world.right(join(&[104]));
    let judged: BTreeMap<_, _> = world.configs.judged().into_iter().collect();
    assert!(judged["ctrler.minimal"] >= 8 && judged["ctrler.refused"] >= 10, "{judged:?}");
}

#[test]
fn controllers_that_disagree_are_not_deterministic() {
    let mut world = World::new();
    let (change, _) = join(&[100, 101]);
    let made = world.right(join(&[100, 101]));
    let mut other = made.clone();
    other.shards.swap(0, 9);
    world.index = 0;
    assert_eq!(world.apply(502, change.clone(), &made), Ok(()));
    world.index = 0;
    assert_eq!(world.apply(503, change, &other).unwrap_err().oracle, "ctrler.deterministic");
}

#[test]
fn shares_that_are_not_level_and_shards_that_move_for_nothing_are_seen() {
    let mut world = World::new();
    let three = world.right(join(&[100, 101, 102]));
    let (change, to_do) = join(&[103]);
    let next = to_do.apply(&three).unwrap();
    let mut skewed = next.clone();
    let newcomer = skewed.shards.iter().position(|at| at.owner == Some(GroupId(103))).unwrap();
    skewed.shards[newcomer] = three.shards[newcomer];
    assert_eq!(world.oracle(change.clone(), &skewed), "ctrler.balanced");
    // Two shards change places.
    let mut world = World::new();
    world.right(join(&[100, 101, 102]));
    let mut swapped = next;
    let of = |config: &Config, group| {
        config.shards.iter().position(|at| at.owner == Some(GroupId(group))).unwrap()
    };
    let (one, other) = (of(&swapped, 100), of(&swapped, 101));
    swapped.shards.swap(one, other);
    assert_eq!(world.oracle(change, &swapped), "ctrler.minimal");
}

#[test]
fn nonsense_that_makes_a_config_and_configs_that_are_not_what_was_asked_are_seen() {
    let mut world = World::new();
    let one = world.right(join(&[100]));
    let (twice, _) = join(&[100]);
    let next = Config { num: one.num.next(), ..one.clone() };
    assert_eq!(world.oracle(twice, &next), "ctrler.refused");
    let mut world = World::new();
    world.right(join(&[100]));
    let (change, _) = join(&[101]);
    assert_eq!(world.oracle(change, &next), "ctrler.refused", "g101 is missing");
}

#[test]
fn operators_are_told_what_fits() {
    let mut world = World::new();
    let ask = |world: &World, asked: Asked| world.configs.asked(asked);
    let change = |of: Of| Asked::Change(pb::Change { change: Some(of) });
    let oracle = |held: Result<(), Violation>| held.unwrap_err().oracle;
    let early = ask(&world, Asked::Query(None));
    let open = ask(&world, change(join(&[100]).0));
    let one = world.right(join(&[100]));
    world.configs.told(&open, &Told::Made(one.num), ALL).unwrap();
    let found = |config: &Config, latest| Told::Config(Some(config.clone()), ConfigNum(0), ConfigNum(latest));
    // Who asked before may be told of either.
    world.configs.told(&early, &found(&Config::empty(10), 0), ALL).unwrap();
    let late = ask(&world, Asked::Query(None));
    let stale = world.configs.told(&late, &found(&Config::empty(10), 0), ALL);
    assert_eq!(oracle(stale), "ctrler.linearizable");
    let again = ask(&world, change(join(&[101]).0));
    assert_eq!(oracle(world.configs.told(&again, &Told::Made(one.num), ALL)), "ctrler.linearizable");
    assert_eq!(oracle(world.configs.told(&again, &Told::Refused, ALL)), "ctrler.refused");
    let twice = ask(&world, change(join(&[100]).0));
    world.configs.told(&twice, &Told::Refused, ALL).unwrap();
    let old = ask(&world, Asked::Query(Some(ConfigNum(0))));
    assert_eq!(oracle(world.configs.told(&old, &found(&one, 1), ALL)), "ctrler.deterministic");
}
