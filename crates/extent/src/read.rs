//! Reads: the header that proves the place, the blocks asked for, their crcs. Nothing else is read.

use crate::ExtentError;
use crate::dir::DataDir;
use crate::extent::Extent;
use crate::fields::Fields;
use crate::footer;
use crate::needle::{HEADER_BYTES_MAX, Header, block_count};
use crate::table::Row;
use crate::walk::{Step, Walked, Walker, find};
use bytes::Bytes;
use types::limits::{BLOCK_BYTES, FRAME_BYTES_MAX};
use types::{BlobId, ExtentId, Generation, NeedleId};
use world::DiskFile;

/// Needles up to here are read whole with one read.
const WHOLE_BYTES_MAX: u64 = 128 << 10;
/// A header is likely shorter.
const HEADER_BYTES_LIKELY: u64 = 384;

/// Which blocks of which needle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// Which extent.
    pub extent: ExtentId,
    /// Which needle.
    pub needle: NeedleId,
    /// Whose its header must say it is: a blob's, or sent in the upload of that number.
    pub blob: BlobId,
    /// Where it was.
    pub hint: (Generation, u64),
    /// Bytes of the needle, as its header must say too.
    pub length: u64,
    /// First block.
    pub first_block: u32,
    /// How many; at most a frame's.
    pub block_count: u32,
}

impl DataDir {
    /// Reads blocks with the crcs they were written with; whoever uses the bytes checks them. Where the hint does not lead to
    /// the needle, the whole extent may be walked.
    ///
    /// # Errors
    /// [`ExtentError::NoExtent`] is proof; a needle that is not found is [`ExtentError::Corrupt`].
    pub fn read(&self, read: &Read) -> Result<(Bytes, Vec<u32>), ExtentError> {
        if let Some(done) = self.read_hinted(read)? {
            return Ok(done);
        }
        let extent = self.extent(read.extent)?;
        let file = extent.file(self.disk())?;
        let offset = self.locate(&extent, read.needle)?;
        read_at(&*file, &extent, read, offset)?.ok_or_else(|| {
            ExtentError::Corrupt(format!(
                "needle {} of extent {} is not what its record says",
                read.needle, read.extent
            ))
        })
    }

    /// The same where the hint leads to the needle; `None` where it does not, after at most two small reads.
    ///
    /// # Errors
    /// As for [`DataDir::read`].
    pub fn read_hinted(&self, read: &Read) -> Result<Option<(Bytes, Vec<u32>)>, ExtentError> {
        let extent = self.extent(read.extent)?;
        let blocks = block_count(read.length);
        let (first, count) = (u64::from(read.first_block), u64::from(read.block_count));
        if count * BLOCK_BYTES as u64 > FRAME_BYTES_MAX as u64 || first + count > blocks {
            return Err(ExtentError::Invalid("blocks that the needle has not".into()));
        }
        let file = extent.file(self.disk())?;
        read_at(&*file, &extent, read, read.hint.1)
    }

    /// Where a needle is, without its hint. What a walk found, or did not, is remembered: it reads up to the whole extent,
    /// and whoever asks again for a needle that is damaged must not keep the disk busy with it.
    fn locate(&self, extent: &Extent, needle: NeedleId) -> Result<u64, ExtentError> {
        let row = extent.lock().row;
        let known = extent.recall_place(needle, row.generation);
        let found = match known {
            Some(found) => found,
            None => {
                let found = self.look_for(extent, &row, needle)?;
                extent.remember_place(needle, row.generation, found);
                found
            }
        };
        found.ok_or_else(|| {
            ExtentError::Corrupt(format!("needle {needle} of extent {} is not there", extent.id))
        })
    }

    /// Looks for a needle in the extent's footer, then in the extent.
    fn look_for(&self, extent: &Extent, row: &Row, needle: NeedleId) -> Result<Option<u64>, ExtentError> {
        let file = extent.file(self.disk())?;
        if row.footer
            && let Some(offset) = footer::look_up(&*file, row, needle)
        {
            return Ok(Some(offset));
        }
        let mut walker = Walker::new(file, row.extent, row.salt, 0, row.end);
        Ok(find(&mut walker, needle))
    }

