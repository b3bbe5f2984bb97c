//! A budget of memory: bytes that requests take before they hold them, and give back by dropping what they took.
//!
//! ```text
//!   take      what a request cannot do without, at its start and at once: waits, for a bounded time, then is refused
//!   try_take  what makes it faster: only what is free now, never what is kept for those who begin, never before who waits
//! ```
//! Nothing can wait for ever. Who waits in `take` holds nothing of the same budget: every request takes once, all of its least, and from then on
//! only tries. So whoever holds a share can go on to its end with it, and what it waits for is a disk or its own client, both of
//! which have their own limits in time. The one rule for callers is that: **never `take` while holding a share of the same budget.**
//!
//! Fair by kind of request: what becomes free goes to the kind that has the least for its weight, first come first served within a
//! kind; so a crowd of one kind does not starve another. Who is next is waited for, though a smaller one behind it would fit; beside a
//! large one only half of what becomes free is saved for it, and the small go on with the other half; who is before it by kind only borrows
//! of what is saved (`queue`).
//!
//! Time comes from the clock it was given, nothing from chance: in the simulation it is deterministic. The sum is of what was asked for:
//! what an allocator adds to it is the operator's margin (docs/operating).

mod queue;

use self::queue::{Queue, Waiter};
use crate::Clock;
use bytes::Bytes;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use types::limits::{BUDGET_WAIT_MS_MAX, BUDGET_WAITING_MAX};

/// What kind of request a share is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Claim {
    /// An object's bytes on their way out.
    Read,
    /// An object's bytes on their way in.
    Write,
    /// Pages of listings, and documents.
    Page,
    /// A connection on which something has come.
    Connection,
}

const CLAIMS: usize = 4;
/// More than this part of a budget is large: what a listing or a document may take, and no object's least.
const LARGE_PART: u64 = 128;

impl Claim {
    fn weight(self) -> u64 {
        match self {
            Self::Read | Self::Write => 2,
            Self::Page | Self::Connection => 1,
        }
    }

    fn all() -> [Self; CLAIMS] {
        [Self::Read, Self::Write, Self::Page, Self::Connection]
    }
}

/// It was not to be had in time: to be told as "slow down".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the budget of memory is used up")]
pub struct OverBudget;

/// Bytes that may be held.
pub struct Budget {
    clock: Arc<dyn Clock>,
    bytes: u64,
    /// What of them only `take` gives.
    kept: u64,
    wait: Duration,
    state: Mutex<State>,
    gauges: Gauges,
}

struct State {
    used: u64,
    used_by: [u64; CLAIMS],
    waiting: Queue<oneshot::Sender<Share>>,
}

struct Gauges {
    used: metrics::Gauge,
    waiting: metrics::Gauge,
    refused: metrics::Counter,
}

/// Bytes taken of a budget, until it is dropped.
pub struct Share {
    budget: Arc<Budget>,
    claim: Claim,
    bytes: u64,
}

impl Budget {
    /// A budget of `bytes`, told of in metrics as `name`. A quarter is kept for those who begin.
    pub fn new(name: &'static str, bytes: u64, clock: Arc<dyn Clock>) -> Arc<Self> {
        metrics::gauge!("cairn_memory_budget_bytes", "of" => name).set(bytes as f64);
        let gauges = Gauges {
            used: metrics::gauge!("cairn_memory_used_bytes", "of" => name),
            waiting: metrics::gauge!("cairn_memory_waiting", "of" => name),
            refused: metrics::counter!("cairn_memory_refused_total", "of" => name),
        };
        Self::with_gauges(bytes, gauges, clock)
    }

    /// One that is never used up, and of which metrics tell nothing.
    pub fn boundless(clock: Arc<dyn Clock>) -> Arc<Self> {
        let gauges = Gauges {
            used: metrics::Gauge::noop(),
            waiting: metrics::Gauge::noop(),
            refused: metrics::Counter::noop(),
        };
        Self::with_gauges(u64::MAX / 4, gauges, clock)
    }

