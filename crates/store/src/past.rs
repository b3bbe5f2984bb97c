//! Going on behind rows that cannot be read: a page of the index that rotted does not say where it ends.

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
                    lost: Some(e),
                    next: past(snapshot, (&scan.start, &scan.end), key_bytes_max).await?,
                });
            }
            Err(e) => return Err(e),
        }
    }
}

/// The first place behind `start`, where nothing can be read, from which rows can be read again. Somewhere behind it is found by
/// dropping ends of the key, then the place itself by halving what lies between, a few bytes of the keys at a time.
async fn past(snapshot: &dyn Snapshot, range: (&Bytes, &Bytes), longest: usize) -> Result<Bytes, StoreError> {
    let (start, end) = range;
    let mut high = end.clone();
    for kept in (1..=start.len()).rev() {
        let next = Bytes::from(incremented(&start[..kept]));
        if next.is_empty() || next >= *end {
            break;
        }
        if is_readable(snapshot, &next, range).await? {
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
            match is_readable(snapshot, &Bytes::from(middle.clone()), range).await? {
                true => high = middle,
                false => low = middle,
            }
        }
        // Keys between the two are longer. Where the last of them is not readable none is.
        let mut last = low.clone();
        last.resize(longest.max(bytes), 0xFF);
        if !is_readable(snapshot, &last.into(), range).await? {
            break;
        }
    }
    Ok(Bytes::from(high).min(end.clone()))
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

async fn is_readable(
    snapshot: &dyn Snapshot,
    start: &Bytes,
    (_, end): (&Bytes, &Bytes),
) -> Result<bool, StoreError> {
    if start >= end {
        return Ok(true);
    }
    let scan = Scan {
        start: start.clone(),
        end: end.clone(),
        max: 1,
    };
    match snapshot.scan(&scan).await {
        Ok(_) => Ok(true),
        Err(StoreError::Corrupt(_)) => Ok(false),
        Err(e) => Err(e),
    }
}
