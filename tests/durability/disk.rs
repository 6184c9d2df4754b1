//! A model of the disk under one node: what a loss of power may leave of what the shim recorded.
//!
//! What it takes for granted, and no more:
//! - A file keeps what was written before a successful fsync or fdatasync of it *began*. Of what was appended since,
//!   any prefix is left, perhaps with zeros behind it up to the length that the file had.
//! - A directory keeps the names that it had when a successful sync of the directory began. Of what was done to its
//!   names since, any prefix is left: changes to one directory keep their order, as on every journalling file system,
//!   so a name that was changed and then removed is not found unchanged. Each directory has a prefix of its own.
//!   A sync of a file does not keep the file's name.
//! - A file that was cut or truncated may have its old content back until it is synced.
//!
//! What it does not model: files that are written through stdio (LevelDB's LOG, which nobody reads), sectors that
//! are torn inside a prefix, and what a device does that acknowledges a flush without doing it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use eraft::random::Draw;

use super::records::{Call, Record};

/// Files with their content, and directories (`None`), by path; the root itself is not in it.
pub type Tree = BTreeMap<PathBuf, Option<Vec<u8>>>;

/// Reads what is below `root`.
pub fn read_tree(root: &Path) -> Tree {
    let mut tree = Tree::new();
    for entry in fs::read_dir(root).unwrap_or_else(|error| panic!("{}: {error}", root.display())) {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            tree.append(&mut read_tree(&path));
            tree.insert(path, None);
        } else {
            let content = fs::read(&path).expect("a readable file");
            tree.insert(path, Some(content));
        }
    }
    tree
}

/// Replaces what is below `root` by `tree`.
pub fn write_tree(root: &Path, tree: &Tree) {
    fs::remove_dir_all(root).expect("the old tree goes");
    fs::create_dir(root).expect("a directory");
    for (path, content) in tree {
        match content {
            None => fs::create_dir(path).expect("a directory"),
            Some(content) => fs::write(path, content).expect("a file"),
        }
    }
}

type Names = BTreeMap<String, usize>;

/// Objects are never removed from the model: their names may come back.
enum Object {
    File(File),
    Directory(Directory),
}

#[derive(Default)]
struct File {
    content: Vec<u8>,
    /// This much of `content` is durable.
    synced_bytes: usize,
    /// Ends and times of the appends since.
    appends: Vec<(usize, u64)>,
    /// The durable content before a truncation that is not durable yet, and when that was.
    before: Option<(Vec<u8>, u64)>,
}

/// The names as they were at the last sync, and each state since then with its time.
struct Directory {
    states: Vec<(u64, Names)>,
}

/// The disk, as far as the records go.
pub struct Disk {
    root: PathBuf,
    objects: Vec<Object>,
    open: BTreeMap<i32, usize>,
}

impl Disk {
    /// A disk on which everything in `tree`, below `root`, is durable.
    pub fn new(root: &Path, tree: &Tree) -> Self {
        let mut disk = Self { root: root.to_path_buf(), objects: Vec::new(), open: BTreeMap::new() };
        disk.add_directory();
        for (path, content) in tree {
            let object = match content {
                None => disk.add_directory(),
                Some(content) => {
                    let file =
                        File { synced_bytes: content.len(), content: content.clone(), ..File::default() };
                    disk.add(Object::File(file))
                }
            };
            let (parent, name) = disk.place(path).expect("parents come before what is in them");
            disk.names_mut(parent).insert(name, object);
        }
        disk
    }

    fn add(&mut self, object: Object) -> usize {
        self.objects.push(object);
        self.objects.len() - 1
    }

    fn add_directory(&mut self) -> usize {
        self.add(Object::Directory(Directory { states: vec![(0, Names::new())] }))
    }

    fn directory(&self, object: usize) -> &Directory {
        match &self.objects[object] {
            Object::Directory(directory) => directory,
            Object::File(_) => panic!("a file is used as a directory"),
        }
    }

