//! The extents this gateway holds open.
//!
//! ```text
//!            ┌──────── small appends share it ────────┐
//!   granted ─┤                                        ├─ a failed append ─▶ retired (taken out, then sealed)
//!            └─ one large append at a time, alone ────┘
//!                 └─ gc wants it sealed ─▶ released: no append begins; out once the last one under way has ended
//! ```
//! A new extent is granted only when none will do, up to a bound; at the bound callers wait for one to come back, though
//! not for ever. One is always left to small appends, so that large bodies do not starve them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use types::{ErrorKind, ExtentId, SessionId};
use wire::Fault;
use wire::control::{Control, Grant};
use world::{Clock, Watched};

/// What an extent is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A needle sent whole.
    Small,
    /// A needle sent in frames.
    Large,
}

struct Slot {
    grant: Arc<Grant>,
    small: usize,
    large: bool,
    /// It is to go: no append begins on it.
    released: bool,
}

impl Slot {
    fn is_idle(&self) -> bool {
        !self.large && self.small == 0
    }
}

/// How long callers wait for an extent.
pub(crate) struct Patience {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) wait: Duration,
}

/// The open extents.
pub(crate) struct Pool {
    control: Arc<dyn Control>,
    session: SessionId,
    extents_max: usize,
    slots: Mutex<Vec<Slot>>,
    /// The last grant was refused for want of room: extents are shared before another is asked for.
    cramped: AtomicBool,
    /// Held while asking for an extent, so that a crowd asks for one and not for a crowd of them.
    granting: tokio::sync::Mutex<()>,
    returned: Notify,
    patience: Patience,
    /// Large appends that wait for an extent.
    waiting: Watched<usize>,
}

/// A large append that waits; until it is dropped.
struct Waiting<'a>(&'a Watched<usize>);

impl<'a> Waiting<'a> {
    fn new(waiting: &'a Watched<usize>) -> Self {
        waiting.modify(|n| *n += 1);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.modify(|n| *n -= 1);
    }
}

/// An extent in use; given back when dropped.
pub(crate) struct Held {
    pool: Arc<Pool>,
    pub(crate) grant: Arc<Grant>,
    purpose: Purpose,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut slots = self.pool.slots();
        if let Some(slot) = slots.iter_mut().find(|s| s.grant == self.grant) {
            match self.purpose {
                Purpose::Small => slot.small -= 1,
                Purpose::Large => slot.large = false,
            }
        }
        slots.retain(|s| !(s.released && s.is_idle()));
        drop(slots);
        self.pool.returned.notify_waiters();
    }
}

impl Pool {
    pub(crate) fn new(
        control: Arc<dyn Control>,
        session: SessionId,
        extents_max: usize,
        patience: Patience,
    ) -> Self {
        Self {
            control,
            session,
            extents_max,
            slots: Mutex::default(),
            cramped: AtomicBool::new(false),
            granting: tokio::sync::Mutex::default(),
            returned: Notify::new(),
            patience,
            waiting: Watched::new(0),
        }
    }

    fn slots(&self) -> std::sync::MutexGuard<'_, Vec<Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An extent for `purpose`; waits a while when all are busy and no more may be opened, then is `Busy`.
    pub(crate) async fn acquire(self: &Arc<Self>, purpose: Purpose) -> Result<Held, Fault> {
        let begun = self.patience.clock.mono();
        let mut waiting = None;
        loop {
            let returned = self.returned.notified();
            tokio::pin!(returned);
            // Registered before looking, so that an extent given back meanwhile wakes us.
            returned.as_mut().enable();
            if let Some(held) = self.pick(purpose) {
                return Ok(held);
            }
            if !self.grow(purpose).await? {
                if purpose == Purpose::Large {
                    waiting.get_or_insert_with(|| Waiting::new(&self.waiting));
                }
                let waited = self.patience.clock.mono().saturating_sub(begun);
                let left = self.patience.wait.saturating_sub(waited);
                tokio::select! {
                    biased;
                    () = returned => {}
                    () = self.patience.clock.sleep(left) =>
                        return Err(Fault::new(ErrorKind::Busy, "every extent is being written")),
                }
            }
        }
    }

    /// Takes an extent that will do, if there is one.
    fn pick(self: &Arc<Self>, purpose: Purpose) -> Option<Held> {
        let mut slots = self.slots();
        let share = slots.len() >= self.extents_max || self.cramped.load(Ordering::Relaxed);
        let slot = match purpose {
            Purpose::Small => slots.iter_mut().find(|s| !s.large && !s.released),
            // The first is the small appends' as long as there is room for another.
            Purpose::Large if slots.iter().filter(|s| s.large).count() + 1 >= self.extents_max => None,
            Purpose::Large => slots
                .iter_mut()
                .rev()
                .find(|s| !s.large && !s.released && (s.small == 0 || share)),
        }?;
        match purpose {
            Purpose::Small => slot.small += 1,
            Purpose::Large => slot.large = true,
        }
        Some(Held {
            pool: Arc::clone(self),
            grant: Arc::clone(&slot.grant),
            purpose,
        })
    }

