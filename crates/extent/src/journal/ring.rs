//! Which parts of the ring are free. Pure.
//!
//! ```text
//!   |  free  | oldest … newest |  free  |          |newest|  free  | oldest … |
//!            ^tail             ^head                      ^head    ^tail
//! ```
//! A part is freed when a low-water above its records has been synced. The last eighth is kept for starts and marks, so
//! that a full journal can still say what it released, and be opened again and again.

use std::collections::VecDeque;
use types::limits::JOURNAL_BLOCK_BYTES;

const BLOCK: u64 = JOURNAL_BLOCK_BYTES as u64;

/// A group, or a recovered record: where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) last: u64,
    pub(crate) position: u64,
}

/// The ring's state.
#[derive(Debug)]
pub(crate) struct Ring {
    bytes: u64,
    head: u64,
    lap: u32,
    spans: VecDeque<Span>,
}

impl Ring {
    pub(crate) fn new(bytes: u64, head: u64, lap: u32) -> Self {
        assert!(
            bytes.is_multiple_of(BLOCK) && head <= bytes && head.is_multiple_of(BLOCK),
            "rings are whole blocks"
        );
        Self {
            bytes,
            head,
            lap,
            spans: VecDeque::new(),
        }
    }

    /// Takes up a span in order of sequence.
    pub(crate) fn hold(&mut self, span: Span) {
        debug_assert!(self.spans.back().is_none_or(|s| s.last <= span.last));
        self.spans.push_back(span);
    }

    /// All of it.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn head(&self) -> u64 {
        self.head
    }

    pub(crate) fn lap(&self) -> u32 {
        self.lap
    }

    /// Bytes between the oldest record still held and the head.
    pub(crate) fn used(&self) -> u64 {
        match self.spans.front() {
            None => 0,
            Some(s) if s.position / BLOCK * BLOCK < self.head => self.head - s.position / BLOCK * BLOCK,
            Some(s) => self.bytes - s.position / BLOCK * BLOCK + self.head,
        }
    }

    /// Where a group of `least` bytes or more could stand, and how long it may be. `reserve` may use the last eighth.
    pub(crate) fn room(&self, least: u64, reserve: bool) -> Option<(u64, u64)> {
        let kept = if reserve { 0 } else { self.bytes / 8 };
        let free = (self.bytes - self.used()).saturating_sub(kept);
        let tail = self.spans.front().map(|s| s.position / BLOCK * BLOCK);
        let wrapped = tail.is_some_and(|t| t >= self.head && self.used() > 0);
        let at_head = if wrapped {
            tail.expect("just seen") - self.head
        } else {
            self.bytes - self.head
        };
        if at_head.min(free) >= least {
            return Some((self.head, at_head.min(free)));
        }
        if wrapped {
            return None;
        }
        // What is left before the end is given up: it counts as used until the tail has passed it.
        let at_start = tail.unwrap_or(self.bytes);
        let free = free.saturating_sub(self.bytes - self.head);
        (at_start.min(free) >= least).then_some((0, at_start.min(free)))
    }

    /// Takes the place that [`Ring::room`] named.
    pub(crate) fn take(&mut self, position: u64, bytes: u64, last: u64) {
        assert!(bytes.is_multiple_of(BLOCK) && position + bytes <= self.bytes);
        if position != self.head {
            assert!(position == 0, "a group stands at the head or at the start");
            self.lap += 1;
        }
        self.head = position + bytes;
        self.hold(Span { last, position });
    }

    /// The lap that a group at `position` is in.
    pub(crate) fn lap_at(&self, position: u64) -> u32 {
        if position == self.head {
            self.lap
        } else {
            self.lap + 1
        }
    }

    /// Whether `low_water`, once synced, frees anything.
    pub(crate) fn would_free(&self, low_water: u64) -> bool {
        self.spans.front().is_some_and(|s| s.last < low_water)
    }

    /// Frees what stands wholly below `low_water`, which is synced.
    pub(crate) fn free_below(&mut self, low_water: u64) {
        while self.spans.front().is_some_and(|s| s.last < low_water) {
            self.spans.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing held is ever handed out again, over many laps of groups of odd sizes.
    #[test]
    fn held_parts_are_never_given_out() {
        let mut ring = Ring::new(64 * BLOCK, 0, 0);
        let mut held: VecDeque<(u64, u64, u64)> = VecDeque::new();
        let mut low = 1;
        for seq in 1..5000u64 {
            let want = (seq * 7919 % 5 + 1) * BLOCK;
            match ring.room(want, seq % 11 == 0) {
                Some((position, room)) => {
                    assert!(room >= want);
                    for (_, p, n) in &held {
                        assert!(
                            position + want <= *p || p + n <= position,
                            "{seq}: {position} over {p}"
                        );
                    }
                    ring.take(position, want, seq);
                    held.push_back((seq, position, want));
                }
                None => low = seq.saturating_sub(seq % 9),
            }
            ring.free_below(low);
            held.retain(|h| h.0 >= low);
        }
        assert!(ring.lap() > 100);
    }

    /// Three eighths always fit when only the newest block is held.
    #[test]
    fn the_largest_record_never_waits_for_ever() {
        for head in 1..=64 {
            let mut ring = Ring::new(64 * BLOCK, (head - 1) * BLOCK, 0);
            ring.take((head - 1) * BLOCK, BLOCK, 1);
            assert!(ring.room(24 * BLOCK - 1, false).is_some(), "head {head}");
        }
    }

    #[test]
    fn the_last_eighth_is_kept() {
        let mut ring = Ring::new(64 * BLOCK, 0, 0);
        for seq in 1..=56 {
            let (p, _) = ring.room(BLOCK, false).unwrap();
            ring.take(p, BLOCK, seq);
        }
        assert_eq!(ring.room(BLOCK, false), None);
        assert_eq!(ring.room(BLOCK, true), Some((56 * BLOCK, 8 * BLOCK)));
    }
}
