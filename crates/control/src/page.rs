//! Needles of an extent that may go, a page of 4,096 at a time: a set of numbers, stored as lengths of runs.
//!
//! ```text
//!   needles 4096·p ..      kept kept DROPPED DROPPED DROPPED kept ... kept
//!   runs                   2, 3                                      (what lies past the last run is kept)
//! ```
//! Deletes of neighbours cost nothing more, a page of every second needle 4 KiB: the row is bounded whatever was deleted.

use types::NeedleId;
use types::limits::DROPPED_PAGE_NEEDLES;
use wire::records::DroppedPage;

const WORDS: usize = (DROPPED_PAGE_NEEDLES / 64) as usize;

/// A page of needles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    words: [u64; WORDS],
    /// What its needles take of the extent.
    pub(crate) bytes: u64,
}

/// Which page a needle is on, and where.
pub(crate) fn place(needle: NeedleId) -> (u64, u64) {
    (needle.0 / DROPPED_PAGE_NEEDLES, needle.0 % DROPPED_PAGE_NEEDLES)
}

impl Page {
    /// No needle.
    pub(crate) const EMPTY: Self = Self {
        words: [0; WORDS],
        bytes: 0,
    };

    /// From its row; an error says what no page is.
    pub(crate) fn read(record: &DroppedPage) -> Result<Self, &'static str> {
        let mut page = Self {
            bytes: record.bytes,
            ..Self::EMPTY
        };
        let mut at = 0u64;
        for (n, run) in record.runs.iter().enumerate() {
            let end = at + u64::from(*run);
            if end > DROPPED_PAGE_NEEDLES || (*run == 0 && n > 0) {
                return Err("a page of needles with a run that cannot be");
            }
            if n % 2 == 1 {
                (at..end).for_each(|i| page.words[(i / 64) as usize] |= 1 << (i % 64));
            }
            at = end;
        }
        Ok(page)
    }

    /// Its row.
    pub(crate) fn record(&self) -> DroppedPage {
        let (mut runs, mut dropped, mut length) = (Vec::new(), false, 0);
        for i in 0..DROPPED_PAGE_NEEDLES {
            if self.has(i) != dropped {
                runs.push(length);
                (dropped, length) = (!dropped, 0);
            }
            length += 1;
        }
        if dropped {
            runs.push(length);
        }
        DroppedPage {
            runs,
            bytes: self.bytes,
        }
    }

    /// Whether the needle at this place is on it.
    pub(crate) fn has(&self, at: u64) -> bool {
        self.words[(at / 64) as usize] & (1 << (at % 64)) != 0
    }

    /// Puts the needle at this place on it; whether it was not there.
    pub(crate) fn put(&mut self, at: u64, stored_length: u64) -> bool {
        let new = !self.has(at);
        if new {
            self.words[(at / 64) as usize] |= 1 << (at % 64);
            self.bytes = self.bytes.saturating_add(stored_length);
        }
        new
    }

    /// Puts all needles of another page on it, of which it has none.
    pub(crate) fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.words.iter_mut().zip(other.words) {
            *mine |= theirs;
        }
        self.bytes = self.bytes.saturating_add(other.bytes);
    }

    /// How many needles are on it.
    pub(crate) fn count(&self) -> u64 {
        self.words.iter().map(|w| u64::from(w.count_ones())).sum()
    }

    /// The needles on it, which is page `number` of its extent, ascending.
    pub(crate) fn needles(&self, number: u64) -> impl Iterator<Item = NeedleId> + '_ {
        let first = number * DROPPED_PAGE_NEEDLES;
        (0..DROPPED_PAGE_NEEDLES)
            .filter(|at| self.has(*at))
            .map(move |at| NeedleId(first + at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use prost::Message;

    fn of(places: &[u64]) -> Page {
        let mut page = Page::EMPTY;
        for at in places {
            page.put(*at, 10);
        }
        page
    }

    #[test]
    fn neighbours_are_one_run_and_a_page_has_a_bound() {
        assert_eq!(of(&[2, 3, 4]).record().runs, [2, 3]);
        assert_eq!(of(&[0, 4095]).record().runs, [0, 1, 4094, 1]);
        assert_eq!(of(&[]).record().runs, Vec::<u32>::new());
        let every_second: Vec<u64> = (0..DROPPED_PAGE_NEEDLES).step_by(2).collect();
        assert!(of(&every_second).record().encoded_len() < 4200);
    }

    #[test]
    fn what_no_page_is_is_refused() {
        for runs in [
            vec![0, 4097],
            vec![4096, 1],
            vec![1, 0, 1],
            vec![u32::MAX, u32::MAX],
        ] {
            assert!(Page::read(&DroppedPage { runs, bytes: 0 }).is_err());
        }
    }

    proptest! {
        #[test]
        fn pages_come_back(places in proptest::collection::btree_set(0..DROPPED_PAGE_NEEDLES, 0..200)) {
            let places: Vec<u64> = places.into_iter().collect();
            let page = of(&places);
            prop_assert_eq!(&Page::read(&page.record()).unwrap(), &page);
            prop_assert_eq!((page.count(), page.bytes), (places.len() as u64, 10 * places.len() as u64));
            let ids: Vec<u64> = page.needles(3).map(|n| n.0 - 3 * DROPPED_PAGE_NEEDLES).collect();
            prop_assert_eq!(ids, places);
        }

        #[test]
        fn twice_is_once(places in proptest::collection::vec(0..DROPPED_PAGE_NEEDLES, 0..50)) {
            let once = of(&places);
            let mut twice = once.clone();
            prop_assert!(places.iter().all(|at| !twice.put(*at, 99)));
            prop_assert_eq!(once, twice);
        }
    }
}
