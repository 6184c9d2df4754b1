//! Models whose operations may end in several ways.

use eraft_checker::models::controller::{Configuration, Controller, ControllerOp, ControllerRet};
use eraft_checker::models::nondeterministic::{Choices, Nondeterministic};
use eraft_checker::{HistoryBuilder, Options, Verdict, check};

const SHARDS: usize = 3;

#[test]
fn a_controller_spreads_evenly_and_remembers() {
    let config = |number: u64, groups: &[u32], shards: [u32; SHARDS]| {
        let groups = groups.iter().copied().collect();
        ControllerRet::Config(Configuration { number, groups, shards: shards.to_vec() })
    };
    let join = |groups: &[u32]| ControllerOp::Join(groups.iter().copied().collect());
    let verdict = |events: &[(ControllerOp, ControllerRet)]| {
        let mut builder = HistoryBuilder::new();
        for (op, ret) in events {
            builder.invoke(1, op.clone(), 0, None).unwrap();
            builder.ok(1, ret.clone(), None, 0, None).unwrap();
        }
        check(&Controller::new(SHARDS), &builder.finish(), &Options::default()).verdict
    };
    let both = (join(&[1, 2]), ControllerRet::Done);
    let query = |ret| (ControllerOp::Query(None), ret);
    let seen = config(1, &[1, 2], [1, 2, 1]);
    assert_eq!(verdict(&[both.clone(), query(seen.clone())]), Verdict::Linearizable);
    assert_eq!(verdict(&[both.clone(), query(config(1, &[1, 2], [2, 2, 1]))]), Verdict::Linearizable);
    // Three shards of one group, a group that is not there, a number that is not, another placement than before.
    for wrong in [
        config(1, &[1, 2], [1, 1, 1]),
        config(1, &[1, 2], [1, 2, 3]),
        config(2, &[1, 2], [1, 2, 1]),
        config(1, &[1], [1, 1, 1]),
    ] {
        assert_eq!(verdict(&[both.clone(), query(wrong)]), Verdict::Violation);
    }
    let other = config(1, &[1, 2], [2, 1, 1]);
    assert_eq!(verdict(&[both.clone(), query(seen.clone()), query(other)]), Verdict::Violation);
    let moved = (ControllerOp::Move { shard: 1, group: 1 }, ControllerRet::Done);
    let after = query(config(2, &[1, 2], [1, 1, 1]));
    assert_eq!(verdict(&[both.clone(), moved.clone(), after.clone()]), Verdict::Linearizable);
    assert_eq!(verdict(&[both, query(seen), moved, after]), Verdict::Linearizable);
}

/// A die: a roll may show any face, a look must show the face that was rolled last.
#[derive(Clone)]
struct Die;

impl Choices for Die {
    type State = u8;
    type Op = bool;
    type Ret = u8;
    type Key = ();

    fn init(&self) -> Vec<u8> {
        (1..=6).collect()
    }

    fn step(&self, state: &u8, roll: &bool, ret: Option<&u8>) -> Vec<u8> {
        match (roll, ret) {
            (true, _) => (1..=6).collect(),
            (false, None) => vec![*state],
            (false, Some(face)) => Vec::from_iter((face == state).then_some(*face)),
        }
    }
}

#[test]
fn a_die_may_fall_anyhow_but_lies_still() {
    let verdict = |events: &[(bool, u8)]| {
        let mut builder = HistoryBuilder::new();
        for (roll, face) in events {
            builder.invoke(1, *roll, 0, None).unwrap();
            builder.ok(1, *face, None, 0, None).unwrap();
        }
        check(&Nondeterministic(Die), &builder.finish(), &Options::default()).verdict
    };
    assert_eq!(verdict(&[(false, 3), (false, 3), (true, 0), (false, 5)]), Verdict::Linearizable);
    assert_eq!(verdict(&[(false, 3), (false, 4)]), Verdict::Violation);
    assert_eq!(verdict(&[(true, 0), (false, 7)]), Verdict::Violation);
}
