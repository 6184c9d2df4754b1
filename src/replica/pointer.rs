//! The small file that names the store of the state, and says how far that store is to be trusted.
//!
//! A state store that is damaged is wiped, and a snapshot takes its place; log and vote stay. Damage in the middle of a
//! store is only found when it is read, and an error of reading may pass. So a replica whose state cannot be read marks
//! the store as suspect and ends; the next start verifies the whole store, and wipes it if it is bad.

use super::ReplicaError;
use crate::storage::{StorageError, Volume};

/// The file's name.
const POINTER_FILE: &str = "state";

/// How far a state store is to be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// As far as what is read matches its checksums.
    Whole,
    /// Something could not be read; it is verified before it is used again.
    Suspect,
    /// It began empty in place of a bad one: the log may begin after it ends.
    Rebuilding,
}

/// Which store holds the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StatePointer {
    pub number: u64,
    pub trust: Trust,
}

impl StatePointer {
    /// To store `number`, which is whole.
    pub fn whole(number: u64) -> Self {
        Self { number, trust: Trust::Whole }
    }

    /// What the file in `volume` says; without one, the first store.
    pub async fn read(volume: &dyn Volume) -> Result<Self, ReplicaError> {
        match volume.read_file(POINTER_FILE).await? {
            None => Ok(Self::whole(0)),
            Some(bytes) => Self::parse(&bytes).ok_or_else(|| {
                let found = bytes.escape_ascii();
                ReplicaError::Inconsistent(format!("the state pointer says \"{found}\""))
            }),
        }
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (name, trust) = match text.split_once(' ') {
            None => (text, Trust::Whole),
            Some((name, "suspect")) => (name, Trust::Suspect),
            Some((name, "rebuilding")) => (name, Trust::Rebuilding),
            Some(_) => return None,
        };
        Some(Self { number: store_number(name)?, trust })
    }

    /// Replaces the file, durably.
    pub async fn write(self, volume: &dyn Volume) -> Result<(), StorageError> {
        let word = match self.trust {
            Trust::Whole => "",
            Trust::Suspect => " suspect",
            Trust::Rebuilding => " rebuilding",
        };
        let text = self.store() + word;
        volume.replace_file(POINTER_FILE, text.into_bytes()).await
    }

    /// The name of the store.
    pub fn store(self) -> String {
        store_name(self.number)
    }
}

/// The name of the `number`-th state store.
pub(super) fn store_name(number: u64) -> String {
    format!("state.{number}")
}

/// The number in the name of a state store.
pub(super) fn store_number(name: &str) -> Option<u64> {
    name.strip_prefix("state.")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::memory::MemoryVolume;

    #[tokio::test]
    async fn a_pointer_reads_back_as_it_was_written_and_nonsense_is_refused() {
        let volume = MemoryVolume::default();
        assert_eq!(StatePointer::read(&volume).await.unwrap(), StatePointer::whole(0));
        for trust in [Trust::Whole, Trust::Suspect, Trust::Rebuilding] {
            let pointer = StatePointer { number: 7, trust };
            pointer.write(&volume).await.unwrap();
            assert_eq!(StatePointer::read(&volume).await.unwrap(), pointer);
        }
        for nonsense in ["", "state", "state.x", "state.3 lost", "\u{e4}"] {
            volume.replace_file(POINTER_FILE, nonsense.into()).await.unwrap();
            assert!(StatePointer::read(&volume).await.is_err(), "{nonsense:?}");
        }
    }
}
