//! Cases about what is read after what was written, without a restart.

use std::future::poll_fn;
use std::task::Poll;

use futures_util::FutureExt as _;

use super::*;

/// Many more than one group of writes, so that queueing is exercised.
const QUEUED_WRITES: u32 = 300;

/// Tokio answers "pending" after 128 polls without a pause, whatever is ready.
const POLLS_AT_A_TIME: usize = 64;

/// Larger than a page, a block, a memtable and any internal buffer of an engine.
pub(super) const LARGE_VALUE_BYTES: usize = 8 << 20;

pub(super) async fn put_get_overwrite_delete<H: Harness>(harness: &mut H) {
    let volume = harness.fresh().await;
    let store = open(&volume, "log").await;
    assert_eq!(get(&*store, "a"), None, "a fresh store is empty");
    write(&store, puts([("a", "1"), ("b", "2")])).await;
    assert_eq!(get(&*store, "a").as_deref(), Some(&b"1"[..]), "a value is read once its write is complete");
    write(&store, puts([("a", "3")])).await;
    assert_eq!(get(&*store, "a").as_deref(), Some(&b"3"[..]), "an overwritten key has the later value");
    let mut batch = Batch::new();
    batch.delete("a");
    batch.delete("never-there");
    write(&store, batch).await;
    assert_eq!(get(&*store, "a"), None, "a deleted key is gone");
    assert_eq!(all(&*store), [(b"b".to_vec(), b"2".to_vec())], "a delete leaves the other keys alone");
    write(&store, Batch::new()).await;
    assert_eq!(all(&*store).len(), 1, "an empty batch completes and changes nothing");
}

pub(super) async fn an_empty_value_is_not_a_missing_key<H: Harness>(harness: &mut H) {
    let volume = harness.fresh().await;
    let store = open(&volume, "log").await;
    write(&store, puts([("empty", ""), ("", "of the empty key")])).await;
    assert_eq!(get(&*store, "empty"), Some(Vec::new()), "an empty value is there");
    assert_eq!(get(&*store, "missing"), None, "a missing key is not there");
    assert_eq!(get(&*store, "").as_deref(), Some(&b"of the empty key"[..]), "the empty key is a key");
    assert_eq!(all(&*store)[0].0, b"", "the empty key is the first");
}

pub(super) async fn pages_are_in_order_and_bounded<H: Harness>(harness: &mut H) {
    let volume = harness.fresh().await;
    let store = open(&volume, "log").await;
    // Written backwards, so that order is the store's work.
    write(&store, puts((0..100u8).rev().map(|i| ([i, 7], [i; 10])))).await;
    let limit = PageLimit { pairs_max: 7, bytes_max: usize::MAX };
    let (mut range, mut seen) = (KeyRange::all(), Vec::new());
    loop {
        let page = page(&*store, &range, limit);
        let Some((last, _)) = page.last() else { break };
        assert!(page.len() <= 7, "a page holds at most as many pairs as asked for, not {}", page.len());
        range = range.after(last);
        seen.extend(page);
    }
    let expected: Vec<Pair> = (0..100u8).map(|i| (vec![i, 7], vec![i; 10])).collect();
    assert_eq!(seen, expected, "paging delivers every pair once and in key order");

    let bytes = |bytes_max| page(&*store, &KeyRange::all(), PageLimit { pairs_max: 50, bytes_max }).len();
    assert_eq!(bytes(0), 1, "a page makes progress even if its first pair is too large");
    assert_eq!(bytes(12), 1, "a page stops at the pair that reaches its bytes");
    assert_eq!(bytes(13), 2, "a page takes another pair while it has room");
    assert_eq!(
        page(&*store, &KeyRange::all(), PageLimit { pairs_max: 0, bytes_max: 9 }),
        [],
        "no pairs asked for"
    );

    let some = |start: &[u8], end: &[u8]| {
        page(&*store, &KeyRange { start: start.to_vec(), end: Some(end.to_vec()) }, EVERYTHING).len()
    };
    assert_eq!(some(&[10], &[20]), 10, "a range includes its start and excludes its end");
    assert_eq!(
        some(&[10, 7], &[20, 7]),
        10,
        "a range of exact keys includes the first and excludes the last"
    );
    assert_eq!(some(&[20], &[20]), 0, "an empty range is empty");
    assert_eq!(some(&[20], &[10]), 0, "a backward range is empty");
}

pub(super) async fn prefixes_end_where_they_should<H: Harness>(harness: &mut H) {
    let volume = harness.fresh().await;
    let store = open(&volume, "log").await;
    let keys: [&[u8]; 9] =
        [b"a", b"a\0", b"a\xfe", b"a\xff", b"a\xff\xff", b"a\xff\xff\0", b"b", b"\xff", b"\xff\xff\x01"];
    write(&store, puts(keys.map(|key| (key, b"x")))).await;
    let under = |prefix: &[u8]| -> Vec<Vec<u8>> {
        page(&*store, &KeyRange::prefix(prefix), EVERYTHING).into_iter().map(|(key, _)| key).collect()
    };
    for prefix in [&b""[..], b"a", b"a\xff", b"a\xff\xff", b"b", b"\xff", b"\xff\xff", b"c"] {
        let mut expected: Vec<Vec<u8>> =
            keys.iter().filter(|key| key.starts_with(prefix)).map(|key| key.to_vec()).collect();
        expected.sort();
        assert_eq!(under(prefix), expected, "the keys under the prefix {prefix:?}");
    }
}

