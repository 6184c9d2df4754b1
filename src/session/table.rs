//! The table of sessions.
//!
//! A session keeps `acknowledged_below`, the lowest sequence number whose reply its client does not have yet, and
//! the replies of the numbers executed at or above it. Invariants:
//! - `acknowledged_below` only moves forward; no reply below it is kept, and a request below it is refused as stale;
//! - every kept number is below `acknowledged_below + session_window`, so at most `session_window` replies are kept;
//!   the numbers of one window may arrive in any order;
//! - a number that has a reply is never executed again; it gets the reply that it got the first time;
//! - the table's `time_ms` never goes back, whatever the clocks of successive proposers say.
//!
//! Eviction: each `OpenSession` looks at the next [`SWEEP_SESSIONS`] sessions from the table's cursor, round and
//! round, and evicts those that were idle by time stamps *and* by log entries. Time is what ordinary entries carry;
//! no entry exists to let time pass, so an idle store evicts nobody, and needs to evict nobody. A client whose
//! session is gone must not open the same id again: a late duplicate of its old requests would run in the new
//! session. Ids are random, so a fresh one costs nothing.
//!
//! A client that is done closes its session, or a loop of one-shot commands would fill the table for an hour. A closed
//! session no longer counts, but its record stays for [`CLOSED_KEPT_MS`] and [`CLOSED_KEPT_ENTRIES`]: until then a
//! late duplicate of the request that opened it, followed by one of a mutation, finds it closed and runs nothing.

use prost::Message as _;

use super::SessionLimits;
use crate::proto::kv::{ClientId, MutationResult, Session, SessionReply, SessionTable};
use crate::raft::Position;
use crate::types::Index;
use crate::view::{Batch, KeyRange, PageLimit, View, ViewError};

/// How many sessions one `OpenSession` looks at for eviction.
pub const SWEEP_SESSIONS: usize = 32;

/// A closed session is remembered for this long, by the time stamps of the log: twice the longest deadline that a
/// request may have …
pub const CLOSED_KEPT_MS: u64 = 2 * 60_000;

/// … *and* for this many log entries; or as long as an idle one, if that is shorter.
pub const CLOSED_KEPT_ENTRIES: u64 = 1_000;

/// How many bytes of session records the sweep asks for at a time; it goes on until it has seen its sessions.
const SWEEP_PAGE_BYTES: usize = 64 << 10;

/// What the keys of sessions begin with.
pub(crate) const SESSION_PREFIX: &[u8] = b"s/";
const TABLE_KEY: &[u8] = b"t";

/// The table of sessions as one entry sees and changes it.
pub(super) struct Sessions<'a> {
    view: &'a dyn View,
    limits: &'a SessionLimits,
    at: Position,
    stored: SessionTable,
    table: SessionTable,
}

/// How a sequence number stands to its session.
#[derive(Debug, PartialEq)]
pub(super) enum Number {
    /// Its reply was acknowledged and forgotten.
    Stale,
    /// Too far above the lowest unacknowledged number.
    AboveWindow,
    /// Executed; this is the reply.
    Known(MutationResult),
    /// To be executed.
    New,
}

/// What became of a request to open a session.
#[derive(Debug, PartialEq)]
pub(super) enum Opening {
    /// It is open, now or since an earlier request.
    Open,
    /// There is no room for one more.
    Full,
    /// It was open once; this is a late duplicate.
    Closed,
}

impl<'a> Sessions<'a> {
    /// Where this entry is in the log.
    pub(super) fn index(&self) -> Index {
        self.at.index
    }

    /// Reads the table, and moves its time forward to `time_ms`.
    pub(super) fn load(
        view: &'a dyn View,
        limits: &'a SessionLimits,
        at: Position,
        time_ms: u64,
    ) -> Result<Self, ViewError> {
        let stored = load_table(view)?;
        let table = SessionTable { time_ms: stored.time_ms.max(time_ms), ..stored.clone() };
        Ok(Self { view, limits, at, stored, table })
    }

    /// Opens the client's session, or finds it open already.
    pub(super) fn open(&mut self, client: &ClientId, batch: &mut Batch) -> Result<Opening, ViewError> {
        let key = session_key(client);
        let known = self.record(client)?;
        self.sweep(&key, batch)?;
        let session = match known {
            Some(session) if session.closed => return Ok(Opening::Closed),
            Some(session) => session,
            None if self.table.sessions >= self.limits.sessions_max => return Ok(Opening::Full),
            None => {
                self.table.sessions += 1;
                Session::default()
            }
        };
        self.save(client, session, batch);
        Ok(Opening::Open)
    }

    /// Closes the client's session, if it is open.
    pub(super) fn close(&mut self, client: &ClientId, batch: &mut Batch) -> Result<(), ViewError> {
        let Some(session) = self.find(client)? else { return Ok(()) };
        self.count_one_less()?;
        let acknowledged_below = session.acknowledged_below;
        self.save(client, Session { acknowledged_below, closed: true, ..Session::default() }, batch);
        Ok(())
    }

