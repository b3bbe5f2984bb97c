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
//! kind; so a crowd of one kind does not starve another. Who is next is waited for, though a smaller one behind it would fit.
//!
//! Time comes from the clock it was given, nothing from chance: in the simulation it is deterministic. The sum is of what was asked for:
//! what an allocator adds to it is the operator's margin (docs/operating).

use crate::Clock;
use bytes::Bytes;
use std::collections::BTreeMap;
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

#[derive(Default)]
struct State {
    used: u64,
    used_by: [u64; CLAIMS],
    waiting: [BTreeMap<u64, Waiter>; CLAIMS],
    waiters: usize,
    last: u64,
}

struct Waiter {
    bytes: u64,
    to: oneshot::Sender<Share>,
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
            state: Mutex::default(),
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
        self.state().waiters
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
        (state.waiters == 0 && state.used.saturating_add(bytes) <= most)
            .then(|| self.give(&mut state, claim, bytes))
    }

    fn refuse(&self) -> OverBudget {
        self.gauges.refused.increment(1);
        OverBudget
    }

    fn begin(self: &Arc<Self>, claim: Claim, bytes: u64) -> Begun {
        let mut state = self.state();
        if state.waiters == 0 && state.used.saturating_add(bytes) <= self.bytes {
            return Begun::Taken(self.give(&mut state, claim, bytes));
        }
        // Of its own kind: a crowd of another shuts nobody out.
        if state.waiting[claim as usize].len() >= BUDGET_WAITING_MAX {
            return Begun::Refused;
        }
        let (to, share) = oneshot::channel();
        state.last += 1;
        let id = state.last;
        state.waiting[claim as usize].insert(id, Waiter { bytes, to });
        state.waiters += 1;
        self.gauges.waiting.set(state.waiters as f64);
        drop(state);
        // Another kind's crowd may be what it would wait behind.
        self.admit();
        let budget = self.clone();
        Begun::Waits(Waiting {
            budget,
            claim,
            id,
            share,
        })
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
            let Some((waiter, claim)) = self.next(&mut state) else {
                return;
            };
            let share = self.give(&mut state, claim, waiter.bytes);
            drop(state);
            // Who went away meanwhile gives it back by this, outside the lock.
            drop(waiter.to.send(share));
        }
    }

    /// Takes the next waiter out, if there is enough for it.
    fn next(&self, state: &mut State) -> Option<(Waiter, Claim)> {
        let crowds = Claim::all()
            .into_iter()
            .filter(|c| !state.waiting[*c as usize].is_empty());
        // The least for its weight; of equals the first.
        let claim = crowds.min_by_key(|c| state.used_by[*c as usize] / c.weight())?;
        let first = state.waiting[claim as usize].first_entry()?;
        if state.used.saturating_add(first.get().bytes) > self.bytes {
            return None;
        }
        let waiter = first.remove();
        state.waiters -= 1;
        self.gauges.waiting.set(state.waiters as f64);
        Some((waiter, claim))
    }
}

impl std::fmt::Debug for Budget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state();
        write!(
            f,
            "{} of {} bytes taken, {} wait",
            state.used, self.bytes, state.waiters
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
    claim: Claim,
    id: u64,
    share: oneshot::Receiver<Share>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut state = self.budget.state();
        let gone = state.waiting[self.claim as usize].remove(&self.id);
        if gone.is_some() {
            state.waiters -= 1;
            self.budget.gauges.waiting.set(state.waiters as f64);
        }
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
        state.used = state.used - self.bytes + bytes;
        let by = &mut state.used_by[self.claim as usize];
        *by = *by - self.bytes + bytes;
        self.budget.gauges.used.set(state.used as f64);
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
#[allow(
    clippy::disallowed_methods,
    reason = "the test's clock is the runtime's paused one"
)]
mod tests {
    use super::*;
    use std::pin::Pin;

    struct TestClock;

    impl Clock for TestClock {
        fn wall_ms(&self) -> u64 {
            0
        }
        fn mono(&self) -> Duration {
            Duration::ZERO
        }
        fn sleep(&self, d: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
            Box::pin(tokio::time::sleep(d))
        }
    }

    fn budget(bytes: u64) -> Arc<Budget> {
        Budget::new("test", bytes, Arc::new(TestClock))
    }

    fn taking(
        budget: &Arc<Budget>,
        claim: Claim,
        bytes: u64,
    ) -> tokio::task::JoinHandle<Result<Share, OverBudget>> {
        let budget = budget.clone();
        tokio::spawn(async move { budget.take(claim, bytes).await })
    }

