//! How a group follows the configs: in order, and past those that the controllers have dropped.

use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message as _;

use super::testing::*;
use super::*;
use crate::ctrler::{CtrlerAnswer, CtrlerLimits, CtrlerMachine, CtrlerQuery};
use crate::machine::StateMachine as _;
use crate::mutants::Mutants;
use crate::proto::ctrler as ctrlerpb;
use crate::proto::ctrler::change::Change as Of;
use crate::proto::kv::{self as kvpb, command, mutation};
use crate::proto::shardkv as pb;
use crate::raft::Position;
use crate::types::{ConfigNum, GroupId, Index, ShardId, Term};

/// A world of one shard, of which group 1 has shard 0.
fn one_shard() -> World {
    let mut world = World::new(4, 1);
    world.join(1);
    world.settle(&[1]);
    world
}

#[track_caller]
fn refused(reply: &ShardReply, why: &str) {
    let ShardReply::Refused(detail) = reply else { panic!("{reply:?}") };
    assert!(detail.ends_with(why), "{detail}");
}

#[test]
fn configs_are_adopted_in_order_and_again_is_nothing() {
    let mut world = one_shard();
    world.join(2);
    world.pin(0, 2);
    assert!(matches!(world.adopt(1, 3), ShardReply::Refused(_)));
    assert_eq!(world.adopt(1, 2), ShardReply::Adopted(ConfigNum(2)));
    assert_eq!(world.adopt(1, 1), ShardReply::Adopted(ConfigNum(2)), "an old one changes nothing");
    assert_eq!(world.adopt(1, 3), ShardReply::Adopted(ConfigNum(3)));
}

#[test]
fn a_config_is_left_out_only_if_it_is_dropped_and_the_group_holds_nothing() {
    let mut world = one_shard();
    world.join(2); // 2
    world.pin(0, 2); // 3
    world.leave(2); // 4
    world.join(3); // 5
    world.pin(0, 3); // 6
    refused(&world.adopt_oldest(1, 4, 4), "config 4 does not follow on config 1, and the group holds shards");
    refused(&world.adopt_oldest(3, 4, 3), "those in between are kept");
    refused(&world.adopt_oldest(3, 6, 6), "the group was joined in between");
    assert_eq!(world.adopt_oldest(3, 4, 4), ShardReply::Adopted(ConfigNum(4)), "it is new");
    refused(
        &world.adopt_oldest(2, 4, 4),
        "config 4 does not follow on config 0, and the group had a shard in between",
    );
    world.adopt(2, 1);
    world.adopt(2, 2);
    refused(&world.adopt_oldest(2, 4, 4), "and the group was joined");
    assert_eq!(world.adopt(2, 3), ShardReply::Adopted(ConfigNum(3)));
    world.settle_all();
    world.check_settled();
}

#[test]
fn a_source_is_found_although_the_config_has_forgotten_it() {
    let mut world = World::new(3, 1);
    world.join(1);
    world.settle(&[1]);
    world.join(2);
    world.join(3);
    world.leave(1);
    world.pin(0, 3);
    let first = world.configs[1].addresses(GroupId(1)).cloned();
    assert!(first.is_some() && world.config().addresses(GroupId(1)).is_none(), "the shard has gone on");
    while world.adopt_next(2) {}
    let ShardAnswer::Chores(chores) = world.groups[&GroupId(2)].read(ShardQuery::Chores) else { panic!() };
    assert_eq!(chores.todo.len(), 1, "{chores:?}");
    assert_eq!(chores.addresses.get(&GroupId(1)), first.as_ref());
    world.settle_all();
    world.check_settled();
    let ShardAnswer::Chores(chores) = world.groups[&GroupId(2)].read(ShardQuery::Chores) else { panic!() };
    assert_eq!(chores, Chores::default(), "and it is forgotten when it is told");
}

#[test]
fn what_a_group_reports() {
    let mut world = one_shard();
    let standing = |world: &World, group: u64| match world.groups[&GroupId(group)].read(ShardQuery::Standing)
    {
        ShardAnswer::Standing { config, holds } => (config.0, holds),
        other => panic!("{other:?}"),
    };
    assert_eq!((standing(&world, 1), standing(&world, 2)), ((1, true), (0, false)));
    world.join(2);
    world.pin(0, 2);
    world.settle(&[1]);
    assert_eq!(standing(&world, 1), (3, true), "it is yet to be fetched");
    world.leave(1);
    world.settle_all();
    assert_eq!((standing(&world, 1), standing(&world, 2)), ((4, false), (4, true)));
    world.leave(2);
    world.settle_all();
    assert_eq!(standing(&world, 2), (5, true), "nobody has it, so it is kept");
}

