//! A needle's header, byte by byte (docs/formats/needle.md), and how long things are.

use crate::fields::{Fields, put, round_up, salted_crc32c};
use types::limits::{BLOCK_BYTES, CHUNK_BYTES_MAX, OBJECT_KEY_BYTES_MAX};
use types::{BlobId, BucketId, Epoch, ExtentId, NeedleId, SessionId, UploadId};

pub(crate) const MAGIC: [u8; 4] = *b"CNDL";
const FORMAT: u16 = 1;
const FIXED_BYTES: usize = 160;
/// Shortest header.
pub(crate) const HEADER_BYTES_MIN: u64 = FIXED_BYTES as u64;
/// Longest header.
pub(crate) const HEADER_BYTES_MAX: usize = FIXED_BYTES + OBJECT_KEY_BYTES_MAX;
const VOID: u16 = 1;
const LAST: u16 = 2;
const UPLOAD: u16 = 4;
const SHARD: u16 = 8;

/// What the writer says of a needle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The blob's bytes.
    pub blob: BlobId,
    /// Home bucket.
    pub bucket: BucketId,
    /// Home object key.
    pub key: String,
    /// The upload it was sent in, with its part number.
    pub upload: Option<(UploadId, u32)>,
    /// Which chunk of the blob, from 0.
    pub ordinal: u32,
    /// Where the chunk begins in the blob.
    pub logical_offset: u64,
    /// Whether it is the blob's last chunk.
    pub last: bool,
    /// Bytes of the chunk.
    pub length: u64,
    /// Hybrid time of the append.
    pub append_hlc: u64,
    /// The writer's session.
    pub session: SessionId,
}

/// A needle's header as it stands in an extent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) extent: ExtentId,
    pub(crate) needle: NeedleId,
    pub(crate) epoch: Epoch,
    /// Given up: nothing behind the header.
    pub(crate) void: bool,
    pub(crate) head: Head,
}

/// How many blocks `length` bytes are.
pub(crate) fn block_count(length: u64) -> u64 {
    length.div_ceil(BLOCK_BYTES as u64)
}

impl Head {
    /// Whether these are bytes of `blob`, or of the upload that has its id (the two never meet).
    pub(crate) fn is_of(&self, blob: BlobId) -> bool {
        self.blob == blob || self.upload.is_some_and(|(upload, _)| upload.0 == blob.0)
    }

    /// Why it cannot be stored; `None` when it can.
    pub(crate) fn problem(&self) -> Option<&'static str> {
        if self.key.len() > OBJECT_KEY_BYTES_MAX {
            Some("the owner's key is too long")
        } else if self.length > CHUNK_BYTES_MAX {
            Some("the chunk is too long")
        } else {
            None
        }
    }

    pub(crate) fn header_bytes(&self) -> u64 {
        (FIXED_BYTES + self.key.len()).next_multiple_of(8) as u64
    }

    /// Whole length of the needle.
    pub(crate) fn stored_bytes(&self) -> u64 {
        round_up(
            self.header_bytes() + self.length + 4 * block_count(self.length),
            8,
        )
    }
}

impl Header {
    /// Whole length of the needle.
    pub(crate) fn stored_bytes(&self) -> u64 {
        if self.void {
            self.head.header_bytes()
        } else {
            self.head.stored_bytes()
        }
    }

    /// Appends its bytes to `out`.
    pub(crate) fn encode(&self, salt: u64, out: &mut Vec<u8>) {
        let head = &self.head;
        let start = out.len();
        let header_bytes = head.header_bytes() as usize;
        out.resize(start + header_bytes, 0);
        let b = &mut out[start..];
        let mut flags = 0;
        for (set, flag) in [
            (self.void, VOID),
            (head.last, LAST),
            (head.upload.is_some(), UPLOAD),
        ] {
            flags |= if set { flag } else { 0 };
        }
        let length = if self.void { 0 } else { head.length };
        let (upload, part) = head.upload.unwrap_or_default();
        put(b, 0, &MAGIC);
        put(b, 4, &FORMAT.to_le_bytes());
        put(b, 6, &flags.to_le_bytes());
        put(b, 8, &(header_bytes as u32).to_le_bytes());
        put(b, 16, &self.extent.0.to_le_bytes());
        put(b, 24, &self.needle.0.to_le_bytes());
        put(b, 32, &self.stored_bytes().to_le_bytes());
        put(b, 40, &length.to_le_bytes());
        put(b, 48, &head.length.to_le_bytes());
        put(b, 56, &head.logical_offset.to_le_bytes());
        put(b, 64, &head.blob.0.to_le_bytes());
        put(b, 80, &head.bucket.0.to_le_bytes());
        put(b, 88, &upload.0.to_le_bytes());
        put(b, 104, &part.to_le_bytes());
        put(b, 108, &head.ordinal.to_le_bytes());
        put(b, 118, &(head.key.len() as u16).to_le_bytes());
        put(b, 120, &head.append_hlc.to_le_bytes());
        put(b, 128, &head.session.0.to_le_bytes());
        put(b, 136, &self.epoch.0.to_le_bytes());
        put(b, FIXED_BYTES, head.key.as_bytes());
        let crc = salted_crc32c(salt, b);
        put(b, 12, &crc.to_le_bytes());
    }

