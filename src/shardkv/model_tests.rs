//! Property tests: three groups under random configs, random orders of everything between them, lost, repeated and
//! late messages, against what a client may expect: each append once, in one place, and nothing left behind.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::testing::*;
use super::*;
use crate::mutants::Mutants;
use crate::types::{GroupId, ShardId};

const GROUPS: u64 = 3;
const CLIENTS: u64 = 2;

/// One thing that happens; numbers are taken modulo what there is.
#[derive(Clone, Debug)]
enum Step {
    Join(u64),
    Leave(u64),
    Move(u64, u64),
    Adopt(u64),
    /// A leader starts one of its chores.
    Chore(u64, usize),
    /// Something under way arrives, and stays under way if it is repeated.
    Deliver(usize, bool),
    Lose(usize),
    /// A client asks a group for the next append to a shard.
    Append(u64, u64, u64),
    /// It asks again, at another group, for one that was asked for before.
    Retry(u64, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let group = || 1..=GROUPS;
    prop_oneof![
        1 => group().prop_map(Step::Join),
        1 => group().prop_map(Step::Leave),
        2 => (any::<u64>(), group()).prop_map(|(shard, group)| Step::Move(shard, group)),
        6 => group().prop_map(Step::Adopt),
        12 => (group(), any::<usize>()).prop_map(|(group, which)| Step::Chore(group, which)),
        12 => (any::<usize>(), prop::bool::weighted(0.2)).prop_map(|(which, again)| Step::Deliver(which, again)),
        1 => any::<usize>().prop_map(Step::Lose),
        6 => (group(), 0..CLIENTS, any::<u64>()).prop_map(|(group, client, shard)| Step::Append(group, client, shard)),
        4 => (group(), any::<usize>()).prop_map(|(group, which)| Step::Retry(group, which)),
    ]
}

/// An append that some group was asked for.
#[derive(Clone)]
struct Asked {
    client: u64,
    shard: u64,
    sequence: u64,
    key: String,
    value: String,
}

#[derive(Default)]
struct Clients {
    next: BTreeMap<(u64, u64), u64>,
    asked: Vec<Asked>,
    /// What each key must hold: the appends that were done, in the order in which they were.
    done: BTreeMap<String, Vec<String>>,
}

impl Clients {
    fn append(&mut self, world: &mut World, group: u64, asked: &Asked) {
        let shards = world.shards();
        world.group(group).open(ShardId(asked.shard), asked.client);
        let reply = world.group(group).append(shards, asked.client, asked.sequence, &asked.key, &asked.value);
        if is_done(&reply) {
            let done = self.done.entry(asked.key.clone()).or_default();
            if !done.contains(&asked.value) {
                done.push(asked.value.clone());
            }
        }
    }

    fn check(&self, world: &World, group: GroupId, shard: u64) {
        let key = key_of(shard, world.shards());
        let expected = self.done.get(&key).map(|done| done.concat().into_bytes());
        let value = world.groups[&group].get(world.shards(), &key);
        if let Some(value) = value {
            assert_eq!(value, expected, "key {key} of shard {shard} at group {group}");
        }
    }
}

struct Run {
    world: World,
    clients: Clients,
    under_way: Vec<Mail>,
}

impl Run {
    fn new(shards: usize, mutants: Mutants) -> Self {
        let mut world = World::with(GROUPS, shards, mutants);
        world.pairs_max = 1;
        Self { world, clients: Clients::default(), under_way: Vec::new() }
    }

    fn step(&mut self, step: &Step) {
        let shards = self.world.shards() as u64;
        match *step {
            Step::Join(group) => drop(self.world.join(group)),
            Step::Leave(group) => drop(self.world.leave(group)),
            Step::Move(shard, group) => drop(self.world.pin(shard % shards, group)),
            Step::Adopt(group) => drop(self.world.adopt_next(group)),
            Step::Chore(group, which) => {
                let chores = self.world.groups[&GroupId(group)].chores();
                if !chores.is_empty() {
                    let (shard, chore) = &chores[which % chores.len()];
                    self.under_way.extend(self.world.start(group, *shard, chore));
                }
            }
            Step::Deliver(which, again) if !self.under_way.is_empty() => {
                let which = which % self.under_way.len();
                let mail =
                    if again { self.under_way[which].clone() } else { self.under_way.swap_remove(which) };
                self.under_way.extend(self.world.deliver(mail));
            }
            Step::Lose(which) if !self.under_way.is_empty() => {
                let which = which % self.under_way.len();
                self.under_way.swap_remove(which);
            }
            Step::Append(group, client, shard) => {
                let shard = shard % shards;
                let next = self.clients.next.entry((client, shard)).or_default();
                if *next < 4 {
                    let sequence = *next;
                    *next += 1;
                    let key = key_of(shard, self.world.shards());
                    let value = format!("{client}.{sequence};");
                    let asked = Asked { client, shard, sequence, key, value };
                    self.clients.asked.push(asked.clone());
                    self.clients.append(&mut self.world, group, &asked);
                }
            }
            Step::Retry(group, which) if !self.clients.asked.is_empty() => {
                let asked = self.clients.asked[which % self.clients.asked.len()].clone();
                self.clients.append(&mut self.world, group, &asked);
            }
            _ => {}
        }
        self.check();
    }

