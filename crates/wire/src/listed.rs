//! What a listing shows of an object, read from its record where it stands.
//!
//! A page has a thousand records. Decoding one makes an allocation of each text and list in it; this makes one, of the checksums' numbers.
//! All of the record is walked, though most of it is passed over: bytes that are no `ObjectRecord` must not be listed as one.

use crate::Fault;
use types::ErrorKind;

/// The listed fields of a record. Their numbers are in `records.proto`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed<'r> {
    /// Bytes of the object.
    pub size: u64,
    /// 16 bytes, or none.
    pub etag_md5: &'r [u8],
    /// N of "-N"; 0 when it was one body.
    pub etag_parts: u32,
    /// Since 1970.
    pub modified_ms: u64,
    /// The account.
    pub owner: u64,
    /// What the checksums are of.
    pub checksum_kind: u32,
    /// The algorithms of its checksums, in their order.
    pub algorithms: Vec<u32>,
}

impl<'r> Listed<'r> {
    /// From the record of `key`.
    ///
    /// # Errors
    /// It is none.
    pub fn of(key: &str, record: &'r [u8]) -> Result<Self, Fault> {
        let none = || {
            Fault::new(
                ErrorKind::Corrupt,
                format!("what is listed of {key:?} is no record"),
            )
        };
        Self::read(record).ok_or_else(none)
    }

    fn read(mut record: &'r [u8]) -> Option<Self> {
        let mut listed = Self::default();
        while !record.is_empty() {
            match field(&mut record)? {
                (1, Value::Number(n)) => listed.size = n,
                (2, Value::Bytes(bytes)) => listed.etag_md5 = bytes,
                (3, Value::Number(n)) => listed.etag_parts = n as u32,
                (4, Value::Number(n)) => listed.modified_ms = n,
                (6, Value::Number(n)) => listed.owner = n,
                (7, Value::Number(n)) => listed.checksum_kind = n as u32,
                (8, Value::Bytes(checksum)) => listed.algorithms.push(algorithm(checksum)?),
                (5, Value::Number(_)) | (9.., _) => {}
                _ => return None,
            }
        }
        Some(listed)
    }
}

fn algorithm(mut checksum: &[u8]) -> Option<u32> {
    let mut algorithm = 0;
    while !checksum.is_empty() {
        match field(&mut checksum)? {
            (1, Value::Number(n)) => algorithm = n as u32,
            (2.., _) => {}
            _ => return None,
        }
    }
    Some(algorithm)
}

/// A field's value, as far as its encoding tells.
enum Value<'r> {
    Number(u64),
    Bytes(&'r [u8]),
    Fixed,
}

/// Takes a field from the front: its number and its value.
fn field<'r>(rest: &mut &'r [u8]) -> Option<(u32, Value<'r>)> {
    let key = u32::try_from(number(rest)?).ok()?;
    let value = match key & 7 {
        0 => Value::Number(number(rest)?),
        1 => take(rest, 8).map(|_| Value::Fixed)?,
        2 => {
            let length = usize::try_from(number(rest)?).ok()?;
            Value::Bytes(take(rest, length)?)
        }
        5 => take(rest, 4).map(|_| Value::Fixed)?,
        _ => return None,
    };
    Some((key >> 3, value)).filter(|(number, _)| *number > 0)
}

fn take<'r>(rest: &mut &'r [u8], length: usize) -> Option<&'r [u8]> {
    let (taken, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(taken)
}

/// Takes a number of seven bits a byte, the lowest first; at most ten bytes have all 64.
fn number(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for (n, &byte) in rest.iter().enumerate().take(10) {
        number |= u64::from(byte & 0x7f) << (7 * n);
        if byte & 0x80 == 0 {
            *rest = &rest[n + 1..];
            return (n < 9 || byte < 2).then_some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{Checksum, Chunk, Chunks, ObjectRecord, Pair, object_record::Data};
    use prost::Message as _;

    fn shown(record: &ObjectRecord) -> Listed<'_> {
        Listed {
            size: record.size,
            etag_md5: &record.etag_md5,
            etag_parts: record.etag_parts,
            modified_ms: record.modified_ms,
            owner: record.owner,
            checksum_kind: record.checksum_kind,
            algorithms: record.checksums.iter().map(|c| c.algorithm).collect(),
        }
    }

    fn records() -> Vec<ObjectRecord> {
        let checksum = |algorithm| Checksum {
            algorithm,
            value: vec![9; 8],
        };
        let plain = ObjectRecord {
            size: 4096,
            etag_md5: vec![0xab; 16],
            modified_ms: 1_763_000_000_123,
            owner: u64::MAX,
            checksums: vec![checksum(3)],
            version: vec![7; 16],
            blob: vec![8; 16],
            data: Some(Data::Chunks(Chunks {
                chunks: vec![Chunk {
                    place: 1 << 40,
                    needle: 300,
                    length: 4096,
                    ..Chunk::default()
                }],
            })),
            ..ObjectRecord::default()
        };
        let many = ObjectRecord {
            etag_parts: 10_000,
            storage_class: 3,
            checksum_kind: 2,
            checksums: vec![checksum(5), checksum(1)],
            null_version: true,
            metadata: vec![Pair {
                name: "a".repeat(200),
                value: "b".into(),
            }],
            origin_hlc: 5,
            ..plain.clone()
        };
        vec![ObjectRecord::default(), plain, many]
    }

    #[test]
    fn it_is_what_the_record_says_and_nothing_where_it_is_cut() {
        for record in records() {
            let bytes = record.encode_to_vec();
            assert_eq!(Listed::of("k", &bytes), Ok(shown(&record)));
            for cut in 0..bytes.len() {
                let whole = ObjectRecord::decode(&bytes[..cut]).ok();
                let read = Listed::read(&bytes[..cut]);
                assert_eq!(read, whole.as_ref().map(shown), "{cut} of {record:?}");
            }
        }
    }

    #[test]
    fn what_is_no_record_is_told_with_its_key() {
        // A size of eight bytes; a number without end; one of 65 bits; a length beyond the end; field 0; a group.
        let bad: [&[u8]; 6] = [
            &[0x09, 0, 0, 0, 0, 0, 0, 0, 0],
            &[0x08, 0x80],
            &[0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2],
            &[0x12, 5, 1],
            &[0x00, 1],
            &[0x4b],
        ];
        for bytes in bad {
            let fault = Listed::of("bad/one", bytes).expect_err("no record");
            assert_eq!(fault.kind, ErrorKind::Corrupt);
            assert!(fault.what.contains("bad/one"), "{fault}");
        }
    }

    #[test]
    fn any_bytes_that_decode_are_read_alike() {
        // Each byte of a record as any other: no panic, and never another reading than the decoder's.
        for record in records() {
            let mut bytes = record.encode_to_vec();
            for at in 0..bytes.len() {
                let was = bytes[at];
                for other in 0..=255 {
                    bytes[at] = other;
                    if let (Some(read), Ok(whole)) = (Listed::read(&bytes), ObjectRecord::decode(&bytes[..]))
                    {
                        assert_eq!(read, shown(&whole), "{at} = {other}");
                    }
                }
                bytes[at] = was;
            }
        }
    }
}
