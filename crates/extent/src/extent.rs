//! One extent: a file of needles with one writer (docs/formats/extent.md).
//!
//! ```text
//!   header block │ needle │ needle │ …           │ under way │ allocated ahead
//!                                                ^end: table + journal
//! ```
//! Invariants: at most one append is under way, and always past the end, so a crash leaves nothing to undo. Needle ids and
//! places are given out once. Order under the state's lock is the order in the journal: a seal stands behind all it covers.
//! Nobody waits for a device under that lock on behalf of a large append: it says that it writes, and who ends appends waits until it has.

use crate::ExtentError;
use crate::fields::{Fields, crc32c, put};
use crate::table::Row;
use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use types::limits::RECENT_APPENDS_MAX;
use types::{BlobId, DiskId, Epoch, ExtentId, Generation, JournalSeq, NeedleId};
use world::{Disk, DiskFile};

pub(crate) const DIR: &str = "extents";
/// Needles begin here.
pub(crate) const BODY_OFFSET: u64 = 4096;
const MAGIC: [u8; 4] = *b"CEXT";
const FORMAT: u16 = 1;

/// A needle, appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Its number.
    pub needle: NeedleId,
    /// Where its header begins.
    pub offset: u64,
    /// The extent's generation.
    pub generation: Generation,
    /// Whole length.
    pub stored_length: u64,
    /// The journal record that makes it durable.
    pub sequence: JournalSeq,
}

/// An extent as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Which.
    pub extent: ExtentId,
    /// Its writer's epoch.
    pub epoch: Epoch,
    /// Whether it refuses appends for ever.
    pub sealed: bool,
    /// Where the next needle would begin.
    pub end: u64,
    /// Needles in it, voids apart.
    pub needles: u64,
    /// Which compaction.
    pub generation: Generation,
    /// Of its needles' headers.
    pub salt: u64,
}

impl Status {
    pub(crate) fn of(row: &Row) -> Self {
        Self {
            extent: row.extent,
            epoch: row.epoch,
            sealed: row.sealed,
            end: row.end,
            needles: row.needles,
            generation: row.generation,
            salt: row.salt,
        }
    }
}

/// What changes of an extent.
pub(crate) struct State {
    pub(crate) row: Row,
    pub(crate) allocated: u64,
    /// Written since its file was last synced.
    pub(crate) dirty: bool,
    /// It cannot have a footer: a walk found damage.
    pub(crate) no_footer: bool,
    /// Its file is getting a footer, or is being written anew: one at a time.
    pub(crate) rewriting: bool,
    /// The record of a row that is not `row` yet: until it is, no checkpoint may release it.
    pub(crate) changing: Option<JournalSeq>,
    /// The large append under way.
    pub(crate) under_way: Option<u64>,
    /// It is writing to the file just now.
    writing: bool,
    recent: VecDeque<(BlobId, u32, Appended)>,
}

pub(crate) struct Extent {
    pub(crate) id: ExtentId,
    pub(crate) salt: u64,
    state: Mutex<State>,
    /// The large append under way has written what it was writing.
    written: Condvar,
    /// What the row said when the state's lock was let go last, for those who only look.
    told: Mutex<Status>,
    /// The row's end, for readers that do not wait for a writer.
    end: AtomicU64,
    slot: Mutex<Slot>,
}

/// An extent's state, held. Its row is told when it is let go of.
pub(crate) struct Locked<'a> {
    extent: &'a Extent,
    state: MutexGuard<'a, State>,
}

impl Deref for Locked<'_> {
    type Target = State;
    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        *self.extent.told() = Status::of(&self.state.row);
    }
}

/// The file of a generation, opened when first needed.
struct Slot {
    generation: Generation,
    file: Option<Arc<dyn DiskFile>>,
}

/// Where a generation's file is: the first has the extent's name, a later one its number too.
pub(crate) fn path(id: ExtentId, generation: Generation) -> String {
    if generation == Generation(0) {
        format!("{DIR}/{id}")
    } else {
        format!("{DIR}/{id}.{generation}")
    }
}

