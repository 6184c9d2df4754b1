//! When bytes of a log store became durable, by what the shim recorded; and whether acknowledgements waited for it.
//!
//! An entry counts as durable on a node at the end of the first successful sync of its log file that *began* after
//! the last byte of the whole LevelDB record round it had been written: a record that is there in part is not there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use eraft::storage::leveldb::wal::{BLOCK_BYTES, HEADER_BYTES, scan};

use super::ledger::tokens_in;
use super::records::{Call, Record};

/// A token that a client was told is there.
#[derive(Clone, Debug)]
pub struct Acknowledged {
    pub token: String,
    pub at_ns: u64,
}

/// When a token was written and durable on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Covered {
    pub written_ns: u64,
    pub durable_ns: Option<u64>,
}

/// What is known of one log file.
#[derive(Default)]
struct LogFile {
    content: Vec<u8>,
    /// Where each write ended, and when.
    writes: Vec<(usize, u64)>,
    /// Begin and end of each successful sync.
    syncs: Vec<(u64, u64)>,
}

/// True for the files whose syncs acknowledgements depend on.
pub fn is_log_of_log_store(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "log")
        && path.parent().is_some_and(|store| store.ends_with("stores/log"))
}

/// The log files of the log store, in the order in which they were begun.
fn log_files(records: &[Record]) -> Vec<LogFile> {
    let mut files: Vec<LogFile> = Vec::new();
    let mut open: BTreeMap<i32, usize> = BTreeMap::new();
    for Record { begin_ns, end_ns, call } in records {
        match call {
            Call::Open { descriptor, path, truncates: true, .. } if is_log_of_log_store(path) => {
                open.insert(*descriptor, files.len());
                files.push(LogFile::default());
            }
            // Whatever else it is, it is not the log that the number stood for.
            Call::Open { descriptor, .. } | Call::Close { descriptor } => drop(open.remove(descriptor)),
            Call::Write { descriptor, offset, data, error: 0 } => {
                let Some(file) = open.get(descriptor).map(|index| &mut files[*index]) else { continue };
                assert_eq!(*offset, file.content.len() as u64, "logs are only appended to");
                file.content.extend_from_slice(data);
                file.writes.push((file.content.len(), *end_ns));
            }
            Call::Sync { descriptor, error: 0, .. } => {
                if let Some(index) = open.get(descriptor) {
                    files[*index].syncs.push((*begin_ns, *end_ns));
                }
            }
            _ => {}
        }
    }
    files
}

/// Where the record that begins at `offset` with `length` bytes of payload ends.
fn end_of_record(offset: usize, length: usize) -> usize {
    let (mut position, mut left) = (offset, length);
    loop {
        let room = BLOCK_BYTES - position % BLOCK_BYTES;
        if room < HEADER_BYTES {
            position += room;
            continue;
        }
        let fragment = left.min(room - HEADER_BYTES);
        position += HEADER_BYTES + fragment;
        left -= fragment;
        if left == 0 {
            return position;
        }
    }
}

/// For each token in the log store: when it was written, and when that was durable.
pub fn covered(records: &[Record]) -> BTreeMap<String, Covered> {
    let mut all: BTreeMap<String, Covered> = BTreeMap::new();
    for file in log_files(records) {
        scan(&file.content, |offset, payload| {
            let end = end_of_record(offset, payload.len());
            let Some(last) = file.writes.iter().find(|(through, _)| *through >= end) else { return };
            let written_ns = last.1;
            let syncs = file.syncs.iter().filter(|(begin_ns, _)| *begin_ns >= written_ns);
            let durable_ns = syncs.map(|(_, end_ns)| *end_ns).min();
            for token in tokens_in(payload) {
                let known = all.entry(token.to_owned()).or_insert(Covered { written_ns, durable_ns });
                let both = [known.durable_ns, durable_ns];
                known.durable_ns = both.into_iter().flatten().min();
            }
        });
    }
    all
}

/// Every acknowledgement that came before what it acknowledges was durable on a majority of the `nodes`, in words.
pub fn too_early(nodes: &BTreeMap<u64, Vec<Record>>, acknowledged: &[Acknowledged]) -> Vec<String> {
    let covers: BTreeMap<u64, _> = nodes.iter().map(|(id, records)| (*id, covered(records))).collect();
    let majority = nodes.len() / 2 + 1;
    let mut flaws = Vec::new();
    for Acknowledged { token, at_ns } in acknowledged {
        let of_node = |cover: &BTreeMap<String, Covered>| cover.get(token).copied();
        let in_time = |cover: &Covered| cover.durable_ns.is_some_and(|durable_ns| durable_ns <= *at_ns);
        let durable = covers.values().filter_map(of_node).filter(in_time).count();
        if durable < majority {
            let shown: Vec<String> =
                covers.iter().map(|(id, cover)| format!("n{id}: {:?}", of_node(cover))).collect();
            let shown = shown.join(", ");
            flaws.push(format!("{token} acknowledged at {at_ns}, durable on {durable} nodes; {shown}"));
        }
    }
    flaws
}

