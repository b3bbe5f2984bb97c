//! What listings leapt to, remembered by the reader that they had it from.
//!
//! A page of common prefixes is a search from the root for each of them. A reader stands on one moment, so what it once found behind a key
//! is there for as long as the reader is: until the next rows are written behind, or the partition rests. So a listing that is asked for
//! again, as by who polls or turns back a page, costs what its lines cost, however many keys each of them stands for.

use super::form::Row;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard};
use types::limits::{LEAPS_AT_ONCE, LEAPS_BYTES_MAX};

/// What one of them takes beside its bytes.
const EACH_BYTES: usize = 128;

/// The first rows behind some keys.
#[derive(Default)]
pub(super) struct Leaps(Mutex<Found>);

#[derive(Default)]
struct Found {
    rows: BTreeMap<Bytes, Row>,
    bytes: usize,
}

impl Leaps {
    fn found(&self) -> MutexGuard<'_, Found> {
        self.0.lock().expect("no panic under this lock")
    }

    /// Remembers that `row` is the first from `key` on.
    pub(super) fn insert(&self, key: Bytes, row: Row) {
        let mut found = self.found();
        if found.bytes >= LEAPS_BYTES_MAX {
            // What listings come to again is found again.
            *found = Found::default();
        }
        found.bytes += EACH_BYTES + key.len() + row.0.len() + row.1.as_ref().map_or(0, Bytes::len);
        if let Some((_, before)) = found.rows.insert(key, row) {
            found.bytes -= before.map_or(0, |value| value.len());
        }
    }

    fn from(&self, key: &Bytes) -> VecDeque<(Bytes, Row)> {
        let found = self.found();
        let some = found.rows.range(key.clone()..).take(LEAPS_AT_ONCE);
        some.map(|(key, row)| (key.clone(), row.clone())).collect()
    }
}

/// One listing's way through them: it asks for keys in their order.
pub(super) struct Way<'a> {
    leaps: &'a Leaps,
    ahead: VecDeque<(Bytes, Row)>,
    /// There is nothing more behind what is ahead.
    is_all: bool,
}

impl<'a> Way<'a> {
    pub(super) fn new(leaps: &'a Leaps) -> Self {
        Self {
            leaps,
            ahead: VecDeque::new(),
            is_all: false,
        }
    }

    /// The first row from `key` on, if it is remembered.
    pub(super) fn row(&mut self, key: &Bytes) -> Option<Row> {
        while self.ahead.pop_front_if(|(before, _)| *before < *key).is_some() {}
        if self.ahead.is_empty() && !self.is_all {
            self.ahead = self.leaps.from(key);
            self.is_all = self.ahead.len() < LEAPS_AT_ONCE;
        }
        self.ahead
            .pop_front_if(|(found, _)| found == key)
            .map(|(_, row)| row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(n: usize) -> (Bytes, Row) {
        let key = format!("{n:06}");
        (
            key.clone().into(),
            (format!("{key}a").into(), Some("value".into())),
        )
    }

    #[test]
    fn what_is_remembered_is_found_in_order_and_from_anywhere() {
        let leaps = Leaps::default();
        for n in (0..1_000).filter(|n| n % 3 > 0) {
            let (key, row) = row(n);
            leaps.insert(key, row);
        }
        for first in [0, 1, 500, 999, 1_000] {
            let mut way = Way::new(&leaps);
            for n in first..1_000 {
                let (key, row) = row(n);
                assert_eq!(way.row(&key), (n % 3 > 0).then_some(row), "{n} from {first}");
            }
            assert_eq!(way.row(&row(1_001).0), None);
        }
    }

    // I9
    #[test]
    fn no_more_is_remembered_than_is_allowed() {
        let leaps = Leaps::default();
        let value = Bytes::from(vec![7; 64 << 10]);
        for n in 0..2 * LEAPS_BYTES_MAX / value.len() {
            let (key, (row, _)) = row(n);
            leaps.insert(key, (row, Some(value.clone())));
            assert!(leaps.found().bytes <= LEAPS_BYTES_MAX + 2 * value.len());
        }
        let (key, row) = row(1);
        for _ in 0..1_000 {
            leaps.insert(key.clone(), row.clone());
        }
        assert!(leaps.found().bytes <= LEAPS_BYTES_MAX + 2 * value.len());
        assert_eq!(Way::new(&leaps).row(&key), Some(row));
    }
}