/// Whose file a name in the directory is; `None` of another's.
pub(crate) fn named(name: &str) -> Option<(ExtentId, Generation)> {
    let (id, generation) = match name.split_once('.') {
        None => (name, Generation(0)),
        Some((id, number)) => (id, Generation(u64::from_str_radix(number, 16).ok()?)),
    };
    let id = ExtentId(u64::from_str_radix(id, 16).ok()?);
    (path(id, generation) == format!("{DIR}/{name}")).then_some((id, generation))
}

impl Extent {
    pub(crate) fn new(row: Row, file: Option<Arc<dyn DiskFile>>) -> Self {
        Self {
            id: row.extent,
            salt: row.salt,
            end: AtomicU64::new(row.end),
            state: Mutex::new(State {
                allocated: 0,
                row,
                dirty: false,
                no_footer: row.frozen,
                rewriting: false,
                changing: None,
                under_way: None,
                writing: false,
                recent: VecDeque::new(),
            }),
            written: Condvar::new(),
            told: Mutex::new(Status::of(&row)),
            slot: Mutex::new(Slot {
                generation: row.generation,
                file,
            }),
        }
    }

    pub(crate) fn lock(&self) -> Locked<'_> {
        let state = self.state.lock().expect("no panic under an extent's lock");
        Locked { extent: self, state }
    }

    /// The state while nothing is on its way to the file: for those who end appends. What comes after them is not written over.
    pub(crate) fn lock_still(&self) -> Locked<'_> {
        let state = self.state.lock().expect("no panic under an extent's lock");
        let still = self.written.wait_while(state, |state| state.writing);
        let state = still.expect("no panic under an extent's lock");
        Locked { extent: self, state }
    }

    /// Writes what the large append under way, which `state` was asked about, has for the file. Its lock is free meanwhile: a write may wait for the
    /// device, and those who look at extents are not to wait with it.
    pub(crate) fn write_unlocked<T>(&self, mut state: Locked<'_>, write: impl FnOnce() -> T) -> T {
        assert!(!state.writing, "an extent has one large append at a time");
        (state.writing, state.dirty) = (true, true);
        drop(state);
        let written = write();
        let mut state = self.lock();
        // Again: a checkpoint may have synced the file while this was written.
        (state.writing, state.dirty) = (false, true);
        drop(state);
        self.written.notify_all();
        written
    }

    fn told(&self) -> MutexGuard<'_, Status> {
        self.told.lock().expect("no panic under this lock")
    }

    pub(crate) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().expect("no panic under this lock")
    }

    /// Its file, opened when first needed.
    pub(crate) fn file(&self, disk: &dyn Disk) -> Result<Arc<dyn DiskFile>, ExtentError> {
        self.file_of(disk).map(|(_, file)| file)
    }

    /// Its file, and which generation it is of. Whoever asks for [`Extent::end`] afterwards gets one that is not behind this file's.
    pub(crate) fn file_of(&self, disk: &dyn Disk) -> Result<(Generation, Arc<dyn DiskFile>), ExtentError> {
        let mut slot = self.slot();
        if let Some(file) = &slot.file {
            return Ok((slot.generation, file.clone()));
        }
        let opened = disk
            .open(&path(self.id, slot.generation))
            .map_err(|e| ExtentError::unread(format!("extent {} cannot be opened", self.id), &e))?;
        slot.file = Some(opened.clone());
        Ok((slot.generation, opened))
    }

    /// Its row and the file that this row speaks of.
    pub(crate) fn view(&self, disk: &dyn Disk) -> Result<(Row, Arc<dyn DiskFile>), ExtentError> {
        loop {
            let row = self.lock().row;
            let (generation, file) = self.file_of(disk)?;
            if generation == row.generation {
                return Ok((row, file));
            }
        }
    }

    /// Lets the file go until it is needed again.
    pub(crate) fn close_file(&self) {
        self.slot().file = None;
    }

    /// Its file has been written to the end.
    pub(crate) fn end_pages(&self) {
        if let Some(file) = &self.slot().file {
            file.end_pages();
        }
    }

    /// From here on the extent is what `row` says, in `file`. The end falls first: no reader has the new file and the old end.
    pub(crate) fn switch(&self, state: &mut State, row: Row, file: Option<Arc<dyn DiskFile>>) {
        self.set_end(state, row.end);
        let mut slot = self.slot();
        state.row = row;
        (state.dirty, state.allocated, state.no_footer) = (false, 0, row.frozen);
        *slot = Slot {
            generation: row.generation,
            file,
        };
    }

    /// As it is, or was a moment ago. Waits for nobody: it is asked for where clients are served.
    pub(crate) fn status(&self) -> Status {
        *self.told()
    }

    /// Takes up a needle that stands at `offset` and whose record is in the journal.
    pub(crate) fn advance(&self, state: &mut State, at: Advance) {
        let row = &mut state.row;
        if at.needle.0 >= row.next_needle {
            row.next_needle = at.needle.0 + 1;
            row.needles += u64::from(!at.void);
        }
        row.end = row.end.max(at.offset + at.stored_length);
        self.end.store(row.end, Ordering::Release);
    }

    /// Takes over what recovery found to be the end.
    pub(crate) fn set_end(&self, state: &mut State, end: u64) {
        state.row.end = end;
        self.end.store(end, Ordering::Release);
    }
}