    /// Asks for one more extent, unless there is one by now; `false` when the caller must wait for one to come back.
    async fn grow(self: &Arc<Self>, purpose: Purpose) -> Result<bool, Fault> {
        let _asking = self.granting.lock().await;
        if self.pick(purpose).is_some() {
            return Ok(true);
        }
        if self.slots().len() >= self.extents_max {
            return Ok(false);
        }
        match self.control.grant(self.session).await {
            Ok(grant) => {
                self.cramped.store(false, Ordering::Relaxed);
                let mut slots = self.slots();
                assert!(
                    slots.iter().all(|s| s.grant.extent != grant.extent),
                    "an extent is granted once: one writer"
                );
                slots.push(Slot {
                    grant: Arc::new(grant),
                    small: 0,
                    large: false,
                    released: false,
                });
                Ok(true)
            }
            // No room for another: those that are open will do, once they are free.
            Err(f) if matches!(f.kind, ErrorKind::Full | ErrorKind::Busy) && self.any_busy() => {
                // What is open may be free, or shared, by now.
                let was_cramped = self.cramped.swap(true, Ordering::Relaxed);
                Ok(!was_cramped)
            }
            Err(f) => Err(f),
        }
    }

    /// Waits until a large append waits for an extent.
    pub(crate) async fn wanted(&self) {
        self.waiting.wait_for(|n| *n > 0).await;
    }

    /// Whether large appends have half of the extents that there may be.
    pub(crate) fn is_contended(&self) -> bool {
        2 * self.slots().iter().filter(|s| s.large).count() >= self.extents_max
    }

    fn any_busy(&self) -> bool {
        self.slots().iter().any(|s| s.large || s.small > 0)
    }

    /// Takes an extent out for good; whether this call did. It is then the caller's to seal.
    pub(crate) fn retire(&self, extent: ExtentId) -> bool {
        let mut slots = self.slots();
        let before = slots.len();
        slots.retain(|s| s.grant.extent != extent);
        let retired = slots.len() < before;
        drop(slots);
        self.returned.notify_waiters();
        retired
    }

    /// Takes an extent out as soon as no append is under way on it; whether it is out. It is then the asker's to seal.
    pub(crate) fn release(&self, extent: ExtentId) -> bool {
        let mut slots = self.slots();
        let Some(at) = slots.iter().position(|s| s.grant.extent == extent) else {
            return true;
        };
        slots[at].released = true;
        let idle = slots[at].is_idle();
        if idle {
            slots.remove(at);
        }
        drop(slots);
        if idle {
            self.returned.notify_waiters();
        }
        idle
    }

    /// How many extents are open.
    pub(crate) fn len(&self) -> usize {
        self.slots().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;
    use types::Epoch;
    use wire::control::Location;
    use world::real::RealClock;

    /// Grants one extent after the other.
    struct Grants(AtomicU64);

    #[async_trait::async_trait]
    impl Control for Grants {
        async fn begin_session(&self, _: &str) -> Result<SessionId, Fault> {
            Ok(SessionId(1))
        }
        async fn end_session(&self, _: SessionId) -> Result<(), Fault> {
            Ok(())
        }
        async fn grant(&self, _: SessionId) -> Result<Grant, Fault> {
            Ok(Grant {
                extent: ExtentId(self.0.fetch_add(1, Ordering::Relaxed) + 1),
                epoch: Epoch(1),
                replicas: vec![],
                bytes_max: 1 << 20,
            })
        }
        async fn seal(&self, _: ExtentId, _: Epoch) -> Result<(), Fault> {
            Ok(())
        }
        async fn locate(&self, _: ExtentId) -> Result<Location, Fault> {
            Err(Fault::new(ErrorKind::NotFound, "nowhere"))
        }
        async fn locations(&self) -> Result<Vec<Location>, Fault> {
            Ok(vec![])
        }
    }

    #[tokio::test]
    async fn no_append_begins_on_an_extent_that_is_to_go_and_it_goes_with_the_last() {
        let patience = Patience {
            clock: Arc::new(RealClock::new()),
            wait: Duration::from_secs(1),
        };
        let pool = Arc::new(Pool::new(
            Arc::new(Grants(AtomicU64::new(0))),
            SessionId(1),
            3,
            patience,
        ));
        let first = pool.acquire(Purpose::Small).await.unwrap();
        let second = pool.acquire(Purpose::Small).await.unwrap();
        let extent = first.grant.extent;
        assert_eq!(second.grant.extent, extent, "small appends share");
        assert!(!pool.release(extent));
        for purpose in [Purpose::Small, Purpose::Large] {
            assert_ne!(pool.acquire(purpose).await.unwrap().grant.extent, extent);
        }
        drop(first);
        assert!(!pool.release(extent) && pool.len() == 2);
        drop(second);
        assert_eq!(pool.len(), 1);
        assert!(pool.release(extent));
    }
}
