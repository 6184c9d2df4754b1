//! Opening a replica's stores, and the rule that makes log and state fit after any crash.
//!
//! The state decides: if it is ahead of the log, or the log holds another term at its applied index, a snapshot was
//! installed and the crash came before the log was reset; the log is reset now. If the log starts after the state
//! ends, entries are missing and the replica refuses to start, unless it is known to rebuild its state: then it gets a
//! snapshot.

use super::super::LOG_STORE;
use super::super::log_store::LogStore;
use super::super::pointer::{self, StatePointer, Trust};
use super::super::state::State;
use super::{Opened, ReplicaError};
use crate::mutants::{MutantId, Mutants};
use crate::raft::{Config, HardState, Membership, Raft};
use crate::storage::{StorageError, Volume};

/// Opens the stores of a replica and applies the open-time rule: the state decides what the log may start with.
pub(in crate::replica) async fn open(
    volume: &dyn Volume,
    config: Config,
    members: &Membership,
) -> Result<Opened, ReplicaError> {
    let (pointer, state) = open_state(volume, members, config.mutants).await?;
    let mut has_leftover = false;
    for name in volume.list().await? {
        match pointer::store_number(&name) {
            // A snapshot that was being received: its sender may go on with it.
            Some(number) if number == pointer.number + 1 => has_leftover = true,
            // The state before the last one.
            Some(number) if number != pointer.number => volume.remove(&name).await?,
            _ => {}
        }
    }
    let (mut log_store, hard, mut log) = match LogStore::open(volume.open(LOG_STORE).await?, members) {
        Err(_) if config.mutants.is(MutantId::DiskDamagedLogWiped) => {
            volume.remove(LOG_STORE).await?;
            LogStore::open(volume.open(LOG_STORE).await?, members)?
        }
        opened => opened?,
    };

    let applied = state.now().base.clone();
    let position = applied.position;
    let has_hole = log.first_index() > position.index.next();
    // Who rebuilds its state gets a snapshot, if there is somebody to send one.
    if has_hole && (pointer.trust != Trust::Rebuilding || members.members().len() < 2) {
        return Err(ReplicaError::Inconsistent(format!(
            "the log starts at {} but the state ends at {}: the entries between are missing; \
             this data directory cannot be used any more",
            log.first_index(),
            position.index
        )));
    }
    if !has_hole && pointer.trust == Trust::Rebuilding {
        StatePointer::whole(pointer.number).write(volume).await?;
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
    Ok(Opened { raft, armed, log_store, state, state_number: pointer.number, has_leftover })
}

/// Opens the state. A store that is damaged is left behind, and an empty one takes its place, durably.
async fn open_state(
    volume: &dyn Volume,
    members: &Membership,
    mutants: Mutants,
) -> Result<(StatePointer, State), ReplicaError> {
    let pointer = StatePointer::read(volume).await?;
    let found = match volume.open(&pointer.store()).await {
        Ok(store) => State::open(store, members, mutants),
        Err(error @ StorageError::Corrupt { .. }) => Err(error),
        Err(other) => return Err(other.into()),
    };
    let error = match found {
        Ok(state) if pointer.trust != Trust::Suspect => return Ok((pointer, state)),
        Ok(state) => match state.verify() {
            Ok(()) => {
                let whole = StatePointer::whole(pointer.number);
                whole.write(volume).await?;
                return Ok((whole, state));
            }
            Err(error) => error,
        },
        Err(error) => error,
    };
    if members.members().len() < 2 {
        return Err(error.into()); // nobody has another copy
    }
    tracing::warn!(%error, store = pointer.store(), "the state is damaged: it is wiped, and a snapshot fetched");
    let rebuilding = StatePointer { number: pointer.number + 1, trust: Trust::Rebuilding };
    // A part of a snapshot may be there.
    volume.remove(&rebuilding.store()).await?;
    rebuilding.write(volume).await?;
    let store = volume.open(&rebuilding.store()).await?;
    Ok((rebuilding, State::open(store, members, mutants)?))
}
