//! The engine on a real file system.

use tempfile::TempDir;

use super::*;
use crate::storage::Volume;
use crate::storage::suite::{self, End, Harness};

/// A volume in a temporary directory. A process death is staged by closing everything, which is what is left of it
/// on a file system: every completed write is already synced. Power losses need a device of their own.
struct Real {
    directory: TempDir,
}

impl Real {
    fn new() -> Self {
        Self { directory: TempDir::new().expect("a temporary directory") }
    }

    fn open(&self) -> Arc<dyn Volume> {
        Arc::new(LevelDbVolume::open(self.directory.path()).expect("the volume opens"))
    }
}

impl Harness for Real {
    async fn fresh(&mut self) -> Arc<dyn Volume> {
        *self = Self::new();
        self.open()
    }

    async fn reopen(&mut self, volume: Arc<dyn Volume>, end: End) -> Option<Arc<dyn Volume>> {
        drop(volume);
        (end == End::ProcessDeath).then(|| self.open())
    }
}

#[tokio::test]
async fn conforms() {
    suite::run_all(&mut Real::new()).await;
}

#[tokio::test]
async fn agrees_with_the_model() {
    for seed in 0..4 {
        suite::model::check(&mut Real::new(), seed, 150, &[End::ProcessDeath]).await;
    }
}
