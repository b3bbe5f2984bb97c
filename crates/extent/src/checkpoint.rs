//! Checkpoints: what the journal holds of extents made durable in their files and in the table, so that the journal may go round.
//!
//! ```text
//!   files swept ─▶ rows taken, dirty files synced ─▶ table written whole ─▶ journal released up to what the table says
//! ```
//! Cut off anywhere, the table before it counts, and the journal still has all that is not in it.

use crate::ExtentError;
use crate::dir::DataDir;
use crate::extent::Extent;
use crate::table::{Row, Table};
use std::collections::BTreeMap;
use std::sync::Arc;
use types::JournalSeq;
use types::limits::OPEN_FILES_MAX;
use world::plant::{Plant, is_planted};

impl DataDir {
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dir::tests::{open, wait};
    use crate::extent;
    use types::{Epoch, ExtentId, Generation};
    use world::Disk;

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
