//! Opening a replica's stores, and the rule that makes log and state fit after any crash.
//!
//! The state decides: if it is ahead of the log, or the log holds another term at its applied index, a snapshot was
//! installed and the crash came before the log was reset; the log is reset now. If the log starts after the state
//! ends, entries are missing and the replica refuses to start.

use std::sync::Arc;

use super::super::log_store::LogStore;
use super::super::snapshots;
use super::super::state::State;
use super::super::{LOG_STORE, STATE_POINTER};
use super::{Opened, ReplicaError};
use crate::raft::{Config, HardState, Membership, Raft};
use crate::storage::{Store, Volume};

/// Opens the stores of a replica and applies the open-time rule: the state decides what the log may start with.
pub(in crate::replica) async fn open(
    volume: &dyn Volume,
    config: Config,
    members: &Membership,
) -> Result<Opened, ReplicaError> {
    let pointer = volume.read_file(STATE_POINTER).await?;
    let name = match pointer {
        None => snapshots::state_store_name(0),
        Some(bytes) => String::from_utf8(bytes)
            .map_err(|_| ReplicaError::Inconsistent("the state pointer is not text".to_owned()))?,
    };
    let state_number = snapshots::state_store_number(&name)
        .ok_or_else(|| ReplicaError::Inconsistent(format!("the state pointer names {name:?}")))?;
    let mut has_leftover = false;
    for name in volume.list().await? {
        match snapshots::state_store_number(&name) {
            // A snapshot that was being received: its sender may go on with it.
            Some(number) if number == state_number + 1 => has_leftover = true,
            // The state before the last one.
            Some(number) if number != state_number => volume.remove(&name).await?,
            _ => {}
        }
    }
    let state_store: Arc<dyn Store> = volume.open(&name).await?;
    let state = State::open(state_store, members, config.mutants)?;
    let (mut log_store, hard, mut log) = LogStore::open(volume.open(LOG_STORE).await?, members)?;

    let applied = state.now().base.clone();
    let position = applied.position;
    if log.first_index() > position.index.next() {
        return Err(ReplicaError::Inconsistent(format!(
            "the log starts at {} but the state ends at {}: the entries between are missing; \
             this data directory cannot be used any more",
            log.first_index(),
            position.index
        )));
    }
    let behind = position.index > log.last().index;
    let hard = if behind || log.term_at(position.index).is_some_and(|term| term != position.term) {
        // The term of the state may have been lost with the log's last write; a vote of an earlier one counts no more.
        let vote = hard.vote.filter(|_| hard.term >= position.term);
        let hard = HardState { term: hard.term.max(position.term), vote };
        log = log_store.reset(hard, applied).await?;
        hard
    } else {
        hard
    };
    let mut armed = Vec::new();
    let raft = Raft::new(config, hard, log, position.index, &mut armed);
    Ok(Opened { raft, armed, log_store, state, state_number, has_leftover })
}
