//! The scan, on files made by a small writer of the same format.

use super::*;

/// Appends one logical record as LevelDB's writer does.
fn append(file: &mut Vec<u8>, record: &[u8]) {
    let (mut rest, mut begun) = (record, false);
    loop {
        let left = BLOCK_BYTES - file.len() % BLOCK_BYTES;
        if left < HEADER_BYTES {
            file.resize(file.len() + left, 0);
            continue;
        }
        let (part, after) = rest.split_at(rest.len().min(left - HEADER_BYTES));
        let kind = match (begun, after.is_empty()) {
            (false, true) => 1,
            (false, false) => 2,
            (true, false) => 3,
            (true, true) => 4,
        };
        file.extend(masked_checksum(kind, part).to_le_bytes());
        file.extend((part.len() as u16).to_le_bytes());
        file.push(kind);
        file.extend(part);
        (rest, begun) = (after, true);
        if rest.is_empty() {
            return;
        }
    }
}

/// A file of records of these sizes, and where each begins.
fn file_of(sizes: &[usize]) -> (Vec<u8>, Vec<usize>) {
    let (mut file, mut starts) = (Vec::new(), Vec::new());
    for (i, size) in sizes.iter().enumerate() {
        let padding = BLOCK_BYTES - file.len() % BLOCK_BYTES;
        starts.push(file.len() + if padding < HEADER_BYTES { padding } else { 0 });
        append(&mut file, &vec![(i % 100) as u8 + b'A'; *size]);
    }
    (file, starts)
}

/// The sizes of the records that are found, and the verdict.
fn run(file: &[u8]) -> (Vec<usize>, Verdict) {
    let mut sizes = Vec::new();
    let verdict = scan(file, |_, record| sizes.push(record.len()));
    (sizes, verdict)
}

#[test]
fn whole_files_are_whole() {
    let sizes = [0, 1, 100, BLOCK_BYTES - 7, BLOCK_BYTES, 3 * BLOCK_BYTES, 5, 0, 70_000, 20];
    let (file, starts) = file_of(&sizes);
    let mut found = Vec::new();
    assert_eq!(scan(&file, |offset, record| found.push((offset, record.len()))), Verdict::Whole);
    assert_eq!(found, starts.into_iter().zip(sizes).collect::<Vec<_>>());
    assert_eq!(run(&[]), (vec![], Verdict::Whole));
}

/// The example of LevelDB's own documentation fixes the checksum: CRC32C of "123456789" is 0xe3069283.
#[test]
fn the_checksum_is_leveldbs() {
    let of_nine = crc32c::crc32c(b"123456789");
    assert_eq!(of_nine, 0xe306_9283);
    assert_eq!(masked_checksum(b'1', b"23456789"), of_nine.rotate_right(15).wrapping_add(0xa282_ead8));
}

/// Every block layout near a boundary, cut at every byte: exactly the records before the cut are left.
#[test]
fn a_cut_file_is_torn_at_its_last_record() {
    for size in [BLOCK_BYTES - 60, BLOCK_BYTES - 38, BLOCK_BYTES - 30, BLOCK_BYTES - 24, BLOCK_BYTES] {
        let (file, starts) = file_of(&[10, size, 12, 13]);
        for cut in starts[1] + 1..file.len() {
            // In the middle of a large payload all cuts are alike.
            if (starts[1] + 100..starts[2].saturating_sub(200)).contains(&cut) {
                continue;
            }
            let (found, verdict) = run(&file[..cut]);
            let whole = starts.iter().filter(|start| **start < cut).count() - 1;
            let end = if whole + 1 < starts.len() { starts[whole + 1] } else { file.len() };
            // A cut between two records, or in the padding between them, leaves whole records only.
            if cut == end || (cut > end - HEADER_BYTES && end % BLOCK_BYTES == 0 && verdict == Verdict::Whole)
            {
                continue;
            }
            assert_eq!(found.len(), whole, "cut at {cut} of size {size}");
            assert!(
                matches!(verdict, Verdict::Torn { offset, .. } if offset == starts[whole]),
                "{cut}: {verdict:?}"
            );
        }
    }
}

