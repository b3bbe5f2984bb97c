//! Walking an extent: every needle by its header, and past damage to the next header that holds.

use crate::extent::BODY_OFFSET;
use crate::fields::{Fields, crc32c, joined};
use crate::needle::{HEADER_BYTES_MAX, Head, Header, MAGIC, block_count};
use std::ops::Range;
use std::sync::Arc;
use types::limits::{BLOCK_BYTES, FRAME_BYTES_MAX};
use types::{ExtentId, Generation, NeedleId};
use world::DiskFile;

const WINDOW_BYTES: usize = 256 << 10;

/// A needle as a walk finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walked {
    /// Its number; 0 where the header is bad.
    pub needle: NeedleId,
    /// Where it begins.
    pub offset: u64,
    /// Whole length; where the header is bad, up to the next good one.
    pub stored_length: u64,
    /// Its header.
    pub head: Option<Head>,
    /// The crc32c of all its bytes, from those of its blocks; `None` where something is wrong.
    pub crc32c: Option<u32>,
    /// What is wrong with it.
    pub damage: Option<String>,
}

/// Where a walk goes on. The place is good in its own generation; in a later one the walk goes on behind the needle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The generation that `offset` is of.
    pub generation: Generation,
    /// Where the next step begins there; 0: at the beginning.
    pub offset: u64,
    /// The last needle walked, 0: none.
    pub needle: NeedleId,
}

/// What stands at a place.
pub(crate) enum Step {
    Needle(u64, Box<Header>),
    /// From, length.
    Damage(u64, u64),
}

/// Goes over the headers of an extent, in order.
pub(crate) struct Walker {
    file: Arc<dyn DiskFile>,
    extent: ExtentId,
    salt: u64,
    at: u64,
    end: u64,
    window: Vec<u8>,
    window_at: u64,
    /// Bytes read so far.
    read: u64,
}

impl Walker {
    pub(crate) fn new(file: Arc<dyn DiskFile>, extent: ExtentId, salt: u64, from: u64, end: u64) -> Self {
        Self {
            file,
            extent,
            salt,
            at: from.max(BODY_OFFSET),
            end,
            window: Vec::new(),
            window_at: 0,
            read: 0,
        }
    }

    /// Bytes that it has read.
    pub(crate) fn read(&self) -> u64 {
        self.read
    }

    /// Where the next step begins.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// The bytes at `at`, as many as one header may be where there are so many.
    fn header_bytes(&mut self, at: u64) -> &[u8] {
        let need = (self.end.saturating_sub(at) as usize).min(HEADER_BYTES_MAX);
        let held = self.window_at + self.window.len() as u64;
        if at < self.window_at || at + need as u64 > held {
            // A needle that begins far behind the last one is probably large: do not read its bytes for its header.
            let near = at < held + WINDOW_BYTES as u64;
            let len = if near { WINDOW_BYTES } else { 4096 };
            let len = (self.end.saturating_sub(at) as usize).min(len);
            self.window.resize(len, 0);
            self.window_at = at;
            self.read += len as u64;
            if self.file.read_exact_at(&mut self.window, at).is_err() {
                self.window.fill(0);
                for (i, block) in self.window.chunks_mut(4096).enumerate() {
                    if self.file.read_exact_at(block, at + 4096 * i as u64).is_err() {
                        block.fill(0);
                    }
                }
            }
        }
        let from = (at - self.window_at) as usize;
        &self.window[from..(from + need).min(self.window.len())]
    }

    fn header_at(&mut self, at: u64) -> Option<Header> {
        let (salt, extent, end) = (self.salt, self.extent, self.end);
        let header = Header::decode(salt, self.header_bytes(at))?;
        (header.extent == extent && at + header.stored_bytes() <= end).then_some(header)
    }

