//! The configurations that the oracle's search has met, less those that another makes superfluous. Pure.
//!
//! A history with many operations whose end nobody knows has more orders than can be looked at. Most differ in nothing
//! that can matter:
//!
//! - An operation that never ends need not take effect. Of two configurations in the same state, the one in which fewer of
//!   those have taken effect can go on in every way that the other can: the other goes.
//! - A refusal or read that has been placed is settled; one that has not may never fit. More of those placed is better.
//! - Two operations that never end, do the same and are known by nothing of their own are *twins*: which of them it was
//!   that took effect is not asked.
//!
//! Nothing is left out that could explain a history which what is kept does not.

use crate::model::State;
use std::collections::{BTreeMap, BTreeSet};

/// A state of the model, and which pending operations have taken effect in it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Configuration {
    /// What can be seen.
    pub state: State,
    /// By slot.
    pub done: u128,
}

/// What kinds of operations are pending, by slot.
#[derive(Clone, Debug, Default)]
pub struct Kinds {
    /// They change nothing.
    pub passive: u128,
    /// They never end, and no other waits for them.
    pub free: u128,
    /// Free ones, those that do the same together.
    pub twins: Vec<u128>,
}

impl Kinds {
    /// Forgets these slots.
    pub fn forget(&mut self, slots: u128) {
        self.passive &= !slots;
        self.free &= !slots;
        self.twins.iter_mut().for_each(|twins| *twins &= !slots);
        self.twins.retain(|twins| *twins != 0);
    }

    /// The same, with the lowest of all twins for whichever it was.
    fn canonical(&self, mut done: u128) -> u128 {
        for twins in &self.twins {
            let mut count = (done & twins).count_ones();
            if count == 0 || count == twins.count_ones() {
                continue;
            }
            done &= !twins;
            let mut left = *twins;
            while count > 0 {
                done |= left & left.wrapping_neg();
                left &= left - 1;
                count -= 1;
            }
        }
        done
    }

    /// Whether whatever can follow `b` can follow `a`, of the same state and with the same others done.
    fn is_as_good(&self, a: u128, b: u128) -> bool {
        a & self.free & !b == 0 && b & self.passive & !a == 0
    }

    fn others(&self, done: u128) -> u128 {
        done & !self.passive & !self.free
    }
}

/// Configurations, none superfluous beside another; some of them still to be gone on from.
pub struct Frontier<'a> {
    kinds: &'a Kinds,
    met: BTreeMap<(State, u128), Vec<u128>>,
    /// By how many free operations took effect: so those that make others superfluous come first.
    ahead: BTreeSet<(u32, Configuration)>,
    len: usize,
}

impl<'a> Frontier<'a> {
    /// None yet.
    pub fn new(kinds: &'a Kinds) -> Self {
        Self {
            kinds,
            met: BTreeMap::new(),
            ahead: BTreeSet::new(),
            len: 0,
        }
    }

    /// Takes one in, unless it is superfluous.
    pub fn insert(&mut self, mut c: Configuration) {
        c.done = self.kinds.canonical(c.done);
        let met = self.met.entry((c.state, self.kinds.others(c.done))).or_default();
        if met.iter().any(|m| self.kinds.is_as_good(*m, c.done)) {
            return;
        }
        self.len -= met.len();
        met.retain(|m| !self.kinds.is_as_good(c.done, *m));
        met.push(c.done);
        self.len += met.len();
        self.ahead.insert(((c.done & self.kinds.free).count_ones(), c));
    }

    /// The next to go on from; each comes once.
    pub fn pop(&mut self) -> Option<Configuration> {
        while let Some((_, c)) = self.ahead.pop_first() {
            let met = self.met.get(&(c.state, self.kinds.others(c.done)));
            if met.is_some_and(|met| met.contains(&c.done)) {
                return Some(c);
            }
        }
        None
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All of them, in a fixed order.
    pub fn all(self) -> Vec<Configuration> {
        let flat = self
            .met
            .into_iter()
            .flat_map(|((state, _), met)| met.into_iter().map(move |done| Configuration { state, done }));
        flat.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(kinds: &Kinds, dones: &[u128]) -> Vec<u128> {
        let mut frontier = Frontier::new(kinds);
        for done in dones {
            let state = State::default();
            frontier.insert(Configuration { state, done: *done });
        }
        assert_eq!(frontier.len(), frontier.met.values().map(Vec::len).sum());
        let mut kept: Vec<u128> = frontier.all().iter().map(|c| c.done).collect();
        kept.sort_unstable();
        kept
    }

    #[test]
    fn what_took_effect_in_vain_is_left_out() {
        // Slot 0 is free, 1 changes nothing, 2 is neither.
        let kinds = Kinds {
            passive: 0b010,
            free: 0b001,
            twins: Vec::new(),
        };
        assert_eq!(kept(&kinds, &[0b001, 0b000]), [0b000]);
        assert_eq!(kept(&kinds, &[0b000, 0b001]), [0b000]);
        assert_eq!(kept(&kinds, &[0b000, 0b010]), [0b010]);
        assert_eq!(
            kept(&kinds, &[0b000, 0b011]),
            [0b000, 0b011],
            "each can do what the other cannot"
        );
        assert_eq!(
            kept(&kinds, &[0b000, 0b100]),
            [0b000, 0b100],
            "its end is to come"
        );
    }

    #[test]
    fn of_twins_the_first_did_it() {
        let kinds = Kinds {
            passive: 0,
            free: 0b1111,
            twins: vec![0b1011],
        };
        assert_eq!(kept(&kinds, &[0b1000, 0b0010]), [0b0001]);
        assert_eq!(kept(&kinds, &[0b1010, 0b0100]), [0b0011, 0b0100]);
    }
}
