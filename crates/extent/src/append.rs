//! Appends: small needles through the journal, large ones through their extent.

use crate::dir::DataDir;
use crate::extent::{Advance, Appended, Extent, State};
use crate::fields::round_up;
use crate::journal::record::{PLACE_BYTES, Place};
use crate::journal::{Done, RecordType, Urgency};
use crate::needle::{Head, Header, block_count};
use crate::run::Run;
use crate::{ExtentError, Journal};
use bytes::Bytes;
use std::io;
use std::sync::Arc;
use types::limits::{BLOCK_BYTES, DIRECT_NEEDLE_BYTES_MIN, FRAME_BYTES_MAX, SMALL_APPEND_BYTES_MAX};
use types::{Epoch, ExtentId, JournalSeq, NeedleId};
use world::DiskFile;
use world::plant::{Plant, is_planted};

/// A needle's bytes with the crc32c of each 64 KiB block.
#[derive(Clone, Copy, Debug)]
pub struct Body<'a> {
    /// The bytes.
    pub bytes: &'a [u8],
    /// One a block.
    pub crcs: &'a [u32],
}

impl DataDir {
    /// Appends a needle of at most `SMALL_APPEND_BYTES_MAX`. With `durable` the journal syncs at once and calls it; without,
    /// the needle is durable with the next record that is. Sent again, a chunk gets the needle it has.
    ///
    /// # Errors
    /// Stale epoch, sealed, no room in the extent, a full disk, a full queue: nothing happened.
    pub fn append(
        &self,
        (extent, epoch): (ExtentId, Epoch),
        head: Head,
        Body { bytes, crcs }: Body<'_>,
        durable: Option<Done>,
    ) -> Result<Appended, ExtentError> {
        if bytes.len() > SMALL_APPEND_BYTES_MAX || bytes.len() as u64 != head.length {
            return Err(ExtentError::Invalid("the length of a small append".into()));
        }
        check_shape(&head, crcs.len() as u64, block_count(head.length))?;
        self.journal().check()?;
        let extent = self.extent(extent)?;
        let file = extent.file(self.disk())?;
        let mut state = extent.lock();
        state.check_writer(epoch)?;
        if let Some(before) = state.recall(head.blob, head.ordinal) {
            drop(state);
            return again(self.journal(), before, durable);
        }
        let (header, offset) = self.place(&mut state, &*file, epoch, head)?;
        let record = encode_small(&header, offset, &state, bytes, crcs);
        self.written(file.write_all_at(&record[PLACE_BYTES..], offset))?;
        state.dirty = true;
        let urgency = if durable.is_some() {
            Urgency::Now
        } else {
            Urgency::Lazy
        };
        let pieces = [record.into(), Bytes::new(), Bytes::new()];
        let sequence = self
            .journal()
            .submit(RecordType::Needle, pieces, urgency, durable)?;
        Ok(commit(&extent, &mut state, &header, offset, sequence))
    }

    /// Begins a larger needle: it goes to its extent frame by frame.
    ///
    /// # Errors
    /// As for [`DataDir::append`].
    pub fn begin(&self, extent: ExtentId, epoch: Epoch, head: Head) -> Result<LargeAppend, ExtentError> {
        check_shape(&head, 0, 0)?;
        self.journal().check()?;
        let extent = self.extent(extent)?;
        let file = extent.file(self.disk())?;
        let mut state = extent.lock();
        state.check_writer(epoch)?;
        let before = state.recall(head.blob, head.ordinal);
        let token = self.next_token();
        let crcs = Vec::with_capacity(block_count(head.length) as usize);
        let (header, offset) = match before {
            // Sent again: its frames are taken and forgotten.
            Some(before) => (
                Header {
                    extent: extent.id,
                    needle: before.needle,
                    epoch,
                    void: false,
                    head,
                },
                before.offset,
            ),
            None => {
                let placed = self.place(&mut state, &*file, epoch, head)?;
                state.under_way = Some(token);
                placed
            }
        };
        drop(state);
        Ok(LargeAppend {
            dir: self.clone(),
            extent,
            file,
            run: Run::new(
                offset + header.head.header_bytes(),
                header.head.length >= DIRECT_NEEDLE_BYTES_MIN,
            ),
            header,
            offset,
            token,
            before,
            written: 0,
            has_failed: false,
            crcs,
        })
    }

    /// The next needle's id and place, with room in the file for it.
    fn place(
        &self,
        state: &mut State,
        file: &dyn DiskFile,
        epoch: Epoch,
        head: Head,
    ) -> Result<(Header, u64), ExtentError> {
        if state.under_way.is_some() {
            return Err(ExtentError::Busy("another append of this extent is under way"));
        }
        let offset = state.row.end;
        let end = offset + head.stored_bytes();
        if end > state.row.bytes_max {
            return Err(ExtentError::NoRoom);
        }
        self.grow(state, file, end)?;
        let header = Header {
            extent: state.row.extent,
            needle: NeedleId(state.row.next_needle),
            epoch,
            void: false,
            head,
        };
        Ok((header, offset))
    }

