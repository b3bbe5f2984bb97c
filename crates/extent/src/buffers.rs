//! Buffers that are used again: made once, and while they are in use neither given back to the system nor cleared.

use std::sync::{Mutex, MutexGuard};

/// Those of one kind that nobody uses just now.
pub(crate) struct Buffers<T> {
    kept: Mutex<Kept<T>>,
    max: usize,
}

struct Kept<T> {
    buffers: Vec<T>,
    /// Since the last rest.
    were_used: bool,
}

impl<T: Default> Buffers<T> {
    /// `max` are kept.
    pub(crate) fn new(max: usize) -> Self {
        let kept = Mutex::new(Kept {
            buffers: Vec::new(),
            were_used: false,
        });
        Self { kept, max }
    }

    fn kept(&self) -> MutexGuard<'_, Kept<T>> {
        self.kept.lock().expect("no panic under this lock")
    }

    /// One that was given back, or a new one.
    pub(crate) fn take(&self) -> T {
        let mut kept = self.kept();
        kept.were_used = true;
        kept.buffers.pop().unwrap_or_default()
    }

    /// For the next.
    pub(crate) fn give_back(&self, buffer: T) {
        let mut kept = self.kept();
        if kept.buffers.len() < self.max {
            kept.buffers.push(buffer);
        }
    }

    /// Gives up those that nobody used since the last time.
    pub(crate) fn rest(&self) {
        let mut kept = self.kept();
        if !std::mem::take(&mut kept.were_used) {
            kept.buffers = Vec::new();
        }
    }

    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.kept().buffers.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_kept_while_they_are_used() {
        let buffers: Buffers<Vec<u8>> = Buffers::new(2);
        let three = [buffers.take(), buffers.take(), buffers.take()];
        three.into_iter().for_each(|b| buffers.give_back(b));
        buffers.rest();
        assert_eq!(buffers.count(), 2, "used since the last time");
        buffers.rest();
        assert_eq!(buffers.count(), 0);
    }
}
