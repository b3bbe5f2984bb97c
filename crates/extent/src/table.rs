//! The extent table: the checkpoint of all extents of a disk (docs/formats/extent.md).

use crate::ExtentError;
use crate::fields::{Fields, crc32c, put};
use crate::superblock::write_whole;
use std::io;
use types::{DiskId, Epoch, ExtentId, Generation};
use world::{Disk, read_patiently};

pub(crate) const NAME: &str = "extent-table";
const MAGIC: [u8; 4] = *b"CTAB";
const FORMAT: u16 = 1;
const HEAD_BYTES: usize = 56;
pub(crate) const ROW_BYTES: usize = 128;

const OPEN: u8 = 1;
const SEALED: u8 = 2;
const GONE: u8 = 3;
const FROZEN: u8 = 1;
const FOOTER: u8 = 2;

/// What is known of one extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) extent: ExtentId,
    pub(crate) epoch: Epoch,
    pub(crate) generation: Generation,
    /// Where the next needle begins.
    pub(crate) end: u64,
    pub(crate) next_needle: u64,
    /// Voids apart.
    pub(crate) needles: u64,
    pub(crate) bytes_max: u64,
    pub(crate) salt: u64,
    pub(crate) sealed: bool,
    /// Sealed by recovery: journal records of it may have been lost.
    pub(crate) frozen: bool,
    pub(crate) footer: bool,
    /// Removed: its file is going. Sealed too.
    pub(crate) gone: bool,
}

impl Row {
    pub(crate) fn encode(&self) -> [u8; ROW_BYTES] {
        let mut b = [0; ROW_BYTES];
        put(&mut b, 0, &self.extent.0.to_le_bytes());
        put(&mut b, 8, &self.epoch.0.to_le_bytes());
        put(&mut b, 16, &self.generation.0.to_le_bytes());
        put(&mut b, 24, &self.end.to_le_bytes());
        put(&mut b, 32, &self.next_needle.to_le_bytes());
        put(&mut b, 40, &self.needles.to_le_bytes());
        put(&mut b, 48, &self.bytes_max.to_le_bytes());
        put(&mut b, 56, &self.salt.to_le_bytes());
        b[64] = match (self.gone, self.sealed) {
            (true, _) => GONE,
            (false, true) => SEALED,
            (false, false) => OPEN,
        };
        b[65] = if self.frozen { FROZEN } else { 0 } | if self.footer { FOOTER } else { 0 };
        b
    }

    /// `None` when a build that knows more wrote it, or it is garbage.
    pub(crate) fn decode(b: &[u8]) -> Option<Self> {
        let known = b.len() >= ROW_BYTES
            && matches!(b[64], OPEN | SEALED | GONE)
            && b[65] & !(FROZEN | FOOTER) == 0
            && b[66..96].iter().all(|b| *b == 0);
        known.then(|| Self {
            extent: ExtentId(b.u64_at(0)),
            epoch: Epoch(b.u64_at(8)),
            generation: Generation(b.u64_at(16)),
            end: b.u64_at(24),
            next_needle: b.u64_at(32),
            needles: b.u64_at(40),
            bytes_max: b.u64_at(48),
            salt: b.u64_at(56),
            sealed: b[64] != OPEN,
            frozen: b[65] & FROZEN != 0,
            footer: b[65] & FOOTER != 0,
            gone: b[64] == GONE,
        })
    }
}

/// A checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Table {
    /// First journal sequence that the extents still need.
    pub(crate) released: u64,
    /// Highest journal sequence known synced.
    pub(crate) synced: u64,
    /// By extent id.
    pub(crate) rows: Vec<Row>,
}

