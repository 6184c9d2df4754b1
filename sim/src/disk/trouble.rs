//! What the scenario does to a device: deaths, stalls, slowness, and the end of them.

use std::sync::{Arc, PoisonError};
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use eraft::random::Draw;
use eraft::storage::StorageError;

use super::device::{Device, State, Stored, Work, set_outcome};

/// How a node ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Death {
    /// The process alone: what it had handed to the operating system may still arrive.
    Process,
    /// The whole machine, at once.
    Power,
    /// The same, and the write that the device was working on is torn.
    Torn,
}

impl Device {
    /// Ends the incarnation: decides what becomes of the operations in flight, and closes every handle.
    ///
    /// Of one store (or file) a first part of the operations in flight may survive, never a later one without an
    /// earlier one; different stores fare differently.
    pub(super) fn die(&self, state: &mut State, death: Death) {
        let survives = match death {
            Death::Process => self.config.survives_process_death,
            Death::Power => self.config.survives_power_loss,
            Death::Torn => 0.0,
        };
        let mut ended: Vec<String> = Vec::new();
        for (place, operation) in std::mem::take(&mut state.queue).into_iter().enumerate() {
            set_outcome(&operation.slot, Err(StorageError::Closed("its node has ended".into())));
            if matches!(operation.work, Work::Open { .. }) {
                continue;
            }
            let mut draw = self.draws.draw("death", self.node.0, operation.number);
            let target = operation.work.target().to_owned();
            // The device works on one operation at a time: a power loss spares none that it has not begun.
            let reached = death == Death::Process || place == 0;
            let poisoned = state.stores.get(&target).is_some_and(|stored| stored.poison.is_some());
            if reached && !poisoned && !ended.contains(&target) && draw.chance(survives) {
                state.counters.survived += 1;
                state.finish_without_notice(operation.work);
            } else {
                ended.push(target);
                let chance = match death {
                    Death::Process => 0.0,
                    Death::Power => self.config.torn_by_power_loss,
                    Death::Torn => 1.0,
                };
                let torn = place == 0 && draw.chance(chance);
                *(if torn { &mut state.counters.torn } else { &mut state.counters.lost }) += 1;
            }
        }
        match death {
            Death::Process => state.counters.process_deaths += 1,
            Death::Power | Death::Torn => state.counters.power_losses += 1,
        }
        state.incarnation += 1;
        for stored in state.stores.values_mut() {
            (stored.open, stored.poison) = (false, None);
        }
    }

    /// Serves nothing for `duration` from now on.
    pub(super) fn stall(&self, state: &mut State, duration: Duration) {
        let now = self.time.elapsed();
        let until = state.stalled_until.max(now + duration);
        if !state.queue.is_empty() {
            state.head_due += until - state.stalled_until.max(now);
            state.counters.stalled += 1;
        }
        state.stalled_until = until;
    }

    /// Serves each operation that begins from now on `factor` times as slowly.
    pub(super) fn slow(&self, state: &mut State, factor: u32) {
        state.slowness = (factor > 1).then_some(factor);
    }

    /// Takes every fault away; damage stays.
    pub(super) fn heal(&self, state: &mut State) {
        let now = self.time.elapsed();
        state.wrongs.clear();
        state.slowness = None;
        if state.stalled_until > now {
            let left = state.stalled_until - now;
            state.head_due = state.head_due.saturating_sub(left);
            state.stalled_until = now;
        }
        for operation in &state.queue {
            let slot = operation.slot.lock().unwrap_or_else(PoisonError::into_inner);
            slot.waker.iter().for_each(Waker::wake_by_ref);
        }
    }
}

impl Stored {
    /// Turns one bit of a value that was not written last.
    pub(super) fn rot(&mut self, draw: &mut Draw) -> bool {
        let older = |key: &&Bytes| !self.newest.iter().any(|newest| newest.as_slice() == &key[..]);
        let keys: Vec<Bytes> = self
            .content
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(key, _)| key)
            .filter(older)
            .cloned()
            .collect();
        let Some(key) = draw.pick(&keys).cloned() else { return false };
        let bit = draw.below(self.content[&key].len() as u64 * 8);
        Arc::make_mut(&mut self.rot).insert(key, bit);
        true
    }
}

/// `value` with one bit turned.
pub(super) fn turned(value: &[u8], bit: u64) -> Vec<u8> {
    let mut turned = value.to_vec();
    if let Some(byte) = turned.get_mut((bit / 8) as usize) {
        *byte ^= 1 << (bit % 8);
    }
    turned
}

impl State {
    fn finish_without_notice(&mut self, work: Work) {
        match work {
            Work::Write { store, batch } => self.stores.entry(store).or_default().apply(batch),
            Work::Replace { file, content } => {
                self.files.insert(file, content);
            }
            Work::Remove { store } => {
                self.stores.remove(&store);
            }
            Work::Open { .. } => {}
        }
    }
}
