//! Needles that have no name yet: should they get none, gc hears of them at once and need not find them by walking.
//!
//! ```text
//!   appended ──▶ Unnamed ──named()──▶ forgotten here
//!                   └────dropped────▶ abandoned: gc has them condemned, then dropped
//! ```
//! It may be wrong to say that a needle is abandoned: the index is asked, and a needle that has a name after all keeps it. What finds no
//! place in the queue, or dies with the process, gc finds when it walks the extent.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use types::limits::ABANDONED_MAX;
use types::{BlobId, ExtentId, NeedleId};
use wire::gateway::Abandoned;
use wire::index::Doubt;
use wire::node::OwnerRef;
use wire::records::Chunk;

/// Needles that were given up and not told to gc yet.
#[derive(Default)]
pub(crate) struct Queue(Mutex<VecDeque<Abandoned>>);

impl Queue {
    fn get(&self) -> MutexGuard<'_, VecDeque<Abandoned>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn take(&self, max: usize) -> Vec<Abandoned> {
        let mut queue = self.get();
        let max = max.min(queue.len());
        queue.drain(..max).collect()
    }
}

/// Needles of a blob, until they have a name.
#[must_use = "dropped, its needles are given up"]
pub struct Unnamed {
    queue: Arc<Queue>,
    owner: OwnerRef,
    blob: BlobId,
    needles: Vec<(ExtentId, NeedleId, u64)>,
}

impl Unnamed {
    pub(crate) fn new(queue: Arc<Queue>, owner: OwnerRef, blob: BlobId) -> Self {
        Self {
            queue,
            owner,
            blob,
            needles: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, chunk: &Chunk) {
        let place = (ExtentId(chunk.place), NeedleId(chunk.needle));
        self.needles.push((place.0, place.1, chunk.stored_length));
    }

    /// They have a name, or somebody else answers for them.
    pub fn named(mut self) {
        self.needles.clear();
    }
}

impl Drop for Unnamed {
    fn drop(&mut self) {
        if self.needles.is_empty() {
            return;
        }
        let mut queue = self.queue.get();
        for (extent, needle, stored_length) in self.needles.drain(..) {
            if queue.len() >= ABANDONED_MAX {
                return;
            }
            queue.push_back(Abandoned {
                doubt: Doubt {
                    owner: self.owner.clone(),
                    blob: self.blob,
                    extent,
                    needle,
                },
                stored_length,
            });
        }
    }
}
