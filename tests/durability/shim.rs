//! Compiles the shim and tells a process to load it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

use super::records::SyncCall;

/// The source.
const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/shim/shim.c");

/// The shared object; compiled once, in a directory that lives as long as the tests.
fn shared_object() -> &'static Path {
    static BUILT: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = BUILT.get_or_init(|| {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("shim.so");
        let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
        let mut command = Command::new(&compiler);
        command.args(["-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o"]);
        command.arg(&path).arg(SOURCE).args(["-ldl", "-lpthread"]);
        let output = command.output().unwrap_or_else(|error| {
            panic!("these tests need a C compiler: {compiler}: {error}; install one, or name it in CC")
        });
        assert!(output.status.success(), "{compiler}: {}", String::from_utf8_lossy(&output.stderr));
        (directory, path)
    });
    path
}

/// What one process is told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Orders {
    /// Which call fails, and the how many-th one.
    pub fail: Option<(SyncCall, u64)>,
}

/// Lets `command` record what it does below `directory` into `log`. If the file [`fail_file`] of that log appears,
/// the next fdatasync of a path that contains its text fails.
pub fn load(command: &mut Command, directory: &Path, log: &Path, orders: &Orders) {
    command.env("LD_PRELOAD", shared_object()).env("ERAFT_SHIM_DIR", directory);
    command.env("ERAFT_SHIM_LOG", log).env("ERAFT_SHIM_FAIL_FILE", fail_file(log));
    if let Some((call, number)) = orders.fail {
        let name = match call {
            SyncCall::Fdatasync => "ERAFT_SHIM_FAIL_FDATASYNC_AFTER",
            SyncCall::Fsync => "ERAFT_SHIM_FAIL_FSYNC_AFTER",
        };
        command.env(name, number.to_string());
    }
}

/// See [`load`].
pub fn fail_file(log: &Path) -> PathBuf {
    log.with_extension("fail")
}
