//! What a loss of power may leave, on made-up records.

use std::collections::BTreeSet;

use eraft::random::Draws;

use super::super::records::Script;
use super::*;

const FILE: i32 = 5;
const DIRECTORY: i32 = 6;

fn tree(files: &[(&str, &str)]) -> Tree {
    files.iter().map(|(path, content)| (path.into(), Some(content.as_bytes().to_vec()))).collect()
}

/// All that may be left, over many draws.
fn outcomes(before: &Tree, script: &Script) -> BTreeSet<Tree> {
    let mut disk = Disk::new(Path::new("/d"), before);
    script.records.iter().for_each(|record| disk.replay(record));
    let mut site = Draws::new(1, "disk").site("test", 0);
    (0..200).map(|_| disk.after_power_loss(&mut site.next())).collect()
}

fn expect(before: &[(&str, &str)], script: &Script, all: &[&[(&str, &str)]]) {
    let all: BTreeSet<Tree> = all.iter().map(|files| tree(files)).collect();
    assert_eq!(outcomes(&tree(before), script), all);
}

#[test]
fn synced_bytes_stay_and_others_go_in_part() {
    let mut script = Script::default();
    script.open_directory(FILE, "/d/a");
    script.write(FILE, 1, b"23");
    expect(
        &[("/d/a", "1")],
        &script,
        &[&[("/d/a", "1")], &[("/d/a", "1\0\0")], &[("/d/a", "12")], &[("/d/a", "12\0")], &[("/d/a", "123")]],
    );
    script.sync(FILE);
    expect(&[("/d/a", "1")], &script, &[&[("/d/a", "123")]]);
}

#[test]
fn a_sync_that_began_before_the_write_or_failed_keeps_nothing() {
    let mut script = Script::default();
    script.open_directory(FILE, "/d/a");
    let written_ns = script.write(FILE, 0, b"1");
    script.long_call(written_ns - 1, Call::sync(FILE, 0));
    script.call(Call::sync(FILE, libc::EIO));
    expect(&[("/d/a", "")], &script, &[&[("/d/a", "")], &[("/d/a", "\0")], &[("/d/a", "1")]]);
}

#[test]
fn a_new_name_stays_only_with_its_directory() {
    let mut script = Script::default();
    script.open(FILE, "/d/a");
    script.write(FILE, 0, b"1");
    script.sync(FILE);
    expect(&[], &script, &[&[], &[("/d/a", "1")]]);
    script.open_directory(DIRECTORY, "/d");
    script.sync(DIRECTORY);
    expect(&[], &script, &[&[("/d/a", "1")]]);
}

#[test]
fn changes_to_one_directory_keep_their_order() {
    let mut script = Script::default();
    script.call(Call::Rename { from: "/d/new".into(), to: "/d/current".into() });
    script.call(Call::Unlink { path: "/d/old".into() });
    let (new, old) = (("/d/new", "2"), ("/d/old", "1"));
    expect(
        &[("/d/current", "1"), new, old],
        &script,
        &[&[("/d/current", "1"), new, old], &[("/d/current", "2"), old], &[("/d/current", "2")]],
    );
}

#[test]
fn a_truncation_may_be_undone_until_it_is_synced() {
    let mut script = Script::default();
    script.open_directory(FILE, "/d/a");
    script.call(Call::Truncate { descriptor: FILE, length: 1 });
    expect(&[("/d/a", "123")], &script, &[&[("/d/a", "123")], &[("/d/a", "1")]]);
    script.sync(FILE);
    expect(&[("/d/a", "123")], &script, &[&[("/d/a", "1")]]);
}

#[test]
fn a_directory_that_was_removed_may_come_back_in_part() {
    let mut script = Script::default();
    script.call(Call::MakeDirectory { path: "/d/s".into() });
    script.open(FILE, "/d/s/a");
    script.call(Call::Rename { from: "/d/s".into(), to: "/d/t".into() });
    script.call(Call::Unlink { path: "/d/t/a".into() });
    script.call(Call::RemoveDirectory { path: "/d/t".into() });
    let mut all = vec![Tree::new()];
    for name in ["/d/s", "/d/t"] {
        let empty = Tree::from([(PathBuf::from(name), None)]);
        let mut full = empty.clone();
        full.insert(Path::new(name).join("a"), Some(Vec::new()));
        all.extend([empty, full]);
    }
    assert_eq!(outcomes(&Tree::new(), &script), all.into_iter().collect());
}
