//! Journal records, byte by byte (docs/formats/journal.md).

use crate::fields::{Fields, crc32c, put, salted_crc32c};
use bytes::Bytes;
use types::{DiskId, Epoch, ExtentId, Generation, JournalSeq, LogSeq, PartitionId};

pub(crate) const HEADER_BYTES: usize = 80;
pub(crate) const MAGIC: [u8; 4] = *b"CJRN";
pub(crate) const FORMAT: u16 = 1;
const LAST_OF_GROUP: u8 = 1;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum RecordType {
    /// First of an incarnation.
    Start = 1,
    /// There for its header.
    Mark = 2,
    /// A whole needle.
    Needle = 3,
    /// Names a needle that stands synced in its extent.
    Large = 4,
    /// An extent's row.
    Extent = 6,
    /// A batch of a partition's log.
    Batch = 16,
}

impl RecordType {
    fn from_number(n: u8) -> Option<Self> {
        [
            Self::Start,
            Self::Mark,
            Self::Needle,
            Self::Large,
            Self::Extent,
            Self::Batch,
        ]
        .into_iter()
        .find(|k| *k as u8 == n)
    }
}

/// A record's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: RecordType,
    pub(crate) last_of_group: bool,
    pub(crate) lap: u32,
    pub(crate) incarnation: u32,
    pub(crate) sequence: u64,
    pub(crate) position: u64,
    pub(crate) known_synced: u64,
    pub(crate) low_water: u64,
    pub(crate) begun: u64,
    pub(crate) continues: u64,
    pub(crate) previous_crc: u32,
    pub(crate) payload_length: u32,
    pub(crate) payload_crc: u32,
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoHeader {
    /// Damaged, stale or never one.
    Garbage,
    /// A newer build's.
    Newer(u16),
}

impl Header {
    /// Writes it to the first 80 bytes of `b`; answers its crc, which the next record names.
    pub(crate) fn encode(&self, salt: u64, b: &mut [u8]) -> u32 {
        put(b, 0, &MAGIC);
        put(b, 4, &FORMAT.to_le_bytes());
        b[6] = self.kind as u8;
        b[7] = if self.last_of_group { LAST_OF_GROUP } else { 0 };
        put(b, 8, &self.lap.to_le_bytes());
        put(b, 12, &self.incarnation.to_le_bytes());
        put(b, 16, &self.sequence.to_le_bytes());
        put(b, 24, &self.position.to_le_bytes());
        put(b, 32, &self.known_synced.to_le_bytes());
        put(b, 40, &self.low_water.to_le_bytes());
        put(b, 48, &self.begun.to_le_bytes());
        put(b, 56, &self.continues.to_le_bytes());
        put(b, 64, &self.previous_crc.to_le_bytes());
        put(b, 68, &self.payload_length.to_le_bytes());
        put(b, 72, &self.payload_crc.to_le_bytes());
        let crc = salted_crc32c(salt, &b[..76]);
        put(b, 76, &crc.to_le_bytes());
        crc
    }

    /// The header at `position`, with its crc.
    pub(crate) fn decode(salt: u64, b: &[u8], position: u64) -> Result<(Self, u32), NoHeader> {
        if b.len() < HEADER_BYTES || b[..4] != MAGIC {
            return Err(NoHeader::Garbage);
        }
        let crc = b.u32_at(76);
        if salted_crc32c(salt, &b[..76]) != crc || b.u64_at(24) != position {
            return Err(NoHeader::Garbage);
        }
        if b.u16_at(4) != FORMAT {
            return Err(NoHeader::Newer(b.u16_at(4)));
        }
        let kind = RecordType::from_number(b[6]).ok_or(NoHeader::Garbage)?;
        Ok((
            Self {
                kind,
                last_of_group: b[7] & LAST_OF_GROUP != 0,
                lap: b.u32_at(8),
                incarnation: b.u32_at(12),
                sequence: b.u64_at(16),
                position,
                known_synced: b.u64_at(32),
                low_water: b.u64_at(40),
                begun: b.u64_at(48),
                continues: b.u64_at(56),
                previous_crc: b.u32_at(64),
                payload_length: b.u32_at(68),
                payload_crc: b.u32_at(72),
            },
            crc,
        ))
    }

    /// Where what follows it in its group begins.
    pub(crate) fn end(&self) -> u64 {
        self.position + record_bytes(self.payload_length as usize) as u64
    }
}

/// Length of a record in the journal.
pub(crate) fn record_bytes(payload: usize) -> usize {
    (HEADER_BYTES + payload).next_multiple_of(8)
}

/// One committed batch of a partition's log, as its members' journals keep it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogBatch {
    /// Whose log.
    pub partition: PartitionId,
    /// The log's epoch.
    pub epoch: Epoch,
    /// Its place in the log.
    pub sequence: LogSeq,
    /// Disks that keep the log.
    pub members: Vec<DiskId>,
    /// [`LogBatch::crc`] of the batch before.
    pub previous_crc: u32,
    /// The engine's own bytes.
    pub payload: Bytes,
}

const BATCH_FIXED: usize = 32;

