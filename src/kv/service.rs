//! How the key-value store meets its clients.

use std::time::Duration;

use super::{KvAnswer, KvLimits, KvMachine, KvQuery, KvReply};
use crate::proto::admin;
use crate::proto::kv::mutation::Operation;
use crate::proto::kv::{Execute, GetResult, Limits, Pair, RefusedReason, ScanResult, command, done, request};
use crate::service::{Refusal, Served, Wanted, of_reply};
use crate::types::{Index, ShardId};
use crate::view::PageLimit;

impl Served for KvMachine {
    fn take(&self, operation: request::Operation, _: Option<ShardId>) -> Wanted<KvQuery> {
        match operation {
            request::Operation::Get(get) => {
                Wanted::Query { query: KvQuery::Get { key: get.key }, stale: get.stale, wait: Duration::ZERO }
            }
            request::Operation::Scan(scan) => {
                let limit = PageLimit { pairs_max: pairs_max(scan.pairs_max), ..SCAN_LIMIT };
                let query = KvQuery::Scan { prefix: scan.prefix, after: scan.after, limit };
                Wanted::Query { query, stale: scan.stale, wait: Duration::ZERO }
            }
            request::Operation::OpenSession(open) => Wanted::Command(command::Operation::OpenSession(open)),
            request::Operation::CloseSession(close) => {
                Wanted::Command(command::Operation::CloseSession(close))
            }
            request::Operation::Execute(execute) => match refuse_early(self.limits(), &execute) {
                Some(refusal) => Wanted::Refused(refusal),
                None => Wanted::Command(command::Operation::Execute(execute)),
            },
            request::Operation::Query(_) | request::Operation::Report(_) => {
                Wanted::Refused(Refusal::not_served("this node keeps keys; ask the controllers for configs"))
            }
            request::Operation::Pull(_) | request::Operation::Arrived(_) => {
                Wanted::Refused(Refusal::not_served("this node keeps all keys and gives no shard away"))
            }
        }
    }

    fn told(reply: KvReply) -> Result<done::Result, Refusal> {
        of_reply(reply)
    }

    fn answered(answer: KvAnswer, index: Index) -> Result<(done::Result, u64), Refusal> {
        let result = match answer {
            KvAnswer::Value { value } => done::Result::Get(GetResult { value: value.map(Into::into) }),
            KvAnswer::Pairs { pairs, all } => {
                let pair = |(key, value): (Vec<u8>, Vec<u8>)| Pair { key: key.into(), value: value.into() };
                done::Result::Scan(ScanResult { pairs: pairs.into_iter().map(pair).collect(), more: !all })
            }
            KvAnswer::Status(_) => return Err(Refusal::malformed("an answer to another question")),
        };
        Ok((result, index.0))
    }

    fn limits(&self) -> Option<Limits> {
        Some((*self.limits()).into())
    }

    fn status_query() -> KvQuery {
        KvQuery::Status
    }

    fn add_status(answer: KvAnswer, status: &mut admin::Status) {
        if let KvAnswer::Status(own) = answer {
            status.sessions = own.sessions;
        }
    }
}

/// What one page of a scan may hold, whatever a client asks for.
const SCAN_LIMIT: PageLimit = PageLimit { pairs_max: 4 << 10, bytes_max: 512 << 10 };

/// How many pairs a page may hold if a client asks for `wanted`.
fn pairs_max(wanted: u64) -> usize {
    match usize::try_from(wanted) {
        Ok(wanted @ 1..) => wanted.min(SCAN_LIMIT.pairs_max),
        _ => SCAN_LIMIT.pairs_max,
    }
}

/// What the machine would refuse anyway need not go through the log.
fn refuse_early(limits: &KvLimits, execute: &Execute) -> Option<Refusal> {
    let operation = execute.mutation.as_ref().and_then(|mutation| mutation.operation.as_ref());
    let (key, value) = match operation {
        None => return Some(Refusal::malformed("a request without a mutation")),
        Some(Operation::Put(put)) => (&put.key, put.value.len()),
        Some(Operation::Append(append)) => (&append.key, append.value.len()),
        Some(Operation::Delete(delete)) => (&delete.key, 0),
        Some(Operation::Cas(cas)) => (&cas.key, cas.new.len()),
        Some(Operation::Change(_)) => {
            return Some(Refusal::not_served("this node keeps keys; the controllers make configs"));
        }
    };
    let checks = [("key", key.len(), limits.key_bytes_max), ("value", value, limits.value_bytes_max)];
    let (what, bytes, bytes_max) = checks.into_iter().find(|(_, bytes, bytes_max)| bytes > bytes_max)?;
    let detail = format!("the {what} has {bytes} bytes; at most {bytes_max} are allowed");
    Some(Refusal::new(RefusedReason::RefusedTooLarge, detail))
}