    /// The newest names in a directory, to be changed without a trace.
    fn names_mut(&mut self, object: usize) -> &mut Names {
        match &mut self.objects[object] {
            Object::Directory(directory) => &mut directory.states.last_mut().expect("never empty").1,
            Object::File(_) => panic!("a file is used as a directory"),
        }
    }

    fn names(&self, object: usize) -> &Names {
        &self.directory(object).states.last().expect("never empty").1
    }

    /// The object at `path`, by the newest names.
    fn find(&self, path: &Path) -> Option<usize> {
        let mut object = 0;
        for name in path.strip_prefix(&self.root).ok()? {
            object = *self.names(object).get(name.to_str()?)?;
        }
        Some(object)
    }

    /// The directory that holds the name of `path`, and that name.
    fn place(&self, path: &Path) -> Option<(usize, String)> {
        Some((self.find(path.parent()?)?, path.file_name()?.to_str()?.to_owned()))
    }

    /// Changes the names in a directory at `time_ns`.
    fn change(&mut self, directory: usize, time_ns: u64, change: impl FnOnce(&mut Names) -> Option<usize>) {
        let mut names = self.names(directory).clone();
        change(&mut names);
        if let Object::Directory(directory) = &mut self.objects[directory] {
            directory.states.push((time_ns, names));
        }
    }

    /// The process has ended; what it wrote is still there, as durable as before.
    pub fn close_all(&mut self) {
        self.open.clear();
    }

    /// Takes over one record.
    pub fn replay(&mut self, record: &Record) {
        let Record { begin_ns, end_ns, call } = record;
        match call {
            Call::Open { descriptor, path, creates, truncates } => {
                self.opened(*descriptor, path, *creates, *truncates, *end_ns);
            }
            Call::Close { descriptor } => {
                self.open.remove(descriptor);
            }
            Call::Write { descriptor, offset, data, error: 0 } => {
                if let Some(Object::File(file)) = self.opened_mut(*descriptor) {
                    let length = file.content.len();
                    assert_eq!(*offset as usize, length, "the model knows appends only");
                    file.content.extend_from_slice(data);
                    file.appends.push((file.content.len(), *end_ns));
                }
            }
            Call::Truncate { descriptor, length } => {
                if let Some(Object::File(file)) = self.opened_mut(*descriptor) {
                    file.truncate(*length as usize, *end_ns);
                }
            }
            Call::Sync { descriptor, error: 0, .. } => match self.opened_mut(*descriptor) {
                Some(Object::File(file)) => file.synced(*begin_ns),
                Some(Object::Directory(directory)) => directory.synced(*begin_ns),
                None => {}
            },
            Call::Write { .. } | Call::Sync { .. } => {}
            Call::Rename { from, to } => self.rename(from, to, *end_ns),
            Call::Unlink { path } | Call::RemoveDirectory { path } => {
                if let Some((parent, name)) = self.place(path) {
                    self.change(parent, *end_ns, |names| names.remove(&name));
                }
            }
            Call::MakeDirectory { path } => {
                let object = self.add_directory();
                if let Some((parent, name)) = self.place(path) {
                    self.change(parent, *end_ns, |names| names.insert(name, object));
                }
            }
        }
    }

    fn opened_mut(&mut self, descriptor: i32) -> Option<&mut Object> {
        self.open.get(&descriptor).map(|object| &mut self.objects[*object])
    }

    fn opened(&mut self, descriptor: i32, path: &Path, creates: bool, truncates: bool, time_ns: u64) {
        let object = match self.find(path) {
            Some(object) => object,
            None if creates => {
                let object = self.add(Object::File(File::default()));
                let (parent, name) = self.place(path).expect("a file is made in a directory");
                self.change(parent, time_ns, |names| names.insert(name, object));
                object
            }
            // A file that was made through stdio.
            None => {
                self.open.remove(&descriptor);
                return;
            }
        };
        if let (true, Object::File(file)) = (truncates, &mut self.objects[object]) {
            file.truncate(0, time_ns);
        }
        self.open.insert(descriptor, object);
    }

