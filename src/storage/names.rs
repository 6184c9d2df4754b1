//! What stores and small files may be called: the same in every engine, so that a name that works in a test works
//! on a file system.

use super::StorageError;

/// Where a data directory keeps its stores; small files lie beside it and must not be called so.
pub const STORES_DIRECTORY: &str = "stores";

/// Names longer than this are refused; far below what file systems allow.
pub const NAME_BYTES_MAX: usize = 100;

/// Names become file names: lower-case letters, digits, dots and dashes, not beginning with a dot.
fn check_name(what: &str, name: &str) -> Result<(), StorageError> {
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-');
    if !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && !name.starts_with('.')
        && name.bytes().all(allowed)
        && name != STORES_DIRECTORY
    {
        return Ok(());
    }
    Err(StorageError::Io {
        action: format!("using {name:?} as the name of a {what}"),
        reason: format!(
            "a name has 1 to {NAME_BYTES_MAX} characters of a-z, 0-9, '.' and '-', does not begin with '.', and is \
             not {STORES_DIRECTORY:?}"
        ),
    })
}

/// Refuses what cannot be the name of a store, in every engine alike.
pub fn check_store_name(name: &str) -> Result<(), StorageError> {
    check_name("store", name)
}

/// Refuses what cannot be the name of a small file, in every engine alike.
pub fn check_file_name(name: &str) -> Result<(), StorageError> {
    check_name("file", name)
}
