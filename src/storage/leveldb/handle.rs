//! A safe wrapper over LevelDB's C interface: the only place that calls it.
//!
//! Invariants: every pointer has one owner, whose `Drop` releases it; a snapshot keeps its database alive; cache and
//! filter outlive the database that was opened with them. Errors come back as LevelDB's own words, and
//! `super::error` gives them a type. LevelDB's options are fixed here: paranoid checks, verified checksums, and
//! every write synced.

use std::any::Any;
use std::ffi::{CStr, CString, c_char};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::ptr::{NonNull, null_mut};
use std::sync::{Arc, Once};

use leveldb_sys as sys;

use crate::view::{KeyRange, PageLimit, Pair};

/// Blocks of tables kept in memory, per store.
pub const BLOCK_CACHE_BYTES: usize = 8 << 20;

/// Bits per key of the bloom filter: about one needless table read in a hundred.
pub const BLOOM_BITS_PER_KEY: i32 = 10;

/// A memtable of this size is written out as a table and its log dropped; it bounds what a restart replays.
pub const WRITE_BUFFER_BYTES: usize = 16 << 20;

unsafe extern "C" {
    /// `leveldb::EnvPosixTestHelper::SetReadOnlyMMapLimit(int)`, for which the C interface has no name.
    #[link_name = "_ZN7leveldb18EnvPosixTestHelper20SetReadOnlyMMapLimitEi"]
    fn set_read_only_mmap_limit(limit: std::ffi::c_int);
}

/// Lets LevelDB read tables instead of mapping them: what a scan has touched would count as our memory, and a page
/// that the device does not deliver would end the process with SIGBUS instead of failing a read.
fn read_tables_by_calls() {
    static ONCE: Once = Once::new();
    // SAFETY: sets a number that LevelDB looks at when its environment is made, at the first open; we come before.
    ONCE.call_once(|| unsafe { set_read_only_mmap_limit(0) });
}

/// LevelDB's own words.
pub type Message = String;

/// An open LevelDB. Reads may run on any thread, beside one writer.
pub struct Database {
    db: NonNull<sys::leveldb_t>,
    /// Released after the database, for which LevelDB only borrows them.
    _borrowed: (Cache, Filter),
    /// Whatever must not be released before the database is closed: the directory's lock.
    _keep: Arc<dyn Any + Send + Sync>,
}

// SAFETY: `leveldb_t` is documented as safe for use by several threads without external synchronisation; cache and
// filter are only touched by LevelDB, which locks them itself, and by Drop.
unsafe impl Send for Database {}
// SAFETY: as above.
unsafe impl Sync for Database {}

impl Database {
    /// Opens the database in the directory `path`; with `create`, makes it if it is not there. `keep` is released
    /// once it is closed.
    pub fn open(path: &Path, create: bool, keep: Arc<dyn Any + Send + Sync>) -> Result<Self, Message> {
        let name =
            CString::new(path.as_os_str().as_bytes()).map_err(|_| "the path has a zero byte".to_string())?;
        read_tables_by_calls();
        let (options, cache, filter) = (Options::new(), Cache::new(), Filter::new());
        // SAFETY: `options`, `cache` and `filter` are live; the database borrows the latter two and is closed before
        // they are released (see Drop and the order of fields).
        unsafe {
            sys::leveldb_options_set_create_if_missing(options.0, create.into());
            sys::leveldb_options_set_paranoid_checks(options.0, 1);
            sys::leveldb_options_set_write_buffer_size(options.0, WRITE_BUFFER_BYTES);
            sys::leveldb_options_set_compression(options.0, sys::Compression::No);
            sys::leveldb_options_set_cache(options.0, cache.0);
            sys::leveldb_options_set_filter_policy(options.0, filter.0);
        }
        // SAFETY: `options` and `name` live through the call; the error pointer is a null that LevelDB may set.
        let db = checked(|error| unsafe { sys::leveldb_open(options.0, name.as_ptr(), error) })?;
        let db = NonNull::new(db).ok_or_else(|| "LevelDB opened nothing and gave no reason".to_string())?;
        Ok(Self { db, _borrowed: (cache, filter), _keep: keep })
    }

