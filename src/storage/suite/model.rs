//! Random operations against a `BTreeMap`, with random reopenings.

use std::collections::BTreeMap;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use super::*;

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// Keys are short and of few letters, so that they meet; the letters are those at which bounds go wrong.
const LETTERS: [u8; 5] = [0, b'a', b'b', 0xfe, 0xff];

/// Keys of at most so many letters.
const KEY_LETTERS_MAX: u32 = 4;

/// Values of at most so many bytes, except a few large ones.
const VALUE_BYTES_MAX: u32 = 200;

/// A value in a hundred is so large.
const LARGE_VALUE_BYTES: u32 = 100_000;

/// At most so many writes in one batch.
const BATCH_WRITES_MAX: u32 = 12;

/// Runs `steps` random operations from `seed`, with reopenings after some of `ends`, and compares every answer with
/// a map's. Panics name seed and step.
pub async fn check<H: Harness>(harness: &mut H, seed: u64, steps: u32, ends: &[End]) {
    assert!(!ends.is_empty(), "a model check without reopenings would not check durability");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut volume = harness.fresh().await;
    let mut store = open(&volume, "log").await;
    let mut model = Model::new();
    for step in 0..steps {
        let context = format!("seed {seed}, step {step}");
        match below(&mut rng, 20) {
            0..8 => {
                let batch = random_batch(&mut rng);
                apply(&mut model, &batch);
                write(&store, batch).await;
            }
            8..10 => {
                // Several at once, and only the last one waited for.
                let mut last = None;
                for _ in 0..=below(&mut rng, 10) {
                    let batch = random_batch(&mut rng);
                    apply(&mut model, &batch);
                    last = Some(store.write(batch));
                }
                if let Some(last) = last {
                    expect(last.await, "the last of some queued writes");
                }
            }
            10..14 => {
                let key = random_key(&mut rng);
                assert!(get(&*store, &key) == model.get(&key).cloned(), "{context}: get {key:?} differs");
            }
            14..18 => {
                let (range, limit) = (random_range(&mut rng), random_limit(&mut rng));
                let expected = model.page(&range, limit).unwrap_or_default();
                assert!(
                    page(&*store, &range, limit) == expected,
                    "{context}: page {range:?} {limit:?} differs"
                );
            }
            18 => {
                let snapshot = expect(store.snapshot(), "a snapshot");
                let before = model.clone();
                let batch = random_batch(&mut rng);
                apply(&mut model, &batch);
                write(&store, batch).await;
                assert!(all(&*snapshot).into_iter().eq(before), "{context}: the snapshot differs");
            }
            _ => {
                let end = ends[below(&mut rng, ends.len() as u32) as usize];
                drop(store);
                volume = match harness.reopen(volume, end).await {
                    Some(reopened) => reopened,
                    None => panic!("{context}: the harness cannot stage {end:?}, which it was asked for"),
                };
                store = open(&volume, "log").await;
                assert!(
                    all(&*store).into_iter().eq(model.clone()),
                    "{context}: content differs after {end:?}"
                );
            }
        }
    }
    assert!(all(&*store).into_iter().eq(model), "seed {seed}: content differs at the end");
}

/// A number below `bound`; the bias is of no consequence here.
fn below(rng: &mut ChaCha8Rng, bound: u32) -> u32 {
    rng.next_u32() % bound
}

fn random_key(rng: &mut ChaCha8Rng) -> Vec<u8> {
    let letters = below(rng, KEY_LETTERS_MAX + 1);
    (0..letters).map(|_| LETTERS[below(rng, LETTERS.len() as u32) as usize]).collect()
}

fn random_batch(rng: &mut ChaCha8Rng) -> Batch {
    let mut batch = Batch::new();
    for _ in 0..below(rng, BATCH_WRITES_MAX + 1) {
        let key = random_key(rng);
        if below(rng, 4) == 0 {
            batch.delete(key);
            continue;
        }
        let large = below(rng, 100) == 0;
        let mut value = vec![0; below(rng, if large { LARGE_VALUE_BYTES } else { VALUE_BYTES_MAX }) as usize];
        rng.fill_bytes(&mut value);
        batch.put(key, value);
    }
    batch
}

fn apply(model: &mut Model, batch: &Batch) {
    for (key, value) in &batch.writes {
        match value {
            Some(value) => model.insert(key.clone(), value.clone()),
            None => model.remove(key),
        };
    }
}

fn random_range(rng: &mut ChaCha8Rng) -> KeyRange {
    match below(rng, 4) {
        0 => KeyRange::all(),
        1 => KeyRange::prefix(&random_key(rng)),
        2 => KeyRange::prefix(&random_key(rng)).after(&random_key(rng)),
        _ => KeyRange { start: random_key(rng), end: Some(random_key(rng)) },
    }
}

fn random_limit(rng: &mut ChaCha8Rng) -> PageLimit {
    PageLimit { pairs_max: below(rng, 30) as usize, bytes_max: below(rng, 2_000) as usize }
}
