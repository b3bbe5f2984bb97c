//! Reads: the header that proves the place, the blocks asked for, their crcs. Nothing else is read.

use crate::ExtentError;
use crate::buffers::Buffers;
use crate::dir::DataDir;
use crate::extent::{BODY_OFFSET, Extent, decode_head};
use crate::fields::Fields;
use crate::footer::Map;
use crate::needle::{HEADER_BYTES_MAX, Header, block_count};
use crate::table::Row;
use crate::walk::{Cursor, Step, Walked, Walker, find};
use bytes::Bytes;
use std::ops::Range;
use std::sync::Arc;
use types::limits::{BLOCK_BYTES, FRAME_BYTES_MAX, WALK_BYTES_MAX};
use types::{BlobId, ExtentId, Generation, NeedleId};
use world::{Cached, DiskFile};

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
    /// the needle, the extent's map is asked, and without one that holds the whole extent is walked.
    ///
    /// # Errors
    /// [`ExtentError::NoExtent`] is proof; a needle that is not found is [`ExtentError::Corrupt`].
    pub fn read(&self, read: &Read) -> Result<(Bytes, Vec<u32>), ExtentError> {
        if let Some(done) = self.read_hinted(read)? {
            return Ok(done);
        }
        let extent = self.extent(read.extent)?;
        let (row, file) = extent.view(self.disk())?;
        let known = self.recall_place(read, row.generation);
        if known.is_none()
            && row.footer
            && let Some(offset) = Map::of(&*file, &row).and_then(|map| map.look_up(read.needle))
            && let Some(done) = read_at(&From::disk(&*file, &extent), read, offset..row.end)?
        {
            self.remember_place(read, row.generation, Some(offset));
            return Ok(done);
        }
        let found = known.unwrap_or_else(|| {
            let mut walker = Walker::new(file.clone(), row.extent, row.salt, 0, row.end);
            let found = find(&mut walker, read.needle);
            self.remember_place(read, row.generation, found);
            found
        });
        let (needle, extent_id) = (read.needle, read.extent);
        let offset = found.ok_or_else(|| {
            ExtentError::Corrupt(format!("needle {needle} of extent {extent_id} is not there"))
        })?;
        read_at(&From::disk(&*file, &extent), read, offset..row.end)?.ok_or_else(|| {
            ExtentError::Corrupt(format!(
                "needle {needle} of extent {extent_id} is not what its record says"
            ))
        })
    }

    /// The same where the hint leads to the needle, or its place is known; `None` where not, after at most two small reads.
    ///
    /// # Errors
    /// As for [`DataDir::read`].
    pub fn read_hinted(&self, read: &Read) -> Result<Option<(Bytes, Vec<u32>)>, ExtentError> {
        self.read_place(read, None)
    }

    /// The same where no disk has to be waited for; a small needle of a file that does not tell is read all the same.
    /// `None` where not, or where anything is wrong with it: [`DataDir::read`] says what.
    pub fn read_cached(&self, read: &Read) -> Option<(Bytes, Vec<u32>)> {
        self.read_place(read, Some(&self.0.read_buffers)).ok().flatten()
    }

    fn read_place(
        &self,
        read: &Read,
        cached: Option<&Arc<Buffers<Vec<u8>>>>,
    ) -> Result<Option<(Bytes, Vec<u32>)>, ExtentError> {
        let extent = self.extent(read.extent)?;
        let blocks = block_count(read.length);
        let (first, count) = (u64::from(read.first_block), u64::from(read.block_count));
        if count * BLOCK_BYTES as u64 > FRAME_BYTES_MAX as u64 || first + count > blocks {
            return Err(ExtentError::Invalid("blocks that the needle has not".into()));
        }
        let (generation, file) = extent.file_of(self.disk())?;
        // A hint of another generation leads to some other needle, if to any.
        let place = if read.hint.0 == generation {
            Some(read.hint.1)
        } else {
            self.recall_place(read, generation).flatten()
        };
        match place {
            // A compaction that ends here makes this end too low for the file: the place is then looked up again, of one row and its file.
            Some(offset) => {
                let from = From {
                    cached,
                    is_small: is_whole(read),
                    ..From::disk(&*file, &extent)
                };
                read_at(&from, read, offset..extent.end())
            }
            None => Ok(None),
        }
    }

    fn recall_place(&self, read: &Read, generation: Generation) -> Option<Option<u64>> {
        let places = self.0.places.lock().expect("no panic under this lock");
        places.recall(read.extent, read.needle, generation)
    }

    fn remember_place(&self, read: &Read, generation: Generation, place: Option<u64>) {
        let mut places = self.0.places.lock().expect("no panic under this lock");
        places.remember(read.extent, read.needle, generation, place);
    }

    /// Walks up to `count_max` needles from `from`, voids too, fewer where they are large; `verify`: reads their bytes. Answers what
    /// it found, voids apart, and where to go on; `None` at the end.
    ///
    /// # Errors
    /// [`ExtentError::NoExtent`], or its file cannot be opened.
    pub fn walk(
        &self,
        id: ExtentId,
        from: Cursor,
        verify: bool,
        count_max: usize,
    ) -> Result<(Vec<Walked>, Option<Cursor>), ExtentError> {
        let extent = self.extent(id)?;
        let (row, file) = extent.view(self.disk())?;
        let offset = go_on(&file, &row, from);
        let (mut found, mut read, mut last) = (Vec::new(), 0, from.needle);
        if verify && from == Cursor::default() {
            found.extend(self.frame_damage(&*file, &row));
        }
        let mut walker = Walker::new(file, id, extent.salt, offset, row.end);
        for _ in 0..count_max {
            let Some(step) = walker.step() else { break };
            if let Step::Needle(_, header) = &step {
                last = header.needle;
            }
            if let Some(walked) = walked(&walker, step, verify) {
                read += walked.stored_length;
                found.push(walked);
            }
            if verify && read >= WALK_BYTES_MAX {
                break;
            }
        }
        let next = (walker.at() < row.end).then_some(Cursor {
            generation: row.generation,
            offset: walker.at(),
            needle: last,
        });
        Ok((found, next))
    }

    /// What stands around an extent's needles and is not what was written: its header block, its needle map.
    fn frame_damage(&self, file: &dyn DiskFile, row: &Row) -> Vec<Walked> {
        let mut head = vec![0; BODY_OFFSET as usize];
        let whole = file.read_exact_at(&mut head, 0).is_ok()
            && decode_head(&head, self.disk_id()).is_some_and(|found| found.extent == row.extent);
        let mapped = !row.footer || Map::of(file, row).is_some_and(|map| map.load().is_some());
        let damaged = |offset, what: &str| Walked {
            needle: NeedleId(0),
            offset,
            stored_length: 0,
            head: None,
            crc32c: None,
            damage: Some(what.to_owned()),
        };
        let bad_head = (!whole).then(|| damaged(0, "the header block is not what was written"));
        let bad_map = (!mapped).then(|| damaged(row.end, "the needle map is not what was written"));
        bad_head.into_iter().chain(bad_map).collect()
    }
}

