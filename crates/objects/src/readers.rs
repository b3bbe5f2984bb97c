//! Who is reading: so that gc drops no needle that a reader still holds (I3).
//!
//! ```text
//!   begin() ── anywhere ──on(blob)── on that blob ── drop           mark(): below it is whoever has begun
//! ```
//! A reader registers before it reads the record that names the needles, says whose bytes they are once it has, and is dropped with the
//! last of them, with its request, or with its client: whatever holds chunks of a record holds a [`Reading`]. There are no more entries
//! than readers, which the connections bound. A slow reader keeps back the one booking of the bytes that it reads.
//!
//! One lock, held for a look at a small map, three times a read: some tens of nanoseconds beside a read's tens of microseconds.
//!
//! Not readers: HEAD and listings, whose records' needles nobody reads; an append, which keeps the needles that are
//! there without touching them, in a commit that finds the object as it was seen or refuses; a completion, whose commit moves the names.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use types::BlobId;
use wire::gateway;

#[derive(Default)]
struct State {
    last: u64,
    /// Readers by their number: on which blob; `None` while they may be on any.
    reading: BTreeMap<u64, Option<BlobId>>,
}

/// The readers of one gateway.
#[derive(Clone, Default)]
pub(crate) struct Readers(Arc<Mutex<State>>);

/// A reader, while it is there.
pub(crate) struct Reading {
    readers: Readers,
    number: u64,
}

impl Readers {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a reader. Before the record is read.
    pub(crate) fn begin(&self) -> Reading {
        let mut state = self.state();
        state.last += 1;
        let number = state.last;
        state.reading.insert(number, None);
        Reading {
            readers: self.clone(),
            number,
        }
    }

    /// See [`gateway::Gateway::readers_mark`].
    pub(crate) fn mark(&self) -> u64 {
        self.state().last + 1
    }

    /// See [`gateway::Gateway::readers_below`].
    pub(crate) fn below(&self, mark: u64) -> gateway::Readers {
        let mut below = gateway::Readers::default();
        for on in self.state().reading.range(..mark).map(|(_, on)| on) {
            match on {
                None => below.anywhere += 1,
                Some(blob) => drop(below.on.insert(*blob)),
            }
        }
        below
    }
}

impl Reading {
    /// From here on only needles of a record with this blob are read. A record whose blob is none that can be told is said nothing of.
    pub(crate) fn on(&self, blob: Option<BlobId>) {
        if let Some(on) = self.readers.state().reading.get_mut(&self.number) {
            *on = blob;
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.readers.state().reading.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    // I3
    #[test]
    fn a_mark_is_above_those_before_it_and_below_all_others() {
        let readers = Readers::default();
        assert_eq!(readers.below(readers.mark()), gateway::Readers::default());
        let (a, b) = (readers.begin(), readers.begin());
        let first = readers.mark();
        let c = readers.begin();
        let second = readers.mark();
        assert_eq!(
            (readers.below(first).anywhere, readers.below(second).anywhere),
            (2, 3)
        );
        a.on(Some(BlobId(7)));
        c.on(Some(BlobId(8)));
        let below = readers.below(first);
        assert_eq!((below.anywhere, below.on), (1, BTreeSet::from([BlobId(7)])));
        b.on(None);
        assert_eq!(readers.below(first).anywhere, 1, "it may be on any");
        drop(b);
        assert_eq!(readers.below(second).on, BTreeSet::from([BlobId(7), BlobId(8)]));
        drop((a, c));
        let later = readers.begin();
        later.on(Some(BlobId(9)));
        assert_eq!(readers.below(second), gateway::Readers::default());
        drop(later);
        assert_eq!(readers.state().reading.len(), 0);
    }
}
