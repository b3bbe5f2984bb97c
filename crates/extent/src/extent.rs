//! One extent: a file of needles with one writer (docs/formats/extent.md).
//!
//! ```text
//!   header block │ needle │ needle │ …           │ under way │ allocated ahead
//!                                                ^end: table + journal
//! ```
//! Invariants: at most one append is under way, and always past the end, so a crash leaves nothing to undo. Needle ids and
//! places are given out once. Order under the state's lock is the order in the journal: a seal stands behind all it covers.

use crate::ExtentError;
use crate::fields::{Fields, crc32c, put};
use crate::table::Row;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use types::limits::{RECENT_APPENDS_MAX, WALKED_PLACES_MAX};
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
}

/// What changes of an extent.
pub(crate) struct State {
    pub(crate) row: Row,
    pub(crate) allocated: u64,
    /// Written since its file was last synced.
    pub(crate) dirty: bool,
    /// It cannot have a footer: a walk found damage.
    pub(crate) no_footer: bool,
    /// The large append under way.
    pub(crate) under_way: Option<u64>,
    recent: VecDeque<(BlobId, u32, Appended)>,
}

pub(crate) struct Extent {
    pub(crate) id: ExtentId,
    pub(crate) salt: u64,
    state: Mutex<State>,
    /// The row's end, for readers that do not wait for a writer.
    end: AtomicU64,
    file: Mutex<Option<Arc<dyn DiskFile>>>,
    /// What walks found, the newest last: a needle, in which generation, where or nowhere.
    places: Mutex<VecDeque<(NeedleId, Generation, Option<u64>)>>,
}

pub(crate) fn path(id: ExtentId) -> String {
    format!("{DIR}/{id}")
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
                under_way: None,
                recent: VecDeque::new(),
            }),
            file: Mutex::new(file),
            places: Mutex::default(),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic under an extent's lock")
    }

    pub(crate) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// Its file, opened when first needed.
    pub(crate) fn file(&self, disk: &dyn Disk) -> Result<Arc<dyn DiskFile>, ExtentError> {
        let mut file = self.file.lock().expect("no panic under this lock");
        if let Some(file) = &*file {
            return Ok(file.clone());
        }
        let opened = disk
            .open(&path(self.id))
            .map_err(|e| ExtentError::unread(format!("extent {} cannot be opened", self.id), &e))?;
        *file = Some(opened.clone());
        Ok(opened)
    }

    /// Lets the file go until it is needed again.
    pub(crate) fn close_file(&self) {
        *self.file.lock().expect("no panic under this lock") = None;
    }

    /// Where a walk has found a needle; `Some(None)` when it is nowhere.
    pub(crate) fn recall_place(&self, needle: NeedleId, generation: Generation) -> Option<Option<u64>> {
        let places = self.places.lock().expect("no panic under this lock");
        let known = places.iter().find(|(n, g, _)| (*n, *g) == (needle, generation));
        known.map(|(_, _, place)| *place)
    }

    /// Notes what a walk found.
    pub(crate) fn remember_place(&self, needle: NeedleId, generation: Generation, place: Option<u64>) {
        let mut places = self.places.lock().expect("no panic under this lock");
        if places.len() == WALKED_PLACES_MAX {
            places.pop_front();
        }
        places.push_back((needle, generation, place));
    }

    pub(crate) fn status(&self) -> Status {
        let row = self.lock().row;
        Status {
            extent: row.extent,
            epoch: row.epoch,
            sealed: row.sealed,
            end: row.end,
            needles: row.needles,
            generation: row.generation,
        }
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
    good.then(|| Row {
        extent: ExtentId(b.u64_at(8)),
        epoch: Epoch(0),
        generation: Generation(b.u64_at(48)),
        end: BODY_OFFSET,
        next_needle: 1,
        needles: 0,
        bytes_max: b.u64_at(40),
        salt: b.u64_at(32),
        sealed: true,
        frozen: true,
        footer: false,
    })
}