/// Where a walk goes on in the extent as it is now.
fn go_on(file: &Arc<dyn DiskFile>, row: &Row, from: Cursor) -> u64 {
    if from.generation == row.generation || from.needle == NeedleId(0) {
        return if from.generation == row.generation {
            from.offset
        } else {
            0
        };
    }
    let next = NeedleId(from.needle.0 + 1);
    if row.footer
        && let Some(entries) = Map::of(&**file, row).and_then(|map| map.load())
    {
        let behind = entries.partition_point(|(needle, _)| *needle < next);
        return entries.get(behind).map_or(row.end, |(_, offset)| *offset);
    }
    let mut walker = Walker::new(file.clone(), row.extent, row.salt, 0, row.end);
    loop {
        let at = walker.at();
        match walker.step() {
            Some(Step::Needle(_, header)) if header.needle >= next => return at,
            Some(_) => {}
            None => return row.end,
        }
    }
}

/// A step as it is told; `None` of a void.
fn walked(walker: &Walker, step: Step, verify: bool) -> Option<Walked> {
    match step {
        Step::Needle(_, header) if header.void => None,
        Step::Needle(offset, header) => {
            let verified = verify.then(|| walker.verify(offset, &header));
            Some(Walked {
                needle: header.needle,
                offset,
                stored_length: header.stored_bytes(),
                crc32c: verified.as_ref().and_then(|v| v.as_ref().ok().copied()),
                damage: verified.and_then(Result::err),
                head: Some(header.head),
            })
        }
        Step::Damage(offset, length) => Some(Walked {
            needle: NeedleId(0),
            offset,
            stored_length: length,
            head: None,
            crc32c: None,
            damage: Some("no header that holds".into()),
        }),
    }
}