    /// One owner at a time, who has everything; and a copy somewhere of all that was ever done.
    fn check(&self) {
        self.world.check();
        for shard in 0..self.world.shards() as u64 {
            for group in self.world.groups.keys() {
                self.clients.check(&self.world, *group, shard);
            }
            if self.clients.done.contains_key(&key_of(shard, self.world.shards())) {
                let complete =
                    |state: &ShardState| !matches!(state, ShardState::Pulling | ShardState::Deleting);
                let copies =
                    self.world.groups.values().flat_map(|group| group.state(shard)).filter(complete).count();
                assert!(copies > 0, "shard {shard} is nowhere");
            }
        }
    }

    fn settle(&mut self) {
        self.world.settle_all();
        // What was late arrives after all.
        for mail in std::mem::take(&mut self.under_way) {
            let mut mail = Some(mail);
            while let Some(next) = mail {
                mail = self.world.deliver(next);
            }
            self.check();
        }
        self.world.settle_all();
        self.world.check_settled();
        self.check();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn whatever_happens_a_shard_has_one_owner_who_has_all_of_it_once_and_nothing_is_left_behind(
        shards in 1..4usize, steps in vec(step(), 0..200),
    ) {
        let mut run = Run::new(shards, Mutants::default());
        for step in &steps {
            run.step(step);
        }
        run.settle();
    }
}

#[cfg(feature = "mutants")]
mod mutants {
    use super::*;
    use crate::mutants::MutantId;
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::TestRunner;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    /// The number of random runs after which the mutant shows.
    fn runs_until_found(mutant: MutantId, runs_max: u32) -> Option<u32> {
        let mut runner = TestRunner::deterministic();
        let steps = (1..4usize, vec(step(), 150..200));
        (1..=runs_max).find(|_| {
            let (shards, steps) = steps.new_tree(&mut runner).unwrap().current();
            catch_unwind(AssertUnwindSafe(|| {
                let mut run = Run::new(shards, Mutants::with(mutant));
                steps.iter().for_each(|step| run.step(step));
                run.settle();
            }))
            .is_err()
        })
    }

    #[test]
    fn every_planted_bug_of_migration_is_found() {
        for mutant in [
            MutantId::ShardkvServeBeforeArrival,
            MutantId::ShardkvDeleteBeforeCommit,
            MutantId::ShardkvSessionsNotMoved,
            MutantId::ShardkvSkipConfig,
            MutantId::ShardkvPullFromNewer,
            MutantId::ShardkvDeleteReturned,
            MutantId::ShardkvNeverDeletes,
            MutantId::ShardkvWriteWhileBePulling,
        ] {
            // `adopt_next` never skips: that one is found by the test that tries to.
            if mutant != MutantId::ShardkvSkipConfig {
                let runs = runs_until_found(mutant, 400);
                assert!(runs.is_some(), "{mutant} survives");
            }
        }
    }

    #[test]
    fn a_dead_source_blocks_all_configs_under_the_planted_bug() {
        let mut world = World::with(GROUPS, 6, Mutants::with(MutantId::ShardkvUnaffectedBlocked));
        for group in 1..=3 {
            world.join(group);
            world.settle(&[1, 3]);
        }
        world.leave(1);
        world.settle(&[1, 3]);
        assert_ne!(world.adopted(3), world.config().num);
    }

    #[test]
    fn a_skipped_config_is_adopted_under_the_planted_bug() {
        let mut world = World::with(GROUPS, 1, Mutants::with(MutantId::ShardkvSkipConfig));
        world.join(1);
        world.settle_all();
        world.join(2);
        world.pin(0, 2);
        assert_eq!(world.adopt(1, 3), ShardReply::Adopted(crate::types::ConfigNum(3)));
    }
}
