//! The machine, entry by entry: what operators and groups are told, what is kept, what is forgotten.

use std::collections::BTreeMap;

use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::machine::StateMachine;
use crate::mutants::Mutants;
use crate::proto::ctrler as pb;
use crate::proto::ctrler::change::Change as Of;
use crate::proto::kv::mutation_result::Result as Did;
use crate::proto::kv::{self, RefusedReason, command, mutation};
use crate::raft::Position;
use crate::session::Reply;
use crate::types::{ConfigNum, GroupId, Index, ShardId, Term};

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

const OPERATOR: kv::ClientId = kv::ClientId { high: 1, low: 1 };

/// A state store in memory, the machine that writes it, and an operator with a session.
struct Controllers {
    machine: CtrlerMachine,
    map: Map,
    index: u64,
    sequence: u64,
}

impl Controllers {
    fn new() -> Self {
        Self::with(CtrlerLimits::default())
    }

    fn with(limits: CtrlerLimits) -> Self {
        let machine = CtrlerMachine::new(limits, Mutants::default());
        let mut controllers = Self { machine, map: Map::new(), index: 0, sequence: 0 };
        let open = kv::OpenSession { client: Some(OPERATOR) };
        let opened = controllers.apply(command::Operation::OpenSession(open));
        assert_eq!(opened, CtrlerReply::Session(Reply::SessionOpened));
        controllers
    }

    fn apply(&mut self, operation: command::Operation) -> CtrlerReply {
        let command = kv::Command { time_ms: 0, limits: None, operation: Some(operation) };
        self.apply_bytes(&command.encode_to_vec())
    }

    fn apply_bytes(&mut self, command: &[u8]) -> CtrlerReply {
        self.index += 1;
        let at = Position { index: Index(self.index), term: Term(1) };
        let (batch, reply) = self.machine.apply(&self.map, at, command).unwrap();
        for (key, value) in batch.writes {
            match value {
                Some(value) => self.map.insert(key, value),
                None => self.map.remove(&key),
            };
        }
        reply
    }

