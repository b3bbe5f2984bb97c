//! Who waits for a budget, and who of them is next.
//!
//! ```text
//!   next: of the kind that has the least for its weight, who came first          fits: served
//!     small, and does not fit: all wait for it
//!     large, and does not fit: what is free when it becomes next, and half of what becomes free from then on, is owed to it;
//!                              of the rest the small are served, among themselves in the same order
//! ```
//! So one that takes as much as a hundred others halves their pace, and does not stop them. While it waits, those of a kind that has less for
//! its weight are next before it, and are served out of what it is owed, too: that is lent. Of what becomes free, whosever it was, a
//! loan is paid back whole before the rest is halved. So it is served at the latest when all that was lent and twice what it takes has become free,
//! however many of them come one after the other; those of such a kind that hold much at once it waits for until their kind has more.
//!
//! A loan is not written down: it is by how much less is free than is owed. So who borrowed may go away, or turn out to be more, and nothing
//! has to be settled; and what is owed to one is forgotten when it is served or goes away. Nor is what is owed anybody's yet.

use super::{CLAIMS, Claim};
use std::collections::BTreeMap;

/// One that waits: for how much, and whom to tell.
pub(super) struct Waiter<T> {
    pub(super) bytes: u64,
    pub(super) to: T,
}

/// Where one waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    claim: Claim,
    is_large: bool,
    /// They count up: who came first has the least.
    turn: u64,
}

/// Those of one kind.
struct Crowd<T> {
    small: BTreeMap<u64, Waiter<T>>,
    large: BTreeMap<u64, Waiter<T>>,
    /// What its first large one is owed of what is free, since that one was next.
    owed: Option<u64>,
}

pub(super) struct Queue<T> {
    crowds: [Crowd<T>; CLAIMS],
    /// More is large.
    small_max: u64,
    waiting: usize,
    last: u64,
}

impl<T> Crowd<T> {
    fn of(&mut self, is_large: bool) -> &mut BTreeMap<u64, Waiter<T>> {
        match is_large {
            true => &mut self.large,
            false => &mut self.small,
        }
    }

    /// Who came first, and for how much it waits.
    fn first(&self, claim: Claim, also_large: bool) -> Option<(Place, u64)> {
        let first = |crowd: &BTreeMap<u64, Waiter<T>>, is_large| {
            let (turn, waiter) = crowd.first_key_value()?;
            let place = Place {
                claim,
                is_large,
                turn: *turn,
            };
            Some((place, waiter.bytes))
        };
        let large = first(&self.large, true).filter(|_| also_large);
        let both = first(&self.small, false).into_iter().chain(large);
        both.min_by_key(|(place, _)| place.turn)
    }
}

impl<T> Queue<T> {
    pub(super) fn new(small_max: u64) -> Self {
        let crowd = |_| Crowd {
            small: BTreeMap::new(),
            large: BTreeMap::new(),
            owed: None,
        };
        Self {
            crowds: std::array::from_fn(crowd),
            small_max,
            waiting: 0,
            last: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// How many of a kind.
    pub(super) fn of(&self, claim: Claim) -> usize {
        let crowd = &self.crowds[claim as usize];
        crowd.small.len() + crowd.large.len()
    }

    pub(super) fn push(&mut self, claim: Claim, waiter: Waiter<T>) -> Place {
        self.last += 1;
        self.waiting += 1;
        let place = Place {
            claim,
            is_large: waiter.bytes > self.small_max,
            turn: self.last,
        };
        self.crowds[claim as usize]
            .of(place.is_large)
            .insert(place.turn, waiter);
        place
    }

    pub(super) fn remove(&mut self, place: Place) -> Option<Waiter<T>> {
        let crowd = &mut self.crowds[place.claim as usize];
        if place.is_large && crowd.large.keys().next() == Some(&place.turn) {
            crowd.owed = None;
        }
        let removed = crowd.of(place.is_large).remove(&place.turn);
        self.waiting -= usize::from(removed.is_some());
        removed
    }

    /// What is free has grown from `before` to `free`: what was lent comes back whole, the rest is halved.
    pub(super) fn freed(&mut self, before: u64, free: u64) {
        for owed in self.crowds.iter_mut().filter_map(|crowd| crowd.owed.as_mut()) {
            *owed += free.saturating_sub(before.max(*owed)).div_ceil(2);
        }
    }

    /// Takes out who is next, if what is `free` is enough for it.
    pub(super) fn next(&mut self, free: u64, used_by: &[u64; CLAIMS]) -> Option<(Claim, Waiter<T>)> {
        let (first, wanted) = self.first(used_by, true)?;
        let served = if wanted <= free {
            first
        } else if first.is_large {
            // What is free now it came before.
            let owed = *self.crowds[first.claim as usize].owed.get_or_insert(free);
            let (small, wanted) = self.first(used_by, false)?;
            if wanted > free.saturating_sub(owed) {
                return None;
            }
            small
        } else {
            return None;
        };
        Some((served.claim, self.remove(served)?))
    }

    /// Who is first of the kind that has the least for its weight; of equals the first.
    fn first(&self, used_by: &[u64; CLAIMS], also_large: bool) -> Option<(Place, u64)> {
        let first = |claim: Claim| self.crowds[claim as usize].first(claim, also_large);
        let firsts = Claim::all().into_iter().filter_map(first);
        firsts.min_by_key(|(place, _)| used_by[place.claim as usize] / place.claim.weight())
    }
}
