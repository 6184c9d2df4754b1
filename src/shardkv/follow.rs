//! How a group follows the controllers' configs. Pure: a worker asks and proposes what it is told here.
//!
//! Invariant: whatever the controllers answer, however old the answer is, what is proposed is the config after the
//! adopted one, or the oldest one that they keep because they keep none in between. Whether the group may go on with
//! that one is decided where it is applied (`adopt.rs`).

use prost::Message as _;

use crate::ctrler::{Config, CtrlerAnswer, CtrlerQuery};
use crate::proto;
use crate::proto::shardkv as pb;
use crate::types::ConfigNum;

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Follow {
    /// Put this into the group's log.
    Adopt(pb::Adopt),
    /// Ask the controllers this.
    Ask(CtrlerQuery),
    /// There is none after the adopted one; ask for it again, and wait for it.
    Wait,
}

/// What to do after `answer`, when config `adopted` is adopted.
pub fn follow(adopted: ConfigNum, answer: &CtrlerAnswer) -> Follow {
    let CtrlerAnswer::Config { config, latest, oldest } = answer else { return Follow::Wait };
    let next = adopted.next();
    match config {
        Some(config) if config.num == next || (config.num > next && config.num <= *oldest) => {
            Follow::Adopt(adopt(config, *oldest))
        }
        _ if *oldest > next => Follow::Ask(CtrlerQuery::Num(*oldest)),
        _ if *latest > adopted => Follow::Ask(CtrlerQuery::After(adopted)),
        _ => Follow::Wait,
    }
}

/// The command that adopts `config`, when the controllers keep none before `oldest`.
pub fn adopt(config: &Config, oldest: ConfigNum) -> pb::Adopt {
    pb::Adopt { config: proto::ctrler::Config::from(config).encode_to_vec().into(), oldest: oldest.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(config: Option<u64>, latest: u64, oldest: u64) -> CtrlerAnswer {
        let config = config.map(|num| Config { num: ConfigNum(num), ..Config::empty(1) });
        CtrlerAnswer::Config { config, latest: ConfigNum(latest), oldest: ConfigNum(oldest) }
    }

    #[test]
    fn it_goes_on_with_the_next_one_or_with_the_oldest_that_is_kept() {
        let adopts = |follow| match follow {
            Follow::Adopt(adopt) => {
                Ok((proto::ctrler::Config::decode(&adopt.config[..]).unwrap().num, adopt.oldest))
            }
            other => Err(other),
        };
        let ask = |query| Err(Follow::Ask(query));
        for (config, latest, oldest, then) in [
            (Some(4), 9, 2, Ok((4, 2))),
            (Some(4), 9, 4, Ok((4, 4))),
            (Some(7), 9, 7, Ok((7, 7))),
            (None, 9, 7, ask(CtrlerQuery::Num(ConfigNum(7)))),
            (Some(7), 9, 8, Ok((7, 8))),
            (None, 9, 2, ask(CtrlerQuery::After(ConfigNum(3)))),
            (Some(7), 9, 2, ask(CtrlerQuery::After(ConfigNum(3)))),
            (Some(3), 9, 2, ask(CtrlerQuery::After(ConfigNum(3)))),
            (Some(3), 3, 1, Err(Follow::Wait)),
            (None, 3, 1, Err(Follow::Wait)),
            (None, 2, 1, Err(Follow::Wait)),
        ] {
            let next = adopts(follow(ConfigNum(3), &answer(config, latest, oldest)));
            assert_eq!(next, then, "{config:?} of {oldest} to {latest}");
        }
        assert_eq!(follow(ConfigNum(3), &CtrlerAnswer::Status { sessions: 1 }), Follow::Wait);
    }
}