    fn execute(&mut self, sequence: u64, operation: mutation::Operation) -> Did {
        let execute = kv::Execute {
            client: Some(OPERATOR),
            sequence,
            acknowledged_below: sequence,
            mutation: Some(kv::Mutation { operation: Some(operation) }),
        };
        match self.apply(command::Operation::Execute(execute)) {
            CtrlerReply::Session(Reply::Mutation(result)) => result.result.unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// The number of the config that the change made, or why it made none.
    fn change(&mut self, change: Of) -> Result<u64, String> {
        self.sequence += 1;
        let change = pb::Change { change: Some(change) };
        match self.execute(self.sequence, mutation::Operation::Change(change)) {
            Did::Config(num) => Ok(num),
            Did::Refused(reason) => Err(reason),
            other => panic!("{other:?}"),
        }
    }

    fn report(&mut self, group: u64, reached: u64, holds: bool) -> CtrlerReply {
        self.apply(command::Operation::Report(pb::Report { group, reached, holds }))
    }

    fn query(&self, query: CtrlerQuery) -> (Option<Config>, u64, u64) {
        match self.machine.read(&self.map, &query).unwrap() {
            CtrlerAnswer::Config { config, latest, oldest } => (config, latest.0, oldest.0),
            CtrlerAnswer::Status { .. } => panic!("no question for the status"),
        }
    }

    fn latest(&self) -> Config {
        self.query(CtrlerQuery::Latest).0.unwrap()
    }

    /// Everything but sessions.
    fn content(&self) -> Map {
        let own = |(key, _): &(&Vec<u8>, &Vec<u8>)| !key.starts_with(b"s/") && *key != b"t";
        self.map.iter().filter(own).map(|(key, value)| (key.clone(), value.clone())).collect()
    }
}

fn group(id: u64) -> pb::Group {
    pb::Group { group: id, addresses: vec![format!("10.0.0.{id}:1"), format!("10.0.0.{id}:2")] }
}

fn join(ids: &[u64]) -> Of {
    Of::Join(pb::Groups { groups: ids.iter().copied().map(group).collect() })
}

fn leave(ids: &[u64]) -> Of {
    Of::Leave(pb::GroupIds { groups: ids.to_vec() })
}

fn move_to(shard: u64, group: u64) -> Of {
    Of::Move(pb::Move { shard, group })
}

#[test]
fn configs_are_made_one_by_one_and_all_of_them_are_kept() {
    let mut controllers = Controllers::new();
    assert_eq!(controllers.query(CtrlerQuery::Latest), (Some(Config::empty(SHARDS_DEFAULT)), 0, 0));
    let mut made = vec![controllers.latest()];
    for (num, change) in (1..).zip([join(&[1]), join(&[2, 3]), move_to(0, 3), leave(&[1]), Of::Unpin(0)]) {
        assert_eq!(controllers.change(change), Ok(num));
        made.push(controllers.latest());
    }
    for (num, config) in (0..).zip(&made) {
        assert_eq!(controllers.query(CtrlerQuery::Num(ConfigNum(num))).0.as_ref(), Some(config));
        assert_eq!(
            controllers.query(CtrlerQuery::After(ConfigNum(num))).0.as_ref(),
            made.get(num as usize + 1)
        );
    }
    assert_eq!(controllers.query(CtrlerQuery::Num(ConfigNum(6))), (None, 5, 0));
    assert_eq!(controllers.query(CtrlerQuery::After(ConfigNum(u64::MAX))), (None, 5, 0));
}

#[test]
fn the_number_of_shards_is_chosen_once_before_the_first_group() {
    let mut controllers = Controllers::new();
    for (shards, words) in [(0, "1 to 4096"), (4097, "1 to 4096"), (u64::MAX, "1 to 4096")] {
        let refusal = controllers.change(Of::Create(pb::Create { shards })).unwrap_err();
        assert!(refusal.contains(words), "{refusal}");
    }
    assert_eq!(controllers.change(Of::Create(pb::Create { shards: 4096 })), Ok(0));
    assert_eq!(controllers.latest().shards.len(), 4096);
    let again = controllers.change(Of::Create(pb::Create { shards: 4096 })).unwrap_err();
    assert_eq!(again, "the number of shards is 4096 and cannot be changed");
    assert_eq!(controllers.change(join(&[1])), Ok(1));
    assert_eq!(controllers.query(CtrlerQuery::Num(ConfigNum(0))).0, Some(Config::empty(4096)));

    let mut unsaid = Controllers::new();
    assert_eq!(unsaid.change(join(&[1])), Ok(1));
    assert!(unsaid.change(Of::Create(pb::Create { shards: 5 })).is_err(), "10 were taken");
}

#[test]
fn eraft_b08_a_shard_cannot_be_moved_to_a_group_that_is_not_there() {
    let mut controllers = Controllers::new();
    controllers.change(join(&[1, 2])).unwrap();
    let before = controllers.content();
    assert_eq!(controllers.change(move_to(9, 999)), Err("group 999 is not joined".into()));
    assert_eq!(controllers.content(), before, "no config, so no group waits for anything");
    assert_eq!(controllers.change(move_to(9, 1)), Ok(2), "and the next change works");
}

#[test]
fn eraft_b09_a_shard_that_is_not_there_is_refused_in_the_log_and_replayed_alike() {
    let mut controllers = Controllers::new();
    controllers.change(join(&[1])).unwrap();
    for shard in [10, u64::MAX] {
        let refusal = controllers.change(move_to(shard, 1)).unwrap_err();
        assert_eq!(refusal, format!("shard {shard} does not exist; there are 10, 0 to 9"));
    }
    // The entry stays in the log: who starts again applies it again.
    let mut again = Controllers::new();
    again.change(join(&[1])).unwrap();
    for shard in [10, u64::MAX] {
        again.change(move_to(shard, 1)).unwrap_err();
    }
    assert_eq!(again.map, controllers.map);
}

#[test]
fn eraft_b10_a_join_that_is_a_typing_error_gives_nothing_to_nobody() {
    let mut controllers = Controllers::new();
    let with = |group: u64, addresses: &[&str]| {
        let addresses = addresses.iter().map(|address| (*address).to_owned()).collect();
        Of::Join(pb::Groups { groups: vec![pb::Group { group, addresses }] })
    };
    for (change, sentence) in [
        (join(&[]), "no group is named"),
        (join(&[0]), "group 0 is nobody; group ids start at 1"),
        (with(100, &[]), "group 100: there are no addresses"),
        (with(100, &[""]), "group 100: address 1 is \"\", it should be HOST:PORT"),
        (with(100, &["typo"]), "group 100: address 1 is \"typo\", it should be HOST:PORT"),
        (with(100, &["h:1", "h:1"]), "group 100: h:1 is there twice"),
        (join(&[5, 5]), "group 5 is named twice"),
        (leave(&[100]), "group 100 is not joined"),
        (Of::Rollback(1), "config 1 is not there; 0 to 0 are kept"),
        (Of::Rollback(0), "it would change nothing"),
    ] {
        assert_eq!(controllers.change(change), Err(sentence.into()));
        assert_eq!(controllers.content(), Map::new());
    }
    let put = mutation::Operation::Put(kv::Put::default());
    controllers.sequence += 1;
    let did = controllers.execute(controllers.sequence, put);
    assert_eq!(did, Did::Refused("the controllers keep no keys".into()));
}

#[test]
fn a_command_takes_effect_once_however_often_it_arrives() {
    let mut controllers = Controllers::new();
    let change = mutation::Operation::Change(pb::Change { change: Some(join(&[1])) });
    for _ in 0..3 {
        assert_eq!(controllers.execute(7, change.clone()), Did::Config(1));
    }
    let refused = mutation::Operation::Change(pb::Change { change: Some(join(&[1])) });
    for _ in 0..2 {
        let did = controllers.execute(8, refused.clone());
        assert_eq!(did, Did::Refused("group 1 is joined already; update its addresses instead".into()));
    }
    assert_eq!(controllers.latest().num, ConfigNum(1));
}

#[test]
fn a_rollback_brings_a_kept_config_back_as_a_new_one() {
    let mut controllers = Controllers::new();
    controllers.change(join(&[1, 2])).unwrap();
    let old = controllers.latest();
    controllers.change(leave(&[2])).unwrap();
    assert_eq!(controllers.change(Of::Rollback(1)), Ok(3));
    let owners = |config: &Config| config.shards.iter().map(|placement| placement.owner).collect::<Vec<_>>();
    assert_eq!(owners(&controllers.latest()), owners(&old));
    assert_eq!(controllers.change(Of::Rollback(0)), Ok(4), "even to nobody");
}

#[test]
fn configs_are_forgotten_when_every_group_has_reported_a_later_one() {
    let mut controllers = Controllers::with(CtrlerLimits { history_configs: 2, ..CtrlerLimits::default() });
    controllers.change(join(&[1])).unwrap();
    controllers.change(join(&[2])).unwrap();
    for shard in 0..6 {
        controllers.change(move_to(shard, 1)).unwrap();
    }
    let kept = |controllers: &Controllers| {
        let (_, latest, oldest) = controllers.query(CtrlerQuery::Latest);
        let there =
            (0..=latest).filter(|num| controllers.query(CtrlerQuery::Num(ConfigNum(*num))).0.is_some());
        assert!(there.eq(oldest..=latest), "no hole");
        oldest..=latest
    };
    assert_eq!(kept(&controllers), 0..=8);
    assert_eq!(controllers.report(1, 8, true), CtrlerReply::Reported);
    assert_eq!(kept(&controllers), 1..=8, "group 2 needs what comes after config 1, in which it was not yet");
    controllers.report(2, 5, true);
    assert_eq!(kept(&controllers), 5..=8);
    controllers.report(2, 4, true);
    assert_eq!(kept(&controllers), 5..=8, "it never goes back");
    controllers.report(2, 8, true);
    assert_eq!(kept(&controllers), 6..=8, "some history is for operators");
    assert_eq!(controllers.query(CtrlerQuery::After(ConfigNum(3))), (None, 8, 6), "how a group learns it");
    let refusal = controllers.change(Of::Rollback(3)).unwrap_err();
    assert_eq!(refusal, "config 3 is not there; 6 to 8 are kept");
}

#[test]
fn a_group_that_left_needs_configs_until_it_holds_nothing() {
    let mut controllers = Controllers::with(CtrlerLimits { history_configs: 1, ..CtrlerLimits::default() });
    controllers.change(join(&[1, 2])).unwrap();
    controllers.change(leave(&[2])).unwrap();
    controllers.report(1, 2, true);
    controllers.report(2, 1, false);
    assert_eq!(controllers.query(CtrlerQuery::Latest).2, 1, "it may have been given something since");
    controllers.report(2, 2, true);
    for shard in 0..3 {
        controllers.change(move_to(shard, 1)).unwrap();
    }
    controllers.report(1, 5, true);
    assert_eq!(controllers.query(CtrlerQuery::Latest).2, 2, "its data is still to be fetched");
    controllers.report(2, 5, false);
    assert_eq!(controllers.query(CtrlerQuery::Latest).2, 4);
    let before = controllers.map.clone();
    assert_eq!(controllers.report(2, 5, false), CtrlerReply::Reported);
    assert_eq!(controllers.map, before);
    controllers.change(join(&[2])).unwrap();
    controllers.change(move_to(4, 2)).unwrap();
    controllers.report(1, 7, true);
    assert_eq!(
        controllers.query(CtrlerQuery::After(ConfigNum(5))).0.unwrap().num,
        ConfigNum(6),
        "it is back"
    );
}

#[test]
fn a_report_of_a_config_that_is_not_there_is_refused() {
    let mut controllers = Controllers::new();
    controllers.change(join(&[1])).unwrap();
    let CtrlerReply::Session(Reply::Refused { reason, detail }) = controllers.report(1, 2, true) else {
        panic!("it was taken")
    };
    assert_eq!(reason, RefusedReason::RefusedMalformed);
    assert_eq!(detail, "group 1 reports config 2, but the latest is 1");
}

#[test]
fn eraft_b02_the_same_entries_again_make_the_same_configs() {
    let entries = |controllers: &mut Controllers| {
        for change in [join(&[1, 2]), move_to(0, 2), move_to(10, 2), leave(&[1]), Of::Rollback(1)] {
            let _ = controllers.change(change);
        }
        controllers.report(1, 4, true);
    };
    let (mut first, mut again) = (Controllers::new(), Controllers::new());
    entries(&mut first);
    entries(&mut again);
    assert_eq!(first.map, again.map);
    assert_eq!(first.latest().num, ConfigNum(4), "the bad one made none");
    // And a command that arrives once more makes no further config (eRaft's replicas counted on).
    let change = mutation::Operation::Change(pb::Change { change: Some(Of::Rollback(1)) });
    assert_eq!(first.execute(first.sequence, change), Did::Config(4));
    assert_eq!(first.latest(), again.latest());
}

#[test]
fn eraft_b11_a_report_that_says_nothing_new_writes_nothing() {
    let mut controllers = Controllers::new();
    controllers.change(join(&[1, 2])).unwrap();
    controllers.report(1, 1, true);
    let before = controllers.map.clone();
    for (group, reached) in [(1, 1), (1, 0), (3, 1)] {
        assert_eq!(controllers.report(group, reached, true), CtrlerReply::Reported);
        assert_eq!(controllers.map, before, "group {group}, config {reached}");
    }
}

#[test]
fn a_damaged_config_is_an_error_that_names_its_key() {
    let mut controllers = Controllers::new();
    controllers.change(join(&[1])).unwrap();
    let key = [&b"c/"[..], &1u64.to_be_bytes()].concat();
    for record in [None, Some(vec![0xff]), Some(pb::Config::from(&Config::empty(10)).encode_to_vec())] {
        let mut map = controllers.map.clone();
        match record {
            Some(record) => map.insert(key.clone(), record),
            None => map.remove(&key),
        };
        let error = controllers.machine.read(&map, &CtrlerQuery::Latest).unwrap_err().to_string();
        assert!(error.contains(r"`c/\x00\x00\x00\x00\x00\x00\x00\x01`"), "{error}");
    }
}

proptest! {
    #[test]
    fn whatever_bytes_arrive_it_goes_on(commands in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8)) {
        let mut controllers = Controllers::new();
        controllers.change(join(&[1])).unwrap();
        for command in commands {
            controllers.apply_bytes(&command);
        }
        prop_assert!(controllers.change(join(&[2])).is_ok());
    }
}

/// What a group is to the controllers: the last config that it reported, and what it needs is kept from there.
#[derive(Clone, Debug)]
enum Event {
    Join(u64),
    Leave(u64),
    Move(u64, u64),
    /// So many configs back from the latest.
    Report(u64, u64, bool),
}

fn event() -> impl Strategy<Value = Event> {
    let group = || 1..=3u64;
    prop_oneof![
        2 => group().prop_map(Event::Join),
        2 => group().prop_map(Event::Leave),
        3 => (0..10u64, group()).prop_map(|(shard, group)| Event::Move(shard, group)),
        6 => (group(), 0..3u64, any::<bool>()).prop_map(|(group, back, holds)| Event::Report(group, back, holds)),
    ]
}

proptest! {
    #[test]
    fn a_config_is_kept_as_long_as_a_group_needs_it_or_operators_want_it(
        history_configs in 0..4u64, events in prop::collection::vec(event(), 1..60),
    ) {
        let mut controllers = Controllers::with(CtrlerLimits { history_configs, ..CtrlerLimits::default() });
        // The rule of the machine's text, over all configs that were ever made.
        let mut reached: BTreeMap<u64, u64> = BTreeMap::new();
        let mut made = vec![Config::empty(SHARDS_DEFAULT)];
        let mut oldest = 0;
        for event in events {
            let change = match event {
                Event::Join(group) => join(&[group]),
                Event::Leave(group) => leave(&[group]),
                Event::Move(shard, group) => move_to(shard, group),
                Event::Report(group, back, holds) => {
                    let latest = made.len() as u64 - 1;
                    let now = latest.saturating_sub(back);
                    controllers.report(group, now, holds);
                    let is_joined = made.last().unwrap().groups.contains_key(&GroupId(group));
                    if !holds && now == latest && !is_joined {
                        reached.remove(&group);
                    } else if let Some(reached) = reached.get_mut(&group) {
                        *reached = now.max(*reached);
                    }
                    oldest = oldest.max(reached.values().copied().chain([latest.saturating_sub(history_configs)]).min().unwrap());
                    let (_, latest, kept) = controllers.query(CtrlerQuery::Latest);
                    prop_assert_eq!((latest + 1, kept), (made.len() as u64, oldest));
                    continue;
                }
            };
            let latest = made.len() as u64 - 1;
            if controllers.change(change) != Ok(latest + 1) {
                continue;
            }
            made.push(controllers.latest());
            for group in made.last().unwrap().groups.keys() {
                reached.entry(group.0).or_insert(latest);
            }
            oldest = oldest.max(reached.values().copied().chain([(latest + 1).saturating_sub(history_configs)]).min().unwrap());
            for (num, config) in (0..).zip(&made) {
                let kept = controllers.query(CtrlerQuery::Num(ConfigNum(num))).0;
                prop_assert_eq!(kept.as_ref(), (num >= oldest).then_some(config), "config {} of {}", num, latest + 1);
            }
        }
    }
}

#[cfg(feature = "mutants")]
mod mutants {
    use super::*;
    use crate::mutants::MutantId;