/// Groups that follow real controllers, which forget configs as soon as they may.
struct Followed {
    world: World,
    controllers: CtrlerMachine,
    map: Map,
    entries: u64,
    skips: usize,
}

const OPERATOR: kvpb::ClientId = kvpb::ClientId { high: 1, low: 1 };

impl Followed {
    fn new(groups: u64, shards: u64) -> Self {
        let limits = CtrlerLimits { history_configs: 0, ..CtrlerLimits::default() };
        let controllers = CtrlerMachine::new(limits, Mutants::default());
        let world = World::new(groups, usize::try_from(shards).unwrap());
        let mut followed = Self { world, controllers, map: Map::new(), entries: 0, skips: 0 };
        followed.enter(command::Operation::OpenSession(kvpb::OpenSession { client: Some(OPERATOR) }));
        followed.change(Of::Create(ctrlerpb::Create { shards }));
        followed
    }

    fn enter(&mut self, operation: command::Operation) {
        self.entries += 1;
        let command = kvpb::Command { time_ms: 0, limits: None, operation: Some(operation) }.encode_to_vec();
        let at = Position { index: Index(self.entries), term: Term(1) };
        let (batch, _) = self.controllers.apply(&self.map, at, &command).unwrap();
        for (key, value) in batch.writes {
            match value {
                Some(value) => self.map.insert(key, value),
                None => self.map.remove(&key),
            };
        }
        let CtrlerAnswer::Config { config: Some(config), .. } = self.ask(&CtrlerQuery::Latest) else {
            panic!("there is a latest config")
        };
        if config.num > self.world.config().num {
            self.world.configs.push(config);
        }
    }

    fn ask(&self, query: &CtrlerQuery) -> CtrlerAnswer {
        self.controllers.read(&self.map, query).unwrap()
    }

    fn change(&mut self, change: Of) {
        let operation = mutation::Operation::Change(ctrlerpb::Change { change: Some(change) });
        let execute = kvpb::Execute {
            client: Some(OPERATOR),
            sequence: self.entries,
            acknowledged_below: self.entries,
            mutation: Some(kvpb::Mutation { operation: Some(operation) }),
        };
        self.enter(command::Operation::Execute(execute));
    }

    fn join(&mut self, group: u64) {
        let addresses = vec![format!("host:{}", 1000 + group)];
        self.change(Of::Join(ctrlerpb::Groups { groups: vec![ctrlerpb::Group { group, addresses }] }));
    }

    fn leave(&mut self, group: u64) {
        self.change(Of::Leave(ctrlerpb::GroupIds { groups: vec![group] }));
    }

    fn report(&mut self, group: u64) {
        let ShardAnswer::Standing { config, holds } =
            self.world.groups[&GroupId(group)].read(ShardQuery::Standing)
        else {
            panic!("no standing")
        };
        let report = ctrlerpb::Report { group, reached: config.0, holds };
        self.enter(command::Operation::Report(report));
    }

    /// One config further, if there is one; what is proposed is accepted.
    fn follow(&mut self, group: u64) -> bool {
        let adopted = self.world.adopted(group);
        let mut query = CtrlerQuery::After(adopted);
        for _ in 0..3 {
            match follow(adopted, &self.ask(&query)) {
                Follow::Wait => return false,
                Follow::Ask(next) => query = next,
                Follow::Adopt(adopt) => {
                    let operation = pb::command::Operation::Adopt(adopt);
                    let reply = self.world.group(group).apply(operation);
                    let ShardReply::Adopted(now) = reply else { panic!("group {group}: {reply:?}") };
                    assert!(now > adopted);
                    self.skips += usize::from(now > adopted.next());
                    return true;
                }
            }
        }
        panic!("group {group} asks in a circle");
    }

    fn chores(&mut self, group: u64) {
        for (shard, chore) in self.world.groups[&GroupId(group)].chores() {
            let mut mail = self.world.start(group, shard, &chore);
            while let Some(next) = mail {
                mail = self.world.deliver(next);
            }
        }
    }

