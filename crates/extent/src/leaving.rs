//! What is on its way out: files of older generations, files of compactions that stopped, and whole extents.
//!
//! ```text
//!   remove:  row `gone` queued ─▶ durable: extent not known any more ─▶ file removed ─▶ directory synced ─▶ row let go
//!   compact: row of the new generation durable: readers switched ─▶ old file removed ─▶ directory synced
//! ```
//! A `gone` row stands in every table until its file's name is off the disk for good, so nothing can bring the extent back. A file
//! that is left of another generation is removed at the next opening (`generations`).

use crate::ExtentError;
use crate::dir::{DataDir, Open};
use crate::extent::{self, Extent};
use crate::journal::{Done, RecordType, Urgency};
use crate::table::Row;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use types::ExtentId;

/// Files to be removed, and the rows of extents that are gone while their files may be there.
#[derive(Default)]
pub(crate) struct Leaving {
    gone: Mutex<BTreeMap<ExtentId, Row>>,
    files: Mutex<Vec<String>>,
    /// Held while files are removed.
    sweeping: Mutex<()>,
}

impl Leaving {
    pub(crate) fn of(gone: BTreeMap<ExtentId, Row>) -> Self {
        Self {
            gone: Mutex::new(gone),
            ..Self::default()
        }
    }

    /// A file is to be removed.
    pub(crate) fn file(&self, path: String) {
        self.files.lock().expect("no panic under this lock").push(path);
    }

    /// Rows of extents whose files may still be there.
    pub(crate) fn rows(&self) -> BTreeMap<ExtentId, Row> {
        self.gone.lock().expect("no panic under this lock").clone()
    }

    fn take_file(&self) -> Option<String> {
        self.files.lock().expect("no panic under this lock").pop()
    }
}

impl DataDir {
    /// Files that recovery found nothing to need.
    pub(crate) fn leave(&self, files: Vec<String>) {
        files.into_iter().for_each(|path| self.0.leaving.file(path));
    }

    /// Removes a sealed extent in which no needle is left. `done` runs once that is on stable storage; its file goes with the next
    /// [`DataDir::sweep`]. One that is not there is gone already.
    ///
    /// # Errors
    /// Not sealed, needles in it, being compacted; a failed disk: nothing happened and `done` will not run.
    pub fn remove(&self, id: ExtentId, done: Done) -> Result<(), ExtentError> {
        self.0.journal.check()?;
        let Ok(extent) = self.extent(id) else {
            return self.0.journal.barrier(done);
        };
        self.raise_format()?;
        let mut state = extent.lock();
        if !state.row.sealed {
            return Err(ExtentError::NotSealed);
        }
        if state.row.needles > 0 {
            return Err(ExtentError::NotEmpty(state.row.needles));
        }
        if state.rewriting {
            return Err(ExtentError::Busy("the extent's file is being written anew"));
        }
        let row = Row {
            gone: true,
            ..state.row
        };
        let dir = Arc::downgrade(&self.0);
        let leaves = extent.clone();
        let durable: Done = Box::new(move |result| {
            if result.is_ok()
                && let Some(open) = dir.upgrade()
            {
                open.let_go(&leaves);
            }
            done(result);
        });
        let pieces = [Bytes::copy_from_slice(&row.encode()), Bytes::new(), Bytes::new()];
        let queued = self
            .0
            .journal
            .submit(RecordType::Extent, pieces, Urgency::Now, Some(durable))?;
        state.changing = Some(queued);
        state.rewriting = true;
        Ok(())
    }

    /// Removes the files that nothing needs any more, and takes back ballast that a compaction was given. Blocks.
    ///
    /// # Errors
    /// The disk failed: it is out of service.
    pub fn sweep(&self) -> Result<(), ExtentError> {
        let leaving = &self.0.leaving;
        let _sweeping = leaving.sweeping.lock().expect("no panic under this lock");
        // Before the files: the file of each was handed over before its row.
        let gone = leaving.rows();
        self.removing(|| self.remove_files(!gone.is_empty()))?;
        let mut rows = leaving.gone.lock().expect("no panic under this lock");
        rows.retain(|id, _| !gone.contains_key(id));
        Ok(())
    }
}

impl DataDir {
    /// `sync`: there may be names to be gone though no file is handed over.
    fn remove_files(&self, sync: bool) -> Result<(), ExtentError> {
        let leaving = &self.0.leaving;
        let mut removed = sync;
        while let Some(path) = leaving.take_file() {
            removed = true;
            match self.disk().remove(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    leaving.file(path);
                    return self.settled("extent", Err(e));
                }
                _ => {}
            }
        }
        if removed {
            self.settled(extent::DIR, self.disk().sync_dir(extent::DIR))?;
        }
        Ok(())
    }
}

impl Open {
    /// The extent is gone, durably: nobody finds it any more. What reads from its file goes on.
    fn let_go(&self, extent: &Extent) {
        let row = {
            let mut state = extent.lock();
            state.row.gone = true;
            state.changing = None;
            state.row
        };
        self.leaving.file(extent::path(row.extent, row.generation));
        self.leaving
            .gone
            .lock()
            .expect("no panic under this lock")
            .insert(row.extent, row);
        self.extents
            .write()
            .expect("no panic under this lock")
            .remove(&row.extent);
    }
}