    /// The client's session, if it is open.
    pub(super) fn find(&self, client: &ClientId) -> Result<Option<Session>, ViewError> {
        Ok(self.record(client)?.filter(|session| !session.closed))
    }

    fn record(&self, client: &ClientId) -> Result<Option<Session>, ViewError> {
        let key = session_key(client);
        self.view.get(&key)?.map(|record| decode_session(&key, &record)).transpose()
    }

    /// Writes the client's session, active as of this entry.
    pub(super) fn save(&self, client: &ClientId, mut session: Session, batch: &mut Batch) {
        session.active_index = self.at.index.0;
        session.active_time_ms = self.table.time_ms;
        batch.put(session_key(client), session.encode_to_vec());
    }

    /// Writes the table if this entry changed it.
    pub(super) fn finish(self, batch: &mut Batch) {
        if self.table != self.stored {
            batch.put(TABLE_KEY, self.table.encode_to_vec());
        }
    }

    /// Evicts the idle ones of the next sessions after the cursor, except the one that is being opened.
    fn sweep(&mut self, opening: &[u8], batch: &mut Batch) -> Result<(), ViewError> {
        let all = KeyRange::prefix(SESSION_PREFIX);
        let onward = all.after(&[SESSION_PREFIX, &self.table.sweep_cursor].concat());
        let from_the_start = KeyRange { start: all.start, end: Some(onward.start.clone()) };
        let mut left = SWEEP_SESSIONS;
        for mut range in [onward, from_the_start] {
            while left > 0 {
                // How much a page holds is the view's business; which sessions are visited must not depend on it.
                let limit = PageLimit { pairs_max: left, bytes_max: SWEEP_PAGE_BYTES };
                let page = self.view.page(&range, limit)?;
                let Some((last, _)) = page.last() else { break };
                range = range.after(last);
                self.table.sweep_cursor = last[SESSION_PREFIX.len()..].to_vec().into();
                left = left.saturating_sub(page.len());
                for (key, record) in &page {
                    let session = decode_session(key, record)?;
                    if key != opening && self.is_idle(&session) {
                        if !session.closed {
                            self.count_one_less()?;
                        }
                        batch.delete(key.clone());
                    }
                }
            }
        }
        Ok(())
    }

    fn is_idle(&self, session: &Session) -> bool {
        let idle_ms = self.table.time_ms.saturating_sub(session.active_time_ms);
        let idle_entries = self.at.index.0.saturating_sub(session.active_index);
        let SessionLimits { session_idle_ms, session_idle_entries, .. } = *self.limits;
        let (kept_ms, kept_entries) = if session.closed {
            (session_idle_ms.min(CLOSED_KEPT_MS), session_idle_entries.min(CLOSED_KEPT_ENTRIES))
        } else {
            (session_idle_ms, session_idle_entries)
        };
        idle_ms >= kept_ms && idle_entries >= kept_entries
    }

    fn count_one_less(&mut self) -> Result<(), ViewError> {
        let fewer = self.table.sessions.checked_sub(1);
        self.table.sessions =
            fewer.ok_or_else(|| damaged(TABLE_KEY, "it counts fewer sessions than there are"))?;
        Ok(())
    }
}

/// Moves the session's lowest unacknowledged number forward and forgets the replies below it.
pub(super) fn acknowledge(session: &mut Session, acknowledged_below: u64) {
    session.acknowledged_below = session.acknowledged_below.max(acknowledged_below);
    let kept_from = session.replies.partition_point(|reply| reply.sequence < session.acknowledged_below);
    session.replies.drain(..kept_from);
}

/// How `sequence` stands to `session`.
pub(super) fn look_up(session: &Session, sequence: u64, window: u64) -> Number {
    let Some(offset) = sequence.checked_sub(session.acknowledged_below) else { return Number::Stale };
    if offset >= window {
        return Number::AboveWindow;
    }
    match session.replies.binary_search_by_key(&sequence, |reply| reply.sequence) {
        Ok(at) => Number::Known(session.replies[at].result.clone().unwrap_or_default()),
        Err(_) => Number::New,
    }
}

/// Keeps the reply of `sequence`, in order.
pub(super) fn remember(session: &mut Session, sequence: u64, result: MutationResult) {
    let reply = SessionReply { sequence, result: Some(result) };
    match session.replies.binary_search_by_key(&sequence, |reply| reply.sequence) {
        Ok(at) => session.replies[at] = reply,
        Err(at) => session.replies.insert(at, reply),
    }
}

