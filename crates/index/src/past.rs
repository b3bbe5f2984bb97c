//! Rows of a range past those that cannot be read (`store::next_rows`).

use crate::rows::Range;
use bytes::Bytes;
pub(crate) use store::NextRows;
use store::{Rows, Scan, Snapshot, StoreError};
use types::limits::{ROW_KEY_BYTES_MAX, SCAN_ROWS_MAX};

/// Rows of a range, all that can be read, and what was said of those that cannot.
pub(crate) struct Readable {
    pub(crate) rows: Rows,
    pub(crate) lost: Vec<StoreError>,
}

/// All rows of `range` that can be read.
pub(crate) async fn readable(snapshot: &dyn Snapshot, range: &Range) -> Result<Readable, StoreError> {
    let (mut rows, mut lost) = (Rows::new(), Vec::new());
    let mut rest = range.clone();
    while rest.start < rest.end {
        let some = next_rows(snapshot, &rest, SCAN_ROWS_MAX).await?;
        rows.extend(some.rows);
        lost.extend(some.lost);
        rest.start = some.next;
    }
    Ok(Readable { rows, lost })
}

/// The first rows of `range`, at most `max`; or none, and where the first is that can be read.
pub(crate) async fn next_rows(
    snapshot: &dyn Snapshot,
    range: &Range,
    max: usize,
) -> Result<NextRows, StoreError> {
    let scan = Scan {
        start: range.start.clone(),
        end: range.end.clone(),
        max: max.min(SCAN_ROWS_MAX),
    };
    store::next_rows(snapshot, scan, longest(range)).await
}

/// The first place of `range`, whose first row cannot be read, from which rows can be read again.
pub(crate) async fn past(snapshot: &dyn Snapshot, range: &Range) -> Result<Bytes, StoreError> {
    Ok(next_rows(snapshot, range, 1).await?.next)
}

/// The longest row key that a range can have: tables whose keys are all of one length need no more.
fn longest(range: &Range) -> usize {
    let fixed = [(Range::done(), 17), (Range::sessions(), 9)];
    let inside = |all: &Range| all.start <= range.start && range.end <= all.end;
    let known = fixed.into_iter().find(|(all, _)| inside(all));
    known.map_or(ROW_KEY_BYTES_MAX, |(_, bytes)| bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::RowRef;
    use std::collections::BTreeMap;
    use types::BucketId;

    /// Rows of which those between two cannot be read, nor the gap before them; several times over.
    struct Holed {
        rows: BTreeMap<Bytes, Bytes>,
        bad: Vec<(Bytes, Bytes)>,
    }

    #[async_trait::async_trait]
    impl Snapshot for Holed {
        async fn get(&self, _: &[Bytes]) -> Result<Vec<Option<Bytes>>, StoreError> {
            unreachable!("only scans")
        }
        async fn scan(&self, scan: &Scan) -> Result<Rows, StoreError> {
            let mut rows = Rows::new();
            for (key, value) in self.rows.range(scan.start.clone()..scan.end.clone()) {
                if rows.len() == scan.max {
                    break;
                }
                let inside = |(from, to): &(Bytes, Bytes)| key >= from && key <= to;
                if let Some(page) = self.bad.iter().position(inside) {
                    return Err(StoreError::Corrupt(format!("the page at byte {page}")));
                }
                rows.push((key.clone(), value.clone()));
            }
            Ok(rows)
        }
    }

    /// Keys that begin alike for longer than places are told apart at once: those of one "directory".
    #[tokio::test]
    async fn rows_behind_unreadable_ones_are_all_found() {
        for name in [
            "",
            "a/rather/long/directory/name/in/which/everything/stands/side/by/side/",
        ] {
            let name = name.repeat(3);
            let at = |n: u32| RowRef::Current(BucketId(1), &format!("{name}{n:04}")).key();
            let mut rows: BTreeMap<Bytes, Bytes> = (0..600).map(|n| (at(n), Bytes::new())).collect();
            let bad: [&[(u32, u32)]; 12] = [
                &[(0, 0)],
                &[(0, 599)],
                &[(17, 21)],
                &[(250, 259)],
                &[(599, 599)],
                &[(100, 399)],
                // Good ones between bad ones, of which ends of keys know nothing.
                &[(100, 125), (150, 175)],
                &[(10, 19), (30, 39), (50, 59)],
                &[(0, 9), (11, 598)],
                &[(100, 109), (110, 119), (121, 121)],
                &[(99, 100), (109, 110), (199, 200), (299, 300), (301, 599)],
                &[(0, 199), (200, 399), (400, 599)],
            ];
            for ranges in bad {
                let bad = ranges.iter().map(|(from, to)| (at(*from), at(*to))).collect();
                let holed = Holed { rows, bad };
                let range = Range::walked()[0].clone();
                let found = readable(&holed, &range).await.unwrap();
                let bad: u32 = ranges.iter().map(|(from, to)| to - from + 1).sum();
                assert_eq!(
                    (found.rows.len(), found.lost.len()),
                    (600 - bad as usize, ranges.len()),
                    "{name:?} {ranges:?}"
                );
                rows = holed.rows;
            }
        }
    }
}
