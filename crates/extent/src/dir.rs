//! A data directory: one disk's superblock, journal, extents and ballast, opened by one process at a time.
//!
//! Everything here may block on the disk, but for [`DataDir::append`], which writes to the page cache, and what only asks.

use crate::ExtentError;
use crate::extent::{self, BODY_OFFSET, Extent, State, Status};
use crate::generations::Files;
use crate::journal::{Consumer, Done, Journal, RecordType, Urgency};
use crate::leaving::Leaving;
use crate::mapping::Mappings;
use crate::places::Places;
use crate::room::Room;
use crate::superblock::Superblock;
use crate::table::{Row, Table};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use types::limits::OPEN_FILES_MAX;
use types::{DiskId, Epoch, ExtentId, Generation, JournalSeq};
use world::plant::{Plant, is_planted};
use world::{Disk, DiskLock, Rng};

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
    pub(crate) leaving: Leaving,
    /// Whether an extent is being compacted.
    pub(crate) compacting: AtomicBool,
    pub(crate) room: Room,
    pub(crate) mappings: Mappings,
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
    /// [`ExtentError::NoExtent`].
    pub fn status(&self, id: ExtentId) -> Result<Status, ExtentError> {
        Ok(self.extent(id)?.status())
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
        if Files::list(self.disk())?.hold(self.disk(), self.superblock(), id) {
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
        let mut state = extent.lock();
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

    fn record_row(&self, state: &State, done: Done) -> Result<JournalSeq, ExtentError> {
        let row = Bytes::copy_from_slice(&state.row.encode());
        let pieces = [row, Bytes::new(), Bytes::new()];
        self.0
            .journal
            .submit(RecordType::Extent, pieces, Urgency::Now, Some(done))
    }

    /// Raises the epoch and refuses appends for ever. Every acked needle is in what it answers. // I7
    ///
    /// # Errors
    /// A lower epoch, a failed disk.
    pub fn seal(&self, id: ExtentId, epoch: Epoch, done: Done) -> Result<Status, ExtentError> {
        let extent = self.extent(id)?;
        let mut state = extent.lock();
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
        Ok(extent.status())
    }

    /// Makes everything that the journal holds of extents durable in the extents and the table, and releases the journal.
    ///
    /// # Errors
    /// A full disk: nothing was released, it may be tried again. A failed one: it is out of service.
    pub fn checkpoint(&self) -> Result<(), ExtentError> {
        self.0.journal.check()?;
        let mut on_disk = self.0.checkpointing.lock().expect("no panic under this lock");
        self.sweep()?;
        let unsaid = self.0.mappings.take_unsaid();
        let saved = self.save(&mut on_disk, unsaid);
        if saved.is_err() && unsaid {
            self.0.mappings.unsaid();
        }
        saved
    }

    /// Releases the journal, once a table says what it held; `unsaid`: there is something new to say even where nothing can be released.
    fn save(&self, on_disk: &mut u64, unsaid: bool) -> Result<(), ExtentError> {
        // Taken before the rows: every record below has its bytes in a file and its row in a state by now, or is held back.
        let synced = self.0.journal.synced().0;
        let extents = self.all();
        let (rows, released) = self.rows_synced(&extents, synced + 1)?;
        if released > *on_disk || unsaid {
            let released = released.max(*on_disk);
            self.write_table(&Table {
                released,
                synced,
                rows,
            })?;
            *on_disk = released;
        }
        // Never beyond the table: recovery takes a low-water above the table's for the loss of a newer table.
        self.0.consumer.release(JournalSeq(*on_disk));
        self.let_files_go(&extents);
        Ok(())
    }

    /// The rows of the extents, whose files are synced by then, and the first record that they do not speak of: `released` or less.
    fn rows_synced(
        &self,
        extents: &[Arc<Extent>],
        mut released: u64,
    ) -> Result<(Vec<Row>, u64), ExtentError> {
        let mut rows = BTreeMap::new();
        for extent in extents {
            let dirty = {
                let mut state = extent.lock();
                rows.insert(extent.id, state.row);
                // A row that is to follow is not this one yet: its record stays.
                released = state.changing.map_or(released, |at| released.min(at.0));
                std::mem::take(&mut state.dirty) && !state.row.gone
            };
            if !dirty || is_planted(Plant::RecycleEarly) {
                continue;
            }
            let file = extent.file(&*self.0.disk).inspect_err(|_| {
                // Not synced, so the next checkpoint must.
                extent.lock().dirty = true;
            })?;
            if let Err(e) = file.sync_data() {
                let why = format!("extent {}: {e}", extent.id);
                self.0.journal.fail(&why);
                return Err(ExtentError::Unknown(why));
            }
        }
        // Those that went while this was done say so here, or are off the disk.
        rows.extend(self.0.leaving.rows());
        Ok((rows.into_values().collect(), released))
    }

    /// Closes the files of sealed extents when many are open.
    fn let_files_go(&self, extents: &[Arc<Extent>]) {
        let mut open = 0;
        for extent in extents.iter().rev() {
            let state = extent.lock();
            if state.dirty || !state.row.sealed {
                continue;
            }
            open += 1;
            if open > OPEN_FILES_MAX {
                extent.close_file();
            }
        }
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
    use crate::open::DataDirConfig;
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

    /// A checkpoint between the end of an extent and that of its file says that it is gone; the file that comes back goes again.
    #[test]
    fn an_extent_is_gone_in_the_table_while_its_file_is_there() {
        let tmp = tempfile::tempdir().unwrap();
        let (disk, dir) = open(tmp.path());
        let id = ExtentId(1);
        wait(|done| dir.open_extent(id, Epoch(1), 1 << 20, done));
        wait(|done| dir.seal(id, Epoch(1), done));
        wait(|done| dir.remove(id, done));
        assert_eq!(dir.status(id), Err(ExtentError::NoExtent(id)));
        let synced = dir.journal().synced().0;
        let (rows, released) = dir.rows_synced(&dir.all(), synced + 1).unwrap();
        assert_eq!((rows[0].extent, rows[0].gone, released), (id, true, synced + 1));
        dir.write_table(&Table {
            released,
            synced,
            rows,
        })
        .unwrap();
        let path = extent::path(id, Generation(0));
        assert!(disk.exists(&path).unwrap());
        drop(dir);
        let (disk, dir) = open(tmp.path());
        assert_eq!(dir.status(id), Err(ExtentError::NoExtent(id)));
        assert!(!disk.exists(&path).unwrap());
        assert_eq!(Table::read(&*disk, dir.disk_id()).unwrap().unwrap().rows, vec![]);
    }

    /// Between the sync of a row and the moment that it is the extent's, a checkpoint has the old one: the record must stay.
    #[test]
    fn a_row_that_is_to_follow_is_not_released() {
        let tmp = tempfile::tempdir().unwrap();
        let (disk, dir) = open(tmp.path());
        let id = ExtentId(1);
        wait(|done| dir.open_extent(id, Epoch(1), 1 << 20, done));
        let extent = dir.extent(id).unwrap();
        let row = wait(|done| {
            let mut state = extent.lock();
            state.changing = Some(dir.record_row(&state, done)?);
            Ok(state.changing.unwrap())
        });
        assert!(dir.journal().synced() >= row);
        dir.checkpoint().unwrap();
        let released = || Table::read(&*disk, dir.disk_id()).unwrap().unwrap().released;
        assert_eq!(released(), row.0);
        extent.lock().changing = None;
        dir.checkpoint().unwrap();
        assert!(released() > row.0);
    }
}