    fn mutated(mutant: MutantId, process: u64, changes: &[Of]) -> Controllers {
        let mut controllers = Controllers::new();
        let mutants = Mutants::with(mutant).in_process(process);
        controllers.machine = CtrlerMachine::new(CtrlerLimits::default(), mutants);
        for change in changes {
            controllers.change(change.clone()).unwrap();
        }
        controllers
    }

    #[test]
    fn each_mutant_does_what_it_says() {
        let changes = [join(&[1, 2, 3]), join(&[4])];
        let hash_order = |process| mutated(MutantId::CtrlerHashOrder, process, &changes).content();
        assert!((1..9).any(|process| hash_order(process) != hash_order(0)));
        assert_eq!(hash_order(0), hash_order(0));

        let many = mutated(MutantId::CtrlerMovesTooMany, 0, &changes);
        let before = many.query(CtrlerQuery::Num(ConfigNum(1))).0.unwrap();
        assert!(many.latest().moves_since(&before) > 2, "{:?}", many.latest());

        let mut dropped = mutated(MutantId::CtrlerLeaveDropsShard, 0, &changes[..1]);
        dropped.change(leave(&[1])).unwrap();
        assert!(dropped.machine.read(&dropped.map, &CtrlerQuery::Latest).is_err(), "it is no config");

        let old = mutated(MutantId::CtrlerOldQueryGetsLatest, 0, &changes);
        assert_eq!(old.query(CtrlerQuery::Num(ConfigNum(1))).0.unwrap().num, ConfigNum(2));

        let mut twice = mutated(MutantId::CtrlerDuplicateJoin, 0, &changes[..1]);
        assert_eq!(twice.change(join(&[1])), Ok(2));
    }
}

#[test]
fn what_a_pair_holds_can_be_told_from_outside() {
    let mut controllers = Controllers::new();
    controllers.change(join(&[1])).unwrap();
    let configs = controllers.map.iter().filter_map(|(key, value)| config_of_pair(key, value));
    let nums: Vec<u64> = configs.map(|config| config.unwrap().num.0).collect();
    assert_eq!(nums, [0, 1]);
    assert_eq!(controllers.latest().shard_of(b"a"), ShardId(1));
    assert!(controllers.latest().groups.contains_key(&GroupId(1)));
}
