//! The needle map at the end of a sealed extent (docs/formats/extent.md).

use crate::fields::{Fields, crc32c, joined, put};
use crate::needle::HEADER_BYTES_MIN;
use crate::table::Row;
use types::{ExtentId, NeedleId};
use world::DiskFile;

const MAGIC: [u8; 4] = *b"CMAP";
const FORMAT: u16 = 1;
const HEAD_BYTES: usize = 40;
const ENTRY_BYTES: usize = 16;
/// Entries that are read at once when a needle is looked for.
const PAGE_ENTRIES: u64 = 4096 / ENTRY_BYTES as u64;
/// Entries that are read at once when all are.
const LOAD_ENTRIES: u64 = (1 << 20) / ENTRY_BYTES as u64;

/// How long the footer of so many needles is.
pub(crate) fn bytes(needles: usize) -> u64 {
    (HEAD_BYTES + ENTRY_BYTES * needles) as u64
}

pub(crate) fn encode(row: &Row, entries: &[(NeedleId, u64)]) -> Vec<u8> {
    let mut b = vec![0; HEAD_BYTES + ENTRY_BYTES * entries.len()];
    for (i, (needle, offset)) in entries.iter().enumerate() {
        put(&mut b, HEAD_BYTES + ENTRY_BYTES * i, &entry(*needle, *offset));
    }
    put(&mut b, 0, &MAGIC);
    put(&mut b, 4, &FORMAT.to_le_bytes());
    put(&mut b, 8, &row.extent.0.to_le_bytes());
    put(&mut b, 16, &row.generation.0.to_le_bytes());
    put(&mut b, 24, &(entries.len() as u64).to_le_bytes());
    let crc = crc32c(&b[HEAD_BYTES..]);
    put(&mut b, 32, &crc.to_le_bytes());
    let crc = crc32c(&b[..36]);
    put(&mut b, 36, &crc.to_le_bytes());
    b
}

/// What is said of one needle.
pub(crate) fn entry(needle: NeedleId, offset: u64) -> [u8; ENTRY_BYTES] {
    let mut b = [0; ENTRY_BYTES];
    put(&mut b, 0, &needle.0.to_le_bytes());
    put(&mut b, 8, &offset.to_le_bytes());
    b
}

/// The needle map of an extent's generation, on disk. What it says is believed only where the needle's own header proves it.
pub(crate) struct Map<'a> {
    file: &'a dyn DiskFile,
    entries_at: u64,
    count: u64,
    crc: u32,
}

impl<'a> Map<'a> {
    /// The map behind an extent's end; `None` when there is none that holds.
    pub(crate) fn of(file: &'a dyn DiskFile, row: &Row) -> Option<Self> {
        let mut head = [0; HEAD_BYTES];
        file.read_exact_at(&mut head, row.end).ok()?;
        let count = head.u64_at(24);
        let good = head[..4] == MAGIC
            && head.u16_at(4) == FORMAT
            && crc32c(&head[..36]) == head.u32_at(36)
            && (ExtentId(head.u64_at(8)), head.u64_at(16)) == (row.extent, row.generation.0)
            && count <= row.end / HEADER_BYTES_MIN;
        good.then(|| Self {
            file,
            entries_at: row.end + HEAD_BYTES as u64,
            count,
            crc: head.u32_at(32),
        })
    }

    /// The checksum of all its entries.
    pub(crate) fn crc(&self) -> u32 {
        self.crc
    }

    /// `count` entries from `first`.
    fn read(&self, first: u64, count: u64) -> Option<Vec<u8>> {
        let mut b = vec![0; ENTRY_BYTES * count as usize];
        let at = self.entries_at + ENTRY_BYTES as u64 * first;
        self.file.read_exact_at(&mut b, at).ok()?;
        Some(b)
    }

    /// Where it says that a needle is, after a read for each halving down to a page of entries; `None` when it does not know.
    pub(crate) fn look_up(&self, needle: NeedleId) -> Option<u64> {
        let (mut low, mut high) = (0, self.count);
        while high - low > PAGE_ENTRIES {
            let middle = low + (high - low) / 2;
            if self.read(middle, 1)?.u64_at(0) <= needle.0 {
                low = middle;
            } else {
                high = middle;
            }
        }
        let page = self.read(low, high - low)?;
        let mut entries = page.chunks(ENTRY_BYTES);
        let found = entries.find(|entry| entry.u64_at(0) == needle.0)?;
        Some(found.u64_at(8))
    }

    /// All entries, by needle; `None` when they are not what was written.
    pub(crate) fn load(&self) -> Option<Vec<(NeedleId, u64)>> {
        let mut entries = Vec::with_capacity(self.count as usize);
        let mut crc = 0;
        for first in (0..self.count).step_by(LOAD_ENTRIES as usize) {
            let page = self.read(first, LOAD_ENTRIES.min(self.count - first))?;
            crc = joined(crc, crc32c(&page), page.len() as u64);
            entries.extend(
                page.chunks(ENTRY_BYTES)
                    .map(|e| (NeedleId(e.u64_at(0)), e.u64_at(8))),
            );
        }
        let ascending = entries.windows(2).all(|e| e[0].0 < e[1].0 && e[0].1 < e[1].1);
        (ascending && crc == self.crc).then_some(entries)
    }
}
