//! Room on a disk: what new data may take, what is kept back, and who may use that.
//!
//! ```text
//!   free ──────────────┬── half the ballast ──┐ ballast ───────────────┐
//!    new data          │ index, tables        │ index, tables, deletes │
//!                      └── one compaction: all but a quarter of the ballast ┘
//! ```
//! New data stops while half the ballast's length is still free. What the index and the tables take beyond that, and a compaction
//! on a full disk, comes out of the ballast, which is taken back as soon as there is room again.

use crate::dir::DataDir;
use crate::superblock::{FORMAT_RECLAIMED, Superblock};
use crate::table::{self, Table};
use crate::{ExtentError, ballast};
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use world::Space;

/// Who has which room.
#[derive(Default)]
pub(crate) struct Room {
    /// Held while the ballast is made shorter or longer.
    ballast: Mutex<()>,
    /// Bytes that a compaction, or the ballast, is about to take: new data leaves them alone.
    claimed: AtomicU64,
    /// Whether a compaction was given ballast that is not back yet. However it ends, what it leaves goes to the ballast first.
    owed: AtomicBool,
    /// Format version that the superblock on disk has.
    format: AtomicU32,
    /// Held while it is raised.
    raising: Mutex<()>,
}

impl Room {
    /// `owed`: a compaction may have died with ballast that it was given.
    pub(crate) fn of(superblock: &Superblock, owed: bool) -> Self {
        Self {
            format: AtomicU32::new(superblock.format),
            owed: AtomicBool::new(owed),
            ..Self::default()
        }
    }
}

impl DataDir {
    /// Refuses new data that would eat into what is kept for deletes, seals and the index.
    pub(crate) fn check_room(&self, bytes: u64) -> Result<(), ExtentError> {
        let Space { free, .. } = self.free_space()?;
        let kept = self.headroom() + self.0.room.claimed.load(Ordering::Acquire);
        if free < bytes.saturating_add(kept) {
            return Err(ExtentError::Full(format!(
                "{free} bytes are free, {kept} are kept back"
            )));
        }
        Ok(())
    }

    fn free_space(&self) -> Result<Space, ExtentError> {
        self.disk()
            .space()
            .map_err(|e| ExtentError::io("file system", &e))
    }

    /// Free bytes that new data leaves alone, beside the ballast.
    fn headroom(&self) -> u64 {
        self.superblock().ballast_bytes / 2
    }

    /// All of the disk's bytes, and what new data may still take.
    ///
    /// # Errors
    /// The file system does not say.
    pub fn space(&self) -> Result<Space, ExtentError> {
        let space = self.free_space()?;
        Ok(Space {
            total: space.total,
            free: space.free.saturating_sub(self.headroom()),
        })
    }

    /// Gives ballast back on a full disk and takes it again when there is room. To be called now and then.
    ///
    /// # Errors
    /// The file system fails.
    pub fn tend_ballast(&self) -> Result<(), ExtentError> {
        let _held = self.0.room.ballast.lock().expect("no panic under this lock");
        let tended = ballast::tend(self.disk(), self.superblock().ballast_bytes);
        tended.map_err(|e| ExtentError::io("ballast", &e))
    }

    /// Takes back the ballast that a compaction used, once the old file is gone and before new data takes its room.
    ///
    /// # Errors
    /// The file system fails.
    pub fn regrow_ballast(&self) -> Result<(), ExtentError> {
        let _held = self.0.room.ballast.lock().expect("no panic under this lock");
        let regrown = ballast::regrow(self.disk(), self.superblock().ballast_bytes);
        if regrown.map_err(|e| ExtentError::io("ballast", &e))? {
            self.0.room.owed.store(false, Ordering::Release);
        }
        Ok(())
    }

    /// Removes files and, where ballast is owed, takes it back out of their room before new data sees any of it.
    pub(crate) fn removing<T>(
        &self,
        remove: impl FnOnce() -> Result<T, ExtentError>,
    ) -> Result<T, ExtentError> {
        if !self.0.room.owed.load(Ordering::Acquire) {
            return remove();
        }
        let (claimed, whole) = (&self.0.room.claimed, self.superblock().ballast_bytes);
        claimed.fetch_add(whole, Ordering::AcqRel);
        let removed = remove();
        let regrown = self.regrow_ballast();
        claimed.fetch_sub(whole, Ordering::AcqRel);
        if let Err(e) = regrown {
            // It is owed still, and nothing else waits for it.
            tracing::warn!(disk = %self.disk_id(), error = %e, "ballast");
        }
        removed
    }

    /// Makes something of `bytes` for a compaction, in the ballast where the disk is full.
    pub(crate) fn with_room<T>(
        &self,
        bytes: u64,
        make: impl FnOnce() -> io::Result<T>,
    ) -> Result<T, ExtentError> {
        let room = &self.0.room;
        let _held = room.ballast.lock().expect("no panic under this lock");
        // What writes little leaves little: a full disk can always be rid of what is wholly dead.
        let kept = (self.superblock().ballast_bytes / 4).min(bytes);
        room.claimed.fetch_add(bytes, Ordering::AcqRel);
        let made = ballast::free(self.disk(), bytes + kept).and_then(|given| {
            room.owed.fetch_or(given > 0, Ordering::AcqRel);
            make()
        });
        room.claimed.fetch_sub(bytes, Ordering::AcqRel);
        self.settled("extent", made)
    }

    /// Writes something small that a full disk must still take, giving ballast back for it where needed.
    fn written_at_last(&self, what: &str, write: impl Fn() -> io::Result<()>) -> Result<(), ExtentError> {
        let mut written = write();
        let full = |e: &io::Error| e.kind() == io::ErrorKind::StorageFull;
        if written.as_ref().is_err_and(full) {
            let _held = self.0.room.ballast.lock().expect("no panic under this lock");
            self.settled("ballast", ballast::shrink(self.disk()))?;
            written = write();
        }
        self.settled(what, written)
    }

    pub(crate) fn write_table(&self, table: &Table) -> Result<(), ExtentError> {
        self.written_at_last(table::NAME, || table.write(self.disk(), self.disk_id()))
    }

    /// Says in the superblock that extents may be compacted or gone, before the first one is. // I10
    pub(crate) fn raise_format(&self) -> Result<(), ExtentError> {
        let format = &self.0.room.format;
        if format.load(Ordering::Acquire) >= FORMAT_RECLAIMED {
            return Ok(());
        }
        let _raising = self.0.room.raising.lock().expect("no panic under this lock");
        if format.load(Ordering::Acquire) >= FORMAT_RECLAIMED {
            return Ok(());
        }
        // Read again: the index's engine writes in it, too, before it is started.
        let now = Superblock::read(self.disk())?
            .ok_or_else(|| ExtentError::Corrupt("superblock: it is missing".into()))?;
        let raised = Superblock {
            format: FORMAT_RECLAIMED,
            ..now
        };
        self.written_at_last("superblock", || raised.write(self.disk()))?;
        format.store(FORMAT_RECLAIMED, Ordering::Release);
        Ok(())
    }
}
