//! Going on behind rows that cannot be read: a page of the index that rotted does not say where it ends.
//!
//! What says it is which page the engine names. Rows of a page lie side by side, so from the place at which the search begins on, each
//! key leads to that page up to the last that does, and none behind it. The search is for that one, by the sentence that names the
//! place; what can be read is no guide, for between two bad pages there may be good ones, and behind one there may be another.

use crate::{Rows, Scan, Snapshot, StoreError};
use bytes::Bytes;

/// Bytes of a row key that are told apart at once where a place is looked for.
const PLACE_BYTES: usize = 48;

/// Some rows of a range.
#[derive(Debug)]
pub struct NextRows {
    /// Those that are there.
    pub rows: Rows,
    /// Why there are none before `next`, where they cannot be read.
    pub lost: Option<StoreError>,
    /// Where to go on: the range's end where nothing is left.
    pub next: Bytes,
}

/// The first rows of a range, at most `scan.max`; or none, and where the first is that can be read. Its row keys have at most
/// `key_bytes_max` bytes.
///
/// # Errors
/// The engine's, but for [`StoreError::Corrupt`].
pub async fn next_rows(
    snapshot: &dyn Snapshot,
    scan: Scan,
    key_bytes_max: usize,
) -> Result<NextRows, StoreError> {
    let mut scan = scan;
    loop {
        match snapshot.scan(&scan).await {
            Ok(rows) => {
                let next = match rows.last().filter(|_| rows.len() == scan.max) {
                    Some((last, _)) => [&last[..], &[0]].concat().into(),
                    None => scan.end,
                };
                let lost = None;
                return Ok(NextRows { rows, lost, next });
            }
            // Behind some of these rows, or before the first.
            Err(StoreError::Corrupt(_)) if scan.max > 1 => scan.max /= 2,
            Err(e @ StoreError::Corrupt(_)) => {
                return Ok(NextRows {
                    rows: Rows::new(),
                    next: Bad {
                        snapshot,
                        place: &e,
                        end: &scan.end,
                    }
                    .past(&scan.start, key_bytes_max)
                    .await?,
                    lost: Some(e),
                });
            }
            Err(e) => return Err(e),
        }
    }
}

/// Rows of a range, with those that lie over places that cannot be read.
#[derive(Debug)]
pub struct ReadableRows {
    /// Those that are there.
    pub rows: Rows,
    /// Why others may have been there.
    pub lost: Vec<StoreError>,
    /// Where to go on: the range's end where nothing is left.
    pub next: Bytes,
}

/// Where the bad place ends in which a reading of a snapshot stands, of each layer: found once, however many rows lie over it, for to find it
/// each key that is tried may have to wait for the device.
#[derive(Clone, Debug, Default)]
pub struct Places(Vec<Bytes>);

/// The first rows of a range that can be read, at most `scan.max`, and where there are none, where to go on. A row that was written since is readable by
/// its key though the page under it is not: where rows cannot be read the layers above them are asked, one less after the other. Row keys have
/// at most `key_bytes_max` bytes. `places` is one reading's, begun empty, of one snapshot and ascending; each place is told once, when it is come to.
///
/// # Errors
/// As for [`next_rows`].
pub async fn readable_rows(
    snapshot: &dyn Snapshot,
    scan: Scan,
    key_bytes_max: usize,
    places: &mut Places,
) -> Result<ReadableRows, StoreError> {
    in_layer((snapshot, 0), scan, key_bytes_max, places).await
}

async fn in_layer(
    (snapshot, layer): (&dyn Snapshot, usize),
    scan: Scan,
    key_bytes_max: usize,
    places: &mut Places,
) -> Result<ReadableRows, StoreError> {
    let (start, max) = (scan.start.clone(), scan.max);
    let known = places.0.get(layer).filter(|end| **end > start);
    let NextRows { rows, lost, next } = match known {
        Some(end) => NextRows {
            rows: Rows::new(),
            lost: None,
            next: end.clone().min(scan.end),
        },
        None => next_rows(snapshot, scan, key_bytes_max).await?,
    };
    if known.is_none() && lost.is_none() {
        let lost = Vec::new();
        return Ok(ReadableRows { rows, lost, next });
    }
    if lost.is_some() {
        places.0.resize(places.0.len().max(layer + 1), Bytes::new());
        places.0[layer] = next.clone();
    }
    let mut lost: Vec<StoreError> = lost.into_iter().collect();
    let Some(upper) = snapshot.upper() else {
        return Ok(ReadableRows { rows, lost, next });
    };
    let over = Scan {
        start,
        end: next,
        max,
    };
    let over = Box::pin(in_layer((&*upper, layer + 1), over, key_bytes_max, places)).await?;
    lost.extend(over.lost);
    Ok(ReadableRows { lost, ..over })
}

/// A place that cannot be read.
struct Bad<'a> {
    snapshot: &'a dyn Snapshot,
    /// How it was told.
    place: &'a StoreError,
    /// The range's end.
    end: &'a Bytes,
}

