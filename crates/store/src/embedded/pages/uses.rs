//! How much a file is read, and what redb may have of it in memory: what tells that it rests.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since the file was opened.
#[derive(Default)]
pub(in super::super) struct Uses {
    reads: AtomicU64,
    cached: AtomicU64,
}

impl Uses {
    /// Rows are asked for.
    pub(in super::super) fn read(&self) {
        self.reads.fetch_add(1, Ordering::Relaxed);
    }

    /// So many bytes go through redb, which keeps some.
    pub(super) fn cached(&self, bytes: usize) {
        self.cached.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// redb has let go of all.
    pub(in super::super) fn forgotten(&self) {
        self.cached.store(0, Ordering::Relaxed);
    }

    /// How often rows were asked for, and how many bytes redb keeps at most.
    pub(in super::super) fn counts(&self) -> (u64, u64) {
        (
            self.reads.load(Ordering::Relaxed),
            self.cached.load(Ordering::Relaxed),
        )
    }
}
