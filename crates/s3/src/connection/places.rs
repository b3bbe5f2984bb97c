//! Places of connections: bounded, and not to be kept by those who ask for nothing.
//!
//! ```text
//!            ┌── a request's head ──▶ busy ──┐
//!   taken ─▶ idle ◀── its answer is over ────┘        full, and somebody waits: the longest idle is asked to leave
//! ```
//! The same for memory: where somebody waits for it the longest idle of those that have some is asked to rest, or to leave with the half of
//! a head that it has.
//!
//! Where nobody is idle a few more places are given, in which only the operator's paths are answered: whether the store lives must
//! not depend on how much it has to do. For the same reason a few connections that ask for those have memory beside the budget.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use types::limits::{CONNECTION_ASK_MS, OPERATOR_CONNECTIONS_MAX};
use world::Clock;

/// All places.
pub(crate) struct Places {
    max: usize,
    slots: Mutex<Slots>,
    /// A place was given back, or somebody became idle.
    changed: Notify,
    /// Memory of as many awake connections for operators.
    reserve: Arc<Semaphore>,
    under_way: metrics::Gauge,
}

#[derive(Default)]
struct Slots {
    last: u64,
    taken: BTreeMap<u64, Slot>,
    /// By when they became idle; those asked to leave are no longer here.
    idle: BTreeSet<(u64, u64)>,
    /// Of the idle those that have memory, by since when; those asked to rest are no longer here.
    awake: BTreeSet<(u64, u64)>,
    /// How many of them are the operator's.
    operators: usize,
}

struct Slot {
    leave: Arc<Notify>,
    idle_since: u64,
    busy: usize,
    is_operators: bool,
    /// What asks it to rest, while it has memory.
    rest: Option<Arc<Notify>>,
    /// Since when it is both awake and idle.
    awake_since: u64,
}

impl Slots {
    fn tick(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn take(&mut self, is_operators: bool) -> (u64, Arc<Notify>) {
        let id = self.tick();
        self.operators += usize::from(is_operators);
        let leave = Arc::new(Notify::new());
        let slot = Slot {
            leave: Arc::clone(&leave),
            idle_since: id,
            busy: 0,
            is_operators,
            rest: None,
            awake_since: 0,
        };
        self.taken.insert(id, slot);
        self.idle.insert((id, id));
        (id, leave)
    }

    /// It is awake and idle from now on.
    fn may_be_asked(&mut self, id: u64) {
        let now = self.tick();
        if let Some(slot) = self.taken.get_mut(&id) {
            slot.awake_since = now;
            self.awake.insert((now, id));
        }
    }
}

/// A connection's place, until it is dropped.
pub(crate) struct Place {
    places: Arc<Places>,
    id: u64,
    leave: Arc<Notify>,
    /// Only the operator's paths are answered here.
    pub(crate) is_operators: bool,
}

/// A connection that has memory, until it is dropped.
pub(crate) struct Awake {
    places: Arc<Places>,
    id: u64,
    rest: Arc<Notify>,
}

/// A request under way, until it is dropped.
pub(crate) struct Busy {
    places: Arc<Places>,
    id: u64,
}

impl Places {
    /// `max` places, all free.
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            max,
            slots: Mutex::default(),
            changed: Notify::new(),
            under_way: metrics::gauge!("cairn_s3_requests_under_way"),
            reserve: Arc::new(Semaphore::new(OPERATOR_CONNECTIONS_MAX)),
        })
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for who waits; asks the longest idle to leave while there is none.
    pub(crate) async fn next(self: &Arc<Self>) -> Place {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Registered before looking, so that no change is missed.
            changed.as_mut().enable();
            if let Some(place) = self.take_or_ask() {
                return place;
            }
            changed.await;
        }
    }

    fn take_or_ask(self: &Arc<Self>) -> Option<Place> {
        let mut slots = self.slots();
        let is_operators = if slots.taken.len() - slots.operators < self.max {
            false
        } else if let Some((_, longest)) = slots.idle.pop_first() {
            if let Some(slot) = slots.taken.get(&longest) {
                slot.leave.notify_one();
            }
            return None;
        } else if slots.operators < OPERATOR_CONNECTIONS_MAX {
            true
        } else {
            return None;
        };
        let (id, leave) = slots.take(is_operators);
        Some(Place {
            places: Arc::clone(self),
            id,
            leave,
            is_operators,
        })
    }
}

