//! Connections at rest: nothing of a request has come since the last answer, and all of that is taken. Clients keep them by the thousand, so
//! a connection at rest has no buffers and nothing of hyper's: only its stream, until something comes.
//!
//! ```text
//!   accepted ─▶ at rest ── a byte ─▶ awake (memory taken, hyper) ── idle for a while, all flushed ─▶ at rest
//! ```

use super::places::{Awake, Place};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use types::limits;
use world::{Clock, Share};

/// What is on its way on a connection: told by its stream and its requests, across hyper, which has both.
#[derive(Default)]
pub(super) struct Motion {
    /// Something was written that is not known to be taken.
    unflushed: AtomicBool,
    /// What has come of a head.
    head_bytes: AtomicUsize,
    /// A head has come whole, and its answer is not over.
    under_way: AtomicBool,
    /// Memory for a head larger than usual: for what is made of it too, so until its answer is over.
    head: Mutex<Option<Share>>,
}

impl Motion {
    /// Something was written; or all that was is taken.
    pub(super) fn wrote(&self, unflushed: bool) {
        self.unflushed.store(unflushed, Ordering::Relaxed);
    }

    /// So many bytes came off the stream.
    pub(super) fn read(&self, count: usize) {
        if !self.under_way.load(Ordering::Relaxed) {
            self.head_bytes.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// How many bytes may come at once: of a head no more than a usual one has, so that the body behind it is not taken for a part of it;
    /// then one that tells that it is larger.
    pub(super) fn room(&self) -> usize {
        if self.under_way.load(Ordering::Relaxed) || self.head().is_some() {
            return usize::MAX;
        }
        let left = limits::HEAD_USUAL_BYTES.saturating_sub(self.head_bytes.load(Ordering::Relaxed));
        left.max(1)
    }

    /// Whether more has come of a head than a usual one has, and there is no memory for it yet.
    pub(super) fn is_large(&self) -> bool {
        !self.under_way.load(Ordering::Relaxed)
            && self.head_bytes.load(Ordering::Relaxed) > limits::HEAD_USUAL_BYTES
            && self.head().is_none()
    }

    /// A head has come whole.
    pub(super) fn begin(&self) {
        self.under_way.store(true, Ordering::Relaxed);
        self.head_bytes.store(0, Ordering::Relaxed);
    }

    /// Its answer is over.
    pub(super) fn end(&self) {
        self.under_way.store(false, Ordering::Relaxed);
        let share = self.head().take();
        // Outside the lock: who waits for it may get it by this.
        drop(share);
    }

    /// Keeps memory until the request whose head is coming has its answer.
    pub(super) fn hold(&self, share: Share) {
        *self.head() = Some(share);
    }

    fn head(&self) -> MutexGuard<'_, Option<Share>> {
        self.head.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether something was written that is not known to be taken.
    pub(super) fn is_unflushed(&self) -> bool {
        self.unflushed.load(Ordering::Relaxed)
    }

    /// Whether nothing is on its way.
    pub(super) fn is_at_rest(&self) -> bool {
        !self.is_unflushed()
            && !self.under_way.load(Ordering::Relaxed)
            && self.head_bytes.load(Ordering::Relaxed) == 0
    }
}

/// What an awake connection is to do.
pub(super) enum Due {
    /// Rest, if nothing is on its way.
    Rest,
    /// Leave: others wait for its memory, and it has half a head.
    Leave,
}

/// Ends once no request has been under way for a while; for a shorter while where its memory is asked for.
pub(super) async fn due(clock: &dyn Clock, (place, awake): (&Place, &Awake), motion: &Motion) -> Due {
    tokio::select! {
        () = idle(clock, place) => return Due::Rest,
        () = awake.asked_to_rest() => {}
    }
    let mut idle_ms = 0;
    while idle_ms < limits::LINGER_MS_MAX {
        // First of all, so that hyper has seen to what it answered early.
        clock
            .sleep(Duration::from_millis(limits::CONNECTION_ASKED_MS))
            .await;
        if place.is_busy() {
            idle_ms = 0;
        } else if motion.is_at_rest() {
            return Due::Rest;
        } else {
            idle_ms += limits::CONNECTION_ASKED_MS;
        }
    }
    Due::Leave
}

async fn idle(clock: &dyn Clock, place: &Place) {
    let mut before = None;
    loop {
        clock
            .sleep(Duration::from_millis(limits::CONNECTION_REST_MS))
            .await;
        let since = place.idle_since();
        if since.is_some() && since == before {
            return;
        }
        before = since;
    }
}