    /// Reads and verifies up to `count_max` needles from `offset`; empty at the end.
    ///
    /// # Errors
    /// [`ExtentError::NoExtent`], or its file cannot be opened.
    pub fn walk(&self, id: ExtentId, offset: u64, count_max: usize) -> Result<Vec<Walked>, ExtentError> {
        let extent = self.extent(id)?;
        let mut walker = Walker::new(extent.file(self.disk())?, id, extent.salt, offset, extent.end());
        let mut out = Vec::new();
        while out.len() < count_max {
            match walker.step() {
                None => break,
                Some(Step::Needle(_, header)) if header.void => {}
                Some(Step::Needle(offset, header)) => {
                    let verified = walker.verify(offset, &header);
                    out.push(Walked {
                        needle: header.needle,
                        offset,
                        stored_length: header.stored_bytes(),
                        crc32c: verified.as_ref().ok().copied(),
                        damage: verified.err(),
                        head: Some(header.head),
                    });
                }
                Some(Step::Damage(offset, length)) => out.push(Walked {
                    needle: NeedleId(0),
                    offset,
                    stored_length: length,
                    head: None,
                    crc32c: None,
                    damage: Some("no header that holds".into()),
                }),
            }
        }
        Ok(out)
    }
}

/// Reads from a needle at `offset`; `None` when that is not where it is.
fn read_at(
    file: &dyn DiskFile,
    extent: &Extent,
    read: &Read,
    offset: u64,
) -> Result<Option<(Bytes, Vec<u32>)>, ExtentError> {
    let end = extent.end();
    if !offset.is_multiple_of(8) || offset >= end {
        return Ok(None);
    }
    let left = end - offset;
    let rest = read.length + 4 * block_count(read.length);
    let whole = rest <= WHOLE_BYTES_MAX;
    let len = HEADER_BYTES_LIKELY + if whole { rest } else { 0 };
    let mut buffer = fetch(file, extent, offset, len.min(left))?;
    let Some(header_bytes) = Header::length_of(&buffer) else {
        return Ok(None);
    };
    let needed = header_bytes as u64 + if whole { rest } else { 0 };
    if needed > left || header_bytes > HEADER_BYTES_MAX {
        return Ok(None);
    }
    if needed > buffer.len() as u64 {
        buffer = fetch(file, extent, offset, needed)?;
    }
    let Some(header) = Header::decode(extent.salt, &buffer) else {
        return Ok(None);
    };
    let proven = (header.extent, header.needle) == (read.extent, read.needle);
    if !proven || header.void || header.head.length != read.length || !header.head.is_of(read.blob) {
        return Ok(None);
    }
    let (first, count) = (u64::from(read.first_block), u64::from(read.block_count));
    let from = header_bytes as u64 + first * BLOCK_BYTES as u64;
    let to = header_bytes as u64 + ((first + count) * BLOCK_BYTES as u64).min(read.length);
    let crcs_from = header_bytes as u64 + read.length + 4 * first;
    if whole {
        let crcs = numbers(&buffer[crcs_from as usize..(crcs_from + 4 * count) as usize]);
        let bytes = Bytes::from(buffer).slice(from as usize..to as usize);
        return Ok(Some((bytes, crcs)));
    }
    let bytes = fetch(file, extent, offset + from, to - from)?;
    let crcs = fetch(file, extent, offset + crcs_from, 4 * count)?;
    Ok(Some((bytes.into(), numbers(&crcs))))
}

fn numbers(crcs: &[u8]) -> Vec<u32> {
    (0..crcs.len() / 4).map(|i| crcs.u32_at(4 * i)).collect()
}

fn fetch(file: &dyn DiskFile, extent: &Extent, at: u64, len: u64) -> Result<Vec<u8>, ExtentError> {
    let mut buffer = vec![0; len as usize];
    match file.read_exact_at(&mut buffer, at) {
        Ok(()) => Ok(buffer),
        Err(e) => Err(ExtentError::unread(
            format!("extent {} cannot be read at {at}", extent.id),
            &e,
        )),
    }
}
