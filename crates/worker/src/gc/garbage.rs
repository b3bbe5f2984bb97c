//! Bookings become dropped needles: which of a page go now, and which rows may be forgotten after.
//!
//! ```text
//!   page read ▶ mark taken ▶ readers below it: none anywhere, those on a blob known ▶ needles handed over, durable ▶ rows forgotten
//! ```
//! The mark is taken after the page was read: whoever registers later finds no record of what is on it. A reader that has said
//! which blob it reads keeps that one booking back, not the others.
//!
//! A booking with a manifest comes in pages. It is handed over from its first page to its last in one pass, or not forgotten: then
//! a later pass begins it again, and what was handed over is handed over twice. Where its extent was compacted in between that is garbage
//! which is not there, so one that broke off at damage is let be for long.
//!
//! An extent whose dropped list cannot be read keeps the bookings that have a needle in it, and no other.

use crate::gc::plan::{Level, is_ripe};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use types::{BlobId, ExtentId, NeedleId};
use wire::control::Dropped;
use wire::index::{Booked, BookedRef};

/// What is to be done with a page of bookings.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Handing(Vec<Booked>);

impl Handing {
    /// Needles that may go.
    pub(crate) fn needles(&self) -> Vec<Dropped> {
        let chunks = self.0.iter().flat_map(|booked| &booked.chunks);
        let dropped = chunks.map(|c| Dropped {
            extent: ExtentId(c.place),
            needle: NeedleId(c.needle),
            stored_length: c.stored_length,
        });
        dropped.collect()
    }

    /// Rows to forget once the needles are booked.
    pub(crate) fn rows(&self) -> Vec<BookedRef> {
        let ended = self.0.iter().filter(|booked| booked.is_last);
        ended.map(|booked| booked.row.clone()).collect()
    }
}

/// A pass over all bookings.
#[derive(Debug, Default)]
pub(crate) struct Pass {
    /// The booking that is being handed over, and its next page.
    under_way: Option<(BookedRef, u32)>,
    /// When the oldest booking that stays was made, milliseconds since 1970.
    pub(crate) oldest_ms: Option<u64>,
    /// How many bookings stay.
    pub(crate) stayed: u64,
    /// Extents whose dropped lists cannot be read.
    pub(crate) unreadable: BTreeSet<ExtentId>,
    /// Bookings of which some was handed over and the rest could not be.
    pub(crate) broken_off: Vec<BlobId>,
}

/// What decides whether a booking goes.
pub(crate) struct Ripeness<'a> {
    pub(crate) now_ms: u64,
    pub(crate) grace: Duration,
    pub(crate) levels: &'a BTreeMap<ExtentId, Level>,
    /// Blobs that a reader from before the page was read is still on.
    pub(crate) read: &'a BTreeSet<BlobId>,
}

impl Pass {
    /// A pass that leaves extents alone whose dropped lists could not be read.
    pub(crate) fn without(unreadable: BTreeSet<ExtentId>) -> Self {
        Self {
            unreadable,
            ..Self::default()
        }
    }

    /// Whether anything of a page may go, were nobody reading it.
    pub(crate) fn wants(&self, page: &[Booked], ripeness: &Ripeness<'_>) -> bool {
        self.under_way.is_some() || page.iter().any(|b| b.page == 0 && ripeness.lets_go(b))
    }

    /// Which of a page's needles and rows go now.
    pub(crate) fn hand_over(&mut self, page: Vec<Booked>, ripeness: &Ripeness<'_>) -> Handing {
        let mut handing = Handing::default();
        for booked in page {
            let begun = self.under_way.take();
            let goes_on =
                (begun.as_ref()).is_some_and(|(row, next)| *row == booked.row && *next == booked.page);
            if let Some((row, _)) = begun.filter(|_| !goes_on) {
                // Its next page could not be had.
                self.broken_off.push(row.blob);
            }
            if !goes_on && (booked.page > 0 || !ripeness.lets_go(&booked)) {
                self.stays(&booked);
                continue;
            }
            if !booked.is_last {
                self.under_way = Some((booked.row.clone(), booked.page + 1));
            }
            handing.0.push(booked);
        }
        self.keep_back(&mut handing);
        handing
    }

    /// Takes the bookings back that have a needle in an extent whose dropped list cannot be read.
    pub(crate) fn keep_back(&mut self, handing: &mut Handing) {
        let touches = |booked: &&Booked| {
            let mut extents = booked.chunks.iter().map(|c| ExtentId(c.place));
            extents.any(|extent| self.unreadable.contains(&extent))
        };
        let stay: Vec<BookedRef> = handing.0.iter().filter(touches).map(|b| b.row.clone()).collect();
        if stay.is_empty() {
            return;
        }
        let (back, going) = std::mem::take(&mut handing.0)
            .into_iter()
            .partition(|booked| stay.contains(&booked.row));
        handing.0 = going;
        self.under_way = self.under_way.take().filter(|(row, _)| !stay.contains(row));
        let back: Vec<Booked> = back;
        for (n, booked) in back.iter().enumerate() {
            // Pages before its first one here are with the control plane.
            if booked.page > 0 && (n == 0 || back[n - 1].row != booked.row) {
                self.broken_off.push(booked.row.blob);
            }
            self.stays(booked);
        }
    }

    /// Nothing of a page goes now; a booking that it cuts in two is left to the next pass.
    pub(crate) fn leave(&mut self, page: &[Booked]) {
        self.under_way = None;
        page.iter().for_each(|booked| self.stays(booked));
    }

    /// All bookings were seen: one that is under way still has a page that could not be had.
    pub(crate) fn end(&mut self) {
        self.broken_off
            .extend(self.under_way.take().map(|(row, _)| row.blob));
    }