    fn settle(&mut self) {
        let groups: Vec<u64> = self.world.groups.keys().map(|group| group.0).collect();
        let maps = |world: &World| world.groups.values().map(|group| group.map.clone()).collect::<Vec<_>>();
        loop {
            let before = maps(&self.world);
            for group in &groups {
                while self.follow(*group) {}
                self.chores(*group);
                self.report(*group);
            }
            if maps(&self.world) == before {
                break;
            }
        }
        let latest = self.world.config().num;
        assert!(groups.iter().all(|group| self.world.adopted(*group) == latest), "somebody is stuck");
        self.world.check_settled();
    }
}

#[test]
fn a_group_that_left_and_was_forgotten_comes_back_past_the_configs_that_are_dropped() {
    let mut followed = Followed::new(3, 2);
    followed.join(1);
    followed.join(2);
    followed.settle();
    followed.leave(2);
    followed.settle();
    followed.report(2);
    let left = followed.world.adopted(2);
    for _ in 0..3 {
        followed.join(3);
        followed.leave(3);
    }
    for _ in 0..9 {
        for group in [1, 3] {
            while followed.follow(group) {}
            followed.chores(group);
            followed.report(group);
        }
    }
    let CtrlerAnswer::Config { config, oldest, .. } = followed.ask(&CtrlerQuery::After(left)) else {
        panic!()
    };
    assert!(config.is_none() && oldest > left.next(), "{oldest} is the oldest that is kept");
    followed.join(2);
    followed.settle();
    assert!(followed.skips > 0);
    assert!(followed.world.groups[&GroupId(2)].held().len() == 1, "and it has its share");
}

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    Join(u64),
    Leave(u64),
    Move(u64, u64),
    Follow(u64),
    Chores(u64),
    Report(u64),
    Append(u64),
}

const GROUPS: u64 = 3;

fn step() -> impl Strategy<Value = Step> {
    let group = || 1..=GROUPS;
    prop_oneof![
        1 => group().prop_map(Step::Join),
        1 => group().prop_map(Step::Leave),
        1 => (0..2u64, group()).prop_map(|(shard, group)| Step::Move(shard, group)),
        5 => group().prop_map(Step::Follow),
        4 => group().prop_map(Step::Chores),
        4 => group().prop_map(Step::Report),
        3 => (0..2u64).prop_map(Step::Append),
    ]
}

/// Runs `steps`; how often a config was left out.
fn run(steps: &[Step]) -> usize {
    let mut followed = Followed::new(GROUPS, 2);
    let mut appended = [0u64; 2];
    for step in steps {
        match *step {
            Step::Join(group) => followed.join(group),
            Step::Leave(group) => followed.leave(group),
            Step::Move(shard, group) => followed.change(Of::Move(ctrlerpb::Move { shard, group })),
            Step::Follow(group) => drop(followed.follow(group)),
            Step::Chores(group) => followed.chores(group),
            Step::Report(group) => followed.report(group),
            Step::Append(shard) => {
                let count = &mut appended[usize::try_from(shard).unwrap()];
                // A client of these tests acknowledges nothing, so its window is soon full.
                let (client, sequence) = (1 + *count / 4, *count % 4);
                let key = key_of(shard, 2);
                let mut done = |group| {
                    followed.world.group(group).open(ShardId(shard), client);
                    is_done(&followed.world.group(group).append(2, client, sequence, &key, "x"))
                };
                // Whoever serves it; a retry at another group is the same one.
                *count += u64::from((1..=GROUPS).map(&mut done).filter(|done| *done).count() > 0);
            }
        }
        followed.world.check();
    }
    followed.join(1);
    followed.settle();
    for (shard, appended) in (0..).zip(appended) {
        let owner = followed.world.config().placement(ShardId(shard)).unwrap().owner.unwrap();
        let value = followed.world.groups[&owner].get(2, &key_of(shard, 2)).unwrap();
        let length = value.map_or(0, |value| value.len() as u64);
        assert_eq!(length, appended, "shard {shard} at group {owner}");
    }
    followed.skips
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn whoever_follows_the_controllers_gets_everywhere_and_nothing_is_lost(steps in vec(step(), 0..120)) {
        run(&steps);
    }
}

#[test]
fn random_histories_do_leave_configs_out() {
    use proptest::strategy::ValueTree as _;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut run = || run(&vec(step(), 100..120).new_tree(&mut runner).unwrap().current());
    let skips: usize = (0..40).map(|_| run()).sum();
    assert!(skips > 0);
}
