//! Zeroes in front of the head, in the first lap.
//!
//! ```text
//!   |  records  |   zeroes   |▒▒▒▒|  never written                    |
//!               ^head   clean^    ^taken: zeroes are being written
//! ```
//! A record over zeroes changes bytes of blocks that the file has; one over what was never written has the file system book blocks in its sync. So
//! the file is zeroed in front of the head, past the page cache and by a loop of its own: no record's sync carries zeroes, and no record waits
//! for them but where it goes into the step that is being written. Nothing depends on a byte of it (docs/formats/journal.md).

use super::Shared;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use types::limits::{JOURNAL_ZEROED_BYTES_MAX, JOURNAL_ZEROED_BYTES_MIN};
use world::{Aligned, DiskFile, Loop};

/// Written at once. A record that has to wait waits for as much.
const STEP_BYTES: u64 = 1 << 20;

/// What is zero, and what is becoming so.
pub(crate) struct Ahead {
    bytes: u64,
    /// Where the head was when the journal was opened.
    begun: u64,
    state: Mutex<State>,
    written: Condvar,
}

struct State {
    /// Records stand below it.
    head: u64,
    /// All that was zeroed ends here; no more is to come where it is the file's end.
    clean: u64,
    /// From where to where zeroes are being written.
    taken: Option<(u64, u64)>,
}

impl Ahead {
    /// For a journal of `bytes`, of which nothing behind `head` was written.
    pub(crate) fn new(bytes: u64, head: u64) -> Arc<Self> {
        Arc::new(Self {
            bytes,
            begun: head,
            state: Mutex::new(State {
                head,
                clean: head,
                taken: None,
            }),
            written: Condvar::new(),
        })
    }

    /// Nothing is to be zeroed: it was all written.
    pub(crate) fn none() -> Arc<Self> {
        Self::new(0, 0)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic under this lock")
    }

    /// Records are about to be written from `from` to `to`: no zeroes go there any more. Whether the loop is to be woken.
    pub(crate) fn pass(&self, from: u64, to: u64) -> bool {
        let mut state = self.state();
        // In the next lap what was not zeroed will never be.
        let is_first = to >= state.head;
        state.clean = if is_first { state.clean.max(to) } else { self.bytes };
        // No further step goes there: one at most is waited for.
        while state.taken.is_some_and(|(begin, end)| from < end && begin < to) {
            state = self.written.wait(state).expect("no panic under this lock");
        }
        if !is_first {
            return false;
        }
        state.head = to;
        state.clean < self.bytes && state.clean - to < self.wanted(to) / 2
    }

    /// How much is to be zero in front of the head: little of a journal that nobody writes to.
    fn wanted(&self, head: u64) -> u64 {
        (head - self.begun).clamp(JOURNAL_ZEROED_BYTES_MIN, JOURNAL_ZEROED_BYTES_MAX)
    }

    /// Takes the next step, if one is due.
    fn take(&self) -> Option<(u64, u64)> {
        let mut state = self.state();
        let to = (state.head + self.wanted(state.head)).min(self.bytes);
        if state.clean >= to || state.taken.is_some() {
            return None;
        }
        let to = to.min(state.clean + STEP_BYTES);
        state.taken = Some((state.clean, to));
        state.taken
    }

    /// No step is under way any more, and none begins: who opens the file next need not look out for one.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.clean = self.bytes;
        while state.taken.is_some() {
            state = self.written.wait(state).expect("no panic under this lock");
        }
    }

    /// The step that was taken is written; or it was not, and no more is.
    fn end(&self, is_written: bool) {
        let mut state = self.state();
        let taken = state.taken.take().filter(|_| is_written);
        state.clean = taken.map_or(self.bytes, |(_, end)| end.max(state.clean));
        drop(state);
        self.written.notify_all();
    }
}

/// Ends it when dropped.
pub(crate) struct Closes(pub(crate) Arc<Ahead>);

impl Drop for Closes {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The loop that writes them.
pub(crate) struct Zeroes {
    pub(crate) shared: Arc<Shared>,
    /// Opened for it alone: what a sync fails with is told once to each who has opened the file, and the records' writer must hear of it.
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) ahead: Arc<Ahead>,
}

impl Zeroes {
    /// All steps that are due; whether there was one.
    fn write(&self) -> io::Result<bool> {
        let mut zeroes = Aligned::default();
        let mut any = false;
        while let Some((from, to)) = self.ahead.take() {
            any = true;
            zeroes.make((to - from) as usize).fill(0);
            let written = self.file.write_pages_at(&zeroes, from);
            self.ahead.end(written.is_ok());
            match written {
                // Nothing acked is at risk, and records say themselves whether there is room for them.
                Err(e) if e.kind() == io::ErrorKind::StorageFull => break,
                other => other?,
            }
            self.shared.stats.bytes.fetch_add(to - from, Ordering::Relaxed);
        }
        Ok(any)
    }
}