    /// Writes all of `batch` atomically and synced.
    pub fn write_synced(&self, batch: &mut WriteBatch) -> Result<(), Message> {
        let options = WriteOptions::synced();
        // SAFETY: database, options and batch are live; LevelDB sets the batch's sequence number, and we have it alone.
        checked(|error| unsafe { sys::leveldb_write(self.db.as_ptr(), options.0, batch.0, error) })
    }

    /// The value of `key`.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Message> {
        self.get_at(key, None)
    }

    /// The first pairs of `range` within `limit`.
    pub fn page(&self, range: &KeyRange, limit: PageLimit) -> Result<Vec<Pair>, Message> {
        self.page_at(range, limit, None)
    }

    /// A snapshot must be one of this database: private, because nothing checks it.
    fn get_at(&self, key: &[u8], snapshot: Option<&Snapshot>) -> Result<Option<Vec<u8>>, Message> {
        let options = ReadOptions::verified(snapshot);
        let mut length = 0;
        // SAFETY: database and options are live, `key` is readable for its length, `length` is writable.
        let value = checked(|error| unsafe {
            sys::leveldb_get(
                self.db.as_ptr(),
                options.options,
                key.as_ptr().cast(),
                key.len(),
                &raw mut length,
                error,
            )
        })?;
        // Null is a missing key. An empty value is `malloc(0)`, which the supported C libraries (glibc, musl, macOS)
        // answer with a unique pointer.
        let Some(value) = NonNull::new(value) else { return Ok(None) };
        // SAFETY: LevelDB returned `length` bytes at `value`, which are ours until freed.
        let copy = unsafe { std::slice::from_raw_parts(value.as_ptr().cast::<u8>(), length) }.to_vec();
        // SAFETY: the value was allocated by LevelDB for us and is not used after this.
        unsafe { sys::leveldb_free(value.as_ptr().cast()) };
        Ok(Some(copy))
    }

    /// As above.
    fn page_at(
        &self,
        range: &KeyRange,
        limit: PageLimit,
        snapshot: Option<&Snapshot>,
    ) -> Result<Vec<Pair>, Message> {
        let mut iterator = Iterator::new(self, snapshot);
        let (mut page, mut bytes) = (Vec::new(), 0);
        iterator.seek(&range.start);
        while let Some((key, value)) = iterator.current() {
            if range.end.as_ref().is_some_and(|end| key >= &end[..]) || !limit.has_room(page.len(), bytes) {
                break;
            }
            bytes += key.len() + value.len();
            page.push((key.to_vec(), value.to_vec()));
            iterator.next();
        }
        // A damaged block ends an iteration as if there were no more keys; only the error tells.
        iterator.error().map(|()| page)
    }

    /// Freezes what is there now.
    pub fn snapshot(self: &Arc<Self>) -> Snapshot {
        // SAFETY: the database is live, and the snapshot keeps it so.
        let snapshot = unsafe { sys::leveldb_create_snapshot(self.db.as_ptr()) };
        Snapshot { snapshot, database: self.clone() }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // SAFETY: we own the database and every snapshot and iterator is gone: they hold an Arc of it or borrow it.
        unsafe { sys::leveldb_close(self.db.as_ptr()) };
    }
}

/// A frozen view of a database, which it keeps open.
pub struct Snapshot {
    snapshot: *mut sys::leveldb_snapshot_t,
    database: Arc<Database>,
}

// SAFETY: a LevelDB snapshot is immutable and only read under LevelDB's own lock.
unsafe impl Send for Snapshot {}
// SAFETY: as above.
unsafe impl Sync for Snapshot {}

