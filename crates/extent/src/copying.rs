//! Copying needles from an extent's file to that of its next generation, piece by piece, and reading the copy back.

use crate::ExtentError;
use crate::extent::BODY_OFFSET;
use crate::fields::{Fields, crc32c, put};
use crate::footer::Map;
use crate::needle::{HEADER_BYTES_MAX, Header, block_count};
use crate::table::Row;
use crate::walk;
use std::sync::Arc;
use types::limits::{BLOCK_BYTES, FRAME_BYTES_MAX};
use types::{Generation, NeedleId};
use world::DiskFile;
use world::plant::{Plant, is_planted};

/// Needles up to here are read with one read.
const FIRST_BYTES: u64 = 16 << 10;

/// A needle of an extent that is not as it should be.
pub(crate) fn damaged(row: &Row, needle: NeedleId, offset: u64, what: &str) -> ExtentError {
    let extent = row.extent;
    ExtentError::Corrupt(format!("extent {extent}: needle {needle} at {offset}: {what}"))
}

/// A large needle in the middle of being copied.
struct Large {
    crcs: Vec<u8>,
    /// Where its bytes begin in the old file, and how many there are.
    body: u64,
    length: u64,
    copied: u64,
    stored: u64,
}

/// The work on one extent's needles.
pub(crate) struct Copying {
    row: Row,
    old: Arc<dyn DiskFile>,
    new: Arc<dyn DiskFile>,
    /// The needles that stay: those before `next` with their places in the new file, the others with those in the old one.
    kept: Vec<(NeedleId, u64)>,
    next: usize,
    large: Option<Large>,
    /// Behind what is in the new file, and what comes next there.
    written: u64,
    buffer: Vec<u8>,
    proven: usize,
}

impl Copying {
    pub(crate) fn new(
        row: Row,
        (old, new): (Arc<dyn DiskFile>, Arc<dyn DiskFile>),
        kept: Vec<(NeedleId, u64)>,
    ) -> Self {
        Self {
            row,
            old,
            new,
            kept,
            next: 0,
            large: None,
            written: BODY_OFFSET,
            buffer: Vec::new(),
            proven: 0,
        }
    }

    pub(crate) fn kept(&self) -> &[(NeedleId, u64)] {
        &self.kept
    }

    pub(crate) fn new_file(&self) -> Arc<dyn DiskFile> {
        self.new.clone()
    }