/// Reads from a needle that begins where `place` does and ends no later, in the file that both are of; `None` when it is not there.
fn read_at(
    from: &From<'_>,
    read: &Read,
    place: Range<u64>,
) -> Result<Option<(Bytes, Vec<u32>)>, ExtentError> {
    let Range { start: offset, end } = place;
    if !offset.is_multiple_of(8) || offset >= end {
        return Ok(None);
    }
    let left = end - offset;
    let rest = rest_bytes(read);
    let whole = is_whole(read);
    let len = HEADER_BYTES_LIKELY + if whole { rest } else { 0 };
    let Some(mut buffer) = from.fetch(offset, len.min(left))? else {
        return Ok(None);
    };
    let Some(header_bytes) = Header::length_of(&buffer) else {
        return Ok(None);
    };
    let needed = header_bytes as u64 + if whole { rest } else { 0 };
    if needed > left || header_bytes > HEADER_BYTES_MAX {
        return Ok(None);
    }
    if needed > buffer.len() as u64 {
        match from.fetch(offset, needed)? {
            Some(all) => buffer = all,
            None => return Ok(None),
        }
    }
    let Some(header) = Header::decode(from.extent.salt, &buffer) else {
        return Ok(None);
    };
    let proven = (header.extent, header.needle) == (read.extent, read.needle);
    if !proven || header.void || header.head.length != read.length || !header.head.is_of(read.blob) {
        return Ok(None);
    }
    let (first, count) = (u64::from(read.first_block), u64::from(read.block_count));
    let begin = header_bytes as u64 + first * BLOCK_BYTES as u64;
    let to = header_bytes as u64 + ((first + count) * BLOCK_BYTES as u64).min(read.length);
    let crcs_begin = header_bytes as u64 + read.length + 4 * first;
    if whole {
        let crcs = numbers(&buffer[crcs_begin as usize..(crcs_begin + 4 * count) as usize]);
        let (begin, to) = (begin as usize, to as usize);
        let bytes = match count == block_count(read.length) {
            true => Bytes::from(buffer).slice(begin..to),
            // Some of it: who asked has memory for so much, not for all of the needle.
            false => Bytes::copy_from_slice(&buffer[begin..to]),
        };
        return Ok(Some((bytes, crcs)));
    }
    let Some(crcs) = from.fetch(offset + crcs_begin, 4 * count)? else {
        return Ok(None);
    };
    let bytes = from.body(offset + begin, to - begin)?;
    Ok(bytes.map(|bytes| (bytes, numbers(&crcs))))
}

/// What follows the header: bytes and their crcs.
fn rest_bytes(read: &Read) -> u64 {
    read.length + 4 * block_count(read.length)
}

/// Whether it is read whole with one read.
fn is_whole(read: &Read) -> bool {
    rest_bytes(read) <= WHOLE_BYTES_MAX
}

/// Where bytes are read from.
struct From<'a> {
    file: &'a dyn DiskFile,
    extent: &'a Extent,
    /// Only what is in memory, into one of these.
    cached: Option<&'a Arc<Buffers<Vec<u8>>>>,
    /// It takes one read: where a file does not tell what is in memory that is waited for.
    is_small: bool,
}

/// A frame in a buffer that is used again.
struct Lent {
    buffer: Vec<u8>,
    buffers: Arc<Buffers<Vec<u8>>>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.buffers.give_back(std::mem::take(&mut self.buffer));
    }
}

impl<'a> From<'a> {
    /// The disk, or what is in memory of it.
    fn disk(file: &'a dyn DiskFile, extent: &'a Extent) -> Self {
        Self {
            file,
            extent,
            cached: None,
            is_small: false,
        }
    }

    /// So many bytes; `None` where they are not in memory and nothing else will do.
    fn fetch(&self, at: u64, len: u64) -> Result<Option<Vec<u8>>, ExtentError> {
        let mut buffer = vec![0; len as usize];
        Ok(self.fill(&mut buffer, at)?.then_some(buffer))
    }

    /// The same of a needle's body.
    fn body(&self, at: u64, len: u64) -> Result<Option<Bytes>, ExtentError> {
        // A shorter one holds on to no more than is counted of it.
        let Some(buffers) = self.cached.filter(|_| len == FRAME_BYTES_MAX as u64) else {
            return Ok(self.fetch(at, len)?.map(Bytes::from));
        };
        let mut lent = Lent {
            buffer: buffers.take(),
            buffers: buffers.clone(),
        };
        // Made once in its full length: what was there is written over.
        lent.buffer.resize(FRAME_BYTES_MAX, 0);
        let is_had = self.fill(&mut lent.buffer, at)?;
        Ok(is_had.then(|| Bytes::from_owner(lent)))
    }

    fn fill(&self, buffer: &mut [u8], at: u64) -> Result<bool, ExtentError> {
        let had = match self.cached {
            None => Ok(false),
            Some(_) => match self.file.read_cached_at(buffer, at) {
                Ok(Cached::Cold) => return Ok(false),
                Ok(Cached::Untold) if !self.is_small => return Ok(false),
                other => other.map(|cached| cached == Cached::Had),
            },
        };
        match had {
            Ok(true) => Ok(true),
            Ok(false) => self.file.read_exact_at(buffer, at).map(|()| true),
            Err(e) => Err(e),
        }
        .map_err(|e| ExtentError::unread(format!("extent {} cannot be read at {at}", self.extent.id), &e))
    }
}

fn numbers(crcs: &[u8]) -> Vec<u32> {
    (0..crcs.len() / 4).map(|i| crcs.u32_at(4 * i)).collect()
}