    fn stays(&mut self, booked: &Booked) {
        self.stayed += u64::from(booked.is_last);
        let since = booked.row.booked.wall_ms();
        self.oldest_ms = Some(self.oldest_ms.map_or(since, |oldest| oldest.min(since)));
    }
}

impl Ripeness<'_> {
    fn lets_go(&self, booked: &Booked) -> bool {
        !self.read.contains(&booked.row.blob) && is_ripe(booked, self.now_ms, self.grace, self.levels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::{BucketId, Hlc, SessionId};
    use wire::records::Chunk;

    fn booked(serial: u64, at_ms: u64, page: u32, is_last: bool) -> Booked {
        let chunk = Chunk {
            place: serial,
            needle: u64::from(page) + 1,
            stored_length: 10,
            ..Chunk::default()
        };
        Booked {
            row: BookedRef {
                bucket: BucketId(1),
                key: "k".into(),
                blob: BlobId::new(SessionId(1), serial),
                booked: Hlc::at(at_ms),
            },
            page,
            is_last,
            chunks: vec![chunk],
        }
    }

    fn going(
        pass: &mut Pass,
        page: Vec<Booked>,
        levels: &[(u64, Level)],
        read: &[u64],
    ) -> (Vec<(u64, u64)>, usize) {
        let levels = levels.iter().map(|(e, l)| (ExtentId(*e), *l)).collect();
        let read = read
            .iter()
            .map(|serial| BlobId::new(SessionId(1), *serial))
            .collect();
        let ripeness = Ripeness {
            now_ms: 1000,
            grace: Duration::from_millis(100),
            levels: &levels,
            read: &read,
        };
        let handing = pass.hand_over(page, &ripeness);
        let needles = handing
            .needles()
            .iter()
            .map(|d| (d.extent.0, d.needle.0))
            .collect();
        (needles, handing.rows().len())
    }

    // I3
    #[test]
    fn the_young_stay_unless_room_is_short_and_the_read_stay_in_any_case() {
        let page = || {
            vec![
                booked(1, 900, 0, true),
                booked(2, 901, 0, true),
                booked(3, 0, 0, true),
            ]
        };
        let mut pass = Pass::default();
        assert_eq!(going(&mut pass, page(), &[], &[]), (vec![(1, 1), (3, 1)], 2));
        assert_eq!(pass.oldest_ms, Some(901));
        let short = [(2, Level::Short)];
        assert_eq!(going(&mut Pass::default(), page(), &short, &[]).1, 3);
        assert_eq!(
            going(&mut Pass::default(), page(), &short, &[2, 3]),
            (vec![(1, 1)], 1)
        );
    }

    #[test]
    fn a_booking_is_forgotten_with_its_last_page_and_only_when_all_were_handed_over() {
        let mut pass = Pass::default();
        assert_eq!(
            going(&mut pass, vec![booked(1, 0, 0, false)], &[], &[]),
            (vec![(1, 1)], 0)
        );
        assert_eq!(
            going(&mut pass, vec![booked(1, 0, 1, false)], &[], &[1]),
            (vec![(1, 2)], 0)
        );
        pass.leave(&[]);
        assert_eq!(
            going(&mut pass, vec![booked(1, 0, 2, true)], &[], &[]),
            (vec![], 0),
            "page 1 may be lost"
        );
        let whole = vec![
            booked(1, 0, 0, false),
            booked(1, 0, 1, true),
            booked(2, 999, 0, false),
            booked(2, 999, 1, true),
        ];
        assert_eq!(going(&mut pass, whole, &[], &[]), (vec![(1, 1), (1, 2)], 1));
        let other = vec![booked(1, 0, 0, false), booked(3, 0, 1, true)];
        assert_eq!(
            going(&mut pass, other, &[], &[]).1,
            0,
            "a page of another booking ends nothing"
        );
        assert_eq!(pass.broken_off.len(), 1, "booking 2 went on, booking 1 did not");
    }

    #[test]
    fn a_pass_that_ends_within_a_booking_says_so() {
        let mut pass = Pass::default();
        going(
            &mut pass,
            vec![booked(1, 0, 0, true), booked(2, 0, 0, false)],
            &[],
            &[],
        );
        pass.end();
        assert_eq!(pass.broken_off, [BlobId::new(SessionId(1), 2)]);
        let mut whole = Pass::default();
        going(
            &mut whole,
            vec![booked(2, 0, 0, false), booked(2, 0, 1, true)],
            &[],
            &[],
        );
        whole.end();
        assert_eq!(whole.broken_off, []);
    }

    #[test]
    fn what_has_a_needle_in_an_unreadable_list_stays_whole() {
        let mut pass = Pass::without(BTreeSet::from([ExtentId(2), ExtentId(4)]));
        let mut second = booked(3, 0, 1, true);
        second.chunks[0].place = 2;
        let page = vec![
            booked(1, 0, 0, true),
            booked(2, 0, 0, true),
            booked(3, 0, 0, false),
            second,
            booked(5, 0, 0, true),
            booked(6, 0, 0, false),
        ];
        assert_eq!(going(&mut pass, page, &[], &[]).0, [(1, 1), (5, 1), (6, 1)]);
        assert!(pass.broken_off.is_empty(), "nothing of 3 went");
        let mut later = booked(6, 0, 1, true);
        later.chunks[0].place = 4;
        let rest = vec![later, booked(7, 0, 0, true)];
        assert_eq!(going(&mut pass, rest, &[], &[]), (vec![(7, 1)], 1));
        assert_eq!(pass.broken_off, [BlobId::new(SessionId(1), 6)]);
    }
}
