//! What one commit writes to the log (docs/formats/log-batch.md).
//!
//! The journal's record carries partition, epoch, sequence, member disks and the previous batch's crc; the payload carries the rows:
//!
//! ```text
//! 0   format u16 = 2 · 2 zero u16 · 4 number of rows u32
//! 8   rows, each: key length u16 · bytes shared with the key before u16 · value length u32, or 0xffffffff: removed
//!                 the rest of the key · value
//! end crc32c of all before it u32
//! ```
//!
//! Format 1 shares nothing: its second field is zero.
//!
//! All numbers little-endian.

use crate::Batch;
use crate::api::{ROW_HEAD_BYTES, shared_bytes};
use bytes::{BufMut, Bytes, BytesMut};
use crc_fast::{CrcAlgorithm, checksum};

const FORMAT: u16 = 2;
const HEAD_BYTES: usize = 8;
const CRC_BYTES: usize = 4;
const REMOVED: u32 = u32::MAX;

/// Row keys with their values, or `None` for removed ones.
pub(super) type BatchRows = Vec<(Bytes, Option<Bytes>)>;

/// The payload of `batch`, which is within bounds ([`Batch::refusal`]).
pub(super) fn encode(batch: &Batch) -> Bytes {
    let mut out = BytesMut::with_capacity(HEAD_BYTES + batch.bytes() + CRC_BYTES);
    out.put_u16_le(FORMAT);
    out.put_u16_le(0);
    out.put_u32_le(u32::try_from(batch.rows.len()).expect("a batch is bounded"));
    let mut before: &[u8] = &[];
    for (key, value) in &batch.rows {
        let shared = shared_bytes(before, key);
        before = key;
        out.put_u16_le(u16::try_from(key.len()).expect("a row key is bounded"));
        out.put_u16_le(u16::try_from(shared).expect("a row key is bounded"));
        out.put_u32_le(
            value
                .as_ref()
                .map_or(REMOVED, |v| u32::try_from(v.len()).expect("a batch is bounded")),
        );
        out.put_slice(&key[shared..]);
        out.put_slice(value.as_deref().unwrap_or_default());
    }
    let crc = checksum(CrcAlgorithm::Crc32Iscsi, &out) as u32;
    out.put_u32_le(crc);
    out.freeze()
}

/// The rows of a payload; says what is wrong with one that is not whole.
pub(super) fn decode(payload: &Bytes) -> Result<BatchRows, String> {
    let end = payload
        .len()
        .checked_sub(CRC_BYTES)
        .filter(|end| *end >= HEAD_BYTES);
    let end = end.ok_or("it is too short")?;
    if checksum(CrcAlgorithm::Crc32Iscsi, &payload[..end]) as u32 != u32_at(payload, end) {
        return Err("its crc is wrong".into());
    }
    let format = u16::from_le_bytes([payload[0], payload[1]]);
    if !(1..=FORMAT).contains(&format) {
        return Err(format!("its format is {format}, this build knows 1 to {FORMAT}"));
    }
    let count = u32_at(payload, 4) as usize;
    let mut rows: BatchRows = Vec::with_capacity(count.min(end / ROW_HEAD_BYTES));
    let mut at = HEAD_BYTES;
    for _ in 0..count {
        let before = rows.last().map_or(&[][..], |(key, _)| key);
        let (row, next) = decode_row(payload, (at, end), before).ok_or("a row is cut")?;
        rows.push(row);
        at = next;
    }
    if at != end {
        return Err("bytes follow its rows".into());
    }
    Ok(rows)
}

type BatchRow = (Bytes, Option<Bytes>);