impl Table {
    pub(crate) fn encode(&self, disk: DiskId) -> Vec<u8> {
        let mut b = vec![0; HEAD_BYTES];
        for row in &self.rows {
            b.extend_from_slice(&row.encode());
        }
        put(&mut b, 0, &MAGIC);
        put(&mut b, 4, &FORMAT.to_le_bytes());
        put(&mut b, 6, &(ROW_BYTES as u16).to_le_bytes());
        put(&mut b, 8, &disk.0.to_le_bytes());
        put(&mut b, 24, &self.released.to_le_bytes());
        put(&mut b, 32, &self.synced.to_le_bytes());
        put(&mut b, 40, &(self.rows.len() as u64).to_le_bytes());
        let rows = crc32c(&b[HEAD_BYTES..]);
        put(&mut b, 48, &rows.to_le_bytes());
        let head = crc32c(&b[..52]);
        put(&mut b, 52, &head.to_le_bytes());
        b
    }

    pub(crate) fn decode(b: &[u8], disk: DiskId) -> Result<Self, ExtentError> {
        let bad = |why: &str| ExtentError::Corrupt(format!("extent table: {why}"));
        if b.len() < HEAD_BYTES || b[..4] != MAGIC || crc32c(&b[..52]) != b.u32_at(52) {
            return Err(bad("its head's checksum does not hold"));
        }
        if b.u16_at(4) != FORMAT {
            return Err(ExtentError::Newer {
                what: "the extent table".into(),
                found: u32::from(b.u16_at(4)),
                known: u32::from(FORMAT),
            });
        }
        let rows = &b[HEAD_BYTES..];
        if b.u128_at(8) != disk.0
            || usize::from(b.u16_at(6)) != ROW_BYTES
            || Some(rows.len()) != (b.u64_at(40) as usize).checked_mul(ROW_BYTES)
            || crc32c(rows) != b.u32_at(48)
        {
            return Err(bad("its rows' checksum does not hold"));
        }
        let rows = rows.chunks(ROW_BYTES).map(Row::decode).collect::<Option<_>>();
        Ok(Self {
            released: b.u64_at(24),
            synced: b.u64_at(32),
            rows: rows.ok_or_else(|| bad("it has a row that this build does not know"))?,
        })
    }

    /// The disk's table; `None` where there is none yet.
    pub(crate) fn read(disk: &dyn Disk, id: DiskId) -> Result<Option<Self>, ExtentError> {
        let file = match disk.open(NAME) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(ExtentError::io(NAME, &e)),
        };
        let mut b = vec![0; file.len().map_err(|e| ExtentError::io(NAME, &e))? as usize];
        // As good as one that is not what was written: the extents know what it said.
        read_patiently(&*file, &mut b, 0)
            .map_err(|e| ExtentError::unread("extent table: it cannot be read".into(), &e))?;
        Self::decode(&b, id).map(Some)
    }

    pub(crate) fn write(&self, disk: &dyn Disk, id: DiskId) -> io::Result<()> {
        write_whole(disk, NAME, &self.encode(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    prop_compose! {
        fn any_row()(n in proptest::array::uniform8(any::<u64>()), state in 1..=3u8, frozen: bool, footer: bool) -> Row {
            Row {
                extent: ExtentId(n[0]), epoch: Epoch(n[1]), generation: Generation(n[2]), end: n[3], next_needle: n[4],
                needles: n[5], bytes_max: n[6], salt: n[7], sealed: state != OPEN, frozen, footer, gone: state == GONE,
            }
        }
    }

    proptest! {
        #[test]
        fn tables_round_trip_and_reject_flips(rows in proptest::collection::vec(any_row(), 0..5), released: u64,
                                             synced: u64, bit: usize) {
            let table = Table { released, synced, rows };
            let mut b = table.encode(DiskId(5));
            prop_assert_eq!(Table::decode(&b, DiskId(5)), Ok(table.clone()));
            prop_assert!(Table::decode(&b, DiskId(6)).is_err());
            prop_assert!(Table::decode(&b[..b.len() - 1], DiskId(5)).is_err());
            let bit = bit % (b.len() * 8);
            b[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Table::decode(&b, DiskId(5)).is_err());
        }

        #[test]
        fn garbage_is_no_table(garbage: Vec<u8>) {
            prop_assert!(Table::decode(&garbage, DiskId(0)).is_err());
        }
    }
}
