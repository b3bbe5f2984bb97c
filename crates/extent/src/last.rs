//! The last needle below an extent's end: found from behind, for what stands there tells a file from any other that got the same numbers.
//!
//! Its header says when it was written, by whom and how long it is, under the extent's salt. A data directory that was put back to an earlier
//! moment goes on with the same extent, salt and epoch; what it appends then has other times.

use crate::extent::BODY_OFFSET;
use crate::fields::Fields;
use crate::needle::{HEADER_BYTES_MAX, Header, MAGIC};
use std::io;
use types::ExtentId;
use types::limits::{BLOCK_BYTES, CHUNK_BYTES_MAX};
use world::{DiskFile, is_scarce};

/// How far back one read goes.
const WINDOW_BYTES: u64 = 128 << 10;
/// No needle is longer.
const NEEDLE_BYTES_MAX: u64 =
    HEADER_BYTES_MAX as u64 + CHUNK_BYTES_MAX + 4 * (CHUNK_BYTES_MAX / BLOCK_BYTES as u64) + 8;

/// Where it stands, and the checksum that its header has of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LastNeedle {
    /// Where its header begins.
    pub(crate) offset: u64,
    /// Its header's checksum.
    pub(crate) crc: u32,
}

/// The needle of `extent` that ends at `end`; `None`: none does, or its header does not hold, or cannot be read. `hint`: where it stood when
/// it was looked for before.
///
/// # Errors
/// There is no descriptor or no memory just now.
pub(crate) fn last_needle(
    file: &dyn DiskFile,
    (extent, salt): (ExtentId, u64),
    end: u64,
    hint: Option<u64>,
) -> io::Result<Option<LastNeedle>> {
    let look = Look {
        file,
        extent,
        salt,
        end,
    };
    if let Some(Seen::Last(last)) = look.at(hint)? {
        return Ok(Some(last));
    }
    let lowest = end.saturating_sub(NEEDLE_BYTES_MAX).max(BODY_OFFSET);
    let mut to = end;
    while to > lowest {
        let from = to.saturating_sub(WINDOW_BYTES).max(lowest);
        match look.between(from, to)? {
            Some(Seen::Last(last)) => return Ok(Some(last)),
            Some(Seen::Earlier) => return Ok(None),
            None => to = from,
        }
    }
    Ok(None)
}

struct Look<'a> {
    file: &'a dyn DiskFile,
    extent: ExtentId,
    salt: u64,
    end: u64,
}

enum Seen {
    Last(LastNeedle),
    /// A needle, and it does not end where the extent does.
    Earlier,
}

impl Look<'_> {
    /// What stands at one place.
    fn at(&self, offset: Option<u64>) -> io::Result<Option<Seen>> {
        let there = offset.filter(|at| (BODY_OFFSET..self.end).contains(at));
        there.map_or(Ok(None), |at| self.between(at, at + 8))
    }

    /// The last of the needles that begin there.
    fn between(&self, from: u64, to: u64) -> io::Result<Option<Seen>> {
        let length = self.end.min(to + HEADER_BYTES_MAX as u64) - from;
        let mut bytes = vec![0; length as usize];
        match self.file.read_exact_at(&mut bytes, from) {
            Err(e) if is_scarce(&e) => return Err(e),
            Err(_) => return Ok(None),
            Ok(()) => {}
        }
        for n in (0..(to.min(self.end) - from).div_ceil(8)).rev() {
            let offset = from + 8 * n;
            let bytes = &bytes[(offset - from) as usize..];
            if bytes.len() < MAGIC.len() || bytes[..MAGIC.len()] != MAGIC {
                continue;
            }
            let Some(header) = Header::decode(self.salt, bytes).filter(|h| h.extent == self.extent) else {
                continue;
            };
            let ends = offset + header.stored_bytes() == self.end;
            let crc = bytes.u32_at(12);
            return Ok(Some(match ends {
                true => Seen::Last(LastNeedle { offset, crc }),
                false => Seen::Earlier,
            }));
        }
        Ok(None)
    }
}