/// The table as it is in the store; an empty one before the first session.
pub(crate) fn load_table(view: &dyn View) -> Result<SessionTable, ViewError> {
    match view.get(TABLE_KEY)? {
        None => Ok(SessionTable::default()),
        Some(record) => {
            SessionTable::decode(record.as_slice()).map_err(|error| damaged(TABLE_KEY, &error.to_string()))
        }
    }
}

fn session_key(client: &ClientId) -> Vec<u8> {
    [SESSION_PREFIX, &client.high.to_be_bytes(), &client.low.to_be_bytes()].concat()
}

fn decode_session(key: &[u8], record: &[u8]) -> Result<Session, ViewError> {
    let session = Session::decode(record).map_err(|error| damaged(key, &error.to_string()))?;
    if !session.replies.is_sorted_by(|left, right| left.sequence < right.sequence) {
        return Err(damaged(key, "its replies are not in order"));
    }
    if session.replies.first().is_some_and(|reply| reply.sequence < session.acknowledged_below) {
        return Err(damaged(key, "it keeps a reply that was acknowledged"));
    }
    let has_result =
        |reply: &SessionReply| reply.result.as_ref().is_some_and(|result| result.result.is_some());
    if !session.replies.iter().all(has_result) {
        return Err(damaged(key, "a reply has no result"));
    }
    if session.closed && !session.replies.is_empty() {
        return Err(damaged(key, "it is closed and keeps a reply"));
    }
    Ok(session)
}

fn damaged(key: &[u8], reason: &str) -> ViewError {
    let key = key.escape_ascii();
    ViewError(format!(
        "the record at key `{key}` of the state store is damaged: {reason}; rebuild this replica's state store"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Term;
    use std::collections::BTreeMap;

    fn result(text: &str) -> MutationResult {
        let refused = crate::proto::kv::mutation_result::Result::Refused(text.into());
        MutationResult { result: Some(refused), index: 1 }
    }

    fn numbers(session: &Session) -> Vec<u64> {
        session.replies.iter().map(|reply| reply.sequence).collect()
    }

    #[test]
    fn replies_stay_in_order_and_acknowledged_ones_go() {
        let mut session = Session::default();
        for sequence in [5, 3, 4, 9] {
            remember(&mut session, sequence, result("x"));
        }
        assert_eq!(numbers(&session), [3, 4, 5, 9]);
        acknowledge(&mut session, 5);
        assert_eq!((session.acknowledged_below, numbers(&session)), (5, vec![5, 9]));
        acknowledge(&mut session, 2);
        assert_eq!((session.acknowledged_below, numbers(&session)), (5, vec![5, 9]));
    }

    #[test]
    fn the_window_has_exact_edges_even_at_the_end_of_the_numbers() {
        let mut session = Session { acknowledged_below: 10, ..Session::default() };
        assert_eq!(look_up(&session, 9, 4), Number::Stale);
        assert_eq!(look_up(&session, 10, 4), Number::New);
        assert_eq!(look_up(&session, 13, 4), Number::New);
        assert_eq!(look_up(&session, 14, 4), Number::AboveWindow);
        remember(&mut session, 13, result("first"));
        assert_eq!(look_up(&session, 13, 4), Number::Known(result("first")));
        acknowledge(&mut session, u64::MAX);
        assert_eq!(look_up(&session, u64::MAX, 4), Number::New);
        assert_eq!(look_up(&session, u64::MAX - 1, 4), Number::Stale);
    }

    #[test]
    fn a_damaged_record_is_an_error_that_names_its_key() {
        let client = ClientId { high: 0x6162636465666768, low: 1 };
        let unsorted = Session {
            replies: [4, 3].map(|sequence| SessionReply { sequence, result: Some(result("x")) }).into(),
            ..Session::default()
        };
        let without_result =
            Session { replies: vec![SessionReply { sequence: 1, result: None }], ..Session::default() };
        let acknowledged = Session {
            acknowledged_below: 2,
            replies: vec![SessionReply { sequence: 1, result: Some(result("x")) }],
            ..Session::default()
        };
        let at = Position { index: Index(1), term: Term(1) };
        for (record, reason) in [
            (vec![0xff, 0xff], "varint"),
            (unsorted.encode_to_vec(), "not in order"),
            (without_result.encode_to_vec(), "no result"),
            (acknowledged.encode_to_vec(), "acknowledged"),
        ] {
            let view = BTreeMap::from([(session_key(&client), record)]);
            let limits = SessionLimits::default();
            let sessions = Sessions::load(&view, &limits, at, 0).unwrap();
            let error = sessions.find(&client).unwrap_err().to_string();
            assert!(error.contains(r"`s/abcdefgh\x00\x00\x00\x00\x00\x00\x00\x01`"), "{error}");
            assert!(error.contains(reason), "{error}");
        }
        let view = BTreeMap::from([(TABLE_KEY.to_vec(), vec![0xff])]);
        let error = load_table(&view).unwrap_err().to_string();
        assert!(error.contains("key `t`"), "{error}");
    }
}
