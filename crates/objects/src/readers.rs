//! Who is reading: so that gc drops no needle that a reader still holds (I3).
//!
//! ```text
//!   epoch      1        2           3
//!   readers    a b      c d         e          mark() ends the epoch and answers its number;
//!              └ until the last of a and b is gone, ended(1) is false
//! ```
//! A reader registers before it reads the record that names the needles, and is dropped with the last of them, with its
//! request, or with its client: whatever holds chunks of a record holds a [`Reading`]. Kept is a number an epoch that has readers, so no
//! more than there are readers, which the connections bound. A slow reader keeps back what is booked after it began, and
//! no longer than a client may be slow (`limits::WRITE_STALL_MS_MAX`).
//!
//! One lock, held for a look at a small map, twice a read: some tens of nanoseconds beside a read's tens of microseconds.
//!
//! Not readers: HEAD and listings, whose records' needles nobody reads; an append, which keeps the needles that are
//! there without touching them, in a commit that finds the object as it was seen or refuses; a completion, whose commit moves the names.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Default)]
struct State {
    epoch: u64,
    /// Readers by the epoch they began in; no entry is zero.
    reading: BTreeMap<u64, u64>,
}

/// The readers of one gateway.
#[derive(Clone, Default)]
pub(crate) struct Readers(Arc<Mutex<State>>);

/// A reader, while it is there.
pub(crate) struct Reading {
    readers: Readers,
    epoch: u64,
}

impl Readers {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a reader. Before the record is read.
    pub(crate) fn begin(&self) -> Reading {
        let mut state = self.state();
        let epoch = state.epoch;
        *state.reading.entry(epoch).or_default() += 1;
        Reading {
            readers: self.clone(),
            epoch,
        }
    }

    /// See [`wire::gateway::Gateway::readers_mark`].
    pub(crate) fn mark(&self) -> u64 {
        let mut state = self.state();
        state.epoch += 1;
        state.epoch
    }

    /// See [`wire::gateway::Gateway::readers_ended`].
    pub(crate) fn ended(&self, mark: u64) -> bool {
        let state = self.state();
        state
            .reading
            .first_key_value()
            .is_none_or(|(epoch, _)| *epoch >= mark)
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let mut state = self.readers.state();
        if let Some(readers) = state.reading.get_mut(&self.epoch) {
            *readers -= 1;
            if *readers == 0 {
                state.reading.remove(&self.epoch);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_waits_for_those_before_it_and_for_no_other() {
        let readers = Readers::default();
        assert!(readers.ended(readers.mark()));
        let (a, b) = (readers.begin(), readers.begin());
        let first = readers.mark();
        let c = readers.begin();
        let second = readers.mark();
        assert!(!readers.ended(first) && !readers.ended(second));
        drop(a);
        assert!(!readers.ended(first));
        drop(b);
        assert!(readers.ended(first) && !readers.ended(second));
        let _later = readers.begin();
        drop(c);
        assert!(readers.ended(second));
        assert_eq!(readers.state().reading.len(), 1);
    }
}