pub(super) async fn a_later_write_of_a_batch_wins<H: Harness>(harness: &mut H) {
    let volume = harness.fresh().await;
    let store = open(&volume, "log").await;
    let mut batch = Batch::new();
    batch.put("put-put", "1");
    batch.put("put-put", "2");
    batch.put("put-delete", "1");
    batch.delete("put-delete");
    batch.delete("delete-put");
    batch.put("delete-put", "2");
    write(&store, batch).await;
    let expected = [("delete-put", "2"), ("put-put", "2")].map(|(k, v)| (k.into(), v.into()));
    assert_eq!(all(&*store), expected, "the last write to a key in a batch decides");
}

pub(super) async fn arbitrary_bytes_come_back<H: Harness>(harness: &mut H) {
    let volume = harness.fresh().await;
    let store = open(&volume, "log").await;
    let every_byte: Vec<u8> = (0..=u8::MAX).collect();
    let pairs: Vec<Pair> = (0..=u8::MAX)
        .map(|byte| {
            let mut key = vec![byte];
            key.extend_from_slice(&every_byte[..usize::from(byte)]);
            (key, every_byte[usize::from(byte)..].to_vec())
        })
        .collect();
    write(&store, puts(pairs.clone())).await;
    assert_eq!(all(&*store), pairs, "keys and values of any bytes come back as they were");
}

pub(super) async fn large_values_come_back<H: Harness>(harness: &mut H) {
    let volume = harness.fresh().await;
    let store = open(&volume, "log").await;
    let large = large_value(1);
    write(&store, puts([(&b"large"[..], &large[..]), (b"small", b"s")])).await;
    assert!(
        get(&*store, "large").as_ref() == Some(&large),
        "a value of {LARGE_VALUE_BYTES} bytes comes back"
    );
    assert_eq!(get(&*store, "small").as_deref(), Some(&b"s"[..]), "its neighbour comes back");
    let first = page(&*store, &KeyRange::all(), PageLimit { pairs_max: 10, bytes_max: 1 });
    assert_eq!(first.len(), 1, "a large value fills its page alone");
}

