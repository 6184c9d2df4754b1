//! Whether a replica leads, for work that only its leader does.
//!
//! It is a hint: another replica may lead already, in a later term. Work that goes by it must be right if two do it.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

use crate::types::Term;

/// See the module.
#[derive(Debug, Default)]
pub struct Leadership {
    /// The term in which the replica leads; 0: it does not.
    term: AtomicU64,
    changed: Notify,
}

impl Leadership {
    /// The term in which the replica leads, if it does.
    pub fn term(&self) -> Option<Term> {
        Some(Term(self.term.load(Ordering::Acquire))).filter(|term| *term != Term(0))
    }

    pub(super) fn set(&self, term: Option<Term>) {
        let term = term.unwrap_or(Term(0)).0;
        if self.term.load(Ordering::Relaxed) != term {
            self.term.store(term, Ordering::Release);
            self.changed.notify_waiters();
        }
    }

    /// Resolves when the replica leads; the term.
    pub async fn begin(&self) -> Term {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            match self.term() {
                Some(term) => return term,
                None => changed.await,
            }
        }
    }

    /// Resolves when the replica does not lead in `term`.
    pub async fn end(&self, term: Term) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.term() != Some(term) {
                return;
            }
            changed.await;
        }
    }
}
