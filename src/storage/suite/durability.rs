//! Cases about what is there after the process or the machine ended.

use super::content::large_value;
use super::*;

/// Writes that are queued when the process ends.
const QUEUED_WRITES: usize = 40;

/// How many of them the suite waits for.
const AWAITED_WRITES: usize = 10;

pub(super) async fn completed_writes_survive<H: Harness>(harness: &mut H, end: End) {
    let mut volume = harness.fresh().await;
    let mut expected: Vec<Pair> = Vec::new();
    for round in 0..3u8 {
        let store = open(&volume, "log").await;
        assert_eq!(
            all(&*store),
            expected,
            "round {round}: exactly the completed writes are there after {end:?}"
        );
        for i in 0..20u8 {
            write(&store, puts([([round, i], [i; 30])])).await;
            expected.push((vec![round, i], vec![i; 30]));
        }
        let mut batch = Batch::new();
        batch.delete([round, 0]);
        write(&store, batch).await;
        expected.retain(|(key, _)| *key != [round, 0]);
        drop(store);
        let Some(reopened) = harness.reopen(volume, end).await else { return };
        volume = reopened;
    }
    assert_eq!(
        all(&*open(&volume, "log").await),
        expected,
        "exactly the completed writes are there after {end:?}"
    );
}

pub(super) async fn unfinished_writes_survive_as_a_whole_prefix<H: Harness>(harness: &mut H, end: End) {
    let volume = harness.fresh().await;
    let store = open(&volume, "log").await;
    let batch_of = |i: usize| puts((0..3).map(|part| (format!("{i:04}/{part}"), vec![i as u8; 500])));
    let mut writes: Vec<_> = (0..QUEUED_WRITES).map(|i| store.write(batch_of(i))).collect();
    for write in writes.drain(..AWAITED_WRITES) {
        expect(write.await, "a queued write");
    }
    drop((writes, store));
    let Some(volume) = harness.reopen(volume, end).await else { return };
    let found = all(&*open(&volume, "log").await);
    let whole = found.len() / 3;
    let expected: Vec<Pair> =
        (0..whole).flat_map(|i| batch_of(i).writes).map(|(k, v)| (k, v.unwrap())).collect();
    assert!(
        whole >= AWAITED_WRITES,
        "after {end:?} {whole} writes are left of {AWAITED_WRITES} completed ones"
    );
    assert!(found == expected, "after {end:?} what is left should be the first writes, each as a whole");
}

pub(super) async fn large_batches_survive<H: Harness>(harness: &mut H, end: End) {
    let volume = harness.fresh().await;
    let store = open(&volume, "log").await;
    let (first, second) = (large_value(1), large_value(2));
    write(&store, puts([(&b"1"[..], &first[..]), (b"2", &second[..])])).await;
    write(&store, puts([("3", "after")])).await;
    drop(store);
    let Some(volume) = harness.reopen(volume, end).await else { return };
    let store = open(&volume, "log").await;
    assert!(get(&*store, "1") == Some(first), "the first large value survives {end:?}");
    assert!(get(&*store, "2") == Some(second), "the second large value survives {end:?}");
    assert_eq!(get(&*store, "3").as_deref(), Some(&b"after"[..]), "what follows them survives {end:?}");
}

pub(super) async fn files_survive<H: Harness>(harness: &mut H, end: End) {
    let mut volume = harness.fresh().await;
    for content in ["state.1", "state.2, which is longer", "3"] {
        expect(volume.replace_file("current", content.into()).await, "replacing a small file");
        let Some(reopened) = harness.reopen(volume, end).await else { return };
        volume = reopened;
        let found = expect(volume.read_file("current").await, "reading a small file");
        assert_eq!(found.as_deref(), Some(content.as_bytes()), "a replaced file survives {end:?}");
    }
    // Not awaited: the old or the new content, nothing else.
    drop(volume.replace_file("current", b"four".to_vec()));
    let Some(volume) = harness.reopen(volume, end).await else { return };
    let found = expect(volume.read_file("current").await, "reading a small file");
    let whole = [Some(&b"3"[..]), Some(b"four")].contains(&found.as_deref());
    assert!(whole, "after {end:?} a file should hold its old or its new content, not {found:?}");
}

pub(super) async fn removed_stores_stay_removed<H: Harness>(harness: &mut H, end: End) {
    let volume = harness.fresh().await;
    for name in ["kept", "removed"] {
        let store = open(&volume, name).await;
        write(&store, puts([("a", name)])).await;
    }
    expect(volume.remove("removed").await, "removing a closed store");
    let Some(volume) = harness.reopen(volume, end).await else { return };
    assert_eq!(
        expect(volume.list().await, "listing"),
        ["kept"],
        "a removed store stays removed after {end:?}"
    );
    let kept = open(&volume, "kept").await;
    assert_eq!(get(&*kept, "a").as_deref(), Some(&b"kept"[..]), "the other store survives {end:?}");
}
