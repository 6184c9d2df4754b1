//! Every crash point and every damage that can be staged on a store's files: what opens afterwards holds every
//! completed write, or says which file is damaged and where. Real builds only.
#![cfg(not(madsim))]

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use eraft::storage::leveldb::{LevelDbVolume, wal};
use eraft::storage::{StorageError, Volume as _};
use eraft::view::{Batch, KeyRange, PageLimit, Pair};
use tempfile::TempDir;

/// More than one block of the log, so that records lie across a boundary.
const BATCHES: usize = 400;

/// A directory in memory if there is one: thousands of stores are opened here, and their syncs prove nothing.
fn directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() };
    made.expect("a temporary directory")
}

/// A store's files, as they were while it was open: what a killed process leaves.
struct Image {
    directory: TempDir,
    /// What each batch wrote, in order. Keys ascend.
    batches: Vec<Vec<Pair>>,
}

impl Image {
    /// Writes a batch of three pairs for each of `value_bytes`, each synced before the next.
    async fn of(value_bytes: impl IntoIterator<Item = usize>) -> Self {
        Self::of_processes([value_bytes]).await
    }

    /// As above, by several processes, one after another: LevelDB makes a table of what the one before left in its log.
    async fn of_processes(processes: impl IntoIterator<Item = impl IntoIterator<Item = usize>>) -> Self {
        let (live, mut batches) = (directory(), Vec::new());
        for value_bytes in processes {
            Self::write(live.path(), value_bytes, &mut batches).await;
        }
        settle(&live.path().join("stores/log")).await;
        let image = Self { directory: directory(), batches };
        for name in names(&live.path().join("stores/log")) {
            fs::copy(live.path().join("stores/log").join(&name), image.file(&name))
                .expect("the file is copied");
        }
        image
    }