    /// The next needle, void or stretch of damage; `None` at the end.
    pub(crate) fn step(&mut self) -> Option<Step> {
        if self.at >= self.end {
            return None;
        }
        let from = self.at;
        if let Some(header) = self.header_at(from) {
            self.at += header.stored_bytes();
            return Some(Step::Needle(from, Box::new(header)));
        }
        self.at += 8;
        while self.at < self.end {
            let bytes = self.header_bytes(self.at);
            // The salt keeps bytes that a client sent from passing for a header here.
            if bytes.len() >= 4 && bytes[..4] == MAGIC && self.header_at(self.at).is_some() {
                break;
            }
            self.at += 8;
        }
        self.at = self.at.min(self.end);
        Some(Step::Damage(from, self.at - from))
    }

    /// Reads every byte of a needle: their crc32c, or what is wrong with it.
    pub(crate) fn verify(&self, offset: u64, header: &Header) -> Result<u32, String> {
        verify(&*self.file, offset, header)
    }
}

/// Reads every byte of a needle: their crc32c, or what is wrong with it, in a sentence.
pub(crate) fn verify(file: &dyn DiskFile, offset: u64, header: &Header) -> Result<u32, String> {
    if header.void {
        return Ok(0);
    }
    let length = header.head.length;
    let body = offset + header.head.header_bytes();
    let mut crcs = vec![0; 4 * block_count(length) as usize];
    file.read_exact_at(&mut crcs, body + length)
        .map_err(|e| format!("its checksums cannot be read: {e}"))?;
    let mut buffer = vec![0; FRAME_BYTES_MAX.min(length as usize)];
    let (mut at, mut whole) = (0, 0);
    while at < length {
        let n = ((length - at) as usize).min(buffer.len());
        file.read_exact_at(&mut buffer[..n], body + at)
            .map_err(|e| format!("bytes {at}.. cannot be read: {e}"))?;
        for (i, block) in buffer[..n].chunks(BLOCK_BYTES).enumerate() {
            let number = at as usize / BLOCK_BYTES + i;
            let crc = crc32c(block);
            if crc != crcs.u32_at(4 * number) {
                return Err(format!("the checksum of block {number} does not hold"));
            }
            whole = joined(whole, crc, block.len() as u64);
        }
        at += n as u64;
    }
    Ok(whole)
}

/// What a whole extent is found to hold.
pub(crate) enum Found {
    /// Voids too.
    Needle(u64, Box<Header>),
    /// Nothing that holds from here on to the next needle: any of these numbers may have stood here.
    Hidden(u64, Range<u64>),
}

/// Goes over a whole extent in which the numbers below `next_needle` were given out. What damage may hide is told, so that nobody takes
/// an extent for one without it; a stretch that can hide nothing is not.
pub(crate) struct Census {
    walker: Walker,
    next: u64,
    next_needle: u64,
    hole: Option<u64>,
    /// Behind damage that was told of first.
    held: Option<(u64, Box<Header>)>,
}

impl Census {
    pub(crate) fn new(walker: Walker, next_needle: u64) -> Self {
        Self {
            walker,
            next: 1,
            next_needle,
            hole: None,
            held: None,
        }
    }

    /// What damage hides before number `to`.
    fn hidden(&mut self, to: u64) -> Option<Found> {
        let hole = self.hole.take()?;
        let numbers = self.next..to;
        self.next = self.next.max(to);
        (!numbers.is_empty()).then_some(Found::Hidden(hole, numbers))
    }
}

impl Iterator for Census {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        if let Some((offset, header)) = self.held.take() {
            self.next = self.next.max(header.needle.0 + 1);
            return Some(Found::Needle(offset, header));
        }
        loop {
            match self.walker.step() {
                Some(Step::Damage(offset, _)) => self.hole = self.hole.or(Some(offset)),
                Some(Step::Needle(offset, header)) => {
                    let hidden = self.hidden(header.needle.0);
                    self.held = Some((offset, header));
                    return hidden.or_else(|| self.next());
                }
                None => return self.hidden(self.next_needle),
            }
        }
    }
}

/// Where a needle is, by walking.
pub(crate) fn find(walker: &mut Walker, needle: NeedleId) -> Option<u64> {
    while let Some(step) = walker.step() {
        if let Step::Needle(offset, header) = step
            && header.needle == needle
        {
            return Some(offset);
        }
    }
    None
}