    /// Length of the header that begins with `b`; `None` when that is no header's beginning.
    pub(crate) fn length_of(b: &[u8]) -> Option<usize> {
        if b.len() < 12 || b[..4] != MAGIC {
            return None;
        }
        let n = b.u32_at(8) as usize;
        (n.is_multiple_of(8) && (FIXED_BYTES..=HEADER_BYTES_MAX).contains(&n)).then_some(n)
    }

    /// The header that `b` begins with; `None` when it is damaged or none.
    pub(crate) fn decode(salt: u64, b: &[u8]) -> Option<Self> {
        let n = Self::length_of(b)?;
        let b = b.get(..n)?;
        let mut unsigned = [0; HEADER_BYTES_MAX];
        unsigned[..n].copy_from_slice(b);
        put(&mut unsigned, 12, &[0; 4]);
        if salted_crc32c(salt, &unsigned[..n]) != b.u32_at(12) || b.u16_at(4) != FORMAT {
            return None;
        }
        let flags = b.u16_at(6);
        let key_bytes = usize::from(b.u16_at(118));
        let key = String::from_utf8(b.get(FIXED_BYTES..FIXED_BYTES + key_bytes)?.to_vec()).ok()?;
        if flags & SHARD != 0 {
            return None; // no build writes shards yet
        }
        let header = Self {
            extent: ExtentId(b.u64_at(16)),
            needle: NeedleId(b.u64_at(24)),
            epoch: Epoch(b.u64_at(136)),
            void: flags & VOID != 0,
            head: Head {
                blob: BlobId(b.u128_at(64)),
                bucket: BucketId(b.u64_at(80)),
                key,
                upload: (flags & UPLOAD != 0).then(|| (UploadId(b.u128_at(88)), b.u32_at(104))),
                ordinal: b.u32_at(108),
                logical_offset: b.u64_at(56),
                last: flags & LAST != 0,
                length: b.u64_at(48),
                append_hlc: b.u64_at(120),
                session: SessionId(b.u64_at(128)),
            },
        };
        let sound = header.head.problem().is_none() && header.stored_bytes() == b.u64_at(32);
        sound.then_some(header)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn any_header() -> impl Strategy<Value = Header> {
        let ids = (
            any::<u64>(),
            any::<u64>(),
            any::<u64>(),
            any::<u128>(),
            any::<u64>(),
        );
        let owner = (proptest::option::of((any::<u128>(), any::<u32>())), "\\PC{0,200}");
        let chunk = (any::<u32>(), any::<u64>(), any::<bool>(), 0..=CHUNK_BYTES_MAX);
        (ids, owner, chunk, any::<u64>(), any::<bool>()).prop_map(
            |((extent, needle, epoch, blob, bucket), (upload, key), chunk, hlc, void)| Header {
                extent: ExtentId(extent),
                needle: NeedleId(needle),
                epoch: Epoch(epoch),
                void,
                head: Head {
                    blob: BlobId(blob),
                    bucket: BucketId(bucket),
                    key,
                    upload: upload.map(|(u, p)| (UploadId(u), p)),
                    ordinal: chunk.0,
                    logical_offset: chunk.1,
                    last: chunk.2,
                    length: chunk.3,
                    append_hlc: hlc,
                    session: SessionId(hlc ^ 1),
                },
            },
        )
    }

    proptest! {
        #[test]
        fn headers_round_trip_and_reject_flips(header in any_header(), salt: u64, bit: usize) {
            let mut b = Vec::new();
            header.encode(salt, &mut b);
            prop_assert_eq!(Header::decode(salt, &b), Some(header.clone()));
            prop_assert_eq!(Header::decode(salt ^ 1, &b), None);
            let bit = bit % (b.len() * 8);
            b[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(Header::decode(salt, &b), None);
        }

        #[test]
        fn garbage_is_no_header(mut garbage: Vec<u8>) {
            prop_assert_eq!(Header::decode(0, &garbage), None);
            garbage.splice(0..0, MAGIC);
            prop_assert_eq!(Header::decode(0, &garbage), None);
        }
    }
}