    /// Allocates the file ahead in steps. The file system says now, not at writing back, whether there is room.
    fn grow(&self, state: &mut State, file: &dyn DiskFile, end: u64) -> Result<(), ExtentError> {
        if state.allocated == 0 {
            state.allocated = file.len().map_err(|e| ExtentError::io("extent", &e))?;
        }
        if end <= state.allocated {
            return Ok(());
        }
        let ahead = round_up(end, self.superblock().extent_step_bytes).min(state.row.bytes_max.max(end));
        let mut last = ExtentError::Full("no room".into());
        for to in [ahead, end] {
            let from = state.allocated;
            if let Err(e) = self.check_room(to - from) {
                last = e;
                continue;
            }
            match file.allocate(from, to - from) {
                Ok(()) => {
                    state.allocated = to;
                    state.dirty = true;
                    return Ok(());
                }
                Err(e) => last = ExtentError::io("extent", &e),
            }
        }
        if let ExtentError::OutOfService(why) = &last {
            self.journal().fail(why);
        }
        Err(last)
    }

    /// Judges a write to an extent: without room nothing is lost, anything else takes the disk out of service.
    pub(crate) fn written(&self, result: io::Result<()>) -> Result<(), ExtentError> {
        result.map_err(|e| {
            let e = ExtentError::io("extent", &e);
            if let ExtentError::OutOfService(why) = &e {
                self.journal().fail(why);
            }
            e
        })
    }
}

fn check_shape(head: &Head, crcs: u64, blocks: u64) -> Result<(), ExtentError> {
    match head.problem() {
        Some(problem) => Err(ExtentError::Invalid(problem.into())),
        None if crcs != blocks => Err(ExtentError::Invalid("one crc a block".into())),
        None => Ok(()),
    }
}

/// The answer to a chunk that was appended before.
fn again(journal: &Journal, before: Appended, durable: Option<Done>) -> Result<Appended, ExtentError> {
    if let Some(done) = durable {
        journal.barrier(done)?;
    }
    Ok(before)
}

/// A journal record's payload: place, header, bytes, crcs, padding.
fn encode_small(header: &Header, offset: u64, state: &State, bytes: &[u8], crcs: &[u32]) -> Vec<u8> {
    let place = Place {
        extent: header.extent,
        generation: state.row.generation,
        offset,
    };
    let mut record = Vec::with_capacity(PLACE_BYTES + header.stored_bytes() as usize);
    record.extend_from_slice(&place.encode());
    header.encode(state.row.salt, &mut record);
    record.extend_from_slice(bytes);
    crcs.iter()
        .for_each(|crc| record.extend_from_slice(&crc.to_le_bytes()));
    record.resize(PLACE_BYTES + header.stored_bytes() as usize, 0);
    record
}

/// Takes up a needle whose record is queued.
fn commit(
    extent: &Extent,
    state: &mut State,
    header: &Header,
    offset: u64,
    sequence: JournalSeq,
) -> Appended {
    let appended = Appended {
        needle: header.needle,
        offset,
        generation: state.row.generation,
        stored_length: header.stored_bytes(),
        sequence,
    };
    let advance = Advance {
        needle: header.needle,
        offset,
        stored_length: header.stored_bytes(),
        void: header.void,
    };
    extent.advance(state, advance);
    if !header.void {
        state.remember(header.head.blob, header.head.ordinal, appended);
    }
    appended
}

/// A large needle under way. Dropped before [`LargeAppend::finish`] it is given up and leaves a void.
pub struct LargeAppend {
    dir: DataDir,
    extent: Arc<Extent>,
    file: Arc<dyn DiskFile>,
    run: Run,
    header: Header,
    offset: u64,
    token: u64,
    /// The chunk was appended before.
    before: Option<Appended>,
    written: u64,
    /// A frame was not written: how much of it came to the file is not known.
    has_failed: bool,
    crcs: Vec<u32>,
}