/// A needle taken up.
#[derive(Clone, Copy)]
pub(crate) struct Advance {
    pub(crate) needle: NeedleId,
    pub(crate) offset: u64,
    pub(crate) stored_length: u64,
    pub(crate) void: bool,
}

impl State {
    /// Refuses appends of anyone but the extent's writer.
    pub(crate) fn check_writer(&self, epoch: Epoch) -> Result<(), ExtentError> {
        if self.row.epoch != epoch {
            return Err(ExtentError::StaleEpoch {
                asked: epoch,
                now: self.row.epoch,
            });
        }
        if self.row.sealed {
            Err(ExtentError::Sealed)
        } else {
            Ok(())
        }
    }

    pub(crate) fn remember(&mut self, blob: BlobId, ordinal: u32, appended: Appended) {
        if self.recent.len() == RECENT_APPENDS_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back((blob, ordinal, appended));
    }

    /// The needle that an append of this chunk got before.
    pub(crate) fn recall(&self, blob: BlobId, ordinal: u32) -> Option<Appended> {
        let mut newest_first = self.recent.iter().rev();
        newest_first
            .find(|(b, o, _)| (*b, *o) == (blob, ordinal))
            .map(|r| r.2)
    }
}

/// An extent file's header block.
pub(crate) fn encode_head(row: &Row, disk: DiskId) -> Vec<u8> {
    let mut b = vec![0; BODY_OFFSET as usize];
    put(&mut b, 0, &MAGIC);
    put(&mut b, 4, &FORMAT.to_le_bytes());
    put(&mut b, 8, &row.extent.0.to_le_bytes());
    put(&mut b, 16, &disk.0.to_le_bytes());
    put(&mut b, 32, &row.salt.to_le_bytes());
    put(&mut b, 40, &row.bytes_max.to_le_bytes());
    put(&mut b, 48, &row.generation.0.to_le_bytes());
    let crc = crc32c(&b[..4092]);
    put(&mut b, 4092, &crc.to_le_bytes());
    b
}

/// The row of an extent of which only its file is known: empty, sealed and frozen.
pub(crate) fn decode_head(b: &[u8], disk: DiskId) -> Option<Row> {
    let good = b.len() >= BODY_OFFSET as usize
        && b[..4] == MAGIC
        && b.u16_at(4) == FORMAT
        && crc32c(&b[..4092]) == b.u32_at(4092)
        && b.u128_at(16) == disk.0;
    let of = (ExtentId(b.u64_at(8)), Generation(b.u64_at(48)));
    good.then(|| bare_row(of, b.u64_at(40), b.u64_at(32)))
}

/// A row with what a head says, and nothing in it.
pub(crate) fn bare_row((extent, generation): (ExtentId, Generation), bytes_max: u64, salt: u64) -> Row {
    Row {
        extent,
        epoch: Epoch(0),
        generation,
        end: BODY_OFFSET,
        next_needle: 1,
        needles: 0,
        bytes_max,
        salt,
        sealed: true,
        frozen: true,
        footer: false,
        gone: false,
    }
}