impl LogBatch {
    pub(crate) fn head(&self) -> Vec<u8> {
        let mut b = vec![0; BATCH_FIXED + 16 * self.members.len()];
        put(&mut b, 0, &self.partition.0.to_le_bytes());
        put(&mut b, 8, &self.epoch.0.to_le_bytes());
        put(&mut b, 16, &self.sequence.0.to_le_bytes());
        put(&mut b, 24, &self.previous_crc.to_le_bytes());
        put(&mut b, 28, &(self.members.len() as u16).to_le_bytes());
        for (i, member) in self.members.iter().enumerate() {
            put(&mut b, BATCH_FIXED + 16 * i, &member.0.to_le_bytes());
        }
        b
    }

    pub(crate) fn decode(payload: &Bytes) -> Option<Self> {
        if payload.len() < BATCH_FIXED {
            return None;
        }
        let count = usize::from(payload.u16_at(28));
        let body = BATCH_FIXED + 16 * count;
        if payload.len() < body {
            return None;
        }
        Some(Self {
            partition: PartitionId(payload.u64_at(0)),
            epoch: Epoch(payload.u64_at(8)),
            sequence: LogSeq(payload.u64_at(16)),
            previous_crc: payload.u32_at(24),
            members: (0..count)
                .map(|i| DiskId(payload.u128_at(BATCH_FIXED + 16 * i)))
                .collect(),
            payload: payload.slice(body..),
        })
    }

    /// What the next batch of the log names as `previous_crc`: crc32c of its head and payload.
    pub fn crc(&self) -> u32 {
        let mut whole = self.head();
        whole.extend_from_slice(&self.payload);
        crc32c(&whole)
    }
}

/// Where a needle record's needle belongs. Stands before the needle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) extent: ExtentId,
    pub(crate) generation: Generation,
    pub(crate) offset: u64,
}

pub(crate) const PLACE_BYTES: usize = 24;

impl Place {
    pub(crate) fn encode(&self) -> [u8; PLACE_BYTES] {
        let mut b = [0; PLACE_BYTES];
        put(&mut b, 0, &self.extent.0.to_le_bytes());
        put(&mut b, 8, &self.generation.0.to_le_bytes());
        put(&mut b, 16, &self.offset.to_le_bytes());
        b
    }

    pub(crate) fn decode(b: &[u8]) -> Option<Self> {
        (b.len() >= PLACE_BYTES).then(|| Self {
            extent: ExtentId(b.u64_at(0)),
            generation: Generation(b.u64_at(8)),
            offset: b.u64_at(16),
        })
    }
}

/// A range of sequences that were synced and cannot be read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// First lost.
    pub from: JournalSeq,
    /// Last lost.
    pub to: JournalSeq,
    /// What it was, where the header still says so.
    pub kind: Option<RecordType>,
}

impl Lost {
    /// Whether a log batch may be among what was lost.
    pub fn may_be_batch(&self) -> bool {
        matches!(self.kind, None | Some(RecordType::Batch))
    }

    /// Whether a needle or an extent's change of state may be among what was lost.
    pub fn may_be_extent(&self) -> bool {
        !matches!(
            self.kind,
            Some(RecordType::Batch | RecordType::Mark | RecordType::Start)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header() -> Header {
        Header {
            kind: RecordType::Needle,
            last_of_group: true,
            lap: 3,
            incarnation: 4,
            sequence: 500,
            position: 8192,
            known_synced: 499,
            low_water: 17,
            begun: 450,
            continues: 440,
            previous_crc: 1,
            payload_length: 77,
            payload_crc: 5,
        }
    }

    #[test]
    fn a_header_holds_at_its_place_under_its_salt_only() {
        let mut b = [0; HEADER_BYTES];
        let crc = header().encode(9, &mut b);
        assert_eq!(Header::decode(9, &b, 8192), Ok((header(), crc)));
        assert_eq!(Header::decode(8, &b, 8192), Err(NoHeader::Garbage));
        assert_eq!(Header::decode(9, &b, 4096), Err(NoHeader::Garbage));
        for bit in 0..HEADER_BYTES * 8 {
            let mut bad = b;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(9, &bad, 8192), Err(NoHeader::Garbage), "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn batches_round_trip(partition: u64, epoch: u64, sequence: u64, previous_crc: u32,
                              members in proptest::collection::vec(any::<u128>(), 0..5), payload: Vec<u8>) {
            let batch = LogBatch {
                partition: PartitionId(partition), epoch: Epoch(epoch), sequence: LogSeq(sequence), previous_crc,
                members: members.into_iter().map(DiskId).collect(), payload: payload.into(),
            };
            let mut whole = batch.head();
            whole.extend_from_slice(&batch.payload);
            prop_assert_eq!(LogBatch::decode(&whole.into()), Some(batch));
        }

        #[test]
        fn garbage_is_no_batch_or_place_that_panics(garbage: Vec<u8>) {
            let _maybe = (LogBatch::decode(&garbage.clone().into()), Place::decode(&garbage));
            prop_assert_eq!(Header::decode(1, &garbage, 0), Err(NoHeader::Garbage));
        }
    }
}
