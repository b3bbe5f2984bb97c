//! A data directory: one disk's superblock, journal, extents and ballast, opened by one process at a time.
//!
//! Everything here may block on the disk, but for [`DataDir::append`], which writes to the page cache, and what only asks.

use crate::ExtentError;
use crate::buffers::Buffers;
use crate::extent::{self, BODY_OFFSET, Extent, State, Status};
use crate::generations::Files;
use crate::journal::{Consumer, Done, Journal, RecordType, Urgency};
use crate::leaving::Leaving;
use crate::mapping::Mappings;
use crate::places::Places;
use crate::room::Room;
use crate::superblock::Superblock;
use crate::table::Row;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use types::{DiskId, Epoch, ExtentId, Generation, JournalSeq};
use world::{Aligned, Disk, DiskLock, Rng};

/// An open data directory. Cheap to clone; the lock is let go with the last clone.
#[derive(Clone)]
pub struct DataDir(pub(crate) Arc<Open>);

pub(crate) struct Open {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) superblock: Superblock,
    pub(crate) journal: Journal,
    pub(crate) consumer: Consumer,
    pub(crate) extents: RwLock<BTreeMap<ExtentId, Arc<Extent>>>,
    pub(crate) rng: Arc<dyn Rng>,
    pub(crate) lock: Box<dyn DiskLock>,
    /// Held while an extent is made.
    pub(crate) making: Mutex<()>,
    /// Held during a checkpoint: `released` of the table on disk.
    pub(crate) checkpointing: Mutex<u64>,
    pub(crate) tokens: AtomicU64,
    pub(crate) places: Mutex<Places>,
    pub(crate) buffers: Buffers<Aligned>,
    pub(crate) read_buffers: Arc<Buffers<Vec<u8>>>,
    pub(crate) leaving: Leaving,
    /// Whether an extent is being compacted.
    pub(crate) compacting: AtomicBool,
    pub(crate) room: Room,
    pub(crate) mappings: Mappings,
    /// Extents of which nothing is known and whose files may hold needles: that changes with a start, and seeing it takes a read of a file.
    pub(crate) taken: Mutex<BTreeSet<ExtentId>>,
}

impl Drop for Open {
    fn drop(&mut self) {
        // Others may have the journal for longer; the lock goes now, and who takes it next must find nobody writing.
        self.journal.end_zeroes();
    }
}

impl DataDir {
    pub(crate) fn from_open(open: Open) -> Self {
        Self(Arc::new(open))
    }

    /// Whose directory.
    pub fn disk_id(&self) -> DiskId {
        self.0.superblock.disk
    }

    /// What it is.
    pub fn superblock(&self) -> &Superblock {
        &self.0.superblock
    }

    /// Its journal.
    pub fn journal(&self) -> &Journal {
        &self.0.journal
    }

    pub(crate) fn disk(&self) -> &dyn Disk {
        &*self.0.disk
    }