    fn with_gauges(bytes: u64, gauges: Gauges, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            clock,
            bytes,
            kept: bytes / 4,
            wait: Duration::from_millis(BUDGET_WAIT_MS_MAX),
            state: Mutex::new(State {
                used: 0,
                used_by: [0; CLAIMS],
                waiting: Queue::new(bytes / LARGE_PART),
            }),
            gauges,
        })
    }

    /// How many bytes it has in all.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many are taken.
    pub fn used(&self) -> u64 {
        self.state().used
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.state().waiting.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn free(&self, state: &State) -> u64 {
        self.bytes.saturating_sub(state.used)
    }

    /// Takes what a request cannot do without. More than there is in all is taken as all there is: such a one goes alone.
    ///
    /// # Errors
    /// [`OverBudget`] when it was not to be had in time, or too many wait already.
    pub async fn take(self: &Arc<Self>, claim: Claim, bytes: u64) -> Result<Share, OverBudget> {
        let mut waiting = match self.begin(claim, bytes.min(self.bytes)) {
            Begun::Taken(share) => return Ok(share),
            Begun::Waits(waiting) => waiting,
            Begun::Refused => return Err(self.refuse()),
        };
        tokio::select! {
            biased;
            share = &mut waiting.share => share.map_err(|_never| self.refuse()),
            () = self.clock.sleep(self.wait) => Err(self.refuse()),
        }
    }

    /// Takes what is free now and not kept for others.
    pub fn try_take(self: &Arc<Self>, claim: Claim, bytes: u64) -> Option<Share> {
        let mut state = self.state();
        let most = self.bytes - self.kept;
        (state.waiting.is_empty() && state.used.saturating_add(bytes) <= most)
            .then(|| self.give(&mut state, claim, bytes))
    }

    fn refuse(&self) -> OverBudget {
        self.gauges.refused.increment(1);
        OverBudget
    }

    fn begin(self: &Arc<Self>, claim: Claim, bytes: u64) -> Begun {
        let mut state = self.state();
        if state.waiting.is_empty() && state.used.saturating_add(bytes) <= self.bytes {
            return Begun::Taken(self.give(&mut state, claim, bytes));
        }
        // Of its own kind: a crowd of another shuts nobody out.
        if state.waiting.of(claim) >= BUDGET_WAITING_MAX {
            return Begun::Refused;
        }
        let (to, share) = oneshot::channel();
        let place = state.waiting.push(claim, Waiter { bytes, to });
        self.gauges.waiting.set(state.waiting.len() as f64);
        drop(state);
        // Another kind's crowd may be what it would wait behind.
        self.admit();
        let budget = self.clone();
        Begun::Waits(Waiting { budget, place, share })
    }

    /// Books a share.
    fn give(self: &Arc<Self>, state: &mut State, claim: Claim, bytes: u64) -> Share {
        state.used += bytes;
        state.used_by[claim as usize] += bytes;
        self.gauges.used.set(state.used as f64);
        Share {
            budget: self.clone(),
            claim,
            bytes,
        }
    }

    /// Gives those who wait what there is for them.
    fn admit(self: &Arc<Self>) {
        loop {
            let mut state = self.state();
            let free = self.free(&state);
            let State { used_by, waiting, .. } = &mut *state;
            let Some((claim, waiter)) = waiting.next(free, used_by) else {
                return;
            };
            self.gauges.waiting.set(waiting.len() as f64);
            let share = self.give(&mut state, claim, waiter.bytes);
            drop(state);
            // Who went away meanwhile gives it back by this, outside the lock.
            drop(waiter.to.send(share));
        }
    }
}

impl std::fmt::Debug for Budget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state();
        write!(
            f,
            "{} of {} bytes taken, {} wait",
            state.used,
            self.bytes,
            state.waiting.len()
        )
    }
}

enum Begun {
    Taken(Share),
    Waits(Waiting),
    Refused,
}

/// A place in the queue, until it is dropped.
struct Waiting {
    budget: Arc<Budget>,
    place: queue::Place,
    share: oneshot::Receiver<Share>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut state = self.budget.state();
        let gone = state.waiting.remove(self.place);
        self.budget.gauges.waiting.set(state.waiting.len() as f64);
        drop(state);
        // It may have been what others waited behind.
        if gone.is_some() {
            self.budget.admit();
        }
    }
}

impl Share {
    /// How many bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes so much more, where it is free now and not kept for others.
    pub fn try_more(&mut self, bytes: u64) -> bool {
        let Some(mut more) = self.budget.try_take(self.claim, bytes) else {
            return false;
        };
        self.bytes += std::mem::take(&mut more.bytes);
        true
    }

    /// What is held turned out to be so much: where it is more than was taken, those who come next wait for it.
    pub fn settle(&mut self, bytes: u64) {
        let mut state = self.budget.state();
        let before = self.budget.free(&state);
        state.used = state.used - self.bytes + bytes;
        let by = &mut state.used_by[self.claim as usize];
        *by = *by - self.bytes + bytes;
        self.budget.gauges.used.set(state.used as f64);
        let free = self.budget.free(&state);
        state.waiting.freed(before, free);
        drop(state);
        let less = bytes < self.bytes;
        self.bytes = bytes;
        if less {
            self.budget.admit();
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.settle(0);
    }
}

/// The same bytes, with `holder` until nobody has any of them any more.
pub fn held<H: Send + 'static>(bytes: Bytes, holder: H) -> Bytes {
    struct Held<H>(Bytes, #[allow(dead_code, reason = "dropped with the bytes")] H);
    impl<H> AsRef<[u8]> for Held<H> {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    Bytes::from_owner(Held(bytes, holder))
}

#[cfg(test)]
mod tests;
