//! The conformance suite: what every engine must do, as plain functions that panic with a sentence.
//!
//! An engine's tests implement [`Harness`] and call [`run_all`] and [`model::check`] from whatever executor is
//! theirs; the suite starts no tasks and needs no runtime of its own. It is public because the simulator's disk
//! lives in another crate.

mod content;
mod durability;
pub mod model;

use std::future::Future;
use std::sync::Arc;

use super::{StorageError, Store, Volume};
use crate::view::{Batch, KeyRange, PageLimit, Pair, View};

/// How the process that holds a volume ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The process dies, the machine lives: completed writes stay, and unfinished ones may.
    ProcessDeath,
    /// The machine loses power: what was not synced may be lost, torn at any place, or there.
    PowerLoss,
}

/// What the suite needs to know of an engine.
pub trait Harness: Send {
    /// An empty volume, on a device of its own. The suite is done with the one before.
    fn fresh(&mut self) -> impl Future<Output = Arc<dyn Volume>> + Send;

    /// The process ends in the way of `end` and comes back on the same device. The suite has dropped all its stores
    /// and hands over its last handle to the volume. `None`: this engine cannot stage that, the case is skipped.
    fn reopen(
        &mut self,
        volume: Arc<dyn Volume>,
        end: End,
    ) -> impl Future<Output = Option<Arc<dyn Volume>>> + Send;

    /// Lets the next write to the open store `store` fail. False: this engine cannot stage that.
    fn fail_next_write(&mut self, store: &str) -> bool {
        let _ = store;
        false
    }
}

/// Runs every case on a fresh volume each. Use [`model::check`] with some seeds beside it.
pub async fn run_all<H: Harness>(harness: &mut H) {
    content::put_get_overwrite_delete(harness).await;
    content::an_empty_value_is_not_a_missing_key(harness).await;
    content::pages_are_in_order_and_bounded(harness).await;
    content::prefixes_end_where_they_should(harness).await;
    content::a_later_write_of_a_batch_wins(harness).await;
    content::arbitrary_bytes_come_back(harness).await;
    content::large_values_come_back(harness).await;
    content::a_snapshot_is_untouched_by_later_writes(harness).await;
    content::writes_take_effect_and_complete_in_order(harness).await;
    content::stores_are_separate_listed_and_removed(harness).await;
    content::a_store_opens_once(harness).await;
    content::bad_names_are_refused(harness).await;
    content::files_are_replaced(harness).await;
    content::a_failed_write_closes_the_store(harness).await;
    for end in [End::ProcessDeath, End::PowerLoss] {
        durability::completed_writes_survive(harness, end).await;
        durability::unfinished_writes_survive_as_a_whole_prefix(harness, end).await;
        durability::large_batches_survive(harness, end).await;
        durability::files_survive(harness, end).await;
        durability::removed_stores_stay_removed(harness, end).await;
    }
}

/// Larger than any page of the suite.
const EVERYTHING: PageLimit = PageLimit { pairs_max: usize::MAX, bytes_max: usize::MAX };

/// Opens `name`, which must work.
async fn open(volume: &Arc<dyn Volume>, name: &str) -> Arc<dyn Store> {
    match volume.open(name).await {
        Ok(store) => store,
        Err(error) => panic!("the store {name} should open, but: {error}"),
    }
}

/// Writes `batch`, which must work.
async fn write(store: &Arc<dyn Store>, batch: Batch) {
    if let Err(error) = store.write(batch).await {
        panic!("a write to a healthy store should complete, but: {error}");
    }
}

/// A batch that puts these pairs.
fn puts<K: AsRef<[u8]>, V: AsRef<[u8]>>(pairs: impl IntoIterator<Item = (K, V)>) -> Batch {
    let mut batch = Batch::new();
    for (key, value) in pairs {
        batch.put(key.as_ref(), value.as_ref());
    }
    batch
}

/// The value of `key`.
fn get(view: &(impl View + ?Sized), key: impl AsRef<[u8]>) -> Option<Vec<u8>> {
    match view.get(key.as_ref()) {
        Ok(value) => value,
        Err(error) => panic!("a read of a healthy store should work, but: {error}"),
    }
}

/// One page of `range`.
fn page(view: &(impl View + ?Sized), range: &KeyRange, limit: PageLimit) -> Vec<Pair> {
    match view.page(range, limit) {
        Ok(page) => page,
        Err(error) => panic!("a page of a healthy store should work, but: {error}"),
    }
}

/// Everything that `view` holds.
fn all(view: &(impl View + ?Sized)) -> Vec<Pair> {
    page(view, &KeyRange::all(), EVERYTHING)
}

/// Unwraps what a volume answered.
fn expect<T>(result: Result<T, StorageError>, what: &str) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{what} should work, but: {error}"),
    }
}