    async fn write(live: &Path, value_bytes: impl IntoIterator<Item = usize>, batches: &mut Vec<Vec<Pair>>) {
        let volume = LevelDbVolume::open(live).expect("the volume opens");
        let store = volume.open("log").await.expect("the store opens");
        for bytes in value_bytes {
            let i = batches.len();
            let pair = |part| (format!("{i:05}/{part}").into_bytes(), vec![(i * 3 + part) as u8; bytes]);
            let pairs: Vec<Pair> = (0..3).map(pair).collect();
            let batch =
                Batch { writes: pairs.iter().cloned().map(|(key, value)| (key, Some(value))).collect() };
            store.write(batch).await.expect("the write completes");
            batches.push(pairs);
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The only file whose name fits.
    fn newest(&self, fits: impl Fn(&str) -> bool) -> String {
        names(self.directory.path()).into_iter().rfind(|name| fits(name)).expect("there is such a file")
    }

    fn newest_log(&self) -> String {
        self.newest(|name| name.ends_with(".log"))
    }

    fn content(&self, name: &str) -> Vec<u8> {
        fs::read(self.file(name)).expect("the file is read")
    }

    /// Where the records of a log are.
    fn records(&self, log: &str) -> Vec<Range<usize>> {
        let content = self.content(log);
        let mut starts = Vec::new();
        assert_eq!(wal::scan(&content, |offset, _| starts.push(offset)), wal::Verdict::Whole);
        let ends = starts.iter().copied().skip(1).chain([content.len()]);
        starts.iter().copied().zip(ends).map(|(start, end)| start..end).collect()
    }

    /// A copy of the store with `name` replaced (`None`: removed), and what it holds when it is opened.
    async fn open_with(&self, name: &str, content: Option<&[u8]>) -> Result<Vec<Pair>, StorageError> {
        let copy = directory();
        let store = copy.path().join("stores/log");
        fs::create_dir_all(&store).expect("the directory is made");
        for other in names(self.directory.path()).iter().filter(|other| *other != name) {
            // LevelDB never changes a finished file, so a link will do; our own cut is only made in `name`.
            fs::hard_link(self.file(other), store.join(other)).expect("the file is linked");
        }
        if let Some(content) = content {
            fs::write(store.join(name), content).expect("the file is written");
        }
        let volume = LevelDbVolume::open(copy.path()).expect("the volume opens");
        let store = volume.open("log").await?;
        let (mut found, mut range) = (Vec::new(), KeyRange::all());
        loop {
            let page = store.page(&range, PageLimit { pairs_max: 100, bytes_max: usize::MAX });
            let page =
                page.map_err(|error| StorageError::Io { action: "reading".into(), reason: error.0 })?;
            let Some((last, _)) = page.last() else { return Ok(found) };
            range = range.after(last);
            found.extend(page);
        }
    }

    /// `found` must be the first `count` batches and nothing else.
    fn assert_holds_first(&self, count: usize, found: &[Pair], context: &str) {
        let expected: Vec<&Pair> = self.batches[..count].iter().flatten().collect();
        assert!(
            found.iter().eq(expected.iter().copied()),
            "{context}: {} pairs are there instead of the {} of the first {count} batches",
            found.len(),
            expected.len()
        );
    }

    /// A refusal names `name` and a place in `places`.
    fn assert_refuses(&self, refusal: &StorageError, name: &str, places: Range<usize>, context: &str) {
        let StorageError::Corrupt { path, offset, .. } = refusal else {
            panic!("{context}: the refusal should be of a damaged file, but: {refusal}");
        };
        assert!(path.ends_with(name), "{context}: the refusal should name {name}, not {path}");
        assert!(places.contains(&(*offset as usize)), "{context}: byte {offset} is not in {places:?}");
    }
}

/// The names in a directory, in order.
/// Waits until the store has put its older logs into tables: on a busy machine that takes a while, and two live logs
/// are another image than the one that these tests are about (nothing tells that the newer of two is missing).
async fn settle(store: &Path) {
    let (mut before, mut quiet) = (Vec::new(), 0);
    for _ in 0..1000 {
        let now = names(store);
        let logs = now.iter().filter(|name| name.ends_with(".log")).count();
        quiet = if logs == 1 && now == before { quiet + 1 } else { 0 };
        if quiet >= 5 {
            return;
        }
        before = now;
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the store never came to rest: {before:?}");
}

fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).expect("the directory is listed");
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a plain name"))
        .collect();
    names.sort();
    names
}

/// Small batches of changing size.
async fn small_image() -> Image {
    Image::of((0..BATCHES).map(|i| 10 + i % 17)).await
}

#[tokio::test]
async fn a_log_cut_anywhere_holds_every_batch_before_the_cut() {
    let image = small_image().await;
    let log = image.newest_log();
    let (content, records) = (image.content(&log), image.records(&log));
    assert_eq!(records.len(), BATCHES, "each awaited batch is a record of its own");
    for cut in records[BATCHES - 3].start..=content.len() {
        let whole = records.iter().filter(|record| record.end <= cut).count();
        let found = image.open_with(&log, Some(&content[..cut])).await.expect("a torn write is no damage");
        image.assert_holds_first(whole, &found, &format!("cut at {cut}"));
    }
}

#[tokio::test]
async fn a_cut_inside_a_large_record_drops_all_of_it() {
    let image = Image::of([10, 20, 60_000, 30]).await;
    let log = image.newest_log();
    let (content, records) = (image.content(&log), image.records(&log));
    let large = records[2].clone();
    let boundaries = (large.start..large.end).filter(|at| (at + 20) % wal::BLOCK_BYTES < 40);
    let cuts = boundaries.chain(large.clone().step_by(9_973)).chain(large.end - 20..large.end);
    for cut in cuts {
        let found = image.open_with(&log, Some(&content[..cut])).await.expect("a torn write is no damage");
        image.assert_holds_first(2, &found, &format!("cut at {cut}"));
    }
}

#[tokio::test]
async fn a_flipped_bit_in_the_log_is_found_or_in_the_last_record() {
    let image = small_image().await;
    let log = image.newest_log();
    let (content, records) = (image.content(&log), image.records(&log));
    let last = records.len() - 1;
    let across =
        records.iter().position(|record| record.start < wal::BLOCK_BYTES && record.end > wal::BLOCK_BYTES);
    let across = across.expect("a record lies across the first block boundary");
    for i in [0, 1, 100, across - 1, across, across + 1, last - 2, last - 1, last] {
        for at in records[i].clone() {
            for mask in [0x01, 0x80] {
                let mut flipped = content.clone();
                flipped[at] ^= mask;
                let context = format!("byte {at} of record {i} ^ {mask:#04x}");
                match image.open_with(&log, Some(&flipped)).await {
                    // The padding before a block boundary means nothing.
                    Ok(found) if i != last && records[i + 1].start - at < wal::HEADER_BYTES => {
                        image.assert_holds_first(BATCHES, &found, &context);
                        assert_eq!(records[i + 1].start % wal::BLOCK_BYTES, 0, "{context}: not padding");
                    }
                    Ok(found) => {
                        assert_eq!(i, last, "{context}: opened without a word");
                        image.assert_holds_first(last, &found, &context);
                    }
                    Err(refusal) => {
                        assert_ne!(
                            i, last,
                            "{context}: indistinguishable from a torn write, but refused: {refusal}"
                        );
                        image.assert_refuses(&refusal, &log, records[i].start..at + 1, &context);
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn zeros_behind_the_log_are_no_damage_and_inside_it_are() {
    let image = small_image().await;
    let log = image.newest_log();
    let (content, records) = (image.content(&log), image.records(&log));
    for zeros in [1, 6, 7, 100, 4096, 3 * wal::BLOCK_BYTES] {
        let extended = [&content[..], &vec![0; zeros]].concat();
        let found = image.open_with(&log, Some(&extended)).await.expect("a zero tail is no damage");
        image.assert_holds_first(BATCHES, &found, &format!("{zeros} zeros"));
    }
    for page in [0..4096, 4096..8192, 28_672..32_768] {
        let mut lost = content.clone();
        lost[page.clone()].fill(0);
        let refusal = image.open_with(&log, Some(&lost)).await.expect_err("a lost page is damage");
        let first = records.iter().find(|record| record.end > page.start).expect("there are records");
        image.assert_refuses(&refusal, &log, first.start..page.end, &format!("page {page:?}"));
    }
}

#[tokio::test]
async fn records_missing_from_the_middle_are_found() {
    let image = small_image().await;
    let log = image.newest_log();
    let (content, records) = (image.content(&log), image.records(&log));
    // Both of one size, so that what follows stays in its place: a write that went astray.
    let (from, to) = (&records[20], &records[20 + 17]);
    assert_eq!(from.len(), to.len());
    let mut astray = content.clone();
    astray.copy_within(from.clone(), to.start);
    let refusal = image.open_with(&log, Some(&astray)).await.expect_err("an old record in a new one's place");
    image.assert_refuses(&refusal, &log, to.start..to.start + 1, "a record written astray");
}

/// Of several processes, so that there are tables, edits of the MANIFEST, and more than one log number.
async fn large_image() -> Image {
    Image::of_processes([27; 3].map(|batches| std::iter::repeat_n(40_000, batches))).await
}

#[tokio::test]
async fn a_damaged_manifest_or_current_loses_nothing() {
    let image = large_image().await;
    let manifest = image.newest(|name| name.starts_with("MANIFEST"));
    for name in [manifest.as_str(), "CURRENT"] {
        let content = image.content(name);
        for at in 0..content.len() {
            let mut flipped = content.clone();
            flipped[at] ^= if at % 2 == 0 { 0x01 } else { 0x80 };
            let context = format!("byte {at} of {} of {name}", content.len());
            match image.open_with(name, Some(&flipped)).await {
                Ok(found) => image.assert_holds_first(image.batches.len(), &found, &context),
                Err(refusal) => {
                    assert!(matches!(refusal, StorageError::Corrupt { .. }), "{context}: {refusal:?}")
                }
            }
        }
        for cut in 0..content.len() {
            if let Ok(found) = image.open_with(name, Some(&content[..cut])).await {
                image.assert_holds_first(image.batches.len(), &found, &format!("{name} cut at {cut}"));
            }
        }
    }
}

#[tokio::test]
async fn a_missing_file_loses_nothing() {
    let image = large_image().await;
    let mut refused = Vec::new();
    for name in names(image.directory.path()) {
        match image.open_with(&name, None).await {
            Ok(found) => image.assert_holds_first(image.batches.len(), &found, &format!("without {name}")),
            Err(refusal) => {
                assert!(matches!(refusal, StorageError::Corrupt { .. }), "without {name}: {refusal:?}");
                refused.push(name);
            }
        }
    }
    for kind in ["CURRENT", "MANIFEST", ".log", ".ldb"] {
        assert!(
            refused.iter().any(|name| name.contains(kind)),
            "a missing {kind} should be refused: {refused:?}"
        );
    }
}

#[tokio::test]
async fn a_damaged_table_is_an_error_that_names_the_store() {
    let image = large_image().await;
    let table = image.newest(|name| name.ends_with(".ldb"));
    let content = image.content(&table);
    let tail = content.len() - 300..content.len();
    let mut noticed = 0;
    for at in (0..content.len()).step_by(200_003).chain(tail) {
        let mut flipped = content.clone();
        flipped[at] ^= 0x10;
        match image.open_with(&table, Some(&flipped)).await {
            Ok(found) => image.assert_holds_first(image.batches.len(), &found, &format!("byte {at}")),
            Err(error) => {
                assert!(
                    error.to_string().contains("stores/log"),
                    "byte {at}: the error should say where: {error}"
                );
                noticed += 1;
            }
        }
    }
    assert!(noticed > 10, "only {noticed} flips of a table were noticed");
    let cut = image.open_with(&table, Some(&content[..content.len() / 2])).await;
    assert!(cut.is_err(), "half a table is damage");
}