    pub(crate) fn next_token(&self) -> u64 {
        self.0.tokens.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn extent(&self, id: ExtentId) -> Result<Arc<Extent>, ExtentError> {
        let extents = self.0.extents.read().expect("no panic under this lock");
        extents.get(&id).cloned().ok_or(ExtentError::NoExtent(id))
    }

    /// One extent.
    ///
    /// # Errors
    /// [`ExtentError::NoExtent`] is proof: there is no file of it that may hold needles. [`ExtentError::Taken`] where there is.
    pub fn status(&self, id: ExtentId) -> Result<Status, ExtentError> {
        match self.extent(id) {
            Ok(extent) => Ok(extent.status()),
            Err(_) => Err(self.unknown(id)),
        }
    }

    /// What to say of an extent of which nothing is known. Whoever hears that it is none may end it for good, so its file is looked for.
    fn unknown(&self, id: ExtentId) -> ExtentError {
        if self.0.leaving.rows().contains_key(&id) {
            return ExtentError::NoExtent(id);
        }
        match self.is_taken(id) {
            Ok(true) => ExtentError::Taken(id),
            Ok(false) => ExtentError::NoExtent(id),
            Err(e) => e,
        }
    }

    /// Whether a file of an extent of which nothing is known may hold needles.
    fn is_taken(&self, id: ExtentId) -> Result<bool, ExtentError> {
        let taken = || self.0.taken.lock().expect("no panic under this lock");
        if taken().contains(&id) {
            return Ok(true);
        }
        let holds = Files::list(self.disk())?.hold(self.disk(), self.superblock(), id);
        if holds {
            taken().insert(id);
        }
        Ok(holds)
    }

    /// All extents, by id.
    pub fn extents(&self) -> Vec<Status> {
        self.all().iter().map(|e| e.status()).collect()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Extent>> {
        let extents = self.0.extents.read().expect("no panic under this lock");
        extents.values().cloned().collect()
    }

    /// Makes an extent of at most `bytes_max` for appends of `epoch`, or raises the epoch of one that is there. `done` runs
    /// once that is on stable storage.
    ///
    /// # Errors
    /// Sealed, a lower epoch, a file with needles where none should be, a full or failed disk: nothing happened and `done` will not run.
    pub fn open_extent(
        &self,
        id: ExtentId,
        epoch: Epoch,
        bytes_max: u64,
        done: Done,
    ) -> Result<Status, ExtentError> {
        self.0.journal.check()?;
        let _making = self.0.making.lock().expect("no panic under this lock");
        if let Ok(extent) = self.extent(id) {
            self.raise(&extent, epoch, done)?;
            return Ok(extent.status());
        }
        if bytes_max <= BODY_OFFSET {
            return Err(ExtentError::Invalid("an extent without room for a needle".into()));
        }
        let row = Row {
            extent: id,
            epoch,
            generation: Generation(0),
            end: BODY_OFFSET,
            next_needle: 1,
            needles: 0,
            bytes_max,
            salt: self.0.rng.next_u64(),
            sealed: false,
            frozen: false,
            footer: false,
            gone: false,
        };
        if self.0.leaving.rows().contains_key(&id) {
            return Err(ExtentError::Sealed);
        }
        if self.is_taken(id)? {
            return Err(ExtentError::Taken(id));
        }
        let path = extent::path(row.extent, row.generation);
        let extent = self.create(row, &path)?;
        // Known only once its row is queued: refused there, it is made anew next time. Queued under this lock: a checkpoint
        // that sees the row synced must see the extent too.
        let mut extents = self.0.extents.write().expect("no panic under this lock");
        let queued = self.record_row(&extent.lock(), done);
        queued.inspect_err(|_| self.unmake(&path))?;
        extents.insert(id, extent.clone());
        Ok(extent.status())
    }

    /// Makes an extent's file. It is durable, name and head, before anything says that it is there.
    fn create(&self, row: Row, path: &str) -> Result<Arc<Extent>, ExtentError> {
        let step = self
            .0
            .superblock
            .extent_step_bytes
            .min(row.bytes_max.max(BODY_OFFSET));
        self.check_room(step)?;
        let made = || {
            // A file of that name, without needles, is what a crash left of an extent that nobody was told of.
            match self.0.disk.remove(path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
            let file = self.0.disk.create(path)?;
            file.allocate(0, step)?;
            file.write_all_at(&extent::encode_head(&row, self.disk_id()), 0)?;
            file.sync_data()?;
            self.0.disk.sync_dir(extent::DIR)?;
            Ok(file)
        };
        let made = made().inspect_err(|_| self.unmake(path));
        let file = self.settled("extent", made)?;
        Ok(Arc::new(Extent::new(row, Some(file))))
    }

    /// Takes the file of an extent away that did not come to be: its room is short where that happens. What cannot be removed goes at the
    /// next opening.
    fn unmake(&self, path: &str) {
        let _left = self.0.disk.remove(path);
    }

    /// Judges a chain of steps that makes something new: without room it did not happen, anything else ends the disk.
    pub(crate) fn settled<T>(&self, what: &str, result: std::io::Result<T>) -> Result<T, ExtentError> {
        result.map_err(|e| {
            let e = ExtentError::io(what, &e);
            if let ExtentError::OutOfService(why) = &e {
                self.0.journal.fail(why);
            }
            e
        })
    }

    fn raise(&self, extent: &Extent, epoch: Epoch, done: Done) -> Result<(), ExtentError> {
        let mut state = extent.lock_still();
        if epoch > state.row.epoch && !state.row.sealed {
            let before = state.row.epoch;
            state.row.epoch = epoch;
            if let Err(e) = self.record_row(&state, done) {
                state.row.epoch = before;
                return Err(e);
            }
            state.under_way = None;
            return Ok(());
        }
        state.check_writer(epoch)?;
        drop(state);
        self.0.journal.barrier(done)
    }

    pub(crate) fn record_row(&self, state: &State, done: Done) -> Result<JournalSeq, ExtentError> {
        let row = Bytes::copy_from_slice(&state.row.encode());
        let pieces = [row, Bytes::new(), Bytes::new()];
        self.0
            .journal
            .submit(RecordType::Extent, pieces, Urgency::Now, Some(done))
    }

    /// Raises the epoch and refuses appends for ever. Every acked needle is in what it answers. // I7
    ///
    /// # Errors
    /// A lower epoch, a failed disk; as for [`DataDir::status`].
    pub fn seal(&self, id: ExtentId, epoch: Epoch, done: Done) -> Result<Status, ExtentError> {
        let extent = self.extent(id).map_err(|_| self.unknown(id))?;
        let mut state = extent.lock_still();
        if epoch < state.row.epoch {
            return Err(ExtentError::StaleEpoch {
                asked: epoch,
                now: state.row.epoch,
            });
        }
        if state.row.sealed && epoch == state.row.epoch {
            drop(state);
            self.0.journal.barrier(done)?;
            return Ok(extent.status());
        }
        let before = state.row;
        (state.row.epoch, state.row.sealed) = (epoch, true);
        if let Err(e) = self.record_row(&state, done) {
            state.row = before;
            return Err(e);
        }
        state.under_way = None;
        drop(state);
        extent.end_pages();
        Ok(extent.status())
    }

    /// Gives up memory that nobody used since the last time.
    pub fn rest(&self) {
        self.0.buffers.rest();
        self.0.read_buffers.rest();
    }

    /// Syncs and marks the journal, then takes no more writes. `done` runs at the end. Checkpoint first.
    pub fn close(&self, done: Done) {
        let _held = &self.0.lock;
        self.0.journal.stop(done);
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests touch the real world")]
pub(crate) mod tests {
    use super::*;
    use crate::create::DataDirConfig;
    use world::World;
    use world::real::RealDisk;

    pub(crate) fn open(path: &std::path::Path) -> (Arc<RealDisk>, DataDir) {
        let disk = Arc::new(RealDisk::open(path).unwrap());
        let config = DataDirConfig {
            journal_bytes: Some(1 << 20),
            ballast_bytes: Some(4096),
            ..DataDirConfig::default()
        };
        let opened = DataDir::open(&World::real(), disk.clone(), config).unwrap();
        assert_eq!(opened.report.damage, Vec::<String>::new());
        (disk, opened.dir)
    }

    pub(crate) fn wait<T>(f: impl FnOnce(Done) -> Result<T, ExtentError>) -> T {
        let (tx, rx) = std::sync::mpsc::channel();
        let out = f(Box::new(move |r| tx.send(r).unwrap())).unwrap();
        rx.recv().unwrap().unwrap();
        out
    }

    #[test]
    fn a_file_that_nobody_knows_is_read_once() {
        let tmp = tempfile::tempdir().unwrap();
        let (disk, dir) = open(tmp.path());
        let (id, path) = (ExtentId(7), extent::path(ExtentId(7), Generation(0)));
        assert_eq!(dir.status(id), Err(ExtentError::NoExtent(id)));
        let file = disk.create(&path).unwrap();
        file.write_all_at(b"something", BODY_OFFSET).unwrap();
        assert_eq!(dir.status(id), Err(ExtentError::Taken(id)));
        disk.remove(&path).unwrap();
        assert_eq!(dir.status(id), Err(ExtentError::Taken(id)), "it is known by now");
    }
}