/// The files of which a sync failed and a later one succeeded: the failure was taken for a passing one.
pub fn synced_after_failure(records: &[Record]) -> Vec<PathBuf> {
    let mut open: BTreeMap<i32, (&PathBuf, bool)> = BTreeMap::new();
    let mut found = Vec::new();
    for record in records {
        match &record.call {
            Call::Open { descriptor, path, .. } => drop(open.insert(*descriptor, (path, false))),
            Call::Close { descriptor } => drop(open.remove(descriptor)),
            Call::Sync { descriptor, error, .. } => {
                let Some((path, failed)) = open.get_mut(descriptor) else { continue };
                if *failed && *error == 0 {
                    found.push(path.clone());
                }
                *failed |= *error != 0;
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::ledger::token;
    use super::super::records::Script;
    use super::*;

    const LOG: i32 = 9;

    /// One LevelDB record at the beginning of a block.
    fn framed(payload: &[u8]) -> Vec<u8> {
        const FULL: u8 = 1;
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&[FULL]), payload);
        let masked = checksum.rotate_right(15).wrapping_add(0xa282_ead8);
        let length = u16::try_from(payload.len()).unwrap().to_le_bytes();
        [&masked.to_le_bytes()[..], &length, &[FULL], payload].concat()
    }

    fn begun() -> Script {
        let mut script = Script::default();
        script.open(LOG, "/db/n1/stores/log/000003.log");
        script
    }

    fn judge(script: Script, at_ns: u64) -> Vec<String> {
        let nodes = BTreeMap::from([(1, script.records)]);
        too_early(&nodes, &[Acknowledged { token: token(1, 1), at_ns }])
    }

    #[test]
    fn an_acknowledgement_after_the_sync_is_good() {
        let mut script = begun();
        script.write(LOG, 0, &framed(token(1, 1).as_bytes()));
        let synced_ns = script.sync(LOG);
        assert_eq!(judge(script, synced_ns), Vec::<String>::new());
    }

    #[test]
    fn an_acknowledgement_before_the_sync_has_ended_is_found() {
        let mut script = begun();
        script.write(LOG, 0, &framed(token(1, 1).as_bytes()));
        let synced_ns = script.sync(LOG);
        assert_eq!(judge(script, synced_ns - 1).len(), 1);
    }

    #[test]
    fn a_missing_sync_is_found() {
        let mut script = begun();
        let written_ns = script.write(LOG, 0, &framed(token(1, 1).as_bytes()));
        assert_eq!(judge(script, written_ns + 100).len(), 1);
    }

    #[test]
    fn a_missing_write_is_found() {
        let mut script = begun();
        script.write(LOG, 0, &framed(token(1, 2).as_bytes()));
        let synced_ns = script.sync(LOG);
        assert_eq!(judge(script, synced_ns + 100).len(), 1);
    }

    #[test]
    fn a_failed_sync_covers_nothing() {
        let mut script = begun();
        script.write(LOG, 0, &framed(token(1, 1).as_bytes()));
        let failed_ns = script.call(Call::sync(LOG, libc::EIO));
        assert_eq!(judge(script, failed_ns + 100).len(), 1);
    }

    #[test]
    fn a_sync_that_began_before_the_write_covers_nothing() {
        let mut script = begun();
        let written_ns = script.write(LOG, 0, &framed(token(1, 1).as_bytes()));
        let synced_ns = script.long_call(written_ns - 1, Call::sync(LOG, 0));
        assert_eq!(judge(script, synced_ns + 100).len(), 1);
    }

    #[test]
    fn a_sync_of_half_a_record_covers_nothing() {
        let mut script = begun();
        let record = framed(format!("{}, and more", token(1, 1)).as_bytes());
        let (first, second) = record.split_at(record.len() - 3);
        script.write(LOG, 0, first);
        let first_ns = script.sync(LOG);
        script.write(LOG, first.len(), second);
        let second_ns = script.sync(LOG);
        assert_eq!(judge(script.clone(), first_ns).len(), 1);
        assert_eq!(judge(script, second_ns), Vec::<String>::new());
    }

    #[test]
    fn a_sync_of_another_file_covers_nothing() {
        let mut script = begun();
        script.write(LOG, 0, &framed(token(1, 1).as_bytes()));
        script.call(Call::Close { descriptor: LOG });
        script.open(LOG, "/db/n1/stores/state.0/000003.log");
        script.write(LOG, 0, &framed(token(1, 1).as_bytes()));
        let synced_ns = script.sync(LOG);
        assert_eq!(judge(script, synced_ns + 100).len(), 1);
    }

    #[test]
    fn a_minority_is_not_enough() {
        let mut script = begun();
        script.write(LOG, 0, &framed(token(1, 1).as_bytes()));
        let synced_ns = script.sync(LOG);
        let (good, bad) = (script.records, begun().records);
        let ack = [Acknowledged { token: token(1, 1), at_ns: synced_ns }];
        let nodes =
            |second: &Vec<Record>| BTreeMap::from([(1, good.clone()), (2, second.clone()), (3, bad.clone())]);
        assert_eq!(too_early(&nodes(&bad), &ack).len(), 1);
        assert_eq!(too_early(&nodes(&good), &ack), Vec::<String>::new());
    }

    #[test]
    fn ends_of_records_are_where_leveldb_puts_them() {
        assert_eq!(end_of_record(0, 0), HEADER_BYTES);
        assert_eq!(end_of_record(10, 5), 10 + HEADER_BYTES + 5);
        assert_eq!(end_of_record(BLOCK_BYTES - 10, 5), BLOCK_BYTES + HEADER_BYTES + 2);
        assert_eq!(end_of_record(0, BLOCK_BYTES - HEADER_BYTES), BLOCK_BYTES);
        assert_eq!(end_of_record(0, BLOCK_BYTES - HEADER_BYTES + 1), BLOCK_BYTES + HEADER_BYTES + 1);
        assert_eq!(end_of_record(BLOCK_BYTES - HEADER_BYTES, 1), BLOCK_BYTES + HEADER_BYTES + 1);
    }

    #[test]
    fn a_sync_after_a_failed_one_is_found() {
        let mut script = begun();
        script.call(Call::sync(LOG, libc::EIO));
        assert!(synced_after_failure(&script.records).is_empty());
        script.sync(LOG);
        assert_eq!(synced_after_failure(&script.records).len(), 1);
    }
}