impl Loop<()> for Zeroes {
    fn apply(&mut self, _woken: &mut Vec<()>) {
        if self.shared.check().is_err() {
            return;
        }
        let done = self.write().and_then(|any| match any {
            // Blocks that are booked by a sync of their own are booked by no record's.
            true => {
                self.shared.stats.flushes.fetch_add(1, Ordering::Relaxed);
                self.file.sync_data()
            }
            false => Ok(()),
        });
        // The file system has shown that it cannot be written; a sync that fails for want of room may have failed for a record.
        if let Err(e) = done {
            self.shared.fail(&format!("journal: {e}"));
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // who is to be seen waiting is given some time for not waiting
mod tests {
    use super::*;
    use std::thread;
    use std::time::Duration;

    const MIB: u64 = 1 << 20;

    #[test]
    fn zeroes_stay_in_front_of_records_and_as_far_as_is_wanted() {
        let bytes = 200 * MIB;
        let ahead = Ahead::new(bytes, 3 * MIB);
        let (mut head, mut zeroed, mut most) = (3 * MIB, 3 * MIB, 0);
        let mut woken = true;
        for n in 0_u64.. {
            while woken && let Some((from, to)) = ahead.take() {
                assert!(from >= head && from >= zeroed && to <= bytes && to - from <= STEP_BYTES);
                assert!(ahead.take().is_none(), "one step at a time");
                ahead.end(true);
                zeroed = to;
            }
            most = most.max(zeroed.saturating_sub(head));
            // Longer than what is zero, now and then.
            let length = 4096 * (1 + n * 7919 % 300) * if n % 50 == 49 { 20 } else { 1 };
            if head + length > bytes {
                break;
            }
            woken = ahead.pass(head, head + length);
            head += length;
        }
        assert!(most > JOURNAL_ZEROED_BYTES_MAX / 2 && most <= JOURNAL_ZEROED_BYTES_MAX);
        assert!(!ahead.pass(0, 4096) && ahead.take().is_none(), "the next lap");
        assert!(!ahead.pass(4096, head + 4096) && ahead.take().is_none());
    }

    #[test]
    fn a_journal_that_nobody_writes_to_has_few() {
        let ahead = Ahead::new(1 << 30, 0);
        let mut zeroed = 0;
        while let Some((_, to)) = ahead.take() {
            ahead.end(true);
            zeroed = to;
        }
        assert_eq!(zeroed, JOURNAL_ZEROED_BYTES_MIN);
        assert!(Ahead::none().take().is_none());
    }

    /// I1: zeroes that are under way do not come to lie over a record, whichever lap it is of.
    #[test]
    fn a_record_waits_for_zeroes_that_go_where_it_goes() {
        for (before, from) in [(0, 0), (8 * MIB, 8 * MIB), (0, MIB - 4096)] {
            let ahead = Ahead::new(16 * MIB, before);
            let (taken, _) = ahead.take().expect("a step");
            assert_eq!(taken, before);
            // Where no zeroes go nothing waits.
            ahead.pass(12 * MIB, 12 * MIB + 4096);
            let order = Mutex::new(Vec::new());
            thread::scope(|scope| {
                scope.spawn(|| {
                    ahead.pass(from, from + 4096);
                    order.lock().unwrap().push("record");
                });
                thread::sleep(Duration::from_millis(30));
                order.lock().unwrap().push("zeroes");
                ahead.end(true);
            });
            assert_eq!(*order.lock().unwrap(), ["zeroes", "record"], "{from}");
        }
    }

    #[test]
    fn none_is_under_way_once_it_is_closed() {
        let ahead = Ahead::new(16 * MIB, 0);
        ahead.take().expect("a step");
        let ended = Mutex::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(30));
                *ended.lock().unwrap() = true;
                ahead.end(true);
            });
            drop(Closes(ahead.clone()));
            assert!(*ended.lock().unwrap());
        });
        assert!(ahead.take().is_none() && !ahead.pass(0, 4096));
    }

    #[test]
    fn where_zeroes_cannot_be_written_no_more_are() {
        let ahead = Ahead::new(16 * MIB, 0);
        ahead.take().expect("a step");
        ahead.end(false);
        assert!(ahead.take().is_none() && !ahead.pass(0, 4096));
    }
}
