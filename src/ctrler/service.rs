//! How the configuration service meets its clients: operators, groups, and those who look for a key.

use std::time::Duration;

use super::machine::{CtrlerAnswer, CtrlerMachine, CtrlerQuery, CtrlerReply};
use crate::proto::kv::{command, done, mutation, request};
use crate::proto::{admin, ctrler as pb};
use crate::service::{Refusal, Served, Wanted, of_reply};
use crate::types::{ConfigNum, Index, ShardId};

impl Served for CtrlerMachine {
    fn take(&self, operation: request::Operation, _: Option<ShardId>) -> Wanted<CtrlerQuery> {
        match operation {
            request::Operation::OpenSession(open) => Wanted::Command(command::Operation::OpenSession(open)),
            request::Operation::CloseSession(close) => {
                Wanted::Command(command::Operation::CloseSession(close))
            }
            request::Operation::Execute(execute) => {
                match execute.mutation.as_ref().and_then(|mutation| mutation.operation.as_ref()) {
                    Some(mutation::Operation::Change(_)) => {
                        Wanted::Command(command::Operation::Execute(execute))
                    }
                    _ => Wanted::Refused(no_keys()),
                }
            }
            request::Operation::Report(report) => Wanted::Command(command::Operation::Report(report)),
            request::Operation::Query(query) => {
                let (wait, stale) = (Duration::from_millis(query.wait_ms), query.stale);
                let query = match query.which {
                    None => return Wanted::Refused(Refusal::malformed("a question for no config")),
                    Some(pb::query::Which::Latest(_)) => CtrlerQuery::Latest,
                    Some(pb::query::Which::Num(num)) => CtrlerQuery::Num(ConfigNum(num)),
                    Some(pb::query::Which::After(num)) => CtrlerQuery::After(ConfigNum(num)),
                };
                let wait = if matches!(query, CtrlerQuery::After(_)) { wait } else { Duration::ZERO };
                Wanted::Query { query, stale, wait }
            }
            request::Operation::Get(_)
            | request::Operation::Scan(_)
            | request::Operation::Pull(_)
            | request::Operation::Arrived(_) => Wanted::Refused(no_keys()),
        }
    }

    fn told(reply: CtrlerReply) -> Result<done::Result, Refusal> {
        match reply {
            CtrlerReply::Session(reply) => of_reply(reply),
            CtrlerReply::Reported => Ok(done::Result::Reported(true)),
        }
    }

    fn answered(answer: CtrlerAnswer, index: Index) -> Result<(done::Result, u64), Refusal> {
        match answer {
            CtrlerAnswer::Config { config, latest, oldest } => {
                let config = config.as_ref().map(Into::into);
                let answer = pb::Answer { config, latest: latest.0, oldest: oldest.0 };
                Ok((done::Result::Query(answer), index.0))
            }
            CtrlerAnswer::Status { .. } => Err(Refusal::malformed("an answer to another question")),
        }
    }

    /// Only questions for the next config wait. One for a config that is not kept any more has its answer.
    fn is_awaited(answer: &CtrlerAnswer, query: &CtrlerQuery) -> bool {
        match (answer, query) {
            (CtrlerAnswer::Config { config: None, latest, .. }, CtrlerQuery::After(after)) => after >= latest,
            _ => false,
        }
    }

    fn status_query() -> CtrlerQuery {
        CtrlerQuery::Status
    }

    fn add_status(answer: CtrlerAnswer, status: &mut admin::Status) {
        if let CtrlerAnswer::Status { sessions } = answer {
            status.sessions = sessions;
        }
    }
}

fn no_keys() -> Refusal {
    Refusal::not_served("this node is a controller and keeps no keys; ask the groups")
}