impl Snapshot {
    /// The value that `key` had.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Message> {
        self.database.get_at(key, Some(self))
    }

    /// The first pairs that `range` had, within `limit`.
    pub fn page(&self, range: &KeyRange, limit: PageLimit) -> Result<Vec<Pair>, Message> {
        self.database.page_at(range, limit, Some(self))
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        // SAFETY: the snapshot is of this database, which is still open, and is released once.
        unsafe { sys::leveldb_release_snapshot(self.database.db.as_ptr(), self.snapshot) };
    }
}

/// Writes that LevelDB applies together.
pub struct WriteBatch(*mut sys::leveldb_writebatch_t);

impl WriteBatch {
    /// An empty batch.
    pub fn new() -> Self {
        // SAFETY: no preconditions.
        Self(unsafe { sys::leveldb_writebatch_create() })
    }

    /// Adds a put, or a delete if there is no value.
    pub fn add(&mut self, key: &[u8], value: Option<&[u8]>) {
        let (key, key_length) = (key.as_ptr().cast(), key.len());
        match value {
            // SAFETY: the batch is live; LevelDB copies key and value, readable for their lengths.
            Some(value) => unsafe {
                sys::leveldb_writebatch_put(self.0, key, key_length, value.as_ptr().cast(), value.len());
            },
            // SAFETY: as above.
            None => unsafe { sys::leveldb_writebatch_delete(self.0, key, key_length) },
        }
    }
}

impl Drop for WriteBatch {
    fn drop(&mut self) {
        // SAFETY: we own the batch.
        unsafe { sys::leveldb_writebatch_destroy(self.0) };
    }
}

/// A cursor over a database, which it borrows.
struct Iterator<'a> {
    iterator: *mut sys::leveldb_iterator_t,
    /// Held because the iterator was made with them.
    _options: ReadOptions<'a>,
    _database: &'a Database,
}

impl<'a> Iterator<'a> {
    fn new(database: &'a Database, snapshot: Option<&'a Snapshot>) -> Self {
        let options = ReadOptions::verified(snapshot);
        // SAFETY: database and options are live and outlive the iterator.
        let iterator = unsafe { sys::leveldb_create_iterator(database.db.as_ptr(), options.options) };
        Self { iterator, _options: options, _database: database }
    }

    fn seek(&mut self, key: &[u8]) {
        // SAFETY: the iterator is live; `key` is readable for its length.
        unsafe { sys::leveldb_iter_seek(self.iterator, key.as_ptr().cast(), key.len()) };
    }

    fn next(&mut self) {
        // SAFETY: the iterator is live; callers move it only while `current` is some pair, as LevelDB demands.
        unsafe { sys::leveldb_iter_next(self.iterator) };
    }

    /// Where the cursor is; `None` at the end or on an error.
    fn current(&self) -> Option<(&[u8], &[u8])> {
        let (mut key_length, mut value_length) = (0_usize, 0_usize);
        // SAFETY: the iterator is live and key and value are asked for only if it is valid; they stay readable until
        // it moves, which needs `&mut self`. The lengths are out parameters, though the binding says `*const`: it
        // gets pointers that were made from mutable places.
        unsafe {
            if sys::leveldb_iter_valid(self.iterator) == 0 {
                return None;
            }
            let key = sys::leveldb_iter_key(self.iterator, (&raw mut key_length).cast_const());
            let value = sys::leveldb_iter_value(self.iterator, (&raw mut value_length).cast_const());
            Some((bytes(key, key_length), bytes(value, value_length)))
        }
    }

    fn error(&self) -> Result<(), Message> {
        // SAFETY: the iterator is live; the error pointer is an out parameter, though the binding says `*const`.
        checked(|error| unsafe { sys::leveldb_iter_get_error(self.iterator, error.cast_const().cast()) })
    }
}

impl Drop for Iterator<'_> {
    fn drop(&mut self) {
        // SAFETY: we own the iterator, and its database is still open.
        unsafe { sys::leveldb_iter_destroy(self.iterator) };
    }
}