impl LargeAppend {
    /// Writes the next frame. Blocks.
    ///
    /// # Errors
    /// The frame has not the shape it must have, the extent was sealed or taken over, the disk is full or failed.
    pub fn frame(&mut self, bytes: &[u8], crcs: &[u32]) -> Result<(), ExtentError> {
        let left = self.header.head.length - self.written;
        let whole = bytes.len().is_multiple_of(BLOCK_BYTES) || bytes.len() as u64 == left;
        if bytes.is_empty() || bytes.len() > FRAME_BYTES_MAX || bytes.len() as u64 > left || !whole {
            return Err(ExtentError::Invalid("the length of a frame".into()));
        }
        check_shape(
            &self.header.head,
            crcs.len() as u64,
            block_count(bytes.len() as u64),
        )?;
        if self.before.is_none() {
            // Whoever fences it off waits until this is written: nothing is written over what comes after.
            let state = self.extent.lock();
            self.check(&state)?;
            let (run, file, buffers) = (&mut self.run, &*self.file, &self.dir.0.buffers);
            let written = self
                .extent
                .write_unlocked(state, || run.write(file, bytes, buffers));
            self.has_failed = written.is_err();
            self.dir.written(written)?;
        }
        self.written += bytes.len() as u64;
        self.crcs.extend_from_slice(crcs);
        Ok(())
    }

    /// Whether this append is still the extent's.
    fn check(&self, state: &State) -> Result<(), ExtentError> {
        state.check_writer(self.header.epoch)?;
        if self.has_failed {
            return Err(ExtentError::Busy("a frame before was not written"));
        }
        if state.under_way == Some(self.token) {
            Ok(())
        } else {
            Err(ExtentError::Busy("this append was given up"))
        }
    }

    /// Syncs the bytes, then names them in the journal. Blocks for the extent's sync. `durable` as for [`DataDir::append`].
    ///
    /// # Errors
    /// As for [`LargeAppend::frame`]; after an error the append is given up.
    pub fn finish(mut self, durable: Option<Done>) -> Result<Appended, ExtentError> {
        if self.written != self.header.head.length {
            return Err(ExtentError::Invalid("the needle is not whole".into()));
        }
        if let Some(before) = self.before {
            return again(self.dir.journal(), before, durable);
        }
        let salt = self.extent.salt;
        let body_end = self.offset + self.header.head.header_bytes() + self.written;
        let mut tail: Vec<u8> = self.crcs.iter().flat_map(|crc| crc.to_le_bytes()).collect();
        tail.resize((self.offset + self.header.stored_bytes() - body_end) as usize, 0);
        let mut record = Vec::new();
        let state = self.extent.lock();
        self.check(&state)?;
        let place = Place {
            extent: self.extent.id,
            generation: state.row.generation,
            offset: self.offset,
        };
        record.extend_from_slice(&place.encode());
        self.header.encode(salt, &mut record);
        let (run, file) = (&mut self.run, &*self.file);
        let written = self.extent.write_unlocked(state, || {
            run.end(file, &tail)?;
            file.write_all_at(&record[PLACE_BYTES..], self.offset)
        });
        self.dir.written(written)?;
        if let Err(e) = self.sync() {
            let why = format!("extent {}: {e}", self.extent.id);
            self.dir.journal().fail(&why);
            return Err(ExtentError::Unknown(why));
        }
        let mut state = self.extent.lock();
        self.check(&state)?;
        let urgency = if durable.is_some() {
            Urgency::Now
        } else {
            Urgency::Lazy
        };
        let pieces = [record.into(), Bytes::new(), Bytes::new()];
        let sequence = self
            .dir
            .journal()
            .submit(RecordType::Large, pieces, urgency, durable)?;
        let appended = commit(&self.extent, &mut state, &self.header, self.offset, sequence);
        state.under_way = None;
        drop(state);
        self.before = Some(appended);
        Ok(appended)
    }

    fn sync(&self) -> io::Result<()> {
        if is_planted(Plant::SkipExtentSync) {
            return Ok(());
        }
        self.file.sync_data()
    }

    /// Leaves a void: the header alone, so that the space is not lost with it.
    fn give_up(&mut self) -> Result<(), ExtentError> {
        let extent = self.extent.clone();
        let mut state = extent.lock();
        if state.under_way != Some(self.token) {
            return Ok(());
        }
        state.under_way = None;
        if state.row.sealed {
            return Ok(());
        }
        self.header.void = true;
        let record = encode_small(&self.header, self.offset, &state, &[], &[]);
        self.dir
            .written(self.file.write_all_at(&record[PLACE_BYTES..], self.offset))?;
        state.dirty = true;
        let pieces = [record.into(), Bytes::new(), Bytes::new()];
        let sequence = self
            .dir
            .journal()
            .submit(RecordType::Needle, pieces, Urgency::Lazy, None)?;
        commit(&extent, &mut state, &self.header, self.offset, sequence);
        Ok(())
    }
}

impl Drop for LargeAppend {
    fn drop(&mut self) {
        if self.before.is_none()
            && let Err(e) = self.give_up()
        {
            // Nothing was acked and the end did not move: the next append takes the place.
            tracing::warn!(extent = %self.extent.id, error = %e, "no void was left for an append given up");
        }
    }
}