    async fn settled() {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    /// I9
    #[tokio::test(start_paused = true)]
    async fn past_the_budget_they_wait_and_then_are_refused() {
        let b = budget(100);
        let all = b.take(Claim::Write, 100).await.unwrap();
        let in_time = taking(&b, Claim::Read, 10);
        settled().await;
        assert_eq!((b.used(), b.waiting()), (100, 1));
        drop(all);
        let share = in_time.await.unwrap().unwrap();
        assert_eq!((share.bytes(), b.used(), b.waiting()), (10, 10, 0));
        let rest = b.take(Claim::Read, 90).await.unwrap();
        assert_eq!(b.take(Claim::Read, 1).await.err(), Some(OverBudget));
        assert_eq!((b.used(), b.waiting()), (100, 0));
        drop((share, rest));
        // More than there is goes alone.
        let alone = b.take(Claim::Write, 1000).await.unwrap();
        assert_eq!((alone.bytes(), b.used()), (100, 100));
        drop(alone);
        assert_eq!(b.used(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_away_leaves_nothing_behind() {
        let b = budget(100);
        let all = b.take(Claim::Write, 60).await.unwrap();
        let large = taking(&b, Claim::Write, 50);
        settled().await;
        let small = taking(&b, Claim::Write, 40);
        settled().await;
        assert_eq!(b.waiting(), 2, "who is next is waited for");
        large.abort();
        drop(small.await.unwrap().unwrap());
        drop(all);
        assert_eq!((b.used(), b.waiting()), (0, 0));
        // A share that comes when its taker has just gone comes back.
        let all = b.take(Claim::Write, 100).await.unwrap();
        let gone = taking(&b, Claim::Read, 100);
        settled().await;
        drop(all);
        gone.abort();
        drop(gone.await);
        assert_eq!((b.used(), b.waiting()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn no_kind_starves_another_and_none_takes_what_is_kept() {
        let b = budget(120);
        let mut writes = Vec::new();
        for _ in 0..12 {
            writes.push(b.take(Claim::Write, 10).await.unwrap());
        }
        let more: Vec<_> = (0..30).map(|_| taking(&b, Claim::Write, 10)).collect();
        settled().await;
        let read = taking(&b, Claim::Read, 10);
        settled().await;
        assert!(b.try_take(Claim::Read, 0).is_none(), "not before who waits");
        // The 31st to wait, and the first to be served.
        drop(writes.pop());
        let read = read.await.unwrap().unwrap();
        assert_eq!(b.waiting(), 30);
        more.iter().for_each(tokio::task::JoinHandle::abort);
        drop((writes, read));
        settled().await;
        assert_eq!(b.used(), 0);
        let most = b.try_take(Claim::Read, 90).unwrap();
        assert!(
            b.try_take(Claim::Read, 1).is_none(),
            "a quarter is for those who begin"
        );
        drop((b.take(Claim::Page, 30).await.unwrap(), most));
    }

    #[tokio::test(start_paused = true)]
    async fn no_crowd_takes_anothers_places_in_the_queue() {
        let b = budget(100);
        let all = b.take(Claim::Write, 100).await.unwrap();
        let crowd: Vec<_> = (0..BUDGET_WAITING_MAX)
            .map(|_| taking(&b, Claim::Write, 10))
            .collect();
        while b.waiting() < BUDGET_WAITING_MAX {
            tokio::task::yield_now().await;
        }
        let refused = b.take(Claim::Write, 10);
        assert!(refused.await.is_err(), "there are bounds");
        assert_eq!(b.waiting(), BUDGET_WAITING_MAX, "at once");
        let read = taking(&b, Claim::Read, 10);
        settled().await;
        drop(all);
        assert!(read.await.unwrap().is_ok());
        crowd.iter().for_each(tokio::task::JoinHandle::abort);
    }

    #[tokio::test(start_paused = true)]
    async fn what_it_turned_out_to_be_counts() {
        let b = budget(100);
        let mut page = b.take(Claim::Page, 50).await.unwrap();
        page.settle(120);
        let next = taking(&b, Claim::Page, 50);
        settled().await;
        assert_eq!((b.used(), b.waiting()), (120, 1));
        assert!(!page.try_more(1), "not before who waits");
        page.settle(20);
        assert_eq!(next.await.unwrap().unwrap().bytes(), 50);
        assert!(page.try_more(30) && !page.try_more(30));
        assert_eq!((page.bytes(), b.used()), (50, 50));
        page.settle(20);
        let bytes = held(Bytes::from_static(b"abc"), page);
        let some = bytes.slice(1..2);
        drop(bytes);
        assert_eq!(b.used(), 20, "some of them are still had");
        drop(some);
        assert_eq!(b.used(), 0);
    }
}