/// # Safety
/// `data` must be readable for `length` bytes as long as the result is used, or `length` be 0.
unsafe fn bytes<'a>(data: *const c_char, length: usize) -> &'a [u8] {
    if length == 0 {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(data.cast(), length) }
}

/// Runs a call that reports failure through an error pointer, and takes over the message.
fn checked<T>(call: impl FnOnce(*mut *mut c_char) -> T) -> Result<T, Message> {
    let mut error = null_mut();
    let value = call(&raw mut error);
    let Some(error) = NonNull::new(error) else { return Ok(value) };
    // SAFETY: LevelDB set the pointer to a string that it allocated for us, ended by a zero byte.
    let message = unsafe { CStr::from_ptr(error.as_ptr()) }.to_string_lossy().into_owned();
    // SAFETY: the message was allocated by LevelDB for us and is not used after this.
    unsafe { sys::leveldb_free(error.as_ptr().cast()) };
    Err(message)
}

/// How a database is opened.
struct Options(*mut sys::leveldb_options_t);

impl Options {
    fn new() -> Self {
        // SAFETY: no preconditions.
        Self(unsafe { sys::leveldb_options_create() })
    }
}

impl Drop for Options {
    fn drop(&mut self) {
        // SAFETY: we own the options; LevelDB copied what it needs when it opened.
        unsafe { sys::leveldb_options_destroy(self.0) };
    }
}

/// How a write is made.
struct WriteOptions(*mut sys::leveldb_writeoptions_t);

impl WriteOptions {
    fn synced() -> Self {
        // SAFETY: no preconditions; the options just made are live.
        unsafe {
            let options = sys::leveldb_writeoptions_create();
            sys::leveldb_writeoptions_set_sync(options, 1);
            Self(options)
        }
    }
}

impl Drop for WriteOptions {
    fn drop(&mut self) {
        // SAFETY: we own the options.
        unsafe { sys::leveldb_writeoptions_destroy(self.0) };
    }
}

/// How a read is made; borrows the snapshot that it names.
struct ReadOptions<'a> {
    options: *mut sys::leveldb_readoptions_t,
    _snapshot: Option<&'a Snapshot>,
}

impl<'a> ReadOptions<'a> {
    fn verified(snapshot: Option<&'a Snapshot>) -> Self {
        // SAFETY: no preconditions; the options just made are live, and so is the snapshot while they are.
        unsafe {
            let options = sys::leveldb_readoptions_create();
            sys::leveldb_readoptions_set_verify_checksums(options, 1);
            if let Some(snapshot) = snapshot {
                sys::leveldb_readoptions_set_snapshot(options, snapshot.snapshot);
            }
            Self { options, _snapshot: snapshot }
        }
    }
}

impl Drop for ReadOptions<'_> {
    fn drop(&mut self) {
        // SAFETY: we own the options; an iterator made with them is destroyed first (its Drop, then its fields).
        unsafe { sys::leveldb_readoptions_destroy(self.options) };
    }
}

/// A block cache.
struct Cache(*mut sys::leveldb_cache_t);

impl Cache {
    fn new() -> Self {
        // SAFETY: no preconditions.
        Self(unsafe { sys::leveldb_cache_create_lru(BLOCK_CACHE_BYTES) })
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        // SAFETY: we own the cache, and the database that used it is closed or was never opened.
        unsafe { sys::leveldb_cache_destroy(self.0) };
    }
}

/// A bloom filter policy.
struct Filter(*mut sys::leveldb_filterpolicy_t);

impl Filter {
    fn new() -> Self {
        // SAFETY: no preconditions.
        Self(unsafe { sys::leveldb_filterpolicy_create_bloom(BLOOM_BITS_PER_KEY) })
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        // SAFETY: we own the policy, and the database that used it is closed or was never opened.
        unsafe { sys::leveldb_filterpolicy_destroy(self.0) };
    }
}