/// Bytes that no engine compresses away and that differ from place to place.
pub(super) fn large_value(seed: u32) -> Vec<u8> {
    (0..LARGE_VALUE_BYTES as u32)
        .map(|i| (i.wrapping_add(seed).wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect()
}

pub(super) async fn a_snapshot_is_untouched_by_later_writes<H: Harness>(harness: &mut H) {
    let volume = harness.fresh().await;
    let store = open(&volume, "log").await;
    write(&store, puts([("a", "1"), ("b", "1")])).await;
    let snapshot = expect(store.snapshot(), "a snapshot");
    let mut batch = puts([("a", "2"), ("c", "2")]);
    batch.delete("b");
    write(&store, batch).await;
    let expected = [("a", "1"), ("b", "1")].map(|(k, v)| (k.into(), v.into()));
    assert_eq!(all(&*snapshot), expected, "a snapshot pages what was there when it was taken");
    assert_eq!(get(&*snapshot, "b").as_deref(), Some(&b"1"[..]), "a snapshot still has a key deleted since");
    assert_eq!(get(&*snapshot, "c"), None, "a snapshot lacks a key written since");
    assert_eq!(get(&*store, "b"), None, "the store itself goes on");
    let later = expect(store.snapshot(), "a second snapshot");
    drop(snapshot);
    assert_eq!(get(&*later, "a").as_deref(), Some(&b"2"[..]), "snapshots are independent of each other");
}

pub(super) async fn writes_take_effect_and_complete_in_order<H: Harness>(harness: &mut H) {
    let volume = harness.fresh().await;
    let store = open(&volume, "log").await;
    let write_of = |i: u32| {
        store.write(puts([("counter".to_string(), i.to_string()), (format!("key{i:06}"), i.to_string())]))
    };
    let mut writes: Vec<_> = (0..QUEUED_WRITES).map(write_of).collect();
    let last = writes.pop().expect("there are some");
    expect(last.await, "the last of many queued writes");
    for (i, write) in writes.into_iter().enumerate() {
        if i % POLLS_AT_A_TIME == 0 {
            pause().await;
        }
        match write.now_or_never() {
            Some(result) => expect(result, "a queued write"),
            None => panic!("write {i} of {QUEUED_WRITES} is not complete although the last one is"),
        }
    }
    let last = (QUEUED_WRITES - 1).to_string().into_bytes();
    assert_eq!(
        get(&*store, "counter"),
        Some(last),
        "writes take effect in the order in which they were made"
    );
    assert_eq!(all(&*store).len(), QUEUED_WRITES as usize + 1, "every queued write is there");
    // A future that nobody polls is a write all the same.
    drop(store.write(puts([("dropped", "1")])));
    write(&store, puts([("after", "1")])).await;
    assert_eq!(get(&*store, "dropped").as_deref(), Some(&b"1"[..]), "calling is what writes, not polling");
}

/// Lets the executor have its turn, whichever it is.
async fn pause() {
    let mut paused = false;
    poll_fn(|context| {
        if std::mem::replace(&mut paused, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

pub(super) async fn stores_are_separate_listed_and_removed<H: Harness>(harness: &mut H) {
    let volume = harness.fresh().await;
    let list = async || expect(volume.list().await, "listing the stores");
    assert_eq!(list().await, [""; 0], "a fresh volume has no stores");
    let log = open(&volume, "log").await;
    let state = open(&volume, "state.2.tmp").await;
    write(&log, puts([("a", "of the log")])).await;
    assert_eq!(get(&*state, "a"), None, "stores share no keys");
    assert_eq!(list().await, ["log", "state.2.tmp"], "stores are listed in order");
    assert!(volume.remove("state.2.tmp").await.is_err(), "an open store is not removed");
    drop(state);
    expect(volume.remove("state.2.tmp").await, "removing a closed store");
    expect(volume.remove("state.2.tmp").await, "removing a store that is not there");
    assert_eq!(list().await, ["log"], "a removed store is not listed");
    let state = open(&volume, "state.2.tmp").await;
    assert_eq!(all(&*state), [], "a store made after a removal is empty");
    assert!(expect(volume.bytes_used().await, "counting bytes") > 0, "a volume with content uses some bytes");
}

pub(super) async fn a_store_opens_once<H: Harness>(harness: &mut H) {
    let volume = harness.fresh().await;
    let store = open(&volume, "log").await;
    write(&store, puts([("a", "1")])).await;
    assert!(volume.open("log").await.is_err(), "an open store does not open a second time");
    write(&store, puts([("b", "1")])).await;
    assert_eq!(all(&*store).len(), 2, "the refusal does not disturb the store that is open");
    drop(store);
    let store = open(&volume, "log").await;
    assert_eq!(all(&*store).len(), 2, "a closed store opens again at once, with its content");
}

pub(super) async fn bad_names_are_refused<H: Harness>(harness: &mut H) {
    let volume = harness.fresh().await;
    let long = "x".repeat(crate::storage::names::NAME_BYTES_MAX + 1);
    for name in ["", ".", "..", ".hidden", "a/b", "../x", "Upper", "a b", "a\0b", "ü", "stores", &long] {
        assert!(volume.open(name).await.is_err(), "{name:?} is no name for a store");
        assert!(volume.remove(name).await.is_err(), "{name:?} is no name for a store to remove");
        assert!(volume.read_file(name).await.is_err(), "{name:?} is no name for a file to read");
        assert!(volume.replace_file(name, vec![1]).await.is_err(), "{name:?} is no name for a file");
    }
    assert_eq!(
        expect(volume.list().await, "listing the stores"),
        [""; 0],
        "a refused name leaves nothing behind"
    );
}

pub(super) async fn files_are_replaced<H: Harness>(harness: &mut H) {
    let volume = harness.fresh().await;
    let read = async || expect(volume.read_file("current").await, "reading a small file");
    assert_eq!(read().await, None, "a missing file is not there");
    expect(volume.replace_file("current", Vec::new()).await, "making an empty file");
    assert_eq!(read().await, Some(Vec::new()), "an empty file is not a missing one");
    for content in [&b"state.1"[..], b"state.2", b"s", &[0xff; 100_000]] {
        expect(volume.replace_file("current", content.to_vec()).await, "replacing a small file");
        assert!(read().await.as_deref() == Some(content), "a file holds exactly its last content");
    }
    assert_eq!(expect(volume.list().await, "listing the stores"), [""; 0], "a file is not a store");
}

pub(super) async fn a_failed_write_closes_the_store<H: Harness>(harness: &mut H) {
    let volume = harness.fresh().await;
    let store = open(&volume, "log").await;
    write(&store, puts([("before", "1")])).await;
    if !harness.fail_next_write("log") {
        return;
    }
    let error = store.write(puts([("failed", "1")])).await;
    assert!(error.is_err(), "a write that the device refuses fails");
    for attempt in 0..3 {
        match store.write(puts([("after", "1")])).await {
            Err(StorageError::Closed(reason)) => {
                assert!(!reason.is_empty(), "the refusal says why");
            }
            other => {
                panic!("attempt {attempt} after a failed write should be refused as closed, but: {other:?}")
            }
        }
    }
    assert_eq!(get(&*store, "before").as_deref(), Some(&b"1"[..]), "completed writes stay readable");
    assert_eq!(get(&*store, "after"), None, "a refused write has no effect");
}