impl Bad<'_> {
    /// The first key behind `start`, which leads there, that does not. Some key behind it is found by dropping ends of the key, then the
    /// first by halving what lies between, a few bytes of the keys at a time.
    async fn past(&self, start: &Bytes, longest: usize) -> Result<Bytes, StoreError> {
        let mut high = self.end.clone();
        for kept in (1..=start.len()).rev() {
            let next = Bytes::from(incremented(&start[..kept]));
            if next.is_empty() || next >= *self.end {
                break;
            }
            if !self.is_met(&next).await? {
                high = next;
                break;
            }
        }
        let (mut low, mut high) = (start.to_vec(), high.to_vec());
        let mut bytes = 0;
        while bytes < longest {
            bytes = (bytes + PLACE_BYTES).max(first_difference(&low, &high) + 8);
            bytes = bytes.min(longest).max(low.len()).max(high.len());
            low.resize(bytes, 0);
            high.resize(bytes, 0);
            loop {
                let middle = middle(&low, &high);
                if middle == low {
                    break;
                }
                match self.is_met(&Bytes::from(middle.clone())).await? {
                    true => low = middle,
                    false => high = middle,
                }
            }
            // Keys between the two are longer. Where the last of them leads there all do.
            let mut last = low.clone();
            last.resize(longest.max(bytes), 0xFF);
            if self.is_met(&last.into()).await? {
                break;
            }
        }
        Ok(Bytes::from(high).min(self.end.clone()))
    }

    /// Whether a read that begins at `key` comes to this place, not to rows or to another.
    async fn is_met(&self, key: &Bytes) -> Result<bool, StoreError> {
        if key >= self.end {
            return Ok(false);
        }
        let scan = Scan {
            start: key.clone(),
            end: self.end.clone(),
            max: 1,
        };
        match self.snapshot.scan(&scan).await {
            Ok(_) => Ok(false),
            Err(e @ StoreError::Corrupt(_)) => Ok(e == *self.place),
            Err(e) => Err(e),
        }
    }
}

fn first_difference(low: &[u8], high: &[u8]) -> usize {
    low.iter().zip(high).take_while(|(a, b)| a == b).count()
}

/// The first key after all that begin with `key`; empty: none.
fn incremented(key: &[u8]) -> Vec<u8> {
    let mut key = key.to_vec();
    while key.last() == Some(&0xFF) {
        key.pop();
    }
    if let Some(last) = key.last_mut() {
        *last += 1;
    }
    key
}

/// Half way between two keys of one length, as numbers.
fn middle(low: &[u8], high: &[u8]) -> Vec<u8> {
    let n = low.len().max(high.len());
    let digit = |key: &[u8], i: usize| u32::from(key.get(i).copied().unwrap_or(0));
    let mut sum = vec![0_u32; n];
    let mut carry = 0;
    for i in (0..n).rev() {
        let all = digit(low, i) + digit(high, i) + carry;
        (sum[i], carry) = (all & 0xFF, all >> 8);
    }
    let mut rest = carry;
    let halved = sum.into_iter().map(|digit| {
        let all = rest << 8 | digit;
        rest = all & 1;
        (all >> 1) as u8
    });
    halved.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use types::limits::ROW_KEY_BYTES_MAX;

    /// Rows of which those up to a key cannot be read.
    struct Layer {
        rows: BTreeMap<Bytes, Bytes>,
        bad_to: Bytes,
        upper: Option<Arc<Layer>>,
        scans: AtomicUsize,
    }

    #[async_trait::async_trait]
    impl Snapshot for Layer {
        async fn get(&self, _: &[Bytes]) -> Result<Vec<Option<Bytes>>, StoreError> {
            unreachable!("only scans are asked for")
        }
        async fn scan(&self, scan: &Scan) -> Result<Rows, StoreError> {
            self.scans.fetch_add(1, Ordering::Relaxed);
            if scan.start <= self.bad_to {
                return Err(StoreError::Corrupt("the page at byte 5".into()));
            }
            let rows = self.rows.range(scan.start.clone()..scan.end.clone());
            Ok(rows.take(scan.max).map(|(k, v)| (k.clone(), v.clone())).collect())
        }
        fn upper(&self) -> Option<Arc<dyn Snapshot>> {
            Some(self.upper.clone()?)
        }
    }

    fn key(n: u32) -> Bytes {
        format!("key-{n:05}").into()
    }

    /// Where much lies over a bad place, its end is looked for once. // I9
    #[tokio::test]
    async fn the_end_of_a_place_is_found_once_however_much_lies_over_it() {
        let all = |n| (0..n).map(|n| (key(n), Bytes::new())).collect();
        let over = Layer {
            rows: all(1000),
            bad_to: Bytes::new(),
            upper: None,
            scans: AtomicUsize::new(0),
        };
        let layer = Layer {
            rows: all(1200),
            bad_to: key(999),
            upper: Some(Arc::new(over)),
            scans: AtomicUsize::new(0),
        };
        let mut scans = Vec::new();
        for max in [2000, 10] {
            let (mut places, mut rows, mut lost) = (Places::default(), Rows::new(), Vec::new());
            let (mut start, end) = (Bytes::from_static(&[0]), Bytes::from_static(&[0xFF]));
            while start < end {
                let scan = Scan {
                    start,
                    end: end.clone(),
                    max,
                };
                let page = readable_rows(&layer, scan, ROW_KEY_BYTES_MAX, &mut places)
                    .await
                    .unwrap();
                rows.extend(page.rows);
                lost.extend(page.lost);
                start = page.next;
            }
            assert_eq!((rows.len(), lost.len()), (1200, 1));
            scans.push(layer.scans.swap(0, Ordering::Relaxed));
        }
        // Twenty pages of rows are behind it.
        assert!(scans[1] <= scans[0] + 25, "{scans:?}");
    }
}