impl Places {
    fn ask_to_rest(&self) {
        let mut slots = self.slots();
        let longest = slots.awake.pop_first().and_then(|(_, id)| slots.taken.get(&id));
        if let Some(rest) = longest.and_then(|slot| slot.rest.as_ref()) {
            rest.notify_one();
        }
    }
}

impl Awake {
    /// Ends when others wait for memory and this connection is the longest idle of those that have some.
    pub(crate) async fn asked_to_rest(&self) {
        self.rest.notified().await;
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        let mut slots = self.places.slots();
        if let Some(slot) = slots.taken.get_mut(&self.id) {
            slot.rest = None;
            let awake = (slot.awake_since, self.id);
            slots.awake.remove(&awake);
        }
    }
}

impl Place {
    /// Ends when others wait and this connection is the longest idle.
    pub(crate) async fn asked_to_leave(&self) {
        self.leave.notified().await;
    }

    /// It has memory from here on.
    pub(crate) fn awake(&self) -> Awake {
        let rest = Arc::new(Notify::new());
        let mut slots = self.places.slots();
        if let Some(slot) = slots.taken.get_mut(&self.id) {
            slot.rest = Some(Arc::clone(&rest));
        }
        slots.may_be_asked(self.id);
        Awake {
            places: Arc::clone(&self.places),
            id: self.id,
            rest,
        }
    }

    /// Asks one after the other of those that are awake and idle to rest; never ends.
    pub(crate) async fn ask_others(&self, clock: &dyn Clock) {
        loop {
            self.places.ask_to_rest();
            clock.sleep(Duration::from_millis(CONNECTION_ASK_MS)).await;
        }
    }

    /// Memory of an awake connection that the budget does not count, for the operator's paths alone; `None` where it is all taken.
    pub(crate) fn reserved(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places.reserve).try_acquire_owned().ok()
    }

    /// Whether a request is under way.
    pub(crate) fn is_busy(&self) -> bool {
        self.places
            .slots()
            .taken
            .get(&self.id)
            .is_some_and(|s| s.busy > 0)
    }

    /// When it became idle, as a number that never comes again; `None` while a request is under way.
    pub(crate) fn idle_since(&self) -> Option<u64> {
        let slots = self.places.slots();
        let slot = slots.taken.get(&self.id)?;
        (slot.busy == 0).then_some(slot.idle_since)
    }

    /// A request is under way from here on.
    pub(crate) fn busy(&self) -> Busy {
        self.places.under_way.increment(1.0);
        let mut slots = self.places.slots();
        if let Some(slot) = slots.taken.get_mut(&self.id) {
            slot.busy += 1;
            let (idle, awake) = ((slot.idle_since, self.id), (slot.awake_since, self.id));
            slots.idle.remove(&idle);
            slots.awake.remove(&awake);
        }
        Busy {
            places: Arc::clone(&self.places),
            id: self.id,
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.places.under_way.decrement(1.0);
        let mut slots = self.places.slots();
        let now = slots.tick();
        let id = self.id;
        if let Some(slot) = slots.taken.get_mut(&id) {
            slot.busy -= 1;
            slot.idle_since = now;
            let (is_idle, is_awake) = (slot.busy == 0, slot.rest.is_some());
            if is_idle {
                slots.idle.insert((now, id));
            }
            if is_idle && is_awake {
                slots.may_be_asked(id);
            }
        }
        drop(slots);
        self.places.changed.notify_one();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut slots = self.places.slots();
        if let Some(slot) = slots.taken.remove(&self.id) {
            slots.idle.remove(&(slot.idle_since, self.id));
            slots.awake.remove(&(slot.awake_since, self.id));
            slots.operators -= usize::from(slot.is_operators);
        }
        drop(slots);
        self.places.changed.notify_one();
    }
}