/// The row at `at`, after one with the key `before`, and where the next one begins.
fn decode_row(payload: &Bytes, (at, end): (usize, usize), before: &[u8]) -> Option<(BatchRow, usize)> {
    let head = at + ROW_HEAD_BYTES;
    if head > end {
        return None;
    }
    let length = usize::from(u16::from_le_bytes([payload[at], payload[at + 1]]));
    let shared = usize::from(u16::from_le_bytes([payload[at + 2], payload[at + 3]]));
    let rest_end = head + length.checked_sub(shared).filter(|_| length > 0)?;
    let value_bytes = u32_at(payload, at + 4);
    let removed = value_bytes == REMOVED;
    let value_end = rest_end + if removed { 0 } else { value_bytes as usize };
    if value_end > end {
        return None;
    }
    let rest = payload.slice(head..rest_end);
    let key = match shared {
        0 => rest,
        _ => [before.get(..shared)?, &rest[..]].concat().into(),
    };
    let value = (!removed).then(|| payload.slice(rest_end..value_end));
    Some(((key, value), value_end))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rows() -> impl Strategy<Value = BatchRows> {
        let bytes = |n| proptest::collection::vec(any::<u8>(), n).prop_map(Bytes::from);
        let row = (bytes(1..40), proptest::option::of(bytes(0..200)));
        proptest::collection::vec(row, 0..30)
    }

    proptest! {
        #[test]
        fn rows_come_back(rows in rows()) {
            let batch = Batch { rows, behind: Vec::new() };
            prop_assert_eq!(decode(&encode(&batch)), Ok(batch.rows));
        }

        #[test]
        fn a_flipped_bit_is_seen(rows in rows(), at in any::<prop::sample::Index>(), bit in 0..8) {
            let mut payload = encode(&Batch { rows, behind: Vec::new() }).to_vec();
            let at = at.index(payload.len());
            payload[at] ^= 1_u8 << bit;
            prop_assert!(decode(&payload.into()).is_err());
        }

        #[test]
        fn garbage_is_refused(mut payload in proptest::collection::vec(any::<u8>(), 0..300), fixed in 0_u8..3) {
            // With a right crc too: whoever parses must not trust what is inside.
            if fixed > 0 && payload.len() > 16 {
                let rows = payload[4] % 8;
                payload[..8].copy_from_slice(&[fixed, 0, 0, 0, rows, 0, 0, 0]);
                let end = payload.len() - 4;
                let crc = checksum(CrcAlgorithm::Crc32Iscsi, &payload[..end]) as u32;
                payload[end..].copy_from_slice(&crc.to_le_bytes());
            }
            if let Ok(rows) = decode(&payload.clone().into()) {
                let again = encode(&Batch { rows: rows.clone(), behind: Vec::new() });
                prop_assert_eq!(decode(&again), Ok(rows));
            }
        }

        #[test]
        fn what_it_costs_is_what_it_takes(rows in rows(), sorted in any::<bool>()) {
            let mut batch = Batch { rows, behind: Vec::new() };
            if sorted {
                batch.rows.sort();
            }
            prop_assert_eq!(encode(&batch).len(), HEAD_BYTES + batch.bytes() + CRC_BYTES);
        }

        // I10
        #[test]
        fn a_batch_of_format_1_is_read(rows in rows()) {
            let batch = Batch { rows, behind: Vec::new() };
            prop_assert_eq!(decode(&encode_1(&batch)), Ok(batch.rows));
        }
    }

    /// As the first builds wrote it.
    fn encode_1(batch: &Batch) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u32_le(1);
        out.put_u32_le(batch.rows.len() as u32);
        for (key, value) in &batch.rows {
            out.put_u32_le(key.len() as u32);
            out.put_u32_le(value.as_ref().map_or(REMOVED, |v| v.len() as u32));
            out.put_slice(key);
            out.put_slice(value.as_deref().unwrap_or_default());
        }
        let crc = checksum(CrcAlgorithm::Crc32Iscsi, &out) as u32;
        out.put_u32_le(crc);
        out.freeze()
    }

    #[test]
    fn a_newer_format_is_refused_by_number() {
        let mut payload = encode(&Batch::default()).to_vec();
        payload[0] = 3;
        let end = payload.len() - 4;
        let crc = checksum(CrcAlgorithm::Crc32Iscsi, &payload[..end]) as u32;
        payload[end..].copy_from_slice(&crc.to_le_bytes());
        assert!(decode(&payload.into()).unwrap_err().contains("format is 3"));
    }
}