    fn rename(&mut self, from: &Path, to: &Path, time_ns: u64) {
        let (Some(object), Some((source, old)), Some((target, new))) =
            (self.find(from), self.place(from), self.place(to))
        else {
            return; // a file that was made through stdio
        };
        assert_eq!(source, target, "the model knows renames within one directory only");
        self.change(source, time_ns, |names| {
            names.remove(&old);
            names.insert(new, object)
        });
    }

    /// What a process would find now.
    pub fn now(&self) -> Tree {
        self.tree(|directory| directory.states.len() - 1, |file| file.content.clone())
    }

    /// What a loss of power leaves at least.
    pub fn durable(&self) -> Tree {
        self.tree(|_| 0, |file| file.content[..file.synced_bytes].to_vec())
    }

    /// What a loss of power leaves, by one draw: in half of all files and directories exactly what is durable.
    pub fn after_power_loss(&self, draw: &mut Draw) -> Tree {
        let draw = std::cell::RefCell::new(draw);
        self.tree(
            |directory| {
                let mut draw = draw.borrow_mut();
                if draw.chance(0.5) { 0 } else { draw.below(directory.states.len() as u64) as usize }
            },
            |file| file.after_power_loss(&mut draw.borrow_mut()),
        )
    }

    fn tree(&self, state: impl Fn(&Directory) -> usize, content: impl Fn(&File) -> Vec<u8>) -> Tree {
        let mut tree = Tree::new();
        let mut left = vec![(self.root.clone(), 0)];
        while let Some((path, object)) = left.pop() {
            match &self.objects[object] {
                Object::File(file) => drop(tree.insert(path, Some(content(file)))),
                Object::Directory(directory) => {
                    let names = &directory.states[state(directory)].1;
                    left.extend(names.iter().map(|(name, object)| (path.join(name), *object)));
                    if object != 0 {
                        tree.insert(path, None);
                    }
                }
            }
        }
        tree
    }
}

impl File {
    fn truncate(&mut self, length: usize, time_ns: u64) {
        if length < self.synced_bytes && self.before.is_none() {
            self.before = Some((self.content[..self.synced_bytes].to_vec(), time_ns));
        }
        self.content.resize(length, 0);
        self.synced_bytes = self.synced_bytes.min(length);
        self.appends.retain(|(end, _)| *end <= length);
    }

    fn synced(&mut self, begin_ns: u64) {
        if self.before.as_ref().is_some_and(|(_, time_ns)| *time_ns <= begin_ns) {
            self.before = None;
        }
        let covered = self.appends.iter().take_while(|(_, time_ns)| *time_ns <= begin_ns).count();
        if let Some((end, _)) = self.appends.drain(..covered).next_back() {
            self.synced_bytes = end;
        }
    }

    fn after_power_loss(&self, draw: &mut Draw) -> Vec<u8> {
        if let Some((before, _)) = &self.before
            && draw.chance(0.5)
        {
            return before.clone();
        }
        let unsynced = (self.content.len() - self.synced_bytes) as u64;
        let kept = if draw.chance(0.5) { 0 } else { draw.between(0, unsynced) };
        let mut content = self.content[..self.synced_bytes + kept as usize].to_vec();
        if draw.chance(0.25) {
            content.resize(self.content.len(), 0);
        }
        content
    }
}

impl Directory {
    fn synced(&mut self, begin_ns: u64) {
        let covered = self.states.iter().take_while(|(time_ns, _)| *time_ns <= begin_ns).count();
        self.states.drain(..covered - 1);
    }
}

#[cfg(test)]
mod tests {
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
            &[
                &[("/d/a", "1")],
                &[("/d/a", "1\0\0")],
                &[("/d/a", "12")],
                &[("/d/a", "12\0")],
                &[("/d/a", "123")],
            ],
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
}