    /// Where the next needle begins in the new file.
    pub(crate) fn end(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Copies about `bytes`; `true` at the end.
    pub(crate) fn step(&mut self, bytes: usize) -> Result<bool, ExtentError> {
        let until = self.end() + bytes as u64;
        while self.end() < until {
            if self.large.is_some() {
                self.large_frame()?;
            } else if self.next < self.kept.len() {
                self.needle()?;
            } else {
                self.flush()?;
                return Ok(true);
            }
            if self.buffer.len() >= FRAME_BYTES_MAX {
                self.flush()?;
            }
        }
        Ok(false)
    }

    fn flush(&mut self) -> Result<(), ExtentError> {
        let written = self.new.write_all_at(&self.buffer, self.written);
        written.map_err(|e| ExtentError::io("extent", &e))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn read(&self, needle: NeedleId, at: u64, len: u64) -> Result<Vec<u8>, ExtentError> {
        let mut b = vec![0; len as usize];
        let read = self.old.read_exact_at(&mut b, at);
        read.map_err(|e| {
            let what = format!(
                "extent {}: needle {needle} cannot be read at {at}",
                self.row.extent
            );
            ExtentError::unread(what, &e)
        })?;
        Ok(b)
    }

    /// Copies the next needle, or begins it where it is large.
    fn needle(&mut self) -> Result<(), ExtentError> {
        let (needle, offset) = self.kept[self.next];
        let bad = |what: &str| damaged(&self.row, needle, offset, what);
        let next = self.kept.get(self.next + 1).map_or(self.row.end, |(_, at)| *at);
        let mut b = self.read(needle, offset, next.saturating_sub(offset).min(FIRST_BYTES))?;
        let header = Header::decode(self.row.salt, &b).ok_or_else(|| bad("its header does not hold"))?;
        if (header.extent, header.needle, header.void) != (self.row.extent, needle, false) {
            return Err(bad("another needle's header is there"));
        }
        let (stored, length) = (header.stored_bytes(), header.head.length);
        let body = header.head.header_bytes();
        if offset + stored > next {
            return Err(bad("it goes past where the next one begins"));
        }
        let at = self.end();
        if stored <= FRAME_BYTES_MAX as u64 {
            if stored > b.len() as u64 {
                b = self.read(needle, offset, stored)?;
            }
            let to = (body + length) as usize;
            let (whole, crcs) = b.split_at_mut(to);
            check(&whole[body as usize..], 0, crcs).map_err(|what| bad(&what))?;
            self.buffer
                .extend_from_slice(&b[..to + 4 * block_count(length) as usize]);
            self.buffer.resize((at + stored - self.written) as usize, 0);
            self.kept[self.next].1 = at;
            self.next += 1;
            return Ok(());
        }
        let crcs = self.read(needle, offset + body + length, 4 * block_count(length))?;
        self.buffer.extend_from_slice(&b[..body as usize]);
        self.kept[self.next].1 = at;
        self.large = Some(Large {
            crcs,
            body: offset + body,
            length,
            copied: 0,
            stored: stored - body,
        });
        Ok(())
    }

    /// Copies the next frame of a large needle.
    fn large_frame(&mut self) -> Result<(), ExtentError> {
        let Some(mut large) = self.large.take() else {
            return Ok(());
        };
        let needle = self.kept[self.next].0;
        let len = (large.length - large.copied).min(FRAME_BYTES_MAX as u64);
        let at = large.body + large.copied;
        let b = self.read(needle, at, len)?;
        let block = large.copied as usize / BLOCK_BYTES;
        check(&b, block, &mut large.crcs[4 * block..])
            .map_err(|what| damaged(&self.row, needle, at, &what))?;
        self.buffer.extend_from_slice(&b);
        let copied = large.copied + len;
        if copied < large.length {
            self.large = Some(Large { copied, ..large });
            return Ok(());
        }
        let tail = (large.stored - large.length) as usize;
        let end = self.buffer.len() + tail;
        self.buffer.extend_from_slice(&large.crcs);
        self.buffer.resize(end, 0);
        self.next += 1;
        Ok(())
    }

    /// Reads back about `bytes` of the new generation; `true` once every needle was verified, and the map.
    pub(crate) fn prove(&mut self, bytes: usize, to: Generation) -> Result<bool, ExtentError> {
        let row = Row {
            generation: to,
            end: self.end(),
            ..self.row
        };
        let mut read = 0;
        while read < bytes as u64 {
            let Some((needle, offset)) = self.kept.get(self.proven).copied() else {
                let map = Map::of(&*self.new, &row).and_then(|map| map.load());
                return if map.as_ref() == Some(&self.kept) {
                    Ok(true)
                } else {
                    Err(damaged(
                        &row,
                        NeedleId(0),
                        row.end,
                        "the new needle map reads back otherwise",
                    ))
                };
            };
            let bad = |what: &str| damaged(&row, needle, offset, &format!("read back: {what}"));
            let mut b = vec![0; HEADER_BYTES_MAX.min((row.end - offset) as usize)];
            let got = self.new.read_exact_at(&mut b, offset);
            got.map_err(|e| bad(&e.to_string()))?;
            let header =
                Header::decode(row.salt, &b).filter(|h| (h.extent, h.needle) == (row.extent, needle));
            let header = header.ok_or_else(|| bad("its header does not hold"))?;
            walk::verify(&*self.new, offset, &header).map_err(|what| bad(&what))?;
            read += header.stored_bytes();
            self.proven += 1;
        }
        Ok(false)
    }
}

/// Holds blocks against their crcs; `first` is the number of the first.
fn check(bytes: &[u8], first: usize, crcs: &mut [u8]) -> Result<(), String> {
    for (i, block) in bytes.chunks(BLOCK_BYTES).enumerate() {
        let crc = crc32c(block);
        if crc == crcs.u32_at(4 * i) {
            continue;
        }
        if !is_planted(Plant::CompactOverBad) {
            return Err(format!("the checksum of block {} does not hold", first + i));
        }
        put(crcs, 4 * i, &crc.to_le_bytes());
    }
    Ok(())
}