/// One flipped bit anywhere: corruption unless it is in the last logical record.
#[test]
fn a_flip_is_found_wherever_it_is() {
    for sizes in [&[20, 30, 40][..], &[BLOCK_BYTES - 50, 300, 40], &[10, 70_000, 80_000]] {
        let (file, starts) = file_of(sizes);
        let last = *starts.last().expect("there are records");
        let near = |at: usize| starts.iter().any(|start| at.abs_diff(*start) < 60) || at % BLOCK_BYTES < 40;
        for at in (0..file.len()).filter(|at| near(*at)) {
            for bit in 0..8 {
                let mut bad = file.clone();
                bad[at] ^= 1 << bit;
                let (found, verdict) = run(&bad);
                match verdict {
                    Verdict::Corrupt { offset, .. } => {
                        assert!(offset <= at && at < last, "flip at {at}: {verdict:?}")
                    }
                    Verdict::Torn { offset, .. } => {
                        assert_eq!((offset, found.len()), (last, sizes.len() - 1), "flip at {at}");
                    }
                    // The padding before a boundary means nothing.
                    Verdict::Whole => assert!(at % BLOCK_BYTES > BLOCK_BYTES - HEADER_BYTES, "flip at {at}"),
                }
            }
        }
    }
}

#[test]
fn a_length_that_reaches_behind_the_end_hides_nothing() {
    let (mut file, starts) = file_of(&[20, 30, 40]);
    file[starts[1] + 5] = 0x10;
    let expected = Verdict::Corrupt { offset: starts[1], flaw: Flaw::CutShort, next: starts[2] };
    assert_eq!(run(&file), (vec![20], expected));
}

#[test]
fn zeros_at_the_end_are_torn_and_in_the_middle_corruption() {
    let (mut file, starts) = file_of(&[20, 30, 40]);
    let end = file.len();
    file.resize(2 * BLOCK_BYTES + 100, 0);
    assert_eq!(run(&file), (vec![20, 30, 40], Verdict::Torn { offset: end, flaw: Flaw::Zeroed }));
    file[starts[1]..starts[2]].fill(0);
    let corrupt = Verdict::Corrupt { offset: starts[1], flaw: Flaw::Zeroed, next: starts[2] };
    assert_eq!(run(&file), (vec![20], corrupt));

    let (mut file, starts) = file_of(&[40_000, 20_000, 50_000]);
    file[..BLOCK_BYTES].fill(0);
    let corrupt = Verdict::Corrupt { offset: 0, flaw: Flaw::Zeroed, next: starts[1] };
    assert_eq!(run(&file), (vec![], corrupt));
}

/// The parts of one unsynced write may reach the device in any order.
#[test]
fn holes_in_the_last_record_are_torn() {
    let (file, starts) = file_of(&[20, 100_000]);
    for hole in [starts[1]..BLOCK_BYTES, BLOCK_BYTES..2 * BLOCK_BYTES, 2 * BLOCK_BYTES..file.len()] {
        let mut torn = file.clone();
        torn[hole.clone()].fill(0);
        let (found, verdict) = run(&torn);
        assert_eq!(found, [20], "hole {hole:?}");
        assert!(
            matches!(verdict, Verdict::Torn { offset, .. } if offset == starts[1]),
            "{hole:?}: {verdict:?}"
        );
    }
    // The same hole with another record behind it is damage to something that was synced.
    let (mut file, starts) = file_of(&[20, 100_000, 10]);
    file[BLOCK_BYTES..2 * BLOCK_BYTES].fill(0);
    let corrupt = Verdict::Corrupt { offset: BLOCK_BYTES, flaw: Flaw::Zeroed, next: starts[2] };
    assert_eq!(run(&file), (vec![20], corrupt));
}

/// What clients store may look like a log; inside whole parts of a torn record it is not taken for one.
#[test]
fn records_inside_a_value_do_not_count() {
    let (inner, _) = file_of(&[50; 3_000]);
    let mut file = Vec::new();
    append(&mut file, b"before");
    let start = file.len();
    append(&mut file, &inner);
    let torn = &file[..file.len() - 1];
    let mut holed = file.clone();
    holed[start..BLOCK_BYTES].fill(0);
    for bad in [&holed[..], &torn[..4 * BLOCK_BYTES]] {
        let (found, verdict) = run(bad);
        assert_eq!(found, [6]);
        assert!(matches!(verdict, Verdict::Torn { offset, .. } if offset == start), "{verdict:?}");
    }
}
